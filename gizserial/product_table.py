"""The layout of a product as a table: what ``product show`` prints and documents quote."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

from gizserial.product import DataPoint, DataType, Layout, Product
from gizserial.scale import number_text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PointRow:
    """One data point as the layout table shows it.

    :ivar flag: Its bit in attr_flags; None when it has none (standard, not writable).
    :ivar bytes: The bytes it touches, first and last, in ``dev_status``; None in var_len.
    :ivar bits: Lowest and highest bit, counted from bit 0 of its section; None for byte points and in
        var_len.
    """

    point: DataPoint
    flag: int | None
    bytes: tuple[int, int] | None
    bits: tuple[int, int] | None
    position: str
    """For people: ``byte 0 bits 1-2``, ``byte 1 bit 7, byte 0 bit 0`` (low to high), ``bytes 4-5``."""

    @property
    def length(self) -> str:
        """For people: ``2 bits``, ``4 bytes``."""
        count, unit = (self.point.width, "bit") if self.point.is_bits else (self.point.size, "byte")
        return f"{count} {unit}{'' if count == 1 else 's'}"

    @property
    def real_range(self) -> tuple[Decimal, Decimal] | None:
        """Of a number: smallest and largest real value."""
        return self.point.scale.real_range if self.point.scale is not None else None

    @property
    def values(self) -> str:
        """For people: the range in real units with its step, or the texts of an enum with their indices."""
        point = self.point
        if point.scale is not None:
            low, high = (number_text(end) for end in point.scale.real_range)
            step = abs(point.scale.ratio)
            return f"{low} to {high}" + ("" if step == 1 else f" step {number_text(step)}")
        if point.data_type is DataType.ENUM:
            return ", ".join(f"{index}={text}" for index, text in enumerate(point.texts))
        return "false, true" if point.data_type is DataType.BOOL else ""

    @property
    def raw_values(self) -> str:
        """For people: the range on the wire."""
        point = self.point
        if point.scale is not None:
            return f"{point.scale.raw_min} to {point.scale.raw_max}"
        if point.data_type is DataType.ENUM:
            return f"0 to {len(point.texts) - 1}"
        return "0 to 1" if point.data_type is DataType.BOOL else ""


def layout_table(product: Product) -> list[PointRow]:
    """A row for each data point, in id order."""
    return [_row(product, point) for point in product.points]


def _row(product: Product, point: DataPoint) -> PointRow:
    if product.layout is Layout.VARIABLE:
        return PointRow(point=point, flag=point.id, bytes=None, bits=None, position="")
    flag = point.id if point.writable else None
    section = product.section(point.access)
    if not point.is_bits or section is None:
        first, last = point.byte_offset, point.byte_offset + point.size - 1
        position = f"byte {first}" if first == last else f"bytes {first}-{last}"
        return PointRow(point=point, flag=flag, bytes=(first, last), bits=None, position=position)
    low, high = point.bit_offset, point.bit_offset + point.width - 1
    parts = []
    for start in range(low - low % 8, high + 1, 8):
        bits = sorted({max(low, start) % 8, min(high, start + 7) % 8})
        word = "bits" if len(bits) > 1 else "bit"
        parts.append(f"byte {section.byte_of(start)} {word} {'-'.join(str(bit) for bit in bits)}")
    return PointRow(
        point=point,
        flag=flag,
        bytes=(section.byte_of(high), section.byte_of(low)),
        bits=(low, high),
        position=", ".join(parts[:4]) + (", …" if len(parts) > 4 else ""),
    )
