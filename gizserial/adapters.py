"""construct pieces that the bodies are made of: named fields, optional tails, texts of fixed size.

A body is a :class:`Body`: fields in wire order, each with a name. While it is parsed it can note where each
field stood (``spans``), so that ``decode`` shows every byte with its meaning.
"""

from __future__ import annotations

import codecs
import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from construct import Adapter, Bytes, Construct, Container, StreamError

from gizserial.errors import BodyError, EncodeError, UnknownName, ValueOutOfRange

_BACKSLASH_HEX: Final = "gizserial.backslash_hex"


def _escape_bytes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(f"\\x{byte:02x}" for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_BACKSLASH_HEX, _escape_bytes)


def text_of(raw: bytes) -> str:
    r"""UTF-8 text; bytes that are not UTF-8 are written ``\xNN`` (cli.md §4)."""
    return raw.decode("utf-8", errors=_BACKSLASH_HEX)


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """Where one field stood.

    :ivar start: First byte, counted from the start of the payload.
    :ivar end: One past the last byte.
    :ivar children: The fields inside, of a list of records.
    """

    name: str
    start: int
    end: int
    value: object
    children: tuple[Span, ...] = ()

    def moved(self, by: int) -> Span:
        """The same field in bytes that have ``by`` more before it."""
        return Span(
            self.name,
            self.start + by,
            self.end + by,
            self.value,
            tuple(child.moved(by) for child in self.children),
        )


class TextValue(Protocol):
    """A piece that reads its value as a person types it."""

    def from_text(self, text: str) -> Any:
        """The value that ``text`` means (:raises ValueError: when it means none)."""


def from_json(subcon: TextValue, value: Any) -> Any:
    """A value as JSON carries it: texts are read as if they were typed."""
    return subcon.from_text(value) if isinstance(value, str) else value


_INTEGER: Final = re.compile(r"[+-]?[0-9]+|0[xX][0-9a-fA-F]+")
_LONGEST_NUMBER: Final = 40


def integer_of(text: str) -> int:
    """A decimal or ``0x`` number (:raises ValueError: for anything else)."""
    if len(text) > _LONGEST_NUMBER or not _INTEGER.fullmatch(text):
        raise ValueError("a number is needed, for example 7 or 0x1F")
    return int(text, 16) if "x" in text.lower() else int(text)


_TRUTH: Final = {"true": True, "1": True, "false": False, "0": False}


class Text(Adapter):
    """UTF-8 text in ``size`` bytes, filled with 00; without ``size`` it runs as far as its subcon does."""

    def __init__(self, subcon: Construct, size: int | None = None) -> None:
        super().__init__(subcon)
        self._size = size

    def from_text(self, text: str) -> str:
        """The text itself."""
        return text

    def _decode(self, obj: bytes, context: Container, path: str) -> str:
        return text_of(obj.rstrip(b"\0") if self._size is not None else obj)

    def _encode(self, obj: Any, context: Container, path: str) -> bytes:
        if not isinstance(obj, str):
            raise ValueOutOfRange(_leaf(path), obj, "text")
        raw = _utf8(obj, _leaf(path))
        if self._size is None:
            return raw
        if len(raw) > self._size:
            raise ValueOutOfRange(_leaf(path), obj, f"text of at most {self._size} bytes")
        return raw.ljust(self._size, b"\0")


def _utf8(text: str, name: str) -> bytes:
    """Text to bytes; bytes of a command line that are not UTF-8 go out as they came in."""
    try:
        return text.encode("utf-8", errors="surrogateescape")
    except UnicodeEncodeError:
        raise ValueOutOfRange(name, ascii(text), "text (half a surrogate pair is none)") from None


def fixed_text(size: int) -> Construct:
    """Text in exactly ``size`` bytes (serial.md §3.1)."""
    return Text(Bytes(size), size)


def counted_text(length: Construct) -> Construct:
    """Text behind its length."""
    return Text(Prefixed(length))


class Prefixed(Construct):
    """Bytes behind their length; what is too long for its length field is refused by name."""

    def __init__(self, length: Construct) -> None:
        super().__init__()
        self._length = length

    def _parse(self, stream: Any, context: Container, path: str) -> bytes:
        size = self._length._parsereport(stream, context, path)
        data: bytes = stream.read(size)
        if len(data) != size:
            raise StreamError(f"{size} bytes announced, {len(data)} are there", path=path)
        return data

    def _build(self, obj: bytes, stream: Any, context: Container, path: str) -> bytes:
        limit = 256 ** self._length.sizeof() - 1
        if len(obj) > limit:
            raise ValueOutOfRange(_leaf(path), f"a value of {len(obj)} bytes", f"at most {limit} bytes")
        self._length._build(len(obj), stream, context, path)
        stream.write(obj)
        return obj


class Number(Adapter):
    """An unsigned integer that says which values it takes."""

    def __init__(self, subcon: Construct, limit: int | None = None) -> None:
        super().__init__(subcon)
        self._limit = limit if limit is not None else 256 ** subcon.sizeof() - 1

    def from_text(self, text: str) -> int:
        """Decimal or ``0x``."""
        return integer_of(text)

    def _decode(self, obj: int, context: Container, path: str) -> int:
        return obj

    def _encode(self, obj: Any, context: Container, path: str) -> int:
        if isinstance(obj, bool) or not isinstance(obj, int):
            raise ValueOutOfRange(_leaf(path), obj, f"a number from 0 to {self._limit}")
        if not 0 <= obj <= self._limit:
            raise ValueOutOfRange(_leaf(path), obj, f"0 to {self._limit}")
        return obj


class Truth(Adapter):
    """A byte that is 0 or not."""

    def from_text(self, text: str) -> bool:
        """``true``, ``false``, ``1`` or ``0``."""
        if text.lower() not in _TRUTH:
            raise ValueError("true, false, 1 or 0 is needed")
        return _TRUTH[text.lower()]

    def _decode(self, obj: int, context: Container, path: str) -> bool:
        return obj != 0

    def _encode(self, obj: Any, context: Container, path: str) -> int:
        if not isinstance(obj, int) or obj not in {0, 1}:
            raise ValueOutOfRange(_leaf(path), obj, "true, false, 1 or 0")
        return int(obj)


class Blob(Adapter):
    """Opaque bytes; of fixed ``size`` shorter ones are filled with 00."""

    def __init__(self, subcon: Construct, size: int | None = None) -> None:
        super().__init__(subcon)
        self._size = size

    def from_text(self, text: str) -> bytes:
        """Hex digits in pairs."""
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise ValueError("hex digits in pairs are needed, for example 01ff") from None

    def _decode(self, obj: bytes, context: Container, path: str) -> bytes:
        return bytes(obj)

    def _encode(self, obj: Any, context: Container, path: str) -> bytes:
        if not isinstance(obj, bytes):
            raise ValueOutOfRange(_leaf(path), obj, "bytes")
        if self._size is None:
            return obj
        if len(obj) > self._size:
            raise ValueOutOfRange(_leaf(path), obj.hex(), f"at most {self._size} bytes")
        return obj.ljust(self._size, b"\0")


def fixed_bytes(size: int) -> Construct:
    """Exactly ``size`` opaque bytes."""
    return Blob(Bytes(size), size)


class Pairs(Adapter):
    """``key=value&key=value`` ↔ mapping (serial.md §4.1). A key without ``=`` has an empty value."""

    def from_text(self, text: str) -> dict[str, str]:
        """``key=value&key=value``."""
        return dict(part.partition("=")[::2] for part in text.split("&")) if text else {}

    def _decode(self, obj: bytes, context: Container, path: str) -> dict[str, str]:
        return self.from_text(text_of(obj))

    def _encode(self, obj: Any, context: Container, path: str) -> bytes:
        if not isinstance(obj, Mapping):
            raise ValueOutOfRange(_leaf(path), obj, "key=value&key=value")
        return _utf8("&".join(f"{key}={value}" for key, value in obj.items()), _leaf(path))


def rows_of(text: str, record: Body) -> list[dict[str, Any]]:
    """A JSON list of objects with the fields of ``record`` (:raises ValueError: for anything else)."""
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError('a JSON list is needed, for example [{"mesh_id": "1"}]') from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("a JSON list of objects is needed")
    pieces = {field.name: field.subcon for field in record.fields}
    return [
        {name: from_json(pieces[name], value) if name in pieces else value for name, value in row.items()}
        for row in rows
    ]


class Rows(Construct):
    """A counted list of records, seen as a list of mappings."""

    def __init__(self, count: Construct, record: Body) -> None:
        super().__init__()
        self._count = count
        self._record = record
        self._limit: Final = 256 ** count.sizeof() - 1

    def from_text(self, text: str) -> list[dict[str, Any]]:
        """A JSON list of objects."""
        return rows_of(text, self._record)

    def _parse(self, stream: Any, context: Container, path: str) -> list[dict[str, Any]]:
        count = self._count._parsereport(stream, context, path)
        return [dict(self._record._parsereport(stream, context, path)) for _ in range(count)]

    def _build(self, obj: Any, stream: Any, context: Container, path: str) -> Any:
        if not isinstance(obj, list) or not all(isinstance(row, Mapping) for row in obj):
            raise ValueOutOfRange(_leaf(path), obj, "a list of objects")
        if len(obj) > self._limit:
            raise ValueOutOfRange(_leaf(path), f"a list of {len(obj)}", f"at most {self._limit}")
        self._count._build(len(obj), stream, context, path)
        for row in obj:
            self._record._build(row, stream, context, path)
        return obj


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One named field of a :class:`Body`.

    :ivar when: Whether the field exists, from the fields before it and the number of bytes that remain
        (None while building).
    :ivar optional: It may be missing at the end; then everything after it is missing too.
    """

    name: str
    subcon: Construct
    when: Callable[[Mapping[str, Any], int | None], bool] | None = None
    optional: bool = False


class Body(Construct):
    """Fields in wire order, the last of which may be missing.

    Parsing gives a Container of the fields that are there. A required field that does not fit raises
    :class:`BodyError`. Building takes a mapping; a name that is no field raises :class:`UnknownName`, a
    required field that is missing :class:`EncodeError`.
    """

    def __init__(self, *fields: Field) -> None:
        super().__init__()
        self.fields: Final = fields

    @property
    def names(self) -> tuple[str, ...]:
        """The field names in wire order."""
        return tuple(dict.fromkeys(field.name for field in self.fields))

    def _parse(self, stream: Any, context: Container, path: str) -> Container:
        values = Container()
        spans: list[Span] | None = context._params.get("spans")
        for field in self.fields:
            start, noted = stream.tell(), len(spans) if spans is not None else 0
            remaining = _remaining(stream)
            if field.when is not None and not field.when(values, remaining):
                continue
            try:
                value = field.subcon._parsereport(stream, context, f"{path} -> {field.name}")
            except StreamError as error:
                if field.optional:
                    stream.seek(start)
                    if spans is not None:
                        del spans[noted:]
                    break
                size = start + remaining
                raise BodyError(
                    f"{field.name} is cut off: the body has only {size} byte{'' if size == 1 else 's'}"
                ) from error
            values[field.name] = value
            if spans is not None:
                # What records inside the field noted is a part of it, not beside it.
                spans[noted:] = [Span(field.name, start, stream.tell(), value, tuple(spans[noted:]))]
        return values

    def _build(self, obj: Any, stream: Any, context: Container, path: str) -> Any:
        values: dict[str, Any] = dict(obj or {})
        for name in values:
            if name not in self.names:
                raise UnknownName("field", name, self.names)
        used: set[str] = set()
        ended_by: str | None = None
        for field in self.fields:
            if field.when is not None and not field.when(values, None):
                continue
            if field.name not in values:
                if not field.optional:
                    raise EncodeError(f"the field {field.name} is missing")
                ended_by = ended_by or field.name
                continue
            if ended_by is not None:
                raise EncodeError(f"{field.name} needs the field {ended_by} before it")
            used.add(field.name)
            field.subcon._build(values[field.name], stream, context, f"{path} -> {field.name}")
        unused = sorted(set(values) - used)
        if unused:
            raise EncodeError(f"the field {unused[0]} does not go with the other fields")
        return obj


def _remaining(stream: Any) -> int:
    here: int = stream.tell()
    end: int = stream.seek(0, 2)
    stream.seek(here)
    return end - here


def _leaf(path: str) -> str:
    """The field's name, from construct's ``(building) -> a -> b``."""
    return path.rpartition(" -> ")[2]
