"""A run as JSON Lines: one object per case, then one for the whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gizserial.describe import json_line, to_json
from sim.conformance.model import Case, CaseResult, Entry, Finding, RunResult, Verdict
from sim.conformance.report_text import around, grouped
from sim.conformance.words import Words


def lines(run: RunResult) -> Iterator[str]:
    """The objects, in the order of the run; the last is the summary."""
    words = Words(run.product)
    for result in run.results:
        yield json_line(case_result(result, words))
    yield json_line(summary(run))


def case_result(result: CaseResult, words: Words) -> dict[str, Any]:
    """One case with its findings and, when it failed, the frames."""
    failed = result.verdict is Verdict.FAILED
    return {
        "kind": "case",
        **about(result.case),
        "verdict": "remark" if result.remark else result.verdict.value,
        **({"reason": result.reason} if result.reason else {}),
        "t": round(result.began, 6),
        "seconds": round(result.seconds, 6),
        **({"remedy": result.case.remedy} if failed else {}),
        **({"findings": _findings(result, words)} if failed else {}),
        **({"frames": [_entry(entry, words) for entry in around(result, 40)]} if failed else {}),
    }


def about(case: Case) -> dict[str, Any]:
    """What a case is."""
    return {
        "id": case.id,
        "title": case.title,
        "severity": case.severity.word,
        "section": case.section,
    }


def _findings(result: CaseResult, words: Words) -> list[dict[str, Any]]:
    """The findings; of those that say the same but for numbers the first, and how many more there are."""
    return [
        {**_finding(finding, words), **({"more": more} if more else {})}
        for finding, more in grouped(result.findings)
    ]


def _finding(finding: Finding, words: Words) -> dict[str, Any]:
    return {
        "text": finding.text,
        **({"expected": finding.expected} if finding.expected else {}),
        **({"got": finding.got} if finding.got else {}),
        **({"frame": _entry(finding.entry, words)} if finding.entry is not None else {}),
    }


def _entry(entry: Entry, words: Words) -> dict[str, Any]:
    decoded = to_json(words.described(entry))
    if entry.note:
        decoded["note"] = entry.note
    return decoded


def summary(run: RunResult) -> dict[str, Any]:
    """The figures of a run."""
    return {
        "kind": "summary",
        **{verdict.value: len(run.of(verdict)) for verdict in Verdict},
        "failed": len(run.failed()),
        "remarks": len(run.remarks()),
        "seconds": round(run.seconds, 3),
        "mcu": run.facts,
        **({"not_restored": run.restored} if run.restored else {}),
        **({"stopped": run.stopped} if run.stopped else {}),
    }
