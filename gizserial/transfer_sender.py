"""The end that has the file: announces it, sends it piece by piece (serial.md §4.13)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gizserial import schemas
from gizserial.commands import Command, IllegalFrameCode, Role
from gizserial.endpoint import Endpoint
from gizserial.errors import BodyError
from gizserial.events import (
    Event,
    FileOffered,
    FileReady,
    Outcome,
    Request,
    TransferEnded,
    TransferProgress,
)
from gizserial.framing import Frame
from gizserial.image import LINE_MOST, PIECES_MOST, Image, ImageError
from gizserial.transfer_options import (
    ANOTHER_READY,
    HEX,
    LAST,
    PIECE_DEFAULT,
    PIECE_MOST,
    PIECE_TRIES,
    FileStep,
    TransferOptions,
)

NOT_ASKED: Final = "the receiver did not ask for the file (1B)"
"""How a file ends that nobody wants."""


class FileSender:
    """Sends one file.

    :param tell: Takes the events.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        image: Image,
        options: TransferOptions,
        *,
        tell: Callable[[Event], None],
        token: object = None,
    ) -> None:
        self.image: Final = image
        self.token: Final = token
        self.over = False
        self._endpoint, self._options, self._tell = endpoint, options, tell
        self._request: Request | None = None
        self._deadline: float | None = None
        self._problem = ""
        self._piece_size = 0
        self._count = 0
        self._lines: list[bytes] | None = None
        self._number = 0
        """The piece that is under way; 0 before the first."""

    def start(self, now: float) -> None:
        """Announce the file (19)."""
        body = schemas.FILE_ANNOUNCE.build({"size": self.image.size, "md5": self.image.md5})
        self._request = self._endpoint.send(
            Command.FILE_ANNOUNCE, body, now=now, token=FileStep(self), reserved=True
        )

    def ready(self, frame: Frame, now: float) -> None:
        """The receiver wants it (1B). It is acked in any case; pieces follow when it can be followed."""
        self._endpoint.ack(frame, now=now)
        if self.over or self._number:
            return  # repeated because its ack got lost: the pieces are under way
        wants_hex = bool(frame.flags & HEX)
        problem = self._prepare(frame.payload, wants_hex=wants_hex)
        if not problem and wants_hex and not self.image.hex:
            problem = "the receiver wants HEX, the file is BIN"
            self._endpoint.notice(frame.sn, IllegalFrameCode.FILE_TYPE, now=now)
        if problem:
            self._problem = problem
            self._deadline = min(self._deadline or float("inf"), now + ANOTHER_READY)
            return
        self._withdraw()  # 19, if its ack got lost
        self._deadline = None
        if self._count > PIECES_MOST or self._largest > PIECE_MOST:
            self.stop(now, Outcome.REFUSED, self._unfit())
            return
        size = 0 if self._lines is not None else self._piece_size
        self._tell(FileReady(size, self._count, self._lines is not None, self.token))
        if self._count == 1 and self._options.single_piece_bug:
            self._problem = "a file of one piece is not sent (quirk ota_single_piece_bug)"
            self._deadline = now + self._options.ready_wait
        else:
            self._send_piece(1, now)

    def _prepare(self, body: bytes, *, wants_hex: bool) -> str:
        """Take in what 1B asks for; gives what is wrong with it."""
        self._piece_size, self._lines = self._options.own_piece_size, None
        if body or self._endpoint.role is Role.MODULE:
            try:
                fields = schemas.FILE_READY.parse(body)
            except BodyError as error:
                return f"1B cannot be read: {error}"
            if fields.get("md5") != self.image.md5:
                return f"1B repeats another MD5 ({fields.get('md5') or 'none'}) than was announced"
            self._piece_size = fields.get("piece_size") or PIECE_DEFAULT
        if wants_hex and self.image.hex:
            try:
                self._lines = self.image.lines()
            except ImageError as error:
                return f"the file cannot be sent in lines: {error}"
        self._count = len(self._lines) if self._lines is not None else self.image.count(self._piece_size)
        return ""

    @property
    def _largest(self) -> int:
        """Bytes of the largest piece."""
        return LINE_MOST if self._lines is not None else min(self._piece_size, self.image.size)

    def _unfit(self) -> str:
        if self._largest > PIECE_MOST:
            return f"pieces of {self._piece_size} bytes do not fit into a frame, {PIECE_MOST} do"
        return f"{self._count} pieces of {self._piece_size} bytes are more than can be counted"

    def _send_piece(self, number: int, now: float) -> None:
        self._number = number
        if self._lines is not None:
            data, count = self._lines[number - 1], 0
            flags = HEX | LAST if number == self._count else HEX
        else:
            data, count, flags = self.image.piece(number, self._piece_size), self._count, 0
        self._request = self._endpoint.send(
            Command.FILE_PIECE,
            schemas.FILE_PIECE.build({"number": number, "count": count, "data": data}),
            now=now,
            flags=flags,
            token=FileStep(self),
            reserved=True,
            wait=self._options.piece_wait,
            tries=PIECE_TRIES,
        )

    def acked(self, request: Request, now: float) -> None:
        """A request of this transfer was acked."""
        if self.over or request is not self._request:
            return
        self._request = None
        if request.frame.command == Command.FILE_ANNOUNCE:
            if self._deadline is None:
                self._deadline = now + self._options.ready_wait
            self._tell(FileOffered(self.image.size, self.image.md5, self.token))
            return
        self._tell(TransferProgress(self._number, self._count, self.token))
        if self._number == self._count:
            self.end(Outcome.COMPLETE, "")
        else:
            self._send_piece(self._number + 1, now)

    def failed(self, request: Request, reason: str, now: float) -> None:
        """A request of this transfer was not acked."""
        if self.over or request is not self._request:
            return
        self._request = None
        if request.frame.command == Command.FILE_ANNOUNCE:
            self.end(Outcome.FAILED, f"the file was announced (19): {reason}")
        else:
            self.stop(now, Outcome.FAILED, f"piece {self._number} of {self._count}: {reason}")

    def stop(self, now: float, outcome: Outcome = Outcome.STOPPED, detail: str = "") -> None:
        """Give up, and say so (1F)."""
        if self.over:
            return
        self._withdraw()
        self.end(outcome, detail)
        self._endpoint.send(Command.FILE_SENDER_STOP, now=now, reserved=True, token=FileStep(self))

    def stopped(self) -> None:
        """The receiver stopped (27)."""
        where = f" at piece {self._number} of {self._count}" if self._number else " before the first piece"
        self.end(Outcome.STOPPED_BY_PEER, f"the receiver stopped (27){where}")

    def end(self, outcome: Outcome, detail: str) -> None:
        """It is over."""
        if self.over:
            return
        self._withdraw()
        self.over, self._deadline = True, None
        self._tell(TransferEnded(outcome, detail, sending=True, token=self.token))

    def _withdraw(self) -> None:
        request, self._request = self._request, None
        if request is not None:
            self._endpoint.withdraw(request)

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is due."""
        return self._deadline

    def handle_timeout(self, now: float) -> None:
        """Forget a file that nobody wants."""
        if self._deadline is not None and now >= self._deadline:
            self.end(Outcome.REFUSED, self._problem or NOT_ASKED)
