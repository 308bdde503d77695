"""One socket of the WebSocket API on a clock that the test turns: login, subscription, liveness, order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_websocket import login_message
from support_websocket_bench import (
    ON,
    PING,
    PONG,
    App,
    Bench,
    FakeDevice,
    invalid,
    raw,
    read,
    write,
)

from sim.cloud.accounts import User
from sim.cloud.events import LoginRefused
from sim.cloud.websocket_hub import ACK_TIME, MAX_NUMBERS, Ledger
from sim.cloud.websocket_messages import Fault, encode, message_of
from sim.cloud.websocket_session import MAX_QUEUED


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def person(bench: Bench) -> tuple[User, str]:
    return bench.user()


@pytest.fixture
def device(bench: Bench, person: tuple[User, str]) -> FakeDevice:
    return bench.device(person[0])


@pytest.fixture
def app(bench: Bench, person: tuple[User, str], device: FakeDevice) -> App:
    return bench.app(*person)


# --- §3, §11: what is no message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "1",
        "null",
        '"ping"',
        "{}",
        '{"cmd":1}',
        '{"cmd":null}',
        '{"cmd":"ping","x":NaN}',
        '{"cmd":"ping"',
        '{"cmd":"ping","x":' + "9" * 5000 + "}",
        "[" * 100_000,
        '{"cmd":' + "[" * 100_000,
        b"\xff\xfe",
        b'{"cmd":"\xc3("}',
    ],
)
@pytest.mark.parametrize("is_logged_in", [True, False])
def test_1001_is_no_message(bench: Bench, app: App, text: str | bytes, is_logged_in: bool) -> None:
    one = app if is_logged_in else bench.socket()
    assert one.ask(text) == [invalid(Fault.FORMAT, "Invalid message format!")]
    assert one.code() is None


def test_messages_may_be_binary_raw_utf_8_or_escaped(app: App, device: FakeDevice) -> None:
    assert app.ask(b'{"cmd":"ping"}') == [PONG]
    for text in ("制热", "\\u5236\\u70ed"):
        app.send(
            f'{{"data":{{"attrs":{{"mode":"{text}"}},"did":"{device.did}"}},"cmd":"c2s_write"}}'.encode()
        )
        assert device.received.pop() == bytes.fromhex("00000003 06 00 0090 01 02 02")
    assert app.got() == []


def test_what_is_sent_is_ascii(app: App, device: FakeDevice) -> None:
    device.say(ON)
    (text,) = app.session.outgoing
    assert text.isascii()
    assert '"\\u5236\\u51b7"' in text
    assert encode({"x": "\U0001f600"}) == '{"x":"\\ud83d\\ude00"}'


@pytest.mark.parametrize(
    "command", ["ping", "subscribe_req", "c2s_read", "c2s_write", "c2s_raw", "c2s_ack", "x"]
)
def test_1003_before_login(bench: Bench, command: str) -> None:
    assert bench.socket().ask({"cmd": command}) == [
        invalid(Fault.NOT_LOGGED_IN, "Websocket client not login!")
    ]


@pytest.mark.parametrize("command", ["", "x", "PING", "pong", "s2c_noti", "login_res"])
def test_1004_unknown_command(app: App, command: str) -> None:
    assert app.ask({"cmd": command}) == [invalid(Fault.UNKNOWN_COMMAND, "Unknown command!")]


# --- §5: login


@pytest.mark.parametrize(
    "members",
    [
        {"appid": None},
        {"uid": None},
        {"token": None},
        {"p0_type": None},
        {"appid": 1},
        {"uid": ["x"]},
        {"token": {}},
        {"p0_type": "attrs_v5"},
        {"p0_type": ""},
        {"appid": "0" * 32},
        {"uid": "0" * 32},
        {"token": "0" * 32},
        {"token": ""},
        {"token": "\ud800"},
        {"appid": "\udfff"},
        {"uid": "' OR 1=1 --"},
    ],
)
def test_login_fails_and_the_socket_stays(
    bench: Bench, person: tuple[User, str], members: dict[str, Any]
) -> None:
    socket = bench.socket()
    refused = {"cmd": "login_res", "data": {"success": False, "error_code": 1002, "msg": "Login failed!"}}
    assert socket.ask(login_message(*person, **members)) == [refused]
    assert socket.code() is None
    assert isinstance(bench.events[-1], LoginRefused)
    assert person[1] not in bench.events[-1].reason
    assert socket.ask(PING)[0]["data"]["error_code"] == 1003
    assert socket.ask(login_message(*person)) == [{"cmd": "login_res", "data": {"success": True}}]


@pytest.mark.parametrize("data", [None, [], "x", 1, {}])
def test_every_login_is_answered_with_login_res(bench: Bench, data: Any) -> None:
    (answer,) = bench.socket().ask({"cmd": "login_req", "data": data})
    assert answer["cmd"] == "login_res"
    assert answer["data"]["success"] is False


def test_a_token_of_another_app_or_user_is_no_login(bench: Bench, person: tuple[User, str]) -> None:
    other = bench.side.accounts.add_app("b" * 32)
    foreign, foreign_token = bench.user("phone2")
    token = bench.side.accounts.issue_token(person[0].uid, other.appid).token
    for message in (
        login_message(person[0], token),
        login_message(person[0], foreign_token),
        login_message(foreign, person[1]),
    ):
        assert bench.socket().ask(message)[0]["data"]["success"] is False
    assert (
        bench.socket().ask(login_message(person[0], token, appid=other.appid))[0]["data"]["success"] is True
    )


def test_an_expired_or_revoked_token_is_no_login(bench: Bench, person: tuple[User, str]) -> None:
    user, token = person
    bench.advance(7 * 86400)
    assert bench.socket().ask(login_message(user, token))[0]["data"]["success"] is False
    _, token = bench.user()
    bench.side.accounts.revoke(user.uid)
    assert bench.socket().ask(login_message(user, token))[0]["data"]["success"] is False


@pytest.mark.parametrize("p0_type", ["custom", "raw"])
def test_raw_is_a_synonym_of_custom(
    bench: Bench, person: tuple[User, str], device: FakeDevice, p0_type: str
) -> None:
    app = bench.app(*person, p0_type=p0_type)
    device.say(ON)
    assert app.got()[0]["cmd"] == "s2c_raw"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 280),
        (180, 280),
        (180000, 280),
        (600, 280),
        ("180000", 280),
        (10**400, 280),
        ("1e999", 280),
        (30, 55),
        ("30", 55),
        (30.0, 55),
        (60, 100),
        (20, 40),
        (1, 40),
        (0, 280),
        (-5, 280),
        ("", 280),
        ("abc", 280),
        (True, 280),
        ([30], 280),
    ],
)
def test_heartbeat_interval(bench: Bench, person: tuple[User, str], value: Any, seconds: float) -> None:
    """§10-2: 1.5 × min(interval, 180) + 10, not less than 40."""
    app = bench.app(*person, heartbeat_interval=value)
    bench.advance(seconds - 0.01, app)
    assert app.got() == []
    bench.advance(0.02, app)
    assert app.got() == [invalid(Fault.NO_HEARTBEAT, "No heartbeat!")]
    assert app.code() == 1000
    assert app.session.next_timeout() is None


def test_v9_heartbeat(bench: Bench, person: tuple[User, str]) -> None:
    app = bench.app(*person, heartbeat_interval=30)
    bench.advance(55, app)
    assert [message["data"]["error_code"] for message in app.got()] == [1011]
    assert app.code() == 1000
    app = bench.app(*person, heartbeat_interval=180)
    bench.advance(180, app)
    assert app.ask(PING) == [PONG]
    bench.advance(90, app)
    assert app.code() is None
    assert app.ask(PING) == [PONG]


def test_what_counts_as_activity(bench: Bench, person: tuple[User, str], device: FakeDevice) -> None:
    """§10-2, §11: every well-formed message, also one that is refused; a malformed one does not."""
    app = bench.app(*person, heartbeat_interval=20)
    for message in (PING, read(device), {"cmd": "x"}, write(device, {"no": 1}), raw(device, "zz")):
        bench.advance(39, app)
        app.send(message)
        assert app.code() is None
    for malformed in ("no JSON", '{"cmd":"c2s_read"}'):
        bench.advance(15, app)
        app.send(malformed)
    bench.advance(11, app)
    assert app.code() == 1000


def test_a_socket_without_login_lives_150_seconds(bench: Bench, person: tuple[User, str]) -> None:
    """§4-6, also when logins fail and messages come."""
    socket = bench.socket()
    bench.advance(100, socket)
    socket.ask(login_message(person[0], "0" * 32))
    socket.ask(PING)
    bench.advance(49.9, socket)
    assert socket.code() is None
    bench.advance(0.2, socket)
    assert socket.got() == [invalid(Fault.NO_HEARTBEAT, "No heartbeat!")]
    assert socket.code() == 1000
    socket.send(login_message(*person))
    assert socket.got() == []


def test_a_second_login_replaces_the_first(
    bench: Bench, person: tuple[User, str], device: FakeDevice
) -> None:
    """§4-5."""
    app = bench.app(*person, heartbeat_interval=30)
    other, token = bench.user("phone2")
    theirs = bench.device(other)
    app.ask(login_message(other, token, p0_type="custom"))
    device.say(ON)
    assert app.got() == []
    theirs.say(ON)
    assert app.got()[0]["cmd"] == "s2c_raw"
    assert app.fault(raw(device, [2])) == 1005
    bench.advance(100, app)
    assert app.code() is None


def test_a_second_login_that_fails_changes_nothing(app: App, bench: Bench, device: FakeDevice) -> None:
    other, _ = bench.user("phone2")
    assert app.ask(login_message(other, "0" * 32))[0]["data"]["success"] is False
    assert app.ask(PING) == [PONG]
    device.say(ON)
    assert app.got()[0]["cmd"] == "s2c_noti"


def test_nothing_is_pushed_merely_because_of_a_login(bench: Bench, person: tuple[User, str]) -> None:
    """§4-3."""
    device = bench.device(person[0])
    device.say(ON)
    assert bench.app(*person).got() == []


# --- §6: subscription


def test_auto_subscribe_is_true_when_it_is_not_said(bench: Bench, person: tuple[User, str]) -> None:
    """§5.1, R11: devices that are bound now and later."""
    device = bench.device(person[0])
    forms: tuple[Any, ...] = (None, True, 1, "true", False, 0, "false")
    heard = [(form, bench.app(*person, auto_subscribe=form)) for form in forms]
    later = bench.device(person[0])
    for _, app in heard:
        app.got()
    for each in (device, later):
        each.say(ON)
        for value, app in heard:
            assert len(app.got()) == (value in forms[:4]), value


def test_subscribe(bench: Bench, person: tuple[User, str]) -> None:
    """§6: request order, doubles, both lists always there, additive."""
    user, _ = person
    app = bench.app(*person, auto_subscribe=False)
    one, two, off = bench.device(user), bench.device(user), bench.device(user, online=False)
    foreign, disabled = bench.device(), bench.device(user)
    bench.store.set_disabled(disabled.did, disabled=True)
    app.got()

    def subscribe(*dids: str) -> tuple[list[str], list[str]]:
        (answer,) = app.ask({"cmd": "subscribe_req", "data": [{"did": did, "passcode": "x"} for did in dids]})
        assert answer["cmd"] == "subscribe_res"
        assert set(answer["data"]) == {"success", "failed"}
        assert all(item["error_code"] == 0 and item["msg"] == "ok" for item in answer["data"]["success"])
        assert all(
            item["error_code"] == 1005 and item["msg"] == "Device is not bound!"
            for item in answer["data"]["failed"]
        )
        return (
            [item["did"] for item in answer["data"]["success"]],
            [item["did"] for item in answer["data"]["failed"]],
        )

    assert subscribe() == ([], [])
    assert subscribe("unknown", one.did, foreign.did) == ([one.did], ["unknown", foreign.did])
    assert subscribe(disabled.did, off.did, one.did) == ([off.did, one.did], [disabled.did])
    for device in (one, two, foreign, disabled):
        device.say(ON)
    assert [message["data"]["did"] for message in app.got()] == [one.did]
    off.come()
    assert app.got()[0]["cmd"] == "s2c_online_status"
    assert subscribe(two.did) == ([two.did], [])
    for device in (one, two):
        device.say(ON)
    assert [message["data"]["did"] for message in app.got()] == [one.did, two.did]


@pytest.mark.parametrize("data", [None, {}, "x", ["x"], [None], [{}], [{"did": 1}], [{"did": "x"}, {}]])
def test_a_malformed_subscription_is_1001(app: App, data: Any) -> None:
    assert app.fault({"cmd": "subscribe_req", "data": data}) == 1001


def test_subscribe_with_auto_subscribe_changes_nothing(app: App, device: FakeDevice) -> None:
    answer = app.ask({"cmd": "subscribe_req", "data": [{"did": device.did}]})
    assert answer[0]["data"]["success"][0]["did"] == device.did
    device.say(ON)
    assert len(app.got()) == 1


def test_a_subscription_ends_with_a_new_login(
    bench: Bench, person: tuple[User, str], device: FakeDevice
) -> None:
    app = bench.app(*person, auto_subscribe=False)
    app.ask({"cmd": "subscribe_req", "data": [{"did": device.did}]})
    app.ask(login_message(*person, auto_subscribe=False))
    device.say(ON)
    assert app.got() == []


# --- §10-4: lost sessions


LOST = invalid(Fault.SESSION_LOST, "M2M socket has closed, please login again!")


def test_1009_when_the_token_is_revoked(
    bench: Bench, app: App, person: tuple[User, str], device: FakeDevice
) -> None:
    user, token = person
    _, kept = bench.user()
    other = bench.app(user, kept)
    bench.side.accounts.revoke(user.uid, keep=kept)
    assert app.got() == [LOST]
    assert other.got() == []
    assert app.code() is None
    device.say(ON)
    assert app.got() == []
    assert app.fault(PING) == 1003
    assert app.ask(login_message(user, token))[0]["data"]["success"] is False
    assert app.ask(login_message(user, kept))[0]["data"]["success"] is True


def test_1009_when_the_token_expires_then_1011(bench: Bench, person: tuple[User, str]) -> None:
    app = bench.app(*person)
    for _ in range(7 * 480 - 1):
        bench.advance(180, app)
        assert app.ask(PING) == [PONG]
    bench.advance(179.9, app)
    assert app.got() == []
    bench.advance(0.2, app)
    assert app.got() == [LOST]
    bench.advance(149.8, app)
    assert app.code() is None
    bench.advance(0.2, app)
    assert app.got() == [invalid(Fault.NO_HEARTBEAT, "No heartbeat!")]
    assert app.code() == 1000


def test_a_token_that_has_expired_commands_nothing(
    bench: Bench, app: App, person: tuple[User, str], device: FakeDevice
) -> None:
    """Also when the clock of the day was set and no timer knows it."""
    bench.date += 7 * 86400
    assert app.ask(read(device)) == [LOST, invalid(Fault.NOT_LOGGED_IN, "Websocket client not login!")]
    assert device.received == []
    app = bench.app(*bench.user())
    bench.date += 7 * 86400
    # Nothing comes before the answer to a login.
    answers = app.ask(login_message(*person))
    assert [answer["cmd"] for answer in answers] == ["login_res", "s2c_invalid_msg"]


def test_a_clock_that_was_set_is_noticed_in_a_minute(bench: Bench, app: App) -> None:
    bench.date += 7 * 86400
    bench.advance(60, app)
    assert app.got() == [LOST]


def test_1009_when_the_user_is_deleted(
    bench: Bench, app: App, person: tuple[User, str], device: FakeDevice
) -> None:
    bench.side.delete_user(person[0].uid)
    assert app.got() == [{"cmd": "s2c_binding_changed", "data": {"did": device.did, "bind": False}}, LOST]


def test_the_hook_that_loses_sessions(bench: Bench, person: tuple[User, str]) -> None:
    other, token = bench.user("phone2")
    apps = [bench.app(*person), bench.app(*person), bench.app(other, token), bench.socket()]
    assert (len(bench.sockets), bench.sockets.logged_in) == (4, 3)
    assert bench.sockets.lose(person[0].uid) == 2
    assert [app.got() for app in apps] == [[LOST], [LOST], [], []]
    assert bench.sockets.lose() == 1
    assert [app.got() for app in apps] == [[], [], [LOST], []]
    assert (len(bench.sockets), bench.sockets.logged_in) == (4, 0)


# --- §12: order and slow readers


def test_state_is_stored_before_it_is_pushed(bench: Bench, app: App, device: FakeDevice) -> None:
    seen: list[Any] = []
    app.session.wake = lambda: seen.append(bench.side.device(device.did).state)
    device.say(ON)
    assert seen == [{"power": 1, "mode": 0, "temp": 23}]


def test_pushes_come_in_the_order_of_the_reports_and_behind_what_waits(app: App, device: FakeDevice) -> None:
    device.say(b"\x04\x01\x01")
    app.send(PING)
    app.send(read(device))
    device.say(b"\x03\x01\x02")
    device.say(b"\x04\x01\x03")
    first, pong, second, third = app.got()
    assert pong == PONG
    assert [message["data"]["attrs"]["temp"] for message in (first, second, third)] == [1, 2, 3]


def test_1000_messages_may_wait(bench: Bench, app: App, person: tuple[User, str], device: FakeDevice) -> None:
    other = bench.app(*person)
    for number in range(MAX_QUEUED):
        device.say(b"\x04\x01" + bytes((number % 100,)))
        other.got()
    assert app.code() is None
    device.say(ON)
    assert app.code() == 1008
    assert not app.session.outgoing
    assert len(other.got()) == 1
    assert bench.sockets.logged_in == 1
    device.say(ON)
    assert not app.session.outgoing


def test_a_closed_session_says_and_hears_nothing(bench: Bench, app: App, device: FakeDevice) -> None:
    app.session.close(1001)
    device.say(ON)
    assert app.ask(PING) == []
    app.session.handle_timeout(bench.now + 1000)
    assert app.got() == []


def test_what_is_remembered_is_bounded() -> None:
    """However many numbers a device makes up."""
    ledger: Ledger[int, str] = Ledger()
    for number in range(MAX_NUMBERS + 5):
        ledger.put(number, "x", 0.0)
    assert len(ledger) == MAX_NUMBERS
    assert ledger.take(4, 1.0) is None
    assert ledger.take(5, 1.0) == "x"
    assert ledger.take(5, 1.0) is None
    ledger.put(0, "y", ACK_TIME)
    assert len(ledger) == 1


# --- whatever comes


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from(["did", "attrs", "attr", "names", "raw", "appid", "uid", "token", "p0_type"])
COMMANDS = st.sampled_from(
    ["login_req", "subscribe_req", "ping", "c2s_read", "c2s_write", "c2s_raw", "c2s_ack"]
)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_no_message_does_harm(data: st.DataObject) -> None:
    """Every message is answered at most once, and the session stays."""
    bench = Bench()
    user, token = bench.user()
    device, app = bench.device(user), bench.app(user, token)
    values = JSON | st.just(device.did) | st.dictionaries(st.sampled_from(["power", "mode", "temp"]), JSON)
    for _ in range(4):
        message = data.draw(
            st.fixed_dictionaries(
                {"cmd": COMMANDS},
                optional={
                    "data": values | st.dictionaries(NAMES, values),
                    "did": values,
                    "req_sn": values,
                    "res_sn": values,
                },
            )
        )
        assert len(app.ask(json.dumps(message))) <= 1
    bench.store.close()


def test_every_fault_has_its_text() -> None:
    """§11."""
    assert [message_of(fault, "temp") for fault in Fault] == [
        "Invalid message format!",
        "Login failed!",
        "Websocket client not login!",
        "Unknown command!",
        "Device is not bound!",
        "Device is offline!",
        "Invalid attrs: temp!",
        "Invalid raw data!",
        "M2M socket has closed, please login again!",
        "Command not allowed for this p0_type!",
        "No heartbeat!",
        "Invalid device data!",
        "Send command failed!",
    ]
    assert [int(fault) for fault in Fault] == list(range(1001, 1014))
