from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gizserial.errors import EncodeError
from gizserial.m2m import mqtt31
from gizserial.m2m.frames import BusinessFrame
from gizserial.m2m.mqtt31 import (
    FROM_CLIENT,
    FROM_SERVER,
    BadPacket,
    ConnAck,
    Connect,
    Packet,
    PacketReader,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    Unsubscribe,
    Will,
)
from gizserial.m2m.topics import app2dev, dev2app, module_subscriptions

DID = "SimDid0123456789ABCDEF"
PK = "0123456789abcdef" * 2
CLIENT = "usr6U9jtyINX27hmwBGLV05"
TOPICS = module_subscriptions(DID, PK)

EXPECTED: dict[str, Packet] = {
    "1": Connect(DID, DID, b"ABCDEFGHIJ"),
    "2": ConnAck(),
    "3": Subscribe(1, ((TOPICS[0], 0),)),
    "4": Subscribe(2, ((TOPICS[1], 0),)),
    "5": Subscribe(3, ((TOPICS[2], 0),)),
    "6.1": SubAck(1, b"\x00"),
    "6.2": SubAck(2, b"\x00"),
    "6.3": SubAck(3, b"\x00"),
    "8": Publish(app2dev(DID, CLIENT), BusinessFrame(0x93, b"\x01\x01\x01", 1).encode()),
    "10": Publish(dev2app(DID, CLIENT), BusinessFrame(0x94, b"", 1).encode()),
    "13": Publish(dev2app(DID), BusinessFrame(0x91, bytes.fromhex("030302dc089d00000000")).encode()),
    "16": Publish(dev2app(DID), BusinessFrame(0x91, b"\x04" + bytes(range(200))).encode()),
    "17": PingReq(),
    "17.2": PingResp(),
    "18": Publish("cli2ser_req", bytes.fromhex("00000003020f")),
    "C1": Publish("ser2cli_res/DrfomHVPFi7ALnZrA6NE6R", bytes.fromhex("0000000302100001")),
    "C2": Publish(
        "ser2cli_res/ZoK6mEbh3QK9MWpps6jWFS",
        bytes.fromhex("000000030211010016") + b"sMuYsDb4kenk9xUYFwowNT",
    ),
    "C3": Publish(app2dev("DrfomHVPFi7ALnZrA6NE6R", CLIENT), BusinessFrame(0x90, b"\x02").encode()),
}

ids = st.integers(0, 0xFFFF)
short_texts = st.text(max_size=12)
topic_names = st.text(min_size=1, max_size=12)
packets: st.SearchStrategy[Packet] = st.one_of(
    st.builds(
        Connect,
        short_texts,
        st.none() | short_texts,
        st.none() | st.binary(max_size=12),
        keep_alive=ids,
        clean=st.booleans(),
        will=st.none()
        | st.builds(Will, short_texts, st.binary(max_size=5), st.integers(0, 2), st.booleans()),
    ),
    st.builds(Connect, short_texts, protocol=st.just("MQTT"), level=st.just(4)),
    st.builds(ConnAck, st.integers(0, 5), st.integers(0, 1)),
    st.builds(Publish, topic_names, st.binary(max_size=300), retain=st.booleans()),
    st.builds(
        Publish, topic_names, st.binary(max_size=9), st.integers(1, 2), ids, st.booleans(), st.booleans()
    ),
    st.builds(
        Subscribe, ids, st.lists(st.tuples(topic_names, st.integers(0, 2)), min_size=1, max_size=3).map(tuple)
    ),
    st.builds(SubAck, ids, st.binary(max_size=3)),
    st.builds(Unsubscribe, ids, st.lists(topic_names, min_size=1, max_size=3).map(tuple)),
    *(
        st.builds(cls, ids)
        for cls in (mqtt31.PubAck, mqtt31.PubRec, mqtt31.PubRel, mqtt31.PubComp, mqtt31.UnsubAck)
    ),
    st.sampled_from([PingReq(), PingResp(), mqtt31.Disconnect()]),
)


def chop(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks = []
    for size in sizes:
        chunks.append(data[:size])
        data = data[size:]
    return [*chunks, data]


def test_every_packet_vector(vectors: Callable[[str], Any]) -> None:
    rows = vectors("device_cloud.json")["packets"]
    assert {row["id"] for row in rows} == set(EXPECTED)
    for row in rows:
        expected = EXPECTED[row["id"]]
        wire = expected.encode()
        if "hex" in row:
            assert wire.hex() == row["hex"], row["id"]
        else:
            assert wire.hex().startswith(row["starts"])
            assert len(wire) == row["total"]
        (packet,) = PacketReader().feed(wire)
        assert packet == expected, row["id"]
        assert isinstance(packet, Packet)
        assert packet.wire == wire


@given(st.lists(packets, max_size=6), st.lists(st.integers(0, 40), max_size=30))
def test_any_chunking_gives_the_same_packets(sent: list[Packet], sizes: list[int]) -> None:
    wire = b"".join(packet.encode() for packet in sent)
    reader = PacketReader()
    got = [packet for chunk in chop(wire, sizes) for packet in reader.feed(chunk)]
    assert got == sent
    assert reader.buffered == 0


@given(st.lists(packets, max_size=3), st.binary(max_size=200), st.lists(st.integers(0, 20), max_size=30))
def test_garbage_never_raises_and_is_the_same_in_any_chunks(
    sent: list[Packet], junk: bytes, sizes: list[int]
) -> None:
    wire = b"".join(packet.encode() for packet in sent) + junk
    whole, pieces = PacketReader(max_remaining=500), PacketReader(max_remaining=500)
    at_once = whole.feed(wire)
    in_pieces = [packet for chunk in chop(wire, sizes) for packet in pieces.feed(chunk)]
    # What is shown of a bad packet depends on how much of it had arrived.
    assert [_without_raw(item) for item in in_pieces] == [_without_raw(item) for item in at_once]
    assert at_once[: len(sent)] == sent
    assert whole.failed == pieces.failed
    assert whole.buffered <= 505


def _without_raw(item: Packet | BadPacket) -> Packet | BadPacket:
    return dataclasses.replace(item, raw=b"") if isinstance(item, BadPacket) else item


@given(packets, st.integers(0, 400), st.integers(1, 255))
def test_a_flipped_byte_never_raises(packet: Packet, where: int, flip: int) -> None:
    wire = bytearray(packet.encode())
    wire[where % len(wire)] ^= flip
    PacketReader().feed(wire)


@pytest.mark.parametrize(
    ("hex_text", "reason"),
    [
        ("00", "type"),
        ("f0", "type"),
        ("1100", "type"),
        ("8000", "type"),
        ("30ffffffff", "length"),
        ("30ffffff7f", "length"),
        ("30818008", "length"),
        ("1000", "malformed"),
        ("c00100", "malformed"),
        ("3003000561", "malformed"),
        ("30020000", "malformed"),
        ("36050001610001", "malformed"),
        ("82020001", "malformed"),
        ("8206000100016103", "malformed"),
        ("820500010001ff00", "malformed"),
        ("a2020001", "malformed"),
        ("100c00044d5154540502003c0000", "protocol"),
        ("10080003616263040200", "protocol"),
        ("100e00064d514973647003 03 00780000", "malformed"),
    ],
)
def test_what_is_no_packet(hex_text: str, reason: str) -> None:
    reader = PacketReader()
    result = reader.feed(bytes.fromhex(hex_text))
    assert [type(item) for item in result] == [BadPacket]
    assert isinstance(result[0], BadPacket)
    assert result[0].reason == reason
    assert reader.failed
    assert reader.feed(PingReq().encode()) == []
    assert reader.buffered == 0


def test_each_end_takes_only_what_is_for_it() -> None:
    for packet in EXPECTED.values():
        for accept in (FROM_CLIENT, FROM_SERVER):
            (item,) = PacketReader(accept).feed(packet.encode())
            assert isinstance(item, Packet) == (packet.type in accept)
    assert set(mqtt31.PacketType) == FROM_CLIENT | FROM_SERVER


def test_duplicate_bit_of_mqtt_31_is_accepted() -> None:
    wire = bytearray(EXPECTED["3"].encode())
    wire[0] |= 0x08
    assert PacketReader().feed(wire) == [EXPECTED["3"]]


def test_connect_of_a_311_client_and_its_translation() -> None:
    connect = Connect("app", protocol="MQTT", level=4, keep_alive=60)
    assert connect.encode().hex() == "100f00044d5154540402003c0003617070"
    (read,) = PacketReader().feed(EXPECTED["1"].encode())
    assert isinstance(read, Connect)
    assert read.password == b"ABCDEFGHIJ"
    translated = dataclasses.replace(read, protocol="MQTT", level=4).encode()
    assert translated.hex().startswith("104600044d51545404c20078")


def test_connect_never_shows_its_password() -> None:
    assert "ABCDEFGHIJ" not in repr(EXPECTED["1"])


def test_dummy_will_of_a_cellular_module_is_read() -> None:
    will = Will("WillTopic", b"will message")
    (read,) = PacketReader().feed(Connect(DID, DID, b"ABCDEFGHIJ", will=will).encode())
    assert isinstance(read, Connect)
    assert read.will == will


def test_publish_with_an_id() -> None:
    (read,) = PacketReader().feed(bytes.fromhex("3206000161000562"))
    assert read == Publish("a", b"b", qos=1, packet_id=5)
    assert PubAck(5).encode().hex() == "40020005"


def test_packets_that_cannot_be_made() -> None:
    with pytest.raises(EncodeError, match="PUBLISH"):
        Publish("x" * 65_536, b"").encode()
    with pytest.raises(EncodeError, match="SUBSCRIBE"):
        Subscribe(70_000, (("a", 0),)).encode()
    with pytest.raises(EncodeError, match="PUBLISH"):
        Publish("a", b"", qos=1).encode()


def test_memory_stays_flat() -> None:
    reader = PacketReader(max_remaining=1000)
    unfinished = b"\x30\xe8\x07" + bytes(999)
    reader.feed(unfinished)
    assert reader.buffered == len(unfinished)
    tracemalloc.start()
    for _ in range(300):
        reader = PacketReader(max_remaining=1000)
        reader.feed(b"\xff" * 65_536)
        assert reader.buffered == 0
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
