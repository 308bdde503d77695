"""Files that travel over the serial line: firmware images, and Intel HEX text (serial.md §4.13).

A BIN file is cut into pieces of equal size; of a HEX file each line is a piece.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Final

from gizserial.errors import GizserialError

LINE_MOST: Final = 263
"""Bytes of the longest HEX line, CR LF included."""
PIECES_MOST: Final = 0xFFFF
"""Pieces that a number of two bytes can count."""
SIZE_MOST: Final = 0xFFFFFFFF
SPAN_MOST: Final = 1 << 24
"""Bytes from the first to the last address of a HEX file that is taken apart."""
GAP: Final = 0xFF
"""What erased flash holds between the records of a HEX file."""

_DATA, _END, _SEGMENT, _START_SEGMENT, _LINEAR, _START_LINEAR = range(6)


class ImageError(GizserialError, ValueError):
    """A file that cannot be sent, or HEX text that is none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """A file to send.

    :raises ImageError: an empty file, one beyond what four bytes can count, an MD5 that is none.
    """

    data: bytes = dataclasses.field(repr=False)
    hex: bool = False
    """HEX text: the receiver may ask for lines."""
    soft_ver: str = ""
    """The version that the receiver should have afterwards; it does not travel over the line."""
    md5: str = ""
    """32 hex digits, sent as they are; empty: computed. Another one than the file's makes a bad offer."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.data) <= SIZE_MOST:
            raise ImageError("the image is empty" if not self.data else "the image is larger than 4 GiB")
        if not self.md5:
            object.__setattr__(self, "md5", hashlib.md5(self.data, usedforsecurity=False).hexdigest())
        if not is_md5(self.md5):
            raise ImageError(f"{self.md5[:40]!r} is no MD5: 32 hex digits")

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.data)

    def count(self, piece_size: int) -> int:
        """How many pieces of this size it has."""
        return piece_count(self.size, piece_size)

    def piece(self, number: int, piece_size: int) -> bytes:
        """One piece, counted from 1. The last one is shorter."""
        return self.data[(number - 1) * piece_size : number * piece_size]

    def lines(self) -> list[bytes]:
        """All pieces of a HEX file: its lines, with their ends.

        :raises ImageError: a line of more than 263 bytes, or more lines than can be counted.
        """
        lines = self.data.split(b"\n")
        ended = [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
        for number, line in enumerate(ended, 1):
            if len(line) > LINE_MOST:
                raise ImageError(f"line {number} has {len(line)} bytes, {LINE_MOST} is the most")
        if len(ended) > PIECES_MOST:
            raise ImageError(f"the file has {len(ended)} lines, {PIECES_MOST} is the most")
        return ended


def is_md5(text: str) -> bool:
    """32 hex digits."""
    return len(text) == 32 and all(digit in "0123456789abcdefABCDEF" for digit in text)


def piece_count(size: int, piece_size: int) -> int:
    """``ceil(size / piece_size)``."""
    return -(-size // piece_size)


def hex_image(text: bytes, *, soft_ver: str = "") -> Image:
    """A HEX file as it should travel: checked, every line ended by CR LF, none of them empty.

    :raises ImageError: not sound Intel HEX, or lines that no piece can hold; with the number of the line.
    """
    hex_memory(text)
    lines = [line.strip() for line in text.splitlines()]
    image = Image(b"".join(line + b"\r\n" for line in lines if line), hex=True, soft_ver=soft_ver)
    image.lines()
    return image


def hex_memory(text: bytes) -> tuple[int, bytes]:
    """What the HEX text puts where: the lowest address, and the bytes from there, gaps filled with FF.

    :raises ImageError: not sound Intel HEX, with the number of the line.
    """
    blocks: list[tuple[int, bytes]] = []
    base, ended, line_number = 0, False, 0
    for line_number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line:
            continue
        if ended:
            raise ImageError(f"line {line_number} stands after the end record")
        kind, address, data = _record(line, line_number)
        if kind == _DATA:
            blocks.append((base + address, data))
        elif kind == _END:
            ended = True
        elif kind in {_SEGMENT, _LINEAR}:
            if len(data) != 2:
                raise ImageError(f"line {line_number}: an address record has two bytes, not {len(data)}")
            base = int.from_bytes(data, "big") << (4 if kind == _SEGMENT else 16)
        elif kind not in {_START_SEGMENT, _START_LINEAR}:
            raise ImageError(f"line {line_number}: there is no record type {kind:02X}")
    if not ended:
        raise ImageError(f"the end record (:00000001FF) is missing after line {line_number}")
    if not any(data for _address, data in blocks):
        raise ImageError("the file holds no data")
    start = min(address for address, data in blocks if data)
    end = max(address + len(data) for address, data in blocks if data)
    if end - start > SPAN_MOST:
        raise ImageError(f"its addresses span {end - start} bytes, {SPAN_MOST} is the most")
    memory = bytearray([GAP]) * (end - start)
    for address, data in blocks:
        if data:
            memory[address - start : address - start + len(data)] = data
    return start, bytes(memory)


def _record(line: bytes, number: int) -> tuple[int, int, bytes]:
    """Type, address and data of one record."""
    digits = line[1:]
    if not line.startswith(b":") or len(digits) % 2 or any(digit not in _HEX_DIGITS for digit in digits):
        raise ImageError(f"line {number} is no record: a colon and pairs of hex digits")
    octets = bytes.fromhex(digits.decode("ascii"))
    if len(octets) < 5 or len(octets) != octets[0] + 5:
        raise ImageError(f"line {number} has {len(octets)} bytes, which is not what its length says")
    if sum(octets) & 0xFF:
        raise ImageError(f"line {number} has a wrong checksum")
    return octets[3], int.from_bytes(octets[1:3], "big"), octets[4:-1]


_HEX_DIGITS: Final = frozenset(b"0123456789abcdefABCDEF")
