"""One connection of SNoti, without I/O: lines in, lines out (snoti.md §2, §4, §7, §8)."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from sim.cloud.api_errors import ApiError
from sim.cloud.app_side import AppSide
from sim.cloud.openapi.calls import parse_json
from sim.cloud.products import CloudProduct, Credential
from sim.cloud.snoti_control import control
from sim.cloud.snoti_events import EVENT_TYPES, event_kinds
from sim.cloud.snoti_queue import ENTERPRISE, Consumer, Delivery, SnotiQueues

MAX_LINE: Final = 1024 * 1024
"""Bytes of a line."""
LOGIN_TIME: Final = 60.0
"""Seconds for a login."""
IDLE_TIME: Final = 600.0
"""Seconds that a client may say nothing."""
PREFETCH: Final = 50
MAX_PREFETCH: Final = 32_767
MAX_LISTED: Final = 1000
"""Products or commands in one message."""
_SUBKEY: Final = re.compile(r"[A-Za-z0-9_]{1,32}")
_PREFIX: Final = "enterprise_"
"""Of every command of the legacy dialect."""


class _RefusedError(Exception):
    """Credentials or names that are not good; the text is the ``msg`` of the answer."""


class SnotiSession:
    """One connection.

    :param write: Takes a line, with its end.
    :param close: Ends the connection when everything that was written has left.
    :param has_room: Whether the connection can take more just now.
    :param now: When it began; monotonic seconds, as in every other call.
    """

    def __init__(
        self,
        side: AppSide,
        queues: SnotiQueues,
        *,
        write: Callable[[bytes], None],
        close: Callable[[], None],
        has_room: Callable[[], bool] = lambda: True,
        now: float = 0.0,
    ) -> None:
        self._side, self._queues = side, queues
        self._write, self._close, self._has_room = write, close, has_room
        self._buffer = bytearray()
        self._deadline = now + LOGIN_TIME
        self._consumer: Consumer | None = None
        self._products: set[str] = set()
        """Product keys that it has logged in for."""
        self._legacy = False
        self.closed = False

    @property
    def consumer(self) -> Consumer | None:
        """What the queues know of it; None before login."""
        return self._consumer

    # --- bytes and time

    def receive_data(self, data: bytes, *, now: float) -> None:
        """Take bytes in chunks of any size. Never raises on what a peer sent."""
        if self.closed:
            return
        self._buffer += data
        if self._consumer is not None:
            self._deadline = now + IDLE_TIME
        while not self.closed and (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._line(line, now)
        if len(self._buffer) > MAX_LINE and not self.closed:
            self._too_long()

    def next_timeout(self) -> float:
        """When :meth:`handle_timeout` is due."""
        return self._deadline

    def handle_timeout(self, now: float) -> None:
        """End a connection that has said nothing for too long."""
        if now >= self._deadline:
            self._end()

    def connection_lost(self) -> None:
        """The connection is gone: what was not acknowledged goes back."""
        self.closed = True
        if self._consumer is not None:
            self._queues.detach(self._consumer)
            self._consumer = None

    def pump(self) -> None:
        """The connection has room again."""
        if self._consumer is not None and not self.closed:
            self._queues.pump(self._consumer)

    # --- messages

    def _line(self, line: bytes, now: float) -> None:
        if len(line) > MAX_LINE:
            self._too_long()
            return
        if not line.strip():
            return
        try:
            message = parse_json(line)
        except ApiError as error:
            self._invalid(1001, f"not JSON: {error.detail}")
            return
        if not isinstance(message, dict):
            self._invalid(1001, "not a JSON object")
            return
        command = message.get("cmd")
        if not isinstance(command, str):
            self._invalid(1002, "cmd is missing")
        elif self._consumer is None:
            self._before_login(command, message, now)
        else:
            self._after_login(command, message)

    def _before_login(self, command: str, message: Mapping[str, Any], now: float) -> None:
        if command == "login_req":
            self._login(message, now)
        elif command == "enterprise_login_req":
            self._enterprise_login(message, now)
        elif command in _COMMANDS:
            self._invalid(1003, "not logged in")
        else:
            self._invalid(1005, "unknown cmd")

    def _after_login(self, command: str, message: Mapping[str, Any]) -> None:
        consumer = self._consumer
        if consumer is None:
            return
        word = command.removeprefix(_PREFIX) if self._legacy else command
        if command in {"login_req", "enterprise_login_req"}:
            self._invalid(1004, "already logged in")
        elif word == "ping":
            self._send({"cmd": f"{_PREFIX if self._legacy else ''}pong"})
        elif word == "event_ack":
            delivery = message.get("delivery_id")
            if isinstance(delivery, float):  # of a client whose numbers are all floats
                delivery = int(delivery) if delivery.is_integer() else 0
            if isinstance(delivery, int) and not isinstance(delivery, bool):
                self._queues.acknowledge(consumer, delivery)
            else:
                self._invalid(1002, "delivery_id is missing")
        elif command == "subscribe_req":
            self._subscribe(message, consumer)
        elif command == "unsubscribe_req":
            self._unsubscribe(message, consumer)
        elif command in {"remote_control_req", "remote_control_v2_req"}:
            self._control(command, message)
        else:
            self._invalid(1005, "unknown cmd")

    # --- login and subscriptions

    def _login(self, message: Mapping[str, Any], now: float) -> None:
        try:
            prefetch = _prefetch(message.get("prefetch_count"))
            wanted = self._wanted(message.get("data"))
        except _RefusedError as refusal:
            self._send({"cmd": "login_res", "data": {"result": False, "msg": str(refusal)}})
            self._end()
            return
        self._send({"cmd": "login_res", "data": {"result": True, "msg": "ok"}})
        self._begin(prefetch, wanted, now)

    def _enterprise_login(self, message: Mapping[str, Any], now: float) -> None:
        try:
            prefetch, products = self._enterprise(message.get("data"))
        except _RefusedError as refusal:
            self._send({"cmd": "enterprise_login_res", "data": {"result": False, "msg": str(refusal)}})
            self._end()
            return
        self._legacy = True
        self._send({"cmd": "enterprise_login_res", "data": {"result": True, "msg": "ok"}})
        kinds = frozenset(EVENT_TYPES.values())
        self._begin(prefetch, {(product.product_key, ENTERPRISE): kinds for product in products}, now)

    def _enterprise(self, data: Any) -> tuple[int, list[CloudProduct]]:
        """The products of the enterprise that logs in."""
        if not isinstance(data, dict):
            raise _RefusedError("bad auth")
        products = [
            product
            for product in self._side.products
            if product.enterprise is not None
            and _is(product.enterprise, data.get("enterprise_id"), data.get("enterprise_secret"))
        ]
        if not products:
            raise _RefusedError("bad auth")
        return _prefetch(data.get("prefetch_count")), products

    def _begin(self, prefetch: int, wanted: Mapping[tuple[str, str], frozenset[str]], now: float) -> None:
        self._deadline = now + IDLE_TIME
        self._consumer = Consumer(prefetch, self._deliver, self._has_room)
        self._attach(self._consumer, wanted)

    def _attach(self, consumer: Consumer, wanted: Mapping[tuple[str, str], frozenset[str]]) -> None:
        self._products.update(product_key for product_key, _ in wanted)
        self._queues.attach(consumer, wanted, self._side.now())
        self._queues.pump(consumer)

    def _wanted(self, data: Any) -> dict[tuple[str, str], frozenset[str]]:
        """What a login or a subscription asks for, when all of it is good."""
        wanted: dict[tuple[str, str], frozenset[str]] = {}
        for entry in _entries(data):
            product = self._product(entry)
            if not any(
                _is(known, entry.get("auth_id"), entry.get("auth_secret")) for known in product.credentials
            ):
                raise _RefusedError("bad auth")
            key = product.product_key, _subkey(entry)
            kinds = event_kinds(entry.get("events"))
            if not kinds:
                raise _RefusedError("invalid events")
            wanted[key] = wanted.get(key, frozenset()) | kinds
        if not self._queues.have_room_for(wanted):
            raise _RefusedError("too many subkeys")
        return wanted

    def _product(self, entry: Mapping[str, Any]) -> CloudProduct:
        key = entry.get("product_key")
        product = self._side.cloud_product(key) if isinstance(key, str) else None
        if product is None:
            raise _RefusedError("invalid product_key")
        return product

    def _subscribe(self, message: Mapping[str, Any], consumer: Consumer) -> None:
        try:
            wanted = self._wanted(message.get("data"))
        except _RefusedError as refusal:
            self._answer_subscription("subscribe_res", message, str(refusal))
            return
        self._answer_subscription("subscribe_res", message)
        self._attach(consumer, wanted)

    def _unsubscribe(self, message: Mapping[str, Any], consumer: Consumer) -> None:
        try:
            unwanted = [
                (self._product(entry).product_key, _subkey(entry), event_kinds(entry.get("events")))
                for entry in _entries(message.get("data"))
            ]
            if not all(kinds for _, _, kinds in unwanted):
                raise _RefusedError("invalid events")  # noqa: TRY301 - one answer for all of them
        except _RefusedError as refusal:
            self._answer_subscription("unsubscribe_res", message, str(refusal))
            return
        for product_key, subkey, kinds in unwanted:
            self._queues.withdraw(consumer, product_key, subkey, kinds)
        self._answer_subscription("unsubscribe_res", message)

    def _answer_subscription(self, command: str, message: Mapping[str, Any], refusal: str = "") -> None:
        """Result at the top level, unlike a login's; secrets are not repeated (§4.3)."""
        data = message.get("data")
        echoed = [
            {name: value for name, value in entry.items() if name != "auth_secret"}
            for entry in (data if isinstance(data, list) else [])[:MAX_LISTED]
            if isinstance(entry, dict)
        ]
        self._send({"cmd": command, "result": not refusal, "msg": refusal or "ok", "data": echoed})

    # --- pushes and control

    def _deliver(self, delivery: Delivery) -> None:
        cmd = f"{_PREFIX if self._legacy else ''}event_push"
        members = {"cmd": cmd, "msg_id": delivery.msg_id, "delivery_id": delivery.delivery_id}
        head = json.dumps(members, separators=(",", ":"))
        self._write(f"{head[:-1]},{delivery.body[1:]}\n".encode("ascii"))

    def _control(self, command: str, message: Mapping[str, Any]) -> None:
        items = message.get("data")
        if not isinstance(items, list) or len(items) > MAX_LISTED:
            self._invalid(1002, "data is missing")
            return
        second = command == "remote_control_v2_req"
        succeed: list[Any] = []
        failed: list[Any] = []
        for item in items:
            did, reason = control(self._side, self._products, item)
            if reason is None:
                succeed.append({"did": did} if second else did)
            else:
                failed.append({"did": did, "reason": reason} if second else {did: reason})
        answer: dict[str, Any] = {"cmd": "remote_control_v2_res" if second else "remote_control_res"}
        if isinstance(message.get("msg_id"), str | int):
            answer["msg_id"] = message["msg_id"]
        self._send({**answer, "result": {"succeed": succeed, "failed": failed}})

    # --- out

    def _send(self, message: Mapping[str, Any]) -> None:
        self._write(json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n")

    def _invalid(self, code: int, text: str) -> None:
        self._send({"cmd": "invalid_msg", "error_code": code, "msg": text})

    def _too_long(self) -> None:
        self._invalid(1001, f"a line has more than {MAX_LINE} bytes")
        self._end()

    def _end(self) -> None:
        self.closed = True
        self._buffer.clear()
        self._close()


_COMMANDS: Final = frozenset(
    {
        "ping",
        "event_ack",
        "subscribe_req",
        "unsubscribe_req",
        "remote_control_req",
        "remote_control_v2_req",
        "enterprise_ping",
        "enterprise_event_ack",
    }
)


def _prefetch(value: Any) -> int:
    """0 is what a client sends that has left it out (Go)."""
    if value is None or value == 0:
        return PREFETCH
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_PREFETCH:
        raise _RefusedError("invalid prefetch_count")
    return value


def _entries(data: Any) -> list[Mapping[str, Any]]:
    if not isinstance(data, list) or not 0 < len(data) <= MAX_LISTED:
        raise _RefusedError("invalid product_key")
    if not all(isinstance(entry, dict) for entry in data):
        raise _RefusedError("invalid product_key")
    return data


def _subkey(entry: Mapping[str, Any]) -> str:
    subkey = entry.get("subkey")
    if not isinstance(subkey, str) or not _SUBKEY.fullmatch(subkey):
        raise _RefusedError("invalid subkey")
    return subkey


def _is(known: Credential, given_id: Any, secret: Any) -> bool:
    """Whether these are the credentials; takes the same time for a near miss."""
    if not isinstance(given_id, str) or not isinstance(secret, str):
        return False
    same_id = hmac.compare_digest(known.id.encode(), given_id.encode())
    return hmac.compare_digest(known.secret.encode(), secret.encode()) and same_id
