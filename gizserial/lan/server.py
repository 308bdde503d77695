"""The module's end of the LAN, as machines without I/O (lan.md §3–§5, §7).

:class:`LanServer` keeps the sessions, :class:`Announcer` discovery, on-boarding and announcements. Both ask
what the module is at the moment, and both put what is to be done into one list of effects.
"""

from __future__ import annotations

import dataclasses
import hmac
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from gizserial.errors import EncodeError
from gizserial.lan import messages
from gizserial.lan.commands import COMMANDS, Carrier, LanCommand, Side
from gizserial.lan.framing import LanFramer, decode_datagram, encode_frame
from gizserial.m2m.frames import BusinessFrame

MAX_CLIENTS: Final = 8
IDLE_STATION: Final = 14.0
"""Seconds without a byte after which a client is closed."""
IDLE_SOFTAP: Final = 70.0
HOTSPOTS_CLOSE: Final = 0.1
"""Seconds from 000d to the end of its connection ([V4])."""
ANNOUNCEMENTS: Final = 30
ANNOUNCE_INTERVAL: Final = 1.0
MAX_WAITING: Final = 32
"""Requests of one client that may wait for the one before them; what is beyond is dropped."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LanOptions:
    """How the module shows itself; each ``as_v4`` is a form of GAgent 04020006."""

    firmware_as_v4: bool = False
    """0004 names the firmware that the cloud named last, empty if none, instead of the module's own (L1)."""
    tail: bool = True
    """0004 ends with API server and protocol version (L2); [V4] sends neither."""
    protocol: str = "4.1.4"
    """Protocol version in the tail."""
    refusal_as_v4: bool = False
    """A refusing 0007 announces 15 bytes and has 5 (L3)."""
    info_as_v4: bool = False
    """0014 announces 32 bytes more than it has (L4)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LanFacts:
    """What the module is at the moment."""

    mac: str
    product_key: str
    passcode: str = dataclasses.field(default="", repr=False)
    did: str = ""
    attributes: bytes = bytes(8)
    server: str = ""
    """``host:port`` of its API; empty: none."""
    cloud_firmware: str = ""
    """Module firmware that the cloud named last."""
    wifi_hard_ver: str = "00SIM001"
    wifi_soft_ver: str = "04020035"
    mcu_hard_ver: str = ""
    mcu_soft_ver: str = ""
    p0_ver: str = ""
    binding: bool = False
    soft_ap: bool = False
    onboarding: bool = False
    hotspots: Sequence[messages.Hotspot] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class SendTo:
    """Send bytes to a client."""

    client: int
    data: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class CloseClient:
    """Close a client's connection, after what was sent to it."""

    client: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class AskMcu:
    """Relay a P0 to the MCU; :meth:`LanServer.answer` or :meth:`LanServer.no_answer` says how it went."""

    client: int
    command: int
    sn: int | None
    p0: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class ClientCount:
    """So many clients are logged in: status bit 11 of the MCU when not 0."""

    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class LeaveTest:
    """A client ended the production test."""


@dataclasses.dataclass(frozen=True, slots=True)
class Broadcast:
    """Send a datagram to everybody at the port of announcements."""

    data: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class RouterDataGiven:
    """An app gave router data: leave SoftAP and join."""

    data: messages.RouterData


@dataclasses.dataclass(frozen=True, slots=True)
class LanTrace:
    """One line about what happens. Holds no secrets."""

    text: str


LanEffect = SendTo | CloseClient | AskMcu | ClientCount | LeaveTest | Broadcast | RouterDataGiven | LanTrace
Facts = Callable[[], LanFacts]


@dataclasses.dataclass(slots=True)
class _Client:
    last: float
    framer: LanFramer = dataclasses.field(default_factory=LanFramer)
    logged_in: bool = False
    asked: AskMcu | None = None
    """What the MCU is asked for this client: one thing, so that the others and the cloud have room."""
    waiting: deque[AskMcu] = dataclasses.field(default_factory=deque)
    close_at: float | None = None


class LanServer:
    """The sessions of a module.

    :param facts: What the module is at the moment.
    """

    def __init__(self, facts: Facts, options: LanOptions | None = None) -> None:
        self._facts = facts
        self.options: Final = options or LanOptions()
        self._clients: dict[int, _Client] = {}
        self._last_id = 0
        self._out: list[LanEffect] = []

    @property
    def logged_in(self) -> int:
        """How many clients are logged in."""
        return sum(client.logged_in for client in self._clients.values())

    def effects(self) -> list[LanEffect]:
        """What is to be done since the last call, in order."""
        out, self._out = self._out, []
        return out

    # --- connections

    def connected(self, now: float) -> int | None:
        """Somebody connected: the number of the client; None for a ninth, to be closed without a byte."""
        if len(self._clients) >= MAX_CLIENTS:
            self._trace(f"a client more than {MAX_CLIENTS} was closed")
            return None
        self._last_id += 1
        # All of a connection's state is new: [V4] lets the next client of a slot inherit a login (§4.1).
        self._clients[self._last_id] = _Client(last=now)
        return self._last_id

    def lost(self, client: int) -> None:
        """A connection is gone."""
        gone = self._clients.pop(client, None)
        if gone is not None and gone.logged_in:
            self._out.append(ClientCount(self.logged_in))

    def close_all(self, reason: str) -> None:
        """The module restarts."""
        for client in list(self._clients):
            self._close(client, reason)

    def received(self, client: int, data: bytes, now: float) -> None:
        """Bytes of a client, in chunks of any size."""
        state = self._clients.get(client)
        if state is None:
            return
        state.last = now
        for item in state.framer.feed(data):
            if client not in self._clients:
                return  # one of the frames before it closed the connection
            if isinstance(item, BusinessFrame):
                self._frame(client, state, item, now)
        if state.framer.failure is not None and client in self._clients:
            self._close(client, state.framer.failure)

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is due."""
        limit = self._idle_limit
        times = [
            state.last + limit if state.close_at is None else min(state.close_at, state.last + limit)
            for state in self._clients.values()
        ]
        return min(times, default=None)

    def handle_timeout(self, now: float) -> None:
        """Close who was silent for too long. Calling it early does nothing."""
        limit = self._idle_limit
        for client, state in list(self._clients.items()):
            if state.close_at is not None and now >= state.close_at:
                self._close(client, "the list of routers was sent")
            elif now >= state.last + limit:
                self._close(client, f"no byte for {limit:.0f} s")

    @property
    def _idle_limit(self) -> float:
        return IDLE_SOFTAP if self._facts().soft_ap else IDLE_STATION

    # --- the MCU

    def answer(self, request: AskMcu, p0: bytes) -> None:
        """The MCU acknowledged with this P0: told to the requester only (§4.5)."""
        if not self._settled(request):
            return
        if request.command == LanCommand.CONTROL_ACKED:
            self._send(request.client, LanCommand.ACK, p0, request.sn)
        else:
            self._send(request.client, LanCommand.REPORT, p0)
        self._next(request.client)

    def no_answer(self, request: AskMcu) -> None:
        """The MCU was silent: nothing is sent, the connection stays."""
        if self._settled(request):
            self._next(request.client)

    def report(self, p0: bytes) -> None:
        """The MCU reported: told to everybody who is logged in."""
        for client, state in self._clients.items():
            if state.logged_in:
                self._send(client, LanCommand.REPORT, p0)

    def _settled(self, request: AskMcu) -> bool:
        state = self._clients.get(request.client)
        if state is None or state.asked is not request:
            return False
        state.asked = None
        return True

    def _next(self, client: int) -> None:
        state = self._clients.get(client)
        if state is not None and state.asked is None and state.waiting:
            state.asked = state.waiting.popleft()
            self._out.append(state.asked)

    # --- frames

    def _frame(self, client: int, state: _Client, frame: BusinessFrame, now: float) -> None:
        spec = COMMANDS.get(frame.command)
        known = spec is not None and spec.carrier is Carrier.TCP and spec.sender is Side.APP
        if not state.logged_in and (spec is None or not known or spec.login):
            self._close(client, f"command {frame.command:04x} before the login")
            return
        match frame.command:
            case LanCommand.PASSCODE:
                self._passcode(client)
            case LanCommand.LOGIN:
                self._login(client, state, frame.payload)
            case LanCommand.HOTSPOTS:
                self._hotspots(client)
                state.close_at = now + HOTSPOTS_CLOSE
            case LanCommand.INFO:
                self._info(client)
            case LanCommand.HEARTBEAT:
                self._send(client, LanCommand.HEARTBEAT_REPLY)
            case LanCommand.LEAVE_TEST:
                self._send(client, LanCommand.LEAVE_TEST_REPLY)
                self._out.append(LeaveTest())
            case LanCommand.CONTROL | LanCommand.CONTROL_ACKED:
                self._relay(client, state, frame)
            case _ if not known:  # known ones without a line here are accepted and have no effect (L7, L8)
                self._trace(f"ignored command {frame.command:04x} of LAN client {client}")

    def _passcode(self, client: int) -> None:
        facts = self._facts()
        if facts.binding and facts.passcode:
            self._send(client, LanCommand.PASSCODE_REPLY, messages.passcode_body(facts.passcode))
            return
        refusal = encode_frame(LanCommand.PASSCODE_REPLY, messages.passcode_body(""))
        if self.options.refusal_as_v4:
            refusal = refusal[:4] + b"\x0f" + refusal[5:]
        self._out.append(SendTo(client, refusal))
        self._close(client, "binding is not allowed now")

    def _login(self, client: int, state: _Client, body: bytes) -> None:
        wanted = self._facts().passcode.encode()
        # As [V4]: the bytes where the passcode stands, whatever the length before them says.
        given = body[2 : 2 + len(wanted)]
        if not wanted or not hmac.compare_digest(given, wanted):
            self._send(client, LanCommand.LOGIN_REPLY, b"\x01")
            self._close(client, "wrong passcode")
            return
        self._send(client, LanCommand.LOGIN_REPLY, b"\x00")
        if not state.logged_in:
            state.logged_in = True
            self._trace(f"LAN client {client} logged in")
            self._out.append(ClientCount(self.logged_in))

    def _hotspots(self, client: int) -> None:
        facts = self._facts()
        found = facts.hotspots if facts.soft_ap else ()
        self._send(client, LanCommand.HOTSPOTS_REPLY, messages.hotspots_body(found))

    def _info(self, client: int) -> None:
        facts = self._facts()
        info = messages.ModuleInfo(
            wifi_hard_ver=facts.wifi_hard_ver,
            wifi_soft_ver=facts.wifi_soft_ver,
            mcu_hard_ver=_version(facts.mcu_hard_ver),
            mcu_soft_ver=_version(facts.mcu_soft_ver),
            p0_ver=_version(facts.p0_ver),
            product_key=facts.product_key,
        )
        answer = encode_frame(LanCommand.INFO_REPLY, info.body())
        if self.options.info_as_v4:
            answer = answer[:4] + bytes((answer[4] + 32,)) + answer[5:]
        self._out.append(SendTo(client, answer))

    def _relay(self, client: int, state: _Client, frame: BusinessFrame) -> None:
        if not frame.payload:
            return
        if len(state.waiting) >= MAX_WAITING:
            self._trace(f"a request of LAN client {client} was dropped: {MAX_WAITING} wait for the MCU")
            return
        state.waiting.append(AskMcu(client, frame.command, frame.sn, frame.payload))
        self._next(client)

    def _send(self, client: int, command: int, body: bytes = b"", sn: int | None = None) -> None:
        self._out.append(SendTo(client, encode_frame(command, body, sn)))

    def _close(self, client: int, reason: str) -> None:
        self._out.append(CloseClient(client, reason))
        self.lost(client)

    def _trace(self, text: str) -> None:
        self._out.append(LanTrace(text))


class Announcer:
    """Discovery, on-boarding and announcements of a module."""

    def __init__(self, facts: Facts, options: LanOptions | None = None) -> None:
        self._facts = facts
        self._options = options or LanOptions()
        self._out: list[LanEffect] = []
        self._left: dict[int, int] = {}
        """Announcements to come, by command."""
        self._due = 0.0
        self._fresh, self._configured = True, False

    def effects(self) -> list[LanEffect]:
        """What is to be done since the last call, in order."""
        out, self._out = self._out, []
        return out

    def restart(self) -> None:
        """The module restarts: it announces itself again when it has a router."""
        self._left.clear()
        self._fresh = True

    def configured(self) -> None:
        """Router data arrived, in whatever way: 0019 follows when the router is joined."""
        self._configured = True

    def router_up(self, now: float) -> None:
        """The router is joined."""
        if self._fresh:
            self._left[LanCommand.STARTED] = ANNOUNCEMENTS
        if self._configured:
            self._left[LanCommand.ONBOARDED] = ANNOUNCEMENTS
        self._fresh = self._configured = False
        self._due = now

    def router_down(self) -> None:
        """The router is gone: there is nobody to tell. What was not yet told is told at the next one."""
        self._fresh = self._fresh or LanCommand.STARTED in self._left
        self._configured = self._configured or LanCommand.ONBOARDED in self._left
        self._left.clear()

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is due."""
        return self._due if self._left else None

    def handle_timeout(self, now: float) -> None:
        """Announce when it is time. Calling it early does nothing."""
        if not self._left or now < self._due:
            return
        self._due = max(self._due + ANNOUNCE_INTERVAL, now)
        facts = self._facts()
        for command in list(self._left):
            self._left[command] -= 1
            if not self._left[command]:
                del self._left[command]
            if command == LanCommand.STARTED:
                body = self._announcement(facts)
            else:
                body = messages.Onboarded(mac=facts.mac, product_key=facts.product_key, did=facts.did).body()
            self._out.append(Broadcast(encode_frame(command, body)))

    def datagram(self, data: bytes) -> bytes | None:
        """The answer to a datagram, for its sender; None when there is none."""
        frame = decode_datagram(data)
        if frame is None:
            return None
        if frame.command == LanCommand.DISCOVER:
            return encode_frame(LanCommand.DISCOVER_REPLY, self._announcement(self._facts()))
        if frame.command == LanCommand.ONBOARD:
            return self._onboard(frame.payload)
        return None

    def _onboard(self, body: bytes) -> bytes | None:
        facts = self._facts()
        if not (facts.soft_ap and facts.onboarding):
            return None
        given = messages.read_router_data(body)
        if given is None or not given.fits:
            self._out.append(LanTrace("router data of an app do not fit: not stored"))  # but answered (L10)
        else:
            self._out.append(RouterDataGiven(given))
        return encode_frame(LanCommand.ONBOARD_ACK)

    def _announcement(self, facts: LanFacts) -> bytes:
        tail = self._options.tail
        announcement = messages.Announcement(
            did=facts.did,
            mac=facts.mac,
            firmware=facts.cloud_firmware if self._options.firmware_as_v4 else facts.wifi_soft_ver,
            product_key=facts.product_key,
            attributes=facts.attributes,
            server=facts.server if tail else None,
            protocol=self._options.protocol if tail else None,
        )
        try:
            return announcement.body()
        except EncodeError:
            # What the MCU or the cloud named may be no ASCII; the module has to be found all the same.
            return dataclasses.replace(announcement, firmware="", server="" if tail else None).body()


def _version(value: str) -> str:
    """What an MCU said of its version, as far as it can be said here."""
    return "".join(char if " " <= char <= "~" else "?" for char in value)[:8]
