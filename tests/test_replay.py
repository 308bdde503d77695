"""One side of a recording against a live peer: what is sent, what is waited for, what is told."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from support_recordings import PRODUCT, Action, a_day, record
from support_roles import Bench

from gizserial.capture.record import Record
from gizserial.capture.replay import PATIENCE, Divergence, Replay, Sent
from gizserial.capture.script import script, speakers
from gizserial.codec import Codec, Message
from gizserial.commands import Direction, Role
from gizserial.framing import Frame
from gizserial.io.driver import Machine
from gizserial.io.memory import MemoryLink
from gizserial.io.simulation import simulate
from gizserial.mcu import McuRole
from gizserial.mcu_options import McuOptions
from gizserial.module import ModuleRole

CODEC = Codec(PRODUCT)


def play(records: list[Record], role: Role, peer: Machine[Any], *, speed: float | None = 1.0) -> Replay:
    replay = Replay(script(records, role, CODEC), role, CODEC, speed=speed)
    actions: list[Action] = []
    if isinstance(peer, McuRole):  # as in a_day
        actions.append((4.0, lambda: peer.set_value("Temperature", 25, now=4.0)))
    simulate((replay, peer), MemoryLink(), until=20.0, actions=actions)
    assert replay.done
    return replay


def test_the_same_mcu_does_the_same() -> None:
    replay = play(record(actions=a_day), Role.MODULE, McuRole(PRODUCT))
    assert replay.divergences == []
    assert replay.matched >= 6  # two acks, two reports, an answer to a read, device information


def test_the_same_module_does_the_same() -> None:
    records = record()
    assert play(records, Role.MCU, ModuleRole()).divergences == []


def test_another_value_is_told_with_both_frames() -> None:
    replay = play(record(actions=a_day), Role.MODULE, McuRole(PRODUCT, values={"Humidity": 40}))
    first = replay.divergences[0]
    assert first.kind in {"differs", "unexpected"}
    told = [found for found in replay.divergences if found.kind == "differs"]
    assert told
    for found in told:
        assert found.expected is not None
        assert found.came is not None
        assert found.expected.message is not None
        assert found.came.message is not None
        if found.came.message.attrs and found.expected.message.attrs:
            assert found.expected.message.attrs["Humidity"] == 0
            assert found.came.message.attrs["Humidity"] == 40


def test_an_mcu_that_answers_nothing_gets_three_transmissions() -> None:
    """§1.8: 200 ms, two resends."""
    replay = Replay(script(record(until=0.5), Role.MODULE, CODEC), Role.MODULE, CODEC)
    bench = Bench(replay)  # type: ignore[arg-type]
    bench.run(until=0.7)
    assert bench.times(0x01) == [0.0, 0.2, 0.4]
    bench.run(until=10)
    assert replay.done
    assert [found.kind for found in replay.divergences] == ["missing"]
    assert replay.divergences[0].t == 0.0 + 3 * 0.2 + PATIENCE


def test_commands_of_the_peer_are_answered_as_recorded_with_their_own_sn() -> None:
    asked = Frame(0x17, 5)
    answer = Frame(0x18, 5, bytes.fromhex("07E90B190A1E00 67890ABC"))
    records = [
        Record(0.0, "mcu>module", asked.encode()),
        Record(0.05, "module>mcu", answer.encode()),
    ]
    replay = Replay(script(records, Role.MODULE, CODEC), Role.MODULE, CODEC)
    bench = Bench(replay)  # type: ignore[arg-type]
    bench.receive(dataclasses.replace(asked, sn=77))
    bench.run(until=1)
    assert bench.sent == [(0.05, Frame(0x18, 77, answer.payload))]
    bench.receive(dataclasses.replace(asked, sn=77))  # its ack was lost: the same answer once more
    assert [frame.sn for _, frame in bench.sent] == [77, 77]
    assert replay.divergences == []


def test_an_unexpected_command_is_acked_and_told() -> None:
    records = [Record(0.0, "module>mcu", Frame(0x07, 1).encode())]
    replay = Replay(script(records, Role.MODULE, CODEC), Role.MODULE, CODEC)
    bench = Bench(replay)  # type: ignore[arg-type]
    bench.receive(Frame(0x0B, 3))
    assert bench.frames(0x0C) == [Frame(0x0C, 3)]
    assert [found.kind for found in replay.divergences] == ["unexpected"]


def test_bytes_that_are_no_frames_are_sent_as_they_were() -> None:
    """A recording of faults is worth playing: noise, and a frame with a wrong checksum."""
    wrong = bytes.fromhex("FF FF 00 05 07 01 00 00 00")
    records = [Record(0.0, "module>mcu", b"\x13\x00" + wrong)]
    replay = Replay(script(records, Role.MODULE, CODEC), Role.MODULE, CODEC)
    bench = Bench(replay)  # type: ignore[arg-type]
    bench.run(until=1)
    assert b"".join(data for _, data in bench.writes) == b"\x13\x00" + wrong


def test_pauses_are_as_recorded_or_shorter() -> None:
    records = [Record(float(t), "module>mcu", Frame(0x11, t, b"\x02").encode()) for t in range(3)]
    for speed, times in ((1.0, [0.0, 1.0, 2.0]), (10.0, [0.0, 0.1, 0.2]), (None, [0.0, 0.0, 0.0])):
        replay = Replay(script(records, Role.MODULE, CODEC), Role.MODULE, CODEC, speed=speed)
        bench = Bench(replay)  # type: ignore[arg-type]
        bench.run(until=5)
        assert bench.times(0x11) == times


def test_repetitions_of_what_was_answered_are_not_played() -> None:
    heartbeat, ack = Frame(0x07, 1), Frame(0x08, 1)
    records = [
        Record(0.0, "module>mcu", heartbeat.encode()),
        Record(0.2, "module>mcu", heartbeat.encode()),
        Record(0.3, "mcu>module", ack.encode()),
    ]
    replay = Replay(script(records, Role.MODULE, CODEC), Role.MODULE, CODEC)
    bench = Bench(replay, answers={0x07: lambda _frame: b""})  # type: ignore[arg-type]
    bench.run(until=5)
    assert bench.times(0x07) == [0.0]
    assert replay.divergences == []


def test_a_peer_that_was_off_in_the_recording_may_answer() -> None:
    records = [Record(0.0, "module>mcu", Frame(0x07, 1).encode())]
    replay = Replay(script(records, Role.MODULE, CODEC), Role.MODULE, CODEC)
    bench = Bench(replay, answers={0x07: lambda _frame: b""})  # type: ignore[arg-type]
    bench.run(until=5)
    assert replay.divergences == []


def test_an_sn_that_comes_round_is_another_command() -> None:
    """§1.4: sn wraps after 256 commands, so a heartbeat may have the bytes of one long ago."""
    heartbeat, ack = Frame(0x07, 1).encode(), Frame(0x08, 1).encode()
    records = [
        Record(0.0, "module>mcu", heartbeat),
        Record(900.0, "module>mcu", heartbeat),
        Record(900.1, "mcu>module", ack),
    ]
    first, second, answer = script(records, Role.MODULE, CODEC)
    assert first.answer is None
    assert second.answer is answer


def test_a_damaged_frame_of_the_peer_is_told() -> None:
    records = [Record(0.0, "mcu>module", Frame(0x0B, 3).encode())]
    replay = Replay(script(records, Role.MODULE, CODEC), Role.MODULE, CODEC)
    bench = Bench(replay)  # type: ignore[arg-type]
    bench.receive(Frame(0x0B, 3).encode()[:-1] + b"\x00")
    bench.run(until=5)
    assert [found.kind for found in replay.divergences] == ["damaged", "missing"]


def test_an_ack_with_another_sn_is_told_once() -> None:
    replay = Replay(script(record(until=0.5), Role.MODULE, CODEC), Role.MODULE, CODEC)
    bench = Bench(replay)  # type: ignore[arg-type]
    bench.receive(Frame(0x02, 9))
    bench.run(until=10)
    assert replay.done
    assert [found.kind for found in replay.divergences] == ["differs"]
    assert len(bench.frames(0x01)) == 1  # it is not asked again


def test_a_second_ack_does_not_count_for_the_next_command() -> None:
    records = [
        Record(0.0, "module>mcu", Frame(0x0D, 1, b"\x07\x00").encode()),
        Record(0.01, "mcu>module", Frame(0x0E, 1).encode()),
        Record(0.1, "module>mcu", Frame(0x0D, 2, b"\x07\x20").encode()),
        Record(0.11, "mcu>module", Frame(0x0E, 2).encode()),
    ]
    replay = Replay(script(records, Role.MODULE, CODEC), Role.MODULE, CODEC)
    bench = Bench(replay)  # type: ignore[arg-type]
    bench.receive(Frame(0x0E, 1))
    bench.run(until=0.12)
    for sn in (1, 2):
        bench.receive(Frame(0x0E, sn))
    assert replay.done
    assert [found.kind for found in replay.divergences] == ["unexpected"]
    assert replay.matched == 2


def test_flags_and_a_missing_escape_differ_too() -> None:
    report = Frame(0x05, 1, bytes.fromhex("06 FF 01"))
    for came in (
        dataclasses.replace(report, flags=0x0100).encode(),
        report.encode(escape=False),
    ):
        records = [Record(0.0, "mcu>module", report.encode())]
        replay = Replay(script(records, Role.MODULE, CODEC), Role.MODULE, CODEC)
        bench = Bench(replay)  # type: ignore[arg-type]
        replay.receive_data(came, now=bench.now)
        assert [found.kind for found in replay.divergences] == ["differs"]


def test_events_tell_what_happened() -> None:
    replay = Replay(script(record(until=0.5), Role.MODULE, CODEC), Role.MODULE, CODEC)
    bench = Bench(replay)  # type: ignore[arg-type]
    bench.run(until=5)
    kinds = [type(event) for event in bench.events]
    assert kinds == [Sent, Sent, Sent, Divergence]


def test_a_frame_of_the_script_is_decoded_when_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture of 100 MB has more than a million frames, most of which nobody looks at."""
    decoded: list[Frame] = []
    decode = Codec.decode

    def counted(codec: Codec, frame: Frame, direction: Direction | None = None) -> Message:
        decoded.append(frame)
        return decode(codec, frame, direction)

    monkeypatch.setattr(Codec, "decode", counted)
    steps = script(record(until=2.0), Role.MODULE, CODEC)
    assert not decoded
    assert [step.described.item for step in steps] == [step.item for step in steps]
    assert len(decoded) == len(steps)


def test_a_capture_without_directions_has_its_speakers_too() -> None:
    records = [dataclasses.replace(each, direction=None) for each in record(until=2.0)]
    assert speakers(records) == {Role.MODULE, Role.MCU}
    assert play(records, Role.MCU, ModuleRole()).divergences == []


def test_a_late_mcu_is_waited_for() -> None:
    replay = play(record(actions=a_day), Role.MODULE, McuRole(PRODUCT, McuOptions(answers_late_ms=150)))
    assert [found for found in replay.divergences if found.kind == "missing"] == []
