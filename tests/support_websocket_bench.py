"""The WebSocket API without sockets, on a clock that the test turns."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any, Final, cast

from support_apps import APPID
from support_websocket import LAMP, login_message

from gizserial.io.products import load_product
from gizserial.m2m import topics
from gizserial.m2m.frames import REPORT, AppCount, BusinessFrame, decode_control
from gizserial.m2m.mqtt31 import Publish
from gizserial.m2m.topics import Identity, Party
from sim.cloud.accounts import User
from sim.cloud.app_side import AppSide
from sim.cloud.auth import CLIENT, Login
from sim.cloud.config import CloudConfig
from sim.cloud.device import Device
from sim.cloud.events import Event, Origin
from sim.cloud.heartbeat import Heartbeat
from sim.cloud.hub import Hub
from sim.cloud.mqtt_client import ClientConnection
from sim.cloud.products import CloudProduct, Products
from sim.cloud.recorder import Recorder
from sim.cloud.store import Store
from sim.cloud.websocket_hub import WebSocketHub
from sim.cloud.websocket_messages import Fault
from sim.cloud.websocket_session import WebSocketSession

PASSCODE: Final = "QWERTYUIOP"
PONG: Final = {"cmd": "pong"}
PING: Final = {"cmd": "ping"}
ON: Final = b"\x04\x01\x17"
"""A report: power, the first mode, 23 °C."""
ATTRS: Final = {"power": True, "mode": "制冷", "temp": 23}
READ: Final = bytes.fromhex("00000003 04 00 0090 02")


class Bench:
    """A cloud of objects only. ``now`` is monotonic, ``date`` Unix time; both move with :meth:`advance`."""

    def __init__(self, product: Path = LAMP, **options: Any) -> None:
        self.now, self.date = 1000.0, 1_700_000_000.0
        loaded = load_product(product)
        self.product_key = loaded.product_key
        self.store = Store(None, told=print)
        weakref.finalize(self, self.store.close)
        self.hub = Hub(self.store)
        self.side = AppSide(
            config=CloudConfig(**options),
            store=self.store,
            hub=self.hub,
            products=Products((CloudProduct(product_key=self.product_key, product=loaded),)),
            now=lambda: self.date,
        )
        self.hub.subscribe(Recorder(self.hub, self.side.history, product_of=self.side.product))
        self.sockets = WebSocketHub(self.side, clock=lambda: self.now)
        self.side.accounts.add_app(APPID)
        self.events: list[Event] = []
        self.hub.subscribe(self.events.append)
        self._macs = 0

    def user(self, name: str = "phone1") -> tuple[User, str]:
        user = self.side.accounts.anonymous(APPID, name)
        return user, self.side.accounts.issue_token(user.uid, APPID).token

    def socket(self) -> App:
        return App(self)

    def app(self, user: User, token: str, **members: Any) -> App:
        """An app that has logged in."""
        app = App(self)
        assert app.ask(login_message(user, token, **members)) == [
            {"cmd": "login_res", "data": {"success": True}}
        ]
        return app

    def device(self, *users: User, online: bool = True, product_key: str | None = None) -> FakeDevice:
        """A device that these users have."""
        self._macs += 1
        device = self.store.register(
            product_key or self.product_key, f"5ccf7f0a1b{self._macs:02x}", PASSCODE, is_reset=False, now=1.0
        )
        found = FakeDevice(self, device)
        if online:
            found.come()
        for user in users:
            found.bind(user)
        return found

    def advance(self, seconds: float, *apps: App) -> None:
        """Let time pass; every timer of these apps fires when it is due."""
        end = self.now + seconds
        while True:
            due = [(app.session.next_timeout(), number) for number, app in enumerate(apps)]
            first = min(((at, number) for at, number in due if at is not None and at <= end), default=None)
            if first is None:
                break
            self._move(max(first[0], self.now))
            apps[first[1]].session.handle_timeout(self.now)
        self._move(end)

    def _move(self, now: float) -> None:
        self.date += now - self.now
        self.now = now


class App:
    """One session, without its socket."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.session: WebSocketSession = bench.sockets.open()

    def send(self, message: Any) -> None:
        self.session.receive(
            message if isinstance(message, str | bytes) else json.dumps(message), self.bench.now
        )

    def got(self) -> list[Any]:
        """What was sent to it since the last call."""
        found = [json.loads(text) for text in self.session.outgoing]
        self.session.outgoing.clear()
        return found

    def code(self) -> int | None:
        """The close code, when the socket is to be closed."""
        return self.session.close_code

    def ask(self, message: Any) -> list[Any]:
        self.send(message)
        return self.got()

    def fault(self, message: Any) -> int:
        """The code with which a message is refused."""
        (answer,) = self.ask(message)
        assert answer["cmd"] == "s2c_invalid_msg", answer
        return int(answer["data"]["error_code"])


class FakeDevice:
    """A device with a connection that keeps what it is sent."""

    def __init__(self, bench: Bench, device: Device) -> None:
        self.bench, self.did = bench, device.did
        self.login = Login(device.did, device.did, Identity(Party.DEVICE, frozenset({device.did})))
        self.peer, self.queue = ("127.0.0.1", 1), None
        self.keep_alive, self.heartbeat = 60, Heartbeat(count=0, max=0, min=0, avg=0, last=0)
        self.received: list[bytes] = []
        """Business frames."""
        self.origins: list[Origin | None] = []
        self.counts: list[int] = []
        """App counts that it was told (0210)."""
        self.full = False
        """It takes no more."""

    # --- as the hub sees it

    def send(self, packet: Publish, *, key: str | None = None, origin: Origin | None = None) -> str | None:
        if self.full:
            return "512 messages wait for the device already"
        if key == "0210":
            message = decode_control(packet.payload)
            assert isinstance(message, AppCount)
            self.counts.append(message.count)
        else:
            self.received.append(packet.payload)
            self.origins.append(origin)
        return None

    def pump(self) -> None:
        """Nothing waits."""

    def stop(self, reason: str) -> None:
        self.bench.hub.disconnected(self._connection, reason)

    @property
    def _connection(self) -> ClientConnection:
        return cast("ClientConnection", self)

    # --- as the test moves it

    def come(self) -> None:
        """Come on line."""
        self.bench.hub.connected(self._connection)
        filters = list(topics.module_subscriptions(self.did, self.bench.product_key))
        self.bench.hub.subscribed(self._connection, filters)

    def go(self) -> None:
        """Go off line."""
        self.stop("test")

    def bind(self, user: User) -> None:
        device = self.bench.store.device(self.did)
        assert device is not None
        self.bench.side.bindings.bind(user.uid, device, APPID)

    def unbind(self, user: User) -> None:
        self.bench.side.bindings.unbind(user.uid, self.did)

    def say(self, p0: bytes, command: int = REPORT, sn: int | None = None) -> None:
        self._publish(topics.dev2app(self.did), BusinessFrame(command, p0, sn))

    def answer(self, sn: int, p0: bytes = b"", client: str = CLIENT) -> None:
        """Acknowledge a 0093."""
        self._publish(topics.dev2app(self.did, client), BusinessFrame(0x94, p0, sn))

    def _publish(self, topic: str, frame: BusinessFrame) -> None:
        self.bench.hub.published(self._connection, Publish(topic, frame.encode()))


# --- messages


def read(device: FakeDevice, **members: Any) -> dict[str, Any]:
    return {"cmd": "c2s_read", "data": {"did": device.did}, **members}


def write(device: FakeDevice, attrs: Any, **members: Any) -> dict[str, Any]:
    return {"cmd": "c2s_write", "data": {"did": device.did, "attrs": attrs}, **members}


def raw(device: FakeDevice, data: Any) -> dict[str, Any]:
    return {"cmd": "c2s_raw", "data": {"did": device.did, "raw": data}}


def invalid(fault: Fault, msg: str) -> dict[str, Any]:
    return {"cmd": "s2c_invalid_msg", "data": {"error_code": int(fault), "msg": msg}}
