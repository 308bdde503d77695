"""Bindings: which devices a user has (open-api.md §7)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any, Final
from urllib.parse import parse_qsl

import pydantic

from sim.cloud.accounts import User
from sim.cloud.api_errors import ApiError, Code
from sim.cloud.app_side import AppSide
from sim.cloud.device import Device
from sim.cloud.openapi.calls import Auth, Call, Calls, Form, Page, parse_json
from sim.cloud.openapi.records import device_record, moment

CLOCK_TOLERANCE: Final = 300
"""Seconds that the timestamp of ``bind_mac`` may be off."""
RANDOM_CODE_TIME: Final = 300.0
"""Seconds after its registration that a device can be found by its random code."""
MAX_LISTED: Final = 1000
"""Devices in one request."""


class BindMac(Form):
    """Body of ``POST /app/bind_mac``."""

    product_key: str
    mac: str
    remark: str = ""
    dev_alias: str = ""
    set_owner: bool = False


class Devices(Page):
    """Query of ``GET /app/bindings``."""

    show_disabled: bool = False
    show_proto_ver: bool = False


class Names(Form):
    """Body of ``PUT /app/bindings/{did}``: at least one of them."""

    remark: str | None = pydantic.Field(default=None, max_length=1024)
    dev_alias: str | None = pydantic.Field(default=None, max_length=1024)
    dev_label: list[str] | None = pydantic.Field(default=None, max_length=100)


class ListedDevice(Form):
    """A device in a body."""

    did: str
    passcode: str = ""
    remark: str = ""


class ListedDevices(Form):
    """Body of ``POST`` and ``DELETE /app/bindings``."""

    devices: list[ListedDevice] = pydantic.Field(min_length=1, max_length=MAX_LISTED)


class QrContent(Form):
    """Body of ``POST /app/bind_latest``."""

    qr_content: str
    set_owner: bool = False


class Guest(Form):
    """Query of ``DELETE /app/{did}/bindings``."""

    uid: str


class RandomCodes(Form):
    """Query of ``GET /app/device_register``: codes with commas between."""

    random_codes: str


def binding_calls(side: AppSide) -> Calls:
    """The calls of §7."""
    calls = Calls(side, "Bindings")
    calls.add(
        "POST",
        "/app/bind_mac",
        bind_mac,
        body=BindMac,
        status=201,
        errors=(
            Code.PRODUCT_KEY_INVALID,
            Code.TIMESTAMP_INVALID,
            Code.SIGNATURE_INVALID,
            Code.DEVICE_NOT_FOUND,
            Code.DEVICE_DISABLED,
            Code.OWNER_EXISTS,
        ),
        headers={
            "X-Gizwits-Timestamp": "Unix seconds as decimal text",
            "X-Gizwits-Signature": "lower-case hex MD5 of product_secret + X-Gizwits-Timestamp",
        },
        example={"product_key": "0123456789abcdef0123456789abcdef", "mac": "5ccf7f0a1b2c"},
    )
    calls.add("GET", "/app/bindings", list_bindings, query=Devices)
    calls.add("PUT PATCH", "/app/bindings/{did}", rename, body=Names, errors=(Code.NOT_BOUND,))
    calls.add("POST", "/app/bindings", bind_with_passcode, body=ListedDevices)
    calls.add("DELETE", "/app/bindings", unbind, body=ListedDevices)
    calls.add(
        "POST",
        "/app/bind_latest",
        bind_by_qr,
        body=QrContent,
        status=201,
        errors=(
            Code.QR_INVALID,
            Code.PRODUCT_KEY_INVALID,
            Code.DEVICE_NOT_FOUND,
            Code.PASSCODE_INVALID,
            Code.DEVICE_DISABLED,
            Code.OWNER_EXISTS,
        ),
    )
    calls.add(
        "GET",
        "/app/{did}/bindings",
        guests,
        errors=(Code.DEVICE_NOT_FOUND, Code.NOT_BOUND, Code.NOT_OWNER),
    )
    calls.add(
        "DELETE",
        "/app/{did}/bindings",
        remove_guest,
        query=Guest,
        errors=(
            Code.DEVICE_NOT_FOUND,
            Code.NOT_BOUND,
            Code.NOT_OWNER,
            Code.UNBIND_SELF,
            Code.GUEST_NOT_FOUND,
        ),
    )
    calls.add("GET", "/app/device_register", by_random_code, auth=Auth.APP, query=RandomCodes)
    calls.add("POST", "/app/provision", provision, auth=Auth.APP, body=Form, status=201)
    return calls


# --- binding


def bind_mac(call: Call) -> Any:
    """Bind a device by its product and mac, with the product's signature."""
    form, side = call.body(BindMac), call.side
    product = side.cloud_product(form.product_key)
    if product is None or not call.app.may_use(product.product_key):
        raise ApiError(Code.PRODUCT_KEY_INVALID)
    _check_signature(call, product.secret or "")
    device = side.store.by_mac(product.product_key, form.mac)
    if device is None:
        raise ApiError(Code.DEVICE_NOT_FOUND)
    return _bind(
        call,
        device,
        remark=form.remark[:1024],
        dev_alias=form.dev_alias[:1024],
        set_owner=form.set_owner,
    )


def _check_signature(call: Call, secret: str) -> None:
    text = call.request.headers.get("x-gizwits-timestamp", "").strip()
    stamp = int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None
    if stamp is None or abs(int(call.side.now()) - stamp) > CLOCK_TOLERANCE:
        raise ApiError(Code.TIMESTAMP_INVALID)
    given = call.request.headers.get("x-gizwits-signature", "").strip().lower()
    # openapi-sdk-java lowers the whole text before it hashes.
    good = {_md5(secret + text), _md5((secret + text).lower())}
    if given not in good:
        raise ApiError(Code.SIGNATURE_INVALID)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()  # noqa: S324 - of the protocol


def _bind(
    call: Call, device: Device, *, remark: str = "", dev_alias: str = "", set_owner: bool = False
) -> dict[str, Any]:
    if device.disabled:
        raise ApiError(Code.DEVICE_DISABLED)
    binding = call.side.bind(
        call.user.uid, device, call.app.appid, remark=remark, dev_alias=dev_alias, set_owner=set_owner
    )
    return device_record(call.side, call.request, device, binding)


def bind_with_passcode(call: Call) -> Any:
    """Bind devices whose did and passcode are known (the older way)."""
    success: list[str] = []
    failed: list[str] = []
    with call.side.store.database.transaction():  # one wait for the disk, not one for each
        for listed in call.body(ListedDevices).devices:
            (success if _bind_listed(call, listed) else failed).append(listed.did)
    return {"success": success, "failed": failed}


def _bind_listed(call: Call, listed: ListedDevice) -> bool:
    device = call.side.store.device(listed.did)
    if device is None or not call.side.store.check_login(listed.did, listed.passcode):
        return False
    if not call.app.may_use(device.product_key):
        return False
    try:
        _bind(call, device, remark=listed.remark[:1024])
    except ApiError:
        return False
    return True


def bind_by_qr(call: Call) -> Any:
    """Bind the device that a QR code names."""
    form, side = call.body(QrContent), call.side
    named = read_qr(form.qr_content)
    product = side.cloud_product(named.get("product_key", ""))
    if product is None or not call.app.may_use(product.product_key):
        raise ApiError(Code.PRODUCT_KEY_INVALID)
    if "did" in named:
        device = side.store.device(named["did"])
        if device is None or not side.store.check_login(named["did"], named.get("passcode", "")):
            raise ApiError(Code.PASSCODE_INVALID)
    else:
        device = side.store.by_mac(product.product_key, named["mac"])
    if device is None or device.product_key != product.product_key:
        raise ApiError(Code.DEVICE_NOT_FOUND)
    return _bind(call, device, set_owner=form.set_owner)


def read_qr(content: str) -> dict[str, str]:
    """What a QR code says (§7.6): ``product_key`` with ``mac``, or with ``did`` and ``passcode``.

    :raises ApiError: 9040, none of the three forms.
    """
    named: dict[str, str] = {}
    text = content.strip()
    if len(text) > 2048:
        raise ApiError(Code.QR_INVALID)
    if text.startswith("{"):
        try:
            members = parse_json(text)
        except ApiError as error:
            raise ApiError(Code.QR_INVALID) from error
        named = {key: value for key, value in members.items() if isinstance(value, str)}
    elif "product_key=" in text:
        named = dict(parse_qsl(text))
    else:
        try:
            key, _, mac = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition(",")
        except (binascii.Error, ValueError) as error:
            raise ApiError(Code.QR_INVALID) from error
        named = {"product_key": key, "mac": mac}
    if not named.get("product_key") or not (named.get("mac") or named.get("did")):
        raise ApiError(Code.QR_INVALID)
    return named


# --- what there is


def list_bindings(call: Call) -> Any:
    """The user's devices, in the order in which they were bound."""
    page, side = call.query(Devices), call.side
    devices = ((binding, side.store.device(binding.did)) for binding in side.bindings.of_user(call.user.uid))
    shown = [
        (binding, device)
        for binding, device in devices
        if device is not None and (page.show_disabled or not device.disabled)
    ]
    return {
        "devices": [
            device_record(side, call.request, device, binding, with_protocol=page.show_proto_ver)
            for binding, device in shown[page.start : page.start + page.size]
        ]
    }


def rename(call: Call) -> Any:
    """Change remark, alias or labels of a binding."""
    form, bindings, did = call.body(Names), call.side.bindings, call.path("did")
    if form.remark is None and form.dev_alias is None and form.dev_label is None:
        raise ApiError(Code.FORM_INVALID, "remark, dev_alias or dev_label is needed")
    if bindings.get(call.user.uid, did) is None:
        raise ApiError(Code.NOT_BOUND)
    bindings.edit(call.user.uid, did, remark=form.remark, dev_alias=form.dev_alias, dev_label=form.dev_label)
    now = bindings.get(call.user.uid, did)
    if now is None:
        raise ApiError(Code.NOT_BOUND)
    return {"remark": now.remark, "dev_alias": now.dev_alias, "dev_label": list(now.dev_label)}


def unbind(call: Call) -> Any:
    """Unbind devices."""
    success: list[str] = []
    failed: list[str] = []
    with call.side.store.database.transaction():
        for listed in call.body(ListedDevices).devices:
            (success if call.side.bindings.unbind(call.user.uid, listed.did) else failed).append(listed.did)
    return {"success": success, "failed": failed}


# --- guests


def guests(call: Call) -> Any:
    """Who else has the owner's device."""
    _owned(call)
    listed = []
    for binding in call.side.bindings.of_device(call.path("did")):
        user = call.side.accounts.user(binding.uid)
        if user is not None and user.uid != call.user.uid:
            listed.append({**masked(user), "uid": user.uid, "created_at": moment(binding.created)})
    return listed


def remove_guest(call: Call) -> Any:
    """Take the owner's device away from a guest."""
    _owned(call)
    uid = call.query(Guest).uid
    if uid == call.user.uid:
        raise ApiError(Code.UNBIND_SELF)
    if not call.side.bindings.unbind(uid, call.path("did")):
        raise ApiError(Code.GUEST_NOT_FOUND)
    return {}


def _owned(call: Call) -> None:
    _, binding = call.side.bound(call.user, call.path("did"))
    if binding.role not in {"owner", "special"}:
        raise ApiError(Code.NOT_OWNER)


def masked(user: User) -> dict[str, str | None]:
    """Names of a person as others may see them (§7.6)."""
    return {
        "username": _mask_middle(user.username),
        "phone": _mask_middle(user.phone),
        "email": _mask_email(user.email),
    }


def _mask_middle(text: str | None) -> str | None:
    if text is None or len(text) <= 2:
        return text
    size = min(4, len(text) - 2)
    start = (len(text) - size) // 2
    return text[:start] + "*" * size + text[start + size :]


def _mask_email(text: str | None) -> str | None:
    name, at, host = (text or "").rpartition("@")
    if not at:
        return _mask_middle(text)
    if len(name) <= 4:
        return f"{_mask_middle(name)}{at}{host}"
    return f"{name[:-4]}****{at}{host}"


# --- on-boarding


def by_random_code(call: Call) -> Any:
    """Devices that have just registered with one of these random codes."""
    codes = [code for code in call.query(RandomCodes).random_codes.split(",", 100) if code]
    since = call.side.now() - RANDOM_CODE_TIME
    return [
        {"product_key": device.product_key, "did": device.did, "mac": device.mac}
        for device in (call.side.store.by_random_codes(codes, since) if codes else ())
    ]


def provision(_call: Call) -> None:
    """Statistics of the SDK: accepted and forgotten."""
