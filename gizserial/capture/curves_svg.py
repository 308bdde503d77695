"""Curves as SVG, and as one HTML page that shows the values under the pointer and loads nothing."""

from __future__ import annotations

import html
import itertools
import json
from collections.abc import Iterator
from typing import Final

from gizserial.capture.curves import MOST_DOTS, Curve, Plot, damage, parts, thinned, ticks

_WIDTH: Final = 1000
_LEFT: Final = 150
_RIGHT: Final = 20
_TOP: Final = 64
_PANEL: Final = 100
_SPACE: Final = 36
_MOST_LABELS: Final = 8
_LONGEST: Final = 24
"""Characters of a label beside the axis; the rest is a tip."""
_COLORS: Final = ("#1f6fb4", "#c25a00", "#2c8a2c", "#8a3fa0", "#a03030", "#00808a")
_STYLE: Final = (
    "text{font:12px system-ui,'Noto Sans CJK SC','Microsoft YaHei','PingFang SC',sans-serif;fill:#222}"
    ".name{font-weight:bold}.grid{stroke:#ddd}.curve{fill:none;stroke-width:1.6}"
    ".asked{fill:none;stroke:#222}.bad{stroke:#d00;stroke-width:1.5}.gap{fill:#eee}"
)
_SCRIPT: Final = """
const data = JSON.parse(document.getElementById('data').textContent);
const svg = document.querySelector('svg'), line = document.getElementById('pointer');
const out = document.getElementById('values');
function say(event) {
  const box = svg.getBoundingClientRect();
  const x = (event.clientX - box.left) * data.width / box.width;
  if (x < data.left || x > data.right) return;
  const t = data.start + (x - data.left) / (data.right - data.left) * (data.end - data.start);
  line.setAttribute('x1', x); line.setAttribute('x2', x); line.setAttribute('visibility', 'visible');
  const words = data.curves.map(curve => {
    let last = null;
    for (const sample of curve.samples) { if (sample[0] > t) break; last = sample; }
    return curve.name + ' = ' + (last ? last[1] : '-');
  });
  out.textContent = data.unit + ' ' + t.toFixed(3) + ':  ' + words.join(',  ');
}
svg.addEventListener('pointermove', say);
"""


def svg(plot: Plot, title: str) -> str:
    """One SVG document: a panel for each curve above a common axis."""
    return "".join(_svg(plot, title))


def page(plot: Plot, title: str) -> str:
    """One HTML document with the SVG in it."""
    data = {
        "width": _WIDTH,
        "left": _LEFT,
        "right": _WIDTH - _RIGHT,
        "start": plot.start,
        "end": plot.end,
        "unit": "t" if plot.timed else "frame",
        "curves": [
            {
                "name": curve.name,
                "samples": [[t, curve.text(number)] for t, number in thinned(curve.samples, plot)],
            }
            for curve in plot.curves
        ],
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        "<style>body{margin:1em;font-family:system-ui,sans-serif}svg{width:100%;height:auto;max-width:1400px}"
        "#values{position:sticky;top:0;background:#fff;padding:.3em 0;min-height:1.4em;"
        "font-variant-numeric:tabular-nums}</style></head><body>\n"
        f'<div id="values">point at a curve</div>\n{svg(plot, title)}\n'
        f'<script id="data" type="application/json">{text}</script>\n<script>{_SCRIPT}</script>\n'
        "</body></html>\n"
    )


def _svg(plot: Plot, title: str) -> Iterator[str]:
    height = _TOP + len(plot.curves) * (_PANEL + _SPACE) + 30
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img">'
        f"<style>{_STYLE}</style><title>{html.escape(title)}</title>"
        f'<rect width="100%" height="100%" fill="#fff"/>'
        f'<text class="name" x="{_LEFT}" y="18">{html.escape(title)}</text>'
    )
    yield f'<text x="{_WIDTH - _RIGHT}" y="18" text-anchor="end">{_legend(plot)}</text>'
    bottom = _TOP + len(plot.curves) * (_PANEL + _SPACE) - _SPACE
    along = ticks(plot.start, plot.end, 11)
    for number, curve in enumerate(plot.curves):
        yield from _panel(plot, curve, number, along)
    for tick in along:
        x = _x(plot, tick)
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick:.10g}</text>'
    unit = "seconds" if plot.timed else "frames"
    yield f'<text x="{_WIDTH - _RIGHT}" y="{bottom + 36}" text-anchor="end">{unit}</text>'
    if plot.bad:
        for x in (_x(plot, t) for t in damage(plot)):
            yield f'<line class="bad" x1="{x:.1f}" x2="{x:.1f}" y1="28" y2="38"/>'
        yield f'<text x="{_LEFT - 8}" y="37" text-anchor="end">bad frames, noise</text>'
    yield (
        f'<line id="pointer" y1="{_TOP}" y2="{bottom}" stroke="#888" stroke-dasharray="3 3" '
        'visibility="hidden"/></svg>'
    )


def _legend(plot: Plot) -> str:
    words = ["dots: said by the device"] if any(_dots(curve) for curve in plot.curves) else []
    if any(curve.asked for curve in plot.curves):
        words.append("circles: asked by a control")
    return "; ".join(words)


def _dots(curve: Curve) -> list[tuple[float, float]]:
    return curve.samples if len(curve.samples) <= MOST_DOTS else []


def _panel(plot: Plot, curve: Curve, number: int, along: list[float]) -> Iterator[str]:
    top = _TOP + number * (_PANEL + _SPACE)
    low, high = curve.range()
    if low == high:
        low, high = low - 1, high + 1

    def y(value: float) -> float:
        return top + _PANEL - 8 - (value - low) / (high - low) * (_PANEL - 16)

    color = _COLORS[number % len(_COLORS)]
    right = _WIDTH - _RIGHT
    for start, end in plot.gaps:
        x, wide = _x(plot, start), _x(plot, end) - _x(plot, start)
        yield (
            f'<rect class="gap" x="{x:.1f}" y="{top}" width="{wide:.1f}" height="{_PANEL}">'
            "<title>nothing was heard</title></rect>"
        )
    yield f'<text class="name" x="{_LEFT}" y="{top - 6}">{html.escape(curve.name)}</text>'
    for tick in along:
        x = _x(plot, tick)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + _PANEL}"/>'
    for value in levels(curve):
        yield f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        text = curve.text(value)
        tip = f"<title>{html.escape(text)}</title>" if len(text) > _LONGEST else ""
        short = html.escape(text[: _LONGEST - 1] + "…" if tip else text)
        yield f'<text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{short}{tip}</text>'
    for part in parts(curve, plot):
        path = f"M{_x(plot, part[0][0]):.1f} {y(part[0][1]):.1f}"
        # Samples that repeat the value before them change nothing in the picture.
        steps = [now for was, now in itertools.pairwise(part) if now[1] != was[1]]
        path += "".join(f"H{_x(plot, t):.1f}V{y(value):.1f}" for t, value in steps)
        path += f"H{_x(plot, part[-1][0]):.1f}"
        yield f'<path class="curve" stroke="{color}" d="{path}"/>'
    for t, value in _dots(curve):
        tip = html.escape(f"{t:.3f}: {curve.text(value)}")
        yield (
            f'<circle cx="{_x(plot, t):.1f}" cy="{y(value):.1f}" r="2.2" fill="{color}">'
            f"<title>{tip}</title></circle>"
        )
    for t, value in thinned(curve.asked, plot):
        tip = html.escape(f"{t:.3f}: control asks for {curve.text(value)}")
        yield (
            f'<circle class="asked" cx="{_x(plot, t):.1f}" cy="{y(value):.1f}" r="4">'
            f"<title>{tip}</title></circle>"
        )


def levels(curve: Curve) -> list[float]:
    """Numbers that get a word beside the axis."""
    low, high = curve.range()
    if curve.labels is None:
        return ticks(low, high, 5)
    seen = sorted({number for _, number in (*curve.samples, *curve.asked)})
    if len(seen) > _MOST_LABELS:
        step = -(-len(seen) // _MOST_LABELS)
        seen = seen[::step]
    return seen


def _x(plot: Plot, t: float) -> float:
    span = (plot.end - plot.start) or 1.0
    return _LEFT + (t - plot.start) / span * (_WIDTH - _LEFT - _RIGHT)
