from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_capture import only_records, read, wire, write

from gizserial.capture import Direction, Other, Record, pcapng
from gizserial.capture.record import MAX_TIME
from gizserial.errors import CaptureError


class Made:
    """Blocks packed by hand from the format's description, to check the reader against another writer."""

    def __init__(self, order: str = "<") -> None:
        self.order = order
        self.data = b""

    def block(self, kind: int, body: bytes, *, length: int | None = None, tail: int | None = None) -> Made:
        body += bytes(-len(body) % 4)
        length = 12 + len(body) if length is None else length
        tail = length if tail is None else tail
        self.data += struct.pack(self.order + "II", kind, length) + body + struct.pack(self.order + "I", tail)
        return self

    def section(self, major: int = 1) -> Made:
        return self.block(0x0A0D0D0A, struct.pack(self.order + "IHHq", 0x1A2B3C4D, major, 0, -1))

    def interface(self, link_type: int = 147, snaplen: int = 0, options: bytes = b"") -> Made:
        return self.block(1, struct.pack(self.order + "HHI", link_type, 0, snaplen) + options)

    def option(self, code: int, value: bytes) -> bytes:
        return struct.pack(self.order + "HH", code, len(value)) + value + bytes(-len(value) % 4)

    def packet(
        self,
        data: bytes,
        *,
        time: int = 0,
        interface: int = 0,
        options: bytes = b"",
        captured: int | None = None,
        original: int | None = None,
    ) -> Made:
        captured = len(data) if captured is None else captured
        original = captured if original is None else original
        head = struct.pack(self.order + "IIIII", interface, time >> 32, time & 0xFFFFFFFF, captured, original)
        return self.block(6, head + data + bytes(-len(data) % 4) + options)


def records_of(made: Made) -> list[Record]:
    return only_records(read("pcapng", made.data, 5))


def error_of(data: bytes) -> str:
    with pytest.raises(CaptureError) as caught:
        read("pcapng", data)
    return str(caught.value)


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_directions_and_times(order: str) -> None:
    made = Made(order).section().interface()
    for flag in (1, 2):
        made.packet(b"\xff\xff\x00", time=1_234_567, options=made.option(2, struct.pack(order + "I", flag)))
    assert records_of(made) == [
        Record(1.234567, "module>mcu", b"\xff\xff\x00"),
        Record(1.234567, "mcu>module", b"\xff\xff\x00"),
    ]


@pytest.mark.parametrize(
    ("resolution", "time", "t"),
    [
        (b"\x06", 1_500_000, 1.5),
        (b"\x09", 1_700_000_000_123_456_789, 1_700_000_000.123456789),
        (b"\x00", 7, 7.0),
        (b"\x03", 7, 0.007),
        (b"\x8a", 1024, 1.0),  # 2 to the power of -10
        (b"\xff", 2**64 - 1, (2**64 - 1) / 2**127),
        (b"\x7f", 2**64 - 1, (2**64 - 1) / 10**127),
    ],
)
def test_the_resolution_of_the_interface(resolution: bytes, time: int, t: float) -> None:
    made = Made().section()
    made.interface(options=made.option(9, resolution)).packet(b"\x01", time=time)
    assert records_of(made) == [Record(t, None, b"\x01")]


def test_the_time_offset_of_the_interface() -> None:
    made = Made().section()
    made.interface(options=made.option(9, b"\x03") + made.option(14, struct.pack("<q", 100)))
    assert records_of(made.packet(b"\x01", time=500)) == [Record(100.5, None, b"\x01")]


@pytest.mark.parametrize("start", [-1, 2**62])
def test_a_time_that_cannot_be_is_told(start: int) -> None:
    made = Made().section()
    made.interface(options=made.option(14, struct.pack("<q", start))).packet(b"\x01")
    assert "the time of the packet is not within 0 to 8589934592 s" in error_of(made.data)


def test_several_interfaces_and_sections() -> None:
    made = Made().section().interface(link_type=1).interface()
    made.packet(b"no", interface=0).packet(b"a", interface=1)
    made.section().interface().packet(b"b")
    big = Made(">").section().interface().packet(b"c")
    made.data += big.data
    items = read("pcapng", made.data)
    assert wire(items) == b"abc"
    assert [type(item) for item in items] == [Other, Record, Record, Record]


def test_unknown_blocks_are_skipped_and_simple_packets_read() -> None:
    made = Made().section().block(0x0BAD, b"secret").interface(snaplen=8)
    made.block(3, struct.pack("<I", 3) + b"\x01\x02\x03").block(4, b"").block(5, bytes(12))
    assert records_of(made) == [Record(None, None, b"\x01\x02\x03")]
    assert sum(isinstance(item, Other) for item in read("pcapng", made.data)) == 3


def test_comments_are_members() -> None:
    made = Made().section().interface()
    made.packet(
        b"\x01", options=made.option(1, b"one") + made.option(1, b"two \xff") + made.option(0, b"") + b"\x99"
    )
    assert records_of(made) == [Record(0.0, None, b"\x01", {"comment": "one\ntwo \ufffd"})]


GOOD = Made().section().interface()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "in, byte 0: this is not a pcapng file; one begins with 0A 0D 0D 0A"),
        (b"ff ff", "byte 0: this is not a pcapng file"),
        (
            bytes.fromhex("d4c3b2a1") + bytes(20),
            "this is a pcap file, not pcapng; save it as pcapng (editcap -F",
        ),
        (bytes.fromhex("a1b23c4d") + bytes(20), "this is a pcap file"),
        (GOOD.data[:6], "byte 0: the file ends within this block"),
        (GOOD.data[:10], "byte 0: the file ends within this block"),
        (GOOD.data[:-1], "byte 28: the file ends within this block"),
        (GOOD.data + b"\x06", "byte 48: the file ends within this block"),
        (Made().section(major=2).data, "this is pcapng version 2.0; 1.0 is known here"),
        (Made().block(0x0A0D0D0A, b"abcd" + bytes(12)).data, "unknown byte order mark 61626364"),
        (Made().block(0x0A0D0D0A, struct.pack("<I", 0x1A2B3C4D)).data, "byte 0: the block is too short"),
        (Made().block(0x0A0D0D0A, struct.pack("<I", 0x1A2B3C4D), length=12).data, "which no block can have"),
        (
            Made().section().block(6, b"", length=8).data,
            "byte 28: the block says that it has 8 bytes, which no",
        ),
        (Made().section().block(6, b"", length=14).data, "it has 14 bytes, which no block can have"),
        (
            Made().section().block(6, b"", length=2**32 - 4).data,
            "it has 4294967292 bytes, allowed are 16777216",
        ),
        (Made().section().block(99, b"", tail=16).data, "byte 28: the two lengths of the block differ"),
        (Made().section().block(1, b"\x93\x00").data, "the block is too short for what it holds"),
        (Made().section().packet(b"\x01").data, "the packet is of interface 0, which was not described"),
        (Made().section().block(3, bytes(4)).data, "interface 0, which was not described"),
        (Made().section().interface().block(3, b"").data, "the block is too short for what it holds"),
        (
            Made().section().interface().block(6, bytes(16)).data,
            "byte 48: the block is too short for a packet",
        ),
        (
            Made().section().interface().packet(b"\x01", captured=9).data,
            "it has 9 bytes, more than its block",
        ),
        (
            Made().section().interface().packet(b"\x01", original=2).data,
            "cut off: 1 of 2 bytes were captured",
        ),
        (
            Made().section().interface().block(3, struct.pack("<I", 9)).data,
            "it has 9 bytes, more than its block",
        ),
        (
            Made().section().interface(snaplen=1).block(3, struct.pack("<I", 2) + b"\x01").data,
            "cut off: 1 of 2 bytes were captured",
        ),
        (
            Made().section().interface().packet(b"", options=b"\x02\x00\x04\x00").data,
            "an option of the block is",
        ),
        (
            Made().section().interface().block(2, bytes(20)).data,
            "packet blocks of an old form; save it again",
        ),
        (
            Made().section().interface(1).packet(b"\x01").data,
            "in: no packets of link type USER0 (147), only of link",
        ),
    ],
)
def test_a_malformed_file_is_told_with_the_offset(data: bytes, says: str) -> None:
    assert says in error_of(data)


def test_a_packet_without_direction_among_others_is_told() -> None:
    made = Made().section().interface()
    made.packet(b"\x01", options=made.option(2, struct.pack("<I", 1))).packet(b"\x02")
    assert "byte 92: this record has no direction, those before it have one" in error_of(made.data)


def test_interfaces_without_end_are_told() -> None:
    made = Made().section()
    made.data += Made().interface().data * 5000
    assert "more than 4096 interfaces" in error_of(made.data)


VALID = write(
    "pcapng",
    [
        Record(0.5, "mcu>module", b"\xff\xff\x00\x05\x07\x01\x00\x00\x0d", {"comment": "hello"}),
        Record(1.5, "module>mcu", b"\xff\xff\x00\x05\x08\x01\x00\x00\x0e"),
    ],
)


@given(
    st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0),
)
def test_a_damaged_file_gives_records_or_one_kind_of_error(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(VALID)
    for position, value in changes:
        data[position] = value
    for broken in (bytes(data), bytes(data[: cut % len(data)])):
        try:
            items = read("pcapng", broken)
        except CaptureError:
            continue
        assert all(isinstance(item, Record | Other) for item in items)


def test_many_small_options_take_linear_time() -> None:
    made = Made().section().interface()
    made.packet(b"\x01", options=made.option(3, b"") * 50_000)
    assert len(records_of(made)) == 1


@given(st.integers(0, 2**33 * 10**6), st.sampled_from(["mcu>module", "module>mcu", None]))
def test_every_microsecond_survives(time: int, direction: Direction | None) -> None:
    record = Record(time / 10**6, direction, b"\x01")
    assert read("pcapng", write("pcapng", [record])) == [record]


@pytest.mark.parametrize("comment", ["", "粉色\x00", "x" * 65535])
def test_comments_round_trip(comment: str) -> None:
    record = Record(0.5, "mcu>module", b"", {"comment": comment})
    assert read("pcapng", write("pcapng", [record])) == [record]


@pytest.mark.parametrize(
    ("record", "lost"),
    [
        (Record(0.123_456_78, "mcu>module", b""), {"fractions of a microsecond": 1}),
        (Record(None, "mcu>module", b""), {"unknown times (written as 0)": 1}),
        (Record(0.0, None, b"", {"comment": "x" * 65536}), {"other members": 1}),
        (Record(0.0, None, b"", {"comment": "\ud800"}), {"other members": 1}),
        (Record(0.0, None, b"", {"comment": 5, "note": "x"}), {"other members": 2}),
        (Record(None, None, b"", {"comment": "a simple packet has no options"}), {"other members": 1}),
        (Record(MAX_TIME, None, b"", {"comment": "x"}), {}),
    ],
)
def test_what_a_packet_cannot_hold_is_counted(record: Record, lost: dict[str, int]) -> None:
    writer = pcapng.PcapngWriter(io.BytesIO(), "out")
    writer.write(record)
    assert writer.losses == lost


def test_a_chunk_longer_than_a_packet_becomes_several() -> None:
    items = read("pcapng", write("pcapng", [Record(0.5, "mcu>module", bytes(600_000))]))
    assert [len(item.data) for item in only_records(items)] == [262144, 262144, 600_000 - 2 * 262144]
    assert {(item.t, item.direction) for item in only_records(items)} == {(0.5, "mcu>module")}


def tshark(path: Path) -> list[dict[str, list[str]]]:
    """What Wireshark's terminal program reads in a file."""
    program = shutil.which("tshark")
    if program is None:
        pytest.skip("tshark is not installed (apt-get install tshark)")
    fields = [
        "frame.time_epoch",
        "frame.packet_flags_direction",
        "frame.encap_type",
        "data.data",
        "frame.comment",
    ]
    command = [program, "-n", "-r", str(path), "-T", "json"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return [packet["_source"]["layers"] for packet in json.loads(done.stdout)]


def test_wireshark_opens_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "written.pcapng"
    records = [
        Record(0.150573, "module>mcu", bytes.fromhex("ffff0005070100000d"), {"comment": "heartbeat"}),
        Record(1_700_000_000.000001, "mcu>module", bytes.fromhex("ffff0005080100000e")),
    ]
    path.write_bytes(write("pcapng", records))
    first, second = tshark(path)
    assert float(first["frame.time_epoch"][0]) == 0.150573
    assert first["data.data"] == ["ffff0005070100000d"]
    assert first["frame.comment"] == ["heartbeat"]
    assert int(first["frame.packet_flags_direction"][0], 0) == 1
    assert second["frame.time_epoch"][0].startswith("1700000000.000001")
    assert second["data.data"] == ["ffff0005080100000e"]
    assert int(second["frame.packet_flags_direction"][0], 0) == 2


def test_wireshark_opens_packets_without_time_and_the_capture_of_our_own(
    tmp_path: Path, fixtures: Path
) -> None:
    path = tmp_path / "simple.pcapng"
    path.write_bytes(write("pcapng", [Record(None, None, bytes(range(7)))]))
    assert [packet["data.data"] for packet in tshark(path)] == [["00010203040506"]]
    assert len(tshark(fixtures / "captures" / "pet-house.pcapng")) == 10
