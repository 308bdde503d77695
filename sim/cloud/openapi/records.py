"""Devices as the Open API shows them (open-api.md §7.2, §8.2)."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from fastapi import Request

from sim.cloud.app_side import AppSide
from sim.cloud.bindings import Binding
from sim.cloud.device import Device, Versions

UNKNOWN_VERSION: Final = "00000000"


def device_record(
    side: AppSide, request: Request, device: Device, binding: Binding, *, with_protocol: bool = False
) -> dict[str, Any]:
    """A bound device; every member is always there, none of the texts is null."""
    record = {
        "product_key": device.product_key,
        "did": device.did,
        "mac": device.mac,
        "passcode": device.passcode,
        "product_name": product_name(side, device.product_key),
        "is_online": side.hub.is_online(device.did),
        "is_disabled": device.disabled,
        "is_sandbox": True,
        "is_low_power": False,
        "sleep_duration": 0,
        **addresses(side, request),
        "remark": binding.remark,
        "dev_alias": binding.dev_alias,
        "dev_label": list(binding.dev_label),
        "role": binding.role,
        "type": "normal",
        "protoc": 3,
        "gw_did": None,
        "mesh_id": None,
        **versions("wifi", device.module_versions),
        **versions("mcu", device.mcu_versions),
        "state_last_timestamp": int(device.changed or device.created),
    }
    if with_protocol:
        record["proto_ver"] = "04"
    return record


def legacy_record(side: AppSide, request: Request, device: Device) -> dict[str, Any]:
    """A device as ``GET /app/devices`` shows it to anybody who knows its mac."""
    return {
        "did": device.did,
        "passcode": device.passcode,
        "product_key": device.product_key,
        "mac": device.mac,
        "is_online": side.hub.is_online(device.did),
        "is_disabled": device.disabled,
        "type": "normal",
        **addresses(side, request),
    }


def product_name(side: AppSide, product_key: str) -> str:
    """What devices of this product are called; the beginning of the key where nobody named it."""
    product = side.cloud_product(product_key)
    return product.name if product is not None else product_key[:8]


def versions(prefix: str, known: Versions | None) -> dict[str, str]:
    """Soft and hard version; unknown ones are zeros, not null (§7.2)."""
    return {
        f"{prefix}_soft_version": (known.soft if known is not None else "") or UNKNOWN_VERSION,
        f"{prefix}_hard_version": (known.hard if known is not None else "") or UNKNOWN_VERSION,
    }


def addresses(side: AppSide, request: Request) -> dict[str, Any]:
    """Where apps find the other interfaces: real ports, and a host that the caller can reach."""
    ends = side.endpoints
    host = ends.host or request.url.hostname or "localhost"
    return {
        "host": host,
        "port": ends.mqtt,
        "port_s": ends.mqtts or ends.mqtt,
        "ws_port": ends.ws or ends.http,
        "wss_port": ends.wss or ends.https or ends.ws or ends.http,
    }


def moment(seconds: float | None) -> str | None:
    """``2023-11-14T22:13:20Z``, the form of ``created_at`` and its like (§3)."""
    if seconds is None:
        return None
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
