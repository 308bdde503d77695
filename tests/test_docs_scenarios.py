"""What docs/scenarios.md and docs/faults.md say is there; test_docs_examples.py runs their commands."""

from __future__ import annotations

import re
from pathlib import Path

from sim.clock import run_virtual
from sim.cloud_faults import USAGES
from sim.faults import KINDS, Fault
from sim.scenario import Scenario, run_scenario
from sim.scenario.grammar import STEPS

ROOT = Path(__file__).resolve().parent.parent
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("scenarios", "faults")}


def test_the_scenario_that_is_shown_passes() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGES["scenarios"], re.DOTALL)
    scenario = Scenario.parse(text, base=ROOT / "fixtures" / "scenarios")
    result = run_virtual(run_scenario(scenario))
    assert result.passed, result.summary


def test_every_fault_and_every_step_is_on_its_page() -> None:
    rows = re.findall(r"^\| (`[^|]+) \|", PAGES["faults"], re.MULTILINE)
    shown = [word for row in rows for word in re.findall(r"`([^`]+)`", row)]
    serial = [word for word in shown if word.partition(":")[0].partition("@")[0] in KINDS]
    assert {Fault.parse(word).kind for word in serial} == set(KINDS)
    assert {word.partition(":")[0].partition("@")[0] for word in shown} - set(KINDS) == set(USAGES)
    for step in STEPS:
        assert f"`{step}: " in PAGES["scenarios"]
