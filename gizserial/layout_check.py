"""Positions of a definition against each other and against the computed layout (serial.md §5.4, §7.3)."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Final

from gizserial.jsontext import Findings
from gizserial.layout import (
    BIT_TYPES,
    Access,
    DataType,
    Item,
    Layout,
    Place,
    bytes_for,
    computed,
    flag_bytes,
    sections,
    wire_order,
)
from gizserial.scale import shown

P0_RECOMMENDED: Final = 900
"""Bytes of P0 that every module takes (§7.2)."""
P0_LIMIT: Final = 0xFFFF - 5
"""Bytes of P0 that the length field of a frame can tell (§1.2)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """Where one data point is said to stand. What is missing or wrong is None.

    :ivar path: JSON path of the point.
    :ivar width: Bits of a bit point; 0 while unknown.
    :ivar size: Bytes of a byte point; 0 while unknown.
    :ivar given: It has a ``position``.
    """

    path: str
    id: int | None
    access: Access | None
    data_type: DataType | None
    width: int
    size: int
    given: bool
    byte_offset: int | None
    bit_offset: int | None
    unit: str | None

    @property
    def item(self) -> Item | None:
        """What the layout needs to know of it; None while something is missing."""
        if self.id is None or self.access is None or self.data_type is None or not (self.width or self.size):
            return None
        return Item(self.id, self.access, self.data_type, self.width, self.size)

    @property
    def is_bits(self) -> bool:
        """Whether it lives in a bit section."""
        return self.data_type in BIT_TYPES


@dataclasses.dataclass(frozen=True, slots=True)
class _Span:
    """Bits or bytes that are taken, and what to say of them."""

    start: int
    end: int
    path: str
    what: str


def check_layout(
    points: Sequence[Located], layout: Layout | None, path: str, findings: Findings
) -> list[Place] | None:
    """Resolved places of the points, in their order; findings for what is wrong or unusual.

    :param path: JSON path of the list of points.
    :returns: None when something needed is missing; there is a finding for it.
    """
    _check_ids(points, layout, path, findings)
    places = _fixed_places(points, findings) if layout is Layout.FIXED else [Place(0, 0)] * len(points)
    items = [point.item for point in points]
    known = [item for item in items if item is not None]
    if layout is None or places is None or len(known) < len(points):
        return None
    _check_size(list(zip(known, places, strict=True)), layout, path, findings)
    return places


def _check_ids(points: Sequence[Located], layout: Layout | None, path: str, findings: Findings) -> None:
    """The flag bit is the id: holes are legal, and so is any order, but neither is usual (R30)."""
    numbered = [(point.id, point) for point in points if point.id is not None]
    holes = list(_holes(sorted({number for number, _ in numbered})))
    if holes and len(numbered) == len(points):
        text = ", ".join(holes[:8]) + (", …" if len(holes) > 8 else "")
        message = f"ids are missing: {text}"
        findings.warning(path, message, "fine if points were deleted; else number them from 0 without gaps")
    for (before, _), (number, point) in itertools.pairwise(numbered):
        if number < before:
            message = f"the list is not in the order of ids: {shown(number)} comes after {shown(before)}"
            findings.warning(f"{point.path}.id", message, "points are taken in the order of their ids")
            break
    if layout is None:
        return
    ordered = sorted(numbered, key=lambda pair: pair[0])
    keys = [(wire_order(item, layout), point) for _, point in ordered if (item := point.item)]
    for (before_key, _), (key, point) in itertools.pairwise(keys):
        if key < before_key:
            usual = "type, then data_type" if layout is Layout.FIXED else "data_type"
            message = f"ids are usually numbered by {usual}; this point breaks that order"
            findings.warning(f"{point.path}.id", message, "check the ids against the firmware's definition")
            break


def _holes(ids: Sequence[int]) -> Iterable[str]:
    expected = 0
    for number in ids:
        if number > expected:
            last = number - 1
            yield shown(expected) if last == expected else f"{shown(expected)} to {shown(last)}"
        expected = number + 1


def _fixed_places(points: Sequence[Located], findings: Findings) -> list[Place] | None:
    """Positions of the file when there are any, else the computed ones (§7.3)."""
    given = [point for point in points if point.given]
    if given and len(given) < len(points):
        for point in points:
            if not point.given:
                message = "this point has no position, others have one"
                remedy = "give it its position, or export the definition again; positions are not guessed"
                findings.error(f"{point.path}.position", message, remedy)
    wanted = _computed(points)
    if not given:
        return wanted
    right = [_placed(point, findings) for point in points]
    placed = [(point, place) for point, place in zip(points, right, strict=True) if place is not None]
    if not (_check_bases(placed, findings) and _check_overlap(placed, findings)):
        return None
    places = [place for _, place in placed]
    if wanted is None or len(placed) < len(points):
        return None
    for point, usual in zip(points, wanted, strict=True):
        if (point.byte_offset, point.bit_offset) != (usual.byte_offset, usual.bit_offset):
            is_at = f"byte {shown(point.byte_offset)} bit {shown(point.bit_offset)}"
            would_be = f"byte {shown(usual.byte_offset)} bit {shown(usual.bit_offset)}"
            message = f"the position is {is_at}; by the order of the points it would be {would_be}"
            remedy = "the file's position is used; check it against the firmware's definition"
            findings.warning(f"{point.path}.position", message, remedy)
        if findings.full:
            break
    return places


def _computed(points: Sequence[Located]) -> list[Place] | None:
    items = [item for point in points if (item := point.item)]
    ids = [item.id for item in items]
    if len(items) < len(points) or len(set(ids)) < len(ids):
        return None
    places = computed(items)
    return [places[number] for number in ids]


def _placed(point: Located, findings: Findings) -> Place | None:
    """The place of a point with a position; None when it cannot be used."""
    if not point.given or point.data_type is None:
        return None
    where = f"{point.path}.position"
    unit = "bit" if point.is_bits else "byte"
    right = True
    if point.unit is not None and point.unit != unit:
        message = f"the unit of {point.data_type.value} is {unit}, this is {shown(point.unit)}"
        findings.error(f"{where}.unit", message, f"write {unit}, or mend data_type")
        right = False
    for key, offset in (("byte_offset", point.byte_offset), ("bit_offset", point.bit_offset)):
        if offset is not None and offset < 0:
            findings.error(f"{where}.{key}", f"must not be negative, is {shown(offset)}", "count from 0")
            right = False
    if point.byte_offset is None or point.bit_offset is None or not right:
        return None
    return Place(point.byte_offset, point.bit_offset if point.is_bits else 0)


def _check_bases(placed: Iterable[tuple[Located, Place]], findings: Findings) -> bool:
    """All bit points of one type stand in one section."""
    groups = collections.defaultdict(list)
    for point, place in placed:
        if point.is_bits and point.access is not None:
            groups[point.access].append((point, place))
    right = True
    for access, group in groups.items():
        base = collections.Counter(place.byte_offset for _, place in group).most_common(1)[0][0]
        for point, place in group:
            if place.byte_offset != base:
                others = f"other bit points of type {access.value} have {shown(base)}"
                message = f"byte_offset is {shown(place.byte_offset)}, {others}"
                remedy = "write where the bit section starts; bit_offset counts on beyond 7"
                findings.error(f"{point.path}.position.byte_offset", message, remedy)
                right = False
    return right


def _check_overlap(placed: Sequence[tuple[Located, Place]], findings: Findings) -> bool:
    """No bit and no byte belongs to two points, or to a bit section and a point."""
    complete = [(point, item, place) for point, place in placed if (item := point.item)]
    right = True
    spans = [
        _Span(place.byte_offset, place.byte_offset + item.size, point.path, _where(point))
        for point, item, place in complete
        if not point.is_bits
    ]
    for section in sections((item, place) for _, item, place in complete):
        bits = [
            _Span(place.bit_offset, place.bit_offset + item.width, point.path, _where(point))
            for point, item, place in complete
            if point.is_bits and item.access is section.access
        ]
        right &= _sweep(bits, findings)
        last = max(bits, key=lambda span: span.end)
        what = f"the bit section of {section.access.value}"
        spans.append(_Span(section.base, section.end, last.path, what))
    return _sweep(spans, findings) and right


def _where(point: Located) -> str:
    return point.path.removeprefix("$.entities[0].")


def _sweep(spans: list[_Span], findings: Findings) -> bool:
    right = True
    reach: _Span | None = None
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        if reach is not None and span.start < reach.end:
            message = f"{span.what} and {reach.what} overlap"
            findings.error(f"{span.path}.position", message, "mend the wrong position; none is guessed")
            right = False
        if reach is None or span.end > reach.end:
            reach = span
    return right


def _check_size(placed: list[tuple[Item, Place]], layout: Layout, path: str, findings: Findings) -> None:
    """P0 of a report, and of a control with everything flagged."""
    if layout is Layout.FIXED:
        writable = [(item, place) for item, place in placed if item.access is Access.WRITABLE]
        flags = flag_bytes(item.id for item, _ in writable)
        control = 1 + flags + _end(writable) if writable else 0
        size = max(control, 1 + _end(placed))
    else:
        flags = flag_bytes(item.id for item, _ in placed)
        bits = sum(item.width for item, _ in placed)
        size = 1 + flags + bytes_for(bits) + sum(item.size for item, _ in placed)
    message = f"with all data points P0 has {shown(size)} bytes"
    if size > P0_LIMIT:
        findings.error(path, f"{message}, no frame holds more than {P0_LIMIT}", "check ids and positions")
    elif size > P0_RECOMMENDED:
        remedy = "some modules do not pass on so much; make binaries shorter, or have fewer points"
        findings.warning(path, f"{message}, recommended are at most {P0_RECOMMENDED}", remedy)


def _end(placed: Sequence[tuple[Item, Place]]) -> int:
    ends = [section.end for section in sections(placed)]
    ends += [place.byte_offset + item.size for item, place in placed if item.data_type not in BIT_TYPES]
    return max(ends, default=0)
