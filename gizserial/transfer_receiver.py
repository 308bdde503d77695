"""The end that wants the file: asks for it, stores it piece by piece, looks whether it is the right one.

In order and once each: a piece that was stored already is acked again, anything else unexpected ends the
transfer (serial.md §4.13, §6.7).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from gizserial import schemas
from gizserial.commands import Command, IllegalFrameCode, Role
from gizserial.endpoint import REPLACED, Endpoint
from gizserial.errors import BodyError
from gizserial.events import (
    Event,
    FileReceived,
    Outcome,
    PieceReceived,
    Request,
    TransferEnded,
)
from gizserial.framing import Frame
from gizserial.image import LINE_MOST, piece_count
from gizserial.transfer_options import ASK_AGAIN, HEX, LAST, PIECE_DEFAULT, FileStep, TransferOptions


class FileReceiver:
    """Receives one file, piece by piece and in order.

    :param tell: Takes the events.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        size: int,
        md5: str,
        options: TransferOptions,
        *,
        tell: Callable[[Event], None],
    ) -> None:
        self.over = False
        self._endpoint, self._size, self._md5, self._options, self._tell = endpoint, size, md5, options, tell
        self._piece_size: int | None = options.piece_size or PIECE_DEFAULT
        if endpoint.role is Role.MODULE:
            self._piece_size = None  # its 1B is empty: the first piece says it
        self._request: Request | None = None
        self._asked: int | None = None
        """Number of the last 1B."""
        self._ready_due: float | None = None
        self._silent_at: float | None = None
        self._stored = 0
        """The piece that was stored last."""
        self._complete = False
        self._data = bytearray()
        self._writing: tuple[float, Frame, bytes, bool] | None = None
        """When a piece is stored, its frame, its data, and whether it is the last."""
        self._problem = ""

    def start(self, now: float) -> None:
        """The announcement was acked: ask for the file when there is room for it."""
        self._ready_due = now + self._options.erase
        self._silent_at = None
        if not self._options.erase:
            self._ask(now)

    def _ask(self, now: float) -> None:
        self._ready_due = None
        body = b""
        if self._endpoint.role is Role.MCU:
            body = schemas.FILE_READY.build({"md5": self._md5, "piece_size": self._options.piece_size})
        self._silent_at = now + self._options.silence
        self._request = self._endpoint.send(
            Command.FILE_READY,
            body,
            now=now,
            flags=HEX if self._options.hex and body else 0,
            token=FileStep(self),
            reserved=True,
        )
        self._asked = self._request.frame.sn

    def acked(self, request: Request, now: float) -> None:
        """1B was acked."""
        if request is self._request and not self.over:
            self._request = None
            self._silent_at = now + self._options.silence

    def failed(self, request: Request, reason: str, now: float) -> None:
        """1B was not acked."""
        if request is self._request and not self.over:
            self._request = None
            if reason == REPLACED:  # by a report, say: the sender may have got it, or it never left
                self._ready_due = now + ASK_AGAIN
                return
            self.stop(now, Outcome.FAILED, self._problem or f"the file was asked for (1B): {reason}")

    def noticed(self, sn: int, code: int | None) -> None:
        """The sender said that a frame was illegal. Not an ack: the retry timer decides (§4.9)."""
        if code == IllegalFrameCode.FILE_TYPE and sn == self._asked and not self._stored:
            self._problem = "the sender has BIN, HEX was asked for"

    def piece(self, frame: Frame, now: float) -> bool:
        """A piece came; gives whether it belongs here. Acked when it is stored."""
        if self.over and not self._complete:
            return False
        try:
            fields = schemas.FILE_PIECE.parse(frame.payload)
        except BodyError as error:
            return self._unexpected(f"a piece cannot be read: {error}", now)
        number = fields["number"]
        if self._writing is not None and number == self._stored + 1:
            return True  # repeated while it is being stored: the ack comes
        if number == self._stored and self._stored:
            self._endpoint.ack(frame, now=now)
            return True
        if self.over:
            return False
        problem = self._check(frame, number, fields["count"], fields["data"])
        if problem:
            return self._unexpected(problem, now)
        if self._request is not None:  # the ack of 1B got lost
            self._endpoint.withdraw(self._request)
            self._request = None
        last = bool(frame.flags & LAST) if self._options.hex else number == fields["count"]
        self._silent_at = self._ready_due = None
        self._writing = now + self._options.store, frame, fields["data"], last
        if not self._options.store:
            self._store(now)
        return True

    def _check(self, frame: Frame, number: int, count: int, data: bytes) -> str:
        """What is wrong with a piece that should be the next."""
        if self._silent_at is None or self._writing is not None:
            return f"piece {number} came before it was asked for"
        if number != self._stored + 1:
            return f"piece {number} came where {self._stored + 1} was expected"
        if bool(frame.flags & HEX) is not self._options.hex:
            return "BIN came, HEX was asked for" if self._options.hex else "HEX came, BIN was asked for"
        room = self._size - len(self._data)
        if self._options.hex:
            if not 0 < len(data) <= LINE_MOST:
                return f"line {number} has {len(data)} bytes, 1 to {LINE_MOST} are allowed"
            return "" if len(data) <= room else f"line {number} goes beyond the announced size"
        if self._piece_size is None:
            self._piece_size = len(data) or PIECE_DEFAULT
        wanted = piece_count(self._size, self._piece_size)
        if count != wanted:
            return f"piece {number} says that there are {count}, {wanted} of {self._piece_size} bytes are due"
        due = min(self._piece_size, room)
        return "" if len(data) == due else f"piece {number} has {len(data)} bytes where {due} are due"

    def _unexpected(self, problem: str, now: float) -> bool:
        if self.over:
            return False
        self.stop(now, Outcome.FAILED, problem)
        return True

    def _store(self, now: float) -> None:
        if self._writing is None:
            return
        _due, frame, data, last = self._writing
        self._writing = None
        self._stored += 1
        count = 0 if self._options.hex else piece_count(self._size, self._piece_size or PIECE_DEFAULT)
        self._tell(PieceReceived(self._stored, count, len(self._data), data))
        self._data += data
        self._silent_at = now + self._options.silence
        self._endpoint.ack(frame, now=now)
        if last:
            self._verify(now)

    def _verify(self, now: float) -> None:
        """Everything came: see whether it is the file that was announced."""
        self._complete = True
        data = bytes(self._data)
        found = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if len(data) != self._size:
            self.stop(now, Outcome.FAILED, f"{len(data)} bytes came, {self._size} were announced")
        elif found != self._md5.lower():
            self.stop(now, Outcome.FAILED, f"the MD5 is {found}, {self._md5} was announced")
        else:
            self.end(Outcome.COMPLETE, "")
            self._tell(FileReceived(data, self._md5, self._options.hex))

    def stop(self, now: float, outcome: Outcome = Outcome.STOPPED, detail: str = "") -> None:
        """Give up, and say so (27)."""
        if self.over:
            return
        self.end(outcome, detail)
        refuse(self._endpoint, now)

    def end(self, outcome: Outcome, detail: str) -> None:
        """It is over."""
        if self.over:
            return
        if self._request is not None:
            self._endpoint.withdraw(self._request)
            self._request = None
        self.over = True
        self._ready_due = self._silent_at = self._writing = None
        self._data = bytearray()
        self._tell(TransferEnded(outcome, detail, sending=False))

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is due."""
        times = (self._ready_due, self._silent_at, self._writing[0] if self._writing else None)
        return min((time for time in times if time is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """Ask for the file, ack a piece that is stored, give up a sender that fell silent."""
        if self._ready_due is not None and now >= self._ready_due:
            self._ask(now)
        if self._writing is not None and now >= self._writing[0]:
            self._store(now)
        if self._silent_at is not None and now >= self._silent_at:
            silence = f"no piece for {self._options.silence:g} s"
            self.stop(now, Outcome.FAILED, f"{self._problem}: {silence}" if self._problem else silence)


def refuse(endpoint: Endpoint, now: float) -> None:
    """Send 27, unless one is waiting."""
    if not endpoint.waits(Command.FILE_RECEIVER_STOP):
        endpoint.send(Command.FILE_RECEIVER_STOP, now=now, reserved=True)
