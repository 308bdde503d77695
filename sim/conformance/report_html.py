"""A run as one page that needs nothing else: figures, findings, and a picture of each failed case's line."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Final

from gizserial.framing import BadFrame, Frame
from sim.conformance.model import CaseResult, Entry, Finding, RunResult, Verdict
from sim.conformance.report_text import around, figures, grouped, shortened, source, verdict_word
from sim.conformance.words import Words, clean

_STYLE: Final = """
:root { color-scheme: light dark; --ok: #2e7d32; --bad: #c62828; --skip: #607d8b; --line: #8884;
  --in: #1565c0; --out: #6a1b9a; }
@media (prefers-color-scheme: dark) { :root { --ok: #81c784; --bad: #ef7070; --skip: #90a4ae;
  --in: #64b5f6; --out: #ce93d8; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .3rem; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .2rem .6rem .2rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; }
.ok { color: var(--ok); } .FAILED, .broken { color: var(--bad); font-weight: 600; }
.remark, .skipped { color: var(--skip); }
.finding { border-left: 4px solid var(--bad); padding: .1rem .8rem; margin: .8rem 0; }
dt { font-weight: 600; float: left; width: 6rem; } dd { margin-left: 6.5rem; overflow-wrap: anywhere; }
pre { overflow-x: auto; font: 12.5px/1.4 ui-monospace, monospace; background: #8881; padding: .6rem; }
svg { width: 100%; height: auto; background: #8881; margin: .4rem 0; }
svg text { font: 11px ui-monospace, monospace; fill: currentColor; }
"""

_WIDTH: Final = 1000
_LEFT, _RIGHT = 150, 850
_ROW: Final = 26
_TREE: Final = 120
"""Lines of a decoded frame."""
_MOST: Final = 40
"""Frames in one picture."""


def escape(text: str) -> str:
    """Text for a page."""
    return html.escape(clean(text))


def render(run: RunResult) -> str:
    """The page."""
    return "".join(_parts(run))


def _parts(run: RunResult) -> Iterator[str]:
    words = Words(run.product)
    name = escape(run.product.display_name or run.product.name)
    yield '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>Conformance of {name}</title><style>{_STYLE}</style></head><body>\n"
    yield f"<h1>Conformance of {name}</h1>\n<p>{escape(_figures(run))}</p>\n"
    for text in (run.restored, run.stopped):
        if text:
            yield f'<p class="FAILED">{escape(text)}</p>\n'
    failed = run.of(Verdict.FAILED)
    if failed:
        links = ", ".join(
            f'<a class="{verdict_word(result)}" href="#{result.case.id}">{result.case.id}</a>'
            for result in failed
        )
        yield f'<p>{links}. <a href="#all">All cases</a></p>\n'
    for result in failed:
        yield from _failed(result, words)
    heads = "".join(f"<th>{head}" for head in ("verdict", "case", "title", "severity", "section", "seconds"))
    yield f'<h2 id="all">All cases</h2>\n<table><tr>{heads}</tr>\n'
    for result in run.results:
        case, word = result.case, verdict_word(result)
        link = f'<a href="#{case.id}">{case.id}</a>' if result.verdict is Verdict.FAILED else case.id
        yield (
            f'<tr><td class="{word}">{word}<td>{link}<td>{escape(case.title)}'
            f"{'<br><small>' + escape(result.reason) + '</small>' if result.reason else ''}"
            f"<td>{case.severity.word}<td>{escape(case.section)}<td>{result.seconds:.1f}</tr>\n"
        )
    yield "</table>\n</body></html>\n"


def _figures(run: RunResult) -> str:
    facts = "; ".join(f"{name} {value}" for name, value in run.facts.items())
    return f"{figures(run)}. {facts}"


def _failed(result: CaseResult, words: Words) -> Iterator[str]:
    case = result.case
    word = verdict_word(result)
    yield f'<h2 id="{case.id}"><span class="{word}">{case.id}</span> {escape(case.title)}</h2>\n'
    yield f"<p>{escape(case.rule)} <small>({escape(source(case))})</small><br>\n"
    yield f"<b>What to do:</b> {escape(case.remedy)}</p>\n"
    entries = around(result, _MOST)
    if entries:
        yield _picture(entries, words, {id(f.entry) for f in result.findings if f.entry is not None})
    for finding, more in grouped(result.findings):
        yield _finding(finding, more, words)


def _finding(finding: Finding, more: int, words: Words) -> str:
    expected = f"<dt>expected<dd>{escape(finding.expected)}" if finding.expected else ""
    got = f"<dt>came<dd>{escape(finding.got)}" if finding.got else ""
    lines = shortened(words.tree(finding.entry), _TREE) if finding.entry is not None else []
    tree = f"<pre>{escape(chr(10).join(lines))}</pre>" if lines else ""
    others = f"<p>and {more} more like it</p>" if more else ""
    return f'<div class="finding"><b>{escape(finding.text)}</b><dl>{expected}{got}</dl>{tree}{others}</div>\n'


def _picture(entries: list[Entry], words: Words, named: set[int]) -> str:
    """A sequence chart: the module's life line on the left, the MCU's on the right, time downwards."""
    height = _ROW * (len(entries) + 2)
    start = entries[0].began
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="what crossed the line">',
        f'<text x="{_LEFT}" y="14" text-anchor="middle">module (bench)</text>',
        f'<text x="{_RIGHT}" y="14" text-anchor="middle">MCU</text>',
        *(
            f'<line x1="{x}" y1="20" x2="{x}" y2="{height - 6}" stroke="currentColor" stroke-opacity=".4"/>'
            for x in (_LEFT, _RIGHT)
        ),
    ]
    for row, entry in enumerate(entries, 1):
        parts.append(_arrow(entry, words, row, start, named=id(entry) in named))
    return "".join([*parts, "</svg>\n"])


def _arrow(entry: Entry, words: Words, row: int, start: float, *, named: bool) -> str:
    y = row * _ROW + 12
    sent = entry.direction == "sent"
    x1, x2 = (_LEFT, _RIGHT) if sent else (_RIGHT, _LEFT)
    colour = (
        "var(--bad)" if named or isinstance(entry.item, BadFrame) else "var(--out)" if sent else "var(--in)"
    )
    head = 8 if x1 > x2 else -8
    dashes = "" if isinstance(entry.item, Frame) else ' stroke-dasharray="4 4"'
    label = words.say(entry) + (f" ({entry.note})" if entry.note else "")
    short = label if len(label) <= 104 else label[:103] + "…"
    return (
        f"<g><title>{escape(label)}\n{entry.wire[:200].hex(' ')}</title>"
        f'<text x="4" y="{y}">+{(entry.time - start) * 1000:.1f} ms</text>'
        f'<line x1="{x1}" y1="{y}" x2="{x2}" y2="{y}" stroke="{colour}" stroke-width="1.5"{dashes}/>'
        f'<path d="M {x2} {y} l {head} -4 v 8 z" fill="{colour}"/>'
        f'<text x="{(_LEFT + _RIGHT) / 2}" y="{y - 4}" text-anchor="middle">{escape(short)}</text></g>'
    )
