"""Devices, their data, and control (open-api.md §8, §9)."""

from __future__ import annotations

from typing import Any, Final, Literal, Self

import pydantic

from sim.cloud.api_errors import ApiError, Code
from sim.cloud.app_side import AppSide
from sim.cloud.events import Origin
from sim.cloud.history import CONNECTIONS, PACKETS, Entry
from sim.cloud.openapi.calls import Auth, Call, Calls, Form
from sim.cloud.openapi.records import device_record, legacy_record
from sim.cloud.values import http_values

MAX_SPAN: Final = 48 * 3600
"""Seconds of raw data in one request."""
MAX_AGE: Final = 7 * 86400
"""Seconds that raw data can be asked for."""
MAX_RESULTS: Final = 5000
_SORTS: Final = {"desc": True, "dese": True, "asc": False, "ase": False}


class ByMac(Form):
    """Query of ``GET /app/devices``."""

    product_key: str
    mac: str


class RawData(Form):
    """Query of ``GET /app/devices/{did}/raw_data``; times are Unix seconds."""

    type: Literal["cmd", "online"]
    start_time: int
    end_time: int
    skip: int = 0
    limit: int = 20
    sort: Literal["desc", "asc", "dese", "ase"] = "desc"


class ProductKey(Form):
    """Query of ``GET /app/datapoint``."""

    product_key: str


class Control(Form):
    """Body of ``POST /app/control/{did}``: ``attrs`` (or ``attr``), else ``raw``."""

    attrs: dict[str, Any] | None = None
    attr: dict[str, Any] | None = None
    raw: list[int] | str | None = None
    binary_coding: str | None = pydantic.Field(default=None, description="base64 instead of hex")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _attrs_count(cls, value: Any) -> Any:
        """With attrs, raw is nothing that counts, whatever it is."""
        named = isinstance(value, dict) and (value.get("attrs") is not None or value.get("attr") is not None)
        return {**value, "raw": None} if named else value

    @pydantic.model_validator(mode="after")
    def _names_something(self) -> Self:
        attrs = self.attr if self.attrs is None else self.attrs
        if attrs is None and self.raw is None:
            raise ValueError("attrs or raw is needed")
        if attrs is not None and not attrs:
            raise ValueError("attrs is an object with at least one data point")
        return self

    def command(self, given: dict[str, Any]) -> dict[str, Any]:
        """The body as it came; numbers of ``raw`` may be text there (§1)."""
        raw = given.get("raw")
        if not isinstance(raw, list):
            return given
        return given | {"raw": [_byte(each) for each in raw]}


CONTROL_ERRORS: Final = (
    Code.DEVICE_NOT_FOUND,
    Code.NOT_BOUND,
    Code.DEVICE_DISABLED,
    Code.DEVICE_OFFLINE,
    Code.ATTR_INVALID,
    Code.SEND_FAILED,
)


def device_calls(side: AppSide) -> Calls:
    """The calls of §8 and §9."""
    calls = Calls(side, "Devices")
    calls.add("GET", "/app/devices/{did}", device, errors=(Code.DEVICE_NOT_FOUND, Code.NOT_BOUND))
    calls.add(
        "GET",
        "/app/devices",
        by_mac,
        auth=Auth.APP,
        query=ByMac,
        errors=(Code.PRODUCT_KEY_INVALID, Code.DEVICE_NOT_FOUND),
    )
    calls.add("GET", "/app/devdata/{did}/latest", latest, auth=Auth.APP, errors=(Code.DEVICE_NOT_FOUND,))
    calls.add(
        "GET",
        "/app/devices/{did}/raw_data",
        raw_data,
        query=RawData,
        errors=(Code.DEVICE_NOT_FOUND, Code.NOT_BOUND),
    )
    calls.add(
        "GET",
        "/app/datapoint",
        datapoint,
        auth=Auth.APP,
        query=ProductKey,
        errors=(Code.PRODUCT_KEY_INVALID,),
    )
    for path in ("/app/devdata/{did}", "/app/devdata", "/app/devdata2"):
        calls.add("GET", path, deprecated, auth=Auth.APP, status=403, errors=(Code.DEPRECATED,))
    calls.add(
        "POST",
        "/app/control/{did}",
        control,
        body=Control,
        errors=CONTROL_ERRORS,
        example={"attrs": {"LED_OnOff": True}},
    )
    return calls


def device(call: Call) -> Any:
    """One of the user's devices."""
    found, binding = call.side.bound(call.user, call.path("did"))
    return device_record(call.side, call.request, found, binding)


def by_mac(call: Call) -> Any:
    """A device by its product and mac (the older way); no user is needed."""
    query = call.query(ByMac)
    product = call.side.cloud_product(query.product_key)
    if product is not None and not call.app.may_use(product.product_key):
        raise ApiError(Code.PRODUCT_KEY_INVALID)
    found = call.side.store.by_mac(query.product_key, query.mac)
    if found is None:
        raise ApiError(Code.DEVICE_NOT_FOUND)
    return legacy_record(call.side, call.request, found)


def latest(call: Call) -> Any:
    """The last value of every data point; no user is needed."""
    found = call.side.device(call.path("did"))
    product = call.side.product(found.product_key)
    report = found.last_report
    return {
        "did": found.did,
        "updated_at": int(report.time) if report is not None else 0,
        "attr": http_values(product, found.state) if product is not None else {},
    }


def raw_data(call: Call) -> Any:
    """Packets of a device, or when it was on line."""
    query = call.query(RawData)
    _check_span(query, call.side.now())
    found, _ = call.side.bound(call.user, call.path("did"))
    newest_first = _SORTS[query.sort]
    total, entries = call.side.history.packets(
        found.did,
        PACKETS if query.type == "cmd" else CONNECTIONS,
        after=query.start_time,
        until=query.end_time,
        skip=query.skip,
        limit=query.limit,
        newest_first=newest_first,
    )
    return {
        "meta": {
            "sort": "desc" if newest_first else "asc",
            "limit": query.limit,
            "end_time": query.end_time,
            "did": found.did,
            "skip": query.skip,
            "start_time": query.start_time,
            "total": total,
            "type": query.type,
        },
        "objects": [raw_entry(entry) for entry in entries],
    }


def _check_span(query: RawData, now: float) -> None:
    """The limits of §8.4."""
    for good, text in (
        (query.start_time < query.end_time, "end_time must be after start_time"),
        (query.end_time - query.start_time < MAX_SPAN, "less than 48 hours can be asked for"),
        (query.end_time <= now + 1, "end_time is in the future"),
        (query.start_time >= now - MAX_AGE - 1, "start_time is more than 7 days ago"),
        (0 < query.limit <= 1000, "limit: 1 to 1000"),
        (query.skip >= 0 and query.skip + query.limit <= MAX_RESULTS, "skip + limit: at most 5000"),
    ):
        if not good:
            raise ApiError(Code.FORM_INVALID, text)


def _byte(value: Any) -> Any:
    """A number, also from text."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def raw_entry(entry: Entry) -> dict[str, Any]:
    """A packet or a change of the connection as the API shows it."""
    shown: dict[str, Any] = {"type": entry.kind, "timestamp": entry.at, "ip": entry.ip or ""}
    if entry.payload is not None:
        shown["payload_bin"] = entry.payload.hex()
    if entry.source is not None:
        shown["source"] = entry.source
    if entry.uid is not None:
        shown |= {"uid": entry.uid, "appid": entry.appid}
    return shown


def datapoint(call: Call) -> Any:
    """The data points of a product, and a form to show them."""
    from sim.cloud.datapoint_form import datapoint_form

    key = call.query(ProductKey).product_key
    known = call.side.cloud_product(key)
    if known is None or known.product is None or not call.app.may_use(known.product_key):
        raise ApiError(Code.PRODUCT_KEY_INVALID)
    return datapoint_form(known.product)


def deprecated(_call: Call) -> Any:
    """History of the older versions: refused, as the real service does."""
    raise ApiError(Code.DEPRECATED)


def control(call: Call) -> Any:
    """Set data points, or send raw data. The new state comes by the device's own report."""
    found = call.side.commandable(call.user, call.path("did"))
    packet = call.side.command_packet(found.product_key, call.body(Control).command(call.json))
    call.side.send(found, packet, Origin("open_api", call.user.uid, call.app.appid))
    return {}
