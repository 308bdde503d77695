"""The agent API of G3: its signatures, a module's requests, a cloud's answers (device-cloud.md §6, §9.2).

Nothing is encrypted here. A module proves with every request and login that it has the product secret, which
stands in the place of an ``auth_key`` for devices that have none.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Final

from gizserial.errors import ValueOutOfRange
from gizserial.m2m.http import MAX_BODY, ErrorAnswer, HttpRequest, Provision, Purpose, Server
from gizserial.m2m.http_cloud import ErrorCode, RegisterForm, parse_form, registration
from gizserial.m2m.identity import Entropy

NONCE_LENGTH: Final = 10
LAN_PROTOCOL: Final = "v5.0"
"""``lan_proto_ver`` of the on-boarding."""

_NONCE: Final = re.compile(r"[0-9A-Za-z]{1,32}")
_LOGIN: Final = re.compile(r"([0-9A-Za-z]{1,32})\|signmethod=sha256,signnonce=([0-9A-Za-z]{1,32})")
_HOST: Final = re.compile(r"[0-9A-Za-z._:\[\]-]{1,253}")
_DID: Final = re.compile(r"[0-9A-Za-z]{22}")


def new_nonce(entropy: Entropy) -> str:
    """Ten letters A–Z."""
    return "".join(chr(65 + byte % 26) for byte in entropy(NONCE_LENGTH))


@dataclasses.dataclass(frozen=True, slots=True)
class Signer:
    """Who signs: a device of a product, with its ``auth_key`` or the product secret.

    :param mac: In either case; it is signed in lower case.
    """

    product_key: str
    mac: str
    key: str = dataclasses.field(repr=False)

    def token(self, nonce: str) -> str:
        """``X-Sign-Token``, and the password of the MQTT login."""
        return _sha256(f"{self.product_key},{self.mac.lower()},{self.key},{nonce}")

    def etag(self, nonce: str, body: str) -> str:
        """``X-Sign-ETag``: the signature of a body."""
        return _sha256(f"{self.key},{nonce},{body}")

    def verifies(self, nonce: str, token: str) -> bool:
        """Whether a token is this signer's; takes the same time for a near miss."""
        return hmac.compare_digest(self.token(nonce).encode(), token.lower().encode())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# --- a module's side


def network(
    server: Server, signer: Signer, entropy: Entropy, *, is_reset: bool, random_code: str | None = None
) -> HttpRequest:
    """On-boarding of a device without ``auth_key``: make it known, get its did and the MQTT server.

    :param is_reset: The cloud drops the bindings.
    """
    code = "" if random_code is None else f"&random_code={random_code}"
    body = f"is_reset={int(is_reset)}{code}&lan_proto_ver={LAN_PROTOCOL}"
    target = f"/v2/products/{signer.product_key}/devices/{signer.mac.lower()}/network"
    nonce = new_nonce(entropy)
    lines = [
        f"X-Sign-ETag: {signer.etag(nonce, body)}",
        "Content-Type: text/plain",
        f"Content-Length: {len(body)}",
    ]
    head = _head(f"POST {target}", server, signer, nonce, entropy, lines)
    return HttpRequest(Purpose.REGISTER, server, "POST", target, (head + body).encode())


def bootstrap(server: Server, did: str, signer: Signer, entropy: Entropy, purpose: Purpose) -> HttpRequest:
    """Where the MQTT server is, at every later boot."""
    target = f"/v2/devices/{did}/bootstrap"
    head = _head(f"GET {target}", server, signer, new_nonce(entropy), entropy)
    return HttpRequest(purpose, server, "GET", target, head.encode())


def _head(  # noqa: PLR0917 (all of it is what a request is made of)
    call: str, server: Server, signer: Signer, nonce: str, entropy: Entropy, more: Sequence[str] = ()
) -> str:
    lines = (
        f"{call} HTTP/1.1",
        f"Host: {server.authority}",
        "X-Sign-Method: sha256",
        f"X-Sign-Nonce: {nonce}",
        f"X-Sign-Token: {signer.token(nonce)}",
        f"X-Trace-Id: {entropy(16).hex()}",
        *more,
        "",
    )
    return "".join(f"{line}\r\n" for line in lines)


@dataclasses.dataclass(frozen=True, slots=True)
class Network:
    """An answer to either request; the did is that of a device which had none."""

    server: Provision
    did: str | None


def parse_network(body: bytes) -> Network | None:
    """Where to connect, or None when address or port is missing. No time comes with it."""
    form = parse_form(body[:MAX_BODY].decode("ascii", "replace").strip())
    host, port, did = form.get("address", ""), form.get("port", ""), form.get("device_id", "")
    if not _HOST.fullmatch(host) or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        return None
    return Network(Provision(host, int(port), None), did if _DID.fullmatch(did) else None)


def login_name(did: str, nonce: str) -> str:
    """User name of the MQTT login; the password is the token over its nonce."""
    return f"{did}|signmethod=sha256,signnonce={nonce}"


# --- a cloud's side


def parse_login_name(text: str) -> tuple[str, str] | None:
    """Did and nonce of a user name, or of the client id of a client that swaps the two; None of others."""
    match = _LOGIN.fullmatch(text)
    return (match[1], match[2]) if match else None


def refusal(headers: Mapping[str, str], signer: Signer, body: bytes | None = None) -> ErrorAnswer | None:
    """Why the signature of a request is none of this signer's; None when it is.

    :param headers: By lower-case name.
    :param body: Of a POST, which is signed too.
    """
    nonce, text = headers.get("x-sign-nonce", ""), (body or b"").decode("utf-8", "replace")
    if headers.get("x-sign-method") != "sha256" or not _NONCE.fullmatch(nonce):
        return ErrorAnswer(ErrorCode.FORM_INVALID, "form invalid: X-Sign-Method or X-Sign-Nonce")
    etag = headers.get("x-sign-etag", "").lower().encode()
    sound = body is None or hmac.compare_digest(signer.etag(nonce, text).encode(), etag)
    if not signer.verifies(nonce, headers.get("x-sign-token", "")) or not sound:
        return ErrorAnswer(ErrorCode.CREDENTIALS_INVALID, "the signature is wrong")
    return None


def parse_network_form(body: bytes, signer: Signer, passcode: str) -> RegisterForm | ErrorAnswer:
    """Body of an on-boarding, as a registration. Its ``user_id`` is not put to any use.

    :param passcode: The device's; no request of G3 carries one.
    """
    if len(body) > MAX_BODY:
        return ErrorAnswer(ErrorCode.FORM_INVALID, f"form invalid: more than {MAX_BODY} bytes")
    form = parse_form(body.decode("ascii", "replace"))
    return registration(form | {"mac": signer.mac, "passcode": passcode}, signer.product_key)


def network_answer(host: str, port: int, did: str | None = None) -> str:
    """Body of the answer to either request, status 200.

    :raises ValueOutOfRange: for an address that is none.
    """
    if not _HOST.fullmatch(host):
        raise ValueOutOfRange("address", host, "a host name or address of at most 253 characters")
    if not 0 < port < 65536:
        raise ValueOutOfRange("port", port, "1 to 65535")
    return f"address={host}&port={port}" + ("" if did is None else f"&device_id={did}")
