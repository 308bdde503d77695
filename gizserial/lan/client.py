"""Our end of a LAN session: passcode, login, heartbeats, requests, and coming back (lan.md §8).

::

    start -> CONNECTING -> [PASSCODE] -> LOGIN -> READY
                 ^                         |        |
                 `------ WAITING <---------+--------'  2 s, doubled up to 300 s
    a refused passcode or login ends it: STOPPED
"""

from __future__ import annotations

import dataclasses
import enum
from collections import deque
from typing import Final

from gizserial.errors import GizserialError
from gizserial.lan import messages
from gizserial.lan.commands import LanCommand
from gizserial.lan.framing import LanFramer, encode_frame
from gizserial.m2m.frames import BusinessFrame

CONNECT_TIME: Final = 5.0
ANSWER_TIME: Final = 5.0
HEARTBEAT: Final = 4.0
LOSS: Final = 12.0
"""Seconds without 0016 after which the session counts as lost (L15)."""
BACKOFF_FIRST: Final = 2.0
BACKOFF_MOST: Final = 300.0
QUEUE_DEPTH: Final = 32
"""Requests of a kind that wait for the one before them."""

_READ_REPLIES: Final = (b"\x03", b"\x13")


class ClientState(enum.Enum):
    """Where a session is."""

    IDLE = "not started"
    CONNECTING = "connecting"
    PASSCODE = "asking for the passcode"
    LOGIN = "logging in"
    READY = "logged in"
    WAITING = "waiting before the next attempt"
    STOPPED = "stopped"


class TooManyRequests(GizserialError):
    """More requests than a session holds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Connect:
    """Open a connection, then call ``connected`` or ``closed``."""


@dataclasses.dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes."""

    data: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Close:
    """Close the connection (or stop opening it); nothing of it is to be reported any more."""


@dataclasses.dataclass(frozen=True, slots=True)
class PasscodeLearned:
    """The module gave its passcode: bound."""

    passcode: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class LoggedIn:
    """The session is up."""


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """The module refuses us; the session has stopped.

    :ivar what: ``passcode`` when binding is not allowed, ``login`` when the passcode is wrong.
    """

    what: str


@dataclasses.dataclass(frozen=True, slots=True)
class SessionLost:
    """The session ended or did not come about; the next attempt follows."""

    reason: str
    retry_in: float


@dataclasses.dataclass(frozen=True, slots=True)
class FrameArrived:
    """A frame of a session that is up, whatever it says; told before what follows from it."""

    frame: BusinessFrame


@dataclasses.dataclass(frozen=True, slots=True)
class P0Arrived:
    """The device says something: a report, or the answer to a read."""

    p0: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """A request was answered."""

    token: object
    frame: BusinessFrame


@dataclasses.dataclass(frozen=True, slots=True)
class Unanswered:
    """A request was not answered in time, or its session ended."""

    token: object
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class ClientTrace:
    """One line about what happens. Holds no secrets."""

    text: str


ClientEffect = (
    Connect
    | Send
    | Close
    | PasscodeLearned
    | LoggedIn
    | Refused
    | SessionLost
    | FrameArrived
    | P0Arrived
    | Answered
    | Unanswered
    | ClientTrace
)


@dataclasses.dataclass(slots=True)
class _Request:
    command: int
    body: bytes
    token: object
    sn: int | None = None
    deadline: float = 0.0


class LanClient:
    """One session with one module, again and again.

    :param passcode: None: asked for with 0006, which works while the module allows binding.
    """

    def __init__(self, passcode: str | None = None) -> None:
        self.passcode = passcode
        self.state = ClientState.IDLE
        self._out: list[ClientEffect] = []
        self._framer = LanFramer()
        self._deadline: float | None = None
        self._beat_due: float | None = None
        self._last_beat = 0.0
        self._backoff = BACKOFF_FIRST
        self._sn = 0
        self._current: dict[int, _Request] = {}
        self._waiting: dict[int, deque[_Request]] = {}

    def effects(self) -> list[ClientEffect]:
        """What is to be done and told since the last call, in order."""
        out, self._out = self._out, []
        return out

    # --- what the user wants

    def start(self, now: float) -> None:
        """Begin, and keep the session up until :meth:`stop`."""
        self.state = ClientState.CONNECTING
        self._deadline = now + CONNECT_TIME
        self._out.append(Connect())

    def stop(self) -> None:
        """End the session."""
        self._end("the session was ended")
        self.state = ClientState.STOPPED

    def send_p0(self, p0: bytes, now: float, *, token: object = None, acked: bool = True) -> None:
        """Send a P0: with 0093, which is acknowledged by number, or else with 0090.

        :raises TooManyRequests: not logged in, or too many wait.
        """
        command = LanCommand.CONTROL_ACKED if acked else LanCommand.CONTROL
        sn = None
        if acked:
            self._sn = self._sn % 0xFFFFFFFF + 1
            sn = self._sn
        self._request(_Request(command, p0, token, sn), now)

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are, for whoever tries out a module; what comes is told as frames.

        :raises TooManyRequests: not logged in.
        """
        if self.state is not ClientState.READY:
            raise TooManyRequests("there is no session with the module")
        self._out.append(Send(data))

    def ask_info(self, now: float, *, token: object = None) -> None:
        """Ask for versions (0013); the answer is the body of 0014."""
        self._request(_Request(LanCommand.INFO, b"", token), now)

    def _request(self, request: _Request, now: float) -> None:
        if self.state is not ClientState.READY:
            raise TooManyRequests("there is no session with the module")
        frame = encode_frame(request.command, request.body, request.sn)  # refuses before it is queued
        if request.command not in self._current:
            self._transmit(request, frame, now)
            return
        waiting = self._waiting.setdefault(request.command, deque())
        if len(waiting) >= QUEUE_DEPTH:
            raise TooManyRequests(f"{QUEUE_DEPTH} requests wait for the module already")
        waiting.append(request)

    def _transmit(self, request: _Request, frame: bytes, now: float) -> None:
        request.deadline = now + ANSWER_TIME
        self._current[request.command] = request
        self._out.append(Send(frame))

    # --- the connection

    def connected(self, now: float) -> None:
        """The connection is there."""
        if self.state is not ClientState.CONNECTING:
            return
        self._framer = LanFramer()
        self._deadline = now + ANSWER_TIME
        if self.passcode is None:
            self.state = ClientState.PASSCODE
            self._out.append(Send(encode_frame(LanCommand.PASSCODE)))
        else:
            self._log_in(self.passcode)

    def closed(self, reason: str, now: float) -> None:
        """The connection is gone, or could not be made."""
        if self.state not in {ClientState.IDLE, ClientState.WAITING, ClientState.STOPPED}:
            self._lose(reason, now)

    def data(self, data: bytes, now: float) -> None:
        """Bytes of the module, in chunks of any size."""
        for item in self._framer.feed(data):
            if self.state in {ClientState.WAITING, ClientState.STOPPED}:
                return
            if isinstance(item, BusinessFrame):
                self._frame(item, now)
        ended = self.state in {ClientState.WAITING, ClientState.STOPPED}
        if self._framer.failure is not None and not ended:
            self._lose(f"the module does not speak the protocol: {self._framer.failure}", now)

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is due."""
        if self.state in {ClientState.IDLE, ClientState.STOPPED}:
            return None
        times = [self._deadline, self._beat_due]
        times += [request.deadline for request in self._current.values()]
        if self.state is ClientState.READY:
            times.append(self._last_beat + LOSS)
        return min((time for time in times if time is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """Do what is due. Calling it early does nothing."""
        if self._deadline is not None and now >= self._deadline:
            if self.state is ClientState.WAITING:
                self.start(now)
            else:
                self._lose(f"no answer while {self.state.value}", now)
        if self.state is not ClientState.READY:
            return
        if now >= self._last_beat + LOSS:
            self._lose(f"no heartbeat for {LOSS:.0f} s", now)
            return
        if self._beat_due is not None and now >= self._beat_due:
            self._beat_due = now + HEARTBEAT
            self._out.append(Send(encode_frame(LanCommand.HEARTBEAT)))
        for request in [each for each in self._current.values() if now >= each.deadline]:
            self._out.append(Unanswered(request.token, f"no answer for {ANSWER_TIME:.0f} s"))
            self._next(request.command, now)

    # --- inside

    def _log_in(self, passcode: str) -> None:
        self.state = ClientState.LOGIN
        self._out.append(Send(encode_frame(LanCommand.LOGIN, messages.passcode_body(passcode))))

    def _frame(self, frame: BusinessFrame, now: float) -> None:
        if self.state is ClientState.READY:
            self._out.append(FrameArrived(frame))
        match frame.command:
            case LanCommand.PASSCODE_REPLY if self.state is ClientState.PASSCODE:
                self._passcode_came(messages.read_passcode(frame.payload), now)
            case LanCommand.LOGIN_REPLY if self.state is ClientState.LOGIN:
                self._login_came(frame.payload, now)
            case LanCommand.HEARTBEAT_REPLY:
                self._last_beat = now
            case LanCommand.INFO_REPLY:
                self._answered(LanCommand.INFO, frame, now)
            case LanCommand.ACK:
                self._acked(frame, now)
            case LanCommand.REPORT:
                current = self._current.get(LanCommand.CONTROL)
                if current is not None and (not frame.payload or frame.payload.startswith(_READ_REPLIES)):
                    self._answered(LanCommand.CONTROL, frame, now)
                self._p0(frame.payload)
            case LanCommand.CONTROL_ACKED:  # dead code of [V4], and a report where it lives (L19)
                self._p0(frame.payload)
            case _:  # a second 0009, 0062, and what newer firmware may send
                self._out.append(ClientTrace(f"ignored command {frame.command:04x} of the module"))

    def _passcode_came(self, passcode: str | None, now: float) -> None:
        if passcode is None:
            return
        if not passcode:
            self._refuse("passcode")
            return
        self.passcode = passcode
        self._out.append(PasscodeLearned(passcode))
        self._deadline = now + ANSWER_TIME
        self._log_in(passcode)

    def _login_came(self, body: bytes, now: float) -> None:
        if body[:1] != b"\0":
            self._refuse("login")
            return
        self.state = ClientState.READY
        self._deadline = None
        self._last_beat = now
        self._beat_due = now + HEARTBEAT
        self._backoff = BACKOFF_FIRST
        self._out.append(LoggedIn())

    def _p0(self, p0: bytes) -> None:
        if p0 and self.state is ClientState.READY:
            self._out.append(P0Arrived(p0))

    def _acked(self, frame: BusinessFrame, now: float) -> None:
        current = self._current.get(LanCommand.CONTROL_ACKED)
        if current is None or current.sn != frame.sn:
            return  # of a request that was given up
        self._answered(LanCommand.CONTROL_ACKED, frame, now)
        self._p0(frame.payload)

    def _answered(self, command: int, frame: BusinessFrame, now: float) -> None:
        request = self._current.get(command)
        if request is not None:
            self._out.append(Answered(request.token, frame))
            self._next(command, now)

    def _next(self, command: int, now: float) -> None:
        self._current.pop(command, None)
        waiting = self._waiting.get(command)
        if waiting:
            request = waiting.popleft()
            self._transmit(request, encode_frame(request.command, request.body, request.sn), now)

    def _refuse(self, what: str) -> None:
        self._end("the module refuses us")
        self.state = ClientState.STOPPED
        self._out.append(Refused(what))

    def _lose(self, reason: str, now: float) -> None:
        self._end(reason)
        self.state = ClientState.WAITING
        self._deadline = now + self._backoff
        self._out.append(SessionLost(reason, self._backoff))
        self._backoff = min(self._backoff * 2, BACKOFF_MOST)

    def _end(self, reason: str) -> None:
        self._out.append(Close())
        self._deadline = self._beat_due = None
        given_up = [*self._current.values(), *(each for queue in self._waiting.values() for each in queue)]
        self._current.clear()
        self._waiting.clear()
        self._out += [Unanswered(request.token, reason) for request in given_up]
