"""Where data points stand on the wire: widths, sizes and the computed layout (serial.md §5.2–§5.4).

A standard product's ``dev_status``, in this order; an empty group takes no byte::

    [writable bits][writable bytes][read-only bits][read-only bytes][alert bits][fault bits]

Every bit section is padded to whole bytes. Inside it points take bits 0, 1, 2, … in id order; the section as
a whole is one big-endian integer, so bit 0 is in its *last* byte.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final


class Access(enum.Enum):
    """Who changes a data point; the value is the text in a definition. Order is wire order (§5.3)."""

    WRITABLE = "status_writable"
    READONLY = "status_readonly"
    ALERT = "alert"
    FAULT = "fault"


class DataType(enum.Enum):
    """Wire types (§5.2); the value is the text in a definition. Order is wire order (§5.3)."""

    BOOL = "bool"
    ENUM = "enum"
    UINT8 = "uint8"
    UINT16 = "uint16"
    UINT32 = "uint32"
    BINARY = "binary"


class Layout(enum.Enum):
    """The two P0 layouts; the value is the text in a definition."""

    FIXED = "standard"
    VARIABLE = "var_len"


UINT_SIZES: Final[Mapping[DataType, int]] = MappingProxyType(
    {DataType.UINT8: 1, DataType.UINT16: 2, DataType.UINT32: 4}
)
"""Bytes of the unsigned types."""

BIT_TYPES: Final = frozenset({DataType.BOOL, DataType.ENUM})
"""Types that live in a bit section."""

ACCESS_ORDER: Final[Mapping[Access, int]] = MappingProxyType({a: n for n, a in enumerate(Access)})
TYPE_ORDER: Final[Mapping[DataType, int]] = MappingProxyType({t: n for n, t in enumerate(DataType)})


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """What the layout needs to know of one data point.

    :ivar width: Bits in a bit section; 0 for byte points.
    :ivar size: Bytes; 0 for bit points.
    """

    id: int
    access: Access
    data_type: DataType
    width: int
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A position as definitions write it.

    :ivar byte_offset: Offset in ``dev_status``; for bit points the start of their *section*.
    :ivar bit_offset: Lowest bit in the section, may exceed 7; 0 for byte points.
    """

    byte_offset: int
    bit_offset: int


@dataclasses.dataclass(frozen=True, slots=True)
class BitSection:
    """The bool and enum points of one access type in a standard product.

    :ivar base: First byte, in ``dev_status``.
    :ivar size: Bytes; the section is one big-endian integer of that size.
    """

    access: Access
    base: int
    size: int

    @property
    def end(self) -> int:
        """One past the last byte."""
        return self.base + self.size

    def byte_of(self, bit: int) -> int:
        """The byte of ``dev_status`` that holds bit ``bit`` of the section; there it is bit ``bit % 8``."""
        return self.base + self.size - 1 - bit // 8


def enum_width(values: int) -> int:
    """Bits that an enum with so many values needs; one value takes a bit too (R28)."""
    return max(1, (values - 1).bit_length())


def bytes_for(bits: int) -> int:
    """Whole bytes that hold so many bits."""
    return (bits + 7) // 8


def flag_bytes(ids: Iterable[int]) -> int:
    """Bytes of attr_flags: the flag bit is the id, so missing ids count (R30)."""
    return bytes_for(max(ids, default=-1) + 1)


def wire_order(item: Item, layout: Layout) -> tuple[int, int]:
    """Key by which the cloud numbers the points of a product (§5.3)."""
    data_type = TYPE_ORDER[item.data_type]
    return (ACCESS_ORDER[item.access] if layout is Layout.FIXED else 0, data_type)


def computed(items: Iterable[Item]) -> dict[int, Place]:
    """Id → position of every point of a standard product, from their order alone (§5.4)."""
    ordered = sorted(items, key=lambda item: item.id)
    places: dict[int, Place] = {}
    here = 0
    for access in Access:
        group = [item for item in ordered if item.access is access]
        bit = 0
        for item in group:
            if item.data_type in BIT_TYPES:
                places[item.id] = Place(here, bit)
                bit += item.width
        here += bytes_for(bit)
        for item in group:
            if item.data_type not in BIT_TYPES:
                places[item.id] = Place(here, 0)
                here += item.size
    return places


def sections(placed: Iterable[tuple[Item, Place]]) -> tuple[BitSection, ...]:
    """Bit sections of a standard product, in wire order; their size follows from the highest bit in use."""
    base: dict[Access, int] = {}
    bits: dict[Access, int] = {}
    for item, place in placed:
        if item.data_type in BIT_TYPES:
            base.setdefault(item.access, place.byte_offset)
            bits[item.access] = max(bits.get(item.access, 0), place.bit_offset + item.width)
    return tuple(BitSection(a, base[a], bytes_for(bits[a])) for a in Access if a in base)
