"""Files over the serial line (serial.md §4.13, §6.7): vectors V114–V121, both ends, byte by byte."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from support_roles import Bench
from support_transfer import (
    IMAGE,
    Pair,
    ended,
    ready_frame,
    started_mcu,
    started_module,
    transfers,
)

from gizserial.commands import Command
from gizserial.endpoint import QueueFullError
from gizserial.events import (
    FileOffered,
    FileReady,
    FileReceived,
    FrameSent,
    LateStopReceived,
    Outcome,
    P0Acked,
    ReportReceived,
    TransferEnded,
    TransferProgress,
)
from gizserial.framing import Frame
from gizserial.image import Image, hex_image
from gizserial.io.memory import MemoryLink
from gizserial.mcu_options import McuOptions
from gizserial.module import ModuleRole
from gizserial.module_options import ModuleOptions

V114 = (
    "FF FF 00 2B 19 20 00 00 00 00 00 C8 00 20 66 62 37 30 30 31 64 33 34 62 38 65 38 32 63 39 62 35 37 39"
    " 62 65 35 30 30 35 64 35 62 30 61 35 05"
)
V116 = (
    "FF FF 00 29 1B 0B 00 00 00 20 66 62 37 30 30 31 64 33 34 62 38 65 38 32 63 39 62 35 37 39 62 65 35 30"
    " 30 35 64 35 62 30 61 35 00 80 A8"
)
V118_HEAD = "FF FF 00 51 1D 22 00 00 00 02 00 02 80 81 82"


# --- the module sends


def test_vectors_of_the_sender() -> None:
    module, line = started_module(sn=0x20)
    module.offer_file(IMAGE, now=line.now)
    line.settle()
    (announce,) = line.take()
    assert announce.encode() == bytes.fromhex(V114)
    line.receive(Frame(0x1A, 0x20))  # V115
    line.receive(bytes.fromhex(V116))
    ack, first = line.take()
    assert ack.encode() == bytes.fromhex("FF FF 00 05 1C 0B 00 00 2C")  # V117
    assert first == Frame(0x1D, 0x21, bytes.fromhex("00 01 00 02") + bytes(range(128)))
    line.receive(Frame(0x1E, 0x21))
    (second,) = line.take()
    assert second.encode().startswith(bytes.fromhex(V118_HEAD))
    assert second == Frame(0x1D, 0x22, bytes.fromhex("00 02 00 02") + bytes(range(128, 200)))
    line.receive(Frame(0x1E, 0x22))  # V119
    assert line.of(TransferEnded) == [TransferEnded(Outcome.COMPLETE, "", sending=True)]


def test_what_is_told_has_the_token() -> None:
    module, line = started_module()
    module.offer_file(IMAGE, now=line.now, token="mine")
    line.settle()
    line.receive(Frame(0x1A, line.take()[0].sn))
    line.receive(ready_frame(IMAGE, 0))
    line.receive(Frame(0x1E, line.frames(0x1D)[-1].sn))
    assert transfers(line) == [
        FileOffered(200, IMAGE.md5, "mine"),
        FileReady(256, 1, False, "mine"),
        TransferProgress(1, 1, "mine"),
        TransferEnded(Outcome.COMPLETE, "", sending=True, token="mine"),
    ]


def test_the_image_of_the_vectors() -> None:
    assert hashlib.md5(IMAGE.data, usedforsecurity=False).hexdigest() == "fb7001d34b8e82c9b579be5005d5b0a5"


# --- the MCU receives


def test_vectors_of_the_receiver() -> None:
    _mcu, line = started_mcu(sn=0x0B, piece_size=128)
    line.receive(bytes.fromhex(V114))
    ack, ready = line.take()
    assert ack.encode() == bytes.fromhex("FF FF 00 05 1A 20 00 00 3F")  # V115
    assert ready.encode() == bytes.fromhex(V116)
    line.receive(Frame(0x1C, 0x0B))
    line.receive(Frame(0x1D, 0x21, bytes.fromhex("00 01 00 02") + bytes(range(128))))
    assert line.take() == [Frame(0x1E, 0x21)]
    line.receive(Frame(0x1D, 0x22, bytes.fromhex("00 02 00 02") + bytes(range(128, 200))))
    assert [frame.encode() for frame in line.frames(0x1E)] == [bytes.fromhex("FF FF 00 05 1E 22 00 00 45")]
    assert line.of(FileReceived) == [FileReceived(IMAGE.data, IMAGE.md5, False)]


@pytest.mark.parametrize("piece_size", [0, 1, 7, 128, 255, 256, 4087])
def test_both_together(piece_size: int) -> None:
    pair = Pair(piece_size=piece_size)
    pair.offer(Image(bytes(range(256)) * 2))
    pair.run(60)
    assert pair.received == [bytes(range(256)) * 2]
    assert pair.outcomes == ([Outcome.COMPLETE], [Outcome.COMPLETE])


@pytest.mark.parametrize("size", [1, 255, 256, 257])
@pytest.mark.parametrize("piece_size", [0, 1, 128, 256, 4087, 65535])
def test_sizes_around_a_piece(size: int, piece_size: int) -> None:
    pair = Pair(piece_size=piece_size, link=MemoryLink(latency=1e-4))
    image = Image(bytes(number % 251 for number in range(size)))
    pair.offer(image)
    pair.run(5)
    assert pair.received == [image.data]
    ready = [event for of, event in pair.events if of is pair.module and isinstance(event, FileReady)]
    assert [event.count for event in ready] == [-(-size // (piece_size or 256))]


@pytest.mark.parametrize(("size", "piece_size"), [(4 << 20, 4087), ((1 << 20) + 1, 1024)])
def test_large_images(size: int, piece_size: int) -> None:
    link = MemoryLink(latency=1e-4)
    pair = Pair(piece_size=piece_size, link=link, mcu=McuOptions(ota_most=4 << 20))
    image = Image(bytes(range(256)) * (size >> 8) + bytes(size & 0xFF))
    pair.offer(image)
    pair.run(10)
    assert pair.received == [image.data]


def test_controls_heartbeats_and_reports_pass_between_slow_pieces() -> None:
    """An app waits 3 s for its answer (device-cloud.md §12.3): it gets it after one piece at the most."""
    byte_time = 10 / 9600
    pair = Pair(
        link=MemoryLink(byte_time=byte_time),
        module=ModuleOptions(byte_time=byte_time, heartbeat_s=1),
        mcu=McuOptions(byte_time=byte_time, ota_store_ms=500),
    )
    image = Image(bytes(2000))
    pair.offer(image)
    asked: dict[int, float] = {}
    waits: list[float] = []
    for number in range(12):
        pair.run(0.4)
        asked[number] = pair.simulation.now
        control = pair.mcu.p0.control({"LED_OnOff": number % 2})
        pair.module.send_p0(control, now=pair.simulation.now, token=number)
        seen = len(pair.events)
        while not any(isinstance(event, P0Acked) for _of, event in pair.events[seen:]):
            pair.run(0.01)
        waits.append(pair.simulation.now - asked[number])
    pair.run(10)
    assert max(waits) < 0.5 + 0.5
    assert pair.received == [image.data]
    told = [event for of, event in pair.events if of is pair.module]
    assert len([event for event in told if isinstance(event, ReportReceived)]) >= 12
    sent = [event for event in told if isinstance(event, FrameSent)]
    assert [event for event in sent if event.frame.command == Command.HEARTBEAT]
    assert not [event for event in sent if event.attempt > 1]


# --- what the sender does when it is not as it should be


def offered(**options: Any) -> tuple[ModuleRole, Bench]:
    """A module whose announcement was acked."""
    module, line = started_module(**options)
    module.offer_file(IMAGE, now=line.now)
    line.settle()
    line.receive(Frame(0x1A, line.take()[0].sn))
    return module, line


def test_another_md5_in_1b_is_acked_and_nothing_is_sent() -> None:
    _module, line = offered()
    line.receive(ready_frame(IMAGE, 128, md5="0" * 32))
    line.run_for(10)
    assert line.take() == [Frame(0x1C, 9)]


def test_another_md5_in_1b_ends_as_refused() -> None:
    _module, line = offered()
    line.receive(ready_frame(IMAGE, 128, md5=IMAGE.md5.upper()))
    line.run_for(3.1)
    assert ended(line).outcome is Outcome.REFUSED
    assert "MD5" in ended(line).detail


def test_after_a_1b_that_is_wrong_a_right_one_still_counts() -> None:
    _module, line = offered()
    line.receive(ready_frame(IMAGE, 128, md5="0" * 32))
    line.run_for(2)
    line.receive(ready_frame(IMAGE, 128, sn=10))
    assert [frame.command for frame in line.take()] == [0x1C, 0x1C, 0x1D]


def test_hex_wanted_but_bin_held_draws_code_04() -> None:
    _module, line = offered()
    line.receive(ready_frame(IMAGE, 128, flags=1))
    assert line.take() == [Frame(0x1C, 9), Frame(0x11, 9, b"\x04")]
    line.run_for(3.1)
    assert ended(line).outcome is Outcome.REFUSED


def test_a_piece_size_of_0_is_256() -> None:
    module, line = started_module()
    module.offer_file(Image(bytes(300)), now=line.now)
    line.settle()
    line.receive(Frame(0x1A, line.take()[0].sn), ready_frame(Image(bytes(300)), 0))
    assert line.frames(0x1D)[0].payload == bytes.fromhex("00 01 00 02") + bytes(256)


def test_a_piece_is_sent_three_times_3_s_apart_then_1f() -> None:
    _module, line = offered()
    line.receive(ready_frame(IMAGE, 128))
    start = line.now
    line.run_for(20)
    assert [time - start for time in line.times(0x1D)] == pytest.approx([0, 3, 6])
    assert len({frame.encode() for frame in line.frames(0x1D)}) == 1
    assert line.times(0x1F)[0] - start == pytest.approx(9)
    assert ended(line).outcome is Outcome.FAILED


def test_an_mcu_that_cannot_update_never_sends_1b() -> None:
    module, line = offered(ota_ready_wait=60)
    line.run_for(59)
    assert module.sending_file
    line.run_for(2)
    assert ended(line).outcome is Outcome.REFUSED
    assert not line.frames(0x1F)
    module.offer_file(IMAGE, now=line.now)  # another one may follow


def test_an_announcement_without_ack_is_given_up() -> None:
    module, line = started_module()
    module.offer_file(IMAGE, now=line.now)
    line.run_for(5)
    assert len(line.frames(0x19)) == 3
    assert ended(line).outcome is Outcome.FAILED


def test_the_receiver_stops_with_27() -> None:
    _module, line = offered()
    line.receive(ready_frame(IMAGE, 128))
    line.take()
    line.receive(bytes.fromhex("FF FF 00 05 27 24 00 00 50"))  # V121
    assert ended(line).outcome is Outcome.STOPPED_BY_PEER
    assert ended(line).detail == "the receiver stopped (27) at piece 1 of 2"
    assert line.take() == [Frame(0x28, 0x24)]
    line.run_for(10)
    assert not line.frames(0x1D)  # the piece that was under way is not repeated


def test_27_after_the_last_piece_is_told() -> None:
    _module, line = offered()
    line.receive(ready_frame(IMAGE, 0))
    line.receive(Frame(0x1E, line.frames(0x1D)[0].sn), Frame(0x27, 0x24))
    assert line.of(LateStopReceived) == [LateStopReceived(sending=True)]
    assert ended(line).outcome is Outcome.COMPLETE


def test_the_user_stops_with_1f() -> None:
    module, line = offered(sn=None)
    line.receive(ready_frame(IMAGE, 128))
    module._endpoint._sn = 0x23
    line.take()
    module.stop_file(now=line.now)
    line.settle()
    assert [frame.encode() for frame in line.take()] == [bytes.fromhex("FF FF 00 05 1F 23 00 00 47")]  # V120
    module.stop_file(now=line.now)  # there is nothing to stop any more
    line.settle()
    assert not line.sent


def test_an_1a_that_got_lost_does_not_matter() -> None:
    module, line = started_module()
    module.offer_file(IMAGE, now=line.now)
    line.settle()
    line.receive(ready_frame(IMAGE, 128))
    line.run_for(2)
    assert [frame.command for frame in line.take()] == [0x19, 0x1C, 0x1D]


def test_a_1b_that_is_repeated_late_changes_nothing() -> None:
    _module, line = offered()
    line.receive(ready_frame(IMAGE, 128))
    line.receive(Frame(0x1E, line.frames(0x1D)[0].sn))
    line.run_for(2)
    line.take()
    line.receive(ready_frame(IMAGE, 128))
    assert line.take() == [Frame(0x1C, 9)]


@pytest.mark.parametrize(("size", "piece_size"), [(70_000, 1), (5000, 4088), (5000, 65535)])
def test_pieces_that_cannot_be_are_refused_with_1f(size: int, piece_size: int) -> None:
    module, line = started_module()
    image = Image(bytes(size))
    module.offer_file(image, now=line.now)
    line.settle()
    line.receive(Frame(0x1A, line.take()[0].sn), ready_frame(image, piece_size))
    assert [frame.command for _time, frame in line.sent] == [0x1C, 0x1F]
    assert ended(line).outcome is Outcome.REFUSED


def test_a_large_piece_size_does_not_matter_to_a_small_file() -> None:
    _module, line = offered()
    line.receive(ready_frame(IMAGE, 65535))
    assert line.frames(0x1D)[0].payload == bytes.fromhex("00 01 00 01") + IMAGE.data


def test_the_quirk_of_one_piece() -> None:
    _module, line = offered(ota_single_piece_bug=True)
    line.receive(ready_frame(IMAGE, 256))
    line.run_for(30)
    assert line.take() == [Frame(0x1C, 9)]
    _module, line = offered(ota_single_piece_bug=True)
    line.receive(ready_frame(IMAGE, 128))
    assert line.frames(0x1D)  # two pieces travel


def test_reports_and_heartbeats_go_on() -> None:
    module, line = offered()
    line.receive(ready_frame(IMAGE, 100))
    line.receive(Frame(0x05, 0x44, bytes.fromhex("04 00")))
    assert line.of(ReportReceived)[0].p0 == bytes.fromhex("04 00")
    line.answers |= {Command.HEARTBEAT: lambda _frame: b"", Command.FILE_PIECE: lambda _frame: b""}
    line.run_for(60)
    assert line.frames(0x07)
    assert ended(line).outcome is Outcome.COMPLETE
    assert not module.sending_file


@pytest.mark.parametrize("how", ["line", "restart"])
def test_a_line_that_goes_down_and_a_restart_end_it(how: str) -> None:
    _module, line = offered()
    line.receive(ready_frame(IMAGE, 128))
    if how == "line":
        line.unplug()
    else:
        line.receive(Frame(0x29, 0x40))
        line.run_for(1)
    assert ended(line).outcome is Outcome.FAILED
    line.take()
    line.run_for(15)
    assert not line.frames(0x1D)


def test_offers_before_the_handshake_and_two_at_once_are_refused() -> None:
    with pytest.raises(QueueFullError):
        ModuleRole().offer_file(IMAGE, now=0)
    module, line = offered()
    with pytest.raises(QueueFullError):
        module.offer_file(IMAGE, now=line.now)


# --- HEX


def test_hex_lines_travel_one_by_one() -> None:
    image = hex_image(b":0400000001020304F2\n:00000001FF\n")
    module, line = started_module()
    module.offer_file(image, now=line.now)
    line.answers[Command.FILE_PIECE] = lambda _frame: b""
    line.settle()
    line.receive(Frame(0x1A, line.take()[0].sn), ready_frame(image, 128, flags=1))
    first, last = line.frames(0x1D)
    assert (first.flags, first.payload) == (0x0001, b"\x00\x01\x00\x00:0400000001020304F2\r\n")
    assert (last.flags, last.payload) == (0x0003, b"\x00\x02\x00\x00:00000001FF\r\n")


def test_hex_from_end_to_end() -> None:
    image = hex_image(b":0400000001020304F2\n" * 40 + b":00000001FF\n")
    pair = Pair(mcu=McuOptions(ota_hex=True))
    pair.offer(image)
    pair.run(30)
    assert pair.received == [image.data]


def test_a_hex_file_goes_as_bin_to_who_wants_bin() -> None:
    image = hex_image(b":0400000001020304F2\n:00000001FF\n")
    pair = Pair(piece_size=7)
    pair.offer(image)
    pair.run(30)
    assert pair.received == [image.data]
