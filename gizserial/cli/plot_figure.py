"""Curves as PNG, drawn by matplotlib."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.figure import Figure

from gizserial.capture.curves import MOST_DOTS, damage, parts, thinned
from gizserial.capture.curves_svg import levels

if TYPE_CHECKING:
    from gizserial.capture.curves import Curve, Plot

_CJK: Final = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"),
    *("Microsoft YaHei", "SimHei", "PingFang SC", "Heiti SC", "Hiragino Sans GB", "Droid Sans Fallback"),
    *("AR PL UMing CN", "Arial Unicode MS", "Unifont"),
)
"""Fonts with Chinese, as the systems call them; those that are there are used."""
_DPI: Final = 120


def png(plot: Plot, title: str) -> tuple[bytes, list[str]]:
    """The picture, and the texts for which this computer has no font (their numbers stand there)."""
    installed = set(font_manager.get_font_names())
    families = ["DejaVu Sans", *(name for name in _CJK if name in installed)]
    fonts = [font_manager.get_font(font_manager.findfont(family)) for family in families]
    missing: list[str] = []

    def shown(curve: Curve, number: float) -> str:
        text = curve.text(number)
        if all(any(font.get_char_index(ord(letter)) for font in fonts) for letter in text):
            return text
        missing.append(text)
        return f"{number:g}"

    with mpl.rc_context({"font.family": families, "font.size": 9}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = Figure(figsize=(10, 0.8 + 1.5 * len(plot.curves)), dpi=_DPI, layout="constrained")
        axes: Any = figure.subplots(len(plot.curves), 1, sharex=True, squeeze=False)
        for number, curve in enumerate(plot.curves):
            axis = axes[number][0]
            color = f"C{number}"
            for part in parts(curve, plot):
                times, values = zip(*part, strict=True)
                axis.plot(times, values, drawstyle="steps-post", color=color, linewidth=1.4)
            dots = curve.samples if len(curve.samples) <= MOST_DOTS else []
            for points, style in ((dots, f"{color}."), (thinned(curve.asked, plot), "ko")):
                if points:
                    times, values = zip(*points, strict=True)
                    hollow = {"markerfacecolor": "none", "markersize": 7} if style == "ko" else {}
                    axis.plot(times, values, style, **hollow)
            for start, end in plot.gaps:
                axis.axvspan(start, end, color="0.92")
            bad = damage(plot)
            axis.plot(bad, [1.0] * len(bad), "r|", transform=axis.get_xaxis_transform(), clip_on=False)
            if curve.labels is not None:
                marks = levels(curve)
                axis.set_yticks(marks, [shown(curve, value) for value in marks])
            axis.set_title(curve.name, loc="left", fontsize=9, fontweight="bold")
            axis.grid(visible=True, color="0.9")
            axis.margins(y=0.12)
        # The whole capture, as in the other formats: also where nothing was said yet.
        space = 0.01 * (plot.end - plot.start) or 1.0
        axes[-1][0].set_xlim(plot.start - space, plot.end + space)
        axes[-1][0].set_xlabel("seconds" if plot.timed else "frames")
        figure.suptitle(title, fontsize=10)
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": "gizserial"})
    return out.getvalue(), list(dict.fromkeys(missing))
