"""The filter line: words that all must hold, about names, directions, data points, bytes or text."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from typing import Final

from gizserial.errors import GizserialError
from gizserial.monitor.rows import Row

HELP: Final = (
    ("WORD", "the name or the text of the row holds it"),
    ("name:WORD", "the frame's name holds it"),
    ("dir:mcu  dir:module", "who sent it"),
    ("point:NAME", "a data point whose name holds it is in the frame"),
    ("hex:FF5501", "these bytes are on the wire"),
    ("sn:N", "the sequence number"),
    ("is:KIND", "error, noise, resend, warning, ack or line"),
    ("-WORD", 'not that; "two words" are one in quotes'),
)
"""Each form and what it finds."""

_KINDS: Final[dict[str, Callable[[Row], bool]]] = {
    "error": lambda row: row.kind == "error",
    "noise": lambda row: row.kind == "noise",
    "resend": lambda row: row.repeat,
    "warning": lambda row: row.warned,
    "ack": lambda row: row.ack,
    "line": lambda row: row.kind == "line",
}
_SENDERS: Final = {"mcu": "mcu>module", "module": "module>mcu"}

Test = Callable[[Row, Callable[[], str]], bool]


class FilterError(GizserialError, ValueError):
    """A filter that cannot be understood; one sentence says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Filter:
    """Which rows are shown."""

    text: str = ""
    hide_heartbeats: bool = False
    hide_acks: bool = False
    tests: tuple[Test, ...] = ()

    @classmethod
    def parse(cls, text: str, *, hide_heartbeats: bool = False, hide_acks: bool = False) -> Filter:
        """Understand a filter line; empty shows everything.

        :raises FilterError: A form that there is not, or bytes that are no hex.
        """
        try:
            words = shlex.split(text)
        except ValueError:
            raise FilterError("the quotes do not end; close them with another one") from None
        return cls(text, hide_heartbeats, hide_acks, tuple(_word(word) for word in words))

    def matches(self, row: Row, text: Callable[[], str]) -> bool:
        """Whether the row is shown.

        :param text: The row's line; called only where a word needs it, because it is decoded for that.
        """
        if self.hide_heartbeats and row.heartbeat:
            return False
        if self.hide_acks and row.ack:
            return False
        return all(test(row, text) for test in self.tests)


def _word(word: str) -> Test:
    if len(word) > 1 and word[0] in "-!":
        inner = _word(word[1:])
        return lambda row, text: not inner(row, text)
    form, colon, value = word.partition(":")
    if not colon or not form.isalpha():
        wanted = word.casefold()
        return lambda row, text: wanted in row.name.casefold() or wanted in text().casefold()
    make = _FORMS.get(form.lower())
    if make is None:
        raise FilterError(f"there is no {form}: ; known are {', '.join(f'{name}:' for name in _FORMS)}")
    if not value:
        raise FilterError(f"{form}: needs a value right after the colon")
    return make(value)


def _name(value: str) -> Test:
    wanted = value.casefold()
    return lambda row, _text: wanted in row.name.casefold()


def _direction(value: str) -> Test:
    direction = _SENDERS.get(value.lower().partition(">")[0])
    if direction is None:
        raise FilterError(f"dir:{value} is no sender; it is dir:mcu or dir:module")
    return lambda row, _text: row.direction == direction


def _point(value: str) -> Test:
    wanted = value.casefold()
    return lambda row, _text: any(wanted in name.casefold() for name in row.points)


def _hex(value: str) -> Test:
    try:
        wanted = bytes.fromhex(value.replace(",", " "))
    except ValueError:
        raise FilterError(f"hex:{value} is not hex; a byte is two digits, as in hex:FF55") from None
    return lambda row, _text: row.item is not None and wanted in row.item.wire


def _sn(value: str) -> Test:
    try:
        wanted = int(value, 0)
    except ValueError:
        raise FilterError(f"sn:{value} is no number from 0 to 255") from None
    return lambda row, _text: row.sn == wanted


def _is(value: str) -> Test:
    test = _KINDS.get(value.lower())
    if test is None:
        raise FilterError(f"is:{value} is no kind; it is one of {', '.join(_KINDS)}")
    return lambda row, _text: test(row)


_FORMS: Final[dict[str, Callable[[str], Test]]] = {
    "name": _name,
    "dir": _direction,
    "point": _point,
    "hex": _hex,
    "sn": _sn,
    "is": _is,
}
