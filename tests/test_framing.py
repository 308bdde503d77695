from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_framing import decode_all, kind_of, spans_by_the_table, spans_of

from gizserial.errors import EncodeError
from gizserial.framing import NOISE_PORTION, BadFrame, Frame, Framer, Noise

HEARTBEAT = Frame(command=0x07, sn=0x01)

frames = st.builds(
    Frame,
    command=st.integers(0, 255),
    sn=st.integers(0, 255),
    payload=st.binary(max_size=300),
    flags=st.sampled_from([0, 1, 0xFFFF]),
)
tricky_bytes = st.lists(
    st.sampled_from(
        [b"\xff", b"\xff\xff", b"\xff\x55", b"\x55", b"\x00", b"\x05", b"\x00\x05", b"\x07", b"\xf4"]
    )
    | st.binary(min_size=1, max_size=3)
    | frames.map(Frame.encode)
    | frames.map(lambda frame: frame.encode(escape=False)),
    max_size=30,
).map(b"".join)
chunk_sizes = st.lists(st.integers(1, 40), max_size=40)


def test_every_vector(vectors: Callable[[str], Any]) -> None:
    rows = vectors("serial_frames.json")["frames"]
    assert len(rows) == 121
    for row in rows:
        logical = bytes.fromhex(row["logical"])
        wire = bytes.fromhex(row["wire"]) if "wire" in row else None
        escaped = logical[:2] + logical[2:].replace(b"\xff", b"\xff\x55")
        items = decode_all(escaped)
        if "bad" in row:
            assert not any(isinstance(item, Frame) for item in items), row["id"]
            assert any(isinstance(item, BadFrame) for item in items), row["id"]
            continue
        [frame] = items
        assert isinstance(frame, Frame), row["id"]
        assert (frame.command, frame.sn) == (logical[4], logical[5])
        assert frame.payload == logical[8:-1]
        assert frame.encode() == escaped
        if wire is not None and wire.startswith(b"\xff\xff"):
            assert frame.encode() == wire, row["id"]


def test_checksum_ff_is_escaped() -> None:  # V96: the wire ends .. 00 00 FF 55
    assert Frame(command=0x06, sn=0xF4).encode() == bytes.fromhex("FF FF 00 05 06 F4 00 00 FF 55")


def test_transparent_example_of_the_debugger_manual() -> None:
    frame = Frame(command=0x05, sn=0x01, payload=bytes.fromhex("14 00 00 00"))
    assert frame.encode() == bytes.fromhex("FF FF 00 09 05 01 00 00 14 00 00 00 23")


def test_a_length_of_ff_is_escaped() -> None:
    wire = Frame(command=0x05, sn=0, payload=bytes(250)).encode()
    assert wire[:6] == bytes.fromhex("FF FF 00 FF 55 05")
    assert decode_all(wire) == [Frame(command=0x05, sn=0, payload=bytes(250))]


@pytest.mark.parametrize("size", [4091])
def test_largest_frame(size: int) -> None:
    frame = Frame(command=0x05, sn=0, payload=bytes(size))
    assert decode_all(frame.encode()) == [frame]
    with pytest.raises(EncodeError, match="4091 is the most"):
        Frame(command=0x05, sn=0, payload=bytes(size + 1)).encode()


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        # cli.md §4, the examples of broken input
        ("ffff00050701000000", [("checksum", 0, 9)]),
        ("00ff13", [("noise", 0, 3)]),
        ("ffff0003", [("length", 0, 4)]),
        ("ffff0010050100", [("truncated", 0, 7)]),
        # serial.md §1.7: FF FF FF FF 00 05 .. restarts, a stray FF before the header is noise
        ("ffffffff0005070100000d", [("noise", 0, 2), ("frame", 2, 9)]),
        ("ffffff0005070100000d", [("noise", 0, 1), ("frame", 1, 9)]),
        ("ffffffffff0005070100000d", [("noise", 0, 3), ("frame", 3, 9)]),
        # a truncated frame ends where the next header begins
        ("ffff00100501ffff0005070100000d", [("truncated", 0, 6), ("frame", 6, 9)]),
        # the checksum is an unescaped FF, then a header: a complete frame and a header
        ("ffff000506f40000ffffff0005070100000d", [("frame", 0, 9), ("frame", 9, 9)]),
        # one byte short, sum FF: the first FF of the next header becomes the checksum, the next frame is lost
        ("ffff000506f40000" + "ffff0005070100000d", [("frame", 0, 9), ("noise", 9, 8)]),
        # the input ends with the unescaped FF
        ("ffff000506f40000ff", [("frame", 0, 9)]),
        # FF 55 after the header is a length byte FF
        ("ffffff550000", [("length", 0, 5), ("noise", 5, 1)]),
        ("ffff", [("noise", 0, 2)]),
        ("ff", [("noise", 0, 1)]),
        ("", []),
    ],
)
def test_stretches(wire: str, expected: list[tuple[str, int, int]]) -> None:
    items = decode_all(bytes.fromhex(wire))
    assert [(kind_of(item), item.offset, len(item.wire)) for item in items] == expected


def test_strict_refuses_an_unescaped_ff() -> None:
    wire = bytes.fromhex("ffff0006 0901 0000 ff 10")
    [lenient] = decode_all(bytes.fromhex("ffff0007 0901 0000 ff10 20"))
    assert isinstance(lenient, Frame)
    assert lenient.unescaped
    assert lenient.payload == b"\xff\x10"
    [strict] = decode_all(wire, lenient=False)
    assert isinstance(strict, BadFrame)
    assert strict.reason == "escape"
    assert strict.wire == wire
    assert "byte 8" in strict.detail


def test_a_bad_frame_knows_command_and_sn() -> None:  # serial.md §4.9: the notices need them
    [bad] = decode_all(bytes.fromhex("ffff0005 0742 0000 00"))
    assert isinstance(bad, BadFrame)
    assert (bad.command, bad.sn, bad.flags) == (0x07, 0x42, 0)
    assert bad.detail == "the sum of the bytes is 4E, the frame says 00"


@given(tricky_bytes, chunk_sizes, st.booleans(), st.sampled_from([16, 300, 4096]))
def test_the_table_of_the_specification(wire: bytes, chunks: list[int], lenient: bool, max_len: int) -> None:
    items = decode_all(wire, chunks=chunks, lenient=lenient, max_len=max_len)
    assert spans_of(items) == spans_by_the_table(wire, lenient=lenient, max_len=max_len)


@given(tricky_bytes, chunk_sizes)
def test_every_byte_is_in_exactly_one_item(wire: bytes, chunks: list[int]) -> None:
    items = decode_all(wire, chunks=chunks)
    assert b"".join(item.wire for item in items) == wire
    offset = 0
    for item in items:
        assert item.offset == offset
        offset += len(item.wire)


@given(
    st.lists(frames, max_size=5), st.binary(max_size=20).map(lambda b: b.replace(b"\xff", b"")), chunk_sizes
)
def test_any_chunking_gives_the_same_frames(sent: list[Frame], junk: bytes, chunks: list[int]) -> None:
    wire = junk.join([b"", *(frame.encode() for frame in sent), b""])
    got = decode_all(wire, chunks=chunks)
    assert [item for item in got if isinstance(item, Frame)] == sent


@given(st.binary(max_size=200), st.lists(frames, min_size=1, max_size=4))
def test_a_good_frame_after_a_complete_frame_is_never_lost(junk: bytes, sent: list[Frame]) -> None:
    # The first frame ends whatever the junk began; what follows a complete frame boundary arrives.
    wire = junk + HEARTBEAT.encode() + HEARTBEAT.encode() + b"".join(frame.encode() for frame in sent)
    got = [item for item in decode_all(wire) if isinstance(item, Frame)]
    assert got[-len(sent) :] == sent


@given(tricky_bytes)
def test_noise_is_told_with_the_chunk_that_brought_it(wire: bytes) -> None:
    framer = Framer()
    told = framer.feed(wire)
    assert framer.offset == len(wire)
    told += framer.flush()
    assert b"".join(item.wire for item in told) == wire


@pytest.mark.parametrize("pattern", [b"\xff", b"\xff\x55", b"\x00\xff\xff\x0f\xff", b"\xff\xff\x00\x05\x07"])
def test_memory_stays_flat(pattern: bytes) -> None:
    framer = Framer(hold_noise=True)
    chunk = pattern * (65536 // len(pattern))
    framer.feed(chunk)
    tracemalloc.start()
    try:
        total = 0
        for _ in range(8):
            total += sum(len(item.wire) for item in framer.feed(chunk))
        left = sum(len(item.wire) for item in framer.flush())
        assert left <= 2 * NOISE_PORTION
        current, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert current < 100_000


def test_noise_comes_in_portions() -> None:
    items = decode_all(bytes(10_000))
    assert [len(item.wire) for item in items] == [4096, 4096, 1808]
    assert all(isinstance(item, Noise) for item in items)


def test_fields_that_do_not_fit() -> None:
    with pytest.raises(EncodeError, match="sn is 256"):
        Frame(command=7, sn=256)
