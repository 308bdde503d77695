"""``/admin/firmware``: images, pushes, and what became of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import pydantic

from gizserial.errors import GizserialError
from gizserial.m2m.firmware import MAX_FIRMWARE
from sim.cloud.api_errors import ApiError, Code
from sim.cloud.app_side import AppSide
from sim.cloud.device import Device
from sim.cloud.firmware import FirmwareImage, Push
from sim.cloud.openapi.admin import BASE, from_here
from sim.cloud.openapi.calls import Auth, Call, Calls, Form
from sim.cloud.openapi.records import moment

Text = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=256)]
MAX_FAULTS: Final = 1000


class Upload(Form):
    """Query of ``POST /admin/firmware``; the body is the file."""

    product_key: Text
    soft_version: Text
    type: int = 2
    name: str = pydantic.Field(default="firmware.bin", max_length=256)
    small: bool = False


class OfProduct(Form):
    """Query of ``GET /admin/firmware``."""

    product_key: Text | None = None


class PushForm(Form):
    """Body of ``POST /admin/firmware/{id}/push``; without dids: every device of the product."""

    dids: list[Text] | None = pydantic.Field(default=None, max_length=10_000)


class OfDevice(Form):
    """Query of ``GET`` and ``DELETE /admin/firmware_pushes``."""

    did: Text | None = None
    type: int = 2


class FaultForm(Form):
    """Body of ``POST /admin/faults/firmware``: what is wrong with the next downloads."""

    kind: Literal["md5", "cut"]
    downloads: int = pydantic.Field(default=1, ge=0, le=MAX_FAULTS)


def firmware_calls(side: AppSide) -> Calls:
    """The calls under ``/admin`` that are about firmware."""
    calls = Calls(side, "Firmware")

    def add(method: str, path: str, handler: Callable[[Call], Any], *errors: int, **options: Any) -> None:
        codes = (Code.NOT_OWNER, *errors)
        calls.add(method, BASE + path, handler, auth=Auth.NONE, guard=from_here, errors=codes, **options)

    missing = Code.FIRMWARE_NOT_FOUND
    add("GET", "/firmware", images, query=OfProduct)
    unknown, image = Code.PRODUCT_KEY_INVALID, "The image: binary, or Intel HEX text."
    add("POST", "/firmware", upload, unknown, status=201, query=Upload, file=image)
    add("DELETE", "/firmware/{id}", delete, missing)
    add("POST", "/firmware/{id}/push", push, missing, Code.DEVICE_NOT_FOUND, body=PushForm)
    add("GET", "/firmware_pushes", pushes, query=OfDevice)
    add("DELETE", "/firmware_pushes", withdraw, missing, query=OfDevice)
    add("POST", "/faults/firmware", fault, body=FaultForm)
    return calls


def _shown(image: FirmwareImage) -> dict[str, Any]:
    return {
        "id": image.id,
        "product_key": image.product_key,
        "type": image.type,
        "soft_version": image.soft_version,
        "name": image.name,
        "md5": image.md5,
        "size": image.size,
        "created_at": moment(image.created),
        "everybody": image.everybody,
    }


def images(call: Call) -> Any:
    """Every image, the newest first."""
    return [_shown(image) for image in call.side.firmwares.images(call.query(OfProduct).product_key)]


async def upload(call: Call) -> Any:
    """Keep an image; the body is the file."""
    form, data = call.query(Upload), bytearray()
    if call.request.headers.get("content-type", "").lower().startswith("multipart/"):
        raise ApiError(Code.FORM_INVALID, "the body is the file itself, no form (curl --data-binary @FILE)")
    async for piece in call.request.stream():
        data += piece
        if len(data) > MAX_FIRMWARE:
            raise ApiError(Code.FORM_INVALID, f"the file has more than {MAX_FIRMWARE} bytes")
    known = call.side.cloud_product(form.product_key)
    if known is None and call.side.products.strict:
        raise ApiError(Code.PRODUCT_KEY_INVALID, "this cloud serves no such product")
    try:
        image = call.side.firmwares.add(
            bytes(data),
            product_key=known.product_key if known is not None else form.product_key.lower(),
            firmware_type=form.type,
            soft_version=form.soft_version,
            name=form.name,
            now=call.side.now(),
            small=form.small,
        )
    except (GizserialError, ValueError) as error:
        raise ApiError(Code.FORM_INVALID, str(error)[:1000]) from error
    return _shown(image)


def _image(call: Call) -> FirmwareImage:
    image = call.side.firmwares.image(call.path("id"))
    if image is None:
        raise ApiError(Code.FIRMWARE_NOT_FOUND)
    return image


def delete(call: Call) -> None:
    """Forget an image, and offer it to nobody any more."""
    call.side.firmwares.delete(_image(call).id)


def push(call: Call) -> Any:
    """Offer an image to devices, and tell those that are on line to check now (0211)."""
    image, dids = _image(call), call.body(PushForm).dids
    dids = None if dids is None else list(dict.fromkeys(dids))
    for did in dids or ():
        if call.side.device(did).product_key != image.product_key:
            raise ApiError(Code.FORM_INVALID, f"device {did[:32]} is of another product than the image")
    return [_row(call, made, call.side.device(made.did)) for made in call.side.pusher.push(image, dids)]


def _row(call: Call, push: Push, device: Device) -> dict[str, Any]:
    versions = device.module_versions if push.type == 1 else device.mcu_versions
    return {
        "did": push.did,
        "mac": device.mac,
        "type": push.type,
        "firmware": push.firmware,
        "soft_version": push.soft_version,
        "state": push.state,
        "reported_version": versions.soft if versions is not None else None,
        "is_online": call.side.hub.is_online(push.did),
        "pushed_at": moment(push.pushed),
        "changed_at": moment(push.changed),
        "offers": push.offers,
        "downloads": push.downloads,
    }


def pushes(call: Call) -> Any:
    """What became of every push, or of those of one device, with the version that it reported last."""
    wanted = call.query(OfDevice).did
    known = {device.did: device for device in call.side.store.devices()}
    return [
        _row(call, each, known[each.did])
        for each in call.side.firmwares.pushes()
        if wanted in {None, each.did} and each.did in known
    ]


def withdraw(call: Call) -> None:
    """Offer a device its image no more."""
    query = call.query(OfDevice)
    if query.did is None:
        raise ApiError(Code.FORM_INVALID, "did is needed")
    if not call.side.firmwares.withdraw(query.did, query.type, call.side.now()):
        raise ApiError(Code.FIRMWARE_NOT_FOUND)


def fault(call: Call) -> None:
    """Spoil the next downloads: a wrong MD5, or the connection ends in the middle of the file."""
    form = call.body(FaultForm)
    call.side.firmwares.faults.clear()
    call.side.firmwares.faults.extend([form.kind] * form.downloads)
