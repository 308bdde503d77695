"""Values to write: every end of a range, every value of an enum, bytes that are easily lost."""

from __future__ import annotations

from gizserial.datapoints import Raw
from gizserial.product import DataPoint, DataType


def other_value(point: DataPoint, than: Raw | None) -> Raw:
    """A legal value of the point that differs from another one, and whose bytes differ from one another."""
    return next((value for value in sample_values(point) if value != than), sample_values(point)[0])


def sample_values(point: DataPoint) -> list[Raw]:
    """Values to write: a number's ends and one between, each value of an enum, patterns of bytes."""
    if point.data_type is DataType.BOOL:
        return [1, 0]
    if point.data_type is DataType.ENUM:
        return list(range(len(point.texts)))
    if point.data_type is DataType.BINARY:
        ramp = bytes((17 + index) & 0xFF for index in range(point.size))
        holed = b"\0" + ramp[1:]
        escaped = (b"\xff\x55" * point.size)[: point.size]
        return [ramp, holed, b"\xff" * point.size, escaped, bytes(point.size)]
    if point.scale is None:
        return [0, point.raw_limit]
    least, most = point.scale.raw_min, point.scale.raw_max
    return list(dict.fromkeys([_between(least, most, point.size), most, least]))


def changeable(point: DataPoint) -> bool:
    """Whether the point has two values."""
    return len(set(sample_values(point))) > 1


def _between(least: int, most: int, size: int) -> int:
    """A value inside the range whose bytes are all different, where the range has one."""
    pattern = int.from_bytes(bytes((0x12, 0x34, 0x56, 0x78))[-size:] if size > 1 else b"\x12", "big")
    return pattern if least <= pattern <= most else least + (most - least) * 2 // 3
