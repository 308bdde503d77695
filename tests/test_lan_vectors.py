"""Every frame of lan.md §10, in both directions, and what a stream makes of them however it is cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gizserial.errors import EncodeError
from gizserial.lan import messages
from gizserial.lan.commands import COMMANDS, command_name
from gizserial.lan.framing import MAX_JUNK, Junk, LanFramer, decode_datagram, encode_frame
from gizserial.m2m.frames import BadMessage, BusinessFrame

VECTORS = json.loads((Path(__file__).parents[1] / "fixtures" / "vectors" / "lan.json").read_text("utf-8"))
FRAMES = VECTORS["frames"]
frames = st.one_of(
    st.builds(BusinessFrame, st.sampled_from([0x03, 0x15, 0x90, 0x91, 0xFF]), st.binary(max_size=300)),
    st.builds(
        BusinessFrame, st.sampled_from([0x93, 0x94]), st.binary(max_size=300), st.integers(0, 0xFFFFFFFF)
    ),
)


def announcement(values: dict[str, Any]) -> messages.Announcement:
    return messages.Announcement(**{**values, "attributes": bytes.fromhex(values["attributes"])})


def body_of(kind: str, value: Any) -> bytes | None:
    match kind:
        case "announcement":
            return announcement(value).body()
        case "onboarded":
            return messages.Onboarded(**value).body()
        case "router":
            return messages.RouterData(**value).body()
        case "passcode":
            return messages.passcode_body(value)
        case "hotspots":
            return messages.hotspots_body(messages.Hotspot(*each) for each in value)
        case "info":
            return messages.ModuleInfo(**value).body()
        case "read_ids":
            return messages.read_all(value)
        case "p0":
            return bytes.fromhex(value)
    return None


def read_back(kind: str, body: bytes) -> Any:
    readers: dict[str, Any] = {
        "announcement": messages.read_announcement,
        "onboarded": messages.read_onboarded,
        "router": messages.read_router_data,
        "passcode": messages.read_passcode,
        "info": messages.read_info,
    }
    return readers[kind](body)


@pytest.mark.parametrize("row", FRAMES, ids=lambda row: row["id"])
def test_vector(row: dict[str, Any]) -> None:
    wire = bytes.fromhex(row["wire"])
    (frame,) = LanFramer().feed(wire)
    assert isinstance(frame, BusinessFrame)
    assert frame.command == row["command"]
    assert row["command"] in COMMANDS
    content = row.get("body", {})
    assert frame.sn == content.get("sn")
    if row["id"] != "10b":  # the one frame whose length is wrong
        assert decode_datagram(wire) == frame
        assert encode_frame(frame.command, frame.payload, frame.sn) == wire
    for kind, value in content.items():
        if kind == "sn":
            continue
        assert body_of(kind, value) == frame.payload
        match kind:
            case "hotspots":
                assert messages.read_hotspots(frame.payload) == [messages.Hotspot(*each) for each in value]
            case "announcement":
                assert read_back(kind, frame.payload) == announcement(value)
            case "onboarded":
                assert read_back(kind, frame.payload) == messages.Onboarded(**value)
            case "router":
                assert read_back(kind, frame.payload) == messages.RouterData(**value)
            case "passcode":
                assert read_back(kind, frame.payload) == value
            case "info":
                assert read_back(kind, frame.payload) == messages.ModuleInfo(**value)


@pytest.mark.parametrize("row", [*VECTORS["negative"], *VECTORS["streams"]], ids=lambda row: row["meaning"])
def test_streams_and_what_is_no_frame(row: dict[str, Any]) -> None:
    framer = LanFramer()
    items = framer.feed(bytes.fromhex(row["wire"]))
    assert [item.command for item in items if isinstance(item, BusinessFrame)] == row["commands"]
    assert framer.failure is None


def test_every_frame_of_the_document_at_once_and_byte_by_byte() -> None:
    """Behind each other the two malformed frames of GAgent 04020006 do not swallow what follows."""
    wire = b"".join(bytes.fromhex(row["wire"]) for row in FRAMES)
    wanted = [row["command"] for row in FRAMES]
    assert [item.command for item in LanFramer().feed(wire) if isinstance(item, BusinessFrame)] == wanted
    framer = LanFramer()
    got = [item for byte in wire for item in framer.feed(bytes((byte,)))]
    assert [item.command for item in got if isinstance(item, BusinessFrame)] == wanted
    assert framer.waiting == 0


def test_module_information_that_announces_32_bytes_too_many() -> None:
    """L4: 92 bytes are the whole frame when L is 0x77 and the length of the firmware version is 0."""
    row = next(row for row in FRAMES if row["id"] == "14b")
    wire = bytearray.fromhex(row["wire"])
    wire[4] = 0x77
    heartbeat = bytes.fromhex("0000000303000016")
    info, after = LanFramer().feed(bytes(wire) + heartbeat)
    assert isinstance(info, BusinessFrame)
    assert isinstance(after, BusinessFrame)
    assert messages.read_info(info.payload) == messages.ModuleInfo(**row["body"]["info"])
    assert after.command == 0x16


@given(st.lists(frames, max_size=6), st.data())
def test_any_chunking_gives_the_same_frames(sent: list[BusinessFrame], data: st.DataObject) -> None:
    wire = b"".join(frame.encode() for frame in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    framer = LanFramer()
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        got += framer.feed(wire[start:end])
    assert got == sent


@given(st.binary(max_size=60).filter(lambda junk: b"\0" not in junk), frames)
def test_it_finds_the_next_frame(junk: bytes, frame: BusinessFrame) -> None:
    got = LanFramer().feed(junk + frame.encode())
    assert got[-1] == frame
    assert b"".join(item.data for item in got if isinstance(item, Junk)) == junk


@given(st.binary(max_size=400))
def test_no_bytes_raise(data: bytes) -> None:
    LanFramer().feed(data)
    frame = decode_datagram(b"\0\0\0\x03" + data)
    for body in (data, frame.payload if frame else b""):
        messages.read_announcement(body)
        messages.read_onboarded(body)
        messages.read_router_data(body)
        messages.read_passcode(body)
        messages.read_hotspots(body)
        messages.read_info(body)


def failed(framer: LanFramer) -> bool:
    return framer.failure is not None


def test_junk_and_lengths_have_an_end() -> None:
    framer = LanFramer()
    for _ in range(MAX_JUNK // 1024):
        framer.feed(b"x" * 1024)
    assert not failed(framer)
    framer.feed(b"x")
    assert failed(framer)
    assert framer.feed(bytes.fromhex("0000000303000003")) == []
    for length in ("ffffffff01", "ffffff7f"):
        framer = LanFramer()
        framer.feed(bytes.fromhex("00000003" + length))
        assert framer.failure is not None
        assert framer.waiting == 0


def test_frames_too_short_for_what_they_need() -> None:
    for wire in ("000000030200009", "0000000305000093aabb"):
        (item, *_rest) = LanFramer().feed(bytes.fromhex(wire.ljust(len(wire) + len(wire) % 2, "0")))
        assert isinstance(item, BadMessage)


def test_any_flag_is_accepted() -> None:
    """L9: some devices set it on reports."""
    (frame,) = LanFramer().feed(bytes.fromhex("000000030401009004"))
    assert isinstance(frame, BusinessFrame)
    assert (frame.flag, frame.payload, frame.sub_did) == (1, b"\x04", None)


def test_the_tail_may_end_anywhere() -> None:
    """§3.2: optional at every step, and bytes after it are ignored."""
    row = next(row for row in FRAMES if row["id"] == "4")
    whole = bytes.fromhex(row["wire"])[8:]
    required = len(whole) - 33 - 8
    for end in range(required, len(whole)):
        found = messages.read_announcement(whole[:end])
        assert found is not None
        assert found.did == VECTORS["identity"]["did"]
    assert messages.read_announcement(whole + b"more") == announcement(row["body"]["announcement"])
    assert messages.read_announcement(whole[: required - 1]) is None


def test_router_data_with_short_lengths() -> None:
    """§5: newer modules have one-byte lengths and a user id."""
    short = messages.RouterData("home", "12345678", short=True, user="u1")
    assert short.body() == b"\x04home\x0812345678\x02u1"
    assert messages.read_router_data(short.body() + b"tail") == short
    assert messages.read_router_data(b"\0\x04home\0\x0812345678tail") == messages.RouterData(
        "home", "12345678"
    )


def test_reads() -> None:
    assert messages.read_all() == b"\x02"
    assert messages.read_all([0, 9], sn=7) == bytes.fromhex("53 00000007 00 0002 0201")
    with pytest.raises(EncodeError):
        messages.read_all([])


def test_names() -> None:
    assert (command_name(0x0094), command_name(0x7777)) == ("ack", "unknown")
