"""What docs/scenarios.md and docs/faults.md show works."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sim.clock import run_virtual
from sim.cloud_faults import USAGES
from sim.faults import KINDS, Fault
from sim.scenario import Scenario, run_scenario
from sim.scenario.grammar import STEPS

ROOT = Path(__file__).resolve().parent.parent
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("scenarios", "faults")}
BLOCKS = [
    block
    for page in PAGES.values()
    for block in re.findall(r"<!-- run -->\n```(\w+)\n(.*?)```", page, re.DOTALL)
]
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
SCRIPTS = [text for kind, text in BLOCKS if kind == "python"]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from sim.cli import cli

    monkeypatch.chdir(ROOT)
    name, *words = shlex.split(line)
    assert name == "gizsim"
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("script", SCRIPTS, ids=range(len(SCRIPTS)))
def test_scripts(script: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout


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
