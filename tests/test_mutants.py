"""The conformance suite is itself tested: every defect of the simulated MCU is found by a case that names it.

The table in docs/defects.md is what these runs gave; ``python tests/test_mutants.py`` writes it anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support_check import check, product

from sim.conformance.cases import CASES, named
from sim.conformance.model import Case, Verdict
from sim.mcu_defects import DEFECTS
from sim.mcu_defects.model import Defect

TABLE = Path(__file__).resolve().parents[1] / "docs" / "defects.md"
FIXED = ("greenhouse", "quarter-kilobyte")
VARIABLE = ("greenhouse-var",)
TRAFFIC = named(
    ("read.answered", "control.number", "control.several", "control.report", "resend.repeats", "ack.status")
)
"""What gives cases that only look something to look at."""


def naming(defect: Defect) -> list[Case]:
    """The cases that name a defect, and what these need."""
    cases = [case for case in CASES if defect.name in case.defects]
    if any(case.observes for case in cases):
        cases = [case for case in CASES if case in cases or case in TRAFFIC]
    return cases


def found(defect: Defect, names: tuple[str, ...]) -> list[str] | None:
    """Ids of naming cases that fail on the first product that the defect can show in; None: in none."""
    fitting = [of for of in map(product, names) if defect.fits(of)]
    if not fitting:
        return None
    run = check(
        fitting[0], (defect.name,), naming(defect), slow=defect.name in {"report-full-missing", "timer-wraps"}
    )
    failed = [result.case for result in run.results if result.verdict is Verdict.FAILED]
    return [case.id for case in failed if defect.name in case.defects]


def cell(ids: list[str] | None) -> str:
    return "cannot show" if ids is None else ", ".join(f"`{name}`" for name in ids)


def row(defect: Defect) -> str:
    cells = cell(found(defect, FIXED)), cell(found(defect, VARIABLE))
    return f"| `{defect.name}` | {defect.title} | {defect.section} | {cells[0]} | {cells[1]} | 0 |"


def test_there_are_enough_defects() -> None:
    assert len(DEFECTS) >= 40


def test_cases_name_defects_that_exist_and_every_defect_is_named() -> None:
    assert {name for case in CASES for name in case.defects} == set(DEFECTS)


@pytest.mark.parametrize("name", sorted(DEFECTS))
def test_the_defect_is_found_by_a_case_that_names_it(name: str) -> None:
    defect = DEFECTS[name]
    fixed, variable = found(defect, FIXED), found(defect, VARIABLE)
    assert fixed or variable
    assert fixed != [], "it can show in fixed length and is not found"
    assert variable != [], "it can show in variable length and is not found"
    # The table says so too. Its last column is what test_check.py proves: sound MCUs have no finding.
    shown = f"| `{defect.name}` | {defect.title} | {defect.section} | {cell(fixed)} | {cell(variable)} | 0 |"
    assert shown in TABLE.read_text(encoding="utf-8").splitlines(), "run: python tests/test_mutants.py"


def test_the_table_has_no_other_rows() -> None:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    assert [line.split("`")[1] for line in lines if line.startswith("| `")] == sorted(DEFECTS)


HEAD = """# Defects of the simulated MCU, and the cases that find them

`gizsim mcu --defect NAME` makes the simulated MCU break one rule, as faulty firmware does. Each defect is
found by a case of `gizsim check` that names it (`gizsim check --explain ID`), and the MCU without defects
passes every case, ten runs in a row, in both layouts. This table is made, and compared, by
`tests/test_mutants.py`.

The products are `fixtures/products/greenhouse.json` (fixed length; `quarter-kilobyte.json` where a frame of
250 bytes is needed) and `greenhouse-var.json` (variable length).

| defect | what the firmware does wrong | section | fixed length | variable length | false positives |
| --- | --- | --- | --- | --- | --- |
"""


if __name__ == "__main__":
    rows = "".join(f"{row(DEFECTS[name])}\n" for name in sorted(DEFECTS))
    TABLE.write_text(HEAD + rows, encoding="utf-8")
