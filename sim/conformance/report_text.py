"""The summary that a person at a terminal acts on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import click

from sim.conformance.model import Case, CaseResult, Entry, Finding, RunResult, Verdict
from sim.conformance.words import Words

_COLOURS: Final = {
    Verdict.PASSED: "green",
    Verdict.FAILED: "red",
    Verdict.SKIPPED: "cyan",
    Verdict.BROKEN: "magenta",
}
_AROUND: Final = 12
"""Entries shown of a failed case."""


_TREE: Final = 40
"""Lines shown of a decoded frame."""


def outcome(result: CaseResult) -> str:
    """One line for a case that ended."""
    word: str = click.style(verdict_word(result).ljust(7), fg=_COLOURS[result.verdict], bold=True)
    line: str = f"{word} {result.case.id:<28} {result.reason or result.case.title}"
    return line


def verdict_word(result: CaseResult) -> str:
    """``ok``, ``FAILED``, ``remark``, ``skipped`` or ``broken``."""
    if result.verdict is Verdict.PASSED:
        return "ok"
    if result.verdict is Verdict.FAILED:
        return "remark" if result.remark else "FAILED"
    return str(result.verdict.value)


def summary(run: RunResult) -> str:
    """Everything that is to be done, and the figures."""
    return "\n".join(_lines(run))


def _lines(run: RunResult) -> Iterator[str]:
    words = Words(run.product)
    told: dict[tuple[str, ...], str] = {}
    for result in run.of(Verdict.FAILED):
        yield ""
        same = tuple(_alike(finding.text) for finding, _more in grouped(result.findings))
        first = told.setdefault(same, result.case.id)
        yield from _failed(result, words) if first == result.case.id else _failed_likewise(result, first)
    for result in run.of(Verdict.BROKEN):
        yield f"\n{outcome(result)}"
    yield ""
    facts = ", ".join(f"{name} {value}" for name, value in run.facts.items())
    if facts:
        yield f"MCU: {facts}"
    yield figures(run)
    if run.restored:
        yield click.style(f"note: {run.restored}", fg="yellow")
    if run.stopped:
        yield click.style(f"the run ended early: {run.stopped}", fg="red")


def figures(run: RunResult) -> str:
    """How many cases ended how, and how long it took."""
    counts = {verdict: len(run.of(verdict)) for verdict in Verdict}
    parts = [f"{counts[Verdict.PASSED]} passed", f"{len(run.failed())} failed"]
    if run.remarks():
        parts.append(f"{len(run.remarks())} with remarks")
    if counts[Verdict.BROKEN]:
        parts.append(f"{counts[Verdict.BROKEN]} broken")
    parts.append(f"{counts[Verdict.SKIPPED]} skipped")
    return f"{', '.join(parts)} in {run.seconds:.0f} s"


def _failed(result: CaseResult, words: Words) -> Iterator[str]:
    case = result.case
    yield _heading(result)
    yield f"  {source(case)}. {case.rule}"
    yield f"  What to do: {case.remedy}"
    for finding, more in grouped(result.findings):
        yield from _finding(finding, words)
        if more:
            yield f"      and {more} more like it"
    shown = around(result)
    if shown:
        yield "  on the line:"
        yield from (f"    {words.line(entry)}" for entry in shown)


def _failed_likewise(result: CaseResult, first: str) -> Iterator[str]:
    """A case that found what another one has told already: one fault makes many of them fail."""
    yield _heading(result)
    for finding, _more in grouped(result.findings):
        yield f"  - {finding.text} (as in {first})"


def _heading(result: CaseResult) -> str:
    text = f"{verdict_word(result)}  {result.case.id}: {result.case.title}"
    heading: str = click.style(text, fg="red", bold=True)
    return heading


def _finding(finding: Finding, words: Words) -> Iterator[str]:
    yield click.style(f"  - {finding.text}", bold=True)
    if finding.expected:
        yield f"      expected: {finding.expected}"
    if finding.got:
        yield f"      came:     {finding.got}"
    if finding.entry is not None:
        yield from (f"      | {line}" for line in shortened(words.tree(finding.entry)))


def shortened(tree: str, most: int = _TREE) -> list[str]:
    """The lines of a decoded frame; of a long one those at both ends."""
    lines = tree.splitlines()
    if len(lines) <= most:
        return lines
    half = most // 2
    return [*lines[:half], f"  … {len(lines) - 2 * half} more lines …", *lines[-half:]]


def grouped(findings: Sequence[Finding]) -> list[tuple[Finding, int]]:
    """Findings that say the same but for numbers: the first of each, and how many more there are."""
    groups: dict[str, tuple[Finding, int]] = {}
    for finding in findings:
        same = _alike(finding.text)
        first, more = groups.get(same, (finding, -1))
        groups[same] = first, more + 1
    return list(groups.values())


def _alike(text: str) -> str:
    """The text without its numbers."""
    return re.sub(r"[0-9A-F]*[0-9][0-9A-F]*", "#", text)


def around(result: CaseResult, most: int = _AROUND) -> list[Entry]:
    """What crossed the line last in a case, or round the place that a finding names."""
    entries = list(result.entries)
    named = next((f.entry for f in result.findings if f.entry is not None and f.entry in entries), None)
    if named is None:
        return entries[-most:]
    place = entries.index(named)
    return entries[max(0, place - most + 4) : place + 4]


def source(case: Case) -> str:
    """How strict a rule is, and where it stands."""
    word = "sections" if "," in case.section else "section"
    return f"{case.severity.word}, {word} {case.section}"


def explanation(case: Case) -> str:
    """What ``--explain`` shows."""
    needs = ", ".join(need.name for need in case.needs) or "nothing"
    found = ", ".join(case.defects) or "none"
    return (
        f"{case.id}: {case.title}\n\n{case.rule}\n\nWhen it fails: {case.remedy}\n\n"
        f"severity: {case.severity.word}\nsection:  {case.section} of the serial protocol\n"
        f"needs:    {needs}\ndefects:  {found}"
    )
