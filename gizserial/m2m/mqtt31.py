"""The MQTT packets that modules and their cloud exchange, and a bounded reader for them (device-cloud.md §7).

Why not a client library: field modules need *exact* packets, pauses and one packet per TCP segment. The
module role must show which bytes it sends, sends a SUBSCRIBE only after the SUBACK before, counts
unanswered pings and runs under a virtual clock: days within seconds. Libraries own their socket and
clock, speak 3.1.1 rather than ``MQIsdp`` level 3, and glue packets together. The cloud's front sees the
first packet before any broker does, for the same reasons (a wrong password must not disturb the live
session). Delivery, routing and QoS stay the broker's business.

::

    type/flags (1) | remaining length (1-4) | body, a schema in PACKETS

Bytes of a peer never raise: :class:`PacketReader` returns :class:`BadPacket` and is finished after it,
because an MQTT stream cannot be resynchronised. :meth:`Packet.encode` raises for what *we* cannot send.
"""

from __future__ import annotations

import dataclasses
import enum
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal

from construct import (
    Construct,
    ConstructError,
    GreedyBytes,
    GreedyRange,
    If,
    Int8ub,
    Int16ub,
    PascalString,
    Prefixed,
    Struct,
    Terminated,
    this,
)

from gizserial.errors import EncodeError
from gizserial.m2m.varlen import encode_length, read_length

PROTOCOL_31: Final = ("MQIsdp", 3)
"""MQTT 3.1, the only version that the official service and modules speak."""
PROTOCOL_311: Final = ("MQTT", 4)
"""MQTT 3.1.1, which apps and brokers of today speak."""
MAX_REMAINING: Final = 128 * 1024
"""Remaining length beyond which a packet counts as garbage; big-data uploads have up to 65 400 (§8.4)."""


class PacketType(enum.IntEnum):
    """The upper four bits of the first byte."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class ConnectCode(enum.IntEnum):
    """What a CONNACK says."""

    ACCEPTED = 0
    BAD_PROTOCOL = 1
    BAD_CLIENT_ID = 2
    UNAVAILABLE = 3
    BAD_CREDENTIALS = 4
    NOT_AUTHORISED = 5


FAILURE: Final = 0x80
"""SUBACK code of a refused subscription."""


@dataclasses.dataclass(frozen=True)
class Packet:
    """One MQTT packet. Packets are equal when they say the same."""

    wire: bytes = dataclasses.field(default=b"", kw_only=True, compare=False, repr=False)
    """The bytes as they were received; empty for a packet of ours."""

    type: ClassVar[PacketType]
    flags_needed: ClassVar[int | None] = 0
    """What the lower four bits of the first byte must be; None when the packet reads them itself."""

    def encode(self) -> bytes:
        """The packet as it is sent.

        :raises EncodeError: when a field does not fit its length bytes.
        """
        spec = PACKETS[self.type]
        try:
            body: bytes = spec.build(self._values(), first=self._flags())
        except (ConstructError, UnicodeError) as error:
            raise EncodeError(f"the {self.type.name} packet cannot be made: {error}") from error
        return bytes([self.type << 4 | self._flags()]) + encode_length(len(body)) + body

    def _flags(self) -> int:
        return self.flags_needed or 0

    def _values(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def _read(cls, parsed: Any, first: int, wire: bytes) -> Packet:  # noqa: ARG003 (PUBLISH reads the flags)
        names = (field.name for field in dataclasses.fields(cls) if field.name != "wire")
        return cls(**{name: parsed[name] for name in names}, wire=wire)


@dataclasses.dataclass(frozen=True)
class Will:
    """What a broker says when the client is lost. Modules have none; one cellular GAgent sends a dummy."""

    topic: str
    message: bytes
    qos: int = 0
    retain: bool = False


@dataclasses.dataclass(frozen=True)
class Connect(Packet):
    """Client → server, first packet. The defaults are those of a field module: MQTT 3.1, clean, 120 s.

    ``keep_alive`` is in seconds, 0 for none.
    """

    type = PacketType.CONNECT
    client_id: str
    user: str | None = None
    password: bytes | None = dataclasses.field(default=None, repr=False)
    keep_alive: int = 120
    clean: bool = True
    will: Will | None = None
    protocol: str = PROTOCOL_31[0]
    level: int = PROTOCOL_31[1]

    def _values(self) -> dict[str, Any]:
        flags = 0x02 * self.clean | 0x80 * (self.user is not None) | 0x40 * (self.password is not None)
        values = super()._values() | {"will_topic": None, "will_message": None}
        if self.will is not None:
            flags |= 0x04 | self.will.qos << 3 | 0x20 * self.will.retain
            values |= {"will_topic": self.will.topic, "will_message": self.will.message}
        return values | {"flags": flags}

    @classmethod
    def _read(cls, parsed: Any, first: int, wire: bytes) -> Connect:  # noqa: ARG003 (no flags in the first byte)
        flags = parsed.flags
        if flags & 0x01 or flags & 0x18 == 0x18:
            raise _MalformedError(f"the connect flags {flags:02x} are not allowed")
        will = None
        if flags & 0x04:
            will = Will(parsed.will_topic, parsed.will_message, flags >> 3 & 3, bool(flags & 0x20))
        return cls(
            client_id=parsed.client_id,
            user=parsed.user,
            password=parsed.password,
            keep_alive=parsed.keep_alive,
            clean=bool(flags & 0x02),
            will=will,
            protocol=parsed.protocol,
            level=parsed.level,
            wire=wire,
        )


@dataclasses.dataclass(frozen=True)
class ConnAck(Packet):
    """Server → client, answer to CONNECT; ``session_present`` does not exist towards MQTT 3.1."""

    type = PacketType.CONNACK
    code: int = 0
    session_present: int = 0


@dataclasses.dataclass(frozen=True)
class Publish(Packet):
    """Either direction. Modules and their cloud send QoS 0 without retain only."""

    type = PacketType.PUBLISH
    flags_needed = None
    topic: str
    payload: bytes
    qos: int = 0
    packet_id: int | None = None
    retain: bool = False
    dup: bool = False

    def _flags(self) -> int:
        return self.dup << 3 | self.qos << 1 | self.retain

    @classmethod
    def _read(cls, parsed: Any, first: int, wire: bytes) -> Publish:
        qos = first >> 1 & 3
        if qos == 3:
            raise _MalformedError("QoS 3 does not exist")
        if not parsed.topic:
            raise _MalformedError("the topic is empty")
        return cls(
            parsed.topic, parsed.payload, qos, parsed.packet_id, bool(first & 1), bool(first & 8), wire=wire
        )


@dataclasses.dataclass(frozen=True)
class _Numbered(Packet):
    packet_id: int


@dataclasses.dataclass(frozen=True)
class PubAck(_Numbered):
    """Answer to a QoS 1 PUBLISH."""

    type = PacketType.PUBACK


@dataclasses.dataclass(frozen=True)
class PubRec(_Numbered):
    """QoS 2, first answer."""

    type = PacketType.PUBREC


@dataclasses.dataclass(frozen=True)
class PubRel(_Numbered):
    """QoS 2, release."""

    type = PacketType.PUBREL
    flags_needed = 2


@dataclasses.dataclass(frozen=True)
class PubComp(_Numbered):
    """QoS 2, last answer."""

    type = PacketType.PUBCOMP


@dataclasses.dataclass(frozen=True)
class Subscribe(_Numbered):
    """Client → server; ``filters`` are pairs of topic filter and requested QoS. Modules send one pair."""

    type = PacketType.SUBSCRIBE
    flags_needed = 2
    filters: tuple[tuple[str, int], ...]

    def _values(self) -> dict[str, Any]:
        return {"packet_id": self.packet_id, "filters": [{"filter": f, "qos": q} for f, q in self.filters]}

    @classmethod
    def _read(cls, parsed: Any, first: int, wire: bytes) -> Subscribe:  # noqa: ARG003 (no flags of its own)
        filters = tuple((row.filter, row.qos) for row in parsed.filters)
        if not filters or any(not text or qos > 2 for text, qos in filters):
            raise _MalformedError("no filter, an empty one, or a QoS above 2")
        return cls(parsed.packet_id, filters, wire=wire)


@dataclasses.dataclass(frozen=True)
class SubAck(_Numbered):
    """Answer to SUBSCRIBE: one granted QoS, or 80, per filter."""

    type = PacketType.SUBACK
    codes: bytes


@dataclasses.dataclass(frozen=True)
class Unsubscribe(_Numbered):
    """Client → server."""

    type = PacketType.UNSUBSCRIBE
    flags_needed = 2
    filters: tuple[str, ...]

    @classmethod
    def _read(cls, parsed: Any, first: int, wire: bytes) -> Unsubscribe:  # noqa: ARG003 (no flags of its own)
        if not parsed.filters or not all(parsed.filters):
            raise _MalformedError("no filter, or an empty one")
        return cls(parsed.packet_id, tuple(parsed.filters), wire=wire)


@dataclasses.dataclass(frozen=True)
class UnsubAck(_Numbered):
    """Answer to UNSUBSCRIBE."""

    type = PacketType.UNSUBACK


@dataclasses.dataclass(frozen=True)
class PingReq(Packet):
    """Client → server, heartbeat."""

    type = PacketType.PINGREQ


@dataclasses.dataclass(frozen=True)
class PingResp(Packet):
    """Server → client, answer to a heartbeat."""

    type = PacketType.PINGRESP


@dataclasses.dataclass(frozen=True)
class Disconnect(Packet):
    """Client → server; modules never send it, they just close."""

    type = PacketType.DISCONNECT


TEXT: Final = PascalString(Int16ub, "utf8")
BLOB: Final = Prefixed(Int16ub, GreedyBytes)
_PACKET_ID: Final = Struct("packet_id" / Int16ub, Terminated)
_EMPTY: Final = Struct(Terminated)
_CONNECT_HEAD: Final = Struct("protocol" / TEXT, "level" / Int8ub)

PACKETS: Final = MappingProxyType[PacketType, Construct](
    {
        PacketType.CONNECT: Struct(
            "protocol" / TEXT,
            "level" / Int8ub,
            "flags" / Int8ub,
            "keep_alive" / Int16ub,
            "client_id" / TEXT,
            "will_topic" / If(this.flags & 0x04, TEXT),
            "will_message" / If(this.flags & 0x04, BLOB),
            "user" / If(this.flags & 0x80, TEXT),
            "password" / If(this.flags & 0x40, BLOB),
            Terminated,
        ),
        PacketType.CONNACK: Struct("session_present" / Int8ub, "code" / Int8ub, Terminated),
        PacketType.PUBLISH: Struct(
            "topic" / TEXT, "packet_id" / If(this._params.first & 0x06, Int16ub), "payload" / GreedyBytes
        ),
        PacketType.PUBACK: _PACKET_ID,
        PacketType.PUBREC: _PACKET_ID,
        PacketType.PUBREL: _PACKET_ID,
        PacketType.PUBCOMP: _PACKET_ID,
        PacketType.SUBSCRIBE: Struct(
            "packet_id" / Int16ub,
            "filters" / GreedyRange(Struct("filter" / TEXT, "qos" / Int8ub)),
            Terminated,
        ),
        PacketType.SUBACK: Struct("packet_id" / Int16ub, "codes" / GreedyBytes),
        PacketType.UNSUBSCRIBE: Struct("packet_id" / Int16ub, "filters" / GreedyRange(TEXT), Terminated),
        PacketType.UNSUBACK: _PACKET_ID,
        PacketType.PINGREQ: _EMPTY,
        PacketType.PINGRESP: _EMPTY,
        PacketType.DISCONNECT: _EMPTY,
    }
)
"""The body of every packet; ``first`` is the first byte's lower half."""

_CLASSES: Final[dict[PacketType, type[Packet]]] = {
    cls.type: cls
    for cls in (
        Connect,
        ConnAck,
        Publish,
        PubAck,
        PubRec,
        PubRel,
        PubComp,
        Subscribe,
        SubAck,
        Unsubscribe,
        UnsubAck,
        PingReq,
        PingResp,
        Disconnect,
    )
}

_BOTH: Final = frozenset(
    {PacketType.PUBLISH, PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBREL, PacketType.PUBCOMP}
)
FROM_CLIENT: Final = _BOTH | {
    PacketType.CONNECT,
    PacketType.SUBSCRIBE,
    PacketType.UNSUBSCRIBE,
    PacketType.PINGREQ,
    PacketType.DISCONNECT,
}
"""What a server may receive."""
FROM_SERVER: Final = _BOTH | {
    PacketType.CONNACK,
    PacketType.SUBACK,
    PacketType.UNSUBACK,
    PacketType.PINGRESP,
}
"""What a client may receive."""

BadPacketReason = Literal["type", "length", "protocol", "malformed"]


class _MalformedError(ValueError):
    """A body whose values contradict each other; becomes a BadPacket."""


@dataclasses.dataclass(frozen=True, slots=True)
class BadPacket:
    """Bytes that are no packet we may receive. Nothing after them can be read: close the connection.

    ``protocol`` is a CONNECT of another MQTT version, to be answered with CONNACK 1; ``type``, ``length`` and
    ``malformed`` are garbage.
    """

    reason: BadPacketReason
    detail: str
    raw: bytes = dataclasses.field(repr=False)
    """Its first bytes, at most 64."""


class PacketReader:
    """Cuts a byte stream into packets. Holds one unfinished packet of at most ``max_remaining`` + 5 bytes.

    :param accept: Packet types that this end may receive: :data:`FROM_CLIENT` or :data:`FROM_SERVER`.
    :param max_remaining: Largest remaining length in bytes; a longer packet is garbage.
    """

    def __init__(
        self,
        accept: frozenset[PacketType] = FROM_CLIENT | FROM_SERVER,
        *,
        max_remaining: int = MAX_REMAINING,
    ) -> None:
        self._accept = accept
        self._max_remaining = max_remaining
        self._buffer = bytearray()
        self._failed = False

    @property
    def failed(self) -> bool:
        """A :class:`BadPacket` was returned; everything fed since is ignored."""
        return self._failed

    @property
    def buffered(self) -> int:
        """Bytes of the unfinished packet."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> list[Packet | BadPacket]:
        """Take the next bytes, in chunks of any size; returns the packets they complete."""
        out: list[Packet | BadPacket] = []
        if self._failed:
            return out
        self._buffer += data
        start = 0
        while start < len(self._buffer):
            found = self._next(start)
            if found is None:
                break
            packet, start = found
            out.append(packet)
            if isinstance(packet, BadPacket):
                self._failed = True
                self._buffer.clear()
                return out
        del self._buffer[:start]
        return out

    def _next(self, start: int) -> tuple[Packet | BadPacket, int] | None:
        buffer = self._buffer
        kind, first = buffer[start] >> 4, buffer[start] & 0x0F
        if kind not in self._accept:
            return self._bad("type", f"packet type {kind} is not expected here", start)
        packet_type = PacketType(kind)
        cls = _CLASSES[packet_type]
        # MQTT 3.1 has a DUP bit in SUBSCRIBE, UNSUBSCRIBE and PUBREL.
        if cls.flags_needed is not None and first & (0x07 if cls.flags_needed else 0x0F) != cls.flags_needed:
            return self._bad("type", f"{packet_type.name} with flags {first:x}", start)
        try:
            length = read_length(buffer, start + 1)
        except ValueError as error:
            return self._bad("length", str(error), start)
        if length is None:
            return None
        remaining, body = length
        if remaining > self._max_remaining:
            return self._bad(
                "length", f"{packet_type.name} of {remaining} bytes, at most {self._max_remaining}", start
            )
        if len(buffer) - body < remaining:
            return None
        end = body + remaining
        wire = bytes(memoryview(buffer)[start:end])
        try:
            packet = _parse(cls, wire[body - start :], first, wire)
        except _OtherProtocolError as error:
            return self._bad("protocol", str(error), start)
        except (_MalformedError, ConstructError, UnicodeError) as error:
            reason = str(error) if isinstance(error, _MalformedError) else "its fields do not fit its length"
            return self._bad("malformed", f"{packet_type.name}: {reason}", start)
        return packet, end

    def _bad(self, reason: BadPacketReason, detail: str, start: int) -> tuple[BadPacket, int]:
        return BadPacket(reason, detail, bytes(memoryview(self._buffer)[start : start + 64])), start


class _OtherProtocolError(ValueError):
    """A CONNECT of an MQTT version that is not 3.1 or 3.1.1; its layout is not ours to read."""


def _parse(cls: type[Packet], body: bytes, first: int, wire: bytes) -> Packet:
    if cls is Connect:
        head = _CONNECT_HEAD.parse(body)
        if (head.protocol, head.level) not in {PROTOCOL_31, PROTOCOL_311}:
            raise _OtherProtocolError(f"MQTT protocol {head.protocol[:16]!r} level {head.level}")
    return cls._read(PACKETS[cls.type].parse(body, first=first), first, wire)
