"""The admin API: for tests and for whoever runs the cloud, on this machine only.

It has no credentials. Requests from another machine are refused, and so are those of web pages: a page that
is open in the user's browser can reach this port, but its requests name another origin or another host.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import json
import re
import secrets
import string
from collections.abc import Callable
from typing import Annotated, Any, Final

import pydantic
from fastapi import Request

from gizserial.errors import GizserialError, ProductError
from gizserial.product import parse_product
from sim.cloud.added_products import AddedProducts
from sim.cloud.api_errors import ApiError, Code
from sim.cloud.app_side import AppSide
from sim.cloud.device import Device
from sim.cloud.events import DefinitionChanged
from sim.cloud.openapi.calls import Auth, Call, Calls, Form
from sim.cloud.openapi.records import moment
from sim.cloud.products import CloudProduct, Credential

BASE: Final = "/admin"
_HOSTS: Final = frozenset({"localhost", "localhost.localdomain"})
_HOST: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[0-9A-Za-z.-]+))(?::[0-9]{1,5})?")
"""A header ``Host``; browsers always send one."""
Text = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=256)]
_UNKNOWN_USER: Final = Code.USER_UNKNOWN


class Login(Form):
    """Who may log in at SNoti."""

    auth_id: Text
    auth_secret: Text


class EnterpriseForm(Form):
    """To which enterprise a product belongs."""

    id: Text
    secret: Text


class ProductForm(Form):
    """Body of ``POST /admin/products``: a definition, or at least a key."""

    definition: dict[str, Any] | None = None
    product_key: Text | None = None
    product_secret: Text | None = None
    shared: bool = False
    snoti: list[Login] = pydantic.Field(default=[], max_length=100)
    enterprise: EnterpriseForm | None = None


class AppForm(Form):
    """Body of ``POST /admin/apps``; what is missing is made up."""

    appid: Text | None = None
    appsecret: Text | None = None
    products: list[Text] | None = pydantic.Field(default=None, max_length=1000)


class UserForm(Form):
    """Body of ``POST /admin/users``: one of the three names."""

    username: Text | None = None
    email: Text | None = None
    phone: Text | None = None
    password: Text


class DeviceForm(Form):
    """Body of ``POST /admin/devices``: a device that is known before it registers (R18)."""

    product_key: Text
    mac: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=32)]
    passcode: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=16)] | None = None


class DeviceState(Form):
    """Body of ``PATCH /admin/devices/{did}``."""

    disabled: bool


class BindingForm(Form):
    """Body of ``POST`` and ``DELETE /admin/bindings``."""

    uid: Text
    did: Text
    appid: Text = ""


class Target(Form):
    """Query of ``GET /admin/outbox``: a phone number or an e-mail address."""

    target: str | None = None


class WhoseSession(Form):
    """Body of ``POST /admin/faults/lose_session``; without a user: everybody's."""

    uid: Text | None = None


class Throttle(Form):
    """Body of ``POST /admin/faults/throttle``: so many calls are refused with 9041."""

    calls: int = pydantic.Field(ge=0, le=1_000_000)


def admin_calls(side: AppSide) -> Calls:
    """The calls under ``/admin``."""
    calls = Calls(side, "Administration")
    added = AddedProducts(side.store.database, side.products)

    def add(method: str, path: str, handler: Callable[[Call], Any], *errors: int, **options: Any) -> None:
        calls.add(
            method,
            BASE + path,
            handler,
            auth=Auth.NONE,
            guard=from_here,
            errors=(Code.NOT_OWNER, *errors),
            **options,
        )

    @functools.wraps(add_product)
    def new_product(call: Call) -> Any:
        return add_product(call, added)

    @functools.wraps(delete_product)
    def no_product(call: Call) -> Any:
        return delete_product(call, added)

    add("GET", "/status", status)
    add("GET", "/products", products)
    add("POST", "/products", new_product, status=201, body=ProductForm)
    add("DELETE", "/products/{pk}", no_product, Code.PRODUCT_KEY_INVALID)
    add("POST", "/products/{pk}/changed", product_changed, Code.PRODUCT_KEY_INVALID)
    add("GET", "/apps", apps)
    add("POST", "/apps", add_app, status=201, body=AppForm)
    add("DELETE", "/apps/{appid}", delete_app, Code.APPID_INVALID)
    add("GET", "/users", users)
    taken = (Code.PHONE_TAKEN, Code.USERNAME_TAKEN, Code.EMAIL_TAKEN)
    add("POST", "/users", add_user, *taken, status=201, body=UserForm)
    add("DELETE", "/users/{uid}", delete_user, _UNKNOWN_USER)
    add("POST", "/users/{uid}/expire_tokens", expire_tokens, _UNKNOWN_USER)
    add("POST", "/users/{uid}/revoke_tokens", revoke_tokens, _UNKNOWN_USER)
    add("GET", "/devices", devices)
    add("POST", "/devices", add_device, Code.PRODUCT_KEY_INVALID, status=201, body=DeviceForm)
    add("PATCH", "/devices/{did}", set_device, Code.DEVICE_NOT_FOUND, body=DeviceState)
    add("DELETE", "/devices/{did}", delete_device, Code.DEVICE_NOT_FOUND)
    add("POST", "/devices/{did}/disconnect", disconnect, Code.DEVICE_NOT_FOUND, Code.DEVICE_OFFLINE)
    add("GET", "/bindings", bindings)
    wrong = (_UNKNOWN_USER, Code.DEVICE_NOT_FOUND)
    add("POST", "/bindings", bind, *wrong, Code.OWNER_EXISTS, status=201, body=BindingForm)
    add("DELETE", "/bindings", unbind, Code.NOT_BOUND, body=BindingForm)
    add("GET", "/outbox", outbox, query=Target)
    add("POST", "/faults/lose_session", lose_session, body=WhoseSession)
    add("POST", "/faults/throttle", throttle, body=Throttle)
    return calls


# --- who may call


def from_here(request: Request) -> None:
    """Refuse who is no program of this machine (:raises ApiError: 9093)."""
    if not is_local(request):
        raise ApiError(Code.NOT_OWNER, "the admin API is for this machine only", message="permission denied")


def is_local(request: Request) -> bool:
    """Whether a program of this machine asks, and no web page."""
    peer = request.client.host if request.client is not None else ""
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    named = _HOST.fullmatch(host)
    return (
        _is_loopback(peer)
        and (not host or (named is not None and _is_here(named["six"] or named["host"])))
        and origin in {None, f"http://{host}", f"https://{host}"}
        and request.headers.get("sec-fetch-site", "same-origin") in {"same-origin", "none"}
    )


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def _is_here(host: str) -> bool:
    return host.lower() in _HOSTS or _is_loopback(host)


# --- what there is


def status(call: Call) -> Any:
    """Where the cloud listens, and how much there is."""
    side = call.side
    return {
        "products": len(list(side.products)),
        "apps": len(side.accounts.apps()),
        "users": len(side.accounts.users()),
        "devices": len(side.store.devices()),
        "online": len(side.hub.online),
    }


def products(call: Call) -> Any:
    """Every product, without its secrets."""
    return [
        {
            "product_key": product.product_key,
            "name": product.name,
            "has_secret": product.secret is not None,
            "has_definition": product.product is not None,
            "shared": product.shared,
            "snoti": [login.id for login in product.credentials],
            "enterprise": product.enterprise.id if product.enterprise is not None else None,
        }
        for product in call.side.products
    ]


def add_product(call: Call, added: AddedProducts) -> Any:
    """Serve a product, in place of the one with its key; a secret that is missing is made up."""
    form = call.body(ProductForm)
    try:
        definition = (
            parse_product(json.dumps(form.definition, ensure_ascii=False).encode(), "definition")
            if form.definition is not None
            else None
        )
        if definition is not None and form.product_key and not definition.product_key:
            definition = dataclasses.replace(definition, product_key=form.product_key)
        product = CloudProduct(
            product_key=(definition.product_key if definition is not None else form.product_key) or "",
            product=definition,
            secret=form.product_secret or secrets.token_hex(16),
            shared=form.shared,
            credentials=tuple(Credential(login.auth_id, login.auth_secret) for login in form.snoti),
            enterprise=None
            if form.enterprise is None
            else Credential(form.enterprise.id, form.enterprise.secret),
        )
    except ProductError as error:
        found = "; ".join(f"{finding.path}: {finding.message}" for finding in error.findings[:5])
        raise ApiError(Code.FORM_INVALID, found[:1000]) from error
    except (GizserialError, ValueError) as error:
        raise ApiError(Code.FORM_INVALID, str(error)[:1000]) from error
    added.put(product)
    return {"product_key": product.product_key, "product_secret": product.secret}


def delete_product(call: Call, added: AddedProducts) -> None:
    """Serve a product no more."""
    if not added.remove(call.path("pk")):
        raise ApiError(Code.PRODUCT_KEY_INVALID)


def product_changed(call: Call) -> None:
    """Tell servers that the data points of a product have changed (SNoti ``datapoints.changed``)."""
    product = call.side.cloud_product(call.path("pk"))
    if product is None:
        raise ApiError(Code.PRODUCT_KEY_INVALID)
    call.side.hub.tell(DefinitionChanged(at=call.side.now(), product_key=product.product_key))


def apps(call: Call) -> Any:
    """Every app."""
    return [
        {"appid": app.appid, "products": None if app.products is None else sorted(app.products)}
        for app in call.side.accounts.apps()
    ]


def add_app(call: Call) -> Any:
    """Register an app."""
    form = call.body(AppForm)
    app = call.side.accounts.add_app(form.appid, form.appsecret, form.products)
    return {"appid": app.appid, "appsecret": app.appsecret}


def delete_app(call: Call) -> None:
    """Forget an app."""
    if not call.side.accounts.delete_app(call.path("appid")):
        raise ApiError(Code.APPID_INVALID)


# --- users


def users(call: Call) -> Any:
    """Every user."""
    return [
        {
            "uid": user.uid,
            "username": user.username,
            "email": user.email,
            "phone": user.phone,
            "is_anonymous": user.is_anonymous,
            "created_at": moment(user.created),
        }
        for user in call.side.accounts.users()
    ]


def add_user(call: Call) -> Any:
    """Make a user."""
    form = call.body(UserForm)
    for kind in ("username", "email", "phone"):
        value = getattr(form, kind)
        if value:
            return {"uid": call.side.accounts.create(kind, value, form.password).uid}
    raise ApiError(Code.FORM_INVALID, "username, email or phone is needed")


def _known_user(call: Call) -> str:
    uid = call.path("uid")
    if call.side.accounts.user(uid) is None:
        raise ApiError(Code.USER_UNKNOWN)
    return uid


def delete_user(call: Call) -> None:
    """Forget a user, his bindings and tokens."""
    call.side.delete_user(_known_user(call))


def expire_tokens(call: Call) -> None:
    """Let every token of a user expire now (9006; WebSocket 1009)."""
    call.side.accounts.expire(_known_user(call))


def revoke_tokens(call: Call) -> None:
    """Let every token of a user be unknown (9004; WebSocket 1009)."""
    call.side.accounts.revoke(_known_user(call))


# --- devices


def _shown(call: Call, device: Device) -> dict[str, Any]:
    return {
        "did": device.did,
        "product_key": device.product_key,
        "mac": device.mac,
        "passcode": device.passcode,
        "is_online": call.side.hub.is_online(device.did),
        "is_disabled": device.disabled,
        "users": sorted(call.side.bindings.users_of(device.did)),
        "created_at": moment(device.created),
        "last_address": device.last_address,
    }


def devices(call: Call) -> Any:
    """Every device."""
    return [_shown(call, device) for device in call.side.store.devices()]


def add_device(call: Call) -> Any:
    """Make a device known before it registers."""
    form, side = call.body(DeviceForm), call.side
    product = side.cloud_product(form.product_key)
    if product is None:
        raise ApiError(Code.PRODUCT_KEY_INVALID)
    passcode = form.passcode or "".join(secrets.choice(string.ascii_uppercase) for _ in range(10))
    known = side.store.by_mac(product.product_key, form.mac)
    if known is None:
        known = side.store.register(product.product_key, form.mac, passcode, is_reset=False, now=side.now())
        side.fulfil(known)
    return _shown(call, known)


def set_device(call: Call) -> Any:
    """Take a device out of use, or back into it."""
    device = call.side.device(call.path("did"))
    call.side.store.set_disabled(device.did, disabled=call.body(DeviceState).disabled)
    return _shown(call, call.side.device(device.did))


def delete_device(call: Call) -> None:
    """Forget a device; if it registers again, it gets another did."""
    if not call.side.delete_device(call.path("did")):
        raise ApiError(Code.DEVICE_NOT_FOUND)


def disconnect(call: Call) -> None:
    """Cut the MQTT connection of a device, as a fault; it will come back."""
    device = call.side.device(call.path("did"))
    if not call.side.hub.disconnect(device.did, "cut by the admin API"):
        raise ApiError(Code.DEVICE_OFFLINE)


# --- bindings


def bindings(call: Call) -> Any:
    """Every binding."""
    return [
        {"uid": each.uid, "did": each.did, "appid": each.appid, "role": each.role}
        for user in call.side.accounts.users()
        for each in call.side.bindings.of_user(user.uid)
    ]


def bind(call: Call) -> Any:
    """Give a user a device."""
    form = call.body(BindingForm)
    if call.side.accounts.user(form.uid) is None:
        raise ApiError(Code.USER_UNKNOWN)
    binding = call.side.bind(form.uid, call.side.device(form.did), form.appid)
    return {"uid": binding.uid, "did": binding.did, "appid": binding.appid, "role": binding.role}


def unbind(call: Call) -> None:
    """Take a device away from a user."""
    form = call.body(BindingForm)
    if not call.side.bindings.unbind(form.uid, form.did):
        raise ApiError(Code.NOT_BOUND)


# --- what would have been sent, and faults


def outbox(call: Call) -> Any:
    """SMS codes and e-mails that were not sent, the newest first."""
    return [
        {"at": letter.at, "kind": letter.kind, "target": letter.target, "text": letter.text}
        for letter in call.side.outbox.letters(call.query(Target).target)
    ]


def lose_session(call: Call) -> Any:
    """Lose the WebSocket sessions of a user, or of everybody (1009)."""
    return {"sessions": call.side.lose_sessions(call.body(WhoseSession).uid)}


def throttle(call: Call) -> None:
    """Refuse the next calls of the Open API as the real service does when there are too many."""
    call.side.throttled = call.body(Throttle).calls
