from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_capture import only_records, read, records, wire, write

from gizserial.capture import Item, Meta, Other, Record
from gizserial.capture.hextext import allows, word_bytes, words_bytes
from gizserial.errors import CaptureError

HEARTBEAT = bytes.fromhex("ffff0005070100000d")


@pytest.mark.parametrize(
    "text",
    [
        "ff ff 00 05 07 01 00 00 0d",
        "FF FF 00 05 07 01 00 00 0D\r\n",
        "FFFF0005070100000D",
        "ffff 0005 0701 00000d",
        "FFFF0005\n070100000D",
        "0xFF, 0xFF, 0x00, 0x05, 0x07, 0x01, 0x00, 0x00, 0x0D,",
        "0xFFFF0005,0X07,01,00,00,0d",
        "\ufeffff ff 00 05 07 01 00 00 0d",
        "\n\n \tff\tff 00  05\v07\f01 00,00 0d\n",
        "12:23:19 ff ff 00 05 07 01 00 00 0d",
        "12:23:19.123 TX: ff ff 00 05\n12:23:19.200 RX: 07 01 00 00 0d",
        "[12:23:19.123] TX ff ff 00 05 07 01 00 00 0d",
        "[2024-03-14 12:23:19] rx ffff0005070100000d",
        "2024-03-14 Tx FF FF 00 05 07 01 00 00 0D",
        "2024/3/14, 0.000123, [COM3], ff ff 00 05 07 01 00 00 0d",
        "14/03/24 ff ff 00 05 07 01 00 00 0d",
        "[接收] ff ff 00 05 07 01 00 00 0d",
        "00000000: ffff 0005 0701 0000 0d",
        "12:00:00 TX\nff ff 00 05 07 01 00 00 0d",
    ],
)
def test_ways_to_write_a_heartbeat(text: str) -> None:
    for size in (1, 3, 65536):
        assert wire(read("hex", text.encode(), size)) == HEARTBEAT


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("ff ff 0", 1, "'0' has an odd number of hex digits; a byte is two"),
        ("ff\nfff\nff", 2, "'fff' has an odd number"),
        ("ff\n\n\nff hello", 4, "'hello' is not a hex byte"),
        ("ff TX", 1, "'TX' stands behind the first byte of its line; only bytes may"),
        ("ff 12:00", 1, "'12:00' stands behind"),
        ("0x", 1, "'0x' is not a hex byte"),
        ("0xf", 1, "'0xf' is not"),
        ("0xff0xff", 1, "'0xff0xff' is not"),
        ("xff", 1, "'xff' is not"),
        ("ffh", 1, "'ffh' is not"),
        ("send ff", 1, "'send' is not"),
        ("2024-3/14 ff", 1, "'2024-3/14' is not"),
        ("ff\n\x00.", 2, "'\\x00.' is not"),
        ("ff\n- ff", 2, "'-' is not"),
        ("ff ｆｆ", 1, "'ｆｆ' is not"),
        ("z" * 5000, 1, "…' is not"),
    ],
)
def test_any_other_word_is_told_with_its_line(text: str, line: int, says: str) -> None:
    for size in (1, 3, 65536):
        with pytest.raises(CaptureError) as caught:
            read("hex", text.encode(), size)
        assert str(caught.value).startswith(f"in, line {line}: ")
        assert says in str(caught.value)
        assert len(str(caught.value)) < 200


def test_bytes_that_are_not_utf_8_are_told() -> None:
    with pytest.raises(CaptureError, match=r"line 1: '\\\\xff\.' is not a hex byte"):
        read("hex", b"\xff.")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_has_a_sentence_of_its_own(encoding: str) -> None:
    with pytest.raises(CaptureError, match="UTF-16 text; save it as UTF-8"):
        read("hex", "\ufeffff ff".encode(encoding))


def test_bytes_that_are_all_taken_for_time_stamps_are_not_lost_silently() -> None:
    with pytest.raises(CaptureError, match=r"no hex bytes: .*'ff:ff:00:05'.*put blanks between"):
        read("hex", b"ff:ff:00:05\n07:01:00:00\n")


def test_an_empty_text_has_no_bytes() -> None:
    assert read("hex", b"") == read("hex", b" \n\n") == []


def test_a_line_is_a_record() -> None:
    items = read("hex", b"12:00 TX ff ff\n00 05\n\n07", 1)
    assert items == [Record(None, None, data) for data in (b"\xff\xff", b"\x00\x05", b"\x07")]


@pytest.mark.parametrize(
    "text", [b"ff" * 100_000, b"ff " * 100_000, b"0x" + b"FF" * 100_000, b"ff," * 100_000]
)
@pytest.mark.parametrize("size", [1000, 65536])
def test_a_line_of_any_length_gives_records_of_bounded_size(text: bytes, size: int) -> None:
    items = only_records(read("hex", text, size))
    assert wire(items) == b"\xff" * 100_000
    assert max(len(item.data) for item in items) <= 2 * 65536


def test_a_long_word_with_an_odd_number_of_digits_is_told() -> None:
    with pytest.raises(CaptureError, match=r"is not a hex byte|odd number"):
        read("hex", b"f" * 100_001 + b" ff")


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=8), st.data())
def test_any_layout_and_any_chunking_give_the_same_bytes(lines: list[bytes], data: st.DataObject) -> None:
    def draw(options: list[str]) -> str:
        return data.draw(st.sampled_from(options))

    text = ""
    for line in lines:
        text += draw(["", "12:00:01.5 ", "[1] TX ", "2024-03-14 rx, "])
        for byte in line:
            word = draw([f"{byte:02x}", f"{byte:02X}", f"0x{byte:02x}"])
            text += word + draw([" ", ", ", ",", "\t"])
        text += draw(["\n", "\r\n", "\n\n"])
    size = data.draw(st.integers(1, 30))
    assert [item.data for item in only_records(read("hex", text.encode(), size))] == lines


@given(records())
def test_what_is_written_is_read_back_as_one_stream(items: list[Record]) -> None:
    text = write("hex", items)
    if wire(items):
        assert wire(read("hex", text)) == wire(items)
    assert all(item.t is None and item.direction is None for item in only_records(read("hex", text)))


def test_the_writer_shows_times_and_directions_to_people() -> None:
    items: list[Item] = [
        Record(0.5, "mcu>module", b"\xff\x00", {"n": 1}),
        Other("line 3", "{}"),
        Record(None, None, bytes(257)),
    ]
    lines = write("hex", items, Meta()).decode().splitlines()
    assert lines == ["[0.500000] [mcu>module] ff 00", bytes(256).hex(" "), "00"]


@pytest.mark.parametrize(
    ("head", "complete", "expected"),
    [
        (b"", True, True),
        (b"ff ff 0", True, False),
        (b"ff ff 0", False, True),
        (b"fffff", False, True),
        (b"\xef\xbb\xbfff", True, True),
        (b"12:00 TX ff", True, True),
        (b"hello ff", True, False),
        (b"\xff\xff\x00\x05\x07\x2e\x00\x00\x3a", True, False),
        (b"ff TX", True, False),
    ],
)
def test_what_the_rule_allows(head: bytes, complete: bool, expected: bool) -> None:
    assert allows(head, complete=complete) is expected


@given(st.binary(max_size=200).map(lambda data: b"\xff\xff" + data))
def test_frames_on_the_wire_are_never_taken_for_text(data: bytes) -> None:
    assert not allows(data, complete=True)


def test_words_of_a_command_line() -> None:
    assert word_bytes("0xFFee") == b"\xff\xee"
    assert word_bytes("é0") is None
    assert words_bytes("ff 0x00,05") == b"\xff\x00\x05"
    assert words_bytes("ff zz") is words_bytes("") is words_bytes(" , ") is words_bytes("12:00") is None
