"""One end of the line: numbers, acks, repetitions, duplicates (serial.md §1.4, §1.8)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_roles import Bench

from gizserial.commands import Command, Role
from gizserial.endpoint import Endpoint, EndpointOptions, QueueFullError
from gizserial.errors import EncodeError
from gizserial.events import (
    BadFrameReceived,
    CommandReceived,
    DuplicateReceived,
    Event,
    FrameReceived,
    FrameSent,
    NoiseReceived,
    NoticeReceived,
    RequestAcked,
    RequestFailed,
    StrayAckReceived,
    UnknownReceived,
)
from gizserial.framing import Frame, Framer

HEARTBEAT, REPORT = Command.HEARTBEAT, Command.P0_FROM_MCU


def bench(role: Role = Role.MODULE, **options: object) -> tuple[Endpoint, Bench]:
    endpoint = Endpoint(role, EndpointOptions(**options))  # type: ignore[arg-type]  # options by name
    return endpoint, Bench(endpoint)


def acked(endpoint: Endpoint, line: Bench, *payloads: bytes) -> None:
    """Answer the commands told so far, as a role would."""
    for event, payload in zip(line.of(CommandReceived), payloads, strict=True):
        endpoint.ack(event.frame, payload, now=line.now)
    line.events.clear()
    line.settle()


# --- repetition


def test_a_request_is_sent_three_times_200_ms_apart_and_given_up_200_ms_after_the_third() -> None:
    endpoint, line = bench()
    request = endpoint.send(HEARTBEAT, now=0.0, token="t")
    line.run(until=10.0)
    assert line.times(HEARTBEAT) == [0.0, 0.2, 0.4]
    assert len({wire for _time, wire in line.writes}) == 1, "a repetition is the same frame with the same sn"
    assert [event.attempt for event in line.of(FrameSent)] == [1, 2, 3]
    assert [(event.request, event.request.token) for event in line.of(RequestFailed)] == [(request, "t")]
    assert endpoint.idle


def test_the_request_fails_not_before_the_last_wait_ended() -> None:
    endpoint, line = bench()
    endpoint.send(HEARTBEAT, now=0.0)
    line.run(until=0.599)
    assert not line.of(RequestFailed)
    line.run(until=0.601)
    assert len(line.of(RequestFailed)) == 1


def test_wait_and_tries_are_options() -> None:
    endpoint, line = bench(ack_wait=0.6, tries=2)
    endpoint.send(HEARTBEAT, now=0.0)
    line.run(until=10.0)
    assert line.times(HEARTBEAT) == [0.0, 0.6]


def test_the_wait_starts_when_the_last_byte_left() -> None:
    # 1 KiB at 9600 baud takes longer than five waits (§1.8).
    byte_time = 10 / 9600
    endpoint, line = bench(byte_time=byte_time)
    endpoint.send(Command.P0_TO_MCU, bytes(1015), now=0.0)
    line.run(until=10.0)
    took = 1024 * byte_time
    assert line.times(Command.P0_TO_MCU) == [
        0.0,
        pytest.approx(took + 0.2, abs=1e-5),
        pytest.approx(2 * (took + 0.2), abs=1e-5),
    ]


def test_what_leaves_before_a_request_delays_its_wait_too() -> None:
    endpoint, line = bench(Role.MCU, byte_time=0.01)
    line.receive(Frame(Command.P0_TO_MCU, 1, b"\x02"))
    acked(endpoint, line, bytes(41))  # 50 bytes: the line is free at 0.5
    endpoint.send(REPORT, now=0.0)  # 9 bytes, left at 0.59
    line.run(until=0.75)
    assert line.times(REPORT) == [0.0]
    line.run(until=0.80)
    assert line.times(REPORT) == [0.0, pytest.approx(0.79)]


# --- acks


def test_an_ack_with_command_plus_one_and_the_same_sn_ends_the_request() -> None:
    endpoint, line = bench()
    request = endpoint.send(HEARTBEAT, now=0.0)
    line.settle()
    line.receive(Frame(HEARTBEAT + 1, request.frame.sn))
    line.run(until=10.0)
    assert line.times(HEARTBEAT) == [0.0]
    assert [event.request for event in line.of(RequestAcked)] == [request]
    assert not line.of(RequestFailed)


@pytest.mark.parametrize("ack", [Frame(HEARTBEAT + 1, 7), Frame(Command.STATUS + 1, 0)])
def test_another_sn_or_command_is_a_stray_ack(ack: Frame) -> None:
    endpoint, line = bench()
    endpoint.send(HEARTBEAT, now=0.0)
    line.settle()
    line.receive(ack)
    assert [event.frame for event in line.of(StrayAckReceived)] == [ack]
    line.run(until=0.3)
    assert line.times(HEARTBEAT) == [0.0, 0.2], "it goes on waiting"


def test_the_lax_switch_looks_at_the_command_only() -> None:
    endpoint, line = bench(Role.MCU, match_sn=False)
    endpoint.send(REPORT, now=0.0)
    line.settle()
    line.receive(Frame(REPORT + 1, 99))
    assert len(line.of(RequestAcked)) == 1


def test_an_ack_cannot_be_for_a_request_that_has_not_left() -> None:
    # Two acks in one chunk, and a receiver that does not look at sn: the second is not for the next request.
    endpoint, line = bench(Role.MCU, match_sn=False)
    endpoint.send(REPORT, b"\x06\x01", now=0.0)
    endpoint.send(REPORT, b"\x06\x02", now=0.0)
    line.settle()
    line.receive(Frame(REPORT + 1, 0), Frame(REPORT + 1, 0))
    assert [frame.payload[1] for frame in line.frames(REPORT)] == [1, 2]
    assert len(line.of(StrayAckReceived)) == 1


def test_a_late_ack_is_stray() -> None:
    endpoint, line = bench()
    endpoint.send(HEARTBEAT, now=0.0)
    line.run(until=0.7)
    line.receive(Frame(HEARTBEAT + 1, 0))
    assert len(line.of(StrayAckReceived)) == 1
    assert not line.of(RequestAcked)


def test_a_notice_is_no_ack() -> None:
    endpoint, line = bench()
    endpoint.send(HEARTBEAT, now=0.0)
    line.settle()
    line.receive(Frame(Command.ILLEGAL_FRAME_FROM_MCU, 0, b"\x01"))
    assert [event.code for event in line.of(NoticeReceived)] == [1]
    line.run(until=10.0)
    assert line.times(HEARTBEAT) == [0.0, 0.2, 0.4]


def test_a_notice_without_a_body_has_no_code() -> None:
    _endpoint, line = bench()
    line.receive(Frame(Command.ILLEGAL_FRAME_FROM_MCU, 0))
    assert [event.code for event in line.of(NoticeReceived)] == [None]


# --- sn


def test_sn_counts_over_all_commands_and_wraps() -> None:
    endpoint, line = bench(Role.MODULE)
    line.answers = {HEARTBEAT: lambda _frame: b"", Command.STATUS: lambda _frame: b""}
    for number in range(300):
        endpoint.send(HEARTBEAT if number % 2 else Command.STATUS, now=0.0)
        line.settle()
    assert [frame.sn for _time, frame in line.sent] == [number % 256 for number in range(300)]
    assert len(line.of(RequestAcked)) == 300


def test_an_older_firmware_counts_1_to_254() -> None:
    endpoint, line = bench(sn_skips_0_255=True)
    line.answers = {HEARTBEAT: lambda _frame: b""}
    for _ in range(256):
        endpoint.send(HEARTBEAT, now=0.0)
        line.settle()
    assert [frame.sn for _time, frame in line.sent] == [*range(1, 255), 1, 2]


def test_a_restart_begins_to_count_again_and_gives_up_what_waited() -> None:
    endpoint, line = bench()
    for _ in range(3):
        endpoint.send(HEARTBEAT, now=0.0)
    endpoint.restart()
    line.run(until=1.0)
    assert len(line.of(RequestFailed)) == 3
    assert not line.sent
    assert endpoint.send(HEARTBEAT, now=1.0).frame.sn == 0


# --- queue


def test_requests_queue_in_order_and_one_is_outstanding() -> None:
    endpoint, line = bench()
    for number in range(3):
        endpoint.send(Command.P0_TO_MCU, bytes((5, number)), now=0.0)
    line.settle()
    assert len(line.sent) == 1
    for sn in range(3):
        assert line.sent[-1][1].sn == sn
        line.receive(Frame(Command.P0_TO_MCU + 1, sn))
    assert [frame.payload[1] for _time, frame in line.sent] == [0, 1, 2]


def test_a_failed_request_makes_room_for_the_next() -> None:
    endpoint, line = bench()
    endpoint.send(HEARTBEAT, now=0.0)
    endpoint.send(Command.STATUS, b"\0\0", now=0.0)
    line.run(until=0.7)
    assert line.times(Command.STATUS) == [0.6]


def test_the_queue_is_bounded_and_says_so() -> None:
    endpoint, line = bench(queue_depth=16)
    for _ in range(17):
        endpoint.send(HEARTBEAT, now=0.0)
    with pytest.raises(QueueFullError, match="16 requests wait"):
        endpoint.send(HEARTBEAT, now=0.0)
    line.settle()
    line.receive(Frame(HEARTBEAT + 1, 0))
    endpoint.send(HEARTBEAT, now=0.0)  # room again


def test_a_payload_that_no_frame_carries_is_refused_at_the_call() -> None:
    endpoint, line = bench()
    with pytest.raises(EncodeError):
        endpoint.send(Command.P0_TO_MCU, bytes(5000), now=0.0)
    line.run(until=1.0)
    assert not line.sent
    assert endpoint.send(HEARTBEAT, now=1.0).frame.sn == 0, "a refused request takes no number"


def test_the_sdk_replaces_the_outstanding_request() -> None:
    endpoint, line = bench(Role.MCU, replace_outstanding=True)
    endpoint.send(REPORT, b"\x06\x01", now=0.0)
    line.run(until=0.1)
    endpoint.send(REPORT, b"\x06\x02", now=0.1)
    line.run(until=10.0)
    assert [frame.payload[1] for _time, frame in line.sent] == [1, 2, 2, 2]
    assert [event.request.frame.payload[1] for event in line.of(RequestFailed)] == [1, 2]


# --- duplicates

CONTROL = Frame(Command.P0_TO_MCU, 9, b"\x01\x01\x01")


def test_a_repeated_command_is_acked_again_and_told_once() -> None:
    endpoint, line = bench(Role.MCU)
    line.receive(CONTROL)
    acked(endpoint, line, b"payload")
    line.run(until=0.2)
    line.receive(CONTROL)
    assert not line.of(CommandReceived)
    assert [event.frame for event in line.of(DuplicateReceived)] == [CONTROL]
    assert line.frames(Command.P0_TO_MCU + 1) == [Frame(Command.P0_TO_MCU + 1, 9, b"payload")] * 2


def test_two_copies_in_one_chunk_are_told_once_and_both_acked() -> None:
    endpoint, line = bench(Role.MCU)
    line.receive(CONTROL, CONTROL)
    assert len(line.of(CommandReceived)) == 1
    acked(endpoint, line, b"")
    assert len(line.frames(Command.P0_TO_MCU + 1)) == 2


def test_each_copy_counts_from_the_one_before() -> None:
    # A module with LocalAckT = 600 repeats at 0.6 and 1.2 s.
    endpoint, line = bench(Role.MCU)
    line.receive(CONTROL)
    acked(endpoint, line, b"")
    for at in (0.6, 1.2):
        line.run(until=at)
        line.receive(CONTROL)
    assert not line.of(CommandReceived)
    assert len(line.frames(Command.P0_TO_MCU + 1)) == 3


def test_a_slow_line_lengthens_the_window() -> None:
    # 1 KiB at 9600 baud: the copy is complete 1.27 s after the first.
    endpoint, line = bench(Role.MCU, byte_time=10 / 9600)
    control = Frame(Command.P0_TO_MCU, 9, b"\x05" + bytes(1000))
    line.receive(control)
    acked(endpoint, line, b"")
    line.run(until=1.27)
    line.receive(control)
    assert not line.of(CommandReceived)


@pytest.mark.parametrize(
    "again",
    [
        Frame(Command.P0_TO_MCU, 10, b"\x01\x01\x01"),
        Frame(Command.P0_TO_MCU, 9, b"\x01\x01\x00"),
        Frame(Command.STATUS, 9, b"\x01\x01"),
    ],
    ids=["other sn", "other payload", "other command"],
)
def test_what_differs_is_no_duplicate(again: Frame) -> None:
    endpoint, line = bench(Role.MCU)
    line.receive(CONTROL)
    acked(endpoint, line, b"")
    line.receive(again)
    assert [event.frame for event in line.of(CommandReceived)] == [again]


def test_after_a_second_it_is_a_new_command() -> None:
    endpoint, line = bench(Role.MCU)
    line.receive(CONTROL)
    acked(endpoint, line, b"")
    line.run(until=1.01)
    line.receive(CONTROL)
    assert len(line.of(CommandReceived)) == 1


def test_without_dedup_every_copy_is_told() -> None:
    _endpoint, line = bench(Role.MCU, dedup=False)
    line.receive(CONTROL)
    line.receive(CONTROL)
    assert len(line.of(CommandReceived)) == 2


def test_a_command_that_drew_a_notice_is_looked_at_again() -> None:
    endpoint, line = bench(Role.MODULE)
    bad = Frame(Command.PROVISION, 3, b"\x04\x40")
    for _ in range(2):
        line.receive(bad)
        endpoint.notice(bad.sn, 3, now=line.now)
    line.settle()
    assert len(line.of(CommandReceived)) == 2
    assert line.frames(Command.ILLEGAL_FRAME_FROM_MODULE) == [Frame(0x11, 3, b"\x03")] * 2


# --- what arrives while it waits


def test_the_repetition_waits_for_a_frame_that_is_arriving() -> None:
    endpoint, line = bench()
    endpoint.send(Command.P0_TO_MCU, b"\x02", now=0.0)
    line.run(until=0.15)
    ack = Frame(Command.P0_TO_MCU + 1, 0, bytes(40)).encode()
    for at, piece in ((0.15, ack[:10]), (0.25, ack[10:20]), (0.35, ack[20:])):
        line.run(until=at)
        line.receive(piece)
    line.run(until=10.0)
    assert line.times(Command.P0_TO_MCU) == [0.0]
    assert len(line.of(RequestAcked)) == 1


def test_a_frame_that_stops_arriving_is_given_up_and_the_request_repeated() -> None:
    endpoint, line = bench()
    endpoint.send(HEARTBEAT, now=0.0)
    line.run(until=0.1)
    line.receive(b"\xff\xff\x00\x20\x05")
    line.run(until=0.65)
    assert [event.bad.reason for event in line.of(BadFrameReceived)] == ["truncated"]
    assert line.times(HEARTBEAT) == [0.0, pytest.approx(0.6)]


def test_a_frame_that_began_after_the_wait_ended_does_not_postpone_it() -> None:
    endpoint, line = bench()
    endpoint.send(HEARTBEAT, now=0.0)
    line.settle()
    line.now = 0.25  # the driver was late
    line.receive(b"\xff\xff\x00\x20\x05")
    assert line.times(HEARTBEAT) == [0.0, 0.25]


def test_everything_that_crosses_the_line_is_told() -> None:
    endpoint, line = bench()
    endpoint.send(HEARTBEAT, now=0.0)
    line.settle()
    bad = Frame(REPORT, 1, b"\x04").encode()[:-1] + b"\x00"
    line.receive(b"\x31\x32", bad, Frame(HEARTBEAT + 1, 0))
    assert [type(event) for event in line.events] == [
        FrameSent,
        NoiseReceived,
        BadFrameReceived,
        FrameReceived,
        RequestAcked,
    ]


def test_unknown_commands_and_the_wrong_direction_are_told_apart_from_commands() -> None:
    _endpoint, line = bench(Role.MODULE)
    for command in (0x2B, 0x99, Command.P0_TO_MCU, Command.HEARTBEAT, Command.ILLEGAL_FRAME_FROM_MODULE):
        line.receive(Frame(command, 1))
    assert len(line.of(UnknownReceived)) == 5
    assert not line.of(CommandReceived)


# --- the line goes and comes


def test_a_lost_line_gives_up_what_waited_and_nothing_is_sent_into_it() -> None:
    endpoint, line = bench()
    endpoint.send(HEARTBEAT, now=0.0)
    endpoint.send(HEARTBEAT, now=0.0)
    line.receive(b"\xff\xff\x00\x09\x05")
    line.unplug()
    assert [event.reason for event in line.of(RequestFailed)] == ["the line went down"] * 2
    assert len(line.of(BadFrameReceived)) == 1
    line.clear()
    line.run(until=5.0)
    assert not line.sent
    line.plug()
    line.receive(Frame(REPORT, 0, b"\x06"))
    assert len(line.of(CommandReceived)) == 1, "what was half received before is forgotten"


# --- quirks


def test_it_can_leave_acks_unescaped() -> None:
    # serial.md §9.4, V96: the checksum is FF.
    endpoint, line = bench(Role.MODULE, unstuffed_ack=True)
    line.receive(Frame(REPORT, 0xF4, b"\x06"))
    acked(endpoint, line, b"")
    assert line.writes == [(0.0, bytes.fromhex("FF FF 00 05 06 F4 00 00 FF"))]


def test_unescaped_acks_are_plain_ones_only() -> None:
    endpoint, line = bench(Role.MODULE, unstuffed_ack=True)
    line.receive(Frame(Command.NETWORK_TIME, 0xFF))
    acked(endpoint, line, bytes(11))
    line.receive(Frame(0x99, 0xFF))
    endpoint.notice(0xFF, 2, now=0.0)
    line.settle()
    assert all(b"\xff\x55" in wire for _time, wire in line.writes)


def test_a_peer_with_lenient_framing_takes_unescaped_acks() -> None:
    mcu, line = bench(Role.MCU)
    for _ in range(0xF5):
        mcu.send(REPORT, b"\x06", now=0.0)
        line.settle()
        mcu.abandon("next")
    mcu.send(REPORT, b"\x06", now=0.0)
    mcu.abandon("next")
    line.clear()
    mcu._sn = 0xF4
    mcu.send(REPORT, b"\x06", now=0.0)
    line.settle()
    line.receive(bytes.fromhex("FF FF 00 05 06 F4 00 00 FF"))
    line.run(until=5.0)
    assert len(line.of(RequestAcked)) == 1, "the bare FF is known by its silence after the frame"


def test_it_can_stay_silent() -> None:
    endpoint, line = bench(Role.MCU, never_answers=True)
    line.receive(CONTROL)
    acked(endpoint, line, b"")
    line.receive(CONTROL)
    line.run(until=5.0)
    assert not line.sent


def test_it_can_answer_late() -> None:
    endpoint, line = bench(Role.MCU, answer_delay=0.35)
    line.receive(CONTROL)
    acked(endpoint, line, b"")
    line.run(until=5.0)
    assert line.times(Command.P0_TO_MCU + 1) == [0.35]


def test_it_can_overlook_every_nth_frame() -> None:
    _endpoint, line = bench(Role.MCU, drop_every_nth=3)
    for sn in range(9):
        line.receive(Frame(HEARTBEAT, sn))
    assert [event.frame.sn for event in line.of(CommandReceived)] == [0, 1, 3, 4, 6, 7]


@settings(deadline=None)  # a busy machine is no finding
@given(nth=st.integers(1, 5), payloads=st.lists(st.binary(max_size=20), min_size=1, max_size=20))
def test_it_can_send_every_nth_frame_damaged(nth: int, payloads: list[bytes]) -> None:
    endpoint, line = bench(Role.MCU, bad_checksum_every_nth=nth, tries=1)
    for payload in payloads:
        endpoint.send(REPORT, payload, now=line.now)
        line.run_for(1.0)
    good = [isinstance(item, Frame) for _time, wire in line.writes for item in _items(wire)]
    assert good == [(number + 1) % nth != 0 for number in range(len(payloads))]


def _items(wire: bytes) -> list[object]:
    framer = Framer()
    return [*framer.feed(wire), *framer.flush()]


# --- properties

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from([3, 7, 13]), st.binary(max_size=8)),
        st.tuples(st.just("wait"), st.floats(0, 2), st.just(b"")),
        st.tuples(st.just("bytes"), st.just(0), st.binary(max_size=30)),
        st.tuples(
            st.just("frame"),
            st.integers(0, 255),
            st.builds(
                lambda command, sn, payload: Frame(command, sn, payload).encode(),
                st.integers(0, 0x60),
                st.integers(0, 20),
                st.binary(max_size=6),
            ),
        ),
        st.tuples(st.just("ack"), st.integers(0, 20), st.just(b"")),
        st.tuples(st.just("plug"), st.booleans(), st.just(b"")),
    ),
    max_size=60,
)


@settings(deadline=None)  # a busy machine is no finding
@given(role=st.sampled_from(Role), steps=STEPS, depth=st.integers(0, 4))
def test_whatever_happens_every_request_ends_once_and_is_sent_three_times_at_most(
    role: Role, steps: list[tuple[str, float, bytes]], depth: int
) -> None:
    endpoint, line = bench(role, queue_depth=depth)
    asked: list[object] = []
    for kind, number, data in steps:
        if kind == "send":
            try:
                asked.append(endpoint.send(int(number), data, now=line.now, token=len(asked)))
            except QueueFullError:
                assert len(asked) - _ended(line.events) > depth
            line.settle()
        elif kind == "wait":
            line.run_for(number)
        elif kind in {"bytes", "frame"}:
            line.receive(data)
        elif kind == "ack":
            for command in (3, 7, 13):
                line.receive(Frame(command + 1, int(number)))
        elif number:
            line.plug()
        else:
            line.unplug()
        # Bench.settle has proved that it comes to rest: the next timeout, if there is one, lies later.
    line.run_for(5.0 + 0.6 * (depth + 2))
    ended = [event for event in line.events if isinstance(event, RequestAcked | RequestFailed)]
    assert len(ended) == len(asked)
    assert {event.request.token for event in ended} == set(range(len(asked)))
    sent = [event for event in line.of(FrameSent) if event.frame.command in {3, 7, 13}]
    assert all(1 <= event.attempt <= 3 for event in sent)
    assert endpoint.idle


def _ended(events: list[Event]) -> int:
    return sum(isinstance(event, RequestAcked | RequestFailed) for event in events)
