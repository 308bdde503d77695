"""Files over the serial line (serial.md §4.13, §6.7): vectors V114–V121, both ends, byte by byte."""

from __future__ import annotations

import hashlib

import pytest
from support_transfer import IMAGE, Pair, ready_frame, started_mcu, started_module, transfers

from gizserial.events import (
    FileOffered,
    FileReady,
    FileReceived,
    Outcome,
    TransferEnded,
    TransferProgress,
)
from gizserial.framing import Frame
from gizserial.image import Image

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
