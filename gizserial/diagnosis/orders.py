"""Byte orders of P0 as faulty firmware has them: numbers, bit sections or flags little-endian (§5.4, §5.5).

The order is judged by what an MCU does: each hypothesis predicts the status after every control, from the
status before it; one that predicts all of them is named.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from gizserial.datapoints import Block, Raw
from gizserial.errors import BodyError
from gizserial.layout import UINT_SIZES, DataType, Layout
from gizserial.p0 import ACTIONS, Meaning, P0Codec
from gizserial.product import DataPoint

NUMBERS: Final = "numbers"
BITS: Final = "bit sections"
FLAGS: Final = "flags"
_PARTS: Final = (NUMBERS, BITS, FLAGS)

MOST_NUMBERS: Final = 4
"""Values of numbers that are sent, besides the first and the last bool."""


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """What is little-endian, and on which way."""

    parts: frozenset[str] = frozenset()
    takes: bool = True
    """In what it receives."""
    gives: bool = True
    """In what it sends."""

    @property
    def words(self) -> str:
        """The fault, as the end of a sentence about the MCU."""
        parts = " and ".join(part for part in _PARTS if part in self.parts)
        way = "reads and writes" if self.takes and self.gives else "reads" if self.takes else "writes"
        return f"{way} {parts} little-endian"


RIGHT: Final = Order()


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One control and the status before and after it, as P0 bytes."""

    before: bytes
    control: bytes
    after: bytes


def hypotheses() -> Iterator[Order]:
    """The right order first, then those with the fewest faults."""
    yield RIGHT
    for count in range(1, len(_PARTS) + 1):
        for parts in itertools.combinations(_PARTS, count):
            for takes, gives in ((True, True), (False, True), (True, False)):
                yield Order(frozenset(parts), takes, gives)


def reordered(p0: bytes, codec: P0Codec, parts: frozenset[str], *, received: bool) -> bytes:
    """A P0 with some of its parts turned around.

    :param received: ``p0`` is what such a peer sent, and not what is right.
    :raises BodyError: it is too short, or its action has no values.
    """
    points = codec.data_points
    spec = ACTIONS.get(p0[0]) if p0 else None
    if spec is None or spec.meaning not in {Meaning.CONTROL, Meaning.REPORT, Meaning.READ_REPLY}:
        raise BodyError("this P0 has no values")
    out = bytearray(p0)
    start = 1
    fixed = points.product.layout is Layout.FIXED
    block: Block = points.dev_status
    if spec.meaning is Meaning.CONTROL or not fixed:
        start += points.flag_bytes
        flags = points.parse_flags(p0[1:])
        if FLAGS in parts:
            out[1:start] = out[1:start][::-1]
            if received:
                flags = points.parse_flags(bytes(out[1:start]))
        block = points.writable if fixed else points.flagged(flags & points.known_flags)
    if len(p0) < start + block.size:
        raise BodyError("this P0 is too short")
    for low, high in {(slot.start, slot.end) for slot in block.slots if _turns(slot.point, parts)}:
        out[start + low : start + high] = out[start + low : start + high][::-1]
    return bytes(out)


def _turns(point: DataPoint, parts: frozenset[str]) -> bool:
    return (BITS in parts) if point.is_bits else (NUMBERS in parts and point.data_type in UINT_SIZES)


def values(p0: bytes, codec: P0Codec, order: Order, *, gives: bool = True) -> dict[str, Raw]:
    """What a P0 says in that order.

    :param gives: The peer sent it; otherwise it received it.
    :raises BodyError: as :func:`reordered`.
    """
    if order.gives if gives else order.takes:
        p0 = reordered(p0, codec, order.parts, received=True)
    return codec.parse(p0).raw or {}


def oddities(p0: bytes, codec: P0Codec, order: Order) -> int:
    """How many values of a status are out of the definition's range, and whether padding bits are set."""
    read = values(p0, codec, order)
    strange = sum(bool(codec.data_points.product.point(name).warnings(raw)) for name, raw in read.items())
    right = reordered(p0, codec, order.parts, received=True) if order.gives else p0
    return strange + (codec.reply(read)[1:] != right[1:])


def predicts(step: Step, codec: P0Codec, order: Order) -> bool:
    """Whether an MCU of that order does what this one did.

    Of the right order only the points of the control are looked at: others may move by themselves.
    """
    product = codec.data_points.product
    try:
        before, after = values(step.before, codec, order), values(step.after, codec, order)
    except BodyError:
        return False
    asked = _asked(step, codec, order)  # what it cannot read it does not carry out
    for name, raw in asked.items():
        point = product.point(name)
        if point.writable and not point.warnings(raw):
            before[name] = raw
    names = asked if order == RIGHT else [point.name for point in product.writable]
    return all(before.get(name) == after.get(name) for name in names)


def _asked(step: Step, codec: P0Codec, order: Order) -> dict[str, Raw]:
    try:
        return values(step.control, codec, order, gives=False)
    except BodyError:
        return {}


def _shown(steps: Sequence[Step], codec: P0Codec, order: Order) -> bool:
    """Whether there is more for it than that nothing was carried out.

    Some control that means another thing in this order was carried out in this order's sense, or the status
    has values that only this order makes legal.
    """
    if order == RIGHT:
        return True
    product = codec.data_points.product
    for step in steps:
        asked, before = _asked(step, codec, order), values(step.before, codec, order)
        taken = {n: r for n, r in asked.items() if not product.point(n).warnings(r)}
        changes = any(before.get(name) != raw for name, raw in taken.items())
        other = asked != _asked(step, codec, RIGHT) or not predicts(step, codec, RIGHT)
        if changes and other:
            return True
    status = steps[0].before
    return order.gives and oddities(status, codec, order) < oddities(status, codec, RIGHT)


def judge(steps: Sequence[Step], codec: P0Codec) -> list[Order]:
    """The orders that explain every step: :data:`RIGHT` alone when it does, none when nothing does."""
    fitting = [
        (max(oddities(step.before, codec, order) for step in steps), order)
        for order in hypotheses()
        if all(predicts(step, codec, order) for step in steps) and _shown(steps, codec, order)
    ]
    if not fitting:
        return []
    least = min(count for count, _order in fitting)
    best = [order for count, order in fitting if count == least]
    followed = any(order == RIGHT for _count, order in fitting)
    if RIGHT in best or (followed and least):
        return [RIGHT]
    if not any(step.control for step in steps):
        best = [order for order in best if not order.takes]  # nothing was asked, so nothing was misread
    fewest = min((len(order.parts) for order in best), default=0)
    return [order for order in best if len(order.parts) == fewest]


Question: TypeAlias = tuple[DataPoint, int, bool]
"""A point to control, its raw value, and ``high`` of :func:`control`."""


def questions(codec: P0Codec, status: Mapping[str, Raw]) -> list[Question]:
    """Points to control and raw values that show the order: legal, new, another one when turned around."""
    product = codec.data_points.product
    chosen: list[Question] = []
    for point in product.writable:
        if point.scale is not None and point.size > 1 and len(chosen) < MOST_NUMBERS:
            chosen += [(point, raw, False) for raw in _telling(point, status.get(point.name))]
    chosen += _escaped(product.writable, chosen, status)
    if product.flag_bytes < 2 and not any(section.size > 1 for section in product.sections):
        return chosen  # there is no order to see
    bools = [point for point in product.writable if point.data_type is DataType.BOOL]
    ends = {point.name: point for point in (*bools[:1], *bools[-1:])}
    for point in ends.values():
        now = 1 if status.get(point.name) else 0
        # Whatever its mirror image holds, one of these leaves it alone here and changes it there.
        chosen += [(point, 1 - now, False), (point, now, True), (point, 1 - now, True), (point, now, False)]
    return chosen


def _escaped(
    points: Iterable[DataPoint], chosen: Sequence[Question], status: Mapping[str, Raw]
) -> list[Question]:
    """A number with an FF, for the escape in the payload; none when one of the chosen has it."""
    if any(0xFF in raw.to_bytes(point.size, "big") for point, raw, _high in chosen):
        return []
    for point in points:
        if point.scale is not None and point.size and point.scale.raw_max >= 0xFF:
            raw = point.scale.raw_max & ~0xFF | 0xFF
            raw = raw if raw <= point.scale.raw_max else raw - 0x100
            if raw >= point.scale.raw_min and raw != status.get(point.name):
                return [(point, raw, False)]
    return []


def _telling(point: DataPoint, now: Raw | None) -> list[int]:
    """A value that is illegal when it is turned around, and one that is legal then too."""
    low, high = (point.scale.raw_min, point.scale.raw_max) if point.scale is not None else (0, 0)
    middle = (low + high) // 2
    near = (low + 1, high - 1, low + 2, middle, middle + 1, low, high)
    turnable = (_turned(raw, point.size) for raw in near)
    tries = [*near, 0x0100, 0x0102, 0x0201, *turnable]
    legal = [raw for raw in tries if low <= raw <= high and raw != now and _turned(raw, point.size) != raw]
    beyond = [raw for raw in legal if not low <= _turned(raw, point.size) <= high]
    within = [raw for raw in legal if low <= _turned(raw, point.size) <= high]
    return [*beyond[:1], *within[:1]]


def _turned(raw: int, size: int) -> int:
    return int.from_bytes(raw.to_bytes(size, "big"), "little")


def control(
    codec: P0Codec, point: DataPoint, raw: int, status: Mapping[str, Raw], *, high: bool = False
) -> bytes:
    """A control of one point.

    Fixed length: the positions of the others, which mean nothing, hold legal values that are not theirs, so
    that a firmware that looks at the wrong place shows which place that is.

    :param high: The other values of enums differ in their highest bit, otherwise in their lowest.
    """
    others = {
        other.name: _another(other, status.get(other.name, 0), high=high)
        for other in codec.data_points.product.writable
    }
    return with_values(codec.control({point.name: raw}), codec, {**others, point.name: raw})


def with_values(control: bytes, codec: P0Codec, raw: Mapping[str, Raw]) -> bytes:
    """A control whose positions hold these values, those without a flag too; variable length: as it is."""
    points = codec.data_points
    if points.product.layout is not Layout.FIXED:
        return control
    values = {point.name: raw[point.name] for point in points.product.writable}
    return control[: 1 + points.flag_bytes] + points.writable.build(values)


def _another(point: DataPoint, now: Raw, *, high: bool) -> Raw:
    if not isinstance(now, int) or point.data_type is DataType.BINARY:
        return now
    if point.scale is None:
        most = 1 if point.data_type is DataType.BOOL else len(point.texts) - 1
        bits = [now ^ 1 << bit for bit in range(point.width)]
        legal = [raw for raw in bits if raw <= most] or [0]
        return legal[-1] if high else legal[0]
    return point.scale.raw_min if now == point.scale.raw_max else point.scale.raw_max
