"""The end that wants a file: bad senders, uploads, and what follows an update (serial.md §4.13, §6.7)."""

from __future__ import annotations

from typing import Any

import pytest
from support_roles import Bench
from support_transfer import (
    IMAGE,
    Pair,
    announce_frame,
    ended,
    piece_frame,
    ready_frame,
    started_mcu,
    started_module,
)

from gizserial.commands import Command
from gizserial.errors import EncodeError
from gizserial.events import (
    FileAnnounced,
    FileReceived,
    FrameSent,
    Outcome,
    PieceReceived,
)
from gizserial.framing import Frame
from gizserial.image import Image
from gizserial.mcu import McuRole
from gizserial.mcu_options import McuOptions

# --- what the receiver does when it is not as it should be


def receiving(**options: Any) -> tuple[McuRole, Bench]:
    """An MCU that waits for piece 1 of 2."""
    mcu, line = started_mcu(**options)
    line.receive(announce_frame(IMAGE))
    line.receive(Frame(0x1C, line.frames(0x1B)[0].sn))
    line.clear()
    return mcu, line


FIRST = piece_frame(1, 2, IMAGE.data[:128], sn=0x21)
SECOND = piece_frame(2, 2, IMAGE.data[128:], sn=0x22)


@pytest.mark.parametrize("md5", [IMAGE.md5.upper(), IMAGE.md5[:16].upper() + IMAGE.md5[16:]])
def test_an_md5_in_capitals_travels_as_it_is(md5: str) -> None:
    """A module hands on what the cloud wrote, 1B repeats it to the letter (device-cloud.md §4.4)."""
    pair = Pair()
    pair.offer(Image(IMAGE.data, md5=md5))
    pair.run(5)
    assert pair.received == [IMAGE.data]
    module, line = started_module()
    module.offer_file(Image(IMAGE.data, md5=md5), now=line.now)
    line.settle()
    line.receive(Frame(0x1A, line.take()[0].sn), ready_frame(IMAGE, 128, md5=md5.lower()))
    line.run_for(5)
    assert not line.frames(0x1D)
    assert "another MD5" in ended(line).detail


def test_an_mcu_without_update_acks_19_and_leaves_it_at_that() -> None:
    mcu, line = started_mcu()
    plain = Bench(McuRole(mcu.product), answers={Command.P0_FROM_MCU: lambda _frame: b""})
    plain.run_for(1)
    plain.take()
    plain.receive(announce_frame(IMAGE))
    plain.run_for(30)
    assert plain.take() == [Frame(0x1A, 0x20)]
    assert not line.sent


@pytest.mark.parametrize(
    "frame",
    [
        announce_frame(IMAGE, size=0),
        announce_frame(IMAGE, size=256 * 1024 + 1),
        announce_frame(IMAGE, size=0xFFFFFFFF),
        announce_frame(IMAGE, md5="x" * 32),
        announce_frame(IMAGE, md5="ab"),
        Frame(0x19, 0x20),
        Frame(0x19, 0x20, bytes.fromhex("00 00 00 C8 FF FF 61")),
    ],
)
def test_announcements_that_are_not_taken(frame: Frame) -> None:
    _mcu, line = started_mcu()
    line.receive(frame)
    line.run_for(30)
    assert line.take() == [Frame(0x1A, 0x20)]


def test_an_announcement_that_is_not_taken_says_why() -> None:
    _mcu, line = started_mcu(ota_most=100)
    line.receive(announce_frame(IMAGE))
    (event,) = line.of(FileAnnounced)
    assert event.declined == "it has 200 bytes, 100 is the most"


def test_a_repeated_piece_is_acked_again_and_not_stored() -> None:
    _mcu, line = receiving()
    line.receive(FIRST)
    line.run_for(3)  # beyond the window in which the endpoint itself answers copies
    line.receive(FIRST)
    assert line.take() == [Frame(0x1E, 0x21)] * 2
    line.receive(SECOND)
    line.run_for(0.3)  # before it would restart
    line.receive(SECOND)
    assert len(line.frames(0x1E)) == 2
    assert [event.data for event in line.of(FileReceived)] == [IMAGE.data]


@pytest.mark.parametrize(
    "frame",
    [
        SECOND,  # piece 1 is missing
        piece_frame(0, 2, IMAGE.data[:128], sn=1),
        piece_frame(1, 3, IMAGE.data[:128], sn=1),
        piece_frame(1, 2, IMAGE.data[:127], sn=1),
        piece_frame(1, 2, IMAGE.data[:129], sn=1),
        piece_frame(1, 2, b"", sn=1),
        piece_frame(1, 0, IMAGE.data[:128], sn=1, flags=1),
        Frame(0x1D, 1, b"\x00\x01\x00"),
        Frame(0x1D, 1),
    ],
    ids=["order", "zero", "count", "short", "long", "empty", "hex", "cut", "none"],
)
def test_anything_unexpected_is_answered_with_27(frame: Frame) -> None:
    _mcu, line = receiving()
    line.receive(frame)
    assert [sent.command for _time, sent in line.sent] == [0x27]
    assert ended(line).outcome is Outcome.FAILED
    assert not line.of(FileReceived)


def test_anything_unexpected_ends_it() -> None:
    _mcu, line = receiving()
    line.receive(FIRST)
    line.receive(piece_frame(3, 2, b"x", sn=0x23))
    assert ended(line).outcome is Outcome.FAILED


def test_a_piece_of_no_file_is_not_acked_but_stopped() -> None:
    _mcu, line = started_mcu()
    line.receive(FIRST)
    assert [frame.command for frame in line.take()] == [0x27]


def test_a_wrong_md5_is_kept_out() -> None:
    _mcu, line = started_mcu()
    line.receive(announce_frame(IMAGE, md5="0" * 32))
    line.receive(Frame(0x1C, line.frames(0x1B)[0].sn), FIRST, SECOND)
    assert ended(line).outcome is Outcome.FAILED
    assert "MD5" in ended(line).detail
    assert not line.of(FileReceived)
    assert line.frames(0x27)


def test_15_s_of_silence_are_answered_with_27() -> None:
    _mcu, line = receiving()
    line.receive(FIRST)
    start = line.now
    line.run_for(20)
    assert line.times(0x27)[0] - start == pytest.approx(15)


def test_the_sender_stops_with_1f() -> None:
    _mcu, line = receiving()
    line.receive(FIRST)
    line.take()
    line.receive(bytes.fromhex("FF FF 00 05 1F 23 00 00 47"))  # V120
    assert line.take() == [Frame(0x20, 0x23)]
    line.receive(SECOND)
    assert [frame.command for frame in line.take()] == [0x27]


def test_the_ack_follows_the_storing() -> None:
    _mcu, line = receiving(ota_store_ms=2500)
    line.receive(FIRST)
    line.run_for(2.4)
    assert not line.frames(0x1E)
    assert not line.of(PieceReceived)
    line.run_for(0.2)
    assert line.frames(0x1E) == [Frame(0x1E, 0x21)]
    assert line.of(PieceReceived) == [PieceReceived(1, 2, 0, IMAGE.data[:128])]


def test_a_copy_that_comes_while_it_is_stored_is_no_other_piece() -> None:
    _mcu, line = receiving(ota_store_ms=3500)
    line.receive(FIRST)
    line.run_for(3)
    line.receive(FIRST)
    line.run_for(1)
    assert set(line.take()) == {Frame(0x1E, 0x21)}
    line.receive(SECOND)
    line.run_for(4)
    assert [frame.command for frame in line.take()] == [0x1E]


def test_flash_is_erased_between_1a_and_1b() -> None:
    _mcu, line = started_mcu(ota_erase_ms=4000)
    line.receive(announce_frame(IMAGE))
    line.run_for(3.9)
    assert line.take() == [Frame(0x1A, 0x20)]
    line.run_for(0.2)
    assert [frame.command for frame in line.take()] == [0x1B]


def test_a_new_announcement_begins_anew() -> None:
    _mcu, line = receiving()
    line.receive(FIRST)
    line.run_for(2)
    line.take()
    line.receive(announce_frame(IMAGE, sn=0x30))
    assert [frame.command for frame in line.take()] == [0x1A, 0x1B]
    line.receive(FIRST, SECOND)
    assert [event.data for event in line.of(FileReceived)] == [IMAGE.data]


def test_1b_without_ack_is_given_up() -> None:
    _mcu, line = started_mcu()
    line.receive(announce_frame(IMAGE))
    line.run_for(5)
    assert len(line.frames(0x1B)) == 3
    assert ended(line).outcome is Outcome.FAILED


def test_a_report_that_takes_the_place_of_1b_does_not_end_it() -> None:
    """The SDK holds one request: a report ends the repetitions of 1B, and here it never left (§1.8)."""
    mcu, line = started_mcu(pending_overwrite=True)
    line.receive(announce_frame(IMAGE))
    mcu.set_value("LED_OnOff", True, now=line.now)
    line.settle()
    line.run_for(1.2)
    assert [frame.command for frame in line.take()][-1] == 0x1B
    line.receive(FIRST, SECOND)
    assert [event.data for event in line.of(FileReceived)] == [IMAGE.data]


def test_the_one_place_of_the_sdk_holds_reports_and_an_update() -> None:
    pair = Pair(piece_size=64, mcu=McuOptions(pending_overwrite=True, ota_store_ms=20))
    image = Image(bytes(1000))
    pair.offer(image)
    for number in range(20):
        pair.run(0.05)
        pair.mcu.set_value("LED_OnOff", number % 2 == 0, now=pair.simulation.now)
    pair.run(5)
    assert pair.received == [image.data]
    assert pair.versions[-1] == "00000002"


def test_hex_wanted_but_bin_there() -> None:
    pair = Pair(mcu=McuOptions(ota_hex=True))
    pair.offer(IMAGE)
    pair.run(60)
    assert [outcome for outcomes in pair.outcomes for outcome in outcomes] == [
        Outcome.REFUSED,
        Outcome.FAILED,
    ]
    assert pair.ends(pair.mcu)[0].detail == "the sender has BIN, HEX was asked for: no piece for 15 s"


# --- the other direction


def test_the_module_takes_a_file_of_the_mcu() -> None:
    module, line = started_module(sn=0x50)
    line.receive(announce_frame(IMAGE))
    assert line.take() == [Frame(0x1A, 0x20), Frame(0x1B, 0x50)]  # 1B without a body
    line.receive(Frame(0x1C, 0x50), FIRST, SECOND)
    assert line.frames(0x1E) == [Frame(0x1E, 0x21), Frame(0x1E, 0x22)]
    assert line.of(FileReceived) == [FileReceived(IMAGE.data, IMAGE.md5, False)]
    assert not module.sending_file


def test_the_module_drops_an_upload_after_15_s_of_silence() -> None:
    _module, line = started_module()
    line.receive(announce_frame(IMAGE))
    line.receive(Frame(0x1C, line.frames(0x1B)[0].sn), FIRST)
    start = line.now
    line.run_for(20)
    assert line.times(0x27)[0] - start == pytest.approx(15)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 5000])
def test_upload_from_end_to_end(size: int) -> None:
    pair = Pair()
    data = bytes(number % 251 for number in range(size))
    pair.mcu.send_file(Image(data), now=pair.simulation.now)
    pair.run(60)
    assert pair.received == [data]


def test_a_file_in_each_direction_at_once() -> None:
    pair = Pair()
    pair.mcu.send_file(Image(b"up" * 900), now=pair.simulation.now)
    pair.offer(Image(b"down" * 900))
    pair.run(30)
    assert sorted(pair.received) == [b"down" * 900, b"up" * 900]


# --- after the update


def test_the_module_reads_the_new_version() -> None:
    pair = Pair()
    pair.offer(IMAGE)
    pair.run(10)
    assert pair.versions == ["00000001", "00000002"]
    frames = [
        event.frame.command for of, event in pair.events if of is pair.mcu and isinstance(event, FrameSent)
    ]
    assert frames[frames.index(0x29) :][:2] == [0x29, 0x02]


def test_29_is_repeated_until_it_is_acked() -> None:
    mcu, line = started_mcu()
    mcu.boot("00000002", now=line.now)
    line.run_for(30)
    assert len(line.frames(0x29)) > 3
    line.answers[Command.RESTART_MODULE] = lambda _frame: b""
    line.run_for(10)
    line.clear()
    line.run_for(60)
    assert not line.frames(0x29)


def test_29_is_not_needed_when_the_module_reads_the_version_by_itself() -> None:
    mcu, line = started_mcu()
    mcu.boot("00000002", now=line.now)
    line.run_for(2)  # nobody hears the first 29
    line.receive(Frame(Command.DEVICE_INFO, 0))
    line.clear()
    line.run_for(30)
    assert not line.frames(0x29)


def test_29_waits_while_firmware_comes() -> None:
    """A module that was deaf to 29 begins another update: it is not restarted in the middle."""
    mcu, line = started_mcu()
    mcu.boot("00000002", now=line.now)
    line.run_for(2)
    line.clear()
    line.receive(announce_frame(IMAGE))
    line.receive(Frame(0x1C, line.frames(0x1B)[0].sn), FIRST)
    line.run_for(10)
    assert not line.frames(0x29)
    line.run_for(10)  # the sender is silent: the file is given up, and the news still stands
    assert line.frames(0x27)
    assert line.frames(0x29)


def test_a_version_that_does_not_fit_is_refused_at_once() -> None:
    mcu, line = started_mcu()
    with pytest.raises(EncodeError):
        mcu.boot("123456789", now=line.now)


def test_an_mcu_that_restarts_in_the_middle_keeps_what_it_has() -> None:
    pair = Pair(mcu=McuOptions(ota_store_ms=50))
    pair.offer(Image(bytes(5000)))
    pair.run(1)
    pair.module.restart_mcu(now=pair.simulation.now)
    pair.run(60)
    assert pair.received == []
    assert pair.ends(pair.module)[0].outcome is Outcome.STOPPED_BY_PEER  # 27 for a piece of no file
    assert pair.mcu.soft_ver == "00000001"
    pair.offer(IMAGE)
    pair.run(30)
    assert pair.received == [IMAGE.data]
