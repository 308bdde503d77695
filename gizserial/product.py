"""A product definition, compiled once: data points with their wire positions and conversions.

No code after this looks at JSON keys. :func:`parse_product` makes a :class:`Product` of a definition file's
bytes; :func:`gizserial.io.products.load_product` reads the file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING

from gizserial.errors import ProductError, UnknownName, ValueOutOfRange
from gizserial.layout import (
    BIT_TYPES,
    UINT_SIZES,
    Access,
    BitSection,
    DataType,
    Item,
    Layout,
    Place,
    flag_bytes,
    sections,
)
from gizserial.scale import Scale, number_text, shown

if TYPE_CHECKING:
    from gizserial.definition import PointSpec

__all__ = [
    "Access",
    "BitSection",
    "DataPoint",
    "DataType",
    "Layout",
    "Product",
    "Scale",
    "parse_product",
    "to_definition",
]

_TRUTH = MappingProxyType({"true": 1, "1": 1, "false": 0, "0": 0})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DataPoint:
    """One named value of a product."""

    id: int
    """Order number, and the number of its flag bit."""
    name: str
    data_type: DataType
    access: Access
    display_name: str = ""
    desc: str = ""
    texts: tuple[str, ...] = ()
    """Of an enum: the text of each index."""
    scale: Scale | None = None
    """Of a number: never None."""
    width: int = 0
    """Bits; 0 for byte points."""
    size: int = 0
    """Bytes; 0 for bit points."""
    byte_offset: int = 0
    """Offset in ``dev_status``; for bit points the start of their section. Means nothing in var_len."""
    bit_offset: int = 0
    """Lowest bit in the section (may exceed 7). Means nothing in var_len."""

    @property
    def is_bits(self) -> bool:
        """Whether it lives in a bit section."""
        return self.data_type in BIT_TYPES

    @property
    def writable(self) -> bool:
        """Whether a control may set it."""
        return self.access is Access.WRITABLE

    @property
    def raw_limit(self) -> int:
        """The largest unsigned integer that fits its bits or bytes."""
        return (1 << (self.width or 8 * self.size)) - 1

    def value(self, raw: int | bytes) -> bool | str | int | Decimal | bytes:
        """What a raw wire value means. Lenient: an enum index out of range stays an int.

        Numbers are ints when ratio and addition are, otherwise exact Decimals.
        """
        if not isinstance(raw, int):
            return bytes(raw)
        if self.data_type is DataType.BOOL:
            return bool(raw)
        if self.data_type is DataType.ENUM:
            return self.texts[raw] if 0 <= raw < len(self.texts) else raw
        if self.scale is None:
            return raw
        real = self.scale.real(raw)
        return int(real) if self.scale.whole else real

    def raw(self, value: object) -> int | bytes:
        """The raw wire value that stands for a value. Strict.

        :param value: bool: a bool, 0, 1 or their texts. enum: one of its texts, else its index, as int or
            text. Numbers: int, float, Decimal or text. binary: bytes or hex text; shorter is filled with 00.
        :raises ValueOutOfRange: A value of another kind, or one that the definition does not allow.
        """
        if self.data_type is DataType.BOOL:
            return self._raw_bool(value)
        if self.data_type is DataType.ENUM:
            return self._raw_enum(value)
        if self.scale is not None:
            if not isinstance(value, Decimal | int | float | str):
                raise ValueOutOfRange(self.name, shown(value), "a number")
            return self.scale.raw(value, name=self.name)
        return self._raw_binary(value)

    def _raw_bool(self, value: object) -> int:
        if isinstance(value, int) and value in {0, 1}:
            return int(value)
        if isinstance(value, str) and value.strip().lower() in _TRUTH:
            return _TRUTH[value.strip().lower()]
        raise ValueOutOfRange(self.name, shown(value), "true, false, 1 or 0")

    def _raw_enum(self, value: object) -> int:
        index = -1
        if isinstance(value, str):
            if value in self.texts:
                return self.texts.index(value)
            if value.isascii() and value.isdigit() and len(value) <= 9:
                index = int(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            index = value
        if 0 <= index < len(self.texts):
            return index
        texts = ", ".join(repr(text) for text in self.texts[:16]) + (", …" if len(self.texts) > 16 else "")
        raise ValueOutOfRange(self.name, shown(value), f"one of {texts} or an index to {len(self.texts) - 1}")

    def _raw_binary(self, value: object) -> bytes:
        if isinstance(value, str):
            try:
                value = bytes.fromhex(value)
            except ValueError:
                raise ValueOutOfRange(self.name, shown(value), "hex digits in pairs") from None
        if not isinstance(value, bytes | bytearray | memoryview):
            raise ValueOutOfRange(self.name, shown(value), "bytes, or hex digits in pairs")
        data = bytes(value)
        if len(data) > self.size:
            raise ValueOutOfRange(self.name, shown(data), f"at most {self.size} bytes")
        return data.ljust(self.size, b"\0")

    def warnings(self, raw: int | bytes) -> list[str]:
        """What to say of a raw value that a peer sent; empty when the definition allows it."""
        if not isinstance(raw, int):
            return []
        if self.data_type is DataType.ENUM and raw >= len(self.texts):
            return [f"{self.name}: enum index out of range: {raw}, there are {len(self.texts)} values"]
        if self.scale is not None and not self.scale.in_range(raw):
            low, high = (number_text(end) for end in self.scale.real_range)
            real = number_text(self.scale.real(raw))
            return [f"{self.name}: {real} (raw {raw}) is out of the definition's range {low} to {high}"]
        return []


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A product: its layout and its data points.

    :ivar points: Sorted by id, whatever order they are given in.
    """

    name: str
    product_key: str = dataclasses.field(repr=False)
    layout: Layout
    points: tuple[DataPoint, ...]
    display_name: str = ""
    """What people call it; empty where the definition does not say."""
    by_name: Mapping[str, DataPoint] = dataclasses.field(init=False, repr=False, compare=False)
    writable: tuple[DataPoint, ...] = dataclasses.field(init=False, repr=False, compare=False)
    """The points that a control may set."""
    flag_bytes: int = dataclasses.field(init=False, repr=False, compare=False)
    """Bytes of attr_flags: over the writable points (standard, §5.4) or all points (var_len, §5.5)."""
    status_size: int = dataclasses.field(init=False, repr=False, compare=False)
    """Standard: bytes of ``dev_status``. var_len: bytes of all values together."""
    writable_size: int = dataclasses.field(init=False, repr=False, compare=False)
    """Standard: bytes of attr_vals in a control. var_len: bytes of all writable values together."""
    sections: tuple[BitSection, ...] = dataclasses.field(init=False, repr=False, compare=False)
    """Standard: the bit section of each access type that has one. var_len: none."""

    def __post_init__(self) -> None:
        points = tuple(sorted(self.points, key=lambda point: point.id))
        writable = tuple(point for point in points if point.writable)
        fixed = self.layout is Layout.FIXED
        placed = sections((_item(point), _place(point)) for point in points) if fixed else ()
        computed = {
            "points": points,
            "by_name": MappingProxyType({point.name: point for point in points}),
            "writable": writable,
            "flag_bytes": flag_bytes(point.id for point in (writable if fixed else points)),
            "sections": placed,
            "status_size": _end(points, placed) if fixed else _packed(points),
            "writable_size": _end(writable, placed) if fixed else _packed(writable),
        }
        for field, value in computed.items():
            object.__setattr__(self, field, value)

    def point(self, name: str) -> DataPoint:
        """The data point of that name (:raises UnknownName: when there is none)."""
        try:
            return self.by_name[name]
        except KeyError:
            raise UnknownName("data point", name, [point.name for point in self.points]) from None

    def section(self, access: Access) -> BitSection | None:
        """The bit section of an access type; None when it has no bits, and in var_len."""
        return next((section for section in self.sections if section.access is access), None)


def _item(point: DataPoint) -> Item:
    return Item(point.id, point.access, point.data_type, point.width, point.size)


def _place(point: DataPoint) -> Place:
    return Place(point.byte_offset, point.bit_offset)


def _end(points: tuple[DataPoint, ...], placed: tuple[BitSection, ...]) -> int:
    """The largest end of the points (§5.4)."""
    ends = {section.access: section.end for section in placed}
    return max(
        (ends[point.access] if point.is_bits else point.byte_offset + point.size for point in points),
        default=0,
    )


def _packed(points: tuple[DataPoint, ...]) -> int:
    bits = sum(point.width for point in points)
    return (bits + 7) // 8 + sum(point.size for point in points)


def parse_product(data: bytes, source: str) -> Product:
    """Compile a definition.

    :param data: The definition file's bytes; a byte order mark is accepted.
    :param source: What to call it in messages, usually the path.
    :raises ProductError: The definition has errors; carries every finding.
    """
    # Here, because pydantic takes a while to load and a product can be made without it.
    from gizserial.definition import read_definition

    definition, findings = read_definition(data)
    if definition is None:
        raise ProductError(source, findings)
    return Product(
        name=definition.name,
        display_name=definition.display_name,
        product_key=definition.product_key,
        layout=definition.layout,
        points=tuple(_compile(spec) for spec in definition.points),
    )


def _compile(spec: PointSpec) -> DataPoint:
    scale = None
    if spec.data_type in UINT_SIZES:
        scale = Scale(
            ratio=spec.ratio,
            addition=spec.addition,
            raw_min=spec.raw_min,
            raw_max=spec.raw_max,
            type_max=256**spec.size - 1,
        )
    return DataPoint(
        id=spec.id,
        name=spec.name,
        display_name=spec.display_name,
        desc=spec.desc,
        data_type=spec.data_type,
        access=spec.access,
        texts=spec.texts,
        scale=scale,
        width=spec.width,
        size=spec.size,
        byte_offset=spec.byte_offset,
        bit_offset=spec.bit_offset,
    )


def to_definition(product: Product) -> dict[str, object]:
    """The product as the JSON of a definition, with every member of serial.md §7.1 but ``ui``.

    :func:`parse_product` gives the same product again, as long as ratios and additions have at most 15
    digits: JSON of Python has no longer ones.
    """
    return {
        "name": product.name,
        "packetVersion": "0x00000004",
        "protocolType": product.layout.value,
        "product_key": product.product_key,
        "entities": [
            {
                "id": 0,
                "name": "entity0",
                "display_name": product.display_name,
                "attrs": [_attribute(point) for point in product.points],
            }
        ],
    }


def _attribute(point: DataPoint) -> dict[str, object]:
    attribute: dict[str, object] = {
        "id": point.id,
        "name": point.name,
        "display_name": point.display_name,
        "desc": point.desc,
        "data_type": point.data_type.value,
        "type": point.access.value,
        "position": {
            "byte_offset": point.byte_offset,
            "bit_offset": point.bit_offset,
            "len": point.width or point.size,
            "unit": "bit" if point.is_bits else "byte",
        },
    }
    if point.data_type is DataType.ENUM:
        attribute["enum"] = list(point.texts)
    if point.scale is not None:
        attribute["uint_spec"] = {
            "min": point.scale.raw_min,
            "max": point.scale.raw_max,
            "ratio": _json_number(point.scale.ratio),
            "addition": _json_number(point.scale.addition),
        }
    return attribute


def _json_number(number: Decimal) -> int | float:
    return int(number) if number == number.to_integral_value() else float(number)
