"""Length fields of 1–4 bytes: 7 bits each, least significant group first, top bit set while more follow.

MQTT's "remaining length" and the ``L`` of a business frame are written like this (device-cloud.md §8, §11).
"""

from __future__ import annotations

from typing import Final

from gizserial.errors import ValueOutOfRange

MAX_LENGTH: Final = (1 << 28) - 1
"""Largest value of four length bytes."""


def encode_length(length: int) -> bytes:
    """The shortest form of a length.

    :raises ValueOutOfRange: outside 0 … 268 435 455.
    """
    if not 0 <= length <= MAX_LENGTH:
        raise ValueOutOfRange("length", length, f"0 to {MAX_LENGTH}")
    out = bytearray()
    while length > 0x7F:
        out.append(0x80 | (length & 0x7F))
        length >>= 7
    out.append(length)
    return bytes(out)


def read_length(data: bytes | bytearray, offset: int = 0) -> tuple[int, int] | None:
    """The length at ``offset`` and the offset after it; None while bytes are missing.

    :raises ValueError: when a fifth length byte would follow.
    """
    length = 0
    for index, byte in enumerate(data[offset : offset + 4]):
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return length, offset + index + 1
    if len(data) - offset >= 4:
        raise ValueError("the length has more than four bytes")
    return None
