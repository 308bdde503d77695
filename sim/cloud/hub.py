"""What the cloud knows of the devices right now, and what it asks them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from gizserial.m2m import frames, topics
from gizserial.m2m.frames import BadMessage, BusinessFrame, Control
from gizserial.m2m.mqtt31 import Publish
from gizserial.m2m.topics import TopicKind
from gizserial.p0 import Action
from sim.cloud.auth import CLIENT
from sim.cloud.device import LastData
from sim.cloud.errors import DeviceOffline, NoAnswer, NotDelivered, StoreError, UnknownDevice
from sim.cloud.events import (
    Answer,
    AppOffline,
    AppOnline,
    Event,
    ModuleLog,
    Notice,
    Offline,
    Online,
    Origin,
    Report,
    Request,
)
from sim.cloud.pacing import Outgoing
from sim.cloud.store import Store

if TYPE_CHECKING:
    from sim.cloud.mqtt_client import ClientConnection

SN_MAX: Final = 2**31 - 1
"""[V4] reads the sn as a signed number (R11)."""
ANSWER_TIME: Final = 3.0
"""Seconds that a device has for its 0094 (§12.3)."""
MAX_LOG: Final = 4096
COMPLAIN_EVERY: Final = 60.0
"""Seconds between two sentences about a store that cannot be written."""


class Hub:
    """Who is on line, what they reported last, and requests that wait for an answer."""

    def __init__(self, store: Store) -> None:
        self.store: Final = store
        self._observers: list[Callable[[Event], None]] = []
        self._devices: dict[str, ClientConnection] = {}
        """The connection of each device that has one."""
        self._subscriptions: dict[ClientConnection, set[str]] = {}
        self._online: set[str] = set()
        """Declared on line. While one connection replaces another this stays so."""
        self._complete: set[ClientConnection] = set()
        """Devices that have made all their subscriptions."""
        self._apps: dict[str, set[object]] = {}
        """Who watches a device: MQTT apps and sockets of the WebSocket API."""
        self._waiting: dict[tuple[str, int], asyncio.Future[bytes]] = {}
        self._reading: dict[str, list[asyncio.Future[bytes]]] = {}
        self._sn = 0
        self.on_request: Callable[[str, Control], None] = lambda _did, _message: None
        """Takes what modules ask the cloud by MQTT (§9.2), by did; 020f is answered here."""
        self._complained = 0.0
        """When a write into the store failed and that was told."""

    # --- observers

    def subscribe(self, observer: Callable[[Event], None]) -> Callable[[], None]:
        """Have a function told every event; gives the function that ends it."""
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    def tell(self, event: Event) -> None:
        """Tell every observer."""
        for observer in list(self._observers):
            observer(event)

    # --- what may be asked

    def is_online(self, did: str) -> bool:
        """The device has an MQTT session with all its subscriptions (§9.5)."""
        return did in self._online

    @property
    def online(self) -> frozenset[str]:
        """The devices that are on line."""
        return frozenset(self._online)

    def last_report(self, did: str) -> LastData | None:
        """The device's last report, also of an earlier run (:raises UnknownDevice: no such device)."""
        device = self.store.device(did)
        if device is None:
            raise UnknownDevice(did)
        return device.last_report

    def next_sn(self) -> int:
        """A number for a 0093 of the cloud's."""
        self._sn = self._sn % SN_MAX + 1
        return self._sn

    def send(self, did: str, packet: bytes, origin: Origin) -> None:
        """Hand a business frame to the device's connection, which sends it when the device can take it.

        :raises UnknownDevice: no such device.
        :raises DeviceOffline: it has no session.
        :raises NotDelivered: too much waits for it already, or the frame is too long for it.
        """
        refused = self._connection(did).send(Publish(topics.app2dev(did, CLIENT), packet), origin=origin)
        if refused is not None:
            raise NotDelivered(did, refused)

    def watch(self, did: str, who: object) -> None:
        """Somebody watches the device (0210 tells it how many do)."""
        watchers = self._apps.setdefault(did, set())
        if who not in watchers:
            watchers.add(who)
            self._tell_count(did)

    def unwatch(self, did: str, who: object) -> None:
        """Somebody does so no more."""
        watchers = self._apps.get(did, set())
        if who in watchers:
            watchers.discard(who)
            if not watchers:
                del self._apps[did]
            self._tell_count(did)

    def say(self, did: str, message: Control, *, key: str) -> bool:
        """Send a control message (§9.1); False when the device is off line or takes no more.

        :param key: Replaces a message with the same key that still waits to be sent.
        """
        connection = self._devices.get(did)
        if connection is None or did not in self._online:
            return False
        packet = Publish(topics.ser2cli_res(did), frames.encode_control(message))
        return connection.send(packet, key=key) is None

    def here(self, did: str) -> str:
        """The address at which this device reached the cloud."""
        connection = self._devices.get(did)
        return "127.0.0.1" if connection is None else connection.here

    def disconnect(self, did: str, reason: str) -> bool:
        """End the MQTT session of a device; whether it had one."""
        connection = self._devices.get(did)
        if connection is not None:
            connection.stop(reason)
        return connection is not None

    async def control(self, did: str, p0: bytes, *, timeout: float = ANSWER_TIME) -> bytes:  # noqa: ASYNC109 - part of the protocol
        """Send a P0 as 0093 and wait for its 0094; gives the P0 in it, usually empty.

        :raises UnknownDevice: no such device.
        :raises DeviceOffline: it has no session.
        :raises NoAnswer: no 0094 in time.
        """
        sn = self.next_sn()
        key = did, sn
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        try:
            self.send(did, BusinessFrame(frames.CONTROL_ACKED, p0, sn).encode(), Origin("cloud"))
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise NoAnswer(did, f"device {did} did not acknowledge within {timeout:g} s") from None
        finally:
            del self._waiting[key]

    async def read(self, did: str, p0: bytes = b"\x02", *, timeout: float = ANSWER_TIME) -> bytes:  # noqa: ASYNC109 - part of the protocol
        """Send a read as 0090 and wait for the status that follows as 0091.

        :param p0: The read's P0; a variable-length product has another one.
        """
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._reading.setdefault(did, []).append(future)
        try:
            self.send(did, BusinessFrame(frames.CONTROL, p0).encode(), Origin("cloud"))
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise NoAnswer(did, f"device {did} did not answer the read within {timeout:g} s") from None
        finally:
            self._reading[did].remove(future)

    def _connection(self, did: str) -> ClientConnection:
        if self.store.device(did) is None:
            raise UnknownDevice(did)
        connection = self._devices.get(did)
        if connection is None or did not in self._online:
            raise DeviceOffline(did)
        return connection

    # --- told by the front

    def connected(self, connection: ClientConnection) -> None:
        """A client has logged in."""
        login = connection.login
        if login is not None and login.party == "device":
            self._devices[login.did] = connection
            self.keep(lambda: self.store.touch(login.did, time.time(), address=connection.peer[0]))
        self._subscriptions[connection] = set()

    def overdue(self, connection: ClientConnection) -> None:
        """A client had time enough to subscribe: a device that took over and did not is off line."""
        login = connection.login
        if login is None or connection in self._complete:
            return
        if self._devices.get(login.did) is connection:
            self._went_offline(connection, "another connection took over and did not subscribe")

    def disconnected(self, connection: ClientConnection, reason: str, *, replaced: bool = False) -> None:
        """A client is gone.

        :param replaced: Another connection of the same client follows at once, so a device stays on line:
            it is told to be on line again when that one has subscribed (websocket-api.md §9.1).
        """
        login = connection.login
        self._subscriptions.pop(connection, None)
        self._complete.discard(connection)
        if login is None:
            return
        if login.party == "app":
            self._app_left(connection)
        elif self._devices.get(login.did) is connection:
            del self._devices[login.did]
            if not replaced:
                self._went_offline(connection, reason)

    def _went_offline(self, connection: ClientConnection, reason: str) -> None:
        did = connection.login.did if connection.login is not None else ""
        if did in self._online:
            self._online.discard(did)
            self.keep(lambda: self.store.touch(did, time.time(), online=True))
            self.keep(lambda: self.store.set_changed(did, time.time()))
            self.tell(Offline(at=time.time(), did=did, reason=reason, heartbeat=connection.heartbeat))

    def subscribed(self, connection: ClientConnection, filters: list[str]) -> None:
        """The broker granted these filters."""
        login = connection.login
        if login is None or connection not in self._subscriptions:
            return
        mine = self._subscriptions[connection]
        mine.update(filters)
        if login.party == "app":
            if mine and connection not in self._apps.get(login.did, ()):
                self.tell(AppOnline(at=time.time(), did=login.did, client=login.client_id))
                self.watch(login.did, connection)
            return
        self._learn_product(login.did, filters)
        if connection not in self._complete and _is_complete(login.did, mine):
            self._complete.add(connection)
            again = login.did in self._online
            self._online.add(login.did)
            self.keep(lambda: self.store.touch(login.did, time.time(), online=True))
            self.keep(lambda: self.store.set_changed(login.did, time.time()))
            self.tell(
                Online(
                    at=time.time(),
                    did=login.did,
                    again=again,
                    address=connection.peer[0],
                    keep_alive=connection.keep_alive,
                )
            )
            self._tell_count(login.did)

    def _learn_product(self, did: str, filters: list[str]) -> None:
        """An adopted device has no product yet; its notice topic names it."""
        for text in filters:
            topic = topics.parse_topic(text)
            if topic is not None and topic.kind is TopicKind.SER2CLI_NOTI and topic.pk is not None:
                self.keep(partial(self.store.set_product, did, topic.pk))

    def unsubscribed(self, connection: ClientConnection, filters: tuple[str, ...]) -> None:
        """A client gave up these filters."""
        mine = self._subscriptions.get(connection)
        if mine is None or connection.login is None:
            return
        mine.difference_update(filters)
        if connection.login.party == "app" and not mine:
            self._app_left(connection)

    def published(self, connection: ClientConnection, packet: Publish) -> None:
        """A client published to a topic of its own; the broker passes it on."""
        login, topic = connection.login, topics.parse_topic(packet.topic)
        if login is None or topic is None or login.party == "app":
            return
        if topic.kind is TopicKind.CLI2SER_REQ:
            message = frames.decode_control(packet.payload)
            if isinstance(message, frames.AppCountRequest):
                self._tell_count(login.did)
            elif not isinstance(message, BadMessage):
                self.keep(partial(self.on_request, login.did, message))
        elif topic.kind is TopicKind.SYS_LOG:
            text = packet.payload[:MAX_LOG].decode("utf-8", "replace")
            self.tell(ModuleLog(at=time.time(), did=login.did, text=text))
        elif topic.kind in {TopicKind.DEV2APP, TopicKind.DEV2APP_CLIENT}:
            frame = BusinessFrame.decode(packet.payload)
            if isinstance(frame, BusinessFrame):
                self._from_device(connection, login.did, topic.client, frame, packet.payload)

    def _from_device(
        self,
        connection: ClientConnection,
        did: str,
        client: str | None,
        frame: BusinessFrame,
        packet: bytes,
    ) -> None:
        now = time.time()
        if frame.command == frames.ACK and frame.sn is not None and client is not None:
            if connection.queue is not None:
                connection.queue.acknowledged(client, frame.sn)
                connection.pump()
            self.tell(Answer(at=now, did=did, client=client, sn=frame.sn, p0=frame.payload, packet=packet))
            future = self._waiting.get((did, frame.sn)) if client == CLIENT else None
            if future is not None and not future.done():
                future.set_result(frame.payload)
        elif frame.command in {frames.REPORT, frames.CONTROL_ACKED} and frame.payload:
            # A 0093 from a device is a report too (R10); an empty 0091 says nothing (R2).
            self.tell(Report(at=now, did=did, p0=frame.payload, packet=packet, sn=frame.sn))
            self._status_came(did, frame.payload)

    def keep(self, write: Callable[[], None]) -> None:
        """Store something that was heard. A full disk is told now and then, and ends nobody's connection."""
        try:
            write()
        except StoreError as error:
            self.complain(f"what devices say is not stored any more: {error}")

    def complain(self, text: str) -> None:
        """Tell the user of something that goes on, now and then."""
        now = time.time()
        if now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            self.tell(Notice(at=now, text=text))

    def _status_came(self, did: str, p0: bytes) -> None:
        if p0[0] in {Action.READ_REPLY, Action.VAR_READ_REPLY}:
            for future in self._reading.get(did, ()):
                if not future.done():
                    future.set_result(p0)

    def sent(self, connection: ClientConnection, item: Outgoing) -> None:
        """A packet has left for a device."""
        if item.frame is not None and connection.login is not None:
            frame = item.frame
            self.tell(
                Request(
                    at=time.time(),
                    did=connection.login.did,
                    client=item.client,
                    command=frame.command,
                    sn=frame.sn,
                    p0=frame.payload,
                    packet=item.packet.payload if isinstance(item.packet, Publish) else b"",
                    origin=item.origin,
                )
            )

    # --- apps

    def _app_left(self, connection: ClientConnection) -> None:
        login = connection.login
        if login is None or connection not in self._apps.get(login.did, ()):
            return
        self.tell(AppOffline(at=time.time(), did=login.did, client=login.client_id))
        self.unwatch(login.did, connection)

    def _tell_count(self, did: str) -> None:
        """0210: how many apps are there; the newest number is enough (§9.3)."""
        self.say(did, frames.AppCount(len(self._apps.get(did, ()))), key="0210")


def _is_complete(did: str, filters: set[str]) -> bool:
    """All that a module needs: what apps say and what the cloud says (G2 omits the product-wide notice)."""
    return topics.ser2cli_res(did) in filters and any(
        text in filters for text in (f"app2dev/{did}/#", f"app2dev/{did}/+")
    )
