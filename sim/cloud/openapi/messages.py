"""The message centre (open-api.md §12)."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from sim.cloud.api_errors import ApiError, Code
from sim.cloud.app_side import AppSide
from sim.cloud.openapi.calls import Call, Calls, Form, Page
from sim.cloud.openapi.paging import style_b
from sim.cloud.openapi.records import moment


class Listed(Page):
    """Query of ``GET /app/messages``; type 1 is about sharing."""

    type: int | None = pydantic.Field(default=None, ge=0, le=1000)


class Status(Form):
    """Query or body of ``PUT /app/messages/{id}``: 1 read, 2 deleted."""

    status: Literal[1, 2, "1", "2"] | None = None


def message_calls(side: AppSide) -> Calls:
    """The calls of §12."""
    calls = Calls(side, "Messages")
    calls.add("GET", "/app/messages", list_messages, query=Listed)
    calls.add(
        "PUT",
        "/app/messages/{id}",
        set_status,
        query=Status,
        body=Status,
        errors=(Code.MESSAGE_NOT_FOUND, Code.NOT_RECEIVER, Code.MESSAGE_DELETED),
    )
    return calls


def list_messages(call: Call) -> Any:
    """The user's messages, the newest first."""
    query = call.query(Listed)
    shown = [
        {
            "id": message.id,
            "type": message.type,
            "status": message.status,
            "content": message.content,
            "created_at": moment(message.created),
            "updated_at": moment(message.updated),
        }
        for message in call.side.messages.of_user(call.user.uid, query.type)
    ]
    return style_b(call.request, query, shown)


def set_status(call: Call) -> None:
    """Mark a message as read, or delete it."""
    status = call.query(Status).status or call.body(Status).status
    if status is None:
        raise ApiError(Code.FORM_INVALID, "status: 1 read, 2 deleted")
    call.side.messages.set_status(call.user.uid, call.path("id"), int(status))
