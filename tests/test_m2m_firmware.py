"""A module fetches firmware: the request of §4.4, what must be in the answer, and no second attempt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Literal

import pytest
from support_m2m import DID, PK, Bench, Cloud, entropy, new_identity

from gizserial.errors import ValueOutOfRange
from gizserial.m2m import firmware, frames, http_cloud
from gizserial.m2m.effects import FirmwareFailed, FirmwareFetched, FirmwareOffer, SendMqtt, Trace
from gizserial.m2m.frames import CheckFirmware, encode_control
from gizserial.m2m.http import HttpRequest, Offer, Purpose, Server
from gizserial.m2m.mqtt31 import FROM_CLIENT, PacketReader, Publish
from gizserial.m2m.requests import Versions
from gizserial.m2m.session import CloudSession
from gizserial.m2m.topics import ser2cli_res

OFFER = Offer("00000002", "http://ota.local/fw/7072.bin")
IMAGE = bytes(range(256)) * 5
MD5 = hashlib.md5(IMAGE, usedforsecurity=False).hexdigest()
HEADERS = {
    "content-length": str(len(IMAGE)),
    "firmware-md5": MD5,
    "soft-version": "00000002",
    "content-disposition": 'attachment; filename="x.bin"',
}


def test_the_request_is_that_of_the_open_source_firmware() -> None:
    request = firmware.download(OFFER, 2)
    assert request.raw == (
        b"GET /fw/7072.bin HTTP/1.1\r\nHost: ota.local\r\nContent-Type: application/text\r\n\r\n"
    )
    assert (request.server, request.firmware_type) == (Server("ota.local", 80), 2)


def test_host_and_path_have_142_characters_together() -> None:
    longest = "http://ota.local/" + "x" * (142 - len("ota.local/"))
    assert len(firmware.download(Offer("1", longest), 2).raw) == 199
    with pytest.raises(ValueOutOfRange):
        firmware.download(Offer("1", longest + "x"), 2)


@pytest.mark.parametrize(
    "url", ["http:///x", "https://a/x", "http://a", "http://a:0/x", "http://a:65536/x", "http://a b/x", "ftp"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueOutOfRange):
        firmware.split_url(url)


def test_a_port_and_an_address_in_brackets_are_understood() -> None:
    assert firmware.split_url("http://127.0.0.1:8080/a?b=c") == (Server("127.0.0.1", 8080), "/a?b=c")
    assert firmware.split_url("http://[::1]:8080/a") == (Server("::1", 8080), "/a")


def parsed(body: bytes = IMAGE, status: int = 200, **headers: str | None) -> firmware.Firmware | str:
    given = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    some = {name: value for name, value in given.items() if value is not None}
    return firmware.parse_firmware(OFFER, 2, status, some, body)


def test_a_sound_answer_is_a_file() -> None:
    assert parsed() == firmware.Firmware(2, "00000002", MD5, False, OFFER.url, IMAGE)


@pytest.mark.parametrize(
    ("disposition", "is_hex"),
    [
        ('attachment; filename="x.hex"', True),
        ('attachment; filename="x.bin"', False),
        ('attachment; filename="x.y.hex"', False),
        ('attachment; filename="x"', False),
        ("", False),
    ],
)
def test_the_extension_after_the_first_dot_says_hex(disposition: str, is_hex: bool) -> None:
    found = parsed(content_disposition=disposition)
    assert isinstance(found, firmware.Firmware)
    assert found.hex is is_hex


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": 404}, "status 404"),
        ({"content_length": None}, "no Content-Length"),
        ({"content_length": "7"}, f"{len(IMAGE)} of 7 bytes"),
        ({"body": IMAGE[:-1]}, "1279 of 1280 bytes"),
        ({"body": b"", "content_length": "0"}, "empty"),
        ({"firmware_md5": None}, "no Firmware-MD5"),
        ({"firmware_md5": "00" * 15}, "no Firmware-MD5"),
        ({"firmware_md5": "00" * 16}, f"the MD5 of the file is {MD5}"),
        ({"body": IMAGE[:-1] + b"!"}, f"{MD5} was announced"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Any], reason: str) -> None:
    found = parsed(**change)
    assert isinstance(found, str)
    assert reason in found


def test_an_md5_in_capitals_is_the_same_and_goes_on_as_it_came() -> None:
    found = parsed(firmware_md5=MD5.upper())
    assert isinstance(found, firmware.Firmware)
    assert found.md5 == MD5.upper()


def test_a_version_that_does_not_fit_is_that_of_the_offer() -> None:
    for version in (None, "", "123456789"):
        found = parsed(soft_version=version)
        assert isinstance(found, firmware.Firmware)
        assert found.soft_version == "00000002"


# --- the session


def online(present: str = "00000001", offered: str = "00000002", **options: Any) -> Bench:
    """A module whose cloud offers MCU firmware; the download is not answered."""
    cloud = Cloud()

    def check(request: HttpRequest) -> tuple[int, bytes]:
        if request.firmware_type == 1:
            return 404, b""
        return 200, http_cloud.offer_answer(offered, OFFER.url).encode()

    cloud.answers[Purpose.OTA_CHECK] = check
    cloud.answers[Purpose.DOWNLOAD] = None
    session = CloudSession(
        new_identity(), Server("api.local"), entropy=entropy, mcu=Versions("00000001", present), **options
    )
    bench = Bench(session, cloud)
    bench.boot()
    return bench


def downloads(bench: Bench) -> list[HttpRequest]:
    return [request for request in bench.all(HttpRequest) if request.purpose is Purpose.DOWNLOAD]


@pytest.mark.parametrize(
    ("present", "offered", "download", "fetched"),
    [
        ("00000001", "00000002", "newer", True),
        ("00000002", "00000002", "newer", False),
        ("00000009", "00000010", "newer", True),
        ("9", "00000010", "newer", False),  # texts, not numbers: strcmp
        ("00000003", "00000002", "other", True),
        ("00000002", "00000002", "other", False),
        ("00000001", "00000002", "never", False),
    ],
)
def test_what_sorts_after_the_present_version_is_fetched(
    present: str, offered: str, download: str, fetched: bool
) -> None:
    bench = online(present, offered, download=download)
    assert len(bench.all(FirmwareOffer)) == 1
    assert bool(downloads(bench)) is fetched


def test_a_file_is_handed_on() -> None:
    bench = online()
    (request,) = downloads(bench)
    bench.session.http_answer(200, IMAGE, bench.now, request, HEADERS)
    bench.settle()
    assert bench.all(FirmwareFetched) == [
        FirmwareFetched(firmware.Firmware(2, "00000002", MD5, False, OFFER.url, IMAGE))
    ]
    bench.run(3000.0)
    assert len(downloads(bench)) == 1


def test_nothing_is_repeated_before_the_next_check() -> None:
    bench = online()
    (request,) = downloads(bench)
    bench.session.http_failed(bench.now, "cut", request)
    bench.settle()
    assert bench.all(FirmwareFailed) == [FirmwareFailed(2, "00000002", "cut", OFFER.url)]
    bench.run(3000.0)
    assert len(downloads(bench)) == 1
    did = bench.session.identity.did
    bench.deliver(f"ser2cli_res/{did}", encode_control(CheckFirmware(2, did)))
    assert len(downloads(bench)) == 2


def test_a_download_has_an_end() -> None:
    bench = online()
    bench.run(firmware.DOWNLOAD_TIME + 1)
    (failed,) = bench.all(FirmwareFailed)
    assert "within 300 s" in failed.reason
    (request,) = downloads(bench)
    bench.session.http_answer(200, IMAGE, bench.now, request, HEADERS)  # too late
    bench.settle()
    assert bench.all(FirmwareFetched) == []
    bench.run(3600.0)
    assert bench.requests[-1] is Purpose.TIME  # what waited goes on


def test_a_wrong_md5_is_told_and_handed_to_nobody() -> None:
    bench = online()
    (request,) = downloads(bench)
    bench.session.http_answer(200, IMAGE[::-1], bench.now, request, HEADERS)
    bench.settle()
    assert bench.all(FirmwareFetched) == []
    assert "was announced" in bench.all(FirmwareFailed)[0].reason


# --- by MQTT (device-cloud.md §9)


def by_mqtt(asking: Literal["g3", "g0"], present: str = "00000001") -> Bench:
    """A module that asks by MQTT and has reported; a download is not answered."""
    cloud = Cloud()
    cloud.answers[Purpose.DOWNLOAD] = None
    session = CloudSession(
        new_identity(),
        Server("api.local"),
        entropy=entropy,
        module=Versions("ESP32C3", "04X3009R"),
        mcu=Versions("00000001", present),
        asking=asking,
    )
    bench = Bench(session, cloud)
    bench.boot()
    return bench


def said(bench: Bench) -> list[bytes]:
    """Messages to the cloud."""
    packets = [
        packet
        for sent in bench.all(SendMqtt)
        for packet in PacketReader(FROM_CLIENT).feed(sent.data)
        if isinstance(packet, Publish)
    ]
    assert all(packet.topic == "cli2ser_req" for packet in packets)
    return [packet.payload for packet in packets]


def test_a_g3_module_reports_offers_are_fetched_and_progress_is_told(vectors: Callable[[str], Any]) -> None:
    """Vectors 20 to 22 of device-cloud.md §14."""
    hexes = {row["id"]: bytes.fromhex(row["hex"]) for row in vectors("device_cloud.json")["controls"]}
    bench = by_mqtt("g3", present="00000002")
    assert said(bench) == [hexes["20"]]
    assert not [request for request in bench.all(HttpRequest) if request.purpose is Purpose.OTA_CHECK]
    bench.deliver(ser2cli_res(DID), hexes["21"])
    (request,) = downloads(bench)
    assert (request.server.host, request.target, request.firmware_type) == ("ota.local", "/f.bin", 1)
    bench.session.http_answer(200, IMAGE, bench.now, request, {"content-length": str(len(IMAGE))})
    bench.settle()
    (failed,) = bench.all(FirmwareFailed)  # the vector's MD5 is that of nothing
    assert "d41d8cd98f00b204e9800998ecf8427e was announced" in failed.reason
    start = hexes["22"].replace(b"\x32", b"\x00", 1)
    assert said(bench)[1] == start
    assert said(bench)[2].endswith(b"ESP32C3,04X30100\x00\x06failed")


@pytest.mark.parametrize(
    ("offer", "fetched"),
    [
        (frames.FirmwareOffer(mcu="00000001,00000003", md5=MD5, url=OFFER.url), True),
        (frames.FirmwareOffer(mcu="00000001,00000002", md5=MD5, url=OFFER.url), False),
        (frames.FirmwareOffer(mcu="00000001,00000003"), False),
        (frames.FirmwareOffer(sub_did="s", mcu="00000001,00000003", md5=MD5, url=OFFER.url), False),
        (frames.G0FirmwareUrl(2, 1, OFFER.url), False),
        (frames.CheckFirmware(2), False),
    ],
)
def test_which_messages_a_g3_module_follows(offer: frames.Control, fetched: bool) -> None:
    bench = by_mqtt("g3", present="00000002")
    bench.deliver(ser2cli_res(DID), frames.encode_control(offer))
    assert [bool(downloads(bench)), bool(bench.all(FirmwareOffer))] == [
        fetched,
        isinstance(offer, frames.FirmwareOffer) and offer.url is not None and offer.sub_did is None,
    ]
    for request in downloads(bench):  # the MD5 of the offer is enough
        bench.session.http_answer(200, IMAGE, bench.now, request, {"content-length": str(len(IMAGE))})
        bench.settle()
        assert [effect.firmware.soft_version for effect in bench.all(FirmwareFetched)] == ["00000003"]


def test_a_g0_module_reports_its_firmware_id_and_fetches_from_the_address() -> None:
    bench = by_mqtt("g0")
    body = b"\x00\x20" + PK.encode() + b"04X3009R" + bytes.fromhex("00000003") + b"\x00\x0800000002"
    assert said(bench) == [bytes.fromhex("000000030205") + body]
    for ignored in (frames.G0FirmwareId(bytes(8)), frames.FirmwareOffer(mcu="1,3", url=OFFER.url)):
        bench.deliver(ser2cli_res(DID), frames.encode_control(ignored))
    assert not downloads(bench)
    bench.deliver(ser2cli_res(DID), frames.encode_control(frames.G0FirmwareUrl(2, 7, OFFER.url)))
    assert [request.firmware_type for request in downloads(bench)] == [2]


@pytest.mark.parametrize(
    ("asking", "answer", "trace"),
    [
        ("g3", frames.FirmwareOffer(module="ESP32C3,04X3009R"), "the cloud has no new firmware"),
        ("g3", frames.FirmwareOffer(), "the cloud has no new firmware"),
        ("g3", frames.FirmwareOffer(sub_did="s"), "ignored control message 021d"),
        ("g0", frames.G0FirmwareId(bytes(8)), "the cloud has no new firmware"),
        ("g0", frames.G0FirmwareId(b"04X3009R"), "the cloud has no new firmware"),
        ("g0", frames.G0FirmwareId(b"04X3010R"), "ignored control message 0206"),
        ("g0", frames.FirmwareOffer(), "ignored control message 021d"),
    ],
)
def test_nothing_new_is_said_and_what_is_not_understood_is_ignored(
    asking: Literal["g3", "g0"], answer: frames.Control, trace: str
) -> None:
    """device-cloud.md §9.1, §9.4: 0206 and 021d are the answers to the report of versions."""
    bench = by_mqtt(asking)
    bench.deliver(ser2cli_res(DID), frames.encode_control(answer))
    assert bench.all(Trace)[-1].text == trace


def test_a_module_of_g1_ignores_what_others_are_offered() -> None:
    """§9.1: 020e is ignored by [V4]."""
    bench = online(download="never")
    for message in (frames.G0FirmwareUrl(2, 7, OFFER.url), frames.FirmwareOffer(mcu="1,3", url=OFFER.url)):
        bench.deliver(ser2cli_res(DID), frames.encode_control(message))
    assert not downloads(bench)
    assert said(bench) == []


def test_what_is_reported_again_after_each_connection() -> None:
    bench = by_mqtt("g3")
    bench.drop()
    bench.run(100.0)
    assert len(said(bench)) == 2
