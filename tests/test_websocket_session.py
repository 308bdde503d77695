"""Rules of the WebSocket API, one session at a time, on a clock that the test turns (websocket-api.md)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_apps import APPID
from support_websocket import login_message
from support_websocket_bench import PASSCODE, App, Bench, FakeDevice

from sim.cloud.accounts import User
from sim.cloud.events import LoginRefused, Origin
from sim.cloud.websocket_messages import Fault, encode, message_of
from sim.cloud.websocket_session import MAX_QUEUED

PONG = {"cmd": "pong"}
PING = {"cmd": "ping"}
ON = b"\x04\x01\x17"
"""A report: power, the first mode, 23 °C."""
ATTRS = {"power": True, "mode": "制冷", "temp": 23}
READ = bytes.fromhex("00000003 04 00 0090 02")


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


def read(device: FakeDevice, **members: Any) -> dict[str, Any]:
    return {"cmd": "c2s_read", "data": {"did": device.did}, **members}


def write(device: FakeDevice, attrs: Any, **members: Any) -> dict[str, Any]:
    return {"cmd": "c2s_write", "data": {"did": device.did, "attrs": attrs}, **members}


def raw(device: FakeDevice, data: Any) -> dict[str, Any]:
    return {"cmd": "c2s_raw", "data": {"did": device.did, "raw": data}}


def invalid(fault: Fault, msg: str) -> dict[str, Any]:
    return {"cmd": "s2c_invalid_msg", "data": {"error_code": int(fault), "msg": msg}}


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


# --- §7.0: the guard


def command_for(name: str, did: Any) -> dict[str, Any]:
    if name == "c2s_ack":
        return {"cmd": name, "res_sn": 1, "did": did}
    return {"cmd": name, "data": {"did": did, "attrs": {"no": 1}, "raw": "zz"}}


@pytest.mark.parametrize("name", ["c2s_read", "c2s_write", "c2s_raw", "c2s_ack"])
def test_the_guard_of_commands_in_its_order(bench: Bench, person: tuple[User, str], name: str) -> None:
    user, _ = person
    app = bench.app(*person)
    bound, foreign = bench.device(user), bench.device()
    both, off = bench.device(user, online=False), bench.device(user, online=False)
    for each in (bound, both):
        bench.store.set_disabled(each.did, disabled=True)
    app.got()
    assert bench.socket().fault(command_for(name, None)) == 1003
    malformed: tuple[Any, ...] = (None, 1, ["x"], {})
    for value in malformed:
        assert app.fault(command_for(name, value)) == 1001
    assert app.fault({"cmd": name}) == 1001
    for did in ("", "x", "\ud800", "设备", "' OR 1=1 --", foreign.did, bound.did, both.did):
        assert app.fault(command_for(name, did)) == 1005
    assert app.fault(command_for(name, off.did)) == 1006
    off.come()
    assert bound.received == foreign.received == both.received == off.received == []


@pytest.mark.parametrize("name", ["c2s_read", "c2s_write", "c2s_ack"])
def test_1010_without_data_points(
    bench: Bench, person: tuple[User, str], device: FakeDevice, name: str
) -> None:
    app = bench.app(*person, p0_type="custom")
    expected = [invalid(Fault.P0_TYPE, "Command not allowed for this p0_type!")]
    assert app.ask(command_for(name, device.did)) == expected
    assert app.ask(command_for(name, None)) == expected
    assert device.received == []


def test_unbound_during_the_session(app: App, person: tuple[User, str], device: FakeDevice) -> None:
    """§13."""
    device.unbind(person[0])
    assert app.got() == [{"cmd": "s2c_binding_changed", "data": {"did": device.did, "bind": False}}]
    assert app.fault(read(device)) == 1005
    assert app.ask({"cmd": "subscribe_req", "data": [{"did": device.did}]})[0]["data"]["failed"]
    device.say(ON)
    device.go()
    assert app.got() == []


# --- §7.1, §7.2: read and write


def test_read_and_write(app: App, person: tuple[User, str], device: FakeDevice) -> None:
    assert app.ask(read(device)) == []
    assert app.ask({"cmd": "c2s_read", "data": {"did": device.did, "names": ["temp"]}}) == []
    assert app.ask(write(device, {"power": True, "mode": "制热"})) == []
    assert app.ask({"cmd": "c2s_write", "data": {"did": device.did, "attr": {"power": 1}}}) == []
    assert [packet.hex() for packet in device.received] == [
        READ.hex(),
        READ.hex(),
        "00000003060000900103" + "03",
        "00000003060000900101" + "01",
    ]
    assert set(device.origins) == {Origin("client", person[0].uid, APPID)}


@pytest.mark.parametrize(
    ("attrs", "name"),
    [
        ({}, "attrs"),
        (None, "attrs"),
        ([], "attrs"),
        ("power", "attrs"),
        ({"no": 1}, "no"),
        ({"temp": 20}, "temp"),
        ({"power": True, "temp": 20}, "temp"),
        ({"power": 2}, "power"),
        ({"power": None}, "power"),
        ({"power": [True]}, "power"),
        ({"power": {}}, "power"),
        ({"mode": "cold"}, "mode"),
        ({"mode": 2}, "mode"),
        ({"mode": -1}, "mode"),
        ({"mode": 10**300}, "mode"),
        ({"模式": 1}, "\\u6a21\\u5f0f"),
        ({"x" * 100: 1}, "x" * 64 + "..."),
    ],
)
def test_1007_names_the_point(app: App, device: FakeDevice, attrs: Any, name: str) -> None:
    assert app.ask(write(device, attrs)) == [invalid(Fault.ATTRS, f"Invalid attrs: {name}!")]
    assert device.received == []


def test_1013_when_the_connection_takes_no_more(app: App, device: FakeDevice) -> None:
    device.full = True
    for message in (read(device), write(device, {"power": True}), raw(device, [1, 1, 3])):
        assert app.ask(message) == [invalid(Fault.SEND_FAILED, "Send command failed!")]


def test_an_unsubscribed_socket_may_command_but_hears_nothing(
    bench: Bench, person: tuple[User, str], device: FakeDevice
) -> None:
    """§7.0, R7."""
    app, other = bench.app(*person, auto_subscribe=False), bench.app(*person)
    assert app.ask(read(device)) == []
    device.say(b"\x03\x01\x17")
    assert app.got() == []
    assert other.got() == [{"cmd": "s2c_noti", "data": {"did": device.did, "attrs": ATTRS}}]


def test_an_answer_goes_to_all_who_have_the_device(
    bench: Bench, app: App, device: FakeDevice, person: tuple[User, str]
) -> None:
    other, token = bench.user("phone2")
    device.bind(other)
    apps = [app, bench.app(*person), bench.app(other, token)]
    app.ask(read(device))
    device.say(b"\x03\x01\x17")
    assert [each.got() for each in apps] == 3 * [
        [{"cmd": "s2c_noti", "data": {"did": device.did, "attrs": ATTRS}}]
    ]


# --- §7.4: acknowledged commands


def test_a_number_of_the_clouds_goes_to_the_device(app: App, device: FakeDevice) -> None:
    app.send(write(device, {"power": True}, req_sn=7))
    app.send(read(device, req_sn=2**31 - 1))
    assert [packet.hex() for packet in device.received] == [
        "000000030a0000930000000101" + "0101",
        "00000003080000930000000202",
    ]


def test_s2c_ack_is_for_who_asked(
    bench: Bench, app: App, person: tuple[User, str], device: FakeDevice
) -> None:
    other = bench.app(*person)
    app.send(write(device, {"power": True}, req_sn=7))
    device.answer(1)
    assert app.got() == [{"cmd": "s2c_ack", "res_sn": 7, "did": device.did}]
    device.answer(1)
    assert app.got() == other.got() == []


def test_an_unsubscribed_socket_gets_its_s2c_ack(
    bench: Bench, person: tuple[User, str], device: FakeDevice
) -> None:
    app = bench.app(*person, auto_subscribe=False)
    app.send(read(device, req_sn=9))
    device.answer(1)
    assert app.got() == [{"cmd": "s2c_ack", "res_sn": 9, "did": device.did}]
    app.send(read(device, req_sn=10))
    device.answer(2, b"\x03\x01\x17")
    assert app.got() == []


def test_an_answer_with_data_has_the_number_for_who_asked_only(
    bench: Bench, app: App, person: tuple[User, str], device: FakeDevice
) -> None:
    other, custom = bench.app(*person), bench.app(*person, p0_type="custom")
    app.send(read(device, req_sn=7))
    device.answer(1, b"\x03\x01\x17")
    data = {"did": device.did, "attrs": ATTRS}
    assert app.got() == [{"cmd": "s2c_noti", "res_sn": 7, "data": data}]
    assert other.got() == [{"cmd": "s2c_noti", "data": data}]
    packet = [0, 0, 0, 3, 10, 0, 0, 0x94, 0, 0, 0, 1, 3, 1, 23]
    assert custom.got() == [{"cmd": "s2c_raw", "data": {"did": device.did, "raw": packet}}]


def test_an_answer_with_other_data_is_acknowledged_and_passed_on(app: App, device: FakeDevice) -> None:
    app.send(read(device, req_sn=7))
    device.answer(1, b"\x06\xaa")
    assert [message["cmd"] for message in app.got()] == ["s2c_raw", "s2c_ack"]


def test_the_number_is_kept_for_30_seconds(bench: Bench, app: App, device: FakeDevice) -> None:
    app.send(read(device, req_sn=7))
    app.send(read(device, req_sn=8))
    bench.advance(29.9, app)
    device.answer(1)
    assert app.got() == [{"cmd": "s2c_ack", "res_sn": 7, "did": device.did}]
    bench.advance(0.2, app)
    device.answer(2)
    assert app.got() == []


def test_answers_to_others_are_not_for_the_socket(app: App, device: FakeDevice) -> None:
    app.send(read(device, req_sn=7))
    device.answer(1, client="usrApp")
    assert app.got() == []


def test_a_number_ends_with_the_login_and_with_the_binding(
    bench: Bench, app: App, person: tuple[User, str], device: FakeDevice
) -> None:
    app.send(read(device, req_sn=7))
    app.ask(login_message(*person))
    device.answer(1)
    assert app.got() == []
    app.send(read(device, req_sn=8))
    device.unbind(person[0])
    app.got()
    device.answer(2)
    assert app.got() == []


@pytest.mark.parametrize("req_sn", [0, -1, 2**31, "7", 1.0, True, [7]])
def test_a_wrong_req_sn_is_1001(app: App, device: FakeDevice, req_sn: Any) -> None:
    assert app.fault(read(device, req_sn=req_sn)) == 1001
    assert device.received == []


def test_a_report_that_wants_an_acknowledgement(
    bench: Bench, app: App, person: tuple[User, str], device: FakeDevice
) -> None:
    custom = bench.app(*person, p0_type="custom")
    device.say(ON, command=0x93, sn=41)
    assert app.got() == [{"cmd": "s2c_noti", "req_sn": 41, "data": {"did": device.did, "attrs": ATTRS}}]
    assert custom.got()[0]["data"]["raw"] == [0, 0, 0, 3, 10, 0, 0, 0x93, 0, 0, 0, 41, 4, 1, 23]
    other = bench.app(*person)
    ack = {"cmd": "c2s_ack", "res_sn": 41, "did": device.did}
    assert app.ask({**ack, "res_sn": 40}) == []
    assert device.received == []
    assert other.ask(ack) == app.ask(ack) == []
    assert device.received == [bytes.fromhex("00000003 07 00 0094 00000029")]
    # The same number again is a new report.
    device.say(ON, command=0x93, sn=41)
    app.ask(ack)
    assert len(device.received) == 2


def test_a_raw_socket_acknowledges_with_a_packet(
    bench: Bench, app: App, person: tuple[User, str], device: FakeDevice
) -> None:
    custom = bench.app(*person, p0_type="custom")
    device.say(ON, command=0x93, sn=41)
    packet = bytes.fromhex("00000003 07 00 0094 00000029")
    custom.send(raw(device, packet.hex()))
    app.send({"cmd": "c2s_ack", "res_sn": 41, "did": device.did})
    assert device.received == [packet]


@pytest.mark.parametrize("res_sn", [None, "41", True, 4.1])
def test_a_wrong_res_sn_is_1001(app: App, device: FakeDevice, res_sn: Any) -> None:
    assert app.fault({"cmd": "c2s_ack", "res_sn": res_sn, "did": device.did}) == 1001


# --- §8: raw data


def test_raw_data_is_passed_on_unchanged(app: App, device: FakeDevice) -> None:
    packet = [0, 0, 0, 3, 7, 0, 0, 144, 5, 9, 8, 7]
    assert app.ask(raw(device, packet)) == []
    assert app.ask(raw(device, bytes(packet).hex())) == []
    assert app.ask(raw(device, [1, 1, 3])) == []
    assert app.ask(raw(device, "010103")) == []
    assert device.received == 2 * [bytes(packet)] + 2 * [bytes.fromhex("00000003 06 00 0090 01 01 03")]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "",
        "zz",
        "123",
        5,
        {},
        [256],
        [-1],
        [1.0],
        ["1"],
        [True],
        [0, 0, 0, 3],
        [0, 0, 0, 3, 8, 0, 0, 144, 5, 9, 8, 7],
        [0, 0, 0, 3, 6, 0, 0, 144, 5, 9, 8, 7],
        [0, 0, 0, 3, 0x80, 0x80, 0x80, 0x80, 1],
        [0, 0, 0, 3, 2, 0, 0],
        [1] * 70_000,
    ],
)
def test_1008_is_no_raw_data(app: App, device: FakeDevice, data: Any) -> None:
    assert app.ask(raw(device, data)) == [invalid(Fault.RAW, "Invalid raw data!")]
    assert device.received == []


def test_strict_raw() -> None:
    bench = Bench(strict_raw=True)
    user, token = bench.user()
    device, app = bench.device(user), bench.app(user, token)
    assert app.fault(raw(device, [1, 1, 3])) == 1008
    assert app.ask(raw(device, list(READ))) == []
    assert device.received == [READ]


def test_the_answer_to_a_raw_0093_is_raw(
    bench: Bench, app: App, person: tuple[User, str], device: FakeDevice
) -> None:
    custom = bench.app(*person, p0_type="custom")
    custom.send(raw(device, "000000030a000093" + "00000063" + "010101"))
    device.answer(0x63)
    packet = [0, 0, 0, 3, 7, 0, 0, 0x94, 0, 0, 0, 0x63]
    assert custom.got() == [{"cmd": "s2c_raw", "data": {"did": device.did, "raw": packet}}]
    assert app.got() == []


@pytest.mark.parametrize(
    ("p0", "data_points", "custom"),
    [
        (b"\x03\x01\x17", "s2c_noti", "s2c_raw"),
        (b"\x04\x01\x17", "s2c_noti", "s2c_raw"),
        (b"\x06\x01\x17", "s2c_raw", "s2c_raw"),
        (b"\x10\x01\x17", "s2c_raw", "s2c_raw"),
        (b"\x57\x01", "s2c_raw", "s2c_raw"),
        (b"\x5b\x01", "s2c_raw", "s2c_raw"),
        (b"\x04\x01", "s2c_invalid_msg", "s2c_raw"),
    ],
)
def test_who_gets_what_of_a_report(bench: Bench, p0: bytes, data_points: str, custom: str) -> None:
    """§8.2."""
    user, token = bench.user()
    device = bench.device(user)
    app, other = bench.app(user, token), bench.app(user, token, p0_type="custom")
    device.say(p0)
    (first,), (second,) = app.got(), other.got()
    assert (first["cmd"], second["cmd"]) == (data_points, custom)
    packet = [0, 0, 0, 3, 3 + len(p0), 0, 0, 0x91, *p0]
    assert second["data"] == {"did": device.did, "raw": packet}
    if data_points == "s2c_invalid_msg":
        assert first == invalid(Fault.DEVICE_DATA, "Invalid device data!")


def test_a_product_without_data_points_is_raw(bench: Bench, person: tuple[User, str]) -> None:
    device = bench.device(person[0], product_key="f" * 32)
    app = bench.app(*person)
    device.say(ON)
    assert app.got()[0]["cmd"] == "s2c_raw"
    assert app.ask(read(device)) == []
    assert device.received == [READ]
    assert app.fault(write(device, {"power": True})) == 1007


def test_bools_may_be_numbers() -> None:
    """R1."""
    bench = Bench(ws_bool_as_int=True)
    user, token = bench.user()
    device, app = bench.device(user), bench.app(user, token)
    device.say(ON)
    (text,) = app.session.outgoing
    assert '"power":1' in text


# --- §9: events


def test_online_status(bench: Bench, app: App, device: FakeDevice) -> None:
    data = {"did": device.did, "passcode": PASSCODE, "mac": "5ccf7f0a1b01"}
    device.go()
    assert app.got() == [{"cmd": "s2c_online_status", "data": {**data, "online": False}}]
    device.say(ON)
    assert app.got() == []
    device.come()
    device.say(ON)
    first, second = app.got()
    assert first == {"cmd": "s2c_online_status", "data": {**data, "online": True}}
    assert second["cmd"] == "s2c_noti"
    # It is back before anybody knew that it was gone.
    FakeDevice(bench, bench.side.device(device.did)).come()
    assert app.got() == [{"cmd": "s2c_online_status", "data": {**data, "online": True}}]


def test_nothing_is_pushed_of_a_disabled_device(bench: Bench, app: App, device: FakeDevice) -> None:
    bench.store.set_disabled(device.did, disabled=True)
    device.say(ON)
    device.say(b"\x06\x01")
    device.say(b"\x04")
    device.go()
    device.come()
    assert app.got() == []
    bench.store.set_disabled(device.did, disabled=False)
    device.say(ON)
    assert app.got()[0]["cmd"] == "s2c_noti"


def test_binding_changed_is_for_the_affected_user(bench: Bench, person: tuple[User, str]) -> None:
    """§9.2, R12."""
    user, token = person
    other, other_token = bench.user("phone2")
    mine = [bench.app(user, token), bench.app(user, token, auto_subscribe=False, p0_type="custom")]
    theirs = bench.app(other, other_token)
    device = bench.device(user)
    changed = {"cmd": "s2c_binding_changed", "data": {"did": device.did, "bind": True}}
    assert [app.got() for app in (*mine, theirs)] == [[changed], [changed], []]
    device.say(ON)
    assert [len(app.got()) for app in (*mine, theirs)] == [1, 0, 0]
    device.unbind(user)
    changed["data"] = {"did": device.did, "bind": False}
    assert [app.got() for app in (*mine, theirs)] == [[changed], [changed], []]
    device.say(ON)
    assert [app.got() for app in (*mine, theirs)] == [[], [], []]


def test_a_reset_of_the_device_ends_its_bindings(bench: Bench, app: App, device: FakeDevice) -> None:
    bench.store.register(bench.product_key, "5ccf7f0a1b01", PASSCODE, is_reset=True, now=2.0)
    bench.side.bindings.void(device.did)
    assert app.got() == [{"cmd": "s2c_binding_changed", "data": {"did": device.did, "bind": False}}]
    device.say(ON)
    assert app.got() == []


def test_the_device_is_told_how_many_apps_are_there(
    bench: Bench, person: tuple[User, str], device: FakeDevice
) -> None:
    """device-cloud.md §9.3."""
    device.counts.clear()
    first = bench.app(*person)
    second = bench.app(*person, auto_subscribe=False)
    second.ask({"cmd": "subscribe_req", "data": [{"did": device.did}]})
    first.ask(login_message(*person))
    bench.sockets.forget(second.session)
    first.session.lose(bench.now)
    assert device.counts == [1, 2, 1, 0]


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
