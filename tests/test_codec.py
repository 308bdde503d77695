"""Frames as messages: the examples of the command line contract, and bodies of every command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gizserial.capture.record import Record
from gizserial.codec import Codec
from gizserial.commands import COMMANDS, FRAMES, Command, Role
from gizserial.describe import Described, describe, headline, render, to_json, tree
from gizserial.encoding import encode
from gizserial.framing import Frame, Framer
from gizserial.io.products import load_product
from gizserial.p0 import Action
from gizserial.product import DataPoint
from gizserial.streams import describe_records


@pytest.fixture(scope="session")
def pet(fixtures: Path) -> Codec:
    return Codec(load_product(fixtures / "products" / "pet-house.json"))


@pytest.fixture(scope="session")
def var_len(fixtures: Path) -> Codec:
    return Codec(load_product(fixtures / "products" / "var-len.json"))


def decode_hex(codec: Codec, text: str) -> dict[str, Any]:
    [item] = _items(bytes.fromhex(text))
    return to_json(describe(item, codec))


def _items(wire: bytes) -> list[Any]:
    framer = Framer(hold_noise=True)
    return framer.feed(wire) + framer.flush()


def test_the_examples_of_the_contract(vectors: Callable[[str], Any], pet: Codec, var_len: Codec) -> None:
    for group, codec in zip(vectors("decode_json.json")["groups"], (pet, var_len), strict=True):
        objects = group["objects"]
        records = [Record(o["t"], o["dir"], bytes.fromhex(o["wire"])) for o in objects]
        got = {(d["dir"], d["offset"]): d for d in map(to_json, describe_records(records, codec))}
        for expected in objects:
            # One example per line of the contract; a stretch that follows may belong to another example.
            actual = got[expected["dir"], expected["offset"]]
            assert actual == expected
            assert list(actual)[:6] == ["kind", "t", "dir", "offset", "length", "wire"]


def test_every_vector_is_a_known_command(vectors: Callable[[str], Any]) -> None:
    codec = Codec()
    for row in vectors("serial_frames.json")["frames"]:
        if "bad" in row:
            continue
        logical = bytes.fromhex(row["logical"])
        frame = Frame(logical[4], logical[5], logical[8:-1], int.from_bytes(logical[6:8], "big"))
        message = codec.decode(frame)
        assert message.name != "unknown", row["id"]
        assert message.error is None, row["id"]
        assert message.warnings == [], (row["id"], message.warnings)


MEANINGS: list[tuple[str, str, dict[str, Any]]] = [
    ("V18", "provision", {"mode": 2}),
    ("V23", "status", {"status": 2, "station": True, "soft_ap": False}),
    ("V40", "status", {"status": 0x0D, "soft_ap": True, "onboarding": True, "binding": True}),
    ("V48", "status", {"station": True, "binding": True, "router": True, "rssi": 7, "cloud": False}),
    ("V49", "status", {"cloud": True}),
    ("V98", "illegal_frame_from_module", {"code": 1}),
    ("V99", "illegal_frame_from_mcu", {"code": 2}),
    ("V101", "status", {"station": True, "router": True, "cloud": True, "rssi": 3, "app": True}),
    ("V102", "status", {"test": True, "station": True}),
    (
        "V103",
        "provision",
        {"mode": 4, "ssid": "Home", "password": "pass1234", "bssid": "1ccf7fb6bbff"},
    ),
    (
        "V108",
        "network_time_ack",
        {
            "year": 2024,
            "month": 3,
            "day": 14,
            "hour": 12,
            "minute": 23,
            "second": 19,
            "timestamp": 1710390199,
        },
    ),
    ("V110", "module_info", {"type": 0}),
    (
        "V111",
        "module_info_ack",
        {
            "type": 1,
            "protocol_ver": "00000004",
            "hard_ver": "00ESP826",
            "soft_ver": "04020035",
            "mac": "2C3AE8012345",
            "ip": "192.168.1.20",
            "dev_attr": "0000000000000002",
        },
    ),
    ("V114", "file_announce", {"size": 200, "md5": "fb7001d34b8e82c9b579be5005d5b0a5"}),
    ("V116", "file_ready", {"md5": "fb7001d34b8e82c9b579be5005d5b0a5", "piece_size": 128, "hex": False}),
    (
        "V118",
        "file_piece",
        {"number": 2, "count": 2, "data": bytes(range(0x80, 0xC8)).hex(), "hex": False, "last": False},
    ),
    (
        "V38",
        "device_info_ack",
        {
            "protocol_ver": "00000004",
            "p0_ver": "00000002",
            "hard_ver": "00000000",
            "soft_ver": "00000000",
            "product_key": "fcbd40f1aa04404eb193dc3f82125e7f",
            "bind_time": 0,
            "dev_attr": "0000000000000000",
            "product_secret": "b561bd2698fa4d9487f556c789ffa5cd",
            "data": {"cfgMode": "1", "apName0": "John"},
        },
    ),
    ("V97", "p0_from_mcu", {"data": "ff55ffff"}),
    ("V33", "p0_to_mcu", {"data": "11223344556677"}),
]


@pytest.mark.parametrize(("number", "name", "fields"), MEANINGS, ids=[row[0] for row in MEANINGS])
def test_what_the_vectors_say(
    vectors: Callable[[str], Any], number: str, name: str, fields: dict[str, Any]
) -> None:
    [row] = [row for row in vectors("serial_frames.json")["frames"] if row["id"] == number]
    logical = bytes.fromhex(row["logical"])
    frame = Frame(logical[4], logical[5], logical[8:-1], int.from_bytes(logical[6:8], "big"))
    got = to_json(describe(frame, Codec()))
    assert got["name"] == name
    assert got["fields"] | fields == got["fields"]
    if name != "status":
        assert got["fields"] == fields


def test_attributes_of_the_worked_examples(pet: Codec, var_len: Codec) -> None:  # serial.md §8.1, §8.3
    control = decode_hex(pet, "FFFF000C03420000012707C80000074F")
    assert control["attrs"] == {"LED_OnOff": True, "LED_Color": "粉色", "LED_R": 200, "Motor_Speed": 2}
    change = decode_hex(var_len, "FFFF000B05090000140082010229DB")
    assert change["attrs"] == {"Alarm": True, "Temp": 25.3}
    assert var_len.product is not None
    points = var_len.product.by_name
    both = decode_hex(var_len, "FFFF000C03020000110230 14 01FF550068")
    assert both["attrs"] == {
        "Mode": points["Mode"].texts[4],
        "Fan": points["Fan"].texts[2],
        "Tag": "01ff00",
    }
    every = Frame(0x04, 4, bytes.fromhex("1303FF01455002290001E24001FF00"))
    raw = to_json(describe(every, var_len))["raw"]
    assert raw == {
        "Switch": 1,
        "Alarm": 0,
        "Door": 1,
        "Err": 0,
        "Mode": 4,
        "Fan": 2,
        "Bright": 80,
        "Temp": 553,
        "Energy": 123456,
        "Tag": "01ff00",
    }
    padded = Frame(0x05, 4, bytes.fromhex("14FFFF01455002290001E24001FF00"))
    assert to_json(describe(padded, var_len))["raw"] == raw  # the SDK sets the padding flags too


def test_flags_are_one_big_endian_integer(fixtures: Path) -> None:  # serial.md §8.2
    codec = Codec(load_product(fixtures / "products" / "wide-bits.json"))
    frame = encode(codec, "control", ["Mode=3", "Linkage=2", "AutoMode=5"])
    writable = codec.p0.data_points.writable.size
    flags = codec.p0.data_points.flag_bytes
    assert len(frame.payload) == 1 + flags + writable
    assert frame.payload[flags] == 0xE0
    assert frame.payload[1 + flags : 3 + flags] == bytes.fromhex("0B60")
    status = bytes.fromhex("0203") + bytes(codec.p0.data_points.dev_status.size - 2)
    attrs = to_json(describe(Frame(0x05, 0, b"\x04" + status), codec))["raw"]
    assert (attrs["SwitchON"], attrs["PulseTide"], attrs["AutoMode"], attrs["Mode"]) == (1, 1, 1, 0)


@pytest.mark.parametrize(
    ("payload", "command", "warning"),
    [
        ("99", 0x03, "unknown action 99"),
        ("1101", 0x03, "action 11 belongs to variable-length products"),
        ("04", 0x03, "action 04 does not go with frame 03"),
    ],
)
def test_an_action_that_is_not_read(pet: Codec, payload: str, command: int, warning: str) -> None:
    got = to_json(describe(Frame(command, 0, bytes.fromhex(payload)), pet))
    assert got["kind"] == "frame"
    assert got["action"] == int(payload[:2], 16)
    assert got["warnings"] == [warning]
    assert "attrs" not in got


def test_a_flagged_point_that_cannot_be_controlled_is_listed(var_len: Codec) -> None:
    got = to_json(describe(Frame(0x03, 0, bytes.fromhex("11000401")), var_len))
    assert got["attrs"] == {"Door": True}
    assert got["warnings"] == ["Door is flagged in a control but is not writable"]


def test_values_out_of_the_definitions_range_are_told(pet: Codec) -> None:
    # LED_R has at most 254, Motor_Speed at most raw 10.
    got = to_json(describe(Frame(0x05, 0, bytes.fromhex("04 00FF00000B 000000 00 00")), pet))
    assert got["raw"]["LED_R"] == 255
    assert got["raw"]["Motor_Speed"] == 11
    assert len(got["warnings"]) == 2


def test_tails_and_missing_parts(pet: Codec) -> None:
    long = to_json(describe(Frame(0x05, 0, b"\x04" + bytes(12)), pet))
    assert long["warnings"] == ["2 bytes after the last field ignored"]
    body = to_json(describe(Frame(0x07, 0, b"\x01"), pet))
    assert body["warnings"] == ["1 byte on a frame without body ignored"]
    short = to_json(describe(Frame(0x02, 0, bytes(65)), pet))
    assert (short["kind"], short["error"]) == ("error", "payload")
    assert "fields" not in short


@pytest.mark.parametrize("size", [66, 74, 106, 109])
def test_device_information_variants(size: int) -> None:  # serial.md §4.1: A to D, decided by length
    payload = (
        b"00000004"
        b"00000002"
        b"HARD0001"
        b"SOFT0001" + b"k" * 32 + bytes((1, 2)) + bytes(8) + b"s" * 32 + bytes((0, 1)) + b"x"
    )[:size]
    got = to_json(describe(Frame(0x02, 0, payload), Codec()))
    assert got["warnings"] == []
    assert got["fields"]["bind_time"] == 258
    assert ("dev_attr" in got["fields"]) == (size >= 74)
    assert ("product_secret" in got["fields"]) == (size >= 106)
    assert ("data" in got["fields"]) == (size >= 108)


def test_a_data_field_that_runs_over_is_ignored() -> None:
    payload = bytes(106) + bytes((0, 9)) + b"a=b"
    got = to_json(describe(Frame(0x02, 0, payload), Codec()))
    assert got["kind"] == "frame"
    assert "data" not in got["fields"]
    assert got["warnings"] == ["5 bytes after the last field ignored"]


def test_cellular_module_information() -> None:  # observed.md: the GPRS build answers 83 bytes
    words = [
        "type=2",
        "protocol_ver=00000004",
        "hard_ver=GPRS0001",
        "soft_ver=04020006",
        "dev_attr=00",
        "imei=123456789012345",
        "imsi=1",
        "mcc=460",
        "mnc=0",
        "cells=[]",
    ]
    frame = encode(Codec(), "module_info_ack", words)
    assert len(frame.payload) == 83
    with_cells = encode(
        Codec(), "module_info_ack", [*words[:-1], 'cells=[{"lac":1,"cell_id":"0x10","rssi":3}]']
    )
    got = to_json(describe(with_cells, Codec()))
    assert got["fields"]["cells"] == [{"lac": 1, "cell_id": 16, "rssi": 3}]


def test_sub_device_and_gateway_frames(pet: Codec) -> None:
    frame = encode(pet, "control", ["LED_OnOff=1", "did=abc"], sn=3)
    assert frame.flags == 1
    got = to_json(describe(frame, pet))
    assert got["fields"] == {"did": "abc"}
    assert got["attrs"] == {"LED_OnOff": True}
    ack = to_json(describe(Frame(0x04, 3, b"\x03abc", 1), pet))
    assert ack["fields"] == {"did": "abc"}
    assert "action" not in ack
    cut = to_json(describe(Frame(0x03, 3, b"\x09abc", 1), pet))
    assert cut["error"] == "payload"
    mesh = encode(Codec(), "p0_to_mcu", ["action=0x72", 'devices=[{"mesh_id":"7","body":"01ff"}]'])
    assert mesh.payload == bytes.fromhex("72 0001 01 37 0002 01ff")
    assert to_json(describe(mesh, Codec()))["fields"] == {"devices": [{"mesh_id": "7", "body": "01ff"}]}
    online = encode(Codec(), "p0_from_mcu", ["action=0x71", 'devices=[{"mesh_id":"7","online":true}]'])
    assert to_json(describe(online, Codec()))["fields"] == {"devices": [{"mesh_id": "7", "online": True}]}


def test_directions() -> None:
    assert Codec().decode(Frame(0x07, 0)).direction == "module>mcu"
    assert Codec().decode(Frame(0x08, 0)).direction == "mcu>module"
    assert Codec().decode(Frame(0x19, 0, bytes(38))).direction is None
    assert Codec().decode(Frame(0x2B, 0)).direction is None
    other = Codec().decode(Frame(0x07, 0), "mcu>module")
    assert other.warnings == ["heartbeat is a frame of the other direction"]


def test_the_table() -> None:  # serial.md §2, cli.md §6
    assert len(FRAMES) == 2 * len(COMMANDS) - 3  # 11, 12 and 50 have no ack
    assert {spec.command for spec in COMMANDS.values()} == set(Command)
    assert FRAMES[0x04].name == "p0_to_mcu_ack"
    assert FRAMES[0x04].sender is Role.MCU
    assert FRAMES[0x12].name == "illegal_frame_from_mcu"


def test_every_command_round_trips_empty_or_opaque() -> None:
    for spec in FRAMES.values():
        got = to_json(describe(Frame(spec.id, 1, b""), Codec()))
        assert got["name"] == spec.name


@pytest.mark.parametrize("cut", range(16))
def test_the_tree_shows_every_byte(pet: Codec, cut: int) -> None:
    whole = bytes.fromhex("FFFF000C03420000012707C8FF550007")
    wire = whole[:cut] if cut else bytes.fromhex("FFFF0010051000000407C800000701263C010A6D")
    for item in _items(wire):
        described = describe(item, pet)
        assert b"".join(node.wire for node in tree(described)) == item.wire
        here = item.offset
        for node in tree(described):
            assert node.offset == here
            here += len(node.wire)
        assert render(described)
        assert headline(described)


def test_the_tree_of_a_control(pet: Codec) -> None:
    [item] = _items(bytes.fromhex("FFFF000C03420000012707C80000074F"))
    text = render(Described(item, pet.decode(item), 1.5, "module>mcu"))
    assert text.splitlines()[0] == "1.500000 s  p0_to_mcu (03)  sn 66  module>mcu  at byte 0, 16 bytes"
    assert "LED_Color  粉色 (raw 3)" in text
    assert "LED_G  not flagged, ignored" in text
    assert "Motor_Speed  2 (raw 7)" in text


def test_the_real_capture(samples: Path) -> None:
    """A recording of the vendor's MCU SDK decodes to the values that its C code had."""
    from gizserial.capture.formats import format_of

    codec = Codec(load_product(samples / "capture-pet-product.json"))
    path = samples / "capture-pet.jsonl"
    with path.open("rb") as file:
        capture = format_of(str(path)).read(file, "capture")
        meta = capture.meta
        described = list(describe_records(capture.records(), codec))
    assert meta is not None
    expected = meta.members["expected"]
    assert isinstance(expected, list)
    assert expected
    by_frame = {(d.direction, d.item.wire.hex().replace("ff55", "ff")): to_json(d) for d in described}
    product = codec.product
    assert product is not None
    by_wire = {(d.direction, d.item.wire.hex()): to_json(d) for d in described}
    for row in (row for row in expected if "wire" in row):
        control = by_wire[row["dir"], row["wire"]]
        values = {name: row["values"][name] for name in row["names"]}
        assert set(control["attrs"]) == set(row["names"])
        assert {name: _as_c_prints(product.point(name), control, name) for name in values} == {
            name: int(value) if product.point(name).scale is None else value for name, value in values.items()
        }
    frames = [row for row in expected if "frame" in row]
    for row in frames:
        values = {
            name: value if product.point(name).scale is not None else int(value)
            for name, value in row["values"].items()
        }
        got = by_frame[row["dir"], row["frame"]]
        if got["action"] == Action.RAW_FROM_MCU:
            continue  # carries no data points
        shown = {name: _as_c_prints(product.point(name), got, name) for name in got["attrs"]}
        assert shown == {name: values[name] for name in shown}


def _as_c_prints(point: DataPoint, got: dict[str, Any], name: str) -> Any:
    """Numbers as real values, bool and enum as integers: as the meta line of the capture has them."""
    return got["attrs"][name] if point.scale is not None else got["raw"][name]


def _encoded_again(codec: Codec, frame: Frame) -> Frame | None:
    """The frame that its own description makes; None when the original is not canonical."""
    got = to_json(describe(frame, codec))
    if got["kind"] != "frame" or got["warnings"] or got["name"] == "unknown":
        return None
    words = [f"{k}={_typed(v)}" for k, v in got.get("fields", {}).items()]
    words += [f"{k}={_typed(v)}" for k, v in got.get("attrs", {}).items()]
    if got.get("action") is not None:
        words.append(f"action={got['action']}")
    return encode(codec, got["name"], words, sn=frame.sn)


def test_the_capture_encodes_again_to_the_same_bytes(samples: Path) -> None:
    from gizserial.capture.formats import format_of

    codec = Codec(load_product(samples / "capture-pet-product.json"))
    path = samples / "capture-pet.jsonl"
    with path.open("rb") as file:
        items = [d.item for d in describe_records(format_of(str(path)).read(file, "c").records(), codec)]
    frames = [item for item in items if isinstance(item, Frame) and not item.flags]
    again = [(frame, _encoded_again(codec, frame)) for frame in frames]
    assert [frame for frame, same in again if same is not None] == [
        same for _, same in again if same is not None
    ]
    assert sum(same is not None for _, same in again) > 200


def test_decoding_then_encoding_gives_the_same_bytes(vectors: Callable[[str], Any], pet: Codec) -> None:
    """Whenever the original is canonical: no warnings and no unknown parts."""
    wires = [bytes.fromhex(r["logical"]) for r in vectors("serial_frames.json")["frames"] if "bad" not in r]
    frames = [Frame(w[4], w[5], w[8:-1], int.from_bytes(w[6:8], "big")) for w in wires]
    again = [(frame, _encoded_again(pet, frame)) for frame in frames]
    assert [frame for frame, same in again if same is not None] == [
        same for _, same in again if same is not None
    ]
    assert sum(same is not None for _, same in again) > 90  # the others belong to other products


def _typed(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "&".join(f"{k}={v}" for k, v in value.items())
    return json.dumps(value) if isinstance(value, list) else str(value)
