"""``.jsonl``: one JSON object a line, the only format that keeps everything.

::

    {"meta": {"product": "pet.json", "product_key": "…"}}                      only as the first line
    {"t": 0.150573, "dir": "module>mcu", "hex": "ffff0005070100000d", …}       a record
    {"t": 0.150682, "mcu": {"what": "tx"}}                                     anything else: kept as it is

A line with ``hex`` or ``dir`` is a record and must have a good ``hex``. ``t`` and ``dir`` are left out where
the bytes came from a format that has none; then every record of the file is without ``dir``. Empty lines
and a byte order mark at the start are skipped.
"""

from __future__ import annotations

import binascii
import itertools
import json
import math
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from gizserial.capture.record import (
    DIRECTIONS,
    MAX_LINE,
    MAX_TIME,
    ByteReader,
    ByteWriter,
    Capture,
    DirectionRule,
    Item,
    Losses,
    Meta,
    Other,
    Record,
)
from gizserial.commands import Direction
from gizserial.errors import CaptureError

_RESERVED: Final = frozenset({"t", "dir", "hex"})
_RECORD: Final = frozenset({"dir", "hex"})
_BOM: Final = b"\xef\xbb\xbf"


def read(file: ByteReader, source: str) -> Capture:
    """Start reading; the first line is taken at once, because it may be the meta line.

    :raises CaptureError: Here and while the items are taken, with the number of the line.
    """
    lines = _lines(file, source)
    parser = _Parser(source)
    number, text = next(lines, (0, ""))
    if not text:
        return Capture(source, None, iter(()))
    line = parser.load(number, text)
    if (meta := parser.meta(number, line)) is not None:
        return Capture(source, meta, _items(parser, lines))
    return Capture(source, None, itertools.chain((parser.item(number, text, line),), _items(parser, lines)))


def _items(parser: _Parser, lines: Iterator[tuple[int, str]]) -> Iterator[Item]:
    for number, text in lines:
        yield parser.item(number, text, parser.load(number, text))


def _lines(file: ByteReader, source: str) -> Iterator[tuple[int, str]]:
    """Numbered lines that hold something, without their ends."""
    number = 0
    while raw := file.readline(MAX_LINE + 1):
        number += 1
        if len(raw) > MAX_LINE:
            message = f"the line is longer than {MAX_LINE // (1024 * 1024)} MiB"
            raise CaptureError(source, message, where=f"line {number}")
        if number == 1:
            raw = raw.removeprefix(_BOM)
        try:
            text = raw.decode().strip(" \t\r\n")
        except UnicodeDecodeError as error:
            message = f"not UTF-8 at byte {error.start + 1} of the line"
            raise CaptureError(source, message, where=f"line {number}") from error
        if text:
            yield number, text


class _Parser:
    """Turns the lines of one file into items."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._rule = DirectionRule(source)
        self._repeated: str | None = None
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._pairs, parse_constant=_no_constant, parse_float=_finite
        )

    def load(self, number: int, text: str) -> dict[str, object]:
        """The JSON object that a line is."""
        self._repeated = None
        try:
            line: object = self._decoder.decode(text)
        except json.JSONDecodeError as error:
            raise self._error(number, f"not JSON: {error.msg} at column {error.colno}") from error
        except RecursionError as error:
            raise self._error(number, "not JSON that can be read: nested too deeply") from error
        except ValueError as error:
            # An integer of thousands of digits, or one of our own below.
            raise self._error(number, f"not JSON that can be read: {error}") from error
        if not isinstance(line, dict):
            raise self._error(number, "not a JSON object; a line looks like {…}")
        return line

    def meta(self, number: int, line: dict[str, object]) -> Meta | None:
        """The meta line, if the first line is one."""
        members = line.get("meta")
        if not isinstance(members, dict) or _RECORD & line.keys():
            return None
        self._refuse_repeats(number)
        return Meta(members, {name: value for name, value in line.items() if name != "meta"})

    def item(self, number: int, text: str, line: dict[str, object]) -> Item:
        """What a line stands for."""
        if not _RECORD & line.keys():
            return Other(f"line {number}", text)
        self._refuse_repeats(number)
        direction = self._direction(number, line.pop("dir")) if "dir" in line else None
        self._rule.check(direction, f"line {number}")
        t = self._time(number, line.pop("t", None))
        if "hex" not in line:
            raise self._error(number, "the record has no hex")
        data = self._bytes(number, line.pop("hex"))
        return Record(t, direction, data, line) if line else Record(t, direction, data)

    def _error(self, number: int, message: str) -> CaptureError:
        return CaptureError(self._source, message, where=f"line {number}")

    def _pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    self._repeated = name
                    break
                seen.add(name)
        return members

    def _refuse_repeats(self, number: int) -> None:
        if self._repeated is not None:
            raise self._error(number, f"the member {_short(self._repeated)} is there twice")

    def _direction(self, number: int, value: object) -> Direction:
        if isinstance(value, str) and value in DIRECTIONS:
            return value
        raise self._error(number, f"dir is {_short(value)}, it must be one of {', '.join(DIRECTIONS)}")

    def _time(self, number: int, value: object) -> float | None:
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_TIME:
            return float(value)
        raise self._error(number, f"t is {_short(value)}, it must be seconds from 0 to {MAX_TIME:.0f}")

    def _bytes(self, number: int, value: object) -> bytes:
        if not isinstance(value, str):
            raise self._error(number, f"hex is {_short(value)}, it must be a text")
        try:
            return binascii.unhexlify(value)
        except ValueError as error:
            message = f"hex is {_short(value)}, it must be pairs of hex digits without blanks"
            raise self._error(number, message) from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {_short(text)} is too large")
    return value


def _short(value: object) -> str:
    """A value as an error message can show it."""
    if isinstance(value, int) and value.bit_length() > 128:
        return "a very large number"
    text = (
        json.dumps(value)
        if isinstance(value, str | int | float | bool | None)
        else f"a {type(value).__name__}"
    )
    return text if len(text) <= 40 else f"{text[:36]}…"


class JsonlWriter:
    """Writes ``.jsonl``; nothing is lost.

    :param meta: Becomes the first line.
    """

    def __init__(self, file: ByteWriter, source: str, meta: Meta | None = None) -> None:
        self._file, self._source = file, source
        self.losses: Losses = Losses()
        if meta is not None:
            self._line({"meta": dict(meta.members), **{k: v for k, v in meta.extra.items() if k != "meta"}})

    def write(self, item: Item, /) -> None:
        """Append one line."""
        if isinstance(item, Other):
            if item.line is None:
                self.losses[item.kind] += 1
            else:
                self._file.write(item.line.encode() + b"\n")
            return
        if not _RESERVED.isdisjoint(item.extra):
            raise CaptureError(self._source, "extra members must not be called t, dir or hex")
        line: dict[str, object] = {}
        if item.t is not None:
            line["t"] = item.t
        if item.direction is not None:
            line["dir"] = item.direction
        line["hex"] = item.data.hex()
        self._line({**line, **item.extra})

    def _line(self, line: dict[str, object]) -> None:
        try:
            text = json.dumps(line, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            try:
                raw = text.encode()
            except UnicodeEncodeError:
                # A lone surrogate: JSON can hold it as an escape only.
                raw = json.dumps(line, separators=(",", ":"), allow_nan=False).encode()
        except (RecursionError, TypeError, ValueError) as error:
            raise CaptureError(self._source, f"a member cannot be written as JSON: {error}") from error
        self._file.write(raw + b"\n")
