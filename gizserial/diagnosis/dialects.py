"""Frames as faulty firmware makes them: which fault explains every frame that was seen (serial.md §1).

A dialect is a way to escape, to count the length and to sum up. All of a table are tried on the same bytes;
one counts when it reads *all* of them, so a fault that shows in a few frames only is refuted or confirmed
by the others.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

from gizserial.commands import FRAMES
from gizserial.framing import HEADER, MIN_LENGTH, Frame

Place: TypeAlias = str
"""Where an FF stands: ``length``, ``sn``, ``payload`` or ``checksum``."""
PLACES: Final[tuple[Place, ...]] = ("length", "sn", "payload", "checksum")

_BOUNDARIES: Final = 12
"""Ends that are tried for one frame: a bare FF FF inside it is none."""
_LONGEST: Final = 4096 * 2
_ENOUGH: Final = 3
"""Different frames that show a rule."""
_MOST: Final = 40
"""Bursts that are looked at."""


@dataclasses.dataclass(frozen=True, slots=True)
class LengthRule:
    """How the length field is made."""

    words: str
    make: Callable[[int, int], int]
    """Logical bytes from cmd to checksum, and escapes → the number."""
    order: str = "big"


@dataclasses.dataclass(frozen=True, slots=True)
class SumRule:
    """How the checksum is made."""

    words: str
    make: Callable[[bytes, int], int]
    """Logical bytes from the length to the last of the payload, and escapes → the byte."""


def _xor(data: bytes) -> int:
    result = 0
    for byte in data:
        result ^= byte
    return result


def _crc(data: bytes, polynomial: int, start: int = 0, *, reflected: bool = False) -> int:
    crc = start
    for byte in data:
        crc ^= byte
        for _ in range(8):
            if reflected:
                crc = crc >> 1 ^ polynomial if crc & 1 else crc >> 1
            else:
                crc = (crc << 1 ^ polynomial if crc & 0x80 else crc << 1) & 0xFF
    return crc


_RIGHT: Final = "right"
UNKNOWN: Final = "unknown"
"""Reads whatever stands there."""

LENGTHS: Final[Mapping[str, LengthRule]] = MappingProxyType(
    {
        _RIGHT: LengthRule("", lambda n, _e: n),
        "little-endian": LengthRule("the length is little-endian", lambda n, _e: n, "little"),
        "one-short": LengthRule(
            "the length is one too small, as if the checksum did not count", lambda n, _e: n - 1
        ),
        "one-long": LengthRule("the length is one too large", lambda n, _e: n + 1),
        "with-itself": LengthRule("the length counts its own two bytes", lambda n, _e: n + 2),
        "whole-frame": LengthRule("the length counts the whole frame, header and all", lambda n, _e: n + 4),
        "payload-only": LengthRule("the length counts the payload only", lambda n, _e: n - MIN_LENGTH),
        "with-escapes": LengthRule("the length counts the escapes (the 55 after FF)", lambda n, e: n + e),
        UNKNOWN: LengthRule(
            "the length is wrong, and no mistake that is known here explains it", lambda n, _e: n
        ),
    }
)
SUMS: Final[Mapping[str, SumRule]] = MappingProxyType(
    {
        _RIGHT: SumRule("", lambda b, _e: sum(b)),
        "with-header": SumRule("the checksum includes the header FF FF", lambda b, _e: sum(b) + 0x1FE),
        "without-length": SumRule("the checksum leaves the length out", lambda b, _e: sum(b[2:])),
        "without-length-and-command": SumRule(
            "the checksum leaves length and command out", lambda b, _e: sum(b[3:])
        ),
        "payload-only": SumRule("the checksum is over the payload only", lambda b, _e: sum(b[6:])),
        "command-only": SumRule("the checksum is the command byte only", lambda b, _e: b[2]),
        "without-last": SumRule("the checksum leaves out the last byte before it", lambda b, _e: sum(b[:-1])),
        "with-escapes": SumRule(
            "the checksum includes the escapes (the 55 after FF)", lambda b, e: sum(b) + 0x55 * e
        ),
        "xor": SumRule("the checksum is an XOR instead of a sum", lambda b, _e: _xor(b)),
        "xor-without-length": SumRule(
            "the checksum is an XOR that leaves the length out", lambda b, _e: _xor(b[2:])
        ),
        "negative": SumRule("the checksum is the two's complement of the sum", lambda b, _e: -sum(b)),
        "inverted": SumRule("the checksum is the inverted sum", lambda b, _e: ~sum(b)),
        "crc8": SumRule("the checksum is a CRC-8 (polynomial 07)", lambda b, _e: _crc(b, 0x07)),
        "crc8-maxim": SumRule(
            "the checksum is a CRC-8 of the Maxim kind (polynomial 31, reflected)",
            lambda b, _e: _crc(b, 0x8C, reflected=True),
        ),
        "crc8-31": SumRule(
            "the checksum is a CRC-8 (polynomial 31, start FF)", lambda b, _e: _crc(b, 0x31, 0xFF)
        ),
        "plus-one": SumRule("the checksum is one too large", lambda b, _e: sum(b) + 1),
        "minus-one": SumRule(
            "the checksum is one too small, as if one FF of the header counted", lambda b, _e: sum(b) - 1
        ),
        "zero": SumRule("the checksum is always 00", lambda _b, _e: 0),
        UNKNOWN: SumRule(
            "the checksum is wrong, and no mistake that is known here explains it", lambda b, _e: sum(b)
        ),
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class Dialect:
    """One way to make frames."""

    length: str = _RIGHT
    total: str = _RIGHT
    bare: frozenset[Place] = frozenset()
    """Where an FF is not escaped."""

    @property
    def deviations(self) -> int:
        """How many of its three rules are wrong."""
        return (self.length != _RIGHT) + (self.total != _RIGHT) + bool(self.bare)

    def faults(self, *, everywhere: bool) -> list[tuple[str, str]]:
        """Code and words of each rule that is wrong.

        :param everywhere: No FF that was seen was escaped.
        """
        found = []
        if self.bare:
            places = ", ".join(place for place in PLACES if place in self.bare)
            where = f" (seen in: {places})" if everywhere else f" in: {places}"
            never = "no FF is escaped" if everywhere else "the escape 55 after FF is missing"
            found.append(("escape-missing", never + where))
        if self.length != _RIGHT:
            found.append((f"length-{self.length}", LENGTHS[self.length].words))
        if self.total != _RIGHT:
            found.append((f"checksum-{self.total}", SUMS[self.total].words))
        return found

    def encode(self, frame: Frame) -> bytes:
        """The frame as a sender of this dialect makes it."""
        body = bytes((frame.command, frame.sn)) + frame.flags.to_bytes(2, "big") + frame.payload
        rule = LENGTHS[self.length]
        size = len(body) + 1
        # The escapes that count are those of everything before the checksum and of the right length.
        escapes = (size.to_bytes(2, "big") + body).count(0xFF)
        field = max(0, rule.make(size, escapes)).to_bytes(2, "little" if rule.order == "little" else "big")
        logical = field + body
        logical += bytes((SUMS[self.total].make(logical, escapes) & 0xFF,))
        wire = bytearray(HEADER)
        for index, byte in enumerate(logical):
            wire.append(byte)
            if byte == 0xFF and _place(index, index == len(logical) - 1) not in self.bare:
                wire.append(0x55)
        return bytes(wire)

    def read(self, segment: bytes) -> Reading | None:
        """A frame from the length to the checksum; None when this dialect does not make it."""
        logical = bytearray()
        escapes, bare, position = 0, set(), 0
        while position < len(segment):
            byte = segment[position]
            position += 1
            logical.append(byte)
            if byte != 0xFF:
                continue
            last = position == len(segment) or (
                "checksum" not in self.bare and position == len(segment) - 1 and segment[position] == 0x55
            )
            place = _place(len(logical) - 1, last)
            if place in self.bare:
                bare.add(place)
            elif position < len(segment) and segment[position] == 0x55:
                escapes += not last
                position += 1
            else:
                return None
        if len(logical) < MIN_LENGTH + 2:
            return None
        rule = LENGTHS[self.length]
        told = int.from_bytes(logical[:2], "little" if rule.order == "little" else "big")
        if self.length != UNKNOWN and told != rule.make(len(logical) - 2, escapes):
            return None
        total = SUMS[self.total].make(bytes(logical[:-1]), escapes) & 0xFF
        if self.total != UNKNOWN and total != logical[-1]:
            return None
        if logical[2] not in FRAMES or logical[4]:
            return None
        frame = Frame(logical[2], logical[3], bytes(logical[6:-1]), logical[4] << 8 | logical[5])
        return Reading(frame, HEADER + segment, frozenset(bare), escapes > 0 or segment.endswith(b"\xff\x55"))


RIGHT: Final = Dialect()


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """One frame as a dialect reads it."""

    frame: Frame
    wire: bytes
    bare: frozenset[Place]
    escaped: bool
    """Some FF of it had its 55."""


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """A dialect and what it makes of all bytes."""

    dialect: Dialect
    readings: tuple[Reading, ...]
    covered: int
    total: int

    @property
    def complete(self) -> bool:
        """Every byte is in a frame, and every fault of the dialect was seen."""
        seen = frozenset(place for reading in self.readings for place in reading.bare)
        return self.covered == self.total and bool(self.readings) and seen == self.dialect.bare

    @property
    def faults(self) -> list[tuple[str, str]]:
        """Code and words of each fault."""
        return self.dialect.faults(everywhere=not any(reading.escaped for reading in self.readings))


def _place(index: int, last: bool) -> Place:
    if last and index >= MIN_LENGTH:
        return "checksum"
    return "length" if index < 2 else "sn" if index == 3 else "payload"


def explain(bursts: Sequence[bytes], dialect: Dialect) -> Explanation:
    """Read bursts of bytes, each of which begins and ends where the line was silent.

    Ends at the first byte that is in no frame: a dialect that does not read everything explains nothing, and
    the time stays linear in what is read.
    """
    readings: list[Reading] = []
    covered = 0
    for burst in bursts:
        position = 0
        while position < len(burst):
            found = burst.startswith(HEADER, position)
            reading = _first(burst, position + len(HEADER), dialect) if found else None
            if reading is None:
                return Explanation(dialect, tuple(readings), covered, sum(map(len, bursts)))
            readings.append(reading)
            covered += len(reading.wire)
            position += len(reading.wire)
    return Explanation(dialect, tuple(readings), covered, sum(map(len, bursts)))


def _first(burst: bytes, start: int, dialect: Dialect) -> Reading | None:
    end, tried = start + MIN_LENGTH, 0
    while tried < _BOUNDARIES:
        tried += 1
        end = burst.find(HEADER, end + 1)
        stop = end if end >= 0 else len(burst)
        reading = dialect.read(burst[start:stop]) if stop - start <= _LONGEST else None
        if reading is not None or end < 0:
            return reading
    return None


def _dialects(deviations: int) -> Iterator[Dialect]:
    subsets = [
        frozenset(places)
        for count in range(len(PLACES) + 1)
        for places in itertools.combinations(PLACES, count)
    ]
    for length, total, bare in itertools.product(LENGTHS, SUMS, subsets):
        dialect = Dialect(length, total, bare)
        if dialect.deviations == deviations and UNKNOWN not in {length, total}:
            yield dialect


def _mostly_wrong(explanation: Explanation) -> bool:
    """Whether it is a rule that is wrong, and not some frames: at most a quarter may be right by chance."""
    readings = explanation.readings
    wrong = [reading.wire for reading in readings if reading.wire != reading.frame.encode()]
    return len(set(wrong)) >= _ENOUGH and len(wrong) * 4 >= len(readings) * 3


def search(bursts: Sequence[bytes]) -> list[Explanation]:
    """The dialects with the fewest faults that read everything; several when the bytes do not decide."""
    looked_at = [burst[:_LONGEST] for burst in bursts if burst][:_MOST]
    for deviations in (0, 1, 2):
        found = [
            explanation
            for dialect in _dialects(deviations)
            if (explanation := explain(looked_at, dialect)).complete
        ]
        if found:
            return found
    for dialect in (Dialect(total=UNKNOWN), Dialect(length=UNKNOWN)):
        explanation = explain(looked_at, dialect)
        if explanation.complete and _mostly_wrong(explanation):
            return [explanation]
    return []


def single_faults() -> list[Dialect]:
    """The right dialect's neighbours that a peer may want to be spoken to in: one wrong sum or length."""
    return [d for d in _dialects(1) if not d.bare and "escapes" not in d.length + d.total]
