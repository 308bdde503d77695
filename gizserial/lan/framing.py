"""A TCP stream ↔ frames, and single datagrams (lan.md §2, §9).

The frame is the business frame of :mod:`gizserial.m2m.frames`; here it is found in a stream of any chunking.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from gizserial.lan.commands import LanCommand
from gizserial.m2m.frames import MAX_FRAME_LENGTH, VERSION, BadMessage, BusinessFrame
from gizserial.m2m.varlen import encode_length, read_length

LanFrame = BusinessFrame

MAX_JUNK: Final = 64 * 1024
"""So many bytes that are no frame are passed over in search of one; then the stream is given up."""

_V4_REFUSAL: Final = 15
"""``L`` of the refusing 0007 of [V4], after which 5 bytes follow (§4.2)."""
_V4_INFO: Final = 0x77
"""``L`` of the 0014 of [V4], 32 too large (§4.7)."""
_INFO_FIELD: Final = 56 - 8
"""Where 0014 has the length of its firmware version, in bytes after the command."""


@dataclasses.dataclass(frozen=True, slots=True)
class Junk:
    """Bytes that were passed over because no frame begins in them."""

    data: bytes = dataclasses.field(repr=False)


Item = BusinessFrame | Junk | BadMessage


def encode_frame(command: int, body: bytes = b"", sn: int | None = None) -> bytes:
    """A frame as it is sent, flag 0 (:raises EncodeError: longer than 65 535 bytes)."""
    return BusinessFrame(command, body, sn).encode()


def decode_datagram(data: bytes) -> BusinessFrame | None:
    """The frame that fills a datagram exactly; None for anything else, which is ignored (§9)."""
    frame = _decode(data, len(VERSION))
    return frame if isinstance(frame, BusinessFrame) else None


def _decode(wire: bytes, length_at: int) -> BusinessFrame | BadMessage:
    """One whole frame. Any flag is accepted (L9), so what it means elsewhere is kept out of the codec."""
    try:
        found = read_length(wire, length_at)
    except ValueError as error:
        return BadMessage(str(error), wire)
    if found is None or len(wire) <= found[1]:
        return BusinessFrame.decode(wire)
    start = found[1]
    frame = BusinessFrame.decode(wire[:start] + b"\0" + wire[start + 1 :])
    return dataclasses.replace(frame, flag=wire[start]) if isinstance(frame, BusinessFrame) else frame


class LanFramer:
    """Finds frames in a stream.

    :param max_length: Largest ``L`` that is accepted.
    """

    def __init__(self, *, max_length: int = MAX_FRAME_LENGTH) -> None:
        self._max_length = max_length
        self._buffer = bytearray()
        self._junk = 0
        self.failure: str | None = None
        """Why the stream cannot be read any further: close the connection."""

    @property
    def waiting(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Item]:
        """Take bytes in chunks of any size. After a failure nothing comes any more."""
        items: list[Item] = []
        if self.failure is None:
            self._buffer += data
            while self.failure is None and (item := self._next()) is not None:
                items.append(item)
        if self.failure is not None:
            self._buffer.clear()
        return items

    def _next(self) -> Item | None:
        junk = self._take_junk()
        if junk is not None:
            return junk
        try:
            found = read_length(self._buffer, len(VERSION))
        except ValueError as error:
            self.failure = str(error)
            return None
        if found is None:
            return None
        length, start = found
        if length > self._max_length:
            self.failure = f"a frame of {length} bytes is announced, {self._max_length} is the most"
            return None
        length = self._true_length(length, start)
        end = start + length
        if len(self._buffer) < end:
            return None
        wire = VERSION + encode_length(length) + bytes(self._buffer[start:end])
        del self._buffer[:end]
        self._junk = 0
        return _decode(wire, len(VERSION))

    def _take_junk(self) -> Junk | None:
        """What stands before the next possible beginning of a frame."""
        if self._buffer.startswith(VERSION):
            return None
        at = self._buffer.find(VERSION)
        if at < 0:
            zeros = len(self._buffer) - len(self._buffer.rstrip(b"\0"))
            at = len(self._buffer) - min(zeros, len(VERSION) - 1)
        if not at:
            return None
        junk = bytes(self._buffer[:at])
        del self._buffer[:at]
        self._junk += at
        if self._junk > MAX_JUNK:
            self.failure = f"no frame in {MAX_JUNK} bytes"
        return Junk(junk)

    def _true_length(self, length: int, start: int) -> int:
        """``L``, put right for the two frames of [V4] that announce more than they hold (§4.2, §4.7)."""
        body = start + 3
        command = int.from_bytes(self._buffer[start + 1 : body], "big")
        if command == LanCommand.PASSCODE_REPLY and length == _V4_REFUSAL:
            at, true = body, 5
        elif command == LanCommand.INFO_REPLY and length == _V4_INFO:
            at, true = body + _INFO_FIELD, 0x57
        else:
            return length
        field = self._buffer[at : at + 2]
        return true if len(field) == 2 and not any(field) else length
