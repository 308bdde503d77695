"""Firmware images and Intel HEX (serial.md §4.13)."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gizserial.image import Image, ImageError, hex_image, hex_memory, piece_count

HELLO = b":0400000001020304F2\r\n"
END = b":00000001FF\r\n"


def record(kind: int, address: int, data: bytes) -> bytes:
    octets = bytes((len(data),)) + address.to_bytes(2, "big") + bytes((kind,)) + data
    return b":" + (octets + bytes((-sum(octets) & 0xFF,))).hex().upper().encode() + b"\r\n"


@given(st.binary(min_size=1, max_size=600), st.integers(1, 700))
def test_pieces_put_together_are_the_image(data: bytes, piece_size: int) -> None:
    image = Image(data)
    pieces = [image.piece(number, piece_size) for number in range(1, image.count(piece_size) + 1)]
    assert b"".join(pieces) == data
    assert all(len(piece) == piece_size for piece in pieces[:-1])
    assert 1 <= len(pieces[-1]) <= piece_size


def test_count_is_rounded_up() -> None:
    assert [piece_count(size, 128) for size in (1, 127, 128, 129, 256)] == [1, 1, 1, 2, 2]


@pytest.mark.parametrize("md5", ["x" * 32, "0" * 31, "0" * 33])
def test_an_md5_is_32_hex_digits(md5: str) -> None:
    with pytest.raises(ImageError):
        Image(b"x", md5=md5)


def test_an_empty_image_is_none() -> None:
    with pytest.raises(ImageError):
        Image(b"")


def test_lines_keep_their_ends() -> None:
    assert Image(HELLO + END, hex=True).lines() == [HELLO, END]
    assert Image(b":a\n:b", hex=True).lines() == [b":a\n", b":b"]


@pytest.mark.parametrize(("size", "good"), [(263, True), (264, False)])
def test_a_line_has_at_most_263_bytes(size: int, good: bool) -> None:
    image = Image(b"x" * (size - 2) + b"\r\n", hex=True)
    if good:
        assert len(image.lines()[0]) == size
    else:
        with pytest.raises(ImageError, match="line 1"):
            image.lines()


def test_hex_files_travel_with_cr_lf() -> None:
    assert hex_image(b":0400000001020304f2\n\n:00000001FF").data == b":0400000001020304f2\r\n:00000001FF\r\n"


def test_records_that_no_piece_can_hold_are_refused_before_they_are_offered() -> None:
    longest = record(0, 0, bytes(125))
    assert len(longest) == 263
    assert hex_image(longest + END).lines() == [longest, END]
    with pytest.raises(ImageError, match="line 1 has 265 bytes"):
        hex_image(record(0, 0, bytes(126)) + END)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b" \n\n"])
def test_any_end_of_line_is_read(end: bytes) -> None:
    text = end.join([HELLO.strip(), record(5, 0, bytes(4)).strip(), END.strip()])
    assert hex_image(text).data == HELLO + record(5, 0, bytes(4)) + END
    assert hex_memory(text) == (0, b"\x01\x02\x03\x04")


def test_addresses_and_gaps() -> None:
    text = record(4, 0, b"\x08\x00") + record(0, 0x10, b"ab") + record(0, 0x14, b"cd") + END
    assert hex_memory(text) == (0x08000010, b"ab\xff\xffcd")
    assert hex_memory(record(2, 0, b"\x10\x00") + record(0, 4, b"x") + END) == (0x10004, b"x")


@given(
    st.lists(st.tuples(st.integers(0, 0xFF00), st.binary(min_size=1, max_size=32)), min_size=1, max_size=8)
)
def test_what_was_written_is_what_is_read(blocks: list[tuple[int, bytes]]) -> None:
    memory: dict[int, int] = {}
    for address, data in blocks:
        memory |= {address + number: byte for number, byte in enumerate(data)}
    start, found = hex_memory(b"".join(record(0, *block) for block in blocks) + END)
    assert start == min(memory)
    assert {start + number: byte for number, byte in enumerate(found)} | memory == {
        address: memory.get(address, 0xFF) for address in range(start, max(memory) + 1)
    }


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "end record"),
        (HELLO, "end record"),
        (END, "no data"),
        (HELLO + END + HELLO, "line 3"),
        (b":0400000001020304F3\n" + END, "line 1 has a wrong checksum"),
        (b":04000000010203F2\n" + END, "line 1"),
        (b":0400000001020304F\n" + END, "line 1 is no record"),
        (b"0400000001020304F2\n" + END, "line 1 is no record"),
        (b":04000000010203zzF2\n" + END, "line 1 is no record"),
        (b":00\n" + END, "line 1"),
        (HELLO + record(9, 0, b"") + END, "line 2: there is no record type 09"),
        (HELLO + record(4, 0, b"\x01") + END, "line 2"),
        (HELLO + record(4, 0, b"\xff\xff") + HELLO + END, "span"),
        (b"\x00\xff\xfe" * 20, "line 1"),
    ],
)
def test_what_is_no_hex_says_where(text: bytes, what: str) -> None:
    with pytest.raises(ImageError, match=what):
        hex_image(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_hex_or_an_image_error(text: bytes) -> None:
    with contextlib.suppress(ImageError):
        hex_memory(text)
