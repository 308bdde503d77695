"""What a UART reads when the sender's baud rate is not its own: the bits, sampled at another rate.

Ten bits to a byte: a start bit (0), eight data bits with the lowest first, a stop bit (1). Between bytes the
line is 1.
"""

from __future__ import annotations

from typing import Final

BITS: Final = 10
OVERSAMPLING: Final = 16
"""A receiver looks at the line sixteen times per bit, so it sees an edge up to a sixteenth too late."""


def wire_bits(data: bytes) -> list[int]:
    """The levels of the line while these bytes are sent back to back."""
    return [level for byte in data for level in (0, *((byte >> place) & 1 for place in range(8)), 1)]


def resample(data: bytes, *, sent_at: float, read_at: float, phase: float = 0.0) -> bytes:
    """The bytes that a receiver at ``read_at`` baud makes of those sent at ``sent_at`` baud.

    A byte whose stop bit is not 1 is delivered all the same, as UARTs do; the next one begins at the next
    falling edge.

    :param phase: How late the receiver sees an edge: 0 to 1, in sixteenths of its bit.
    """
    bits = wire_bits(data)
    step = sent_at / read_at  # one bit of the receiver, in bits of the sender
    late = phase * step / OVERSAMPLING
    read = bytearray()
    edge = _falling_edge(bits, 0.0)
    while edge is not None:
        start = edge + late
        if _level(bits, start + step / 2):
            # Shorter than half a bit of the receiver: no start bit for it.
            edge = _falling_edge(bits, edge + 1)
            continue
        read.append(sum(_level(bits, start + step * (1.5 + place)) << place for place in range(8)))
        edge = _falling_edge(bits, start + step * 9.5)
    return bytes(read)


def _level(bits: list[int], at: float) -> int:
    place = int(at)
    return bits[place] if place < len(bits) else 1


def _falling_edge(bits: list[int], after: float) -> int | None:
    """Where the line next goes from 1 to 0, not before ``after``."""
    place = int(after) if after == int(after) else int(after) + 1
    while place < len(bits):
        if not bits[place] and (place == 0 or bits[place - 1]):
            return place
        place += 1
    return None
