from __future__ import annotations

import io
import itertools
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support_capture import Pieces, only_records, read, records, wire, write

from gizserial.capture import FORMATS, SUFFIXES, Meta, Other, Record, format_of, only, read_unnamed, sniff
from gizserial.errors import CaptureError


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.jsonl", "jsonl"),
        ("a.b.bin", "bin"),
        ("dir.bin/a.HEX", "hex"),
        ("a.txt", "hex"),
        ("A.LOG", "hex"),
        ("a.pcapng", "pcapng"),
    ],
)
def test_the_suffix_says_the_format(path: str, name: str) -> None:
    assert format_of(path) is FORMATS[name]


@pytest.mark.parametrize(
    ("path", "says"), [("a.json", "the suffix .json"), ("a", "no suffix"), (".bin", "no suffix")]
)
def test_another_suffix_is_told(path: str, says: str) -> None:
    with pytest.raises(CaptureError, match=says) as caught:
        format_of(path)
    assert ".jsonl, .bin, .hex, .txt, .log, .pcapng" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b'{"hex":"ff"}', "jsonl"),
        (b"{", "jsonl"),
        (b"\xef\xbb\xbf{}", "jsonl"),
        (b"", "hex"),
        (b"ff ff 00 05\n", "hex"),
        (b"12:00:01 TX: ff", "hex"),
        (b"ff" * 4000, "hex"),
        (b"ff " * 1365 + b"f" + b"\xff\x00", "hex"),  # only the first 4 KiB count
        (b"ff ff 0", "bin"),
        (b"ff ff hello", "bin"),
        (b"\xff\xff\x00\x05\x07\x2e\x00\x00\x3a", "bin"),
        (b" {}", "bin"),
    ],
)
def test_standard_input_says_what_it_is(data: bytes, name: str) -> None:
    assert sniff(data[:4096], complete=len(data) < 4096) is FORMATS[name]


@pytest.mark.parametrize("size", [1, 7, 65536])
def test_what_was_looked_at_is_read_again(size: int) -> None:
    for data, expected in (
        (b'{"dir":"mcu>module","hex":"ff01"}\n' * 400, b"\xff\x01" * 400),
        (b"ff 01\n" * 4000, b"\xff\x01" * 4000),
        (b"\xff\x01" * 10_000, b"\xff\x01" * 10_000),
    ):
        assert wire(read_unnamed(Pieces(data, size)).items) == expected


def test_json_lines_are_known_by_their_first_byte() -> None:
    class Live(io.BytesIO):
        """A pipe with one line in it whose writer is still there: waiting for more would never end."""

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            assert len(data) == size, "waits for more"
            return data

    assert next(read_unnamed(Live(b'{"hex":"ff"}\n')).records()).data == b"\xff"


@pytest.mark.parametrize("form", ["jsonl", "pcapng"])
@given(data=st.data())
def test_records_round_trip_through_the_lossless_formats(form: str, data: st.DataObject) -> None:
    items = data.draw(records())
    if form == "pcapng":
        # A packet with a direction always has a time: an unknown one is written as 0 and told.
        items = [Record(0.0, i.direction, i.data) if i.direction and i.t is None else i for i in items]
    assert read(form, write(form, items)) == items


@pytest.mark.parametrize("form", ["bin", "hex"])
@given(chunks=st.lists(st.binary(min_size=1, max_size=40), min_size=1))
def test_bytes_round_trip_through_the_others(form: str, chunks: list[bytes]) -> None:
    assert wire(read(form, write(form, [Record(None, None, data) for data in chunks]))) == b"".join(chunks)


@pytest.mark.parametrize("form", list(FORMATS))
@given(data=st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode(errors="replace")))
@example(data=b"")
@example(data=b"{")
@example(data=b"{}")
@example(data=b"\n\r\x0d\x0a\x0a\x0d\x0d\x0a")
def test_any_bytes_give_records_or_one_kind_of_error(form: str, data: bytes) -> None:
    for size in (1, 65536):
        try:
            items = read(form, data, size)
        except CaptureError:
            continue
        assert all(isinstance(item, Record | Other) for item in items)


@given(st.binary(max_size=300))
def test_any_bytes_on_standard_input(data: bytes) -> None:
    try:
        items = list(read_unnamed(io.BytesIO(data)).items)
    except CaptureError:
        return
    if sniff(data, complete=True) is FORMATS["bin"]:
        assert wire(items) == data


def test_raw_bytes_hold_one_direction() -> None:
    items = [Record(0.1, "mcu>module", b"\x01"), Record(0.2, "mcu>module", b"\x02")]
    assert write("bin", items) == b"\x01\x02"
    with pytest.raises(
        CaptureError, match="one direction and the input has both; gizserial convert --sender picks one"
    ):
        write("bin", [*items, Record(0.3, "module>mcu", b"\x03")])


@pytest.mark.parametrize(
    ("form", "lost"),
    [
        ("jsonl", set()),
        ("pcapng", {"meta lines", "other lines", "other members"}),
        ("hex", {"meta lines", "other lines", "other members", "times", "directions"}),
        ("bin", {"meta lines", "other lines", "other members", "times", "directions"}),
    ],
)
def test_a_writer_tells_what_it_could_not_keep(form: str, lost: set[str]) -> None:
    writer = FORMATS[form].writer(io.BytesIO(), "out", Meta())
    writer.write(Other("line 1", "{}"))
    writer.write(Record(0.5, "mcu>module", b"\x01", {"note": "x"}))
    assert {name.split(" (")[0] for name in +writer.losses} == lost


def test_one_direction_out_of_both() -> None:
    there, back = Record(0.1, "mcu>module", b"\x01"), Record(0.2, "module>mcu", b"\x02")
    other, unknown = Other("line 1", "{}"), Record(None, None, b"\x03", {"n": 1})
    assert list(only([there, other, back], "mcu>module")) == [there, other]
    assert list(only([unknown], "module>mcu")) == [Record(None, "module>mcu", b"\x03", {"n": 1})]


class Endless:
    """A file made as it is read: pieces one after the other."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def read(self, size: int, /) -> bytes:
        while len(self._rest) < size and (piece := next(self._pieces, None)) is not None:
            self._rest += piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def read1(self, size: int, /) -> bytes:
        return self.read(size)

    def readline(self, size: int, /) -> bytes:
        while (
            b"\n" not in self._rest
            and len(self._rest) < size
            and (piece := next(self._pieces, None)) is not None
        ):
            self._rest += piece
        end = self._rest.find(b"\n") + 1 or len(self._rest)
        return self.read(min(end, size))


PCAPNG = write("pcapng", [Record(0.5, "mcu>module", bytes(5000))] * 10)
PCAPNG_HEAD = write("pcapng", [])

LONG: dict[str, Callable[[], Iterator[bytes]]] = {
    "jsonl": lambda: itertools.repeat(
        b'{"t":1,"dir":"mcu>module","hex":"' + b"ff" * 2000 + b'","n":[1]}\n', 3000
    ),
    "bin": lambda: itertools.repeat(bytes(60_000), 400),
    "hex": lambda: itertools.repeat(b"ff" * 20_000, 400),
    "pcapng": lambda: itertools.chain([PCAPNG], itertools.repeat(PCAPNG[len(PCAPNG_HEAD) :], 100)),
}


@pytest.mark.parametrize("form", list(LONG))
def test_memory_stays_flat_on_a_long_file(form: str) -> None:
    capture = FORMATS[form].read(Endless(LONG[form]()), "in")
    tracemalloc.start()
    try:
        size = sum(len(record.data) for record in capture.records())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 4_000_000
    assert peak < 1_500_000


@pytest.mark.parametrize("suffix", list(SUFFIXES))
def test_every_suffix_has_a_capture_of_our_own(fixtures: Path, suffix: str) -> None:
    path = fixtures / "captures" / f"pet-house{suffix}"
    with path.open("rb") as file:
        data = wire(format_of(path.name).read(file, path.name).items)
    assert data.startswith(bytes.fromhex("ffff0005"))


def test_the_captures_of_our_own_agree(fixtures: Path) -> None:
    def items(suffix: str) -> list[Record]:
        data = (fixtures / "captures" / f"pet-house{suffix}").read_bytes()
        return only_records(read(SUFFIXES[suffix].name, data))

    plain = [Record(item.t, item.direction, item.data) for item in items(".jsonl")]
    assert items(".pcapng") == plain
    assert wire(items(".bin")) == wire(only(plain, "mcu>module"))
    assert wire(items(".log")) == wire(plain[:7])
    assert wire(items(".txt")) == wire([plain[0], plain[2]])
