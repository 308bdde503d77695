from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gizserial.errors import EncodeError, ValueOutOfRange
from gizserial.m2m import frames
from gizserial.m2m.frames import BadMessage, BusinessFrame, decode_control, encode_control
from gizserial.m2m.varlen import MAX_LENGTH, encode_length, read_length

LONG_P0 = b"\x04" + bytes(range(200))

EXPECTED_FRAMES = {
    "7": BusinessFrame(0x93, b"\x01\x01\x01", 1),
    "9": BusinessFrame(0x94, b"", 1),
    "11": BusinessFrame(0x90, b"\x02"),
    "12": BusinessFrame(0x91, bytes.fromhex("030302dc089d00000000")),
    "14": BusinessFrame(0x91),
    "15": BusinessFrame(0x91, LONG_P0),
    "C4": BusinessFrame(0x90, b"\x01\x01\x01"),
}
EXPECTED_CONTROLS: dict[str, frames.Control] = {
    "19": frames.DeviceReset(),
    "20": frames.VersionReport(module="ESP32C3,04X3009R", mcu="00000001,00000002"),
    "21": frames.FirmwareOffer(
        module="ESP32C3,04X30100",
        md5="d41d8cd98f00b204e9800998ecf8427e",
        url="http://ota.local/f.bin",
    ),
    "22": frames.UpgradeProgress(50, "ESP32C3,04X30100", "downloading"),
    "23": frames.AppCount(0),
}

texts = st.text(max_size=40)
optional_texts = st.none() | texts
business_frames = st.one_of(
    st.builds(
        BusinessFrame,
        st.sampled_from([0x90, 0x91, 0x02]),
        st.binary(max_size=400),
        st.none(),
        st.sampled_from([0, 2, 0x80]),
    ),
    st.builds(
        BusinessFrame, st.sampled_from([0x93, 0x94]), st.binary(max_size=400), st.integers(0, 0xFFFFFFFF)
    ),
)
controls = st.one_of(
    st.just(frames.AppCountRequest()),
    st.just(frames.DeviceReset()),
    st.builds(frames.AppCount, st.integers(0, 0xFFFF)),
    st.builds(frames.CheckFirmware, st.integers(0, 255), optional_texts),
    st.builds(frames.G0Versions, texts, st.binary(min_size=8, max_size=8), texts),
    st.builds(frames.G0FirmwareId, st.binary(min_size=8, max_size=8)),
    st.builds(frames.G0FirmwareUrl, st.integers(0, 255), st.integers(0, 0xFFFFFFFF), texts),
    st.builds(frames.VersionReport, sub_did=optional_texts, module=optional_texts, mcu=optional_texts),
    st.builds(
        frames.FirmwareOffer,
        sub_did=optional_texts,
        module=optional_texts,
        mcu=optional_texts,
        md5=optional_texts,
        url=optional_texts,
        https_url=optional_texts,
    ),
    st.builds(frames.UpgradeProgress, st.integers(0, 255), texts, texts),
    st.builds(frames.UnknownControl, st.integers(0x300, 0xFFFF), st.binary(max_size=30)),
)


def test_lengths_of_the_cheat_sheet(vectors: Callable[[str], Any]) -> None:
    for value, hex_text in vectors("device_cloud.json")["lengths"]:
        assert encode_length(value).hex() == hex_text
        assert read_length(bytes.fromhex(hex_text)) == (value, len(hex_text) // 2)


@given(st.integers(0, MAX_LENGTH), st.binary(max_size=3))
def test_every_length_is_read_back(value: int, before: bytes) -> None:
    data = before + encode_length(value)
    assert read_length(data, len(before)) == (value, len(data))
    assert read_length(data[:-1], len(before)) is None


def test_lengths_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="more than four bytes"):
        read_length(b"\x80\x80\x80\x80")
    for value in (-1, MAX_LENGTH + 1):
        with pytest.raises(ValueOutOfRange):
            encode_length(value)


def test_every_business_frame_vector(vectors: Callable[[str], Any]) -> None:
    rows = vectors("device_cloud.json")["frames"]
    assert {row["id"] for row in rows} == set(EXPECTED_FRAMES)
    for row in rows:
        expected = EXPECTED_FRAMES[row["id"]]
        wire = expected.encode()
        if "hex" in row:
            assert wire.hex() == row["hex"], row["id"]
        else:
            assert wire.hex().startswith(row["starts"])
            assert len(wire) == row["total"]
        assert BusinessFrame.decode(wire) == expected, row["id"]


@given(business_frames)
def test_business_frames_round_trip(frame: BusinessFrame) -> None:
    assert BusinessFrame.decode(frame.encode()) == frame


@pytest.mark.parametrize(
    ("hex_text", "reason"),
    [
        ("", "does not begin"),
        ("0000000403000091", "does not begin"),
        ("00000003", "ends inside the length"),
        ("0000000380", "ends inside the length"),
        ("00000003808080800100009100", "more than four bytes"),
        ("00000003020091", "no room for flag and command"),
        ("0000000300", "no room for flag and command"),
        ("0000000306000093000000", "no room for the sn"),
        ("0000000303000094", "no room for the sn"),
        ("0000000304000091", "says 4 bytes, 3 follow"),
        ("000000030300009102", "says 3 bytes, 4 follow"),
    ],
)
def test_broken_business_frames_are_said_to_be_so(hex_text: str, reason: str) -> None:
    result = BusinessFrame.decode(bytes.fromhex(hex_text))
    assert isinstance(result, BadMessage)
    assert reason in result.reason


def test_sub_device_did_is_read_but_never_made() -> None:
    body = bytes.fromhex("01 0090") + b"\x00\x16" + b"S" * 22 + b"\x02"
    frame = BusinessFrame.decode(frames.VERSION + encode_length(len(body)) + body)
    assert frame == BusinessFrame(0x90, b"\x02", flag=1, sub_did="S" * 22)
    with pytest.raises(EncodeError, match="sub-device"):
        BusinessFrame(0x91, sub_did="S" * 22).encode()


def test_flag_without_sub_device_did() -> None:
    # Unsolicited reports of some devices carry flag 1 and no did (chrisc123/gizwits_monitor, R9).
    assert BusinessFrame.decode(bytes.fromhex("0000000305010091 0401")) == BusinessFrame(
        0x91, b"\x04\x01", flag=1
    )
    assert isinstance(BusinessFrame.decode(bytes.fromhex("0000000305010090 0401")), BadMessage)


def test_frames_that_cannot_be_made() -> None:
    for command, sn in ((0x93, None), (0x94, None), (0x90, 1), (0x91, 0)):
        with pytest.raises(EncodeError, match="sn"):
            BusinessFrame(command, b"", sn)
    with pytest.raises(ValueOutOfRange):
        BusinessFrame(0x93, b"", 1 << 32)
    with pytest.raises(ValueOutOfRange):
        BusinessFrame(0x10000)
    assert len(BusinessFrame(0x91, bytes(65_532)).encode()) == 4 + 3 + 65_535
    with pytest.raises(ValueOutOfRange):
        BusinessFrame(0x91, bytes(65_533)).encode()


@given(st.binary(max_size=60), st.booleans())
def test_garbage_never_raises(data: bytes, with_version: bool) -> None:
    data = frames.VERSION + data if with_version else data
    frame = BusinessFrame.decode(data)
    assert isinstance(frame, BusinessFrame | BadMessage)
    decode_control(data)


@given(st.sampled_from(sorted(frames.CONTROLS)), st.binary(max_size=60))
def test_damaged_control_messages_never_raise(command: int, data: bytes) -> None:
    message = decode_control(frames.VERSION + command.to_bytes(2, "big") + data)
    assert isinstance(message, BadMessage | frames.CONTROLS[command].message)


def test_every_control_vector(vectors: Callable[[str], Any]) -> None:
    rows = vectors("device_cloud.json")["controls"]
    assert {row["id"] for row in rows} == set(EXPECTED_CONTROLS)
    for row in rows:
        expected = EXPECTED_CONTROLS[row["id"]]
        assert decode_control(bytes.fromhex(row["hex"])) == expected, row["id"]
        assert encode_control(expected).hex() == row["hex"], row["id"]


@given(controls)
def test_control_messages_round_trip(message: frames.Control) -> None:
    assert decode_control(encode_control(message)) == message


def test_firmware_check_with_and_without_did() -> None:
    # R6: [V4] reads the type only, the real service appends the did.
    assert decode_control(bytes.fromhex("00000003021102")) == frames.CheckFirmware(2)
    assert decode_control(bytes.fromhex("000000030211020016616263")) == frames.CheckFirmware(2)


def test_control_messages_that_cannot_be_made() -> None:
    with pytest.raises(EncodeError):
        encode_control(frames.AppCount(70_000))
    with pytest.raises(EncodeError):
        encode_control(frames.CheckFirmware(256))
    with pytest.raises(EncodeError):
        encode_control(frames.G0FirmwareUrl(1, 1, "x" * 65_536))
