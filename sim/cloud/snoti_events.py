"""What servers hear over SNoti: the cloud's events as pushes (snoti.md §6)."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from gizserial.errors import BodyError
from gizserial.p0 import Meaning
from gizserial.product import Access
from sim.cloud.app_side import AppSide
from sim.cloud.device import Device
from sim.cloud.events import (
    Bound,
    DataReported,
    DefinitionChanged,
    Event,
    Offline,
    Online,
    Origin,
    RawReported,
    Registered,
    Request,
    Unbound,
    Unregistered,
)
from sim.cloud.snoti_queue import SnotiQueues
from sim.cloud.values import http_values

EVENT_TYPES: Final = MappingProxyType(
    {
        "device.online": "device_online",
        "device.offline": "device_offline",
        "device.status.raw": "device_status_raw",
        "device.status.kv": "device_status_kv",
        "device.attr_fault": "attr_fault",
        "device.attr_alert": "attr_alert",
        "datapoints.changed": "datapoints_changed",
        "center_control.sub_device_added": "sub_device_added",
        "center_control.sub_device_deleted": "sub_device_deleted",
        "device.bind": "device_bind",
        "device.unbind": "device_unbind",
        "device.reset": "device_reset",
        "device.file.download": "device_file_download",
        "device.app2dev.raw": "app2dev_raw",
        "device.app2dev.kv": "app2dev_kv",
        "device.gps.kv": "device_gps_kv",
        "device.lbs.kv": "device_lbs_kv",
    }
)
"""Name in a subscription → ``event_type`` in a push. They are spelt differently."""
_BY_ANY_NAME: Final = {
    **EVENT_TYPES,
    **{name.replace(".", "_"): kind for name, kind in EVENT_TYPES.items()},
    **{kind: kind for kind in EVENT_TYPES.values()},
}
_EDGES: Final = {Access.FAULT: "attr_fault", Access.ALERT: "attr_alert"}
_OTHER_ORIGINS: Final = frozenset({"enterprise_api", "gateway", "noti"})
"""Sources that have no user."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS snoti_edge (     -- faults and alerts that are on
    did TEXT NOT NULL, name TEXT NOT NULL,
    event_id TEXT NOT NULL,
    PRIMARY KEY (did, name)
) WITHOUT ROWID;
"""


def event_kinds(names: Any) -> frozenset[str]:
    """The event types of a subscription: a list of names, or one text with commas between (§4.1).

    Dotted and underscored names are known; others mean nothing (R3).
    """
    if isinstance(names, str):
        names = names.split(",")
    if not isinstance(names, list):
        return frozenset()
    found = (_BY_ANY_NAME.get(name.strip()) for name in names[:256] if isinstance(name, str))
    return frozenset(kind for kind in found if kind is not None)


class SnotiEvents:
    """An observer of the hub that fills the queues."""

    def __init__(self, side: AppSide, queues: SnotiQueues) -> None:
        self._side, self._queues = side, queues
        side.store.database.create(_TABLES)
        side.hub.subscribe(self._watch)

    def _watch(self, event: Event) -> None:
        self._side.hub.keep(lambda: self._collect(event))

    def _collect(self, event: Event) -> None:
        if isinstance(event, DefinitionChanged):
            body = {
                "event_type": "datapoints_changed",
                "product_key": event.product_key,
                "created_at": event.at,
            }
            self._queues.collect(event.product_key, "datapoints_changed", body, event.at)
            return
        if not isinstance(event, _OF_DEVICES):
            return
        device = self._side.store.device(event.did)
        if device is None:
            return
        for kind, members in self._pushes(device, event):
            if self._queues.wants(device.product_key, kind):
                body = {
                    "event_type": kind,
                    "product_key": device.product_key,
                    "did": device.did,
                    "mac": device.mac,
                    "group_id": None,
                    "created_at": event.at,
                    **members,
                }
                self._queues.collect(device.product_key, kind, body, event.at)

    def _pushes(self, device: Device, event: Event) -> Iterable[tuple[str, Mapping[str, Any]]]:
        if isinstance(event, Online):
            yield "device_online", {"ip": event.address, **self._side.config.place}
        elif isinstance(event, Offline):
            yield "device_offline", {}
        elif isinstance(event, DataReported):
            product = self._side.product(device.product_key)
            if product is not None:
                yield "device_status_kv", {"data": http_values(product, event.raw)}
                yield from self._edges(device, event)
        elif isinstance(event, RawReported):
            yield "device_status_raw", {"data": _base64(event.p0)}
        elif isinstance(event, Bound | Unbound):
            kind = "device_bind" if isinstance(event, Bound) else "device_unbind"
            yield kind, {"app_id": event.appid, "uid": event.uid}
        elif isinstance(event, Unregistered) or (isinstance(event, Registered) and event.is_reset):
            yield "device_reset", {}
        elif isinstance(event, Request):
            yield from self._command(device, event)

    def _edges(self, device: Device, event: DataReported) -> Iterable[tuple[str, Mapping[str, Any]]]:
        """Faults and alerts that came or went; one that is on in the first report has come."""
        product = self._side.product(device.product_key)
        for point in product.points if product is not None else ():
            kind, now = _EDGES.get(point.access), event.raw.get(point.name)
            if kind is None or now is None or bool(now) == bool(event.before.get(point.name, 0)):
                continue
            data = {
                "attr_name": point.name,
                "attr_displayname": point.display_name,
                "value": int(bool(now)),
            }
            yield kind, {"event_id": self._event_id(device.did, point.name, bool(now)), "data": data}

    def _event_id(self, did: str, name: str, on: bool) -> str:
        """Shared by the onset and the recovery of one fault."""
        database = self._side.store.database
        known = database.one("SELECT event_id FROM snoti_edge WHERE did = ? AND name = ?", (did, name))
        if on:
            event_id = secrets.token_hex(16)
            database.run("INSERT OR REPLACE INTO snoti_edge VALUES (?, ?, ?)", (did, name, event_id))
            return event_id
        database.run("DELETE FROM snoti_edge WHERE did = ? AND name = ?", (did, name))
        return str(known[0]) if known is not None else secrets.token_hex(16)

    def _command(self, device: Device, event: Request) -> Iterable[tuple[str, Mapping[str, Any]]]:
        """What was sent to a device: as data points where it sets some, as bytes otherwise."""
        if not event.p0 or event.origin.source == "cloud":
            return
        members = _origin(event.origin)
        product = self._side.product(device.product_key)
        if product is not None:
            try:
                parsed = self._side.codec(product).parse(event.p0)
            except BodyError:
                parsed = None
            if parsed is not None and parsed.meaning is Meaning.CONTROL and parsed.raw is not None:
                yield "app2dev_kv", {**members, "data": http_values(product, parsed.raw)}
                return
        yield "app2dev_raw", {**members, "data": _base64(event.p0)}


_OF_DEVICES: Final = (
    Online,
    Offline,
    DataReported,
    RawReported,
    Bound,
    Unbound,
    Registered,
    Unregistered,
    Request,
)


def _origin(origin: Origin) -> dict[str, Any]:
    members: dict[str, Any] = {"source": origin.source}
    if origin.source not in _OTHER_ORIGINS:
        members |= {"appid": origin.appid, "uid": origin.uid}
    if origin.source == "enterprise_api":
        members["enterprise_id"] = origin.enterprise_id
    return members


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
