"""Sharing of devices (open-api.md §11)."""

from __future__ import annotations

from typing import Any, Final, Literal, Self

import pydantic

from sim.cloud.accounts import User
from sim.cloud.api_errors import ApiError, Code
from sim.cloud.app_side import AppSide
from sim.cloud.device import Device
from sim.cloud.openapi.bindings import masked
from sim.cloud.openapi.calls import Call, Calls, Form, Page
from sim.cloud.openapi.paging import style_b
from sim.cloud.openapi.records import moment, product_name
from sim.cloud.sharing import Sharing

QR_PREFIX: Final = "type=share&code="


class Offer(Form):
    """Body of ``POST /app/sharing``; type 0 names a user, type 1 is a QR code. ``duration`` is in minutes."""

    type: Literal[0, 1, "0", "1"]
    did: str
    uid: str | None = None
    username: str | None = None
    email: str | None = None
    phone: str | None = None
    duration: int | None = pydantic.Field(default=None, ge=1, le=1440)

    @pydantic.model_validator(mode="after")
    def _names_somebody(self) -> Self:
        if int(self.type) == 0 and not (self.uid or self.username or self.email or self.phone):
            raise ValueError("uid, username, email or phone is needed")
        return self


class Listed(Page):
    """Query of ``GET /app/sharing``; sharing_type 0 sent, 1 received."""

    sharing_type: Literal[0, 1, "0", "1"]
    status: int | None = pydantic.Field(default=None, ge=0, le=3)
    did: str | None = None


class Answered(Form):
    """Query or body of ``PUT /app/sharing/{id}``: 1 accept, 2 refuse."""

    status: Literal[1, 2, "1", "2"] | None = None


class Alias(Form):
    """Query or body of ``PUT /app/sharing/{id}/alias``."""

    user_alias: str | None = pydantic.Field(default=None, max_length=256)


class Receiver(Form):
    """Query of ``POST /app/sharing/{did}/transfer``."""

    uid: str


def sharing_calls(side: AppSide) -> Calls:
    """The calls of §11."""
    calls = Calls(side, "Sharing")
    calls.add(
        "POST",
        "/app/sharing",
        offer,
        body=Offer,
        status=201,
        errors=(
            Code.DEVICE_NOT_FOUND,
            Code.NOT_BOUND,
            Code.CANNOT_SHARE,
            Code.SHARE_TO_SELF,
            Code.GUEST_NOT_FOUND,
            Code.GUEST_BOUND,
            Code.SHARING_PENDING,
        ),
    )
    calls.add("GET", "/app/sharing", list_sharing, query=Listed)
    calls.add(
        "PUT",
        "/app/sharing/{id}",
        answer_offer,
        query=Answered,
        body=Answered,
        errors=(
            Code.SHARING_NOT_FOUND,
            Code.NOT_RECEIVER,
            Code.SHARING_EXPIRED,
            Code.SHARING_NOT_OPEN,
            Code.GUEST_BOUND,
            Code.DEVICE_NOT_FOUND,
        ),
    )
    calls.add(
        "DELETE",
        "/app/sharing/{id}",
        cancel,
        errors=(Code.SHARING_NOT_FOUND, Code.NOT_OWNER, Code.SHARING_CANCELLED),
    )
    calls.add(
        "GET",
        "/app/sharing/code/{code}",
        show_code,
        errors=(Code.SHARING_NOT_FOUND, Code.NOT_GUEST, Code.SHARING_EXPIRED, Code.DEVICE_NOT_FOUND),
    )
    calls.add(
        "POST",
        "/app/sharing/code/{code}",
        accept_code,
        errors=(
            Code.SHARING_NOT_FOUND,
            Code.NOT_GUEST,
            Code.SHARING_EXPIRED,
            Code.SHARING_NOT_OPEN,
            Code.GUEST_BOUND,
            Code.DEVICE_NOT_FOUND,
        ),
    )
    calls.add(
        "PUT",
        "/app/sharing/{id}/alias",
        set_alias,
        query=Alias,
        body=Alias,
        errors=(Code.SHARING_NOT_FOUND, Code.NOT_OWNER_OR_GUEST),
    )
    calls.add(
        "POST",
        "/app/sharing/{did}/transfer",
        transfer,
        query=Receiver,
        errors=(Code.DEVICE_NOT_FOUND, Code.NOT_BOUND, Code.NOT_OWNER, Code.GUEST_NOT_FOUND),
    )
    return calls


def _number(call: Call) -> int:
    """The id in the path (:raises ApiError: 9084, it is none)."""
    text = call.path("id")
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise ApiError(Code.SHARING_NOT_FOUND)
    return int(text)


def offer(call: Call) -> Any:
    """Offer a device to a user, or make a QR code that offers it to whoever reads it."""
    form, side = call.body(Offer), call.side
    _, binding = side.bound(call.user, form.did)
    guest = _guest(form, side) if int(form.type) == 0 else None
    duration = None if form.duration is None else form.duration * 60.0
    sharing = side.sharings.offer(call.user, binding, guest=guest, duration=duration)
    if guest is not None:
        return {"id": sharing.id, "qr_content": None}
    return {"id": None, "qr_content": f"{QR_PREFIX}{sharing.code}"}


def _guest(form: Offer, side: AppSide) -> User:
    names = (("uid", form.uid), ("username", form.username), ("email", form.email), ("phone", form.phone))
    kind, value = next((kind, value) for kind, value in names if value)
    user = side.accounts.by(kind, value)
    if user is None:
        raise ApiError(Code.GUEST_NOT_FOUND)
    return user


def list_sharing(call: Call) -> Any:
    """Offers that the user made or got, the newest first."""
    query = call.query(Listed)
    received = int(query.sharing_type) == 1
    found = call.side.sharings.of_user(call.user.uid, received=received, status=query.status, did=query.did)
    page = style_b(call.request, query, found)
    page["objects"] = [_shown(call, sharing, received=received) for sharing in page["objects"]]
    return page


def _shown(call: Call, sharing: Sharing, *, received: bool) -> dict[str, Any]:
    """An offer, with the person on the other side."""
    other = sharing.owner if received else sharing.guest
    user = call.side.accounts.user(other) if other is not None else None
    device = call.side.store.device(sharing.did)
    binding = call.side.bindings.get(sharing.owner, sharing.did)
    names = masked(user) if user is not None else {"username": None, "phone": None, "email": None}
    return {
        "id": sharing.id,
        "type": sharing.type,
        "uid": other,
        "user_alias": sharing.user_alias,
        **names,
        "did": sharing.did,
        "product_name": product_name(call.side, device.product_key) if device is not None else "",
        "dev_alias": binding.dev_alias if binding is not None else "",
        "status": sharing.status,
        "created_at": moment(sharing.created),
        "updated_at": moment(sharing.updated),
        "expired_at": moment(sharing.expires),
    }


def answer_offer(call: Call) -> Any:
    """Accept or refuse an offer."""
    number = _number(call)
    status = call.query(Answered).status or call.body(Answered).status
    if status is None:
        raise ApiError(Code.FORM_INVALID, "status: 1 accept, 2 refuse")
    sharings = call.side.sharings
    device = call.side.device(sharings.get(number).did)
    sharings.answer(call.user, call.app.appid, device, number, accept=int(status) == 1)
    return {"id": number}


def cancel(call: Call) -> Any:
    """Take an offer back."""
    number = _number(call)
    call.side.sharings.cancel(call.user.uid, number)
    return {"id": number}


def show_code(call: Call) -> Any:
    """What a QR code offers."""
    sharing, device = _by_code(call)
    if sharing.owner == call.user.uid:
        raise ApiError(Code.NOT_GUEST)
    call.side.sharings.check_valid(sharing)
    owner = call.side.accounts.user(sharing.owner)
    binding = call.side.bindings.get(sharing.owner, sharing.did)
    names = masked(owner) if owner is not None else {}
    return {
        "owner": names.get("username") or names.get("email") or names.get("phone"),
        "product_name": product_name(call.side, device.product_key),
        "dev_alias": binding.dev_alias if binding is not None else "",
        "expired_at": moment(sharing.expires),
    }


def accept_code(call: Call) -> Any:
    """Accept what a QR code offers."""
    _, device = _by_code(call)
    call.side.sharings.accept_code(call.user, call.app.appid, device, call.path("code"))
    return {}


def _by_code(call: Call) -> tuple[Sharing, Device]:
    sharing = call.side.sharings.by_code(call.path("code"))
    return sharing, call.side.device(sharing.did)


def set_alias(call: Call) -> Any:
    """Name the person on the other side."""
    alias = call.query(Alias).user_alias
    alias = call.body(Alias).user_alias if alias is None else alias
    if alias is None:
        raise ApiError(Code.FORM_INVALID, "user_alias is needed")
    call.side.sharings.set_alias(call.user.uid, _number(call), alias)
    return {}


def transfer(call: Call) -> Any:
    """Make a guest the owner of a device."""
    device = call.side.device(call.path("did"))
    call.side.sharings.transfer(call.user, device, call.query(Receiver).uid)
    return {}
