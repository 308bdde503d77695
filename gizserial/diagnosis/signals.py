"""What bytes look like when the line itself is set wrong: parity, inversion, text, hex text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from gizserial.capture.hextext import words_bytes
from gizserial.framing import Frame, Framer

_ENOUGH: Final = 12
"""Bytes that a statement about all of them needs."""
_PRINTABLE: Final = frozenset({*range(0x20, 0x7F), 0x09, 0x0A, 0x0D, 0x1B})
_LOGS: Final = (
    (
        re.compile(rb"ets [A-Z][a-z]{2}|rst cause|boot mode|rst:0x|ESP-ROM|ESP-IDF"),
        "the boot log of an Espressif chip",
    ),
    (re.compile(rb"GAgent|gagent", re.IGNORECASE), "the debug log of GAgent"),
    (re.compile(rb"^(\x00*)(AT|OK|ERROR|\+[A-Z]+)[\r\n]", re.MULTILINE), "an AT command interpreter"),
)


def printable(data: bytes) -> float:
    """Which part of the bytes is printable text."""
    return sum(byte in _PRINTABLE for byte in data) / len(data) if data else 0.0


def is_text(data: bytes) -> bool:
    """Whether bytes are text for people."""
    return len(data) >= _ENOUGH and printable(data) >= 0.9


def which_log(data: bytes) -> str:
    """What wrote a text."""
    return next((name for pattern, name in _LOGS if pattern.search(data)), "text")


def hex_text_frames(data: bytes) -> list[Frame]:
    """Good frames that were written as hex digits instead of as bytes."""
    if len(data) < 18:
        return []
    try:
        decoded = words_bytes(" ".join(data.decode("ascii").split()))
    except UnicodeDecodeError:
        return []
    return [item for item in Framer().feed(decoded or b"") if isinstance(item, Frame)]


def parity(data: bytes) -> str:
    """The parity that a sender seems to use, as in ``7E1``; empty when the bytes do not show one."""
    counts = [byte.bit_count() % 2 for byte in data]
    if len(set(data)) >= 6 and len(counts) >= _ENOUGH:
        if not any(counts):
            return "7E1"
        if all(counts):
            return "7O1"
    # A byte with a parity bit is 11 bits: where that bit is 0, an 8N1 receiver sees no stop bit and most
    # drivers hand over 00 instead.
    nonzero = [byte for byte in data if byte]
    zeros = len(data) - len(nonzero)
    if len(set(nonzero)) >= 5 and len(nonzero) >= _ENOUGH // 2 and zeros >= 4:
        if all(byte.bit_count() % 2 for byte in nonzero):
            return "8E1"
        if not any(byte.bit_count() % 2 for byte in nonzero):
            return "8O1"
    return ""


def inverted(wire: bytes, *, keep_broken: bool = True) -> bytes:
    """What an 8N1 receiver reads of bytes that were sent over an inverted line.

    :param keep_broken: Bytes without a stop bit are handed over as they were read, as some drivers do.
    """
    bits = [0] * 20
    for byte in wire:
        bits += [1, *((byte >> bit & 1) ^ 1 for bit in range(8)), 0]
    bits += [0] * 20
    seen = bytearray()
    position = 1
    while position + 9 < len(bits):
        if not (bits[position] == 0 and bits[position - 1] == 1):
            position += 1
            continue
        byte = sum(bits[position + 1 + bit] << bit for bit in range(8))
        stopped = bits[position + 9] == 1
        if stopped or keep_broken:
            seen.append(byte)
        position += 9 if stopped else 10
    return bytes(seen)


def looks_inverted(received: Iterable[bytes], candidates: Sequence[bytes]) -> bytes:
    """Which of the frames that may have been sent came inverted; empty when none did."""
    bursts = [burst for burst in received if len(burst) >= 4]
    for wire in candidates:
        for keep in (True, False):
            shape = inverted(wire, keep_broken=keep)
            if len(set(shape)) >= 2 and any(burst.lstrip(b"\0") == shape.lstrip(b"\0") for burst in bursts):
                return wire
    return b""
