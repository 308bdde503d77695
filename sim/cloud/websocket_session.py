"""One socket of the WebSocket API, without I/O or clock (websocket-api.md §4 to §13).

::

    OPEN --login_req--> LOGGED_IN --token revoked or expired (1009)--> OPEN
      |                     |
      | 150 s               | no heartbeat
      +------- 1011 --------+---> closed

Messages are answered in the order in which they come. What is to be sent waits in :attr:`outgoing`; when
:attr:`close_code` is set, the socket is closed after that. Times are monotonic seconds.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from gizserial.errors import GizserialError
from gizserial.m2m.frames import ACK, CONTROL_ACKED, BusinessFrame
from sim.cloud.accounts import User, hash_token
from sim.cloud.api_errors import ApiError, Code
from sim.cloud.app_side import AppSide
from sim.cloud.device import Device
from sim.cloud.errors import CloudError
from sim.cloud.events import LoginRefused, Origin
from sim.cloud.values import AttrInvalid, RawInvalid, packet_of, raw_bytes
from sim.cloud.websocket_messages import (
    LOGIN_DONE,
    MAX_SN,
    PONG,
    Fault,
    heartbeat_of,
    invalid,
    login_failed,
    parse,
    patience,
    subscribed,
    truth_of,
)

LOGIN_TIME: Final = 150.0
"""Seconds that a socket may be open without a login (§4)."""
MAX_QUEUED: Final = 1000
"""Messages that may wait for a slow reader (§12)."""
RECHECK: Final = 60.0
"""Seconds after which a token's end is looked at again: the clock of the day may have been set."""
NORMAL, POLICY = 1000, 1008
"""Close codes of RFC 6455."""
_MAX_SHOWN: Final = 64
_DATA_POINTS: Final = {"attrs_v4": True, "custom": False, "raw": False}
"""``p0_type``: whether the socket has data points; otherwise raw data only."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """Who has logged in, and what he wants."""

    user: User
    appid: str
    token_hash: str = dataclasses.field(repr=False)
    expires: float = 0.0
    """When the token ends, in Unix seconds."""
    data_points: bool = True
    patience: float = 0.0
    """Seconds without activity after which the session is dead."""
    auto_subscribe: bool = True

    @property
    def origin(self) -> Origin:
        """Who sends his commands."""
        return Origin("client", self.user.uid, self.appid)


class Desk(Protocol):
    """Where sessions meet the devices."""

    def entered(self, session: WebSocketSession) -> None:
        """It has logged in, for the first time or as somebody else."""

    def left(self, session: WebSocketSession) -> None:
        """It is logged in no more."""

    def subscribe(self, session: WebSocketSession, did: str) -> None:
        """It wants the pushes of a device."""

    def expect(self, session: WebSocketSession, did: str, sn: int, req_sn: int | None, now: float) -> None:
        """It has sent a 0093: the 0094 is for it. None: it has numbered the packet itself."""

    def acknowledge(self, did: str, sn: int, now: float) -> bool:
        """A report of the device is acknowledged; whether nobody has done that yet."""


class _Refused(Exception):
    def __init__(self, fault: Fault, name: str = "") -> None:
        self.fault, self.name = fault, name
        super().__init__(fault.name)


class WebSocketSession:
    """One socket.

    :param now: When its handshake was done.
    """

    def __init__(self, side: AppSide, desk: Desk, *, now: float) -> None:
        self._side, self._desk = side, desk
        self.identity: Identity | None = None
        """None while nobody is logged in."""
        self.outgoing: Final[deque[str]] = deque()
        self.close_code: int | None = None
        self.close_reason = ""
        self.wake: Callable[[], None] = _nothing
        """Called when there is something to send, or the socket is to be closed."""
        self._idle_since = now
        self._active = now
        self._check_token = now

    # --- driven by the socket

    def receive(self, message: str | bytes, now: float) -> None:
        """Take one text or binary frame."""
        if self.close_code is not None:
            return
        found = parse(message)
        command = None if found is None else found["cmd"]
        if command != "login_req":
            self._lose_expired(now)
        if found is None:
            self.push(invalid(Fault.FORMAT))
            return
        try:
            if command == "login_req":
                # Its answer comes before anything else (§4), also before the end of the old token.
                self._log_in(found.get("data"), now)
                self._lose_expired(now)
            else:
                self._obey(found["cmd"], found, now)
        except _Refused as refused:
            self.push(invalid(refused.fault, refused.name))
            if refused.fault is Fault.FORMAT:
                return
        self._active = now

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` has something to do."""
        if self.close_code is not None:
            return None
        if self.identity is None:
            return self._idle_since + LOGIN_TIME
        return min(self._active + self.identity.patience, self._check_token)

    def handle_timeout(self, now: float) -> None:
        """End the session when it is dead, or its token has ended."""
        if self.close_code is not None:
            return
        if self.identity is not None and now >= self._check_token:
            self._lose_expired(now)
            self._plan_check(now)
        if self.identity is None:
            dead = now >= self._idle_since + LOGIN_TIME
        else:
            dead = now >= self._active + self.identity.patience
        if dead:
            self.push(invalid(Fault.NO_HEARTBEAT))
            self.close(NORMAL, "no heartbeat")

    # --- driven by the cloud

    def push(self, text: str) -> None:
        """Queue a message. A reader that is too slow for it is closed with 1008."""
        if self.close_code is not None:
            return
        if len(self.outgoing) >= MAX_QUEUED:
            self.outgoing.clear()
            self.close(POLICY, "too slow")
            return
        self.outgoing.append(text)
        self.wake()

    def lose(self, now: float) -> None:
        """Lose the session for a reason of the cloud's: 1009, and the client may log in again (§10)."""
        if self.identity is None:
            return
        self.push(invalid(Fault.SESSION_LOST))
        self._idle_since = now
        self._leave()

    def close(self, code: int, reason: str = "") -> None:
        """End the socket, after what waits has been sent."""
        if self.close_code is None:
            self.close_code, self.close_reason = code, reason
            self._leave()
            self.wake()

    def _leave(self) -> None:
        if self.identity is not None:
            self.identity = None
            self._desk.left(self)

    # --- login

    def _log_in(self, data: Any, now: float) -> None:
        form = data if isinstance(data, dict) else {}
        try:
            identity = self._identify(form)
        except CloudError as error:
            # A refused login changes nothing: who was logged in still is.
            shown = form.get("uid") if isinstance(form.get("uid"), str) else ""
            self._side.hub.tell(
                LoginRefused(
                    at=self._side.now(),
                    client_id=str(shown)[:_MAX_SHOWN],
                    code=int(Fault.LOGIN_FAILED),
                    reason=f"WebSocket: {error}",
                )
            )
            self.push(login_failed())
            return
        self.identity, self._active = identity, now
        self._plan_check(now)
        self.push(LOGIN_DONE)
        self._desk.entered(self)

    def _identify(self, form: dict[str, Any]) -> Identity:
        texts = {name: form.get(name) for name in ("appid", "uid", "token", "p0_type")}
        for name, value in texts.items():
            if not isinstance(value, str) or not _is_clean(value):
                raise CloudError(f"{name} is missing, or no text")
        data_points = _DATA_POINTS.get(str(texts["p0_type"]))
        if data_points is None:
            raise CloudError("p0_type is neither attrs_v4 nor custom")
        token = str(texts["token"])
        user, appid = self._side.accounts.check_token(token)
        if user.uid != texts["uid"] or appid != texts["appid"]:
            raise CloudError("the token is of another user or of another app")
        self._side.accounts.app(appid)
        token_hash = hash_token(token)
        return Identity(
            user,
            appid,
            token_hash,
            self._side.accounts.token_expires(token_hash) or 0.0,
            data_points,
            patience(heartbeat_of(form.get("heartbeat_interval"))),
            truth_of(form.get("auto_subscribe"), default=True),
        )

    def _lose_expired(self, now: float) -> None:
        if self.identity is not None and self._side.now() >= self.identity.expires:
            self.lose(now)

    def _plan_check(self, now: float) -> None:
        if self.identity is not None:
            rest = self.identity.expires - self._side.now()
            self._check_token = now + min(max(rest, 0.0), RECHECK)

    # --- commands

    def _obey(self, command: str, message: dict[str, Any], now: float) -> None:
        identity = self.identity
        if identity is None:
            raise _Refused(Fault.NOT_LOGGED_IN)
        if command == "ping":
            self.push(PONG)
        elif command == "subscribe_req":
            self._subscribe(identity, message.get("data"))
        elif command == "c2s_raw":
            self._raw(identity, message, now)
        elif command not in {"c2s_read", "c2s_write", "c2s_ack"}:
            raise _Refused(Fault.UNKNOWN_COMMAND)
        elif not identity.data_points:
            raise _Refused(Fault.P0_TYPE)
        elif command == "c2s_ack":
            self._ack(identity, message, now)
        else:
            self._read_or_write(identity, command, message, now)

    def _subscribe(self, identity: Identity, data: Any) -> None:
        if not isinstance(data, list):
            raise _Refused(Fault.FORMAT)
        dids = [_did_in(element) for element in data]
        try:
            bound = {binding.did for binding in self._side.bindings.of_user(identity.user.uid)}
            good = {did for did in bound.intersection(dids) if not self._side.device(did).disabled}
        except CloudError:
            raise _Refused(Fault.SEND_FAILED) from None
        self.push(subscribed([did for did in dids if did in good], [did for did in dids if did not in good]))
        for did in dict.fromkeys(dids):
            if did in good:
                self._desk.subscribe(self, did)

    def _read_or_write(self, identity: Identity, command: str, message: dict[str, Any], now: float) -> None:
        data = _data(message)
        device = self._device(identity, data.get("did"))
        req_sn = _number(message.get("req_sn"))
        sn = None if req_sn is None else self._side.hub.next_sn()
        if command == "c2s_read":
            packet = self._side.read_packet(device, _names(data.get("names")), sn=sn)
        else:
            attrs = data.get("attr") if data.get("attrs") is None else data["attrs"]
            if not isinstance(attrs, dict) or not attrs:
                raise _Refused(Fault.ATTRS, "attrs")
            try:
                packet = self._side.attrs_packet(device.product_key, attrs, sn=sn)
            except AttrInvalid as error:
                raise _Refused(Fault.ATTRS, error.name) from None
        self._send(device, packet, identity)
        if sn is not None:
            self._desk.expect(self, device.did, sn, req_sn, now)

    def _raw(self, identity: Identity, message: dict[str, Any], now: float) -> None:
        data = _data(message)
        device = self._device(identity, data.get("did"))
        try:
            packet = packet_of(raw_bytes(data.get("raw")), strict=self._side.config.strict_raw)
        except (RawInvalid, GizserialError):
            raise _Refused(Fault.RAW) from None
        self._send(device, packet, identity)
        frame = BusinessFrame.decode(packet)
        if isinstance(frame, BusinessFrame) and frame.sn is not None:
            if frame.command == CONTROL_ACKED:
                self._desk.expect(self, device.did, frame.sn, None, now)
            elif frame.command == ACK:
                self._desk.acknowledge(device.did, frame.sn, now)

    def _ack(self, identity: Identity, message: dict[str, Any], now: float) -> None:
        data = message.get("data")
        did = message.get("did", data.get("did") if isinstance(data, dict) else None)
        device = self._device(identity, did)
        sn = message.get("res_sn")
        if type(sn) is not int:
            raise _Refused(Fault.FORMAT)
        if self._desk.acknowledge(device.did, sn, now):
            self._send(device, BusinessFrame(ACK, b"", sn).encode(), identity)

    def _device(self, identity: Identity, did: Any) -> Device:
        """The device of a command, checked in the order of §7.0."""
        if not isinstance(did, str):
            raise _Refused(Fault.FORMAT)
        if not did.isascii():
            raise _Refused(Fault.NOT_BOUND)
        try:
            device, _ = self._side.bound(identity.user, did)
            return self._side.ready(device)
        except ApiError as error:
            raise _Refused(Fault.OFFLINE if error.code == Code.DEVICE_OFFLINE else Fault.NOT_BOUND) from None
        except CloudError:
            raise _Refused(Fault.SEND_FAILED) from None

    def _send(self, device: Device, packet: bytes, identity: Identity) -> None:
        try:
            self._side.send(device, packet, identity.origin)
        except CloudError:
            raise _Refused(Fault.SEND_FAILED) from None


def _did_in(element: Any) -> str:
    did = element.get("did") if isinstance(element, dict) else None
    if not isinstance(did, str):
        raise _Refused(Fault.FORMAT)
    return did


def _data(message: dict[str, Any]) -> dict[str, Any]:
    data = message.get("data")
    if not isinstance(data, dict):
        raise _Refused(Fault.FORMAT)
    return data


def _number(value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 < value <= MAX_SN:
        raise _Refused(Fault.FORMAT)
    return value


def _names(value: Any) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _Refused(Fault.FORMAT)
    return value


def _is_clean(text: str) -> bool:
    """No half of a surrogate pair, which JSON can write and nothing can store."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _nothing() -> None:
    """Nobody is there to be woken."""
