"""Files over the serial line, both directions (serial.md §4.13, §6.7).

::

    S: 19 size, md5       R: 1A, and 1B md5, piece size when it wants the file
    S: 1C, 1D number ...  R: 1E when the piece is stored
    end: the last 1E.     S gives up with 1F, R with 27

No I/O: requests go out through the :class:`~gizserial.endpoint.Endpoint` of the role, what happens is told
as events. Firmware travels from the module to the MCU, other files the other way; the rules are the same.
The two machines are in :mod:`gizserial.transfer_sender` and :mod:`gizserial.transfer_receiver`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gizserial import schemas
from gizserial.commands import Command
from gizserial.endpoint import Endpoint, QueueFullError
from gizserial.errors import BodyError
from gizserial.events import Event, FileAnnounced, LateStopReceived, Outcome, Request
from gizserial.framing import Frame
from gizserial.image import Image, is_md5
from gizserial.transfer_options import FileStep, TransferOptions
from gizserial.transfer_receiver import FileReceiver, refuse
from gizserial.transfer_sender import FileSender


class FileTransfers:
    """The files of one end: at most one goes out and one comes in at a time.

    :param tell: Takes the events.
    """

    def __init__(
        self, endpoint: Endpoint, options: TransferOptions, *, tell: Callable[[Event], None]
    ) -> None:
        self.options: Final = options
        self._endpoint, self._tell = endpoint, tell
        self._sender: FileSender | None = None
        self._receiver: FileReceiver | None = None
        self._commands: Final[dict[int, Callable[[Frame, float], None]]] = {
            Command.FILE_ANNOUNCE: self._announce,
            Command.FILE_READY: self._ready,
            Command.FILE_PIECE: self._piece,
            Command.FILE_SENDER_STOP: self._sender_stop,
            Command.FILE_RECEIVER_STOP: self._receiver_stop,
        }

    @property
    def sending(self) -> bool:
        """A file of ours is offered or under way."""
        return self._sender is not None and not self._sender.over

    @property
    def receiving(self) -> bool:
        """A file is on its way here."""
        return self._receiver is not None and not self._receiver.over

    def offer(self, image: Image, *, now: float, token: object = None) -> None:
        """Offer a file to the peer.

        :raises QueueFullError: another file is under way.
        """
        if self.sending:
            raise QueueFullError("another file is under way: stop it first")
        self._sender = FileSender(self._endpoint, image, self.options, tell=self._tell, token=token)
        self._sender.start(now)

    def stop(self, *, now: float, detail: str = "") -> None:
        """Stop what is under way, in both directions (1F, 27)."""
        if self._sender is not None:
            self._sender.stop(now, Outcome.STOPPED, detail)
        if self._receiver is not None:
            self._receiver.stop(now, Outcome.STOPPED, detail)

    def refuse(self, *, now: float) -> None:
        """A file that is here is not wanted after all (27)."""
        refuse(self._endpoint, now)

    def forget(self, reason: str) -> None:
        """The line went down, or this end restarts: nothing can be said to the peer."""
        for machine in (self._sender, self._receiver):
            if machine is not None:
                machine.end(Outcome.FAILED, reason)
        self._sender = self._receiver = None

    # --- what comes over the line

    def command(self, frame: Frame, now: float) -> bool:
        """Answer a command if it is one of files; gives whether it was."""
        handler = self._commands.get(frame.command)
        if handler is not None:
            handler(frame, now)
        return handler is not None

    def acked(self, request: Request, now: float) -> None:
        """A request was acked."""
        if isinstance(request.token, FileStep):
            request.token.machine.acked(request, now)

    def failed(self, request: Request, reason: str, now: float) -> None:
        """A request was given up."""
        if isinstance(request.token, FileStep):
            request.token.machine.failed(request, reason, now)

    def noticed(self, frame: Frame, code: int | None) -> None:
        """The peer said that a frame of ours was illegal."""
        if self._receiver is not None:
            self._receiver.noticed(frame.sn, code)

    def _announce(self, frame: Frame, now: float) -> None:
        self._endpoint.ack(frame, now=now)
        try:
            fields = schemas.FILE_ANNOUNCE.parse(frame.payload)
        except BodyError as error:
            self._tell(FileAnnounced(0, "", f"the announcement cannot be read: {error}"))
            return
        size, md5 = fields["size"], fields["md5"]
        if self._receiver is not None:
            self._receiver.end(Outcome.FAILED, "the sender began anew")
            self._receiver = None
        declined = self._declined(size, md5)
        self._tell(FileAnnounced(size, md5, declined))
        if not declined:
            self._receiver = FileReceiver(self._endpoint, size, md5, self.options, tell=self._tell)
            self._receiver.start(now)

    def _declined(self, size: int, md5: str) -> str:
        if not self.options.receives:
            return "files are not taken"
        if not size:
            return "it is empty"
        if size > self.options.size_most:
            return f"it has {size} bytes, {self.options.size_most} is the most"
        return "" if is_md5(md5) else "its MD5 is not 32 hex digits"

    def _ready(self, frame: Frame, now: float) -> None:
        if self._sender is not None:
            self._sender.ready(frame, now)
        else:
            self._endpoint.ack(frame, now=now)

    def _piece(self, frame: Frame, now: float) -> None:
        if self._receiver is None or not self._receiver.piece(frame, now):
            refuse(self._endpoint, now)  # not acked: an ack says that it is stored

    def _sender_stop(self, frame: Frame, now: float) -> None:
        self._endpoint.ack(frame, now=now)
        if self.receiving and self._receiver is not None:
            self._receiver.end(Outcome.STOPPED_BY_PEER, "the sender stopped (1F)")
        else:
            self._tell(LateStopReceived(sending=False))

    def _receiver_stop(self, frame: Frame, now: float) -> None:
        self._endpoint.ack(frame, now=now)
        if self.sending and self._sender is not None:
            self._sender.stopped()
        else:
            self._tell(LateStopReceived(sending=True))

    # --- time

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is due."""
        times = [machine.next_timeout() for machine in (self._sender, self._receiver) if machine is not None]
        return min((time for time in times if time is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        for machine in (self._sender, self._receiver):
            if machine is not None:
                machine.handle_timeout(now)
