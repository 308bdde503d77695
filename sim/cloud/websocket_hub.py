"""Between devices and sockets of the WebSocket API: who gets which push (websocket-api.md §7 to §9)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Final, Generic, TypeVar

from sim.cloud.app_side import AppSide
from sim.cloud.auth import CLIENT
from sim.cloud.device import Device
from sim.cloud.errors import CloudError
from sim.cloud.events import (
    Answer,
    BadReported,
    Bound,
    DataReported,
    Event,
    Offline,
    Online,
    RawReported,
    Report,
    TokensRevoked,
    Unbound,
)
from sim.cloud.values import websocket_values
from sim.cloud.websocket_messages import (
    Fault,
    ack,
    binding_changed,
    invalid,
    noti,
    online_status,
    raw,
)
from sim.cloud.websocket_session import Identity, WebSocketSession

ACK_TIME: Final = 30.0
"""Seconds for which a number is remembered (§7.4)."""
MAX_NUMBERS: Final = 10_000
"""Numbers that are remembered at once; the oldest go first."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Ledger(Generic[K, V]):
    """What is remembered for :data:`ACK_TIME` and taken once."""

    def __init__(self) -> None:
        self._kept: dict[K, tuple[float, V]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, key: K, value: V, now: float) -> None:
        """Remember it."""
        self._kept.pop(key, None)
        self._kept[key] = now + ACK_TIME, value
        while self._kept:
            oldest = next(iter(self._kept))
            if self._kept[oldest][0] > now and len(self._kept) <= MAX_NUMBERS:
                break
            del self._kept[oldest]

    def take(self, key: K, now: float) -> V | None:
        """What was remembered, which is forgotten with this."""
        until, value = self._kept.pop(key, (now, None))
        return value if until > now else None

    def holds(self, key: K, now: float) -> bool:
        """Whether it is remembered."""
        return key in self._kept and self._kept[key][0] > now

    def forget(self, is_over: Callable[[K, V], bool]) -> None:
        """Forget all for which this is true."""
        for key in [key for key, (_, value) in self._kept.items() if is_over(key, value)]:
            del self._kept[key]


class _Asker:
    """Who waits for a 0094."""

    def __init__(self, session: WebSocketSession, req_sn: int | None) -> None:
        self.session, self.req_sn = session, req_sn
        self._identity = session.identity

    @property
    def is_there(self) -> bool:
        """It is still the same login."""
        return self._identity is not None and self.session.identity is self._identity

    @property
    def uid(self) -> str:
        """The user."""
        return "" if self._identity is None else self._identity.user.uid


class WebSocketHub:
    """Every session of the WebSocket API. It is an observer of the cloud's events.

    :param clock: Monotonic seconds.
    """

    def __init__(self, side: AppSide, *, clock: Callable[[], float]) -> None:
        self._side, self._clock = side, clock
        self._sessions: dict[WebSocketSession, set[str]] = {}
        """Of each open socket: the devices whose pushes it gets, all of them bound to its user."""
        self._user_of: dict[WebSocketSession, str] = {}
        self._of_user: dict[str, dict[WebSocketSession, None]] = {}
        self._of_device: dict[str, dict[WebSocketSession, None]] = {}
        self._asked: Ledger[tuple[str, int], _Asker] = Ledger()
        self._reported: Ledger[tuple[str, int], bool] = Ledger()
        """Reports that want an acknowledgement."""
        side.hub.subscribe(self._told)

    # --- sockets

    def open(self) -> WebSocketSession:
        """A session for a socket that has just been opened."""
        session = WebSocketSession(self._side, self, now=self._clock())
        self._sessions[session] = set()
        return session

    def forget(self, session: WebSocketSession) -> None:
        """Its socket is closed."""
        self.left(session)
        self._sessions.pop(session, None)

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[WebSocketSession]:
        return iter(list(self._sessions))

    @property
    def logged_in(self) -> int:
        """How many sockets are logged in."""
        return len(self._user_of)

    def subscriptions(self, session: WebSocketSession) -> frozenset[str]:
        """The devices whose pushes a session gets."""
        return frozenset(self._sessions.get(session, ()))

    def lose(self, uid: str | None = None) -> int:
        """Lose sessions, all or those of a user: each gets 1009 and may log in again. Gives their number."""
        lost = list(self._user_of if uid is None else self._of_user.get(uid, ()))
        for session in lost:
            session.lose(self._clock())
        return len(lost)

    # --- told by sessions

    def entered(self, session: WebSocketSession) -> None:
        """It has logged in, for the first time or as somebody else."""
        identity = session.identity
        if identity is None or session not in self._sessions:
            return
        self._forget_user(session)
        uid = identity.user.uid
        self._user_of[session] = uid
        self._of_user.setdefault(uid, {})[session] = None
        wanted = self._bound(uid) if identity.auto_subscribe else set()
        for did in self._sessions[session] - wanted:
            self._unsubscribe(session, did)
        for did in wanted:
            self.subscribe(session, did)

    def left(self, session: WebSocketSession) -> None:
        """It is logged in no more."""
        self._forget_user(session)
        for did in list(self._sessions.get(session, ())):
            self._unsubscribe(session, did)

    def subscribe(self, session: WebSocketSession, did: str) -> None:
        """It wants the pushes of a device."""
        dids = self._sessions.get(session)
        if dids is not None and did not in dids and session.identity is not None:
            dids.add(did)
            self._of_device.setdefault(did, {})[session] = None
            self._side.hub.watch(did, session)

    def expect(self, session: WebSocketSession, did: str, sn: int, req_sn: int | None, now: float) -> None:
        """It has sent a 0093: the 0094 is for it. None: it has numbered the packet itself."""
        if req_sn is not None or not self._asked.holds((did, sn), now):
            self._asked.put((did, sn), _Asker(session, req_sn), now)

    def acknowledge(self, did: str, sn: int, now: float) -> bool:
        """A report of the device is acknowledged; whether nobody has done that yet."""
        return self._reported.take((did, sn), now) is not None

    def _unsubscribe(self, session: WebSocketSession, did: str) -> None:
        dids = self._sessions.get(session)
        if dids is None or did not in dids:
            return
        dids.discard(did)
        of_device = self._of_device[did]
        del of_device[session]
        if not of_device:
            del self._of_device[did]
        self._side.hub.unwatch(did, session)

    def _forget_user(self, session: WebSocketSession) -> None:
        uid = self._user_of.pop(session, None)
        if uid is not None:
            of_user = self._of_user[uid]
            del of_user[session]
            if not of_user:
                del self._of_user[uid]

    def _bound(self, uid: str) -> set[str]:
        try:
            return {binding.did for binding in self._side.bindings.of_user(uid)}
        except CloudError:
            return set()

    # --- told by the cloud

    def _told(self, event: Event) -> None:
        if isinstance(event, DataReported):
            self._data_reported(event)
        elif isinstance(event, RawReported):
            self._push(event.did, raw(event.did, event.packet))
        elif isinstance(event, BadReported):
            self._push(event.did, invalid(Fault.DEVICE_DATA), raw(event.did, event.packet))
        elif isinstance(event, Report):
            if event.sn is not None and event.did in self._of_device:
                self._reported.put((event.did, event.sn), value=True, now=self._clock())
        elif isinstance(event, Answer):
            self._answered(event)
        elif isinstance(event, Online | Offline):
            self._changed(event.did, online=isinstance(event, Online))
        elif isinstance(event, Bound | Unbound):
            self._bindings_changed(event)
        elif isinstance(event, TokensRevoked):
            for session in list(self._of_user.get(event.uid, ())):
                if session.identity is not None and session.identity.token_hash != event.keep:
                    session.lose(self._clock())

    def _data_reported(self, event: DataReported) -> None:
        asker = None
        if event.answers is not None:
            asker = self._asked.take((event.did, event.answers), self._clock())
        device = self._heard(event.did)
        product = None if device is None else self._side.product(device.product_key)
        if device is None or product is None:
            return
        attrs = websocket_values(product, event.raw, bool_as_int=self._side.config.ws_bool_as_int)
        plain = noti(event.did, attrs, req_sn=event.sn)
        packet = raw(event.did, event.packet)
        for session, identity in self._receivers(event.did):
            if not identity.data_points:
                session.push(packet)
            elif (
                asker is not None and asker.req_sn is not None and asker.session is session and asker.is_there
            ):
                session.push(noti(event.did, attrs, res_sn=asker.req_sn))
            else:
                session.push(plain)

    def _answered(self, event: Answer) -> None:
        """A 0094 that has not become an ``s2c_noti`` is an ``s2c_ack`` for who asked."""
        asker = self._asked.take((event.did, event.sn), self._clock()) if event.client == CLIENT else None
        if asker is None or not asker.is_there:
            return
        if asker.req_sn is not None:
            asker.session.push(ack(event.did, asker.req_sn))
        elif not event.p0:
            asker.session.push(raw(event.did, event.packet))

    def _push(self, did: str, text: str, raw_text: str | None = None) -> None:
        if self._heard(did) is not None:
            for session, identity in self._receivers(did):
                session.push(text if raw_text is None or identity.data_points else raw_text)

    def _changed(self, did: str, *, online: bool) -> None:
        device = self._shown(did)
        if device is not None:
            text = online_status(device, online=online)
            for session, _ in self._receivers(did):
                session.push(text)

    def _bindings_changed(self, event: Bound | Unbound) -> None:
        bind = isinstance(event, Bound)
        if not bind:
            self._asked.forget(lambda key, asker: key[0] == event.did and asker.uid == event.uid)
        text = binding_changed(event.did, bind=bind)
        for session in list(self._of_user.get(event.uid, ())):
            if not bind:
                self._unsubscribe(session, event.did)
            elif session.identity is not None and session.identity.auto_subscribe:
                self.subscribe(session, event.did)
            session.push(text)

    def _receivers(self, did: str) -> list[tuple[WebSocketSession, Identity]]:
        found = ((session, session.identity) for session in self._of_device.get(did, ()))
        return [(session, identity) for session, identity in found if identity is not None]

    def _shown(self, did: str) -> Device | None:
        """The device, if somebody wants to know of it and may."""
        if did not in self._of_device:
            return None
        try:
            device = self._side.store.device(did)
        except CloudError:
            return None
        return None if device is None or device.disabled else device

    def _heard(self, did: str) -> Device | None:
        """The same for what it says: nothing is heard of a device that is not on line (§9.1)."""
        return self._shown(did) if self._side.hub.is_online(did) else None
