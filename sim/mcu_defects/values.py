"""Defects of data points: how controls are taken (serial.md §5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gizserial.commands import Command
from gizserial.datapoints import Raw
from gizserial.framing import Frame, Item
from gizserial.p0 import Meaning, raw_from_mcu
from gizserial.product import DataPoint, DataType, Product
from sim.mcu_defects.hooks import controlling, is_control, is_report, paid, parsed, receiving
from sim.mcu_defects.machine import DefectiveMcu
from sim.mcu_defects.model import Fault, Fits, Make, Out, has_writable, is_fixed, is_variable, row

_NUMBERS: Final = frozenset({DataType.UINT8, DataType.UINT16, DataType.UINT32})


def _each(change: Callable[[DataPoint, Raw], Raw]) -> Make:
    """Each value of a control is taken in another way."""
    return controlling(
        lambda mcu, raw: {name: change(mcu.product.point(name), value) for name, value in raw.items()}
    )


def _some(kind: DataType) -> Fits:
    return lambda product: any(point.data_type is kind for point in product.writable)


def _number(test: Callable[[DataPoint], bool]) -> Fits:
    return lambda product: any(p.data_type in _NUMBERS and test(p) for p in product.writable)


def _bool_inverted(point: DataPoint, value: Raw) -> Raw:
    return 1 - value if point.data_type is DataType.BOOL and isinstance(value, int) else value


def _enum_off(point: DataPoint, value: Raw) -> Raw:
    if point.data_type is not DataType.ENUM or not isinstance(value, int):
        return value
    return max(0, value - 1)


def _enum_short(point: DataPoint, value: Raw) -> Raw:
    if point.data_type is not DataType.ENUM or not isinstance(value, int) or point.width < 2:
        return value
    return value & ((1 << (point.width - 1)) - 1)


def _swapped(point: DataPoint, value: Raw) -> Raw:
    if point.size < 2 or not isinstance(value, int):
        return value
    return int.from_bytes(value.to_bytes(point.size, "little"), "big")


def _signed(point: DataPoint, value: Raw) -> Raw:
    if point.data_type not in _NUMBERS or not isinstance(value, int):
        return value
    top = 1 << (8 * point.size - 1)
    return 0 if value >= top else value


def _addition_forgotten(point: DataPoint, value: Raw) -> Raw:
    if point.scale is None or not isinstance(value, int) or not point.scale.addition:
        return value
    return max(0, min(point.raw_limit, int(value + point.scale.addition / point.scale.ratio)))


def _ratio_ignored(point: DataPoint, value: Raw) -> Raw:
    if point.scale is None or not isinstance(value, int) or point.scale.ratio == 1:
        return value
    return max(0, min(point.raw_limit, int(value * point.scale.ratio)))


def _byte_only(point: DataPoint, value: Raw) -> Raw:
    return value & 0xFF if point.data_type in _NUMBERS and isinstance(value, int) else value


def _saturated(point: DataPoint, value: Raw) -> Raw:
    if point.scale is None or not isinstance(value, int):
        return value
    plain = point.scale.ratio == 1 and point.scale.addition == 0
    return min(value, point.scale.raw_max - (1 if plain else 2))


def _binary_short(_point: DataPoint, value: Raw) -> Raw:
    return value[:-1] + b"\0" if isinstance(value, bytes) else value


def _c_string(point: DataPoint, value: Raw) -> Raw:
    return value.split(b"\0", 1)[0].ljust(point.size, b"\0") if isinstance(value, bytes) else value


def _sections(mcu: DefectiveMcu, payload: bytes, start: int, change: Callable[[bytes], bytes]) -> bytes:
    """Bit sections of a fixed-length block that begins at ``start``, changed."""
    body = bytearray(payload)
    for section in mcu.product.sections:
        first, last = start + section.base, start + section.base + section.size
        if last <= len(body):
            body[first:last] = change(bytes(body[first:last]))
    return bytes(body)


def _bit_part(mcu: DefectiveMcu, payload: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The bit part of a variable-length body, changed."""
    points = mcu.p0.data_points
    start = 1 + points.flag_bytes
    flags = int.from_bytes(payload[1:start], "big")
    size = (sum(point.width for point in points.points_of(flags)) + 7) // 8
    return payload[:start] + change(payload[start : start + size]) + payload[start + size :]


def _bits(change: Callable[[bytes], bytes]) -> Make:
    """Bit sections stand otherwise, in what is received and in what is sent."""

    class Bits(Fault):
        def _changed(self, frame: Frame) -> Frame:
            mcu = self.mcu
            if is_variable(mcu.product):
                return paid(frame, _bit_part(mcu, frame.payload, change))
            start = 1 + (mcu.product.flag_bytes if is_control(frame) else 0)
            return paid(frame, _sections(mcu, frame.payload, start, change))

        def received(self, item: Item, now: float) -> list[Item | bytes]:
            if isinstance(item, Frame) and is_control(item):
                # The writable section only: what a control has no room for is not there.
                return [self._changed(item)]
            return super().received(item, now)

        def sent(self, frame: Frame, now: float) -> list[Out]:
            # Only reports: reads are answered by other code, which is right. Otherwise nobody would notice.
            return [Out(self._changed(frame))] if is_report(frame) else super().sent(frame, now)

    return Bits


def _reversed_bits(data: bytes) -> bytes:
    return bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)


def _flags(change: Callable[[bytes], bytes]) -> Make:
    """The flags of a control are read otherwise."""

    def changed(mcu: DefectiveMcu, frame: Frame) -> Frame:
        size = mcu.product.flag_bytes
        if not is_control(frame) or len(frame.payload) < 1 + size:
            return frame
        flags = change(frame.payload[1 : 1 + size])
        return paid(frame, frame.payload[:1] + flags + frame.payload[1 + size :])

    return receiving(changed)


def _first_only(raw: dict[str, Raw]) -> dict[str, Raw]:
    return dict(list(raw.items())[:1])


def _without_last(mcu: DefectiveMcu, raw: dict[str, Raw]) -> dict[str, Raw]:
    raw.pop(mcu.product.writable[-1].name, None)
    return raw


def _empty_clears(mcu: DefectiveMcu, frame: Frame) -> Frame:
    p0 = parsed(mcu, frame) if is_control(frame) else None
    if p0 is not None and p0.meaning is Meaning.CONTROL and not p0.raw:
        for point in mcu.product.writable:
            mcu.role.set_raw(
                point.name, bytes(point.size) if point.data_type is DataType.BINARY else 0, now=mcu.now
            )
    return frame


class _TakesBadEnum(Fault):
    """An enum index without a text is taken."""

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and is_control(item):
            p0 = parsed(self.mcu, item)
            for name, value in (p0.raw or {}).items() if p0 is not None else ():
                point = self.mcu.product.point(name)
                if point.data_type is DataType.ENUM and isinstance(value, int) and value >= len(point.texts):
                    self.mcu.role.set_raw(name, value, now=now)
        return super().received(item, now)


class _TailRefused(Fault):
    """Controls that are longer than expected are acked and forgotten."""

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and is_control(item):
            p0 = parsed(self.mcu, item)
            if p0 is not None and any("after the last field" in warning for warning in p0.warnings):
                self.mcu.say(Frame(Command.P0_TO_MCU + 1, item.sn))
                return []
        return super().received(item, now)


def _all_bits_there(mcu: DefectiveMcu, frame: Frame) -> Frame:
    """Reads the bit part as if every writable bit were in it."""
    if not is_control(frame):
        return frame
    points = mcu.p0.data_points
    start = 1 + points.flag_bytes
    flags = int.from_bytes(frame.payload[1:start], "big")
    flagged = {point.name for point in points.points_of(flags)}
    bits = [point for point in mcu.product.writable if point.is_bits]
    size = (sum(p.width for p in bits if p.name in flagged) + 7) // 8
    part = int.from_bytes(frame.payload[start : start + size], "big")
    taken: dict[str, Raw] = {}
    place = 0
    for point in bits:
        if point.name in flagged:
            taken[point.name] = part >> place & point.raw_limit
        place += point.width
    p0 = parsed(mcu, frame)
    rest = dict((p0.raw or {}) if p0 is not None else {})
    legal = {n: v for n, v in taken.items() if not mcu.product.point(n).warnings(v)}
    return paid(frame, mcu.p0.control({**rest, **legal}))


def _raw_hangs(mcu: DefectiveMcu, frame: Frame) -> Frame | None:
    if frame.command == Command.P0_TO_MCU and frame.payload[:1] == b"\x05":
        mcu.deaf(8.0)
    return frame


def _raw_unacked(_mcu: DefectiveMcu, frame: Frame) -> Frame | None:
    return None if frame.command == Command.P0_TO_MCU and frame.payload[:1] == b"\x05" else frame


def _raw_as_control(mcu: DefectiveMcu, frame: Frame) -> Frame:
    if frame.command == Command.P0_TO_MCU and frame.payload[:1] == b"\x05" and len(frame.payload) > 4:
        action = b"\x11" if is_variable(mcu.product) else b"\x01"
        return paid(frame, action + frame.payload[1:])
    return frame


class _RawBack(Fault):
    """Sends raw data with the action of the other direction."""

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        if not is_report(frame):
            return [Out(frame)]
        data = raw_from_mcu(b"\x01\x02")
        return [Out(frame), Out(Frame(Command.P0_FROM_MCU, frame.sn, b"\x05" + data[1:]), 0.01)]


def _bits_over_a_byte(product: Product) -> bool:
    if is_fixed(product):
        return any(section.size > 1 for section in product.sections)
    return sum(point.width for point in product.points) > 8


_SCALE: Final = "y = x * ratio + addition, and back"

DEFECTS: Final = (
    row(
        "bool-inverted",
        "takes 1 for off",
        "bool is 1 for on",
        "5.6",
        _each(_bool_inverted),
        fits=_some(DataType.BOOL),
    ),
    row(
        "enum-off-by-one",
        "counts enum values from 1",
        "the value is the index, from 0",
        "5.2",
        _each(_enum_off),
        fits=_some(DataType.ENUM),
    ),
    row(
        "enum-one-bit-short",
        "gives enums one bit too few",
        "as many bits as the largest index needs",
        "5.2",
        _each(_enum_short),
        fits=lambda product: any(p.texts and p.width > 1 for p in product.writable),
    ),
    row(
        "bit-section-little-endian",
        "reads and writes bit sections in little-endian order",
        "a bit section is one big-endian integer",
        "5.4",
        _bits(lambda data: data[::-1]),
        fits=_bits_over_a_byte,
    ),
    row(
        "bit-order-reversed",
        "counts bits from the top of a byte",
        "the first point is the lowest bit",
        "5.4",
        _bits(_reversed_bits),
        fits=_some(DataType.BOOL),
    ),
    row(
        "flags-little-endian",
        "reads the flags of a control in little-endian order",
        "flags are big-endian",
        "5.4",
        _flags(lambda data: data[::-1]),
        fits=lambda product: product.flag_bytes > 1 and has_writable(product),
    ),
    row(
        "number-little-endian",
        "reads numbers in little-endian order",
        "numbers are big-endian",
        "5.2",
        _each(_swapped),
        fits=_number(lambda p: p.size > 1),
    ),
    row(
        "signed-scaling",
        "takes raw values for signed",
        "the wire carries unsigned values",
        "5.2",
        _each(_signed),
        fits=_number(lambda p: p.scale is not None and p.scale.raw_max >= 1 << (8 * p.size - 1)),
    ),
    row(
        "addition-forgotten",
        "adds the addition twice",
        _SCALE,
        "5.6",
        _each(_addition_forgotten),
        fits=_number(lambda p: p.scale is not None and p.scale.addition != 0),
    ),
    row(
        "ratio-ignored",
        "keeps the real value where the raw one belongs",
        _SCALE,
        "5.6",
        _each(_ratio_ignored),
        fits=_number(lambda p: p.scale is not None and p.scale.ratio != 1),
    ),
    row(
        "control-max-truncated",
        "keeps 16-bit numbers in 8 bits",
        "each type has its size",
        "5.2",
        _each(_byte_only),
        fits=_number(lambda p: p.scale is not None and p.scale.raw_max > 0xFF),
    ),
    row(
        "number-saturates-early",
        "limits numbers below their maximum",
        "the maximum is legal",
        "5.6",
        _each(_saturated),
        fits=_number(lambda _p: True),
    ),
    row(
        "binary-truncated",
        "loses the last byte of binary points",
        "binary points have their full size",
        "5.2",
        _each(_binary_short),
        fits=_some(DataType.BINARY),
    ),
    row(
        "binary-stops-at-zero",
        "takes binary points for C strings",
        "binary points carry any byte",
        "5.2",
        _each(_c_string),
        fits=_some(DataType.BINARY),
    ),
    row(
        "control-ignores-flags",
        "takes every position of a control",
        "only flagged points are meant",
        "5.4",
        _flags(lambda data: b"\xff" * len(data)),
        fits=lambda p: is_fixed(p) and len(p.writable) > 1,
    ),
    row(
        "control-empty-clears",
        "clears everything when no flag is set",
        "no flag, no point",
        "5.4",
        receiving(_empty_clears),
        fits=has_writable,
    ),
    row(
        "control-only-first-flag",
        "looks at the first flag only",
        "each flagged point is set",
        "5.7",
        controlling(lambda _mcu, raw: _first_only(raw)),
        fits=lambda product: len(product.writable) > 1,
    ),
    row(
        "control-ignores-last-point",
        "forgets the last point",
        "each flagged point is set",
        "5.7",
        controlling(_without_last),
        fits=has_writable,
    ),
    row(
        "number-out-of-range-taken",
        "takes numbers out of their range",
        "values outside the range are not taken",
        "5.6",
        options={"takes_out_of_range": True},
        fits=_number(lambda p: p.scale is not None and p.scale.raw_max < p.raw_limit),
    ),
    row(
        "enum-out-of-range-taken",
        "takes enum indices that do not exist",
        "the flagged point is ignored",
        "5.6",
        _TakesBadEnum,
        fits=lambda product: any(p.texts and len(p.texts) <= p.raw_limit for p in product.writable),
    ),
    row(
        "control-tail-refused",
        "refuses controls with a tail",
        "a tail is ignored",
        "5.4",
        _TailRefused,
        fits=has_writable,
    ),
    row(
        "bit-part-includes-unflagged",
        "reads the bit part as if every bit were in it",
        "only flagged points are in the bit part",
        "5.5",
        receiving(_all_bits_there),
        fits=lambda p: is_variable(p) and sum(q.is_bits for q in p.writable) > 1,
    ),
    row(
        "raw-data-crashes",
        "hangs after raw data",
        "raw data are acked",
        "4.18",
        receiving(_raw_hangs),
        fits=lambda _p: True,
    ),
    row(
        "raw-data-unacked",
        "does not ack raw data",
        "raw data are acked",
        "4.18",
        receiving(_raw_unacked),
        fits=lambda _p: True,
    ),
    row(
        "raw-data-taken-for-control",
        "takes raw data for a control",
        "the action says what it is",
        "4.18",
        receiving(_raw_as_control),
        fits=has_writable,
    ),
    row(
        "raw-data-wrong-action",
        "sends raw data with action 05",
        "06 is the MCU's",
        "4.18",
        _RawBack,
        fits=has_writable,
    ),
)
