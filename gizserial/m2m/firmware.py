"""Firmware as a module fetches it from its cloud (device-cloud.md §4.4, §12.2): request, answer, checks."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from typing import Final

from gizserial.errors import ValueOutOfRange
from gizserial.m2m.http import DEFAULT_PORT, HttpRequest, Offer, Purpose, Server

MAX_FIRMWARE: Final = 4 * 1024 * 1024
"""Bytes of the largest image that is fetched."""
DOWNLOAD_TIME: Final = 300.0
"""Seconds that a download may take."""
MAX_REQUEST: Final = 199
"""[V4] makes the request in a buffer of this many characters: host and path have 142 of them."""
SMALLEST: Final = 600
"""A smaller file crashes [V4], which takes its first ``recv`` for 600 bytes or more."""

_URL: Final = re.compile(r"http://(\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z._-]{1,99})(?::(\d{1,5}))?(/[!-~]*)")
_MD5: Final = re.compile(r"[0-9A-Fa-f]{32}")
_VERSION: Final = re.compile(r"[!-~]{1,8}")
_EXTENSION: Final = re.compile(r'filename=[^.]*\.([^"]{1,3})"')


@dataclasses.dataclass(frozen=True, slots=True)
class Firmware:
    """A file that was fetched and checked.

    :ivar soft_version: What the file says of itself, or the offer when it says nothing.
    """

    firmware_type: int
    soft_version: str
    md5: str
    """32 hex digits as the cloud wrote them: they go on to the MCU so."""
    hex: bool
    """Its name ends in ``.hex``; anything else is binary."""
    url: str
    data: bytes = dataclasses.field(repr=False)


def split_url(url: str) -> tuple[Server, str]:
    """Where a download is, and its path. Without a port it is 80, where [V4] always goes.

    :raises ValueOutOfRange: it is none of ``http://host[:port]/path``.
    """
    match = _URL.fullmatch(url)
    port = int(match[2] or DEFAULT_PORT) if match is not None else 0
    if match is None or not 0 < port < 65536:
        raise ValueOutOfRange("download_url", url[:255], "http://host[:port]/path")
    return Server(match[1].strip("[]"), port), match[3]


def download(offer: Offer, firmware_type: int) -> HttpRequest:
    """The request for an offered file.

    :raises ValueOutOfRange: the URL is none, or too long for the buffer of a module.
    """
    server, path = split_url(offer.url)
    raw = f"GET {path} HTTP/1.1\r\nHost: {server.authority}\r\nContent-Type: application/text\r\n\r\n"
    if len(raw) > MAX_REQUEST:
        raise ValueOutOfRange("download_url", offer.url, "host and path of at most 142 characters together")
    return HttpRequest(Purpose.DOWNLOAD, server, "GET", path, raw.encode(), firmware_type)


def parse_firmware(
    offer: Offer, firmware_type: int, status: int, headers: Mapping[str, str], body: bytes
) -> Firmware | str:
    """The file of an answer, or why it is none. A file whose MD5 is another than announced is none.

    :param headers: By lower-case name.
    """
    if status != 200:
        return f"the server answered with status {status}"
    if not headers.get("content-length", "").isdecimal():
        return "the answer has no Content-Length"
    if len(body) != int(headers["content-length"]):
        return f"{len(body)} of {headers['content-length']} bytes came"
    if not body:
        return "the file is empty"
    md5 = offer.md5 or headers.get("firmware-md5", "")
    if not _MD5.fullmatch(md5):
        found = "the MD5 of the offer is not one" if offer.md5 else "the answer has no Firmware-MD5"
        return f"{found} of 32 hex digits"
    real = hashlib.md5(body, usedforsecurity=False).hexdigest()
    if real != md5.lower():
        return f"the MD5 of the file is {real}, {md5.lower()} was announced"
    version = headers.get("soft-version", "")
    name = _EXTENSION.search(headers.get("content-disposition", ""))
    return Firmware(
        firmware_type,
        version if _VERSION.fullmatch(version) else offer.soft_version,
        md5,
        name is not None and name[1] == "hex",
        offer.url,
        body,
    )
