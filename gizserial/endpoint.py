"""One end of the serial line: numbers requests, matches acks, repeats what went unanswered (serial.md §1.8).

No I/O, no clock, no tasks: bytes and times go in, events and bytes come out. Both roles are built on it.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Final

from gizserial import schemas
from gizserial.commands import FRAMES, Command, Role
from gizserial.errors import GizserialError
from gizserial.events import (
    BadFrameReceived,
    CommandReceived,
    DuplicateReceived,
    Event,
    FrameReceived,
    FrameSent,
    NoiseReceived,
    NoticeReceived,
    Request,
    RequestAcked,
    RequestFailed,
    StrayAckReceived,
    UnknownReceived,
)
from gizserial.framing import MAX_LENGTH, BadFrame, Frame, Framer, Item, Noise

NOTICES: Final = frozenset({Command.ILLEGAL_FRAME_FROM_MODULE, Command.ILLEGAL_FRAME_FROM_MCU})

REPLACED: Final = "replaced by a newer request"
"""Why a request failed of an endpoint that holds one only (``replace_outstanding``)."""


class QueueFullError(GizserialError):
    """More requests wait than the endpoint may hold; try again when one was answered."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOptions:
    """How an endpoint behaves on the line. Times are seconds."""

    ack_wait: float = 0.2
    """Wait for an ack after the last byte left (gizwits_protocol.h, GAgent: 200 ms)."""
    tries: int = 3
    """Transmissions in all: the first and two resends (R1)."""
    byte_time: float = 0.0
    """Seconds per byte on the line, 10 / baud; 0 where bytes take no time."""
    queue_depth: int = 16
    """Requests that may wait behind the outstanding one."""
    match_sn: bool = True
    """An ack must repeat the sn; the MCU SDK does not look at it (R24)."""
    lenient: bool = True
    """Accept an unescaped FF, which GAgent 04020006 sends in its plain acks."""
    max_len: int = MAX_LENGTH
    """Largest length field that is accepted."""
    idle_timeout: float = 0.5
    """A frame in which nothing arrives for so long is given up."""
    dedup: bool = True
    """Ack a repeated command again without carrying it out again (R27)."""
    dedup_window: float = 1.0
    """A command counts as repeated for so long."""
    sn_skips_0_255: bool = False
    """Count 1 to 254, as an older module firmware does (§1.4)."""
    unstuffed_ack: bool = False
    """Leave the FF of acks without payload unescaped, as GAgent 04020006 does (§1.6)."""
    replace_outstanding: bool = False
    """A new request replaces the outstanding one, whose repetitions end (MCU SDK)."""
    refuse_while_waiting: bool = False
    """A request while another is outstanding is refused (GAgent 04020006)."""
    never_answers: bool = False
    """Send no acks at all."""
    answer_delay: float = 0.0
    """Send every ack so much later."""
    drop_every_nth: int = 0
    """Overlook every nth good frame; 0: none."""
    bad_checksum_every_nth: int = 0
    """Send every nth frame with a wrong checksum; 0: none."""


@dataclasses.dataclass(slots=True)
class _Outstanding:
    request: Request
    sent: int = 0
    deadline: float | None = None
    """None until the frame has left."""

    @property
    def not_yet_sent(self) -> bool:
        """Not even its first transmission has left, so no ack can be its."""
        return self.sent == 1 and self.deadline is None


class Endpoint:
    """The line as one of its ends sees it.

    Commands of the peer come out as :class:`CommandReceived`; the role answers them with :meth:`ack`.
    """

    def __init__(self, role: Role, options: EndpointOptions | None = None) -> None:
        self.role: Final = role
        self.options = options or EndpointOptions()
        self._framer = self._new_framer()
        self._events: list[Event] = []
        self._out: deque[tuple[Frame, bool]] = deque()
        """Frames to send, and whether it is the outstanding request."""
        self._later: deque[tuple[float, Frame]] = deque()
        self._queue: deque[Request] = deque()
        self._outstanding: _Outstanding | None = None
        self._sn = 0
        self._line_free = float("-inf")
        self._last_byte = float("-inf")
        self._frame_began = float("-inf")
        self._last_command: tuple[Frame, float] | None = None
        self._last_ack: Frame | None = None
        self._copies = 0
        """Copies of the last command that came before it was acked."""
        self._received = self._sent = 0
        self._up = False
        self._now = float("-inf")
        self.restart()

    def _new_framer(self) -> Framer:
        return Framer(max_len=self.options.max_len, lenient=self.options.lenient)

    def restart(self) -> None:
        """As after power-up: sn starts again, nothing waits. What was waiting is told as failed."""
        self.abandon("restarted")
        self._sn = 1 if self.options.sn_skips_0_255 else 0
        self._out.clear()
        self._later.clear()
        self._last_command = self._last_ack = None
        self._copies = 0

    def abandon(self, reason: str) -> None:
        """Give up every request of ours."""
        waiting = self._requests()
        self._outstanding = None
        self._queue.clear()
        self._out = deque(entry for entry in self._out if not entry[1])
        self._events += [RequestFailed(request, reason) for request in waiting]

    def withdraw(self, request: Request) -> None:
        """Send it no more; nothing is told of it. A request that is over is none to withdraw."""
        if self._outstanding is not None and self._outstanding.request is request:
            self._outstanding = None
            self._out = deque(entry for entry in self._out if not entry[1])
            self._start_next()
        elif request in self._queue:
            self._queue.remove(request)

    @property
    def idle(self) -> bool:
        """No request of ours is outstanding or waits."""
        return self._outstanding is None and not self._queue

    @property
    def has_room(self) -> bool:
        """:meth:`send` takes another request."""
        if self.options.replace_outstanding:
            return True
        if self.options.refuse_while_waiting and not self.idle:
            return False
        return self._outstanding is None or len(self._queue) < self.options.queue_depth

    def waits(self, command: int) -> bool:
        """A request with this command is outstanding or waits."""
        return any(request.frame.command == command for request in self._requests())

    def _requests(self) -> list[Request]:
        outstanding = [self._outstanding.request] if self._outstanding else []
        return [*outstanding, *self._queue]

    # --- sending

    def send(
        self,
        command: int,
        payload: bytes = b"",
        *,
        now: float,
        flags: int = 0,
        token: object = None,
        least: int = 0,
        reserved: bool = False,
        wait: float | None = None,
        tries: int | None = None,
    ) -> Request:
        """Queue a request. It is sent when those before it were answered or given up.

        :param least: An ack with fewer bytes of payload counts as none.
        :param reserved: Take it even if the queue is full. The role's own frames that must not be kept off
            the line, of which it has one of a kind waiting (:meth:`waits`).
        :param wait: Wait for this ack; None: as for others.
        :param tries: Transmissions in all; None: as for others.
        :raises QueueFullError: too many wait already.
        :raises EncodeError: the payload is longer than a frame can carry.
        """
        self._now = max(self._now, now)
        if self.options.refuse_while_waiting and not self.idle:
            raise QueueFullError("the line is busy: a request is waiting for its ack")
        frame = Frame(command, self._sn, payload, flags)
        frame.encode()
        if self.options.replace_outstanding:
            self.abandon(REPLACED)
        if not reserved and not self.has_room:
            raise QueueFullError(f"{len(self._queue)} requests wait already, no more are taken")
        self._count_sn()
        request = Request(frame, token, least, wait, tries)
        self._queue.append(request)
        self._start_next()
        return request

    def _count_sn(self) -> None:
        self._sn = (self._sn + 1) & 0xFF
        if self.options.sn_skips_0_255 and self._sn in {0, 255}:
            self._sn = 1

    def ack(self, frame: Frame, payload: bytes = b"", *, now: float, flags: int = 0) -> None:
        """Answer a command of the peer: id plus one, same sn (serial.md §1.4)."""
        self._now = max(self._now, now)
        answer = Frame(frame.command + 1, frame.sn, payload, flags)
        copies = 0
        if self._last_command is not None and self._last_command[0] is frame:
            self._last_ack = answer
            copies, self._copies = self._copies, 0
        for _ in range(1 + copies):
            self._answer(answer, now)

    def _answer(self, answer: Frame, now: float) -> None:
        if self.options.never_answers:
            return
        if self.options.answer_delay:
            self._later.append((now + self.options.answer_delay, answer))
        else:
            self._out.append((answer, False))

    def notice(self, sn: int, code: int, *, now: float) -> None:
        """Tell the peer that a frame with this sn was illegal; never acked (§4.9)."""
        self._now = max(self._now, now)
        if self._last_command is not None and self._last_command[0].sn == sn and self._last_ack is None:
            self._last_command = None  # it was not carried out: when it comes again it is looked at again
        command = (
            Command.ILLEGAL_FRAME_FROM_MODULE if self.role is Role.MODULE else Command.ILLEGAL_FRAME_FROM_MCU
        )
        self._out.append((Frame(command, sn, schemas.ILLEGAL_FRAME.build({"code": code})), False))

    def data_to_send(self, *, now: float) -> bytes:
        """Take the bytes that are to leave. The wait for an ack begins when the last of them has left."""
        self._now = max(self._now, now)
        wire = bytearray()
        while self._out:
            frame, is_request = self._out.popleft()
            encoded = self._encode(frame)
            wire += encoded
            self._line_free = max(self._line_free, now) + len(encoded) * self.options.byte_time
            attempt = 1
            if is_request and self._outstanding is not None:
                wait = self._outstanding.request.wait or self.options.ack_wait
                self._outstanding.deadline = self._line_free + wait
                attempt = self._outstanding.sent
            if self._up:
                self._events.append(FrameSent(frame, attempt))
        return bytes(wire)

    def _encode(self, frame: Frame) -> bytes:
        self._sent += 1
        plain_ack = not frame.payload and frame.command in FRAMES and FRAMES[frame.command].is_ack
        wire = frame.encode(escape=not (self.options.unstuffed_ack and plain_ack))
        nth = self.options.bad_checksum_every_nth
        if nth and self._sent % nth == 0:
            escaped = wire.endswith(b"\xff\x55")
            last = 0x00 if escaped else wire[-1] ^ 0x5A
            # Both bytes of an escaped checksum go: a bare FF left in place would still be a good one (§1.7).
            wire = wire[: -2 if escaped else -1] + bytes((last if last != 0xFF else 0x01,))
        return wire

    # --- receiving

    def connection_made(self, *, now: float) -> list[Event]:
        """The line is up."""
        self._now = max(self._now, now)
        self._up = True
        self._framer = self._new_framer()
        self._out = deque(entry for entry in self._out if entry[1])  # answers to the line as it was
        return self._take()

    def connection_lost(self, *, now: float) -> list[Event]:
        """The line is down: what was half received is told, what waited is given up."""
        self._now = max(self._now, now)
        self._handle(self._framer.flush(), now)
        self.abandon("the line went down")
        self._out.clear()
        self._later.clear()
        self._up = False
        return self._take()

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        """Take bytes off the wire, in chunks of any size. Never raises on what a peer sent."""
        self._now = max(self._now, now)
        if not data:
            return self._take()
        was_in_frame = self._framer.in_frame
        items = self._framer.feed(data)
        self._last_byte = now
        if self._framer.in_frame and (items or not was_in_frame):
            self._frame_began = now
        self._handle(items, now)
        return self._take()

    def _handle(self, items: list[Item], now: float) -> None:
        for item in items:
            if isinstance(item, Noise):
                self._events.append(NoiseReceived(item))
            elif isinstance(item, BadFrame):
                self._events.append(BadFrameReceived(item))
            else:
                self._frame(item, now)

    def _frame(self, frame: Frame, now: float) -> None:
        self._received += 1
        nth = self.options.drop_every_nth
        if nth and self._received % nth == 0:
            return
        self._events.append(FrameReceived(frame))
        spec = FRAMES.get(frame.command)
        if spec is None or spec.sender is self.role:
            self._events.append(UnknownReceived(frame))
        elif frame.command in NOTICES:
            code = frame.payload[0] if frame.payload else None
            self._events.append(NoticeReceived(frame, code))
        elif spec.is_ack:
            self._match(frame)
        elif self._is_duplicate(frame, now):
            self._duplicate(frame, now)
        else:
            self._last_command, self._last_ack, self._copies = (frame, now), None, 0
            self._events.append(CommandReceived(frame))

    def _is_duplicate(self, frame: Frame, now: float) -> bool:
        if not self.options.dedup or self._last_command is None:
            return False
        last, when = self._last_command
        # The peer begins to wait when its frame has left: a long frame takes its time once more.
        window = self.options.dedup_window + len(frame.wire) * self.options.byte_time
        return last == frame and now - when <= window

    def _duplicate(self, frame: Frame, now: float) -> None:
        """The window begins anew: the next copy comes one wait after this one."""
        self._events.append(DuplicateReceived(frame))
        if self._last_command is not None:
            self._last_command = (self._last_command[0], now)
        if self._last_ack is not None:
            self._answer(self._last_ack, now)
        else:
            self._copies += 1  # it came in one chunk with the first

    def _match(self, ack: Frame) -> None:
        waiting = self._outstanding
        if (
            waiting is None
            or waiting.not_yet_sent
            or ack.command != waiting.request.frame.command + 1
            or (self.options.match_sn and ack.sn != waiting.request.frame.sn)
            or len(ack.payload) < waiting.request.least
        ):
            self._events.append(StrayAckReceived(ack))
            return
        self._outstanding = None
        self._out = deque(entry for entry in self._out if not entry[1])
        self._events.append(RequestAcked(waiting.request, ack))
        self._start_next()

    # --- time

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is due; at once when there are events to tell."""
        if self._events:
            return self._now
        times = [self._later[0][0]] if self._later else []
        if self._framer.in_frame:
            times.append(self._last_byte + self.options.idle_timeout)
        deadline = self._deadline()
        if deadline is not None:
            times.append(deadline)
        return min(times, default=None)

    def _deadline(self) -> float | None:
        """When the outstanding request is repeated: not while a frame arrives that began before (§1.8)."""
        waiting = self._outstanding
        if waiting is None or waiting.deadline is None:
            return None
        if self._framer.in_frame and self._frame_began <= waiting.deadline:
            return max(waiting.deadline, self._last_byte + self.options.idle_timeout)
        return waiting.deadline

    def handle_timeout(self, *, now: float) -> list[Event]:
        """Do what is due: end a frame that fell silent, send late acks, repeat or give up a request."""
        self._now = max(self._now, now)
        if self._framer.in_frame and now >= self._last_byte + self.options.idle_timeout:
            self._handle(self._framer.flush(), now)
        while self._later and self._later[0][0] <= now:
            self._out.append((self._later.popleft()[1], False))
        deadline = self._deadline()
        if deadline is not None and now >= deadline:
            self._expire()
        return self._take()

    def _expire(self) -> None:
        waiting = self._outstanding
        if waiting is None:
            return
        if waiting.sent < (waiting.request.tries or self.options.tries):
            self._transmit(waiting)
            return
        self._outstanding = None
        self._events.append(RequestFailed(waiting.request, f"no ack after {waiting.sent} transmissions"))
        self._start_next()

    def _transmit(self, waiting: _Outstanding) -> None:
        waiting.sent += 1
        waiting.deadline = None
        self._out.append((waiting.request.frame, True))

    def _start_next(self) -> None:
        if self._outstanding is None and self._queue:
            self._outstanding = _Outstanding(self._queue.popleft())
            self._transmit(self._outstanding)

    def take_events(self) -> list[Event]:
        """What there is to tell since the last call of anything that returns events."""
        return self._take()

    def _take(self) -> list[Event]:
        events, self._events = self._events, []
        return events
