"""The values pane: what every data point, and the module's status, was last said to be."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any, Final

from gizserial.commands import FRAMES, Command
from gizserial.describe import Described, json_value, value_text
from gizserial.framing import Frame
from gizserial.p0 import Meaning
from gizserial.product import DataPoint, Product

HISTORY: Final = 1000
"""Ends of steady stretches that are kept of each point for the plot."""


@dataclasses.dataclass(slots=True)
class Value:
    """One data point, or one bit of the status word (then without ``point``)."""

    name: str
    access: str
    point: DataPoint | None = None
    value: Any = None
    raw: int | bytes | None = None
    t: float | None = None
    """When it was said last."""
    told: int = 0
    """How often the device said it; 0: not yet."""
    changes: int = 0
    changed: float | None = None
    """When it changed last."""
    asked: Any = None
    """What the last control asked for; None without one, and once the device said it."""
    history: deque[tuple[float, float]] = dataclasses.field(default_factory=lambda: deque(maxlen=HISTORY))
    """Time and number: the real value, 0 or 1 of a bool, the index of an enum."""

    @property
    def text(self) -> str:
        """The value as ``encode`` takes it; empty while nothing is known."""
        return value_text(self.value) if self.told else ""

    @property
    def raw_text(self) -> str:
        """The unsigned integer on the wire."""
        if self.raw is None:
            return ""
        return self.raw.hex() if isinstance(self.raw, bytes) else str(self.raw)

    def tell(self, value: Any, raw: int | bytes | None, t: float | None) -> None:
        """The device says it."""
        if self.told and raw != self.raw:
            self.changes += 1
            self.changed = t
        self.value, self.raw, self.t = value, raw, t
        self.told += 1
        if self.asked is not None and self.asked == value:
            self.asked = None
        number = value if isinstance(value, int | float) else raw
        if self.point is not None and self.point.scale is not None:
            number = json_value(value)
        if t is not None and isinstance(number, int | float):
            self._keep(t, float(number))

    def _keep(self, t: float, number: float) -> None:
        """Of a value that stays only the ends are kept: then the history reaches back as far as it can."""
        past = self.history
        if len(past) >= 2 and past[-1][1] == past[-2][1] == number:
            past[-1] = t, number
        else:
            past.append((t, number))

    def label(self, number: float) -> str:
        """A number of the history as people read it: the text of an enum, true or false."""
        if self.point is not None and self.point.texts and 0 <= round(number) < len(self.point.texts):
            return self.point.texts[round(number)]
        if isinstance(self.value, bool):
            return "true" if number else "false"
        return f"{number:g}"


class Values:
    """Takes described frames in the order of the wire.

    :param product: Its points are listed from the start. Without it only the status word is known.
    """

    def __init__(self, product: Product | None = None) -> None:
        self.by_name: dict[str, Value] = {
            point.name: Value(point.name, point.access.value.removeprefix("status_"), point)
            for point in (product.points if product is not None else ())
        }

    def take(self, described: Described) -> bool:
        """Learn from one item; whether there was something to learn."""
        item, message = described.item, described.message
        if not isinstance(item, Frame) or message is None or message.error is not None:
            return False
        if message.attrs and message.raw is not None and message.p0 is not None:
            control = message.p0.meaning is Meaning.CONTROL
            for name, value in message.attrs.items():
                known = self.by_name[name]
                if control:
                    known.asked = value
                else:
                    known.tell(value, message.raw[name], described.t)
            return True
        spec = FRAMES.get(item.command)
        if spec is not None and spec.id == Command.STATUS and message.fields:
            for name, value in message.fields.items():
                self._status(name).tell(value, int(value), described.t)
            return True
        return False

    def _status(self, name: str) -> Value:
        key = name if name == "status" else f"status.{name}"
        known = self.by_name.get(key)
        if known is None:
            known = self.by_name[key] = Value(key, "module")
        return known
