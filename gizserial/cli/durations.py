"""Options that are a length of time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    _Base = click.ParamType[float]
else:
    _Base = click.ParamType

_FORM: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*(ms|s|min|m|h)?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class DurationType(_Base):
    """``10``, ``10s``, ``500ms``, ``2m`` or ``1h``; the command gets seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds of one argument."""
        if isinstance(value, int | float):
            return float(value)
        found = _FORM.fullmatch(str(value).strip())
        seconds = float(found[1]) * _UNITS[found[2] or "s"] if found else 0.0
        if not seconds:
            self.fail(f"{str(value)[:40]!r} is no length of time; give 10s, 500ms, 2m or 1h", param, ctx)
        return seconds


DURATION: Final = DurationType()
