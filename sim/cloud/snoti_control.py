"""Remote control over SNoti: one command of a request (snoti.md §7)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sim.cloud.api_errors import ApiError, Code
from sim.cloud.app_side import AppSide, packet
from sim.cloud.device import Device
from sim.cloud.events import Origin
from sim.cloud.values import AttrInvalid, BinaryLength, RawInvalid, raw_bytes


def control(side: AppSide, products: Collection[str], item: Any) -> tuple[str, str | None]:
    """Carry out one command; gives the did, and why it failed or None.

    :param products: The product keys that the connection has logged in for.
    """
    if not isinstance(item, Mapping) or not isinstance(item.get("data"), Mapping):
        return "", "data is missing"
    data: Mapping[str, Any] = item["data"]
    did = data.get("did")
    did = did if isinstance(did, str) else ""
    try:
        device = _device(side, products, data, did)
        side.send(device, _packet(side, device, item.get("cmd"), data), Origin("noti"))
    except _FailedError as failure:
        return did, str(failure)
    except ApiError as error:
        return did, _REASONS.get(Code(error.code), "send command failed")
    return did, None


class _FailedError(Exception):
    """A command that cannot be carried out; the text is its reason."""


_REASONS = {Code.DEVICE_DISABLED: "device disabled", Code.DEVICE_OFFLINE: "device offline"}


def _device(side: AppSide, products: Collection[str], data: Mapping[str, Any], did: str) -> Device:
    """The device, when everything that was said of it is right; checked in the order of §7."""
    key = data.get("product_key")
    known = side.cloud_product(key) if isinstance(key, str) else None
    if known is None or known.product_key not in products:
        raise _FailedError("product not authorized")
    device, mac = side.store.device(did), data.get("mac")
    if (
        device is None
        or device.product_key != known.product_key
        or (mac is not None and (not isinstance(mac, str) or mac.lower() != device.mac.lower()))
    ):
        raise _FailedError("device not found")
    return side.ready(device)


def _packet(side: AppSide, device: Device, command: Any, data: Mapping[str, Any]) -> bytes:
    base64_text = data.get("binary_coding") == "base64"
    if command == "write_attrs":
        attrs = data.get("attrs")
        if not isinstance(attrs, Mapping) or not attrs:
            raise _FailedError("attr invalid: attrs")
        try:
            return side.attrs_packet(device.product_key, attrs, base64_text=base64_text, pad=False)
        except BinaryLength as error:
            raise _FailedError("data length does not match") from error
        except AttrInvalid as error:
            raise _FailedError(f"attr invalid: {error.name}") from error
    if command not in {"write", "write_v1"}:
        raise _FailedError("unknown cmd")
    try:
        raw = raw_bytes(data.get("raw"), base64_text=base64_text)
    except RawInvalid as error:
        raise _FailedError("raw invalid") from error
    if not raw:
        raise _FailedError("raw invalid")
    return packet(raw)
