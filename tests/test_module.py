"""The Wi-Fi module's role, driven by hand under a virtual clock (serial.md §4, §6)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_roles import COMMAND_IDS, Bench

from gizserial import schemas
from gizserial.commands import COMMANDS, FRAMES, Command, Role
from gizserial.endpoint import QueueFullError
from gizserial.errors import EncodeError, ValueOutOfRange
from gizserial.events import (
    AccessPointGiven,
    BindWindowOpened,
    Booted,
    FileAnnounced,
    FrameSent,
    HandshakeDone,
    HandshakeFailed,
    ModuleAsked,
    P0Acked,
    P0Failed,
    ProductionTestStarted,
    ProvisioningEnded,
    ProvisioningStarted,
    Rebooting,
    ReportReceived,
    RequestFailed,
    ResetRequested,
    RestartRequested,
    StatusChanged,
)
from gizserial.framing import Frame
from gizserial.module import ModuleRole, Phase
from gizserial.module_options import ModuleOptions
from gizserial.wifi_status import rssi_level

INFO: dict[str, Any] = {
    "protocol_ver": "00000004",
    "p0_ver": "00000002",
    "hard_ver": "00000001",
    "soft_ver": "00000007",
    "product_key": "0123456789abcdef0123456789abcdef",
    "bind_time": 0,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "A": INFO,
    "B": INFO | {"dev_attr": bytes.fromhex("0000000000000002")},
    "C": INFO | {"dev_attr": bytes.fromhex("0000000000000082"), "product_secret": "f" * 32},
    "D": INFO | {"dev_attr": bytes(8), "product_secret": "f" * 32, "data": {"tz": "3600", "apName": "Lamp-"}},
}


def info(**changes: Any) -> bytes:
    payload: bytes = schemas.DEVICE_INFO.build(VARIANTS["C"] | changes)
    return payload


def with_data(**settings: str) -> bytes:
    payload: bytes = schemas.DEVICE_INFO.build(VARIANTS["D"] | {"data": settings})
    return payload


def started(
    *, answer: bytes | None = None, acks: bool = True, at: float = 0.0, **options: Any
) -> tuple[ModuleRole, Bench]:
    """A module whose MCU answered the handshake, at the second ``at``; its first status is gone."""
    module = ModuleRole(ModuleOptions(**options), mac="2C3AE8012345")
    line = Bench(module, up=False)
    line.now = at
    line.answers = {Command.DEVICE_INFO: lambda _frame: answer if answer is not None else info()}
    line.answers |= {Command.STATUS: lambda _frame: b""}
    if acks:
        line.answers |= dict.fromkeys((Command.P0_TO_MCU, Command.HEARTBEAT), lambda _frame: b"")
    line.plug()
    line.run_for(1.0)
    assert module.phase is Phase.RUN
    line.clear()
    return module, line


# --- handshake


def test_it_asks_at_once_ten_times_three_transmissions_and_reboots() -> None:
    module = ModuleRole(ModuleOptions(boot_time=0.3))
    line = Bench(module)
    line.run(until=6.299)
    asked = [(round(time, 6), frame.sn) for time, frame in line.sent]
    assert asked == [(round(0.2 * number, 6), number // 3) for number in range(30)]
    assert [event.attempt for event in line.of(HandshakeFailed)] == list(range(1, 11))
    assert len(line.of(Rebooting)) == 1
    line.run(until=6.301)
    assert len(line.of(Booted)) == 2
    assert line.sent[-1][1].sn == 0, "numbers begin again"
    line.run(until=60.0)
    assert {frame.command for _time, frame in line.sent} == {Command.DEVICE_INFO}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_answer_is_read_by_its_length(variant: str) -> None:
    module = ModuleRole()
    line = Bench(
        module, answers={Command.DEVICE_INFO: lambda _frame: schemas.DEVICE_INFO.build(VARIANTS[variant])}
    )
    (done,) = line.of(HandshakeDone)
    told = {name: getattr(done.info, name) for name in VARIANTS[variant]}
    assert told == VARIANTS[variant]
    if variant == "A":
        assert done.info.dev_attr is None
        assert done.info.product_secret is None


@pytest.mark.parametrize(
    ("cut", "kept"),
    [
        (66 + 3, {"dev_attr": None, "product_secret": None, "data": {}}),
        (74 + 31, {"dev_attr": VARIANTS["D"]["dev_attr"], "product_secret": None}),
        (106 + 1, {"product_secret": "f" * 32, "data": {}}),
        (108 + 5, {"product_secret": "f" * 32, "data": {}}),
    ],
)
def test_what_forms_no_field_is_ignored(cut: int, kept: dict[str, Any]) -> None:
    payload = schemas.DEVICE_INFO.build(VARIANTS["D"])[:cut]
    line = Bench(ModuleRole(), answers={Command.DEVICE_INFO: lambda _frame: payload})
    (done,) = line.of(HandshakeDone)
    assert {name: getattr(done.info, name) for name in kept} == kept


def test_a_short_answer_counts_as_none_and_brings_no_flood() -> None:
    module = ModuleRole()
    line = Bench(module, answers={Command.DEVICE_INFO: lambda _frame: info()[:65]})
    line.run(until=5.999)
    assert not line.of(HandshakeDone)
    assert len(line.frames(Command.DEVICE_INFO)) == 30, "as without an answer"
    assert "65 bytes" in line.of(HandshakeFailed)[0].reason


def test_another_product_key_is_a_new_device() -> None:
    module, line = started()
    line.answers[Command.DEVICE_INFO] = lambda _frame: info(product_key="f" * 32)
    line.receive(Frame(Command.RESTART_MODULE, 0))
    line.run_for(2.0)
    assert [event.key_changed for event in line.of(HandshakeDone)] == [True]
    assert module.info is not None
    assert module.info.product_key == "f" * 32


def test_secrets_are_not_in_what_events_print() -> None:
    line = Bench(ModuleRole(), answers={Command.DEVICE_INFO: lambda _frame: info()})
    assert "f" * 32 not in repr(line.of(HandshakeDone))
    assert "hunter2" not in repr(AccessPointGiven("Home", "hunter2"))


def test_the_line_comes_back_and_the_handshake_is_done_again() -> None:
    _module, line = started()
    line.unplug()
    line.run_for(700.0)
    assert not line.sent
    line.plug()
    line.run_for(1.0)
    assert [frame.command for _time, frame in line.sent] == [Command.DEVICE_INFO, Command.STATUS]
    assert not line.of(HandshakeFailed)


# --- heartbeat


def test_heartbeats_come_every_55_s_whatever_the_traffic() -> None:
    module, line = started()
    for number in range(40):
        line.run(until=1.0 + 5.3 * number)
        line.receive(Frame(Command.P0_FROM_MCU, number, b"\x04"))
        module.send_p0(b"\x02", now=line.now)
    line.run(until=221.0)
    assert line.times(Command.HEARTBEAT) == [55.0, 110.0, 165.0, 220.0]


def test_a_silent_mcu_gets_four_heartbeats_and_the_module_reboots_at_the_fifth_tick() -> None:
    _module, line = started(acks=False)
    line.run(until=274.9)
    assert line.times(Command.HEARTBEAT) == [
        pytest.approx(tick + resend) for tick in (55, 110, 165, 220) for resend in (0.0, 0.2, 0.4)
    ]
    assert not line.of(Rebooting)
    line.run(until=275.1)
    assert len(line.of(Rebooting)) == 1
    line.run(until=277.0)
    assert len(line.of(HandshakeDone)) == 1


def test_any_good_frame_counts_as_a_sign_of_life() -> None:
    _module, line = started(acks=False)
    for tick in range(1, 20):
        line.run(until=55.0 * tick + 30)
        line.receive(Frame(Command.P0_FROM_MCU, tick, b"\x04"))
    assert not line.of(Rebooting)


def test_a_loss_can_be_ignored() -> None:
    _module, line = started(acks=False, reboot_on_loss=False)
    line.run(until=3600.0)
    assert not line.of(Rebooting)
    assert len(set(line.times(Command.HEARTBEAT))) == 3 * (3600 // 55)


def test_older_firmware_waits_for_silence() -> None:
    _module, line = started(acks=False, heartbeat_policy="idle")
    line.run(until=50.0)
    line.receive(Frame(Command.P0_FROM_MCU, 0, b"\x04"))
    line.run(until=104.9)
    assert not line.frames(Command.HEARTBEAT)
    line.run(until=229.9)
    assert line.times(Command.HEARTBEAT)[::3] == [105.0, 160.0, 215.0]
    assert not line.of(Rebooting)
    line.run(until=230.1)
    assert len(line.of(Rebooting)) == 1, "180 s after the last frame"


def test_the_mcu_chooses_interval_wait_and_time_zone() -> None:
    module, line = started(
        answer=with_data(LocalHT="20", LocalAckT="600", tz="-18000"), acks=False, reboot_on_loss=False
    )
    line.run(until=39.0)
    assert line.times(Command.HEARTBEAT) == [20.0, pytest.approx(20.6), pytest.approx(21.2)]
    assert module.tz == -18000


@pytest.mark.parametrize("nonsense", ["", "abc", "-5", "0", "99999999999999999999", "²", "1e3"])
def test_nonsense_in_settings_does_not_count(nonsense: str) -> None:
    module, line = started(answer=with_data(LocalHT=nonsense, LocalAckT=nonsense, tz=nonsense + "x"))
    line.run(until=111.0)
    assert line.times(Command.HEARTBEAT) == [55.0, 110.0]
    assert module.tz == 28800


def test_options_beat_settings() -> None:
    module, line = started(answer=with_data(LocalHT="20", tz="0"), heartbeat_s=30, tz_s=3600)
    line.run(until=61.0)
    assert line.times(Command.HEARTBEAT) == [30.0, 60.0]
    assert module.tz == 3600


def test_after_a_long_sleep_of_the_host_it_does_not_reboot() -> None:
    _module, line = started()
    line.now = 8 * 3600.0  # nothing was called for eight hours
    line.run_for(60.0)
    assert not line.of(Rebooting)
    assert len(line.frames(Command.HEARTBEAT)) <= 2


# --- status


def words(line: Bench) -> list[str]:
    return [frame.payload.hex().upper() for frame in line.frames(Command.STATUS)]


def test_the_first_status_comes_at_the_first_tick_after_the_handshake() -> None:
    line = Bench(ModuleRole(), answers={Command.DEVICE_INFO: lambda _frame: info()})
    line.run(until=0.99)
    assert not line.frames(Command.STATUS)
    line.run(until=1.0)
    assert line.times(Command.STATUS) == [1.0]
    assert words(line) == ["0008"], "bind time 0: binding is always open"


def test_before_the_handshake_nothing_is_pushed() -> None:
    module = ModuleRole()
    line = Bench(module)
    module.set_router(True, now=0.0)
    line.run(until=20.0)
    assert not line.frames(Command.STATUS)


def test_a_module_that_connects_pushes_its_steps() -> None:
    # serial.md §4.5: bits 1, 4, 5 in order.
    module, line = started(answer=info(bind_time=1))
    module.give_access_point("Home", "secret", now=line.now)
    line.run_for(1.0)
    module.set_router(True, now=line.now, strength=85)
    line.run_for(1.0)
    module.set_cloud(True, now=line.now)
    line.run_for(1.0)
    module.set_apps(1, now=line.now)
    line.run_for(1.0)
    assert words(line) == ["0002", "0712", "0732", "0F32"]
    module.set_apps(0, now=line.now)
    line.run_for(1.0)
    assert words(line)[-1] == "0732"


def test_changes_between_two_ticks_make_one_push_and_those_taken_back_none() -> None:
    module, line = started()
    line.run(until=5.3)
    module.set_router(True, now=5.3)
    module.set_cloud(True, now=5.4)
    line.run(until=5.6)
    assert not line.sent
    line.run(until=6.0)
    assert line.times(Command.STATUS) == [6.0]
    module.set_apps(2, now=6.1)
    module.set_apps(0, now=6.2)
    line.run(until=9.0)
    assert line.times(Command.STATUS) == [6.0]


def test_it_is_pushed_again_after_ten_minutes_without_a_push() -> None:
    module, line = started()
    line.run(until=300.0)
    module.set_router(True, now=line.now)
    line.run(until=2000.0)
    assert line.times(Command.STATUS) == [301.0, 901.0, 1501.0]


def test_a_push_that_is_not_acked_is_not_repeated_until_the_next_change() -> None:
    module, line = started()
    del line.answers[Command.STATUS]
    module.set_router(True, now=line.now)
    line.run_for(100.0)
    assert len(line.frames(Command.STATUS)) == 3
    module.set_cloud(True, now=line.now)
    line.run_for(1.0)
    assert len(line.frames(Command.STATUS)) > 3


def test_pushes_are_told() -> None:
    module, line = started()
    module.set_router(True, now=line.now, strength=5)
    line.run_for(1.0)
    assert [event.word for event in line.of(StatusChanged)] == [0x011A]


@pytest.mark.parametrize(
    ("percent", "level"),
    [
        *[(0, 0), (1, 1), (19, 1), (20, 2), (39, 2), (40, 3), (49, 3), (50, 4), (59, 4)],
        *[(60, 5), (69, 5), (70, 6), (79, 6), (80, 7), (100, 7)],
    ],
)
def test_signal_levels(percent: int, level: int) -> None:
    assert rssi_level(percent) == level


def test_the_level_moves_when_the_strength_moved_by_ten_points() -> None:
    module, line = started()
    levels = []
    for strength in (65, 70, 74, 75, 66, 65):
        module.set_router(True, now=line.now, strength=strength)
        levels.append(module.status.rssi)
    assert levels == [5, 5, 5, 6, 6, 5]


def test_without_a_router_there_is_no_level_and_no_cloud() -> None:
    module, line = started(answer=info(bind_time=1))
    module.set_router(True, now=line.now)
    module.set_cloud(True, now=line.now)
    module.set_router(False, now=line.now)
    assert module.status.word == 0x0002


# --- relaying


def test_a_p0_is_relayed_and_its_answer_comes_with_the_token() -> None:
    module, line = started()
    line.answers[Command.P0_TO_MCU] = lambda frame: b"\x03\x07" if frame.payload == b"\x02" else b""
    module.send_p0(b"\x02", now=line.now, token="read")
    module.send_p0(b"\x01\x01\x01", now=line.now, token="control")
    line.settle()
    assert [(event.token, event.p0) for event in line.of(P0Acked)] == [
        ("read", b"\x03\x07"),
        ("control", b""),
    ]


def test_a_p0_without_an_ack_fails_with_its_token() -> None:
    module, line = started(acks=False)
    module.send_p0(b"\x02", now=line.now, token=7)
    line.run_for(0.7)
    assert [event.token for event in line.of(P0Failed)] == [7]
    assert len(line.frames(Command.P0_TO_MCU)) == 3


def test_p0s_queue_up_to_a_bound() -> None:
    module, line = started(acks=False, queue_depth=4)
    for number in range(5):
        module.send_p0(b"\x02", now=line.now, token=number)
    with pytest.raises(QueueFullError):
        module.send_p0(b"\x02", now=line.now, token=5)
    line.run_for(3.1)
    assert [event.token for event in line.of(P0Failed)] == [0, 1, 2, 3, 4]


def test_a_full_queue_does_not_keep_heartbeat_and_status_off_the_line() -> None:
    module, line = started(acks=False, reboot_on_loss=False)
    module.set_router(True, now=line.now)
    while line.now < 130.0:
        try:
            module.send_p0(b"\x02", now=line.now)
        except QueueFullError:
            line.run_for(0.05)
    assert line.frames(Command.HEARTBEAT)
    assert line.frames(Command.STATUS)


def test_the_old_firmware_refuses_while_it_waits() -> None:
    module, line = started(acks=False, single_outstanding_drop=True)
    module.send_p0(b"\x02", now=line.now)
    with pytest.raises(QueueFullError, match="busy"):
        module.send_p0(b"\x02", now=line.now)
    line.run_for(0.7)
    module.send_p0(b"\x02", now=line.now)


def test_before_the_handshake_nothing_is_relayed() -> None:
    module = ModuleRole()
    Bench(module)
    with pytest.raises(QueueFullError):
        module.send_p0(b"\x02", now=0.0)


def test_a_lost_line_fails_what_waited() -> None:
    module, line = started(acks=False)
    module.send_p0(b"\x02", now=line.now, token=1)
    module.send_p0(b"\x02", now=line.now, token=2)
    line.unplug()
    assert [event.token for event in line.of(P0Failed)] == [1, 2]
    with pytest.raises(QueueFullError):
        module.send_p0(b"\x02", now=line.now)


@pytest.mark.parametrize("p0", [b"\x04\x01\x02", b"\x06raw", b"\x99", b""])
def test_reports_are_acked_at_once_and_handed_on_whatever_they_say(p0: bytes) -> None:
    module, line = started(acks=False)
    module.send_p0(b"\x02", now=line.now)  # also while it waits for an ack
    line.settle()
    line.receive(Frame(Command.P0_FROM_MCU, 0x42, p0))
    assert line.frames(Command.P0_FROM_MCU + 1) == [Frame(Command.P0_FROM_MCU + 1, 0x42)]
    assert [event.p0 for event in line.of(ReportReceived)] == [p0]


def test_older_firmware_does_not_hand_on_empty_reports() -> None:
    _module, line = started(forward_empty_p0=False)
    line.receive(Frame(Command.P0_FROM_MCU, 1))
    assert line.frames(Command.P0_FROM_MCU + 1)
    assert not line.of(ReportReceived)


def test_a_repeated_report_is_acked_twice_and_handed_on_once() -> None:
    report = Frame(Command.P0_FROM_MCU, 5, b"\x04\x01")
    _module, line = started()
    line.receive(report, report)
    line.run_for(0.2)
    line.receive(report)
    assert len(line.of(ReportReceived)) == 1
    assert len(line.frames(Command.P0_FROM_MCU + 1)) == 3


def test_without_dedup_it_is_handed_on_twice_as_by_gagent() -> None:
    report = Frame(Command.P0_FROM_MCU, 5, b"\x04\x01")
    _module, line = started(dedup=False)
    line.receive(report, report)
    assert len(line.of(ReportReceived)) == 2


def test_reports_of_sub_devices_name_them_and_their_ack_does_too() -> None:
    # serial.md §1.5: didLen did before the action, repeated in the ack.
    _module, line = started()
    line.receive(Frame(Command.P0_FROM_MCU, 1, b"\x03abc\x04\x01", 0x0001))
    assert line.frames(Command.P0_FROM_MCU + 1) == [Frame(Command.P0_FROM_MCU + 1, 1, b"\x03abc", 0x0001)]
    assert [(event.did, event.p0) for event in line.of(ReportReceived)] == [("abc", b"\x04\x01")]


# --- provisioning


def provisioned(line: Bench, payload: bytes) -> None:
    line.receive(Frame(Command.PROVISION, 0x30, payload))
    assert line.frames(Command.PROVISION + 1) == [Frame(Command.PROVISION + 1, 0x30)]


def test_softap_lasts_five_minutes_and_ends_in_null_mode() -> None:
    module, line = started(answer=info(bind_time=1))
    module.set_router(True, now=line.now)
    module.set_cloud(True, now=line.now)
    line.run_for(1.0)
    line.clear()
    provisioned(line, b"\x01")
    assert [event.mode for event in line.of(ProvisioningStarted)] == ["softap"]
    line.run_for(299.0)
    assert words(line) == ["0005"]
    line.run_for(3.0)
    assert words(line) == ["0005", "0000"]
    assert len(line.of(ProvisioningEnded)) == 1


def test_airlink_becomes_softap_after_a_minute() -> None:
    _module, line = started(answer=info(bind_time=1))
    line.run_for(1.0)
    line.clear()
    provisioned(line, b"\x02")
    line.run_for(59.0)
    assert words(line) == ["0004"]
    line.run_for(3.0)
    assert words(line) == ["0004", "0005"]
    assert [event.mode for event in line.of(ProvisioningStarted)] == ["airlink", "softap"]
    line.run_for(300.0)
    assert words(line) == ["0004", "0005", "0000"]


def test_router_data_end_provisioning() -> None:
    module, line = started(answer=info(bind_time=1))
    provisioned(line, b"\x01")
    line.run_for(1.0)
    module.give_access_point("Home", "secret", now=line.now)
    line.run_for(1.0)
    assert words(line)[-2:] == ["0005", "0002"]
    line.run_for(400.0)
    assert not line.of(ProvisioningEnded)


def test_mode_4_brings_the_router_data() -> None:
    # serial.md §9.4, V103.
    _module, line = started(answer=info(bind_time=1))
    line.run_for(1.0)
    line.clear()
    payload = bytes.fromhex("04 04 486F6D65 08 7061737331323334 0C 316363663766623662626666")
    provisioned(line, payload)
    (given_,) = line.of(AccessPointGiven)
    assert (given_.ssid, given_.password, given_.bssid) == ("Home", "pass1234", "1ccf7fb6bbff")
    line.run_for(1.0)
    assert words(line) == ["0002"]


def test_the_extension_of_mode_4_is_accepted() -> None:
    _module, line = started()
    provisioned(line, b"\x04\x01S\x01P\x00\x0528800\x09example.c")
    assert [event.ssid for event in line.of(AccessPointGiven)] == ["S"]


@pytest.mark.parametrize("payload", [b"", b"\x04", b"\x04\x05Home", b"\x04\x01S\xffP", b"\x04\x01S\x01P"])
def test_invalid_lengths_draw_a_notice_each_time(payload: bytes) -> None:
    _module, line = started()
    for _ in range(2):
        line.receive(Frame(Command.PROVISION, 3, payload))
    assert line.take() == [Frame(Command.ILLEGAL_FRAME_FROM_MODULE, 3, b"\x03")] * 2


@pytest.mark.parametrize("mode", [0, 3, 5, 200])
def test_other_modes_are_acked_and_nothing_happens(mode: int) -> None:
    module, line = started()
    provisioned(line, bytes((mode,)))
    assert module.provisioning is None
    module, line = started(cfg_unknown_is_airlink=True)
    provisioned(line, bytes((mode,)))
    assert module.provisioning == "airlink"


# --- reset, restart, bind window, test


def test_reset_acks_falls_silent_for_two_seconds_and_starts_over_in_provisioning() -> None:
    module, line = started(answer=info(bind_time=1), boot_time=0.3)
    module.set_router(True, now=line.now)
    line.run(until=10.0)
    line.clear()
    line.receive(Frame(Command.RESET_MODULE, 4))
    assert line.take() == [Frame(Command.RESET_MODULE + 1, 4)]
    line.receive(Frame(Command.RESET_MODULE, 4))  # once more: the ack got lost
    assert len(line.of(ResetRequested)) == 0
    line.take()
    line.run(until=11.99)
    assert not line.sent
    line.run(until=15.0)
    assert [frame.command for _time, frame in line.sent][:2] == [Command.DEVICE_INFO, Command.STATUS]
    assert line.times(Command.DEVICE_INFO) == [12.3]
    assert words(line)[0] == "0005"


def test_reset_is_told_once() -> None:
    _module, line = started()
    line.receive(Frame(Command.RESET_MODULE, 4))
    assert len(line.of(ResetRequested)) == 1


def test_restart_acks_and_starts_over_after_100_ms() -> None:
    _module, line = started(boot_time=0.3)
    line.receive(Frame(Command.RESTART_MODULE, 10))
    assert line.take() == [Frame(Command.RESTART_MODULE + 1, 10)]
    line.run(until=1.099)
    assert not line.of(Rebooting)
    line.run(until=3.0)
    assert line.times(Command.DEVICE_INFO) == [1.4]
    assert words(line)[0] == "0008", "no provisioning: nothing was forgotten"


@pytest.mark.parametrize("delays", [(5, 0.1), (0.1, 5)])
def test_of_two_restarts_the_earlier_one_counts(delays: tuple[float, float]) -> None:
    module, line = started()
    for delay in delays:
        module.reboot(f"after {delay} s", now=line.now, delay=delay)
    line.run_for(0.2)
    assert line.of(Rebooting) == [Rebooting("after 0.1 s")]
    line.run_for(10)
    assert len(line.of(Rebooting)) == 1


def test_restart_is_told() -> None:
    _module, line = started()
    line.receive(Frame(Command.RESTART_MODULE, 10))
    assert len(line.of(RestartRequested)) == 1


def is_open(module: ModuleRole) -> bool:
    return module.binding


def test_the_bind_window_is_open_for_the_bind_time() -> None:
    module, line = started(answer=info(bind_time=20))
    assert is_open(module)
    line.run(until=22.0)
    assert not is_open(module)
    assert words(line) == ["0000"]
    line.receive(Frame(Command.BIND_WINDOW, 1))
    assert line.frames(Command.BIND_WINDOW + 1)
    assert [event.seconds for event in line.of(BindWindowOpened)] == [20]
    line.run(until=35.0)
    line.receive(Frame(Command.BIND_WINDOW, 2))  # the countdown restarts
    line.run(until=54.9)
    assert is_open(module)
    line.run(until=57.0)
    assert not is_open(module)
    assert words(line) == ["0000", "0008", "0000"]


def test_with_bind_time_0_binding_is_always_open() -> None:
    module, line = started(answer=info(bind_time=0))
    line.receive(Frame(Command.BIND_WINDOW, 1))
    line.run_for(100_000.0)
    assert is_open(module)


def test_the_production_test_lasts_three_minutes_at_most() -> None:
    module, line = started(answer=info(bind_time=1))
    module.set_station(True, now=line.now)
    line.run_for(2.0)
    line.clear()
    line.receive(Frame(Command.PRODUCTION_TEST, 6))
    assert line.frames(Command.PRODUCTION_TEST + 1) == [Frame(Command.PRODUCTION_TEST + 1, 6)]
    assert len(line.of(ProductionTestStarted)) == 1
    line.run_for(179.0)
    assert words(line) == ["1002"]
    line.run_for(3.0)
    assert words(line)[-1] == "0000", "serial.md §4.10: at its end null mode"


# --- time and information


def test_network_time() -> None:
    # serial.md §9.4, V107 to V109.
    module, line = started()
    line.receive(Frame(Command.NETWORK_TIME, 8))
    assert line.take() == [Frame(0x18, 8, bytes(11))], "zeros before the time is known"
    module.set_time(1710390100.0, now=line.now)
    line.run_for(99.0)
    line.take()
    line.receive(Frame(Command.NETWORK_TIME, 8))
    assert line.take()[0].payload.hex() == "07e8030e0c171365f27bb7"


def test_before_the_time_is_known_old_firmware_counts_from_1970() -> None:
    _module, line = started(time_from_1970=True)
    line.receive(Frame(Command.NETWORK_TIME, 8))
    fields = schemas.NETWORK_TIME.parse(line.take()[0].payload)
    assert (fields["year"], fields["month"], fields["day"], fields["hour"]) == (1970, 1, 1, 8)


@pytest.mark.parametrize("utc", [-1.0, 2.0**32, float("nan"), float("inf")])
def test_a_time_that_does_not_fit_is_refused(utc: float) -> None:
    with pytest.raises(ValueOutOfRange):
        ModuleRole().set_time(utc, now=0.0)


def test_a_clock_that_passes_its_end_still_answers() -> None:
    module, line = started(answer=with_data(tz="86400"))
    module.set_time(2.0**32 - 1, now=line.now)
    line.run_for(5.0)
    line.receive(Frame(Command.NETWORK_TIME, 1))
    assert len(line.frames(Command.NETWORK_TIME + 1)) == 1


@pytest.mark.parametrize("payload", [b"\x00", b""])
def test_module_information(payload: bytes) -> None:
    # serial.md §9.4, V111.
    module, line = started(answer=info(dev_attr=bytes(7) + b"\x02"), hard_ver="00ESP826", soft_ver="04020035")
    module.ip = "192.168.1.20"
    line.receive(Frame(Command.MODULE_INFO, 9, payload))
    (answer,) = line.frames(Command.MODULE_INFO + 1)
    assert answer.encode() == bytes.fromhex(
        "FF FF 00 46 22 09 00 00 01 30 30 30 30 30 30 30 34 30 30 45 53 50 38 32 36 30 34 30 32 30 30 33 35"
        "32 43 33 41 45 38 30 31 32 33 34 35 00 00 00 00 31 39 32 2E 31 36 38 2E 31 2E 32 30 00 00 00 00"
        "00 00 00 00 00 00 00 02 5B"
    )


def test_a_version_that_does_not_fit_is_refused_at_once() -> None:
    with pytest.raises(EncodeError):
        ModuleRole(ModuleOptions(hard_ver="far too long"))


# --- notices


def damaged(command: int, sn: int = 0x21) -> bytes:
    wire = Frame(command, sn).encode()
    return wire[:-1] + bytes((wire[-1] ^ 0x04,))


@pytest.mark.parametrize("command", [0x05, 0x09, 0x0B, 0x13, 0x15, 0x17, 0x1B])
def test_a_damaged_command_that_gagent_knows_draws_code_1(command: int) -> None:
    _module, line = started()
    line.receive(damaged(command))
    assert line.take() == [Frame(0x11, 0x21, b"\x01")]


@pytest.mark.parametrize("command", [0x02, 0x04, 0x08, 0x0E, 0x1A, 0x1E, 0x20, 0x12])
def test_a_damaged_ack_or_notice_draws_nothing(command: int) -> None:
    _module, line = started()
    line.receive(damaged(command))
    assert not line.sent


@pytest.mark.parametrize("command", [0x01, 0x03, 0x19, 0x21, 0x29, 0x2B, 0x99])
def test_any_other_damaged_frame_draws_code_2(command: int) -> None:
    _module, line = started()
    line.receive(damaged(command))
    assert line.take() == [Frame(0x11, 0x21, b"\x02")]


@pytest.mark.parametrize("command", [0x03, 0x07, 0x2B, 0x99])
def test_an_unknown_command_draws_code_2_unless_switched_off(command: int) -> None:
    _module, line = started()
    line.receive(Frame(command, 7))
    assert line.take() == [Frame(0x11, 7, b"\x02")]
    _module, line = started(silent_on_unknown=True)
    line.receive(Frame(command, 7))
    assert not line.sent


@pytest.mark.parametrize("command", [0x02, 0x06, 0x0E, 0x11, 0x12, 0x18])
def test_stray_acks_and_notices_are_ignored(command: int) -> None:
    _module, line = started()
    line.receive(Frame(command, 7, b"\x01"))
    assert not line.sent


def test_truncated_frames_draw_nothing() -> None:
    _module, line = started()
    line.receive(Frame(Command.P0_FROM_MCU, 1, b"\x04").encode()[:9])
    line.run_for(1.0)
    assert not line.sent


# --- everything else that an MCU may send


OTHERS = sorted(
    command
    for command, spec in COMMANDS.items()
    if spec.sender is not Role.MODULE
    and command
    not in {
        *{Command.P0_FROM_MCU, Command.PROVISION, Command.RESET_MODULE, Command.ILLEGAL_FRAME_FROM_MCU},
        *{Command.PRODUCTION_TEST, Command.BIND_WINDOW, Command.NETWORK_TIME, Command.MODULE_INFO},
        Command.RESTART_MODULE,
        # files have tests of their own (test_transfer.py)
        *{Command.FILE_ANNOUNCE, Command.FILE_READY, Command.FILE_PIECE},
        *{Command.FILE_SENDER_STOP, Command.FILE_RECEIVER_STOP},
    }
)


@pytest.mark.parametrize("command", OTHERS, ids=lambda command: COMMANDS[command].name)
@pytest.mark.parametrize("payload", [b"", b"\x01", bytes(100)])
def test_other_commands_are_acked_and_told(command: Command, payload: bytes) -> None:
    _module, line = started()
    line.receive(Frame(command, 0x33, payload))
    acks = [Frame(command + 1, 0x33)] if COMMANDS[command].acked else []
    assert line.take() == acks
    _module, line = started()
    line.receive(Frame(command, 0x33, payload))
    assert [event.name for event in line.of(ModuleAsked)] == [COMMANDS[command].name]


def test_an_announced_file_is_told_with_its_fields() -> None:
    _module, line = started()
    body = schemas.FILE_ANNOUNCE.build({"size": 200, "md5": "a" * 32})
    line.receive(Frame(Command.FILE_ANNOUNCE, 0x20, body))
    assert line.of(FileAnnounced) == [FileAnnounced(200, "a" * 32)]


# --- properties

FRAMES_OF_ANY_KIND = st.builds(
    lambda command, sn, payload, flags: Frame(command, sn, payload, flags).encode(),
    st.one_of(st.sampled_from(COMMAND_IDS), st.sampled_from(sorted(FRAMES)), st.integers(0, 255)),
    st.integers(0, 255),
    st.one_of(st.binary(max_size=12), st.just(info()), st.binary(min_size=60, max_size=120)),
    st.sampled_from([0, 0, 1, 2, 0xFFFF]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("bytes"), st.one_of(FRAMES_OF_ANY_KIND, st.binary(max_size=20))),
        st.tuples(st.just("wait"), st.floats(0, 400)),
        st.tuples(st.just("p0"), st.binary(max_size=20)),
        st.tuples(st.just("router"), st.booleans()),
        st.tuples(st.just("cloud"), st.booleans()),
        st.tuples(st.just("apps"), st.integers(0, 3)),
        st.tuples(st.just("mode"), st.sampled_from(["softap", "airlink"])),
        st.tuples(st.just("ap"), st.none()),
        st.tuples(st.just("plug"), st.booleans()),
    ),
    max_size=40,
)


@settings(deadline=None)  # a busy machine is no finding
@given(
    steps=STEPS,
    answers=st.booleans(),
    options=st.fixed_dictionaries(
        {},
        optional={
            "heartbeat_policy": st.sampled_from(["free_running", "idle"]),
            "reboot_on_loss": st.booleans(),
            "single_outstanding_drop": st.booleans(),
            "queue_depth": st.integers(0, 3),
            "unstuffed_ack": st.booleans(),
            "sn_skips_0_255": st.booleans(),
            "time_from_1970": st.booleans(),
            "dedup": st.booleans(),
        },
    ),
)
def test_whatever_happens_nothing_breaks_and_every_p0_ends_once(
    steps: list[tuple[str, Any]], answers: bool, options: dict[str, Any]
) -> None:
    module = ModuleRole(ModuleOptions(**options))
    line = Bench(module)
    if answers:
        line.answers = {Command.DEVICE_INFO: lambda _frame: info(), Command.STATUS: lambda _frame: b""}
    accepted = 0
    for kind, value in steps:
        now = line.now
        if kind == "bytes":
            line.receive(value)
        elif kind == "wait":
            line.run_for(value)
        elif kind == "p0":
            try:
                module.send_p0(value, now=now, token=accepted)
                accepted += 1
            except QueueFullError:
                pass
        elif kind == "router":
            module.set_router(value, now=now)
        elif kind == "cloud":
            module.set_cloud(value, now=now)
        elif kind == "apps":
            module.set_apps(value, now=now)
        elif kind == "mode":
            module.provision(value, now=now)
        elif kind == "ap":
            module.give_access_point("S", "P", now=now)
        elif value:
            line.plug()
        else:
            line.unplug()
        line.settle()
        assert module.status.word & ~0x1F3F == 0, "reserved bits are zero"
    line.run_for(30.0)
    ended = [event.token for event in line.events if isinstance(event, P0Acked | P0Failed)]
    assert sorted(ended, key=str) == sorted(range(accepted), key=str)
    assert all(event.attempt <= 3 for event in line.of(FrameSent))
    # The heartbeat's timer runs freely: 30 s more than the steps took, and the boots between.
    assert len(line.of(RequestFailed)) <= len(line.sent)
