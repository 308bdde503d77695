"""HTTP of a module: its requests, byte for byte, and how it reads the answers (device-cloud.md §4, §5).

The builders make exactly what GAgent sends, with its irregular blanks. The parsers read the answers of any
cloud; :mod:`gizserial.m2m.http_cloud` is the other end.
An answer that says nothing useful is None, it never raises.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from typing import Final

from gizserial.m2m.secure import decrypt_hex, encrypt_hex

DEFAULT_PORT: Final = 80
MAX_BODY: Final = 4096
"""How many bytes of a body are looked at."""
MODULE_FIRMWARE: Final = 1
MCU_FIRMWARE: Final = 2

_FORM_TYPE: Final = "Content-Type: application/x-www-form-urlencoded\r\n"


class Purpose(enum.Enum):
    """What a request is for."""

    REGISTER = "register"
    PROVISION = "provision"
    TIME = "time"
    OTA_CHECK = "firmware check"
    LATEST = "firmware query"
    DOWNLOAD = "firmware download"
    UNREGISTER = "unregister"


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """Where the HTTP API is. The Host header names the port only when it is not 80."""

    host: str
    port: int = DEFAULT_PORT

    @property
    def authority(self) -> str:
        """What follows ``Host:``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORT else f"{host}:{self.port}"


@dataclasses.dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request on a connection of its own, whose predecessor is closed first. ``raw`` holds secrets."""

    purpose: Purpose
    server: Server
    method: str
    target: str = dataclasses.field(repr=False)
    raw: bytes = dataclasses.field(repr=False)
    firmware_type: int = 0
    """1 module or 2 MCU, for a firmware check."""
    awaited: bool = True
    """False when the answer does not matter (the DELETE just before a reset)."""


# --- requests of a module


def _with_body(
    purpose: Purpose, server: Server, method: str, target: str, form: str, *, colon: str = ": ", kind: int = 0
) -> HttpRequest:
    body = form.encode()
    head = (
        f"{method} {target} HTTP/1.1\r\nHost{colon}{server.authority}\r\n"
        f"Content-Length{colon}{len(body)}\r\n{_FORM_TYPE}\r\n"
    )
    return HttpRequest(purpose, server, method, target, head.encode() + body, kind)


def _get(purpose: Purpose, server: Server, target: str, *, kind: int = 0) -> HttpRequest:
    head = f"GET {target} HTTP/1.1\r\nHost: {server.authority}\r\nCache-Control: no-cache\r\n{_FORM_TYPE}\r\n"
    return HttpRequest(purpose, server, "GET", target, head.encode(), kind)


def register(server: Server, *, mac: str, passcode: str, product_key: str) -> HttpRequest:
    """G1: make this module known and get its did (§4.1)."""
    form = f"passcode={passcode}&mac={mac}&product_key={product_key}"
    return _with_body(Purpose.REGISTER, server, "POST", "/dev/devices", form)


def register_secure(
    server: Server,
    *,
    mac: str,
    passcode: str,
    product_key: str,
    product_secret: str,
    is_reset: bool = False,
    random_code: str | None = None,
) -> HttpRequest:
    """G2: the same with the form encrypted (§5.1).

    :param is_reset: First registration after on-boarding or a reset: the cloud drops the bindings.
    """
    form = f"mac={mac}&passcode={passcode}&type=normal"
    if is_reset:
        form += "&is_reset=1"
    if random_code is not None:
        form += f"&random_code={random_code}&lan_proto_ver=v5.0"
    data = f"data={encrypt_hex(product_secret, form)}"
    return _with_body(Purpose.REGISTER, server, "POST", f"/dev/{product_key}/device", data, colon=":")


def provision(server: Server, did: str, *, purpose: Purpose = Purpose.PROVISION) -> HttpRequest:
    """G1: where is the MQTT server, and what time is it (§4.2)."""
    return _get(purpose, server, f"/dev/devices/{did}")


def provision_secure(
    server: Server, did: str, product_key: str, product_secret: str, *, purpose: Purpose = Purpose.PROVISION
) -> HttpRequest:
    """G2: the same with did and answer encrypted (§5.2)."""
    return _get(purpose, server, f"/dev/{product_key}/device?did={encrypt_hex(product_secret, did)}")


def ota_check(
    server: Server, did: str, *, passcode: str, firmware_type: int, hard_version: str, soft_version: str
) -> HttpRequest:
    """Report versions and ask for newer firmware; the same in G1 and G2 (§4.3)."""
    form = f"passcode={passcode}&type={firmware_type}&hard_version={hard_version}&soft_version={soft_version}"
    target = f"/dev/ota/v4.1/update_and_check/{did}"
    return _with_body(Purpose.OTA_CHECK, server, "POST", target, form, colon=":", kind=firmware_type)


def latest(server: Server, *, hard_version: str, soft_version: str, product_key: str) -> HttpRequest:
    """The MCU asked for its newest firmware (§4.3, serial 0x23 action 1)."""
    target = (
        f"/dev/ota/v4.1/latest?hard_version={hard_version}&soft_version={soft_version}"
        f"&product_key={product_key}&type={MCU_FIRMWARE}"
    )
    return _get(Purpose.LATEST, server, target, kind=MCU_FIRMWARE)


def unregister(server: Server, *, did: str, passcode: str) -> HttpRequest:
    """G1: forget this did and its bindings. A DELETE with a body (§4.5)."""
    return _with_body(Purpose.UNREGISTER, server, "DELETE", "/dev/devices", f"did={did}&passcode={passcode}")


def unregister_secure(
    server: Server, *, did: str, passcode: str, product_key: str, product_secret: str
) -> HttpRequest:
    """G2: the same with the form encrypted (§5.3, ruling R4)."""
    data = f"data={encrypt_hex(product_secret, f'did={did}&passcode={passcode}')}"
    return _with_body(Purpose.UNREGISTER, server, "DELETE", f"/dev/{product_key}/device", data)


# --- answers, as a module reads them


@dataclasses.dataclass(frozen=True, slots=True)
class Provision:
    """Where the MQTT server is; ``server_ts`` is UTC in seconds, None when the answer has none."""

    host: str
    port: int
    server_ts: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Offer:
    """Firmware that the cloud has for this device."""

    soft_version: str
    """Empty when the offer does not say it."""
    url: str
    md5: str = ""
    """Of the file, where the offer says it (021d); otherwise the answer to the download does."""


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """What the cloud says when it does not do what was asked (§4.7)."""

    code: int
    message: str
    status: int = 400

    @property
    def body(self) -> str:
        """The JSON text of the answer."""
        fields = {"error_message": self.message, "error_code": self.code, "detail_message": None}
        return json.dumps(fields, separators=(",", ":"))


_DID: Final = re.compile(r"did=([0-9A-Za-z]{22})(?![0-9A-Za-z])")
_HOST: Final = re.compile(r"(?:^|[&\s])host=([^&\s/]{1,253})&")
_PORT: Final = re.compile(r"&port=(\d{1,5})(?!\d)")
_SERVER_TS: Final = re.compile(r"&server_ts=(\d{1,12})(?!\d)")
_OFFER: Final = re.compile(r"soft_ver=([!-%'-~]{1,32})&(?:[^\r\n]*&)?download_url=(http://[!-~]{1,248})")


def _text(body: bytes) -> str:
    return body[:MAX_BODY].decode("ascii", "replace")


def _plain(body: bytes, product_secret: str | None) -> str:
    text = _text(body)
    return text if product_secret is None else decrypt_hex(product_secret, text)


def parse_did(body: bytes, product_secret: str | None = None) -> str | None:
    """The did of a registration, or None.

    :raises CipherError: when a secret is given and the answer does not decrypt with it.
    """
    match = _DID.search(_plain(body, product_secret))
    return match[1] if match else None


def parse_provision(body: bytes, product_secret: str | None = None) -> Provision | None:
    """Where to connect, or None when host or port is missing.

    :raises CipherError: when a secret is given and the answer does not decrypt with it.
    """
    text = _plain(body, product_secret)
    host, port, stamp = _HOST.search(text), _PORT.search(text), _SERVER_TS.search(text)
    if host is None or port is None or not 0 < int(port[1]) < 65536:
        return None
    return Provision(host[1], int(port[1]), int(stamp[1]) if stamp else None)


def parse_offer(body: bytes) -> Offer | None:
    """The firmware offered, or None."""
    match = _OFFER.search(_text(body))
    return Offer(match[1], match[2]) if match else None


def parse_error(status: int, body: bytes) -> ErrorAnswer | None:
    """The JSON error of an answer, or None when it holds none."""
    try:
        fields = json.loads(_text(body))
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or type(fields.get("error_code")) is not int:
        return None
    return ErrorAnswer(fields["error_code"], str(fields.get("error_message", ""))[:200], status)
