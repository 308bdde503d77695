"""Groups of devices (open-api.md §10)."""

from __future__ import annotations

from typing import Annotated, Any, Final

import pydantic

from sim.cloud.api_errors import ERRORS, ApiError, Code
from sim.cloud.app_side import AppSide
from sim.cloud.events import Origin
from sim.cloud.groups import Group
from sim.cloud.openapi.calls import Call, Calls, Form
from sim.cloud.openapi.devices import Control
from sim.cloud.openapi.records import moment, product_name

MAX_LISTED: Final = 1000
Name = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=256)]


class NewGroup(Form):
    """Body of ``POST /app/group``."""

    group_name: Name
    product_key: str = ""


class GroupName(Form):
    """Body of ``PUT /app/group/{id}``."""

    group_name: Name


class Dids(Form):
    """Body that names devices."""

    dids: list[str] = pydantic.Field(min_length=1, max_length=MAX_LISTED)


class Detail(Form):
    """Query: 1 for the reasons of those that failed."""

    show_detail: bool = False


def group_calls(side: AppSide) -> Calls:
    """The calls of §10."""
    calls = Calls(side, "Groups")
    calls.add("GET", "/app/group", list_groups)
    calls.add("POST", "/app/group", create, body=NewGroup, status=201, errors=(Code.PRODUCT_KEY_INVALID,))
    calls.add("PUT", "/app/group/{id}", rename, body=GroupName, errors=(Code.GROUP_NOT_FOUND,))
    calls.add("DELETE", "/app/group/{id}", delete, errors=(Code.GROUP_NOT_FOUND,))
    calls.add("GET", "/app/group/{id}/devices", list_devices, errors=(Code.GROUP_NOT_FOUND,))
    calls.add(
        "POST",
        "/app/group/{id}/devices",
        add_devices,
        body=Dids,
        query=Detail,
        errors=(Code.GROUP_NOT_FOUND,),
    )
    calls.add("DELETE", "/app/group/{id}/devices", remove_devices, body=Dids, errors=(Code.GROUP_NOT_FOUND,))
    calls.add(
        "POST",
        "/app/group/{id}/control",
        control,
        body=Control,
        errors=(Code.GROUP_NOT_FOUND, Code.ATTR_INVALID),
    )
    return calls


def _group(call: Call) -> Group:
    return call.side.groups.get(call.user.uid, call.path("id"))


def list_groups(call: Call) -> Any:
    """The user's groups."""
    return [
        {
            "id": group.id,
            "group_name": group.name,
            "product_key": group.product_key,
            "verbose_name": product_name(call.side, group.product_key) if group.product_key else "",
            "created_at": moment(group.created),
            "updated_at": moment(group.updated),
        }
        for group in call.side.groups.of_user(call.user.uid)
    ]


def create(call: Call) -> Any:
    """Make a group, of one product or of any."""
    form = call.body(NewGroup)
    key = form.product_key
    if key:
        product = call.side.cloud_product(key)
        if product is None or not call.app.may_use(product.product_key):
            raise ApiError(Code.PRODUCT_KEY_INVALID)
        key = product.product_key
    return {"id": call.side.groups.create(call.user.uid, form.group_name, key)}


def rename(call: Call) -> None:
    """Give a group another name."""
    call.side.groups.rename(_group(call).id, call.body(GroupName).group_name)


def delete(call: Call) -> None:
    """Forget a group; its devices stay bound."""
    call.side.groups.delete(_group(call).id)


def list_devices(call: Call) -> Any:
    """The devices in a group."""
    shown = []
    for did in call.side.groups.dids(_group(call).id):
        device, binding = call.side.store.device(did), call.side.bindings.get(call.user.uid, did)
        if device is not None and binding is not None:
            shown.append(
                {
                    "did": did,
                    "type": "normal",
                    "verbose_name": product_name(call.side, device.product_key),
                    "dev_alias": binding.dev_alias,
                    "product_key": device.product_key,
                }
            )
    return shown


def add_devices(call: Call) -> Any:
    """Put devices into a group."""
    group = _group(call)
    success: list[str] = []
    failed: list[str] = []
    detail: list[dict[str, Any]] = []
    with call.side.store.database.transaction():  # one wait for the disk, not one for each
        for did in call.body(Dids).dids:
            try:
                device, _ = call.side.bound(call.user, did)
                if group.product_key and device.product_key != group.product_key:
                    raise ApiError(Code.PRODUCT_KEY_INVALID)  # noqa: TRY301 - one list of reasons
            except ApiError as error:
                failed.append(did)
                detail.append(
                    {
                        "did": did,
                        "error_message": ERRORS[error.code].message,
                        "error_code": error.code,
                        "detail_msg": error.detail,
                    }
                )
            else:
                call.side.groups.add(group.id, did)
                success.append(did)
    answer: dict[str, Any] = {"success": success, "failed": failed}
    if call.query(Detail).show_detail:
        answer["detail"] = detail
    return answer


def remove_devices(call: Call) -> Any:
    """Take devices out of a group."""
    group = _group(call)
    success: list[str] = []
    failed: list[str] = []
    with call.side.store.database.transaction():  # one wait for the disk, not one for each
        for did in call.body(Dids).dids:
            (success if call.side.groups.remove(group.id, did) else failed).append(did)
    return {"success": success, "failed": failed}


def control(call: Call) -> Any:
    """Control every device of a group that has one product."""
    group = _group(call)
    if not group.product_key:
        raise ApiError(Code.FORM_INVALID, "only a group of one product can be controlled")
    packet = call.side.command_packet(group.product_key, call.body(Control).command(call.json))
    return [{"did": did, "result": _sent(call, did, packet)} for did in call.side.groups.dids(group.id)]


def _sent(call: Call, did: str, packet: bytes) -> bool:
    """Whether the packet was handed to the device."""
    try:
        device = call.side.commandable(call.user, did)
        call.side.send(device, packet, Origin("open_api", call.user.uid, call.app.appid))
    except ApiError:
        return False
    return True
