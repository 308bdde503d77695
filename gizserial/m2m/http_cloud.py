"""HTTP of modules as a cloud sees it: forms read, answers made (device-cloud.md §4, §5, §12).

Forms are plain ``name=value`` pairs joined by ``&`` without any escaping. One that cannot be used comes back
as an :class:`~gizserial.m2m.http.ErrorAnswer`, it never raises. Answers that a field module would not survive
are refused when they are made.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from gizserial.errors import EncodeError, ValueOutOfRange
from gizserial.m2m.http import MAX_BODY, ErrorAnswer
from gizserial.m2m.secure import CipherError, decrypt_hex, encrypt_hex

MAX_ANSWER: Final = 1024
"""[V4] reads an answer with one ``recv`` of this many bytes, head included."""


class ErrorCode(enum.IntEnum):
    """Error codes that devices see (§4.7)."""

    PRODUCT_KEY_INVALID = 9002
    DEVICE_NOT_FOUND = 9014
    FORM_INVALID = 9015
    CREDENTIALS_INVALID = 9016
    FIRMWARE_NOT_FOUND = 9027
    PLAIN_NOT_SUPPORTED = 9045
    NO_PUSH_RULE = 9500
    ALREADY_UPGRADED = 9502


@dataclasses.dataclass(frozen=True, slots=True)
class RegisterForm:
    """A registration. The mac stays as the device wrote it; who looks it up ignores its case (R20)."""

    mac: str
    passcode: str = dataclasses.field(repr=False)
    product_key: str
    is_reset: bool = False
    random_code: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class UnregisterForm:
    """Which device wants to be forgotten, and its proof; G2 with the did in the query has none."""

    did: str
    passcode: str | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class OtaCheckForm:
    """The versions a device reports when it asks for firmware."""

    passcode: str = dataclasses.field(repr=False)
    firmware_type: int
    hard_version: str
    soft_version: str


_MAC: Final = re.compile(r"[0-9A-Za-z:.-]{6,32}")
_PASSCODE: Final = re.compile(r"[!-%'-~]{1,16}")
_PRODUCT_KEY: Final = re.compile(r"[0-9a-f]{32}")
_CODE: Final = re.compile(r"[0-9a-f]{32}")
_DID_TEXT: Final = re.compile(r"[0-9A-Za-z]{1,32}")
_VERSION_TEXT: Final = re.compile(r"[ -%'-~]{0,32}")


def parse_form(text: str) -> dict[str, str]:
    """``name=value`` pairs, unescaped, the first of equal names; what is no pair is left out."""
    form: dict[str, str] = {}
    for pair in text.split("&", 64)[:64]:
        name, equals, value = pair.partition("=")
        if equals:
            form.setdefault(name.strip(), value.strip("\r\n"))
    return form


def _body_form(body: bytes) -> dict[str, str] | ErrorAnswer:
    if len(body) > MAX_BODY:
        return ErrorAnswer(ErrorCode.FORM_INVALID, f"form invalid: more than {MAX_BODY} bytes")
    return parse_form(body.decode("ascii", "replace"))


def _secure_form(body: bytes, product_secret: str) -> dict[str, str] | ErrorAnswer:
    form = _body_form(body)
    if isinstance(form, ErrorAnswer):
        return form
    try:
        return parse_form(decrypt_hex(product_secret, form.get("data", "")))
    except CipherError as error:
        return ErrorAnswer(ErrorCode.FORM_INVALID, f"form invalid: data: {error}")


def _wrong(name: str) -> ErrorAnswer:
    return ErrorAnswer(ErrorCode.FORM_INVALID, f"form invalid: {name} missing or not allowed")


def registration(form: Mapping[str, str], product_key: str) -> RegisterForm | ErrorAnswer:
    """A registration from its pairs, whatever generation they came in."""
    mac, passcode, code = form.get("mac", ""), form.get("passcode", ""), form.get("random_code", "")
    if not _PRODUCT_KEY.fullmatch(product_key):
        return ErrorAnswer(ErrorCode.PRODUCT_KEY_INVALID, "product_key invalid")
    if not _MAC.fullmatch(mac):
        return _wrong("mac")
    if not _PASSCODE.fullmatch(passcode):
        return _wrong("passcode")
    return RegisterForm(
        mac=mac,
        passcode=passcode,
        product_key=product_key,
        is_reset=form.get("is_reset") == "1",
        random_code=code if _CODE.fullmatch(code) else None,
    )


def parse_register(body: bytes) -> RegisterForm | ErrorAnswer:
    """Body of a G1 ``POST /dev/devices``."""
    form = _body_form(body)
    if isinstance(form, ErrorAnswer):
        return form
    return registration(form, form.get("product_key", "").lower())


def parse_register_secure(body: bytes, product_key: str, product_secret: str) -> RegisterForm | ErrorAnswer:
    """Body of a G2 ``POST /dev/<pk>/device``."""
    form = _secure_form(body, product_secret)
    return form if isinstance(form, ErrorAnswer) else registration(form, product_key.lower())


def parse_provision_secure(did_hex: str, product_secret: str) -> str | ErrorAnswer:
    """The did in the query of a G2 ``GET /dev/<pk>/device?did=``."""
    try:
        did = decrypt_hex(product_secret, did_hex[:MAX_BODY])
    except CipherError as error:
        return ErrorAnswer(ErrorCode.FORM_INVALID, f"form invalid: did: {error}")
    return did if _DID_TEXT.fullmatch(did) else _wrong("did")


def parse_unregister(body: bytes, product_secret: str | None = None) -> UnregisterForm | ErrorAnswer:
    """Body of a DELETE: plain, or with a secret also encrypted in ``data`` (R4)."""
    form = _body_form(body)
    if not isinstance(form, ErrorAnswer) and product_secret is not None and "data" in form:
        form = _secure_form(body, product_secret)
    if isinstance(form, ErrorAnswer):
        return form
    did, passcode = form.get("did", ""), form.get("passcode", "")
    if not _DID_TEXT.fullmatch(did):
        return _wrong("did")
    if not _PASSCODE.fullmatch(passcode):
        return _wrong("passcode")
    return UnregisterForm(did, passcode)


def parse_ota_check(body: bytes) -> OtaCheckForm | ErrorAnswer:
    """Body of ``POST /dev/ota/v4.1/update_and_check/<did>``; names of other clients are ignored."""
    form = _body_form(body)
    if isinstance(form, ErrorAnswer):
        return form
    passcode, kind = form.get("passcode", ""), form.get("type", "")
    versions = (form.get("hard_version", ""), form.get("soft_version", ""))
    if not _PASSCODE.fullmatch(passcode):
        return _wrong("passcode")
    if kind not in {"1", "2"}:
        return _wrong("type")
    if not all(_VERSION_TEXT.fullmatch(version) for version in versions):
        return _wrong("hard_version or soft_version")
    return OtaCheckForm(passcode, int(kind), *versions)


# --- answers of a cloud


def register_answer(did: str, product_secret: str | None = None) -> str:
    """Body of a successful registration, status 201; encrypted when there is a secret."""
    if not re.fullmatch(r"[0-9A-Za-z]{22}", did):
        raise ValueOutOfRange("did", did, "22 letters and digits")
    text = f"did={did}"
    return text if product_secret is None else encrypt_hex(product_secret, text)


def provision_answer(
    host: str,
    port: int,
    server_ts: int,
    *,
    log_host: str | None = None,
    log_port: int = 1884,
    product_secret: str | None = None,
) -> str:
    """Body of a successful provisioning, status 200, with the order and the ``&`` that parsers need (§12.2).

    :param log_host: Address of the log server, which nobody uses; the MQTT host when not given.
    :raises ValueOutOfRange: for a host or port that a field module would not survive.
    """
    for name, value in (("host", host), ("log_host", log_host or host)):
        if not re.fullmatch(r"[0-9A-Za-z._:\[\]-]{1,99}", value):
            raise ValueOutOfRange(name, value, "a host name or address of at most 99 characters")
    if not 0 < port < 65536:
        raise ValueOutOfRange("port", port, "1 to 65535")
    text = (
        f"host={host}&port={port}&server_ts={server_ts}"
        f"&log_host={log_host or host}&log_port={log_port}&biz_log=0&sys_log=0"
    )
    return text if product_secret is None else encrypt_hex(product_secret, text)


def offer_answer(soft_version: str, url: str) -> str:
    """Body of a firmware offer, status 200.

    :raises ValueOutOfRange: when [V4] could not store or fetch it.
    """
    if not 1 <= len(soft_version) <= 32:
        raise ValueOutOfRange("soft_ver", soft_version, "1 to 32 characters")
    if not re.fullmatch(r"http://[!-~]{1,248}", url):
        raise ValueOutOfRange("download_url", url, "http:// and at most 255 characters in all")
    return f"soft_ver={soft_version}&download_url={url}"


def text_answer(status: int, body: str) -> bytes:
    """A whole answer, to be sent in one piece: chunked with one chunk, as every known module accepts (§12.1).

    :raises EncodeError: when it is longer than the 1024 bytes that a module reads.
    """
    data = body.encode()
    head = _head(status, "text/html; charset=utf-8", "Transfer-Encoding: chunked")
    return _one_segment(head + f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n")


def error_answer(error: ErrorAnswer) -> bytes:
    """A whole error answer, to be sent in one piece.

    :raises EncodeError: when it is longer than the 1024 bytes that a module reads.
    """
    data = error.body.encode()
    return _one_segment(_head(error.status, "application/json", f"Content-Length: {len(data)}") + data)


def _head(status: int, content_type: str, length: str) -> bytes:
    # The reason phrase is mandatory: modules look for the status between the first two blanks.
    lines = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Type: {content_type}",
        length,
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def _one_segment(answer: bytes) -> bytes:
    if len(answer) > MAX_ANSWER:
        raise EncodeError(f"the answer has {len(answer)} bytes; modules read {MAX_ANSWER}")
    return answer
