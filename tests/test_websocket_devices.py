"""Commands and pushes of the WebSocket API (websocket-api.md §7 to §9), without sockets."""

from __future__ import annotations

from typing import Any

import pytest
from support_apps import APPID
from support_websocket import LAMP, login_message
from support_websocket_bench import (
    ATTRS,
    ON,
    PASSCODE,
    READ,
    App,
    Bench,
    FakeDevice,
    invalid,
    raw,
    read,
    write,
)

from sim.cloud.accounts import User
from sim.cloud.events import Origin
from sim.cloud.websocket_messages import Fault


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


# --- values, with a product of variable length


@pytest.fixture
def box() -> tuple[App, FakeDevice]:
    bench = Bench(LAMP.with_name("var-len.json"))
    user, token = bench.user()
    device = bench.device(user)
    return bench.app(user, token), device


@pytest.mark.parametrize(
    ("names", "flags"),
    [
        (None, "03ff"),
        ([], "03ff"),
        (["Switch"], "0001"),
        (["Mode", "Tag", "unknown"], "0210"),
        (["unknown"], "03ff"),
    ],
)
def test_a_read_of_some_points(box: tuple[App, FakeDevice], names: Any, flags: str) -> None:
    """§7.1."""
    app, device = box
    data = {"did": device.did, **({} if names is None else {"names": names})}
    assert app.ask({"cmd": "c2s_read", "data": data}) == []
    assert device.received == [bytes.fromhex("00000003 06 00 0090 12" + flags)]


@pytest.mark.parametrize("names", ["Switch", {}, [1], 5])
def test_names_are_a_list_of_texts(box: tuple[App, FakeDevice], names: Any) -> None:
    app, device = box
    assert app.fault({"cmd": "c2s_read", "data": {"did": device.did, "names": names}}) == 1001


@pytest.mark.parametrize(
    ("attrs", "body"),
    [
        ({"Switch": True}, "0001 01"),
        ({"Switch": 0}, "0001 00"),
        ({"Switch": "1"}, "0001 01"),
        ({"Switch": "true"}, "0001 01"),
        ({"Switch": "false"}, "0001 00"),
        ({"Mode": "heat"}, "0010 03"),
        ({"Mode": 3}, "0010 03"),
        ({"Bright": 26}, "0040 1a"),
        ({"Bright": "26"}, "0040 1a"),
        ({"Tag": [23, 2, 3]}, "0200 170203"),
        ({"Tag": "170203"}, "0200 170203"),
        ({"Tag": [23]}, "0200 170000"),
        ({"Tag": ""}, "0200 000000"),
        ({"Tag": [1, 2, 3], "Switch": 1}, "0201 01 010203"),
    ],
)
def test_forms_of_values_that_are_accepted(
    box: tuple[App, FakeDevice], attrs: dict[str, Any], body: str
) -> None:
    """§7.2."""
    app, device = box
    assert app.ask(write(device, attrs)) == []
    packet = bytes.fromhex("00 0090 11" + body)
    assert device.received == [bytes.fromhex("00000003") + bytes((len(packet),)) + packet]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Switch", "yes"),
        ("Mode", "HEAT"),
        ("Mode", 5),
        ("Bright", 256),
        ("Bright", -1),
        ("Bright", 1.5),
        ("Bright", "x"),
        ("Bright", True),
        ("Bright", None),
        ("Bright", 10**400),
        ("Tag", [1, 2, 3, 4]),
        ("Tag", "01020304"),
        ("Tag", "012"),
        ("Tag", [256]),
        ("Tag", 1),
        ("Temp", 20.5),
        ("Alarm", True),
        ("Err", False),
    ],
)
def test_values_that_are_refused(box: tuple[App, FakeDevice], name: str, value: Any) -> None:
    """§7.2: the whole command, and nothing reaches the device."""
    app, device = box
    answer = app.ask(write(device, {"Switch": True, name: value}))
    assert answer == [invalid(Fault.ATTRS, f"Invalid attrs: {name}!")]
    assert device.received == []


@pytest.mark.parametrize(
    ("report", "attrs"),
    [
        ("13 0001 01", '{"Switch":true}'),
        ("14 0014 06", '{"Door":false,"Mode":"heat"}'),
        ("14 0080 0217", '{"Temp":23.5}'),
        ("14 0080 0212", '{"Temp":23}'),
        ("14 0280 0000 0102ff", '{"Temp":-30,"Tag":[1,2,255]}'),
        ("14 0100 ffffffff", '{"Energy":4294967295}'),
    ],
)
def test_forms_of_values_that_are_sent(box: tuple[App, FakeDevice], report: str, attrs: str) -> None:
    """§7.3: only what the report holds."""
    app, device = box
    device.say(bytes.fromhex(report))
    (text,) = app.session.outgoing
    assert text == f'{{"cmd":"s2c_noti","data":{{"did":"{device.did}","attrs":{attrs}}}}}'


def test_an_empty_report_is_not_passed_on(box: tuple[App, FakeDevice]) -> None:
    app, device = box
    device.say(bytes.fromhex("14 0000"))
    assert app.got() == []


def test_an_enum_index_out_of_range_is_1012(box: tuple[App, FakeDevice]) -> None:
    """§8.2."""
    app, device = box
    device.say(bytes.fromhex("14 0010 07"))
    assert app.got() == [invalid(Fault.DEVICE_DATA, "Invalid device data!")]


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
