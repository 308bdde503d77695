"""Bytes on the wire ↔ frames: header, length, checksum, escape and resynchronisation (serial.md §1).

::

    FF FF | len hi lo | cmd | sn | flags hi lo | payload ... | checksum
            `--------- summed, modulo 256 ----------------'
            `--------- escaped: FF is sent as FF 55 ------------------'

``len`` counts the logical bytes from ``cmd`` to the checksum. Escapes count neither in it nor in the sum.
"""

from __future__ import annotations

import dataclasses
import re
import struct
from typing import Final, Literal

from gizserial.errors import EncodeError

HEADER: Final = b"\xff\xff"
MIN_LENGTH: Final = 5
MAX_LENGTH: Final = 4096
"""Largest value of the length field that we send, and accept unless told otherwise (serial.md §1.7, R26)."""
SAFE_PAYLOAD: Final = 1015
"""Largest payload that fits the 1024-byte receive ring of GAgent 04020006 (serial.md §1.7)."""
NOISE_PORTION: Final = 4096
"""Noise is reported in portions of at most this many wire bytes (cli.md §6)."""

BadFrameReason = Literal["checksum", "truncated", "length", "escape"]

_RUN_OF_FF = re.compile(rb"\xff+")
_FIXED = struct.Struct(">HBBH")


def checksum(summed: bytes | bytearray) -> int:
    """Sum of the logical bytes from ``len`` to the last payload byte, modulo 256 (serial.md §1.3)."""
    return sum(summed) & 0xFF


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """One unit of the protocol, unescaped. Frames are equal when they say the same.

    :raises EncodeError: when a field does not fit its bytes on the wire.
    """

    command: int
    sn: int
    payload: bytes = b""
    flags: int = 0
    offset: int = dataclasses.field(default=0, compare=False)
    """Where it began, in wire bytes since the stream began; 0 for a frame of ours."""
    wire: bytes = dataclasses.field(default=b"", compare=False, repr=False)
    """The bytes as they were received; empty for a frame of ours."""
    unescaped: bool = dataclasses.field(default=False, compare=False)
    """It held an FF without its 55, as the plain acks of GAgent 04020006 do; accepted leniently."""

    def __post_init__(self) -> None:
        if 0 <= self.command <= 0xFF and 0 <= self.sn <= 0xFF and 0 <= self.flags <= 0xFFFF:
            return
        for name, value, limit in (
            ("command", self.command, 0xFF),
            ("sn", self.sn, 0xFF),
            ("flags", self.flags, 0xFFFF),
        ):
            if not 0 <= value <= limit:
                raise EncodeError(f"{name} is {value}, allowed are 0 to {limit}")

    def encode(self, *, escape: bool = True) -> bytes:
        """The bytes to send. ``escape=False`` repeats the fault of GAgent 04020006's plain acks.

        :raises EncodeError: when the payload is longer than a frame can carry.
        """
        if len(self.payload) + MIN_LENGTH > MAX_LENGTH:
            raise EncodeError(
                f"the frame has a payload of {len(self.payload)} bytes, "
                f"{MAX_LENGTH - MIN_LENGTH} is the most a frame can carry"
            )
        summed = _FIXED.pack(len(self.payload) + MIN_LENGTH, self.command, self.sn, self.flags) + self.payload
        logical = summed + bytes((checksum(summed),))
        return HEADER + (logical.replace(b"\xff", b"\xff\x55") if escape else logical)


@dataclasses.dataclass(frozen=True, slots=True)
class BadFrame:
    """Wire bytes that began as a frame but are not a good one."""

    reason: BadFrameReason
    detail: str
    """One sentence for a person."""
    offset: int
    """Where ``wire`` starts, in wire bytes since the stream began."""
    wire: bytes
    logical: bytes
    """What was unescaped of it, from the length field on."""

    @property
    def command(self) -> int | None:
        """The command byte, once the six bytes after the header arrived."""
        return self.logical[2] if len(self.logical) >= _FIXED.size else None

    @property
    def sn(self) -> int | None:
        """The sequence number, once the six bytes after the header arrived."""
        return self.logical[3] if len(self.logical) >= _FIXED.size else None

    @property
    def flags(self) -> int | None:
        """The flags, once the six bytes after the header arrived."""
        return int.from_bytes(self.logical[4:6], "big") if len(self.logical) >= _FIXED.size else None


@dataclasses.dataclass(frozen=True, slots=True)
class Noise:
    """Wire bytes outside any frame, at most :data:`NOISE_PORTION` of them."""

    offset: int
    wire: bytes


Item = Frame | BadFrame | Noise


class Framer:
    """Cuts a stream of wire bytes into frames, bad frames and noise (the table of serial.md §1.7).

    Every byte is in exactly one item, in order. Nothing inside a bad frame is searched again, so the time
    is linear in the input; memory is one frame and one portion of noise.

    :param max_len: Largest length field that is accepted.
    :param lenient: Accept an FF in the body that is not followed by 55, as real receivers do.
    :param hold_noise: Keep noise until it ends or fills a portion, instead of reporting it with the chunk
        that brought it. Then the items do not depend on the chunks.
    """

    def __init__(self, *, max_len: int = MAX_LENGTH, lenient: bool = True, hold_noise: bool = False) -> None:
        self._max_len = max_len
        self._lenient = lenient
        self._hold_noise = hold_noise
        self._reported = 0
        self._noise = bytearray()
        self._wire = bytearray()
        """Wire bytes since the header; empty while hunting, one FF when it may begin a header."""
        self._body = bytearray()
        """Logical bytes after the header."""
        self._missing = 2
        """Logical bytes that the length field, or the frame once that is known, still lacks."""
        self._length: int | None = None
        self._pending_ff = False
        """An FF was read inside the body and what follows it decides what it is."""
        self._unescaped = False
        self._items: list[Item] = []

    @property
    def in_frame(self) -> bool:
        """A frame has begun and is not complete: an idle timer may end it with :meth:`flush`."""
        return bool(self._wire)

    @property
    def offset(self) -> int:
        """Wire bytes taken so far."""
        return self._reported + len(self._noise) + len(self._wire)

    def feed(self, data: bytes | bytearray | memoryview) -> list[Item]:
        """Take a chunk of any size and give what it completed. Never raises on what a peer sent."""
        data = bytes(data)
        pos, end = 0, len(data)
        while pos < end:
            if len(self._wire) < len(HEADER):
                pos = self._hunt(data, pos)
            elif self._pending_ff:
                pos = self._after_ff(data, pos)
            else:
                pos = self._collect(data, pos)
        if not self._hold_noise:
            self._report_noise()
        return self._take()

    def flush(self) -> list[Item]:
        """The input ended or fell silent: give what is left, as a frame, a truncated frame or noise."""
        if self._lenient and self._ends_with_bare_ff():
            self._finish_with_bare_ff()
        elif self._body:
            self._bad("truncated", self._how_much_arrived())
        else:
            self._discard(bytes(self._wire))
            self._restart(b"")
        self._report_noise()
        return self._take()

    def _take(self) -> list[Item]:
        items, self._items = self._items, []
        return items

    def _hunt(self, data: bytes, pos: int) -> int:
        if self._wire:  # one FF seen
            if data[pos] == 0xFF:
                self._restart(HEADER)
            else:
                self._wire.clear()
                self._discard(b"\xff" + data[pos : pos + 1])
            return pos + 1
        start = data.find(HEADER, pos)
        if start >= 0:
            if start > pos:
                self._discard(data[pos:start])
            return self._whole_frame(data, start) or self._begin(start)
        end = len(data)
        if data[-1] == 0xFF:
            end -= 1
            self._wire += b"\xff"
        self._discard(data[pos:end])
        return len(data)

    def _begin(self, start: int) -> int:
        self._restart(HEADER)
        return start + len(HEADER)

    def _whole_frame(self, data: bytes, start: int) -> int:
        """The common case in one step: a good frame without FF, all in the chunk; 0 if it is another."""
        body = start + len(HEADER)
        if len(data) - body < MIN_LENGTH + 2:
            return 0
        length = data[body] << 8 | data[body + 1]
        stop = body + 2 + length
        if (
            not MIN_LENGTH <= length <= self._max_len
            or stop > len(data)
            or data.find(b"\xff", body, stop) >= 0
        ):
            return 0
        if sum(data[body : stop - 1]) & 0xFF != data[stop - 1]:
            return 0
        if self._noise:
            self._report_noise()
        self._items.append(
            Frame(
                data[body + 2],
                data[body + 3],
                data[body + 6 : stop - 1],
                data[body + 4] << 8 | data[body + 5],
                self._reported,
                data[start:stop],
            )
        )
        self._reported += stop - start
        return stop

    def _collect(self, data: bytes, pos: int) -> int:
        """Take plain bytes up to the next FF, the end of the frame or the end of the chunk."""
        if data[pos] == 0xFF:
            return self._run_of_ff(data, pos)
        stop = min(len(data), pos + self._missing)
        ff = data.find(b"\xff", pos, stop)
        if ff >= 0:
            stop = ff
        self._wire += data[pos:stop]
        self._append(data[pos:stop])
        return stop

    def _run_of_ff(self, data: bytes, pos: int) -> int:
        if self._body:
            self._wire += b"\xff"
            self._pending_ff = True
            return pos + 1
        # Between header and body every pair of FF is a new header; a whole run is taken in one step.
        match = _RUN_OF_FF.match(data, pos)
        stop = match.end() if match else pos
        count = len(self._wire) + stop - pos
        keep = 2 + count % 2
        self._discard(b"\xff" * (count - keep))
        self._wire[:] = b"\xff" * keep
        self._pending_ff = keep == 3
        return stop

    def _after_ff(self, data: bytes, pos: int) -> int:
        byte = data[pos]
        if byte == 0x55:
            self._wire.append(byte)
            self._pending_ff = False
            self._append(b"\xff")
            return pos + 1
        if self._lenient and self._ends_with_bare_ff():
            self._finish_with_bare_ff()
            return pos
        if byte == 0xFF:
            del self._wire[-1]
            if self._body:
                self._bad("truncated", self._how_much_arrived())
            else:
                self._discard(bytes(self._wire))
            self._restart(HEADER)
            return pos + 1
        if not self._body:  # a stray FF stood before the header
            self._discard(b"\xff")
            self._restart(HEADER)
            return pos
        if not self._lenient:
            self._wire.append(byte)
            at = self.offset - 2
            self._bad("escape", f"the FF at byte {at} is followed by {byte:02X}, allowed are 55 and FF")
            return pos + 1
        self._pending_ff = False
        self._unescaped = True
        self._append(b"\xff")
        return pos  # the byte is taken by the state that the FF led to

    def _append(self, logical: bytes) -> None:
        self._body += logical
        self._missing -= len(logical)
        if self._missing:
            return
        if self._length is not None:
            self._finish()
            return
        length = int.from_bytes(self._body, "big")
        if MIN_LENGTH <= length <= self._max_len:
            self._length = self._missing = length
        else:
            self._bad(
                "length", f"the length field says {length}, allowed are {MIN_LENGTH} to {self._max_len}"
            )

    def _ends_with_bare_ff(self) -> bool:
        """Only the checksum is missing, it would be FF, and an FF without its 55 is there."""
        return (
            self._pending_ff
            and self._length is not None
            and self._missing == 1
            and checksum(self._body) == 0xFF
        )

    def _finish_with_bare_ff(self) -> None:
        self._unescaped = True
        self._append(b"\xff")

    def _finish(self) -> None:
        body = self._body
        total = checksum(body[:-1])
        if total != body[-1]:
            self._bad("checksum", f"the sum of the bytes is {total:02X}, the frame says {body[-1]:02X}")
            return
        self._report_noise()
        frame = Frame(
            command=body[2],
            sn=body[3],
            payload=bytes(body[6:-1]),
            flags=body[4] << 8 | body[5],
            offset=self._reported,
            wire=bytes(self._wire),
            unescaped=self._unescaped,
        )
        self._items.append(frame)
        self._reported += len(self._wire)
        self._restart(b"")

    def _how_much_arrived(self) -> str:
        arrived = len(self._body)
        if self._length is None:
            return f"{arrived} logical byte arrived, then the frame ended"
        return f"{arrived} of {self._length + 2} logical bytes arrived"

    def _bad(self, reason: BadFrameReason, detail: str) -> None:
        self._report_noise()
        bad = BadFrame(reason, detail, self._reported, bytes(self._wire), bytes(self._body))
        self._items.append(bad)
        self._reported += len(self._wire)
        self._restart(b"")

    def _discard(self, wire: bytes) -> None:
        self._noise += wire
        while len(self._noise) >= NOISE_PORTION:
            self._emit_noise(bytes(self._noise[:NOISE_PORTION]))
            del self._noise[:NOISE_PORTION]

    def _report_noise(self) -> None:
        if self._noise:
            self._emit_noise(bytes(self._noise))
            self._noise.clear()

    def _emit_noise(self, wire: bytes) -> None:
        self._items.append(Noise(self._reported, wire))
        self._reported += len(wire)

    def _restart(self, wire: bytes) -> None:
        self._wire[:] = wire
        self._body.clear()
        self._missing = 2
        self._length = None
        self._pending_ff = False
        self._unescaped = False
