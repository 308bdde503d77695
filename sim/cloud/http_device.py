"""The HTTP calls of modules, generations G1 to G3 (device-cloud.md §4, §5, §6, §12).

Forms and answers are those of :mod:`gizserial.m2m.http_cloud`, those of G3 of :mod:`gizserial.m2m.agent`;
here they meet the store. Whatever a module sends is answered in one piece of at most 1024 bytes, errors as
JSON.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from gizserial.errors import GizserialError
from gizserial.m2m import agent, http_cloud
from gizserial.m2m.http import ErrorAnswer
from gizserial.m2m.http_cloud import ErrorCode, RegisterForm
from sim.cloud.device import Device
from sim.cloud.errors import StoreError
from sim.cloud.events import Event, Provisioned, Registered, Unregistered, VersionReported
from sim.cloud.http_firmware import NO_FILE, NOTHING, FirmwareApi
from sim.cloud.products import Products
from sim.cloud.store import Store

MAX_BODY: Final = 64 * 1024
"""Largest body that is taken, in bytes."""
SERVER_ERROR: Final = 9008
NOT_FOUND: Final = 9999

_ANY_ADDRESS: Final = frozenset({"", "0.0.0.0", "::"})
_UNKNOWN: Final = ErrorAnswer(ErrorCode.DEVICE_NOT_FOUND, "device not found", 404)
_CREDENTIALS: Final = ErrorAnswer(ErrorCode.CREDENTIALS_INVALID, "did or passcode invalid")
_NO_PATH: Final = ErrorAnswer(NOT_FOUND, "not found", 404)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceApi:
    """What the calls need."""

    store: Store
    products: Products
    mqtt: Callable[[], tuple[str, int]]
    """Host and port that provisioning names. An empty or unspecified host stands for the address at which
    the module reached this server."""
    now: Callable[[], float]
    """Unix seconds."""
    firmware: FirmwareApi | None = None
    """Firmware to offer; None: there never is any."""
    adopt: bool = False
    """Provision a did that is not known: its module was registered with another cloud."""
    told: Callable[[Event], None] = lambda _event: None
    """Takes what modules did: Registered, Provisioned, VersionReported, Unregistered. It is called when that
    is stored, before it is answered."""


class TextAnswer(Response):
    """Text as modules need it: chunked with one chunk, then the connection closes (§12.1).

    Without a length the server makes the chunk.
    """

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Only these headers: no length, and nothing that a module could take for a member (§12.1.3)."""
        del headers
        self.raw_headers = [(b"content-type", b"text/html; charset=utf-8"), (b"connection", b"close")]


def error_response(error: ErrorAnswer) -> Response:
    """An error as JSON, after which the connection closes."""
    body = error.body.encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    return Response(body, error.status, headers=headers)


class _RefusedError(Exception):
    """Ends a call with an error answer."""

    def __init__(self, answer: ErrorAnswer) -> None:
        super().__init__(answer.message)
        self.answer = answer


Handler = Callable[[Request, bytes], Response]
FormT = TypeVar("FormT")


def _accepted(form: FormT | ErrorAnswer) -> FormT:
    if isinstance(form, ErrorAnswer):
        raise _RefusedError(form)
    return form


def device_router(api: DeviceApi) -> APIRouter:
    """Routes of ``/dev`` and ``/v2``. Unknown paths below them are answered 404."""
    calls = _Calls(api)
    router = APIRouter(redirect_slashes=False)
    everything = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
    for path, methods, handler in (
        ("/dev/devices", ["POST"], calls.register),
        ("/dev/devices", ["DELETE"], calls.unregister),
        ("/dev/devices/{did}", ["GET"], calls.provision),
        ("/dev/ota/v4.1/update_and_check/{did}", ["POST"], calls.ota_check),
        ("/dev/ota/v4.1/latest", ["GET"], calls.latest),
        ("/dev/ota/v4.1/download/{id}", ["GET"], calls.download),
        ("/dev/ota/download/{id}", ["GET"], calls.download),
        ("/dev/{product_key}/device", ["POST"], calls.register_secure),
        ("/dev/{product_key}/device", ["GET"], calls.provision_secure),
        ("/dev/{product_key}/device", ["DELETE"], calls.unregister_secure),
        ("/v2/products/{product_key}/devices/{mac}/network", ["POST"], calls.network_by_mac),
        ("/v2/devices/{did}/network", ["POST"], calls.network),
        ("/v2/devices/{did}/bootstrap", ["GET"], calls.bootstrap),
    ):
        router.add_api_route(path, _endpoint(handler), methods=methods, include_in_schema=False)
    # JD cloud (§13) and whatever else a module tries: a sound 404 instead of silence.
    for rest in ("/dev/{rest:path}", "/v2/{rest:path}"):
        router.add_api_route(rest, _no_path, methods=everything, include_in_schema=False)
    return router


async def _no_path(request: Request) -> Response:
    del request
    return error_response(_NO_PATH)


def _endpoint(handler: Handler) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        try:
            body = await _body(request)
            return handler(request, body)
        except _RefusedError as refused:
            return error_response(refused.answer)
        except ClientDisconnect:
            return error_response(ErrorAnswer(ErrorCode.FORM_INVALID, "form invalid: it ended early"))
        except StoreError:
            # Not acknowledged, so the module repeats it. The sentence names files of ours: not for the wire.
            return error_response(ErrorAnswer(SERVER_ERROR, "server error: devices cannot be stored", 500))
        except GizserialError as error:
            return error_response(ErrorAnswer(SERVER_ERROR, f"server error: {error}"[:200], 500))

    return endpoint


async def _body(request: Request) -> bytes:
    """The whole body. Its type does not matter: modules say various things.

    :raises _RefusedError: when it is too large, as soon as that is known.
    """
    too_large = ErrorAnswer(ErrorCode.FORM_INVALID, f"form invalid: more than {MAX_BODY} bytes", 413)
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > MAX_BODY:
        raise _RefusedError(too_large)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise _RefusedError(too_large)
    return bytes(body)


class _Calls:
    """One method per call; each takes the request and its whole body."""

    def __init__(self, api: DeviceApi) -> None:
        self._api = api

    # --- G1

    def register(self, request: Request, body: bytes) -> Response:
        form = _accepted(http_cloud.parse_register(body))
        if (refusal := self._api.products.refusal(form.product_key)) is not None:
            raise _RefusedError(refusal)
        device = self._register(request, form)
        return TextAnswer(http_cloud.register_answer(device.did), 201)

    def provision(self, request: Request, body: bytes) -> Response:
        del body
        did = request.path_params["did"]
        device = self._api.store.device(did)
        if device is None and not (self._api.adopt and len(did) == 22 and did.isascii() and did.isalnum()):
            raise _RefusedError(_UNKNOWN)
        return self._provision(request, did, device)

    def ota_check(self, request: Request, body: bytes) -> Response:
        form = _accepted(http_cloud.parse_ota_check(body))
        store, did = self._api.store, request.path_params["did"]
        device = store.device(did)
        if device is None:
            raise _RefusedError(NOTHING if self._api.adopt else _UNKNOWN)
        if not store.check_login(did, form.passcode):
            raise _RefusedError(_CREDENTIALS)
        now, kind, versions = self._api.now(), form.firmware_type, (form.hard_version, form.soft_version)
        store.set_versions(did, kind, *versions, now)
        self._touch(request, did)
        self._api.told(
            VersionReported(
                at=now, did=did, firmware_type=kind, hard_version=versions[0], soft_version=versions[1]
            )
        )
        firmware = self._api.firmware
        offer = NOTHING if firmware is None else firmware.check(request, device, kind, versions[1])
        return TextAnswer(_accepted(offer))

    def latest(self, request: Request, body: bytes) -> Response:
        del body
        firmware = self._api.firmware
        return TextAnswer(_accepted(NOTHING if firmware is None else firmware.latest(request)))

    def download(self, request: Request, body: bytes) -> Response:
        del body
        firmware = self._api.firmware
        return _accepted(NO_FILE if firmware is None else firmware.download(request))

    def unregister(self, request: Request, body: bytes) -> Response:
        del request
        form = _accepted(http_cloud.parse_unregister(body))
        return self._unregister(form.did, form.passcode)

    # --- G2

    def register_secure(self, request: Request, body: bytes) -> Response:
        product_key, secret = self._product(request)
        form = _accepted(http_cloud.parse_register_secure(body, product_key, secret))
        device = self._register(request, form, secure=True)
        return TextAnswer(http_cloud.register_answer(device.did, secret), 201)

    def provision_secure(self, request: Request, body: bytes) -> Response:
        del body
        product_key, secret = self._product(request)
        did = _accepted(http_cloud.parse_provision_secure(_query(request, "did"), secret))
        device = self._api.store.device(did)
        if device is None or device.product_key != product_key:
            raise _RefusedError(_UNKNOWN)
        return self._provision(request, did, device, secret)

    def unregister_secure(self, request: Request, body: bytes) -> Response:
        """The form encrypted, the plain form of G1, or the encrypted did in the query (R4)."""
        product_key, secret = self._product(request)
        passcode: str | None
        if did_hex := _query(request, "did"):
            # Only who has the product secret can write it. A passcode in the body is checked nevertheless.
            did, passcode = _accepted(http_cloud.parse_provision_secure(did_hex, secret)), None
        if body.strip() or not did_hex:
            form = _accepted(http_cloud.parse_unregister(body, secret))
            did, passcode = form.did, form.passcode
        device = self._api.store.device(did)
        if device is not None and device.product_key != product_key:
            raise _RefusedError(_UNKNOWN)
        return self._unregister(did, passcode)

    # --- G3

    def network_by_mac(self, request: Request, body: bytes) -> Response:
        """On-boarding of a device without ``auth_key``: its did is in the answer."""
        product_key, secret = self._product(request)
        signer = agent.Signer(product_key, request.path_params["mac"], secret)
        return self._network(request, body, signer)

    def network(self, request: Request, body: bytes) -> Response:
        """The same of a device that knows its did."""
        return self._network(request, body, self._signer(self._known(request)))

    def bootstrap(self, request: Request, body: bytes) -> Response:
        del body
        device = self._known(request)
        self._verify(request, self._signer(device))
        return self._provision_signed(request, device.did)

    def _network(self, request: Request, body: bytes, signer: agent.Signer) -> Response:
        self._verify(request, signer, body)
        known = self._api.store.by_mac(signer.product_key, signer.mac)
        # Nothing of G3 carries a passcode; one that nobody knows keeps the device from others.
        passcode = known.passcode if known is not None else secrets.token_hex(5)
        form = _accepted(agent.parse_network_form(body, signer, passcode))
        device = self._register(request, form, secure=True)
        return self._provision_signed(request, device.did, new=True)

    def _provision_signed(self, request: Request, did: str, *, new: bool = False) -> Response:
        host, port = self._mqtt(request)
        self._touch(request, did)
        self._api.told(Provisioned(at=self._api.now(), did=did, host=host, port=port))
        return TextAnswer(agent.network_answer(host, port, did if new else None))

    def _verify(self, request: Request, signer: agent.Signer, body: bytes | None = None) -> None:
        if (refusal := agent.refusal(request.headers, signer, body)) is not None:
            raise _RefusedError(refusal)

    def _known(self, request: Request) -> Device:
        device = self._api.store.device(request.path_params["did"])
        if device is None:
            raise _RefusedError(_UNKNOWN)
        return device

    def _signer(self, device: Device) -> agent.Signer:
        secret = _accepted(self._api.products.secret(device.product_key))
        return agent.Signer(device.product_key, device.mac, secret)

    # --- all

    def _product(self, request: Request) -> tuple[str, str]:
        product_key = request.path_params["product_key"].lower()
        return product_key, _accepted(self._api.products.secret(product_key))

    def _register(self, request: Request, form: RegisterForm, *, secure: bool = False) -> Device:
        store, now = self._api.store, self._api.now()
        new = store.by_mac(form.product_key, form.mac) is None
        device = store.register(
            form.product_key,
            form.mac,
            form.passcode,
            is_reset=form.is_reset,
            now=now,
            random_code=form.random_code,
        )
        self._touch(request, device.did)
        self._api.told(
            Registered(
                at=now,
                did=device.did,
                mac=device.mac,
                product_key=device.product_key,
                new=new,
                is_reset=form.is_reset,
                secure=secure,
                random_code=form.random_code,
            )
        )
        return device

    def _unregister(self, did: str, passcode: str | None) -> Response:
        store = self._api.store
        if not store.unregister(did, passcode):
            raise _RefusedError(_CREDENTIALS if store.device(did) else _UNKNOWN)
        self._api.told(Unregistered(at=self._api.now(), did=did))
        return TextAnswer("ok")

    def _provision(
        self, request: Request, did: str, device: Device | None, secret: str | None = None
    ) -> Response:
        host, port = self._mqtt(request)
        answer = http_cloud.provision_answer(host, port, int(self._api.now()), product_secret=secret)
        if device is not None:
            self._touch(request, did)
        self._api.told(Provisioned(at=self._api.now(), did=did, host=host, port=port))
        return TextAnswer(answer)

    def _mqtt(self, request: Request) -> tuple[str, int]:
        host, port = self._api.mqtt()
        if host in _ANY_ADDRESS:
            here = request.scope.get("server")
            host = here[0] if here else "127.0.0.1"
        return host, port

    def _touch(self, request: Request, did: str) -> None:
        address = None if request.client is None else request.client.host
        self._api.store.touch(did, self._api.now(), address=address)


def _query(request: Request, name: str) -> str:
    return http_cloud.parse_form(request.url.query).get(name, "")
