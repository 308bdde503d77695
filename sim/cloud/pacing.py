"""When messages may leave for a device: one queue per connection, without I/O or clock.

Field firmware parses the first MQTT packet of each ``recv`` and throws the rest away, does not look at its
socket while it waits for the MCU, and is deaf for a while after it subscribed (observed.md). So

- a **PUBLISH** leaves at least ``gap`` after anything else that was sent, one per segment;
- the next message after a **0093** waits for its 0094, or for ``ack_wait`` if none comes. The 0094 proves
  that the module reads again, so a 0093 needs no gap after it: an idle device is never kept waiting, and a
  burst is as fast as the MCU;
- everything is **held** until ``hold`` after the last SUBACK, or until the first PINGREQ after it if that is
  sooner;
- **answers** (CONNACK, SUBACK, PINGRESP) leave at once and before any PUBLISH, because a module asks one
  thing at a time and waits for it. Only when a PUBLISH left less than ``gap`` ago, and nothing proves that it
  was read, the answer waits for the rest of that gap; both would be in one ``recv`` otherwise.

Order is kept. The queue belongs to the cloud and not to a broker, since no broker paces.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Final

from gizserial.m2m.frames import CONTROL_ACKED, BusinessFrame
from gizserial.m2m.mqtt31 import Packet, Publish, SubAck
from gizserial.m2m.topics import MAX_TOPIC, TopicKind, parse_topic
from sim.cloud.events import Origin

_CLIENT: Final = Origin("client")
MAX_ANSWERS: Final = 64
"""Answers that wait for a device which does not read; with one more its connection is useless."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a field module wants to be spoken to. Times in seconds."""

    gap: float = 0.1
    """Between any packet and the PUBLISH after it."""
    ack_wait: float = 0.8
    """Longest wait for a 0094: a module gives up its MCU after 600 ms."""
    hold: float = 1.3
    """Silence after the last SUBACK: the module's next one-second tick, and then some."""
    limit: int = 512
    """Messages that may wait; one more is refused."""
    max_packet: int = 1024
    """Bytes of a whole packet: the module's receive buffer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outgoing:
    """One packet on its way to the device."""

    packet: Packet
    frame: BusinessFrame | None = None
    """What a PUBLISH on app2dev holds, when it is a sound business frame."""
    client: str = ""
    """Who sent it, as the device will name it in its answer."""
    origin: Origin = _CLIENT
    key: str | None = None

    @property
    def wants_ack(self) -> tuple[str, int] | None:
        """Client and sn of a 0093."""
        if self.frame is None or self.frame.command != CONTROL_ACKED or self.frame.sn is None:
            return None
        return self.client, self.frame.sn


class DeviceQueue:
    """What waits for one device, and when the next of it may leave. Times are monotonic seconds."""

    def __init__(self, pace: Pace | None = None) -> None:
        self._pace: Final = pace or Pace()
        self._answers: deque[Outgoing] = deque()
        self._waiting: deque[Outgoing] = deque()
        self._sent_at: float | None = None
        self._publish_sent_at = float("-inf")
        self._last_was_publish = False
        self._read = True
        """It is proven that the device has read what was sent last."""
        self._outstanding: tuple[str, int] | None = None
        self._opens_at: float | None = None
        self._pinged = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def overflowing(self) -> bool:
        """The device asks and does not read the answers: its connection is useless."""
        return len(self._answers) > MAX_ANSWERS

    def is_open(self, now: float) -> bool:
        """The hold after the subscriptions is over."""
        return self._opens_at is not None and now >= self._opens_at

    def answer(self, packet: Packet) -> None:
        """Queue a CONNACK, SUBACK or PINGRESP."""
        self._answers.append(Outgoing(packet))

    def put(self, packet: Publish, *, key: str | None = None, origin: Origin = _CLIENT) -> str | None:
        """Queue a message; returns why it was refused, or None.

        :param key: A waiting message with the same key is replaced: only the newest one counts.
        """
        size = len(packet.wire or packet.encode())
        if size > self._pace.max_packet:
            return f"a message of {size} bytes does not fit the module's buffer of {self._pace.max_packet}"
        if len(packet.topic.encode()) > MAX_TOPIC:
            return f"its topic is longer than the {MAX_TOPIC} bytes that modules have room for"
        item = _outgoing(packet, key, origin)
        if key is not None:
            for index, waiting in enumerate(self._waiting):
                if waiting.key == key:
                    self._waiting[index] = item
                    return None
        if len(self._waiting) >= self._pace.limit:
            return f"{self._pace.limit} messages wait for the device already"
        self._waiting.append(item)
        return None

    def acknowledged(self, client: str, sn: int) -> None:
        """The device answered a 0093: it reads again."""
        if self._outstanding == (client, sn):
            self._outstanding = None
            self._read = self._last_was_publish
            # After an answer of ours that followed the 0093 nothing is proven about that answer.

    def pinged(self, now: float) -> None:
        """A PINGREQ came: the module is in its main loop, if it has subscribed at all."""
        if self._opens_at is not None and not self._pinged:
            self._pinged = True
            self._opens_at = min(self._opens_at, now)

    def take(self, now: float) -> Outgoing | None:
        """The packet that may leave now, or None. It counts as sent."""
        due = self.next_timeout()
        if due is None or due > now:
            return None
        item = self._answers.popleft() if self._answers else self._waiting.popleft()
        self._sent(item, now)
        return item

    def next_timeout(self) -> float | None:
        """When :meth:`take` will have something; None while nothing waits, or it waits for the device."""
        if self._answers:
            return self._answer_from()
        if self._waiting:
            return self._publish_from(self._waiting[0])
        return None

    def _sent(self, item: Outgoing, now: float) -> None:
        self._sent_at = now
        self._last_was_publish = isinstance(item.packet, Publish)
        self._read = False
        if self._last_was_publish:
            self._publish_sent_at = now
            self._outstanding = item.wants_ack
        elif isinstance(item.packet, SubAck):
            self._opens_at, self._pinged = now + self._pace.hold, False

    def _answer_from(self) -> float:
        if self._sent_at is None or not self._last_was_publish or self._read:
            return 0.0
        return self._sent_at + self._pace.gap

    def _publish_from(self, item: Outgoing) -> float | None:
        due = self._opens_at
        if due is None or self._sent_at is None:
            return due
        if self._outstanding is not None:
            return max(due, self._publish_sent_at + self._pace.ack_wait, self._sent_at + self._pace.gap)
        if self._read and item.wants_ack is not None:
            return due
        return max(due, self._sent_at + self._pace.gap)


def _outgoing(packet: Publish, key: str | None, origin: Origin) -> Outgoing:
    topic = parse_topic(packet.topic)
    if topic is None or topic.kind is not TopicKind.APP2DEV:
        return Outgoing(packet, origin=origin, key=key)
    frame = BusinessFrame.decode(packet.payload)
    sound = frame if isinstance(frame, BusinessFrame) else None
    return Outgoing(packet, sound, topic.client or "", origin, key)
