"""Device groups of the Enterprise API (open-api.md §19)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pydantic

from sim.cloud.device_groups import DeviceGroups
from sim.cloud.openapi.calls import Call, Form
from sim.cloud.products import CloudProduct


class NewDeviceGroup(Form):
    """Body of ``POST …/device_groups``; without a parent it is the root."""

    parent_gid: str = ""


class Assignment(Form):
    """Body of ``PUT …/device_groups/{gid}``; ``reassign`` takes devices out of their other groups."""

    action: Literal["assign", "unassign"]
    macs: list[str] = pydantic.Field(min_length=1, max_length=1000)
    reassign: bool = False


def add_device_groups(add: Callable[..., None], groups: DeviceGroups) -> None:
    """The calls.

    :param add: Declares a call of the Enterprise API.
    """

    def tree(_call: Call, product: CloudProduct) -> Any:
        """The product's device groups, each with those in it."""
        return groups.tree(product.product_key)

    def create(call: Call, product: CloudProduct) -> Any:
        """Make a device group."""
        return {"gid": groups.create(product.product_key, call.body(NewDeviceGroup).parent_gid)}

    def macs(call: Call, product: CloudProduct) -> Any:
        """The devices in a group."""
        return {"macs": groups.macs(_gid(call, product))}

    def delete(call: Call, product: CloudProduct) -> None:
        """Forget a group; it has to be empty."""
        groups.delete(_gid(call, product))

    def update(call: Call, product: CloudProduct) -> Any:
        """Put devices into a group, or take them out."""
        gid, form, key = _gid(call, product), call.body(Assignment), product.product_key
        success: list[str] = []
        failed: list[str] = []
        with call.side.store.database.transaction():  # one wait for the disk, not one for each
            for mac in form.macs:
                if form.action == "unassign":
                    done = groups.unassign(key, gid, mac)
                else:
                    device = call.side.store.by_mac(key, mac)
                    done = device is not None and groups.assign(key, gid, device.mac, reassign=form.reassign)
                (success if done else failed).append(mac)
        return {"success": success, "failed": failed}

    def _gid(call: Call, product: CloudProduct) -> str:
        gid = call.path("gid")
        groups.check(product.product_key, gid)
        return gid

    add("GET", "/device_groups", tree)
    add("POST", "/device_groups", create, 5201, 5202, 5203, body=NewDeviceGroup, status=201)
    add("GET", "/device_groups/{gid}", macs, 5201, 5206)
    add("DELETE", "/device_groups/{gid}", delete, 5201, 5204, 5205, 5206)
    add("PUT", "/device_groups/{gid}", update, 5201, 5206, body=Assignment)
