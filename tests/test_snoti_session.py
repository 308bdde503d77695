"""One connection of SNoti without sockets: time, odd bytes, slow readers (snoti.md §2, §4, §5)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from support_apps import app_cloud
from test_snoti_vectors import AUTH, OK, PK, connected, listener, login, products

from sim.cloud.app import EmbeddedCloud
from sim.cloud.snoti_session import IDLE_TIME, LOGIN_TIME, SnotiSession


@pytest.fixture
async def cloud() -> AsyncIterator[EmbeddedCloud]:
    async with app_cloud(products=products(), snoti="127.0.0.1:0") as running:
        yield running


class Peer:
    """A session under a clock of the test."""

    def __init__(self, cloud: EmbeddedCloud, *, began: float = 0.0) -> None:
        self.lines: list[Any] = []
        self.ends = 0
        self.room = True
        self.session = SnotiSession(
            cloud.side,
            cloud._snoti.queues,
            write=lambda line: self.lines.append(json.loads(line)),
            close=self._closed,
            has_room=lambda: self.room,
            now=began,
        )

    def _closed(self) -> None:
        self.ends += 1

    def send(self, message: Any, now: float = 0.0) -> None:
        data = message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"
        self.session.receive_data(data, now=now)

    def ask(self, message: Any, now: float = 0.0) -> Any:
        self.send(message, now)
        return self.lines.pop()


@pytest.fixture
def peer(cloud: EmbeddedCloud) -> Peer:
    return Peer(cloud)


def happens(cloud: EmbeddedCloud, *numbers: int, kind: str = "device_status_kv") -> None:
    for number in numbers:
        cloud._snoti.queues.collect(PK, kind, {"event_type": kind, "n": number}, time.time())


def numbers(peer: Peer) -> list[tuple[int, int]]:
    """Delivery id and number of every push since the last look."""
    pushes = [line for line in peer.lines if line["cmd"] == "event_push"]
    peer.lines.clear()
    return [(push["delivery_id"], push["n"]) for push in pushes]


# --- §4.1, §4.2: time


def test_who_does_not_log_in_has_60_seconds(cloud: EmbeddedCloud) -> None:
    peer = Peer(cloud, began=1000.0)
    assert peer.session.next_timeout() == 1000.0 + LOGIN_TIME == 1060.0
    # What comes before the login does not buy time.
    assert peer.ask({"cmd": "ping"}, now=1059.0)["error_code"] == 1003
    assert peer.session.next_timeout() == 1060.0
    peer.session.handle_timeout(1059.9)
    assert peer.ends == 0
    peer.session.handle_timeout(1060.0)
    assert peer.ends == 1
    peer.send(login(), now=1060.1)
    assert peer.lines == []


def test_who_says_nothing_for_600_seconds_is_gone(peer: Peer) -> None:
    assert peer.ask(login(), now=59.0) == OK
    assert peer.session.next_timeout() == 59.0 + IDLE_TIME == 659.0
    # §4.2: any line counts.
    for number, line in enumerate(({"cmd": "ping"}, {"cmd": "nonsense"}, b"\n", b"{\n"), start=1):
        peer.send(line, now=59.0 + 500.0 * number)
        assert peer.session.next_timeout() == 659.0 + 500.0 * number
    peer.session.handle_timeout(2658.9)
    assert not peer.session.closed
    peer.session.handle_timeout(2659.0)
    assert peer.session.closed


def test_pushes_do_not_count_as_activity(peer: Peer, cloud: EmbeddedCloud) -> None:
    assert peer.ask(login(), now=0.0) == OK
    happens(cloud, 1)
    assert numbers(peer) == [(1, 1)]
    assert peer.session.next_timeout() == IDLE_TIME


# --- §2: lines


def test_a_message_counts_when_its_end_is_there(peer: Peer) -> None:
    line = json.dumps(login()).encode()
    for byte in line:
        peer.send(bytes([byte]))
    assert peer.lines == []
    peer.send(b"\n")
    assert peer.lines == [OK]


def test_many_lines_in_one_record(peer: Peer) -> None:
    ping = b'{"cmd":"ping"}\n'
    peer.send(json.dumps(login()).encode() + b"\n" + 3 * ping + b'{"cmd":')
    assert peer.lines == [OK, *3 * [{"cmd": "pong"}]]
    peer.lines.clear()
    peer.send(b'"ping"}\r\n')
    assert peer.lines == [{"cmd": "pong"}]


@pytest.mark.parametrize(
    ("delivery", "code"),
    [
        (b"1e999", None),
        (b"-1e999", None),
        (b"1.5", None),
        (b"99999999999999999999", None),
        (b"-1", None),
        (b"NaN", 1001),
        (b"true", 1002),
        (b"null", 1002),
        (b'"1"', 1002),
        (b"[1]", 1002),
        (b"9" * 5000, 1001),
    ],
)
def test_an_odd_delivery_id_acknowledges_nothing(
    peer: Peer, cloud: EmbeddedCloud, delivery: bytes, code: int | None
) -> None:
    assert peer.ask(login(prefetch=1)) == OK
    happens(cloud, 1, 2)
    assert numbers(peer) == [(1, 1)]
    peer.send(b'{"cmd":"event_ack","delivery_id":' + delivery + b"}\n")
    assert [line["error_code"] for line in peer.lines] == ([] if code is None else [code])
    assert not peer.session.closed


def test_a_float_acknowledges_as_go_sends_it(peer: Peer, cloud: EmbeddedCloud) -> None:
    assert peer.ask(login(prefetch=1)) == OK
    happens(cloud, 1, 2)
    peer.send(b'{"cmd":"event_ack","delivery_id":1.0}\n')
    assert numbers(peer) == [(1, 1), (2, 2)]


@pytest.mark.parametrize("text", [b"\xed\xa0\x80", b"\xff", b"\\ud800", b"\xc0\x80"])
@pytest.mark.parametrize("member", ["auth_id", "auth_secret", "product_key", "subkey"])
def test_bytes_that_are_no_text(peer: Peer, member: str, text: bytes) -> None:
    change: dict[str, Any] = {member: "HERE"}
    line = json.dumps(login(**change)).encode().replace(b"HERE", text) + b"\n"
    assert peer.ask(line)["error_code"] == 1001
    assert peer.ask(login()) == OK


@pytest.mark.parametrize("given", ["m-1", 7])
def test_the_msg_id_of_a_control_comes_back_as_it_was_given(peer: Peer, given: Any) -> None:
    assert peer.ask(login()) == OK
    answer = peer.ask({"cmd": "remote_control_req", "msg_id": given, "data": []})
    assert answer == {
        "cmd": "remote_control_res",
        "msg_id": given,
        "result": {"succeed": [], "failed": []},
    }
    assert "msg_id" not in peer.ask({"cmd": "remote_control_req", "data": []})


# --- §5: delivery


def test_who_unsubscribes_keeps_what_it_has_and_gets_no_more(peer: Peer, cloud: EmbeddedCloud) -> None:
    assert peer.ask(login("device.status.kv", "device.online", prefetch=2)) == OK
    happens(cloud, 1, 2)
    happens(cloud, 3, kind="device_online")
    less = {"product_key": PK, "subkey": "ci_runner_1", "events": ["device.status.kv"]}
    peer.send({"cmd": "unsubscribe_req", "data": [less]})
    assert numbers(peer) == [(1, 1), (2, 2)]
    happens(cloud, 4)
    peer.send({"cmd": "event_ack", "delivery_id": 1})
    assert numbers(peer) == [(3, 3)]
    peer.send({"cmd": "event_ack", "delivery_id": 2})
    assert numbers(peer) == []


def test_a_subscription_with_a_wrong_secret_changes_nothing(peer: Peer, cloud: EmbeddedCloud) -> None:
    assert peer.ask(login()) == OK
    wanted = {"product_key": PK, "subkey": "other", **AUTH, "events": ["device.online"]}
    answer = peer.ask({"cmd": "subscribe_req", "data": [wanted, {**wanted, "auth_secret": "x"}]})
    assert (answer["result"], answer["msg"]) == (False, "bad auth")
    assert "auth_secret" not in answer["data"][0]
    assert cloud._snoti.queues.subkeys(PK) == ["ci_runner_1"]


def test_what_finds_no_room_comes_when_there_is_some(peer: Peer, cloud: EmbeddedCloud) -> None:
    assert peer.ask(login()) == OK
    peer.room = False
    happens(cloud, 1, 2)
    assert numbers(peer) == []
    peer.room = True
    peer.session.pump()
    assert numbers(peer) == [(1, 1), (2, 2)]


def test_a_connection_that_is_lost_before_its_login(peer: Peer) -> None:
    peer.session.connection_lost()
    peer.session.pump()
    peer.send(login())
    assert peer.lines == []


async def test_a_reader_that_stops_stops_nobody_else(cloud: EmbeddedCloud) -> None:
    """Pushes wait for it in the queue, the cloud goes on, and it gets all of them when it reads again."""
    async with listener(cloud, prefetch=32_767) as slow, listener(cloud, subkey="quick") as quick:
        cast("asyncio.Transport", slow.writer.transport).pause_reading()
        padding = "x" * 50_000  # a line fits into the client's reader
        count = 300  # more than the sockets of this machine hold
        for number in range(count):
            body = {"event_type": "device_status_kv", "n": number, "data": padding}
            cloud._snoti.queues.collect(PK, "device_status_kv", body, time.time())
        async with asyncio.timeout(20):
            for _ in range(count):
                quick.ack((await quick.next())["delivery_id"])
        (stopped,) = cloud._snoti.queues._queues[PK]["ci_runner_1"].consumers
        assert len(stopped.in_flight) < count
        cast("asyncio.Transport", slow.writer.transport).resume_reading()
        assert [(await slow.next())["n"] for _ in range(count)] == list(range(count))


@pytest.mark.parametrize("error", [TimeoutError(110, "timed out"), OSError(113, "no route")])
async def test_a_machine_that_is_gone_ends_its_session(
    cloud: EmbeddedCloud, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    """The system tells so with ETIMEDOUT or EHOSTUNREACH: neither is the silence that the session times."""
    readers: list[asyncio.StreamReader] = []
    accept = cloud._snoti._accept

    def seen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        readers.append(reader)
        accept(reader, writer)

    monkeypatch.setattr(cloud._snoti, "_accept", seen)
    async with connected(cloud) as client:
        assert await client.ask(login()) == OK
        readers[0].set_exception(error)
        assert await client.line() == b""
