from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_capture import JSON, MEMBERS, only_records, read, records, write

from gizserial.capture import Item, Meta, Other, Record, jsonl
from gizserial.capture.record import MAX_LINE, MAX_TIME
from gizserial.errors import CaptureError

GOOD = b'{"t":0.5,"dir":"module>mcu","hex":"ffff0005070100000d"}\n'


def error_of(data: bytes) -> str:
    with pytest.raises(CaptureError) as caught:
        read("jsonl", data)
    return str(caught.value)


def test_the_three_kinds_of_lines() -> None:
    data = (
        b'{"meta":{"product":"pet.json","product_key":"ab"},"more":1}\n{"t":1,"mcu":{"what":"tx"}}\n' + GOOD
    )
    capture = jsonl.read(io.BytesIO(data), "in.jsonl")
    assert capture.meta == Meta({"product": "pet.json", "product_key": "ab"}, {"more": 1})
    assert (capture.meta.product, capture.meta.product_key) == ("pet.json", "ab")
    assert list(capture.items) == [
        Other("line 2", '{"t":1,"mcu":{"what":"tx"}}'),
        Record(0.5, "module>mcu", bytes.fromhex("ffff0005070100000d")),
    ]


def test_decoding_skips_what_is_no_record() -> None:
    capture = jsonl.read(io.BytesIO(b'{"x":1}\n' + GOOD + b'{"meta":{}}\n' + GOOD), "in.jsonl")
    assert capture.meta is None
    assert len(list(capture.records())) == 2


def test_meta_without_names_of_a_product() -> None:
    assert (Meta().product, Meta({"product": 5}).product, Meta({"product_key": []}).product_key) == (
        None,
        None,
        None,
    )


def test_unknown_members_are_kept() -> None:
    items = read("jsonl", b'{"note":"x","t":1,"dir":"mcu>module","hex":"FF","n":{"a":[1,2.5]}}')
    assert items == [Record(1.0, "mcu>module", b"\xff", {"note": "x", "n": {"a": [1, 2.5]}})]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n  \n", b""])
def test_line_ends_empty_lines_and_a_byte_order_mark(end: bytes) -> None:
    assert len(read("jsonl", b"\xef\xbb\xbf" + GOOD.strip() + end)) == 1


def test_nothing_is_no_record() -> None:
    assert read("jsonl", b"") == read("jsonl", b"\n\n") == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"ff ff 00 05", "not JSON: Expecting value at column 1"),
        (b"hello", "not JSON: Expecting value at column 1"),
        (GOOD[:20], "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"5", "not a JSON object"),
        (b'{"dir":"module>mcu","hex":"fff"}', 'hex is "fff"'),
        (b'{"dir":"module>mcu","hex":"zz"}', 'hex is "zz"'),
        (b'{"dir":"module>mcu","hex":"ff ff"}', "without blanks"),
        ('{"dir":"module>mcu","hex":"ｆｆ"}'.encode(), "pairs of hex digits"),
        (b'{"dir":"module>mcu","hex":null}', "hex is null"),
        (b'{"dir":"module>mcu","hex":[255]}', "hex is a list"),
        (b'{"dir":"module>mcu","t":1}', "no hex"),
        (b'{"dir":"sideways","hex":"ff"}', 'dir is "sideways", it must be one of mcu>module, module>mcu'),
        (b'{"dir":null,"hex":"ff"}', "dir is null"),
        (b'{"dir":["mcu>module"],"hex":"ff"}', "dir is a list"),
        (b'{"hex":"ff"}', "this record has no direction"),
        (b'{"t":"1","dir":"module>mcu","hex":"ff"}', 't is "1"'),
        (b'{"t":true,"dir":"module>mcu","hex":"ff"}', "t is true"),
        (b'{"t":-1,"dir":"module>mcu","hex":"ff"}', "t is -1"),
        (b'{"t":1e300,"dir":"module>mcu","hex":"ff"}', "t is 1e+300"),
        (b'{"t":NaN,"dir":"module>mcu","hex":"ff"}', "NaN is no number"),
        (b'{"t":-Infinity,"dir":"module>mcu","hex":"ff"}', "-Infinity is no number"),
        (b'{"t":1e999,"dir":"module>mcu","hex":"ff"}', 'the number "1e999" is too large'),
        (b'{"t":' + b"9" * 400 + b',"dir":"module>mcu","hex":"ff"}', "t is a very large number"),
        (b'{"t":' + b"9" * 5000 + b',"dir":"module>mcu","hex":"ff"}', "not JSON that can be read"),
        (b'{"x":' + b"[" * 100_000, "nested too deeply"),
        (b'{"hex":"ff","dir":"module>mcu","hex":"00"}', 'the member "hex" is there twice'),
        (b'{"hex":"\xff","dir":"module>mcu"}', "not UTF-8 at byte 9"),
        (b'{"dir":"module>mcu","hex":"' + b"z" * 500 + b'"}', "z…"),
    ],
    ids=lambda value: value[:30].decode(errors="replace") if isinstance(value, bytes) else "",
)
def test_a_bad_line_is_told_with_its_number(line: bytes, says: str) -> None:
    message = error_of(GOOD + b'{"other":1}\n' + line + b"\n" + GOOD)
    assert message.startswith("in, line 3: ")
    assert says in message
    assert len(message) < 250


def test_all_or_no_records_have_a_direction() -> None:
    assert [item.direction for item in only_records(read("jsonl", b'{"hex":"ff"}\n{"hex":"00"}'))] == [
        None,
        None,
    ]
    assert "line 2: this record has a direction" in error_of(b'{"hex":"ff"}\n' + GOOD)


def test_a_line_is_at_most_16_mib() -> None:
    start, end = b'{"dir":"module>mcu","hex":"', b'"}'
    fits = start + b"f" * ((MAX_LINE - len(start) - len(end) - 1) & ~1) + end + b"\n"
    assert len(read("jsonl", fits)) == 1
    assert error_of(fits[:-3] + b"ffff" + end) == "in, line 1: the line is longer than 16 MiB"


def test_many_repeated_members_are_found_fast() -> None:
    line = b"{" + b",".join(b'"%d":0' % number for number in range(200_000)) + b',"0":1,"hex":"ff"}'
    assert 'the member "0" is there twice' in error_of(line)


def test_repeats_matter_only_where_the_line_is_understood() -> None:
    assert read("jsonl", b'{"x":1,"x":2}') == [Other("line 1", '{"x":1,"x":2}')]
    assert "there twice" in error_of(b'{"meta":{"a":1,"a":2}}')


def test_the_writer_writes_compact_lines_and_omits_what_is_unknown() -> None:
    items: list[Item] = [
        Record(0.5, "module>mcu", b"\xff\x00", {"note": "粉色"}),
        Record(0.0, "mcu>module", b""),
        Other("line 9", '{ "kept": "as it is" }'),
    ]
    assert write("jsonl", items, Meta({"product": "p.json"})).decode().splitlines() == [
        '{"meta":{"product":"p.json"}}',
        '{"t":0.5,"dir":"module>mcu","hex":"ff00","note":"粉色"}',
        '{"t":0.0,"dir":"mcu>module","hex":""}',
        '{ "kept": "as it is" }',
    ]
    assert write("jsonl", [Record(None, None, b"\x01")]) == b'{"hex":"01"}\n'


@pytest.mark.parametrize("extra", [{"hex": "00"}, {"t": 1}, {"x": float("nan")}, {"x": b""}])
def test_the_writer_refuses_members_that_it_cannot_write(extra: dict[str, object]) -> None:
    with pytest.raises(CaptureError, match="member"):
        write("jsonl", [Record(None, None, b"", extra)])


@given(records(extra=True), st.none() | st.builds(Meta, MEMBERS, MEMBERS.filter(lambda m: "meta" not in m)))
def test_everything_round_trips(items: list[Record], meta: Meta | None) -> None:
    capture = jsonl.read(io.BytesIO(write("jsonl", items, meta)), "in")
    assert (capture.meta, list(capture.items)) == (meta, items)


@given(
    st.lists(st.dictionaries(st.text().filter(lambda n: n not in {"dir", "hex", "meta"}), JSON, max_size=3))
)
def test_other_lines_round_trip_byte_for_byte(lines: list[dict[str, object]]) -> None:
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    assert write("jsonl", read("jsonl", data)) == data


@given(st.floats(0, MAX_TIME))
def test_any_time_in_range_survives(t: float) -> None:
    record = Record(t, "mcu>module", b"")
    assert read("jsonl", write("jsonl", [record])) == [record]


def test_the_recorded_sample(samples: Path) -> None:
    with (samples / "capture-pet.jsonl").open("rb") as file:
        capture = jsonl.read(file, "capture-pet.jsonl")
        assert capture.meta is not None
        assert capture.meta.product == "capture-pet-product.json"
        items = list(capture.items)
    assert len(only_records(items)) == 243
    assert len(items) == 479
