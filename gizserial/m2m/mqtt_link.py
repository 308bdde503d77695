"""The module's MQTT connection: login, subscriptions, heartbeat, loss and back-off (device-cloud.md §7).

::

    IDLE -> WAITING -> OPENING -> LOGIN -> SUBSCRIBING (once per topic) -> RUNNING
               ^-------------- any loss or refusal, with back-off -----------'

No DISCONNECT is ever sent: modules just close.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Sequence
from typing import Final

from gizserial.m2m.effects import CloseMqtt, CloudConnected, CloudLost, Effect, OpenMqtt, SendMqtt, Trace
from gizserial.m2m.mqtt31 import (
    FAILURE,
    FROM_SERVER,
    BadPacket,
    ConnAck,
    Connect,
    Packet,
    PacketReader,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
)

PING_INTERVAL: Final = 50.0
"""Seconds between PINGREQs; the first goes out at once on becoming connected (R1)."""
MAX_UNANSWERED: Final = 3
"""So many unanswered pings when the next is due drop the connection."""
STEP_TIMEOUT: Final = 10.0
"""Seconds for connecting, for CONNACK and for each SUBACK. Ours: the source of [V4] waits without a limit."""
RETRY_FIRST: Final = 5.0
RETRY_STEP: Final = 10.0
RETRY_CAP: Final = 600.0
"""Reconnects wait 0, 5, 15, 25 … 600 seconds."""
SHORTEST_SESSION: Final = 1.0
"""Seconds that a session counts for at least: [V4] sees a loss at its next tick of 1 s. A server that lets a
module in and closes is asked once a second, not without a pause."""
REBOOT_DELAY: Final = 375.0
"""[V4] reboots when its delay grows beyond this, which takes about two hours."""


class LinkState(enum.Enum):
    """How far the connection has come."""

    IDLE = "idle"
    WAITING = "waiting to connect"
    OPENING = "connecting"
    LOGIN = "logging in"
    SUBSCRIBING = "subscribing"
    RUNNING = "connected"


def retry_delay(failures: int) -> float:
    """Seconds before the next attempt after so many lost or failed connections in a row."""
    if failures <= 1:
        return 0.0
    return min(RETRY_FIRST + RETRY_STEP * (failures - 2), RETRY_CAP)


class MqttLink:
    """One module's connection to one MQTT server.

    :param out: Where effects go, in order.
    :param failed: Called with the CONNACK code, or None, and the time for each connection that did not get
        as far as RUNNING; it may call :meth:`hold`.
    """

    def __init__(
        self,
        out: list[Effect],
        failed: Callable[[int | None, float], None],
        *,
        keep_alive: int = 120,
    ) -> None:
        self._out, self._on_failed = out, failed
        self._keep_alive = keep_alive
        self._ping_interval = min(PING_INTERVAL, keep_alive / 2) if keep_alive else PING_INTERVAL
        self._reader = PacketReader(FROM_SERVER)
        self._address: tuple[str, int] | None = None
        self._login: Callable[[], Connect] = lambda: Connect("")
        self._topics: Sequence[str] = ()
        self._due: float | None = None
        self._earliest = 0.0
        self._opened = 0.0
        self._subscribed = 0
        self._unanswered = 0
        self._failures = 0
        self.failed_connects = 0
        """Connections in a row that did not get as far as RUNNING."""
        self.state = LinkState.IDLE

    @property
    def running(self) -> bool:
        """Whether the cloud session is complete."""
        return self.state is LinkState.RUNNING

    def _is_open(self) -> bool:
        return self.state in {LinkState.LOGIN, LinkState.SUBSCRIBING, LinkState.RUNNING}

    @property
    def next_delay(self) -> float:
        """What the present back-off is, in seconds."""
        return retry_delay(self._failures)

    @property
    def address(self) -> tuple[str, int] | None:
        """Where the server is; None until provisioning told."""
        return self._address

    def set_address(self, host: str, port: int) -> None:
        """Where to connect from the next attempt on."""
        self._address = (host, port)

    def set_login(self, login: Callable[[], Connect], topics: Sequence[str]) -> None:
        """Who we are and what to subscribe to, from the next attempt on."""
        self._login, self._topics = login, topics

    def start(self, now: float) -> None:
        """Connect, or go on with the back-off; nothing when it is under way."""
        if self.state is LinkState.IDLE and self._address is not None:
            self.state, self._due = LinkState.WAITING, max(now, self._earliest)
            self.handle_timeout(now)

    def stop(self, reason: str) -> None:
        """Close for good and forget the back-off."""
        self._close(reason)
        self._failures, self.failed_connects, self._earliest = 0, 0, 0.0
        self.state, self._due = LinkState.IDLE, None

    def hold(self) -> None:
        """After a failure: do not try again before :meth:`start`, and the end of the back-off."""
        if self.state is LinkState.WAITING and self._due is not None:
            self.state, self._earliest, self._due = LinkState.IDLE, self._due, None

    def connected(self, now: float) -> None:
        """The TCP connection is there."""
        if self.state is not LinkState.OPENING:
            return
        self._reader = PacketReader(FROM_SERVER)
        self.state, self._due = LinkState.LOGIN, now + STEP_TIMEOUT
        self._send(dataclasses.replace(self._login(), keep_alive=self._keep_alive))

    def lost(self, now: float, reason: str = "the connection was lost") -> None:
        """The TCP connection is gone or could not be made."""
        if self.state in {LinkState.IDLE, LinkState.WAITING}:
            return
        self._retry(now, reason, close=False)

    def data(self, data: bytes, now: float) -> list[Publish]:
        """Take bytes of the server; returns the messages received while RUNNING."""
        messages: list[Publish] = []
        if not self._is_open():
            return messages
        for packet in self._reader.feed(data):
            if not self._is_open():
                break  # closed because of the packet before
            if isinstance(packet, BadPacket):
                self._retry(now, f"the server sent garbage: {packet.detail}")
            elif self.state is LinkState.LOGIN and isinstance(packet, ConnAck):
                self._logged_in(packet, now)
            elif isinstance(packet, SubAck) and self.state is LinkState.SUBSCRIBING:
                self._subscribed_to(packet, now)
            elif self.state is LinkState.RUNNING:
                messages += self._running_packet(packet)
            else:
                self._out.append(Trace(f"ignored {packet.type.name} while {self.state.value}"))
        return messages

    def publish(self, topic: str, payload: bytes) -> bool:
        """Send a message, QoS 0 without retain; False when not connected."""
        if not self.running:
            return False
        self._send(Publish(topic, payload))
        return True

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is due."""
        return self._due

    def handle_timeout(self, now: float) -> None:
        """Do what is due: connect, ping, or give an unresponsive server up."""
        if self._due is None or now < self._due:
            return
        if self.state is LinkState.WAITING and self._address is not None:
            self.state, self._due, self._opened = LinkState.OPENING, now + STEP_TIMEOUT, now
            self._out.append(OpenMqtt(*self._address))
        elif self.state is LinkState.RUNNING:
            if self._unanswered >= MAX_UNANSWERED:
                self._retry(now, f"{self._unanswered} pings were not answered")
            else:
                self._ping(now)
        else:
            self._retry(now, f"no answer for {STEP_TIMEOUT:.0f} s while {self.state.value}")

    def _send(self, packet: Packet) -> None:
        self._out.append(SendMqtt(packet.encode()))

    def _ping(self, now: float) -> None:
        self._send(PingReq())
        self._unanswered += 1
        self._due = now + self._ping_interval

    def _logged_in(self, packet: ConnAck, now: float) -> None:
        if packet.code != 0:
            self._retry(now, f"the server refused the login with code {packet.code}", code=packet.code)
            return
        self.state, self._subscribed = LinkState.SUBSCRIBING, 0
        self._subscribe(now)

    def _subscribe(self, now: float) -> None:
        # Message ids restart at 1 for each CONNECT; QoS byte 0 (§7.1, §7.2).
        self._send(Subscribe(self._subscribed + 1, ((self._topics[self._subscribed], 0),)))
        self._due = now + STEP_TIMEOUT

    def _subscribed_to(self, packet: SubAck, now: float) -> None:
        if packet.packet_id != self._subscribed + 1:
            self._out.append(Trace(f"ignored SUBACK {packet.packet_id}, waiting for {self._subscribed + 1}"))
            return
        topic, last = self._topics[self._subscribed], self._subscribed + 1 == len(self._topics)
        if FAILURE in packet.codes:
            if last:  # without app2dev nothing can reach us
                self._retry(now, f"the server refused the subscription of {topic}")
                return
            self._out.append(Trace(f"the server refused the subscription of {topic}; going on without it"))
        self._subscribed += 1
        if not last:
            self._subscribe(now)
            return
        self.state = LinkState.RUNNING
        self._failures = self.failed_connects = self._unanswered = 0
        self._out.append(CloudConnected())
        self._ping(now)

    def _running_packet(self, packet: Packet) -> list[Publish]:
        if isinstance(packet, Publish):
            if packet.qos == 1 and packet.packet_id is not None:
                self._send(PubAck(packet.packet_id))
            elif packet.qos == 2 and packet.packet_id is not None:
                self._send(PubRec(packet.packet_id))
            return [packet]
        if isinstance(packet, PingResp):
            self._unanswered = 0
        elif isinstance(packet, PubRel):
            self._send(PubComp(packet.packet_id))
        else:
            self._out.append(Trace(f"ignored {packet.type.name}"))
        return []

    def _close(self, reason: str, *, close: bool = True) -> None:
        if self.state not in {LinkState.IDLE, LinkState.WAITING} and close:
            self._out.append(CloseMqtt(reason))
        if self.state is LinkState.RUNNING:
            self._out.append(CloudLost(reason))

    def _retry(self, now: float, reason: str, *, code: int | None = None, close: bool = True) -> None:
        was_running = self.running
        self._close(reason, close=close)
        self._failures += 1
        delay = self.next_delay
        if was_running:
            delay = max(delay, self._opened + SHORTEST_SESSION - now)
        self.state, self._due = LinkState.WAITING, now + delay
        self._out.append(Trace(f"{reason}; trying again in {delay:.0f} s"))
        if not was_running:
            self.failed_connects += 1
            self._on_failed(code, now)
        self.handle_timeout(now)
