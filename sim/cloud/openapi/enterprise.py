"""The Enterprise API: one product's devices, without users (open-api.md §19)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, Literal, Self

import pydantic

from sim.cloud.accounts import User
from sim.cloud.api_errors import ApiError, Code, EnterpriseError
from sim.cloud.app_side import AppSide
from sim.cloud.device import Device
from sim.cloud.device_groups import DeviceGroups
from sim.cloud.enterprise import Enterprise
from sim.cloud.events import Origin
from sim.cloud.history import CONNECTIONS, PACKETS
from sim.cloud.openapi.calls import Auth, BodyInvalid, Call, Calls, Form, Page
from sim.cloud.openapi.device_groups import add_device_groups
from sim.cloud.openapi.devices import Control
from sim.cloud.openapi.paging import style_b
from sim.cloud.openapi.records import UNKNOWN_VERSION, moment
from sim.cloud.products import CloudProduct
from sim.cloud.values import http_values

BASE: Final = "/v1/products/{pk}"
RATE_LIMIT: Final = {
    "X-RateLimit-Limit": "3600",
    "X-RateLimit-Remaining": "3599",
    "X-RateLimit-Reset": "3600",
}
"""Told and not enforced: this is a bench."""
MAX_SPAN: Final = 2 * 86400
_TOKEN_ERRORS: Final = (5009, 5010, 5011, 5015)
_DEVICE_ERRORS: Final = (5301, 5302)
_REPORTS: Final = (
    "/devices/report/activation",
    "/devices/locations",
    "/summary",
    "/incr_devices",
    "/active_devices",
    "/devices/report/liveness/history",
    "/devices/report/rt",
    "/fault/report/devices",
    "/alert/report/devices",
    "/fault/report/events",
    "/alert/report/events",
    "/users/search",
    "/users/report/new",
    "/users/report/total",
)
"""Statistics that the real service makes once a day; here nobody does."""
_AS_ENTERPRISE: Final = {
    Code.FORM_INVALID: 5002,
    Code.DEVICE_DISABLED: 5304,
    Code.DEVICE_OFFLINE: 5305,
    Code.ATTR_INVALID: 5401,
    Code.SEND_FAILED: 5403,
}
"""Codes of the Open API that a call of the common part may give, in the words of this API."""


class Credentials(Form):
    """Body of ``POST …/access_token``."""

    enterprise_id: str
    enterprise_secret: str
    product_secret: str


class ByMac(Form):
    """Query that names a device."""

    mac: str


class Search(Page):
    """Query of ``…/devices/search``."""

    is_online: bool | None = None
    is_faulty: bool | None = None
    is_alert: bool | None = None
    show_disabled: bool = False
    type: Literal["did", "mac", "uid"] | None = None
    val: str | None = None


class Span(Page):
    """Query of history: Unix seconds; the last two days, unless it says otherwise."""

    start_ts: int | None = None
    end_ts: int | None = None
    sort: Literal["asc", "desc"] = "desc"


class Wanted(Form):
    """A device of a body: by did or by mac."""

    did: str | None = None
    mac: str | None = None


class Bindings(Form):
    """Body of ``…/devices/bindings``: lists of dids or macs, under any of the names that are in use."""

    appid: str
    uid: str
    devices: list[Wanted] = pydantic.Field(default=[], max_length=1000)
    dids: list[str] = pydantic.Field(
        default=[], max_length=1000, validation_alias=pydantic.AliasChoices("dids", "did")
    )
    macs: list[str] = pydantic.Field(
        default=[], max_length=1000, validation_alias=pydantic.AliasChoices("macs", "mac")
    )

    @pydantic.field_validator("dids", "macs", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    @pydantic.model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.wanted:
            raise ValueError("dids or macs are needed")
        return self

    @property
    def wanted(self) -> list[Wanted]:
        """Every device that is named."""
        dids, macs = (Wanted(did=did) for did in self.dids), (Wanted(mac=mac) for mac in self.macs)
        return [*self.devices, *dids, *macs]


def enterprise_calls(side: AppSide) -> Calls:
    """The calls of §19."""
    enterprise = Enterprise(side.store.database, side.products, now=side.now)
    calls = Calls(side, "Enterprise")

    def add(
        method: str, path: str, handler: Callable[[Call, CloudProduct], Any], *errors: int, **options: Any
    ) -> None:
        calls.add(
            method,
            BASE + path,
            _of_enterprise(enterprise, handler),
            auth=Auth.NONE,
            errors=(*_TOKEN_ERRORS, 5001, 5002, *errors),
            headers={"Authorization": "token and the token of access_token, with a blank between"},
            form_error=_form_error,
            guard=lambda request: enterprise.check_token(
                request.headers.get("authorization"), enterprise.product(request.path_params["pk"])
            ),
            answer_headers=RATE_LIMIT,
            **options,
        )

    @functools.wraps(access_token)
    def token(call: Call) -> Any:
        return access_token(call, enterprise)

    calls.add(
        "POST",
        f"{BASE}/access_token",
        token,
        auth=Auth.NONE,
        body=Credentials,
        status=201,
        errors=(5001, 5002, 5003, 5004, 5005, 5015),
        form_error=_form_error,
        answer_headers=RATE_LIMIT,
    )
    add("GET", "/datapoint", datapoint, 5402)
    add("GET", "/devices", by_mac, 5301, query=ByMac)
    add("GET", "/device_detail", detail, 5301, query=ByMac)
    add("GET", "/devices/search", search, query=Search)
    add(
        "POST",
        "/devices/{did}/control",
        control,
        *_DEVICE_ERRORS,
        5304,
        5305,
        5401,
        5403,
        5408,
        body=Control,
    )
    add("GET", "/devices/{did}/online", connections, *_DEVICE_ERRORS, query=Span)
    add("GET", "/devices/{did}/cmd", packets, *_DEVICE_ERRORS, query=Span)
    add("GET", "/devices/{did}/data", reports, *_DEVICE_ERRORS, 5402, query=Span)
    add("POST", "/devices/bindings", bind, 5016, 5017, body=Bindings)
    add("DELETE", "/devices/bindings", unbind, 5016, 5017, body=Bindings)
    add_device_groups(add, DeviceGroups(side.store.database))
    for path in _REPORTS:
        add("GET", path, report, 5014, status=404)
    return calls


def _form_error(error: ApiError) -> ApiError:
    return EnterpriseError(5001 if isinstance(error, BodyInvalid) else 5002, error.detail)


def _of_enterprise(
    enterprise: Enterprise, handler: Callable[[Call, CloudProduct], Any]
) -> Callable[[Call], Any]:
    @functools.wraps(handler)
    def checked(call: Call) -> Any:
        try:
            return handler(call, enterprise.product(call.path("pk")))
        except EnterpriseError:
            raise
        except ApiError as error:
            raise EnterpriseError(_AS_ENTERPRISE.get(Code(error.code), 5403), error.detail) from error

    return checked


# --- the calls


def access_token(call: Call, enterprise: Enterprise) -> Any:
    """A token for one product, by the secrets of enterprise and product."""
    form = call.body(Credentials)
    token = enterprise.issue_token(
        enterprise.product(call.path("pk")), form.enterprise_id, form.enterprise_secret, form.product_secret
    )
    return {"token": token.token, "expired_at": token.expire_at}


def datapoint(_call: Call, product: CloudProduct) -> Any:
    """The data points of the product."""
    from sim.cloud.datapoint_form import datapoint_form

    if product.product is None:
        raise EnterpriseError(5402)
    return datapoint_form(product.product)


def by_mac(call: Call, product: CloudProduct) -> Any:
    """Did and passcode of a device."""
    device = _by_mac(call, product)
    return {"did": device.did, "passcode": device.passcode}


def detail(call: Call, product: CloudProduct) -> Any:
    """What is known of a device."""
    device = _by_mac(call, product)
    return {
        "did": device.did,
        "is_disabled": device.disabled,
        "product_key": device.product_key,
        "mac": device.mac,
        "is_online": call.side.hub.is_online(device.did),
        "type": "normal",
    }


def search(call: Call, product: CloudProduct) -> Any:
    """Devices of the product that fit."""
    query, side = call.query(Search), call.side
    found = []
    for device in reversed(side.store.devices()):  # the newest first (§5)
        if device.product_key != product.product_key or (device.disabled and not query.show_disabled):
            continue
        shown = _found(side, device, product)
        wanted = {
            "is_online": query.is_online,
            "is_faulty": query.is_faulty,
            "is_alert": query.is_alert,
        }
        fits = all(value is None or shown[name] == value for name, value in wanted.items())
        if fits and _is_named(side, query, device):
            found.append(shown)
    return style_b(call.request, query, found)


def _is_named(side: AppSide, query: Search, device: Device) -> bool:
    value = query.val or ""
    if query.type == "did":
        return device.did == value
    if query.type == "mac":
        return device.mac.lower() == value.lower()
    return query.type is None or side.bindings.get(value, device.did) is not None


def _found(side: AppSide, device: Device, product: CloudProduct) -> dict[str, Any]:
    on = {"fault": False, "alert": False}
    for point in product.product.points if product.product is not None else ():
        if point.access.value in on and device.state.get(point.name):
            on[point.access.value] = True
    module, mcu = device.module_versions, device.mcu_versions
    return {
        "did": device.did,
        "mac": device.mac,
        "is_online": side.hub.is_online(device.did),
        "is_faulty": on["fault"],
        "is_alert": on["alert"],
        **side.config.place,
        "longitude": None,
        "latitude": None,
        "online_latest": moment(device.last_online),
        "created_at": moment(device.created),
        "wifi_soft_version": module.soft if module is not None else UNKNOWN_VERSION,
        "wifi_hard_version": module.hard if module is not None else UNKNOWN_VERSION,
        "mcu_soft_version": mcu.soft if mcu is not None else UNKNOWN_VERSION,
        "mcu_hard_version": mcu.hard if mcu is not None else UNKNOWN_VERSION,
    }


def control(call: Call, product: CloudProduct) -> Any:
    """Set data points, or send raw data; nobody needs to have bound the device."""
    device = _of_product(call, product)
    call.side.ready(device)
    try:
        packet = call.side.command_packet(device.product_key, call.body(Control).command(call.json))
    except ApiError as error:
        if error.code == Code.ATTR_INVALID and (error.detail or "").startswith("raw: "):
            raise EnterpriseError(5408, error.detail) from error
        raise
    enterprise_id = product.enterprise.id if product.enterprise is not None else None
    call.side.send(device, packet, Origin("enterprise_api", enterprise_id=enterprise_id))
    return {}


def connections(call: Call, product: CloudProduct) -> Any:
    """When a device came on line and went off line."""
    device, query, (start, end) = _of_product(call, product), call.query(Span), _span(call)
    history = call.side.history
    _, before = history.packets(device.did, CONNECTIONS, after=0, until=start, limit=1)
    _, entries = history.packets(
        device.did, CONNECTIONS, after=start, until=end, limit=-1, newest_first=False
    )
    shown: list[dict[str, Any]] = []
    since = next((entry.at for entry in before if entry.kind != "dev_offline"), None)
    for entry in entries:
        if entry.kind == "dev_offline":
            duration = None if since is None else int(entry.at - since)
            payload: dict[str, Any] = {
                "duration": duration,
                "heartbeat": entry.heartbeat,
                "reason": _offline_reason(entry.reason or ""),
            }
            since = None
        else:
            payload, since = {"keep_alive": entry.keep_alive}, entry.at
        shown.append({"timestamp": entry.at, "type": entry.kind, "payload": payload})
    return style_b(call.request, query, shown if query.sort == "asc" else shown[::-1])


def _offline_reason(text: str) -> str:
    """The reason in the words of this API."""
    for part, reason in (
        ("goodbye", "mqtt_disconnect"),
        ("silent", "no_heartbeat"),
        ("client closed", "tcp_closed"),
        ("deleted", "offline_reset"),
        ("took over", "offline_force"),
    ):
        if part in text:
            return reason
    return "offline_exception"


def packets(call: Call, product: CloudProduct) -> Any:
    """What was sent to a device, and what it sent."""
    device, query, (start, end) = _of_product(call, product), call.query(Span), _span(call)
    total, entries = call.side.history.packets(
        device.did,
        PACKETS,
        after=start,
        until=end,
        skip=query.start,
        limit=query.size,
        newest_first=query.sort == "desc",
    )
    shown = [
        {"timestamp": entry.at, "type": entry.kind, "payload": (entry.payload or b"").hex()}
        for entry in entries
    ]
    return style_b(call.request, query, shown, total=total)


def reports(call: Call, product: CloudProduct) -> Any:
    """What a device reported."""
    device, query, (start, end) = _of_product(call, product), call.query(Span), _span(call)
    if product.product is None:
        raise EnterpriseError(5402)
    total, rows = call.side.history.reports(
        device.did,
        after=start,
        until=end,
        skip=query.start,
        limit=query.size,
        newest_first=query.sort == "desc",
    )
    shown = [{"ts": int(at), "attrs": http_values(product.product, raw)} for at, raw in rows]
    return style_b(call.request, query, shown, total=total)


def bind(call: Call, product: CloudProduct) -> Any:
    """Give devices to a user of an app."""
    user, appid = _user(call)
    return _each(call, product, lambda device: bool(call.side.bind(user.uid, device, appid)))


def unbind(call: Call, product: CloudProduct) -> Any:
    """Take devices away from a user."""
    user, _ = _user(call)
    return _each(call, product, lambda device: call.side.bindings.unbind(user.uid, device.did))


def _each(call: Call, product: CloudProduct, act: Callable[[Device], bool]) -> Any:
    success: list[str] = []
    failed: list[str] = []
    store = call.side.store
    with store.database.transaction():  # one wait for the disk, not one for each
        for wanted in call.body(Bindings).wanted:
            device = store.device(wanted.did) if wanted.did else None
            if device is None and wanted.mac:
                device = store.by_mac(product.product_key, wanted.mac)
            try:
                done = device is not None and device.product_key == product.product_key and act(device)
            except ApiError:
                done = False
            (success if done else failed).append(wanted.did or wanted.mac or "")
    return {"success": success, "failed": failed}


def report(_call: Call, _product: CloudProduct) -> Any:
    """Statistics: there are none yet, as on the day when a product is new."""
    raise EnterpriseError(5014)


# --- what they share


def _user(call: Call) -> tuple[User, str]:
    form, accounts = call.body(Bindings), call.side.accounts
    try:
        app = accounts.app(form.appid)
    except ApiError as error:
        raise EnterpriseError(5016) from error
    user = accounts.user(form.uid)
    if user is None:
        raise EnterpriseError(5017)
    return user, app.appid


def _by_mac(call: Call, product: CloudProduct) -> Device:
    device = call.side.store.by_mac(product.product_key, call.query(ByMac).mac)
    if device is None:
        raise EnterpriseError(5301)
    return device


def _of_product(call: Call, product: CloudProduct) -> Device:
    device = call.side.store.device(call.path("did"))
    if device is None:
        raise EnterpriseError(5301)
    if device.product_key != product.product_key:
        raise EnterpriseError(5302)
    return device


def _span(call: Call) -> tuple[int, int]:
    query, now = call.query(Span), int(call.side.now()) + 1  # the second that has begun is in it
    if query.end_ts is None:
        end = now if query.start_ts is None else min(now, query.start_ts + MAX_SPAN)
    else:
        end = query.end_ts
    start = end - MAX_SPAN if query.start_ts is None else query.start_ts
    if not 0 <= end - start <= MAX_SPAN or abs(end) > 2**53:
        raise EnterpriseError(5002, "end_ts: at most 2 days after start_ts")
    return start, end
