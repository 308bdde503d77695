"""Product → construct schemas of its data points, and the fast reader that replaces them when bytes come in.

Bit points of one section are one big-endian integer, point by point from its lowest bit upwards
(serial.md §5.4): a :class:`Slot` says where that integer stands, construct's ``BitStruct`` reads it from the
highest bit down. Schemas carry raw wire values; :class:`gizserial.product.DataPoint` turns them into real
ones. :func:`with_values` wraps a schema so that it takes and gives real values.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any, Final

from construct import Adapter, BitsInteger, BitStruct, BytesInteger, Construct, Container, Padding, Pass

from gizserial.adapters import Number, fixed_bytes
from gizserial.errors import BodyError, EncodeError, UnknownName
from gizserial.product import DataPoint, DataType, Layout, Product

Raw = int | bytes
RawValues = Mapping[str, Raw]


@dataclasses.dataclass(frozen=True, slots=True)
class Slot:
    """Where one point stands in a block of values.

    :ivar start: First byte of the point, or of the bit section that holds it.
    :ivar end: One past the last byte of it.
    :ivar bit: Lowest bit of the point in the section's integer; 0 for byte points.
    """

    point: DataPoint
    start: int
    end: int
    bit: int = 0


class Block:
    """Values of some points in one stretch of bytes: the schema, and a reader compiled from it.

    :ivar slots: The points in id order.
    :ivar size: Bytes of the whole block.
    """

    def __init__(self, slots: Iterable[Slot], size: int) -> None:
        self.slots: Final = tuple(sorted(slots, key=lambda slot: slot.point.id))
        self.size: Final = size
        self._names: Final = frozenset(slot.point.name for slot in self.slots)
        self._sections: Final = tuple(
            sorted({(slot.start, slot.end) for slot in self.slots if slot.point.is_bits})
        )
        index = {section: number for number, section in enumerate(self._sections)}
        self._plan: Final = tuple(
            (
                slot.point.name,
                index[slot.start, slot.end] if slot.point.is_bits else -1,
                slot.bit if slot.point.is_bits else slot.start,
                (1 << slot.point.width) - 1 if slot.point.is_bits else slot.end,
                slot.point.data_type is DataType.BINARY,
            )
            for slot in self.slots
        )

    @functools.cached_property
    def schema(self) -> Construct:
        """The block as construct sees it: name → raw value, in wire order."""
        parts: list[Construct] = []
        here = 0
        pieces: list[tuple[int, int, Construct]] = [
            (start, end, _bit_section(end - start, self._in_section(start, end)))
            for start, end in self._sections
        ]
        pieces += [
            (slot.start, slot.end, slot.point.name / _byte_field(slot.point))
            for slot in self.slots
            if not slot.point.is_bits
        ]
        for start, end, part in sorted(pieces, key=lambda piece: piece[0]):
            if start > here:
                parts.append(Padding(start - here))
            parts.append(part)
            here = end
        if self.size > here:
            parts.append(Padding(self.size - here))
        return _Flat(parts)

    def _in_section(self, start: int, end: int) -> list[Slot]:
        return [slot for slot in self.slots if slot.point.is_bits and (slot.start, slot.end) == (start, end)]

    def parse(self, body: bytes, what: str) -> dict[str, Raw]:
        """Raw values by name, in id order. Same result as the schema, several times faster.

        :param what: What the body is, for the message, in the singular.
        :raises BodyError: when the body is too short.
        """
        if len(body) < self.size:
            raise BodyError(f"the {what} {_has(len(body))}, the product needs {self.size}")
        sections = [int.from_bytes(body[start:end], "big") for start, end in self._sections]
        return {
            name: (sections[section] >> first) & last
            if section >= 0
            else (body[first:last] if binary else int.from_bytes(body[first:last], "big"))
            for name, section, first, last, binary in self._plan
        }

    def build(self, raw: RawValues) -> bytes:
        """The block's bytes; a point that is not named has raw value 0.

        :raises UnknownName: for a name that is not in the block.
        :raises ValueOutOfRange: for a value that does not fit its bits or bytes.
        """
        for name in raw:
            if name not in self._names:
                raise UnknownName("data point", name, sorted(self._names))
        values = {slot.point.name: raw.get(slot.point.name, _zero(slot.point)) for slot in self.slots}
        built: bytes = self.schema.build(values)
        return built


class _Flat(Construct):
    """Parts one after the other, whose named values come out in one container."""

    def __init__(self, parts: list[Construct]) -> None:
        super().__init__()
        self._parts = parts

    def _parse(self, stream: Any, context: Container, path: str) -> Container:
        values = Container()
        for part in self._parts:
            value = part._parsereport(stream, context, path)
            if isinstance(value, Container):
                values.update({name: bit for name, bit in value.items() if name != "_io"})
            elif part.name is not None:
                values[part.name] = value
        return values

    def _build(self, obj: Mapping[str, Any], stream: Any, context: Container, path: str) -> Any:
        for part in self._parts:
            part._build(
                obj if part.name is None else obj[part.name], stream, context, f"{path} -> {part.name}"
            )
        return obj


def _bit_section(size: int, slots: list[Slot]) -> Construct:
    """Points of one section as a ``BitStruct``, highest bit first."""
    fields: list[Construct] = []
    above = 8 * size
    for slot in sorted(slots, key=lambda slot: slot.bit, reverse=True):
        top = slot.bit + slot.point.width
        if above > top:
            fields.append(Padding(above - top))
        fields.append(slot.point.name / Number(BitsInteger(slot.point.width), (1 << slot.point.width) - 1))
        above = slot.bit
    if above:
        fields.append(Padding(above))
    return BitStruct(*fields)


def _byte_field(point: DataPoint) -> Construct:
    if point.data_type is DataType.BINARY:
        return fixed_bytes(point.size)
    return Number(BytesInteger(point.size), 256**point.size - 1)


def _has(size: int) -> str:
    return f"has {size} byte{'' if size == 1 else 's'}"


def _zero(point: DataPoint) -> Raw:
    return bytes(point.size) if point.data_type is DataType.BINARY else 0


class _Values(Adapter):
    """Raw values ↔ real values of a block: exact scaling, enum texts, limits (serial.md §5.6)."""

    def __init__(self, block: Block) -> None:
        super().__init__(block.schema)
        self._points = {slot.point.name: slot.point for slot in block.slots}

    def _decode(self, obj: Container, context: Container, path: str) -> dict[str, object]:
        return {name: self._points[name].value(raw) for name, raw in obj.items()}

    def _encode(self, obj: Mapping[str, Any], context: Container, path: str) -> dict[str, Raw]:
        return {name: point.raw(obj[name]) for name, point in self._points.items()}


def with_values(block: Block) -> Construct:
    """The block's schema seen with real values: bool, enum text, Decimal, bytes."""
    return _Values(block)


def _place(points: Iterable[DataPoint]) -> Block:
    """Points packed the var_len way: one bit part without gaps, then the byte points, in id order (§5.5)."""
    points = sorted(points, key=lambda point: point.id)
    bits = [point for point in points if point.is_bits]
    size = (sum(point.width for point in bits) + 7) // 8
    slots: list[Slot] = []
    bit = 0
    for point in bits:
        slots.append(Slot(point, 0, size, bit))
        bit += point.width
    for point in points:
        if not point.is_bits:
            slots.append(Slot(point, size, size + point.size))
            size += point.size
    return Block(slots, size)


class DataPoints:
    """The blocks of one product, made once and shared by codec and roles.

    :param product: Any valid product, of either layout.
    """

    def __init__(self, product: Product) -> None:
        self.product: Final = product
        self.flag_bytes: Final = product.flag_bytes
        self.known_flags: Final = sum(1 << point.id for point in product.points)
        """Bits that belong to a point; the others are padding or holes and mean nothing."""
        fixed = product.layout is Layout.FIXED
        self.dev_status: Final = (
            self._fixed(product.points, product.status_size) if fixed else _place(product.points)
        )
        """The full status (§5.4); with variable length all points, packed."""
        self.writable: Final = (
            self._fixed(product.writable, product.writable_size) if fixed else _place(product.writable)
        )
        """attr_vals of a control (§5.4); with variable length the writable points, packed."""
        self.flagged: Final = functools.lru_cache(maxsize=256)(self._flagged)
        """Variable length: the block of the points whose flags are set."""

    def _fixed(self, points: Iterable[DataPoint], size: int) -> Block:
        sections = {section.access: section for section in self.product.sections}
        slots = []
        for point in points:
            if point.is_bits:
                section = sections[point.access]
                slots.append(Slot(point, section.base, section.base + section.size, point.bit_offset))
            else:
                slots.append(Slot(point, point.byte_offset, point.byte_offset + point.size))
        return Block(slots, size)

    def _flagged(self, flags: int) -> Block:
        return _place(point for point in self.product.points if flags >> point.id & 1)

    def parse_flags(self, body: bytes) -> int:
        """attr_flags as an integer, bit i for the point with id i.

        :raises BodyError: when fewer bytes are there than the product has flags for.
        """
        if len(body) < self.flag_bytes:
            raise BodyError(f"attr_flags {_has(len(body))}, the product needs {self.flag_bytes}")
        return int.from_bytes(body[: self.flag_bytes], "big")

    def build_flags(self, names: Iterable[str]) -> bytes:
        """attr_flags of the named points (:raises UnknownName: for a name that is none)."""
        flags = 0
        for name in names:
            flags |= 1 << self.product.point(name).id
        return self._flag_schema.build(flags) if self.flag_bytes else b""

    @functools.cached_property
    def _flag_schema(self) -> Construct:
        return BytesInteger(self.flag_bytes) if self.flag_bytes else Pass

    def points_of(self, flags: int) -> tuple[DataPoint, ...]:
        """The points whose flags are set, in id order. Padding bits mean nothing (§5.5)."""
        return tuple(point for point in self.product.points if flags >> point.id & 1)

    def require_writable(self, names: Iterable[str]) -> None:
        """:raises EncodeError: when one of the points cannot be controlled."""
        for name in names:
            point = self.product.point(name)
            if not point.writable:
                raise EncodeError(
                    f"{name} is a {point.access.value} point; a control has only writable points"
                )
