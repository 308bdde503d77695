from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gizserial.errors import EncodeError, ValueOutOfRange
from gizserial.m2m import http, http_cloud
from gizserial.m2m.http import ErrorAnswer, Offer, Provision, Server
from gizserial.m2m.http_cloud import ErrorCode, OtaCheckForm, RegisterForm, UnregisterForm
from gizserial.m2m.secure import CipherError, check_secret, decrypt_hex, encrypt_hex, random_code

DID = "SimDid0123456789ABCDEF"
PK = "0123456789abcdef" * 2
SECRET = "00112233445566778899aabbccddeeff"
PASSCODE = "ABCDEFGHIJ"
MAC = "00163E002CAC"
SERVER = Server("api.gizwits.com")
slow_first_time = settings(deadline=None)
"""The first use of the cipher imports cryptography."""
PROVISION = http_cloud.provision_answer("m2m.local", 1883, 1_760_000_000, log_host="10.0.0.1")
NO_RULE = ErrorAnswer(ErrorCode.NO_PUSH_RULE, "Don't have a push rule id on device", 404)


def body_of(raw: bytes) -> bytes:
    return raw.split(b"\r\n\r\n", 1)[1]


def as_v4_reads(answer: bytes, name: str, ends: str) -> str | None:
    """GAgent's way: one ``recv``, then search the text, head included, up to one of ``ends``."""
    text = answer[:1024].decode()
    match = re.search(rf"{name}([^{ends}]*)[{ends}]", text)
    return match[1] if match else None


@pytest.fixture(scope="module")
def texts(vectors: Callable[[str], Any]) -> dict[str, bytes]:
    return {row["id"]: row["text"].encode() for row in vectors("device_cloud.json")["http"]}


def test_every_http_vector(texts: dict[str, bytes]) -> None:
    made = {
        "H1": http.register(SERVER, mac=MAC, passcode=PASSCODE, product_key=PK).raw,
        "H2": http_cloud.text_answer(201, http_cloud.register_answer(DID)),
        "H3": http_cloud.text_answer(200, PROVISION),
        "H4": http_cloud.text_answer(
            200, http_cloud.offer_answer("04020021", "http://ota.local/fw/7072.bin")
        ),
        "H5": http_cloud.error_answer(NO_RULE),
        "H6": body_of(http.unregister(SERVER, did=DID, passcode=PASSCODE).raw),
    }
    assert made == texts
    assert len(made["H1"]) == 203
    assert len(made["H6"]) == 46


def test_field_modules_find_what_they_need(texts: dict[str, bytes]) -> None:
    assert as_v4_reads(texts["H2"], "did=", "\r") == DID
    assert as_v4_reads(texts["H3"], "host=", "&") == "m2m.local"
    assert as_v4_reads(texts["H3"], "port=", "&") == "1883"
    assert as_v4_reads(texts["H3"], "server_ts=", "&\r") == "1760000000"
    assert as_v4_reads(texts["H4"], "soft_ver=", "&") == "04020021"
    assert as_v4_reads(texts["H4"], "download_url=", "\r") == "http://ota.local/fw/7072.bin"
    # The negative cases: without the end mark nothing is found, so these must never be answered.
    assert as_v4_reads(b"HTTP/1.1 200 OK\r\n\r\nhost=a.b&port=1883", "port=", "&") is None
    assert as_v4_reads(b"HTTP/1.1 200 OK\r\n\r\nserver_ts=1", "server_ts=", "&\r") is None
    assert (
        as_v4_reads(b"HTTP/1.1 200 OK\r\n\r\nsoft_ver=1&download_url=http://a/b", "download_url=", "\r")
        is None
    )


@slow_first_time
@given(st.from_regex(r"\A[a-z0-9.-]{1,99}\Z"), st.integers(1, 65535), st.integers(0, 2**33), st.booleans())
def test_no_provision_answer_hurts_a_field_module(host: str, port: int, now: int, secure: bool) -> None:
    text = http_cloud.provision_answer(host, port, now, product_secret=SECRET if secure else None)
    answer = http_cloud.text_answer(200, text)
    assert len(answer) <= 1024
    assert http.parse_provision(text.encode(), SECRET if secure else None) == Provision(host, port, now)
    if not secure:
        assert as_v4_reads(answer, "port=", "&") == str(port)
        assert as_v4_reads(answer, "server_ts=", "&\r") == str(now)
        assert answer.endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("host", "port"), [("", 1883), ("a b", 1883), ("a&b", 1883), ("x" * 100, 1883), ("a", 0), ("a", 65536)]
)
def test_provision_answers_that_must_never_be_given(host: str, port: int) -> None:
    with pytest.raises(ValueOutOfRange):
        http_cloud.provision_answer(host, port, 1)


def test_other_answers_that_must_never_be_given() -> None:
    with pytest.raises(ValueOutOfRange):
        http_cloud.register_answer("short")
    with pytest.raises(ValueOutOfRange):
        http_cloud.offer_answer("", "http://a/b")
    with pytest.raises(ValueOutOfRange):
        http_cloud.offer_answer("1", "https://a/b")
    with pytest.raises(EncodeError, match="1024"):
        http_cloud.text_answer(200, "x" * 1024)


def test_requests_byte_for_byte() -> None:
    assert (
        http.provision(SERVER, DID).raw
        == (
            f"GET /dev/devices/{DID} HTTP/1.1\r\nHost: api.gizwits.com\r\nCache-Control: no-cache\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        ).encode()
    )
    check = http.ota_check(
        SERVER, DID, passcode=PASSCODE, firmware_type=1, hard_version="00000001", soft_version="04020006"
    )
    form = "passcode=ABCDEFGHIJ&type=1&hard_version=00000001&soft_version=04020006"
    assert (
        check.raw
        == (
            f"POST /dev/ota/v4.1/update_and_check/{DID} HTTP/1.1\r\nHost:api.gizwits.com\r\n"
            f"Content-Length:{len(form)}\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n{form}"
        ).encode()
    )
    assert http.unregister(SERVER, did=DID, passcode=PASSCODE).raw.startswith(
        b"DELETE /dev/devices HTTP/1.1\r\nHost: api.gizwits.com\r\nContent-Length: 46\r\n"
    )
    latest = http.latest(SERVER, hard_version="00000001", soft_version="00000002", product_key=PK)
    assert latest.raw.startswith(
        b"GET /dev/ota/v4.1/latest?hard_version=00000001&soft_version=00000002&product_key="
        + PK.encode()
        + b"&type=2 HTTP/1.1\r\nHost: api.gizwits.com\r\nCache-Control: no-cache\r\n"
    )


def test_secure_requests_byte_for_byte(vectors: Callable[[str], Any]) -> None:
    rows = {row["id"]: row for row in vectors("device_cloud.json")["secure"]}
    register = http.register_secure(SERVER, mac=MAC, passcode=PASSCODE, product_key=PK, product_secret=SECRET)
    data = "data=" + rows["G2-register"]["hex"]
    assert (
        register.raw
        == (
            f"POST /dev/{PK}/device HTTP/1.1\r\nHost:api.gizwits.com\r\nContent-Length:{len(data)}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\n\r\n{data}"
        ).encode()
    )
    provision = http.provision_secure(SERVER, DID, PK, SECRET)
    assert provision.target == f"/dev/{PK}/device?did={rows['G2-did']['hex']}"
    assert http_cloud.register_answer(DID, SECRET) == rows["G2-answer"]["hex"]
    assert len(rows["G2-answer"]["hex"]) == 64  # what GAgent Lite checks


def test_every_cipher_vector(vectors: Callable[[str], Any]) -> None:
    file = vectors("device_cloud.json")
    assert file["identity"]["product_secret"] == SECRET
    for row in file["secure"]:
        assert encrypt_hex(SECRET, row["plain"]) == row["hex"], row["id"]
        assert decrypt_hex(SECRET, row["hex"]) == row["plain"]
        assert decrypt_hex(SECRET, row["hex"].upper()) == row["plain"]
    code = file["random_code"]
    assert random_code(PK, code["ssid"], code["password"], code["sn"]) == code["code"]
    assert random_code(PK, "home") != code["code"]
    assert random_code(PK, "home", "12345678", 1) != code["code"]


@slow_first_time
@given(st.text(max_size=100))
def test_any_text_survives_the_cipher(text: str) -> None:
    assert decrypt_hex(SECRET, encrypt_hex(SECRET, text)) == text


@pytest.mark.parametrize(
    ("secret", "hex_text", "message"),
    [
        ("short", "00" * 16, "32 hexadecimal digits"),
        (SECRET, "xyz", "not hexadecimal"),
        (SECRET, "", "0 bytes"),
        (SECRET, "00" * 15, "15 bytes"),
        (
            "f" * 32,
            "13869026c128fd5a92f2e06ae008772753174271cf3a38ca2ebdbb37a0565bf5",
            "another product secret",
        ),
    ],
)
def test_what_does_not_decrypt(secret: str, hex_text: str, message: str) -> None:
    with pytest.raises(CipherError, match=message) as caught:
        decrypt_hex(secret, hex_text)
    assert secret not in str(caught.value)


def test_secrets_and_keys_are_checked() -> None:
    check_secret(SECRET)
    with pytest.raises(CipherError):
        check_secret("g" * 32)
    with pytest.raises(CipherError, match="product key"):
        random_code("short", "home")


def test_requests_show_no_secrets() -> None:
    request = http.register(SERVER, mac=MAC, passcode=PASSCODE, product_key=PK)
    assert PASSCODE not in repr(request)
    assert PASSCODE not in repr(http_cloud.parse_register(body_of(request.raw)))


def test_host_header_names_a_port_that_is_not_80() -> None:
    assert b"Host: 127.0.0.1:8080\r\n" in http.provision(Server("127.0.0.1", 8080), DID).raw
    assert b"Host: [::1]:8080\r\n" in http.provision(Server("::1", 8080), DID).raw
    assert b"Host: api.gizwits.com\r\n" in http.provision(Server("api.gizwits.com"), DID).raw


# --- answers, as the module reads them


@pytest.mark.parametrize(
    ("body", "did"),
    [
        (b"did=SimDid0123456789ABCDEF", DID),
        (b"did=SimDid0123456789ABCDEF\r\n", DID),
        (b"x=1&did=SimDid0123456789ABCDEF&y=2", DID),
        (b"did=SimDid0123456789ABCDE", None),
        (b"did=SimDid0123456789ABCDEFG", None),
        (b"", None),
        (b'{"error_code":9045}', None),
    ],
)
def test_did_of_an_answer(body: bytes, did: str | None) -> None:
    assert http.parse_did(body) == did


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (PROVISION.encode(), Provision("m2m.local", 1883, 1_760_000_000)),
        (b"host=1.2.3.4&port=1883&server_ts=5\r\n", Provision("1.2.3.4", 1883, 5)),
        (b"host=1.2.3.4&port=1883", Provision("1.2.3.4", 1883, None)),
        (b"log_host=x&port=1883&", None),
        (b"host=a&port=0&server_ts=1&", None),
        (b"host=a&port=99999&", None),
        (b"host=&port=1&", None),
        (b"", None),
    ],
)
def test_provision_of_an_answer(body: bytes, found: Provision | None) -> None:
    assert http.parse_provision(body) == found


def test_secure_answers() -> None:
    assert http.parse_did(http_cloud.register_answer(DID, SECRET).encode(), SECRET) == DID
    with pytest.raises(CipherError):
        http.parse_did(b"did=" + DID.encode(), SECRET)


def test_offer_of_an_answer() -> None:
    text = http_cloud.offer_answer("04020021", "http://ota.local/fw/7072.bin")
    assert http.parse_offer(text.encode() + b"\r\n") == Offer("04020021", "http://ota.local/fw/7072.bin")
    assert http.parse_offer(b"soft_ver=1&download_url=ftp://x") is None
    assert http.parse_offer(NO_RULE.body.encode()) is None


def test_error_of_an_answer() -> None:
    assert http.parse_error(404, NO_RULE.body.encode()) == NO_RULE
    for body in (b"", b"[]", b"{}", b'{"error_code":true}', b"<html>", b"[" * 5000):
        assert http.parse_error(400, body) is None


@given(st.binary(max_size=300))
def test_any_answer_is_read_without_a_fault(body: bytes) -> None:
    http.parse_did(body)
    http.parse_provision(body)
    http.parse_offer(body)
    http.parse_error(400, body)


# --- forms, as the cloud reads them


def test_registration_forms() -> None:
    expected = RegisterForm(mac=MAC, passcode=PASSCODE, product_key=PK)
    plain = http.register(SERVER, mac=MAC, passcode=PASSCODE, product_key=PK)
    assert http_cloud.parse_register(body_of(plain.raw)) == expected
    lower = f"passcode={PASSCODE}&mac={MAC}&product_key={PK.upper()}&extra=x".encode()
    assert http_cloud.parse_register(lower) == expected
    secure = http.register_secure(
        SERVER,
        mac=MAC,
        passcode=PASSCODE,
        product_key=PK,
        product_secret=SECRET,
        is_reset=True,
        random_code="b2fb9ea4ae709759b0da5c0fb735a5d4",
    )
    assert http_cloud.parse_register_secure(body_of(secure.raw), PK, SECRET) == RegisterForm(
        mac=MAC,
        passcode=PASSCODE,
        product_key=PK,
        is_reset=True,
        random_code="b2fb9ea4ae709759b0da5c0fb735a5d4",
    )
    # openLuat's client writes upper-case hex and no type.
    luat = f"data={encrypt_hex(SECRET, f'mac={MAC}&passcode={PASSCODE}').upper()}".encode()
    assert http_cloud.parse_register_secure(luat, PK, SECRET) == expected


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (f"mac={MAC}&product_key={PK}", ErrorCode.FORM_INVALID),
        (f"passcode={PASSCODE}&product_key={PK}", ErrorCode.FORM_INVALID),
        (f"passcode={PASSCODE}&mac={MAC}", ErrorCode.PRODUCT_KEY_INVALID),
        (f"passcode={PASSCODE}&mac={MAC}&product_key=short", ErrorCode.PRODUCT_KEY_INVALID),
        (f"passcode={'x' * 17}&mac={MAC}&product_key={PK}", ErrorCode.FORM_INVALID),
        (f"passcode={PASSCODE}&mac=../../x&product_key={PK}", ErrorCode.FORM_INVALID),
        ("x" * 5000, ErrorCode.FORM_INVALID),
        ("", ErrorCode.PRODUCT_KEY_INVALID),
    ],
)
def test_registrations_that_cannot_be(body: str, code: ErrorCode) -> None:
    result = http_cloud.parse_register(body.encode())
    assert isinstance(result, ErrorAnswer)
    assert result.code == code
    assert json.loads(result.body)["error_code"] == code


def test_secure_forms_that_do_not_decrypt() -> None:
    for body in (b"data=00", b"data=zz", b"", b"data=" + b"00" * 16):
        result = http_cloud.parse_register_secure(body, PK, SECRET)
        assert isinstance(result, ErrorAnswer)
        assert result.code == ErrorCode.FORM_INVALID
    assert isinstance(http_cloud.parse_provision_secure("00", SECRET), ErrorAnswer)
    assert isinstance(http_cloud.parse_provision_secure(encrypt_hex(SECRET, "../x"), SECRET), ErrorAnswer)


def test_other_forms() -> None:
    expected = UnregisterForm(DID, PASSCODE)
    plain = body_of(http.unregister(SERVER, did=DID, passcode=PASSCODE).raw)
    secure = body_of(
        http.unregister_secure(SERVER, did=DID, passcode=PASSCODE, product_key=PK, product_secret=SECRET).raw
    )
    assert http_cloud.parse_unregister(plain) == expected
    assert http_cloud.parse_unregister(plain, SECRET) == expected
    assert http_cloud.parse_unregister(secure, SECRET) == expected
    assert isinstance(http_cloud.parse_unregister(secure), ErrorAnswer)
    assert isinstance(http_cloud.parse_unregister(b"did=x"), ErrorAnswer)
    check = http.ota_check(
        SERVER, DID, passcode=PASSCODE, firmware_type=2, hard_version="00000001", soft_version="00000002"
    )
    assert http_cloud.parse_ota_check(body_of(check.raw)) == OtaCheckForm(PASSCODE, 2, "00000001", "00000002")
    luat = f"did={DID}&passcode={PASSCODE}&type=1&hard_version=a&soft_version=b&product_key={PK}&otaid_type=2"
    assert http_cloud.parse_ota_check(luat.encode()) == OtaCheckForm(PASSCODE, 1, "a", "b")
    assert isinstance(http_cloud.parse_ota_check(b"passcode=x&type=3"), ErrorAnswer)
    assert http_cloud.parse_provision_secure(encrypt_hex(SECRET, DID).upper(), SECRET) == DID


@slow_first_time
@given(st.binary(max_size=300))
def test_any_form_is_read_without_a_fault(body: bytes) -> None:
    http_cloud.parse_register(body)
    http_cloud.parse_register_secure(body, PK, SECRET)
    http_cloud.parse_unregister(body, SECRET)
    http_cloud.parse_ota_check(body)
