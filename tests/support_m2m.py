"""A driver for the cloud session: a clock that jumps, and a cloud that says what a test tells it to."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

from gizserial.m2m import http_cloud
from gizserial.m2m.effects import (
    CloseMqtt,
    CloudConnected,
    Effect,
    IdentityChanged,
    OpenMqtt,
    SendMqtt,
)
from gizserial.m2m.http import ErrorAnswer, HttpRequest, Purpose
from gizserial.m2m.identity import Identity
from gizserial.m2m.mqtt31 import (
    FROM_CLIENT,
    ConnAck,
    Connect,
    Packet,
    PacketReader,
    PingReq,
    PingResp,
    Publish,
    SubAck,
    Subscribe,
)
from gizserial.m2m.session import CloudSession

DID = "SimDid0123456789ABCDEF"
PK = "0123456789abcdef" * 2
SECRET = "00112233445566778899aabbccddeeff"
MAC = "00163E002CAC"
CLIENT = "usr6U9jtyINX27hmwBGLV05"
SERVER_TS = 1_760_000_000

Answer = tuple[int, bytes] | None
"""Status and body, or None for silence."""

EffectT = TypeVar("EffectT")


def entropy(size: int) -> bytes:
    """Always the same passcode: ``ABCDEFGHIJ``."""
    return bytes(range(size))


def new_identity(**fields: str) -> Identity:
    return Identity(mac=MAC, product_key=PK, **fields).booted(entropy)  # type: ignore[arg-type]  # texts only


def error(code: int, status: int = 400) -> tuple[int, bytes]:
    return status, ErrorAnswer(code, "said by the test", status).body.encode()


class Cloud:
    """Answers at once. Set a purpose to a function, an answer, or None for silence."""

    def __init__(self, secret: str | None = None) -> None:
        self.answers: dict[Purpose, Answer | Callable[[HttpRequest], Answer]] = {
            Purpose.REGISTER: (201, http_cloud.register_answer(DID, secret).encode()),
            Purpose.PROVISION: self.provision(secret),
            Purpose.TIME: self.provision(secret),
            Purpose.OTA_CHECK: error(9500, 404),
            Purpose.LATEST: error(9500, 404),
            Purpose.DOWNLOAD: error(9027, 404),
            Purpose.UNREGISTER: (200, b""),
        }
        self.reachable = True
        self.connack = 0
        self.pings = True
        self.subscriptions: list[str] = []
        self.connects: list[Connect] = []
        self.published: list[Publish] = []

    @staticmethod
    def provision(secret: str | None = None) -> tuple[int, bytes]:
        return 200, http_cloud.provision_answer("m2m.local", 1883, SERVER_TS, product_secret=secret).encode()

    def http(self, request: HttpRequest) -> Answer:
        answer = self.answers[request.purpose]
        return answer(request) if callable(answer) else answer

    def mqtt(self, packet: Packet) -> Packet | None:
        match packet:
            case Connect():
                self.connects.append(packet)
                return ConnAck(self.connack)
            case Subscribe(packet_id, ((topic, 0),)):
                self.subscriptions.append(topic)
                return SubAck(packet_id, b"\x00")
            case PingReq():
                return PingResp() if self.pings else None
            case Publish():
                self.published.append(packet)
        return None


class Bench:
    """Runs a session against a cloud under a virtual clock; keeps every effect with its time."""

    def __init__(self, session: CloudSession, cloud: Cloud) -> None:
        self.session, self.cloud = session, cloud
        self.now = 0.0
        self.log: list[tuple[float, Effect]] = []
        self.stored: Identity | None = None
        self._open = False

    def boot(self) -> None:
        self.session.start(self.now)
        self.session.router_up(self.now)
        self.settle()

    def settle(self) -> None:
        """Do what the session asks until it asks nothing more at this moment."""
        while effects := self.session.effects():
            for effect in effects:
                self.log.append((self.now, effect))
                self._do(effect)

    def _do(self, effect: Effect) -> None:
        match effect:
            case IdentityChanged(identity):
                self.stored = identity
            case HttpRequest(awaited=True):
                answer = self.cloud.http(effect)
                if answer is not None:
                    self.session.http_answer(*answer, self.now, effect)
            case OpenMqtt():
                assert not self._open, "opened twice"
                if self.cloud.reachable:
                    self._open = True
                    self.session.mqtt_connected(self.now)
                else:
                    self.session.mqtt_lost(self.now, "refused")
            case CloseMqtt():
                self._open = False
            case SendMqtt(data):
                (packet,) = PacketReader(FROM_CLIENT).feed(data)  # one packet each, never more
                assert isinstance(packet, Packet)
                answer_packet = self.cloud.mqtt(packet)
                if answer_packet is not None and self._open:
                    self.session.mqtt_data(answer_packet.encode(), self.now)

    def drop(self) -> None:
        """The server closes the connection."""
        self._open = False
        self.session.mqtt_lost(self.now)
        self.settle()

    def deliver(self, topic: str, payload: bytes) -> None:
        self.session.mqtt_data(Publish(topic, payload).encode(), self.now)
        self.settle()

    def run(self, seconds: float) -> None:
        """Let time pass, stopping at each timer."""
        end = self.now + seconds
        for _ in range(100_000):
            due = self.session.next_timeout()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            self.session.handle_timeout(self.now)
            self.settle()
        else:
            raise AssertionError("the session never comes to rest")
        self.now = end

    def all(self, kind: type[EffectT]) -> list[EffectT]:
        return [effect for _, effect in self.log if isinstance(effect, kind)]

    def times(self, kind: type[Effect], purpose: Purpose | None = None) -> list[float]:
        return [
            when
            for when, effect in self.log
            if isinstance(effect, kind) and (purpose is None or getattr(effect, "purpose", None) is purpose)
        ]

    @property
    def requests(self) -> list[Purpose]:
        return [request.purpose for request in self.all(HttpRequest)]

    @property
    def online(self) -> bool:
        return self.session.connected and bool(self.all(CloudConnected))


def gaps(times: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]
