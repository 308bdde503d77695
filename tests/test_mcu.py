"""The MCU's role, driven by hand under a virtual clock (serial.md §4, §5.7, §6.6)."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_roles import COMMAND_IDS, Bench

from gizserial import schemas
from gizserial.commands import COMMANDS, FRAMES, Command, Role
from gizserial.endpoint import QueueFullError
from gizserial.errors import UnknownName, ValueOutOfRange
from gizserial.events import (
    ControlApplied,
    FrameSent,
    McuRestarting,
    ModuleAnswered,
    RawDataReceived,
    ReadAnswered,
    Reported,
    RequestFailed,
    WifiStatusReceived,
)
from gizserial.framing import Frame
from gizserial.io.products import load_product
from gizserial.mcu import McuRole
from gizserial.mcu_options import McuOptions
from gizserial.product import Layout, Product

ROOT = Path(__file__).resolve().parent.parent
PET = load_product(ROOT / "fixtures" / "products" / "pet-house.json")
VAR = load_product(ROOT / "fixtures" / "products" / "var-len.json")
KEY = PET.product_key

ACKED: dict[int, Callable[[Frame], bytes]] = {Command.P0_FROM_MCU: lambda _frame: b""}

# The zero state of the pet house: real zeros, so Motor_Speed is 5 and Temperature 13 (observed.md).
ZERO = "0000000005 00 0d00 00 00"


def started(
    product: Product = PET,
    *,
    values: dict[str, Any] | None = None,
    acks: bool = True,
    answers: dict[int, bytes] | None = None,
    **options: Any,
) -> tuple[McuRole, Bench]:
    """An MCU whose reports are acked at once; what it sends at its start is gone."""
    mcu = McuRole(product, McuOptions(**options), values=values)
    line = Bench(mcu, up=False)
    line.answers = dict(ACKED) if acks else {}
    for command, payload in (answers or {}).items():
        line.answers[command] = lambda _frame, payload=payload: payload  # type: ignore[misc]  # bound now
    line.plug()
    line.clear()
    return mcu, line


def hexes(line: Bench, command: int = Command.P0_FROM_MCU) -> list[str]:
    return [frame.payload.hex() for frame in line.frames(command)]


def p0(payload: str, sn: int = 0x42, flags: int = 0) -> Frame:
    return Frame(Command.P0_TO_MCU, sn, bytes.fromhex(payload), flags)


# --- answers


@pytest.mark.parametrize(("variant", "size"), [("A", 66), ("B", 74), ("C", 106), ("D", 108 + 7)])
def test_it_says_who_it_is(variant: str, size: int) -> None:
    _mcu, line = started(
        info_variant=variant,
        hard_ver="00000003",
        soft_ver="00000007",
        bind_time=60,
        product_secret="e" * 32,
        data={"tz": "3600"},
    )
    for _ in range(3):  # at any time, repeatedly
        line.receive(Frame(Command.DEVICE_INFO, 9))
        line.run_for(2.0)
    answers = line.frames(Command.DEVICE_INFO + 1)
    assert len(answers) == 3
    assert len(answers[0].payload) == size
    fields = schemas.DEVICE_INFO.parse(answers[0].payload)
    assert fields["product_key"] == KEY
    assert (fields["protocol_ver"], fields["p0_ver"]) == ("00000004", "00000002")
    assert (fields["hard_ver"], fields["soft_ver"], fields["bind_time"]) == ("00000003", "00000007", 60)
    if variant >= "B":
        assert fields["dev_attr"].hex() == "0000000000000002"
    if variant >= "C":
        assert fields["product_secret"] == "e" * 32
    if variant == "D":
        assert fields["data"] == {"tz": "3600"}


def test_attribute_bit_7_says_variable_length() -> None:
    _mcu, line = started(VAR)
    line.receive(Frame(Command.DEVICE_INFO, 9))
    fields = schemas.DEVICE_INFO.parse(line.frames(Command.DEVICE_INFO + 1)[0].payload)
    assert fields["dev_attr"].hex() == "0000000000000082"


def test_heartbeats_and_status_are_acked() -> None:
    mcu, line = started()
    line.receive(Frame(Command.HEARTBEAT, 6), Frame(Command.STATUS, 7, bytes.fromhex("0732")))
    assert line.take() == [Frame(Command.HEARTBEAT + 1, 6), Frame(Command.STATUS + 1, 7)]
    assert mcu.wifi_status == 0x0732


def test_status_events_name_the_bits_that_changed() -> None:
    _mcu, line = started()
    for sn, word in enumerate(("0008", "0002", "0712", "0732", "0f32", "0532")):
        line.receive(Frame(Command.STATUS, sn, bytes.fromhex(word)))
    assert [set(event.changed) for event in line.of(WifiStatusReceived)] == [
        {"binding"},
        {"binding", "station"},
        {"router", "rssi"},
        {"cloud"},
        {"app"},
        {"app", "rssi"},
    ]


def test_a_status_without_its_word_is_acked_and_ignored() -> None:
    mcu, line = started()
    line.receive(Frame(Command.STATUS, 7, b"\x07"))
    assert line.take() == [Frame(Command.STATUS + 1, 7)]
    assert mcu.wifi_status == 0


def test_extra_payload_is_ignored() -> None:
    _mcu, line = started()
    line.receive(Frame(Command.HEARTBEAT, 6, b"abc"))
    assert line.take() == [Frame(Command.HEARTBEAT + 1, 6)]


# --- control


def test_a_control_is_acked_applied_and_reported() -> None:
    # serial.md §8.1 and §9.4, V81 to V83.
    mcu, line = started(
        values={
            "Infrared": True,
            "Temperature": 25,
            "Humidity": 60,
            "Alert_1": True,
            "Fault_Motor": True,
            "Fault_IR": True,
        }
    )
    line.receive(p0("012707c8000007"))
    sent = line.take()
    assert sent[0] == Frame(Command.P0_TO_MCU + 1, 0x42), "the ack comes first"
    assert sent[1].payload.hex() == "0407c800000701263c010a"
    assert len(sent) == 2
    assert mcu.value("LED_OnOff") is True
    assert (mcu.raw["LED_Color"], mcu.value("LED_R"), mcu.value("Motor_Speed")) == (3, 200, 2)


def test_what_is_not_flagged_is_not_taken() -> None:
    mcu, line = started(values={"LED_R": 7, "LED_G": 8})
    line.receive(p0("0104 00fe ffffff".replace(" ", "")))
    assert (mcu.value("LED_OnOff"), mcu.raw["LED_R"], mcu.value("LED_G")) == (False, 254, 8)


def test_points_are_applied_in_id_order_and_told() -> None:
    _mcu, line = started()
    line.receive(p0("012707c8000007"))
    (applied,) = line.of(ControlApplied)
    assert list(applied.raw.items()) == [
        ("LED_OnOff", 1),
        ("LED_Color", 3),
        ("LED_R", 200),
        ("Motor_Speed", 7),
    ]
    assert applied.ignored == ()


def test_an_unchanged_control_is_reported_too() -> None:
    _mcu, line = started()
    line.receive(p0("0101000000000 0".replace(" ", "")))
    assert len(hexes(line)) == 1
    assert [event.why for event in line.of(Reported)] == ["control"]


def test_the_sdk_reports_changes_only() -> None:
    _mcu, line = started(report_after_control=False)
    line.receive(p0("01010000000000", sn=1))
    assert not hexes(line)
    line.receive(p0("01010100000000", sn=2))
    assert len(hexes(line)) == 1


def test_every_control_gets_its_report_even_when_they_come_in_one_chunk() -> None:
    _mcu, line = started(acks=False)
    line.receive(*(p0(f"0104 00{value:02x}000000".replace(" ", ""), sn=value) for value in range(5)))
    for sn in range(5):
        line.receive(Frame(Command.P0_FROM_MCU + 1, sn))
    assert [frame.payload[2] for frame in line.frames(5)] == [0, 1, 2, 3, 4]


def test_more_controls_than_the_queue_holds_still_end_in_a_report_of_the_last_state() -> None:
    mcu, line = started(acks=False)
    for value in range(60):
        line.receive(p0(f"0104 00{value:02x}000000".replace(" ", ""), sn=value))
    line.answers = dict(ACKED)
    line.run_for(30.0)
    assert len(line.frames(Command.P0_TO_MCU + 1)) == 60
    assert line.frames(Command.P0_FROM_MCU)[-1].payload[2] == 59
    assert mcu.value("LED_R") == 59


def test_an_enum_index_out_of_range_and_read_only_points_are_ignored() -> None:
    # var_len: Mode (5 values) = 6, Fan = 1, Door (read-only) = 1.
    mcu, line = started(VAR)
    line.receive(p0("110034" + f"{1 | 6 << 1 | 1 << 4:02x}"))
    (applied,) = line.of(ControlApplied)
    assert applied.raw == {"Fan": 1}
    assert applied.ignored == ("Door", "Mode")
    assert (mcu.raw["Door"], mcu.raw["Mode"], mcu.raw["Fan"]) == (0, 0, 1)
    assert hexes(line) == ["140034" + f"{0 | 0 << 1 | 1 << 4:02x}"], "what was asked for is reported as it is"


def test_numbers_out_of_the_definitions_range_are_not_taken() -> None:
    mcu, line = started()
    line.receive(p0("01200000 0000c8".replace(" ", "")))
    assert mcu.raw["Motor_Speed"] == 5
    (applied,) = line.of(ControlApplied)
    assert applied.ignored == ("Motor_Speed",)


def test_the_sdk_takes_numbers_out_of_the_definitions_range() -> None:
    # observed.md, data points: decoding does not check ranges.
    mcu, line = started(takes_out_of_range=True)
    line.receive(p0("01200000 0000c8".replace(" ", "")))
    assert mcu.raw["Motor_Speed"] == 200


def test_a_control_that_is_cut_off_is_acked_and_not_applied() -> None:
    mcu, line = started()
    line.receive(p0("0127 07c80000".replace(" ", "")))
    assert line.take() == [Frame(Command.P0_TO_MCU + 1, 0x42)]
    assert mcu.raw["LED_OnOff"] == 0


def test_a_longer_control_is_applied() -> None:
    mcu, line = started()
    line.receive(p0("01010100000000" + "aabb"))
    assert mcu.raw["LED_OnOff"] == 1


def test_a_repeated_control_is_acked_again_and_applied_once() -> None:
    _mcu, line = started()
    control = p0("01010100000000")
    line.receive(control, control)
    line.run_for(0.2)
    line.receive(control)
    assert len(line.frames(Command.P0_TO_MCU + 1)) == 3
    assert len(line.of(ControlApplied)) == 1
    assert len(hexes(line)) == 1


def test_the_sdk_applies_it_twice() -> None:
    _mcu, line = started(dedup=False)
    line.receive(p0("01010100000000"), p0("01010100000000"))
    assert len(line.of(ControlApplied)) == 2


# --- read, raw data and the rest of P0


def test_a_read_is_answered_in_its_ack() -> None:
    # serial.md §9.4, V85 and V86.
    _mcu, line = started(
        values={
            "LED_OnOff": True,
            "LED_Color": 3,
            "LED_R": 200,
            "Motor_Speed": 2,
            "Infrared": True,
            "Temperature": 25,
            "Humidity": 60,
            "Alert_1": True,
            "Fault_Motor": True,
            "Fault_IR": True,
        }
    )
    line.receive(p0("02", sn=0x43))
    assert line.frames(4)[0].encode() == bytes.fromhex(
        "FF FF 00 10 04 43 00 00 03 07 C8 00 00 07 01 26 3C 01 0A 9E"
    )
    assert not hexes(line), "a read brings no report"


def test_a_variable_length_read_is_answered_with_what_it_asks_for() -> None:
    # serial.md §8.3, V89 to V92.
    _mcu, line = started(
        VAR,
        values={
            "Switch": True,
            "Door": True,
            "Mode": 4,
            "Fan": 2,
            "Bright": 80,
            "Temp": "25.3",
            "Energy": 123456,
            "Tag": "01ff00",
        },
    )
    everything = "1303ff014550022900 01e2400 1ff00".replace(" ", "")
    for sn, (asked, answer) in enumerate(
        [
            ("120180", "1301800229 0001e240".replace(" ", "")),
            ("1203ff", everything),
            ("12", everything),  # R32
            ("120000", everything),
            ("12fc00", everything),  # padding flags mean nothing
        ]
    ):
        line.receive(p0(asked, sn=sn))
        assert line.frames(4)[-1].payload.hex() == answer, asked
    assert line.of(ReadAnswered)[0].names == ("Temp", "Energy")


def test_a_read_gets_live_values_and_from_the_sdk_those_reported_last() -> None:
    for last, temperature in ((False, 14), (True, 13)):
        mcu, line = started(answer_last_reported=last)
        mcu.set_value("Humidity", 1, now=0.0)
        line.settle()  # reported: from now on 6 s without another such report
        mcu.set_value("Temperature", 1, now=0.0)
        line.receive(p0("02"))
        assert line.frames(4)[0].payload[7] == temperature


def test_raw_data_goes_to_the_application() -> None:
    # observed: capture of the SDK, transparent data with FF inside.
    _mcu, line = started()
    line.receive(bytes.fromhex("ffff000a0334000005ff5555ff55ff5598"))
    assert [event.data.hex() for event in line.of(RawDataReceived)] == ["ff55ffff"]
    assert line.take() == [Frame(4, 0x34)]


def test_raw_data_leaves() -> None:
    # serial.md §9.4, V97.
    mcu, line = started(acks=False)
    mcu.send_raw(bytes.fromhex("FF55FFFF"), now=0.0)
    line.settle()
    assert line.writes[0][1].hex() == "ffff000a0500000006ff5555ff55ff5567"


@pytest.mark.parametrize(
    "payload", ["", "99", "99aabb", "03", "04" + "00" * 10, "06aa", "12", "110041", "72"]
)
def test_an_action_that_is_not_for_it_is_acked_plainly(payload: str) -> None:
    mcu, line = started()
    before = dict(mcu.raw)
    line.receive(p0(payload))
    assert line.take() == [Frame(4, 0x42)]
    assert mcu.raw == before


def test_a_p0_for_a_sub_device_is_echoed_and_not_carried_out() -> None:
    # observed.md: flags 0x0001.
    mcu, line = started()
    line.receive(p0("03616263" + "01010100000000", flags=1))
    assert line.take() == [Frame(4, 0x42, b"\x03abc", 1)]
    assert mcu.raw["LED_OnOff"] == 0


def test_other_flags_are_ignored() -> None:
    mcu, line = started()
    line.receive(p0("01010100000000", flags=0x0102))
    assert line.frames(4) == [Frame(4, 0x42)]
    assert mcu.raw["LED_OnOff"] == 1


# --- reports


def test_the_start_state_of_zeros_is_not_reported() -> None:
    mcu = McuRole(PET)
    line = Bench(mcu, answers=dict(ACKED))
    line.run(until=599.0)
    assert not line.sent
    line.run(until=600.0)
    assert hexes(line) == ["04" + ZERO.replace(" ", "")]


def test_any_other_start_state_is_reported_at_once() -> None:
    mcu = McuRole(PET, values={"Humidity": 60})
    line = Bench(mcu, answers=dict(ACKED))
    assert len(hexes(line)) == 1
    mcu_var = McuRole(VAR, values={"Bright": 80})
    line = Bench(mcu_var, answers=dict(ACKED))
    # Temp is 0 degrees at first (raw 300), which counts as known.
    assert hexes(line) == ["140040" + "50"]


@pytest.mark.parametrize("name", ["LED_OnOff", "LED_Color", "LED_G", "Infrared", "Alert_2", "Fault_LED"])
def test_quick_points_are_reported_at_once(name: str) -> None:
    mcu, line = started()
    for number in range(1, 6):
        line.run_for(0.01)
        mcu.set_value(name, number % 2, now=line.now)
        line.settle()
    assert len(hexes(line)) == 5


@pytest.mark.parametrize("name", ["Temperature", "Humidity"])
def test_read_only_numbers_are_reported_every_six_seconds_at_most(name: str) -> None:
    mcu, line = started()
    for tenth in range(300):
        line.run(until=tenth / 10)
        mcu.set_value(name, tenth % 90, now=line.now)
        line.settle()
    line.run(until=40.0)
    times = line.times(Command.P0_FROM_MCU)
    assert times[0] <= 0.1
    assert all(later - sooner >= 6.0 - 1e-6 for sooner, later in itertools.pairwise(times))
    assert len(times) == 6, "0.1, 6.1, ... 30.1: the last one is not lost"
    assert line.frames(5)[-1].payload[7 if name == "Temperature" else 8] == mcu.raw[name]


def test_the_interval_is_an_option() -> None:
    mcu, line = started(report_min_s=1.0)
    for tenth in range(31):
        line.run(until=tenth / 10)
        mcu.set_value("Humidity", tenth + 1, now=line.now)
    assert line.times(5) == [0.0, 1.0, 2.0, 3.0]


def test_a_change_that_is_taken_back_is_not_reported() -> None:
    mcu, line = started()
    mcu.set_value("Humidity", 1, now=line.now)
    line.settle()
    mcu.set_value("Humidity", 2, now=line.now)
    mcu.set_value("Humidity", 1, now=line.now)
    line.run(until=100.0)
    assert len(hexes(line)) == 1


def test_a_full_report_comes_every_600_s() -> None:
    _mcu, line = started()
    line.run(until=2000.0)
    assert line.times(5) == [600.0, 1200.0, 1800.0]
    assert {event.why for event in line.of(Reported)} == {"periodic"}


def test_variable_length_changes_flag_what_changed() -> None:
    # serial.md §8.3, V93.
    mcu, line = started(VAR)
    mcu.set_values({"Alarm": True, "Temp": "25.3"}, now=0.0)
    line.settle()
    assert hexes(line) == ["140082" + "01" + "0229"]


def test_variable_length_numbers_do_not_ride_along_too_often() -> None:
    mcu, line = started(VAR)
    for tenth in range(1, 300):
        line.run(until=tenth / 10)
        mcu.set_values({"Alarm": tenth % 2, "Energy": tenth}, now=line.now)
        line.settle()
    carriers = [time for time, frame in line.sent if frame.payload[1] & 0x01]
    assert sum(frame.payload[2] & 0x02 > 0 for _time, frame in line.sent) == 299
    assert all(later - sooner >= 6.0 - 1e-6 for sooner, later in itertools.pairwise(carriers))
    assert len(carriers) == 5, "and they are not kept off the line either"


def test_variable_length_full_reports_flag_everything() -> None:
    for switch, flags in ((False, "03ff"), (True, "ffff")):
        _mcu, line = started(VAR, report_flags_ff=switch)
        line.run(until=600.0)
        assert hexes(line)[0][:6] == "14" + flags
        assert len(hexes(line)[0]) == 2 * (3 + VAR.status_size)


def test_a_report_is_repeated_unchanged_and_then_dropped() -> None:
    mcu, line = started(acks=False)
    mcu.set_value("LED_OnOff", True, now=0.0)
    line.run(until=50.0)
    assert line.times(5) == [0.0, 0.2, 0.4]
    assert len(set(line.frames(5))) == 1
    line.run(until=600.5)
    assert len(set(line.frames(5))) == 2, "the copy counts as reported until the full report"


def test_what_changes_while_a_report_waits_goes_into_the_next_one() -> None:
    mcu, line = started(acks=False)
    for tick in range(20):
        mcu.set_value("LED_R", tick + 1, now=tick * 0.005)
        line.settle()
    line.run(until=0.1)
    line.receive(Frame(6, 0))
    line.run(until=0.15)
    assert [frame.payload[2] for frame in line.frames(5)] == [1, 20]


def test_the_sdk_overwrites_the_report_that_waits() -> None:
    mcu, line = started(acks=False, pending_overwrite=True)
    for tick in range(3):
        mcu.set_value("LED_R", tick + 1, now=tick * 0.005)
        line.settle()
    line.run(until=5.0)
    assert [frame.payload[2] for frame in line.frames(5)] == [1, 2, 3, 3, 3]


def test_several_values_are_set_together_or_not_at_all() -> None:
    mcu, line = started()
    with pytest.raises(ValueOutOfRange):
        mcu.set_values({"LED_OnOff": True, "LED_R": 255}, now=0.0)
    with pytest.raises(UnknownName):
        mcu.set_values({"LED_OnOff": True, "LED_X": 1}, now=0.0)
    line.settle()
    assert not line.sent
    assert mcu.raw["LED_OnOff"] == 0


@pytest.mark.parametrize(
    ("name", "raw"), [("LED_OnOff", 2), ("LED_R", 256), ("LED_R", -1), ("LED_R", b"\0"), ("LED_Color", 4)]
)
def test_a_raw_value_that_no_wire_carries_is_refused(name: str, raw: int | bytes) -> None:
    mcu, _line = started()
    with pytest.raises(ValueOutOfRange):
        mcu.set_raw(name, raw, now=0.0)


def test_raw_values_out_of_the_definition_leave_for_tests_of_others() -> None:
    mcu, line = started()
    mcu.set_raw("LED_R", 255, now=0.0)
    line.settle()
    assert line.frames(5)[0].payload[2] == 255


def test_the_product_changes_while_the_line_is_down_and_reports_when_it_is_back() -> None:
    mcu, line = started()
    line.unplug()
    mcu.set_value("LED_R", 9, now=line.now)
    line.run_for(50.0)
    assert not line.sent
    line.plug()
    assert line.frames(5)[0].payload[2] == 9


def test_a_product_without_points_has_raw_data_only() -> None:
    for layout in Layout:
        nothing = Product(name="raw", product_key="0" * 32, layout=layout, points=())
        mcu, line = started(nothing)
        line.run(until=2000.0)
        assert not line.sent
        for payload in ("01", "02", "11", "12", "0501"):
            line.receive(p0(payload))
        line.receive(Frame(Command.DEVICE_INFO, 1))
        mcu.send_raw(b"x", now=line.now)
        line.settle()
        assert [event.data for event in line.of(RawDataReceived)] == [b"\x01"]


# --- requests


def test_requests_have_the_bytes_of_the_manual() -> None:
    # serial.md §9.4, V104 to V112; sn as they come.
    mcu, line = started(acks=False)
    mcu.reset_module(now=0.0)
    mcu.start_test(now=0.0)
    mcu.open_bind_window(now=0.0)
    mcu.ask_time(now=0.0)
    mcu.ask_module_info(now=0.0)
    mcu.restart_module(now=0.0)
    mcu.provision(1, now=0.0)
    mcu.provision(2, now=0.0)
    line.run(until=10.0)
    unique = list(dict.fromkeys(frame for _time, frame in line.sent))
    assert [(frame.command, frame.payload.hex()) for frame in unique] == [
        (0x0B, ""),
        (0x13, ""),
        (0x15, ""),
        (0x17, ""),
        (0x21, "00"),
        (0x29, ""),
        (0x09, "01"),
        (0x09, "02"),
    ]
    assert [frame.sn for frame in unique] == list(range(8))
    assert len(line.sent) == 24


def test_router_data_for_the_module() -> None:
    # serial.md §9.4, V103.
    mcu, line = started(acks=False)
    mcu.give_access_point("Home", "pass1234", now=0.0, bssid="1ccf7fb6bbff")
    line.settle()
    assert line.frames(9)[0].payload.hex() == ("0404486f6d650870617373313233340c316363663766623662626666")


def test_network_time_is_told() -> None:
    body = bytes.fromhex("07 E8 03 0E 0C 17 13 65 F2 7B B7")
    for payload, stamp in ((body, 1710390199), (body[:7], None)):  # early firmware sent seven bytes
        mcu, line = started(answers={Command.NETWORK_TIME: payload})
        mcu.ask_time(now=0.0)
        line.settle()
        (answer,) = line.of(ModuleAnswered)
        assert (answer.name, answer.fields["year"], answer.fields["second"]) == ("network_time_ack", 2024, 19)
        assert answer.fields.get("timestamp") == stamp


def test_module_information_is_told() -> None:
    body = schemas.MODULE_INFO.build(
        {
            "type": 1,
            "protocol_ver": "00000004",
            "hard_ver": "00ESP826",
            "soft_ver": "04020035",
            "mac": "2C3AE8012345",
            "ip": "192.168.1.20",
            "dev_attr": bytes(8),
        }
    )
    mcu, line = started(answers={Command.MODULE_INFO: body})
    mcu.ask_module_info(now=0.0)
    line.settle()
    assert line.of(ModuleAnswered)[0].fields["mac"] == "2C3AE8012345"


@pytest.mark.parametrize("payload", [b"", b"\x07"])
def test_an_answer_that_is_cut_off_has_no_fields(payload: bytes) -> None:
    mcu, line = started(answers={Command.NETWORK_TIME: payload})
    mcu.ask_time(now=0.0)
    line.settle()
    assert [event.fields for event in line.of(ModuleAnswered)] == [{}]


def test_requests_are_bounded() -> None:
    mcu, _line = started(acks=False)
    for _ in range(17):
        mcu.ask_time(now=0.0)
    with pytest.raises(QueueFullError):
        mcu.ask_time(now=0.0)


def test_the_sdk_takes_an_ack_with_any_sn() -> None:
    for match, repeats in ((True, 3), (False, 1)):
        mcu, line = started(acks=False, ack_match_sn=match)
        mcu.set_value("LED_OnOff", True, now=0.0)
        line.settle()
        line.receive(Frame(6, 0xEE))
        line.run(until=5.0)
        assert len(line.frames(5)) == repeats


# --- restart


def test_restart_acks_waits_600_ms_and_begins_anew() -> None:
    mcu, line = started(values={"LED_R": 3})
    mcu.set_value("LED_R", 9, now=0.0)
    line.settle()
    line.run(until=1.0)
    line.clear()
    line.receive(Frame(Command.RESTART_MCU, 5))
    assert line.take() == [Frame(Command.RESTART_MCU + 1, 5)]
    line.run(until=1.599)
    assert not line.of(McuRestarting)
    line.run(until=1.601)
    assert len(line.of(McuRestarting)) == 1
    assert mcu.value("LED_R") == 3
    assert [frame.sn for frame in line.frames(5)] == [0], (
        "numbers begin again, and the start state is reported"
    )


def test_the_delay_is_an_option() -> None:
    _mcu, line = started(reboot_delay_ms=50)
    line.receive(Frame(Command.RESTART_MCU, 5))
    line.run(until=0.051)
    assert len(line.of(McuRestarting)) == 1


def test_a_restart_drops_what_waited() -> None:
    mcu, line = started(acks=False)
    mcu.ask_time(now=0.0)
    mcu.set_value("LED_R", 9, now=0.0)
    line.receive(Frame(Command.RESTART_MCU, 5))
    line.run(until=5.0)
    assert len(line.of(RequestFailed)) == 2
    last = [frame.command for time, frame in line.sent if time > 0.61]
    assert last == []


# --- notices


def damaged(command: int, sn: int = 0x21) -> bytes:
    wire = Frame(command, sn).encode()
    return wire[:-1] + bytes((wire[-1] ^ 0x04,))


@pytest.mark.parametrize("command", [0x01, 0x03, 0x07, 0x0D, 0x0F, 0x99])
def test_a_damaged_frame_draws_code_1(command: int) -> None:
    _mcu, line = started()
    line.receive(damaged(command))
    assert line.take() == [Frame(0x12, 0x21, b"\x01")]


@pytest.mark.parametrize("command", [0x06, 0x0A, 0x18, 0x12, 0x11])
def test_a_damaged_ack_or_notice_draws_one_from_the_sdk_only(command: int) -> None:
    _mcu, line = started()
    line.receive(damaged(command))
    assert not line.sent
    _mcu, line = started(no_ack_on_bad_sum_notice=False)
    line.receive(damaged(command))
    assert line.take() == [Frame(0x12, 0x21, b"\x01")]


@pytest.mark.parametrize("command", [0x2B, 0x99, 0x05, 0x09, 0x17, 0x02, 0x04, 0x08])
def test_an_unknown_command_draws_code_2(command: int) -> None:
    # observed.md: 02, 04 and 08 count as unknown.
    _mcu, line = started()
    line.receive(Frame(command, 5))
    assert line.take() == [Frame(0x12, 5, b"\x02")]


@pytest.mark.parametrize("command", [0x06, 0x0A, 0x11, 0x12])
def test_stray_acks_and_notices_draw_nothing(command: int) -> None:
    _mcu, line = started()
    line.receive(Frame(command, 5, b"\x01"))
    assert not line.sent


def test_a_line_whose_ends_are_joined_does_not_go_on_for_ever() -> None:
    mcu, line = started(acks=False)
    mcu.set_value("LED_OnOff", True, now=0.0)
    heard = 0
    for _ in range(200):
        line.run_for(0.05)
        echo = [frame for _time, frame in line.sent[heard:]]
        heard = len(line.sent)
        if echo:
            line.receive(*echo)
    assert len(line.sent) <= 8


@pytest.mark.parametrize(
    "command",
    sorted(
        command
        for command, spec in COMMANDS.items()
        if spec.sender is not Role.MCU
        and command
        not in {
            *{Command.DEVICE_INFO, Command.P0_TO_MCU, Command.RESTART_MCU},
            Command.ILLEGAL_FRAME_FROM_MODULE,
            Command.FILE_PIECE,  # not acked: an ack says that it is stored (§4.13)
        }
    ),
    ids=lambda command: COMMANDS[command].name,
)
@pytest.mark.parametrize("payload", [b"", b"\x01", bytes(60)])
def test_every_other_command_is_acked(command: Command, payload: bytes) -> None:
    _mcu, line = started()
    line.receive(Frame(command, 0x33, payload))
    assert line.take() == ([Frame(command + 1, 0x33)] if COMMANDS[command].acked else [])


# --- quirks of the line


def test_it_can_fall_silent_answer_late_overlook_and_damage() -> None:
    _mcu, line = started(never_answers=True)
    line.receive(Frame(Command.DEVICE_INFO, 1))
    assert not line.sent
    _mcu, line = started(answers_late_ms=350)
    line.receive(Frame(Command.DEVICE_INFO, 1))
    line.run(until=1.0)
    assert line.times(Command.DEVICE_INFO + 1) == [0.35]
    _mcu, line = started(drops_every_nth=2)
    for sn in range(4):
        line.receive(Frame(Command.HEARTBEAT, sn))
    assert [frame.sn for frame in line.frames(Command.HEARTBEAT + 1)] == [0, 2]
    _mcu, line = started(bad_checksum_every_nth=2)
    for sn in range(4):
        line.receive(Frame(Command.HEARTBEAT, sn))
    assert [frame.sn for frame in line.frames(Command.HEARTBEAT + 1)] == [0, 2]
    assert len(line.writes) == 4


# --- properties

P0S = st.builds(
    lambda action, body: bytes((action,)) + body,
    st.sampled_from([0x01, 0x02, 0x05, 0x11, 0x12, 0x72, 0x99]),
    st.one_of(st.binary(max_size=16), st.binary(min_size=6, max_size=6)),
)
FRAMES_OF_ANY_KIND = st.builds(
    lambda command, sn, payload, flags: Frame(command, sn, payload, flags).encode(),
    st.one_of(st.just(3), st.sampled_from(COMMAND_IDS), st.sampled_from(sorted(FRAMES)), st.integers(0, 255)),
    st.integers(0, 255),
    st.one_of(P0S, st.binary(max_size=12)),
    st.sampled_from([0, 0, 0, 1, 2, 0xFFFF]),
)


@settings(deadline=None)  # a busy machine is no finding
@given(
    product=st.sampled_from([PET, VAR]),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("bytes"), st.one_of(FRAMES_OF_ANY_KIND, st.binary(max_size=20))),
            st.tuples(st.just("wait"), st.floats(0, 300)),
            st.tuples(st.just("set"), st.tuples(st.integers(0, 9), st.integers(0))),
            st.tuples(st.just("ask"), st.none()),
            st.tuples(st.just("acks"), st.booleans()),
            st.tuples(st.just("plug"), st.booleans()),
        ),
        max_size=40,
    ),
    options=st.fixed_dictionaries(
        {},
        optional={
            "pending_overwrite": st.booleans(),
            "report_after_control": st.booleans(),
            "report_min_slow_only": st.booleans(),
            "answer_last_reported": st.booleans(),
            "report_flags_ff": st.booleans(),
            "dedup": st.booleans(),
            "drops_every_nth": st.integers(0, 3),
            "bad_checksum_every_nth": st.integers(0, 3),
            "answers_late_ms": st.integers(0, 700),
        },
    ),
)
def test_whatever_happens_it_comes_to_rest_and_its_last_report_is_true(
    product: Product, steps: list[tuple[str, Any]], options: dict[str, Any]
) -> None:
    mcu = McuRole(product, McuOptions(**options))
    line = Bench(mcu, answers=dict(ACKED))
    for kind, value in steps:
        if kind == "bytes":
            line.receive(value)
        elif kind == "wait":
            line.run_for(value)
        elif kind == "set":
            point = product.points[value[0] % len(product.points)]
            raw = value[1] % (point.raw_limit + 1)
            mcu.set_raw(point.name, raw.to_bytes(point.size) if point.name == "Tag" else raw, now=line.now)
        elif kind == "ask":
            with contextlib.suppress(QueueFullError):
                mcu.ask_time(now=line.now)
        elif kind == "acks":
            line.answers = dict(ACKED) if value else {}
        elif value:
            line.plug()
        else:
            line.unplug()
        line.settle()
    line.plug()
    line.answers = dict(ACKED)
    line.clear()
    line.run_for(1300.0)
    assert all(event.attempt <= 3 for event in line.of(FrameSent))
    assert mcu._policy.reported == dict(mcu.raw)
    assert "periodic" in {event.why for event in line.of(Reported)}


def test_a_product_key_that_is_too_long_is_said_as_far_as_it_fits() -> None:
    product = dataclasses.replace(PET, product_key="0123456789abcdef0123456789abcdefc")
    _mcu, line = started(product)
    line.receive(Frame(Command.DEVICE_INFO, 1))
    (answer,) = line.frames(Command.DEVICE_INFO + 1)
    assert answer.payload[32:64] == b"0123456789abcdef0123456789abcdef"
