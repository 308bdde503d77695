"""The three schedulers (open-api.md §13): of a device, the old one, and the common one."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import pydantic

from sim.cloud.api_errors import ApiError, Code
from sim.cloud.app_side import AppSide
from sim.cloud.commands import checked_command, named_command
from sim.cloud.device import Device
from sim.cloud.groups import Group
from sim.cloud.openapi.calls import Call, Calls, Form, Page
from sim.cloud.schedules import KIND, Schedule
from sim.cloud.timetable import TimetableError, parse_timetable

MAX_TASKS: Final = 1000
"""Tasks of one user, of all kinds."""
Text = Annotated[str, pydantic.StringConstraints(max_length=1024)]


class Times(Form):
    """When a task runs; all times are UTC."""

    date: Text | None = None
    time: Text | None = None
    repeat: Text | None = None
    days: list[int | str] | None = pydantic.Field(default=None, max_length=31)
    start_date: Text | None = None
    end_date: Text | None = None
    enabled: bool | None = None
    remark: Text | None = None


class Task(Times):
    """Body of ``POST`` and ``PUT /app/devices/{did}/scheduler``; ``raw`` is hex."""

    raw: Annotated[str, pydantic.StringConstraints(max_length=4096)] | None = None
    attrs: dict[str, Any] | None = None
    binary_coding: Text | None = None


class NumberedTask(Task):
    """Body of the older ``PUT`` without id in the path."""

    id: str


class CommonTask(Task):
    """Body of ``/app/common_scheduler``: for a device, a group or a scene; the first of them counts."""

    did: Text | None = None
    group_id: Text | None = None
    scene_id: Text | None = None


class Targets(Page):
    """Query of ``GET /app/common_scheduler``."""

    did: str | None = None
    group_id: str | None = None
    scene_id: str | None = None


class OldCommand(Form):
    """One command of the old scheduler."""

    did: str
    product_key: str = ""
    attrs: dict[str, Any]


class OldTask(Times):
    """Body of ``POST /app/scheduler``."""

    task: list[OldCommand] = pydantic.Field(min_length=1, max_length=100)
    retry_count: int = pydantic.Field(default=0, ge=0, le=60)
    retry_task: Literal["all", "failed"] = "failed"

    @pydantic.field_validator("task", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        """The Python SDK documents a single one."""
        return [value] if isinstance(value, dict) else value


_PLAN_ERRORS: Final = (Code.DEVICE_NOT_FOUND, Code.NOT_BOUND, Code.ATTR_INVALID)


def scheduler_calls(side: AppSide) -> Calls:
    """The calls of §13."""
    calls = Calls(side, "Schedulers")
    base = "/app/devices/{did}/scheduler"
    unknown = (*_PLAN_ERRORS, Code.SCHEDULER_NOT_FOUND)
    calls.add("GET", base, list_tasks, query=Page, errors=_PLAN_ERRORS[:2])
    calls.add("POST", base, create, body=Task, status=201, errors=_PLAN_ERRORS)
    calls.add("PUT", base, change_numbered, body=NumberedTask, errors=unknown)
    calls.add("PUT", f"{base}/{{id}}", change, body=Task, errors=unknown)
    calls.add("DELETE", f"{base}/{{id}}", delete, errors=(*_PLAN_ERRORS[:2], Code.SCHEDULER_NOT_FOUND))
    calls.add("GET", "/app/scheduler", list_old, query=Page)
    calls.add("POST", "/app/scheduler", create_old, body=OldTask, status=201, errors=_PLAN_ERRORS)
    calls.add("DELETE", "/app/scheduler/{id}", delete_old, errors=(Code.SCHEDULER_NOT_FOUND,))
    calls.add("GET", "/app/scheduler/{id}/logs", logs, errors=(Code.SCHEDULER_NOT_FOUND,))
    common = "/app/common_scheduler"
    targets = (*_PLAN_ERRORS, Code.GROUP_NOT_FOUND, Code.SCENE_NOT_FOUND, Code.SCENE_FOREIGN)
    calls.add("GET", common, list_common, query=Targets)
    calls.add("POST", common, create_common, body=CommonTask, status=201, errors=targets)
    calls.add(
        "PUT",
        f"{common}/{{id}}",
        change_common,
        body=CommonTask,
        errors=(*targets, Code.SCHEDULER_NOT_FOUND),
    )
    calls.add("DELETE", f"{common}/{{id}}", delete_common, errors=(Code.SCHEDULER_NOT_FOUND,))
    return calls


# --- what they share


def _plan(call: Call, body: Mapping[str, Any]) -> tuple[dict[str, Any], float | None]:
    """When it runs, as it is kept, and the first time."""
    try:
        timetable = parse_timetable(body)
    except TimetableError as error:
        raise ApiError(Code.FORM_INVALID, str(error)) from error
    return timetable.members(), timetable.next_run(call.side.now())


def _room(call: Call) -> None:
    if call.side.schedules.count(call.user.uid) >= MAX_TASKS:
        raise ApiError(Code.FORM_INVALID, f"a user has at most {MAX_TASKS} tasks")


def _given(form: Form) -> dict[str, Any]:
    """The members of a body that were given."""
    return form.model_dump(exclude_unset=True)


def _found(call: Call, kind: KIND, number: str) -> Schedule:
    task = call.side.schedules.get(call.user.uid, kind, number)
    if task is None:
        raise ApiError(Code.SCHEDULER_NOT_FOUND)
    return task


def _created(seconds: float) -> str:
    """Schedulers write times without ``Z`` (§3)."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _shown(call: Call, task: Schedule) -> dict[str, Any]:
    shown = {
        "id": task.id,
        "created_at": _created(task.created),
        "product_key": _product_key(call, task),
        "did": task.did,
        **task.content,
    }
    if task.kind == "common":
        shown |= {"group_id": task.group_id, "scene_id": task.scene_id}
    return shown


def _product_key(call: Call, task: Schedule) -> str:
    """Of the device or group that the task is for; a scene is of many products."""
    if task.group_id:
        group = call.side.groups.by_id(task.group_id)
        return group.product_key if group is not None else ""
    device = call.side.store.device(task.did)
    return device.product_key if device is not None else ""


# --- of a device


def _device(call: Call) -> Device:
    return call.side.bound(call.user, call.path("did"))[0]


def list_tasks(call: Call) -> Any:
    """What is planned for a device."""
    page, did = call.query(Page), _device(call).did
    tasks = call.side.schedules.of_user(call.user.uid, "device", start=page.start, size=page.size, did=did)
    return [_shown(call, task) for task in tasks]


def create(call: Call) -> Any:
    """Plan a command for a device."""
    body = _given(call.body(Task))
    content, first = _plan(call, body)
    named_command(body)
    device = _device(call)
    content |= checked_command(call.side, device.product_key, body) | {"remark": body.get("remark") or ""}
    _room(call)
    number = call.side.schedules.add(
        "device", call.user.uid, call.app.appid, content, next=first, did=device.did
    )
    call.side.scheduling.changed()
    return {"id": number}


def change_numbered(call: Call) -> Any:
    """Change a planned command whose id is in the body."""
    return _change(call, call.body(NumberedTask).id, call.body(NumberedTask))


def change(call: Call) -> Any:
    """Change a planned command; what is not named stays."""
    return _change(call, call.path("id"), call.body(Task))


def _change(call: Call, number: str, form: Task) -> Any:
    device, task = _device(call), _found(call, "device", number)
    if task.did != device.did:
        raise ApiError(Code.SCHEDULER_NOT_FOUND)
    body = _merged(task, form)
    content, first = _plan(call, body)
    content |= checked_command(call.side, device.product_key, body) | {"remark": body.get("remark") or ""}
    call.side.schedules.replace(dataclasses.replace(task, content=content, next=first))
    call.side.scheduling.changed()
    return {"id": task.id}


def _merged(task: Schedule, form: Form) -> dict[str, Any]:
    given = _given(form)
    kept = dict(task.content)
    if given.get("raw"):
        kept["attrs"] = {}  # a command is the one or the other
    return kept | given


def delete(call: Call) -> None:
    """Forget a planned command."""
    device, task = _device(call), _found(call, "device", call.path("id"))
    if task.did != device.did:
        raise ApiError(Code.SCHEDULER_NOT_FOUND)
    call.side.schedules.remove(task.id)


# --- the old one


def list_old(call: Call) -> Any:
    """What is planned with the old scheduler."""
    page = call.query(Page)
    tasks = call.side.schedules.of_user(call.user.uid, "old", start=page.start, size=page.size)
    return [{"id": task.id, "created_at": _created(task.created), **task.content} for task in tasks]


def create_old(call: Call) -> Any:
    """Plan commands for several devices, with retries."""
    form = call.body(OldTask)
    content, first = _plan(call, _given(form))
    if not all(each.attrs for each in form.task):
        raise ApiError(Code.FORM_INVALID, "attrs is an object with at least one data point")
    listed = []
    for each in form.task:
        device, _ = call.side.bound(call.user, each.did)
        listed.append(each.model_dump() | checked_command(call.side, device.product_key, each.model_dump()))
    _room(call)
    content |= {"task": listed, "retry_count": form.retry_count, "retry_task": form.retry_task}
    number = call.side.schedules.add("old", call.user.uid, call.app.appid, content, next=first)
    call.side.scheduling.changed()
    return {"id": number}


def delete_old(call: Call) -> None:
    """Forget a task of the old scheduler."""
    call.side.schedules.remove(_found(call, "old", call.path("id")).id)


def logs(call: Call) -> Any:
    """How the runs of a task went, the newest first."""
    task = _found(call, "old", call.path("id"))
    return [
        {
            "datetime": _created(log.at),
            "status": "succeed" if log.succeeded else "failed",
            "detail": dict(log.detail),
        }
        for log in call.side.schedules.logs(task.id)
    ]


# --- the common one


def list_common(call: Call) -> Any:
    """What is planned with the common scheduler."""
    query = call.query(Targets)
    wanted = {name: getattr(query, name) or "" for name in ("did", "group_id", "scene_id")}
    tasks = call.side.schedules.of_user(call.user.uid, "common", start=query.start, size=query.size, **wanted)
    return [_shown(call, task) for task in tasks]


def create_common(call: Call) -> Any:
    """Plan a command for a device or a group, or a scene."""
    body = _given(call.body(CommonTask))
    content, first, target = _common(call, body)
    _room(call)
    number = call.side.schedules.add("common", call.user.uid, call.app.appid, content, next=first, **target)
    call.side.scheduling.changed()
    return {"id": number}


def change_common(call: Call) -> Any:
    """Change a task of the common scheduler; what is not named stays."""
    task, form = _found(call, "common", call.path("id")), call.body(CommonTask)
    body = {"did": task.did, "group_id": task.group_id, "scene_id": task.scene_id, **_merged(task, form)}
    content, first, target = _common(call, body)
    changed = dataclasses.replace(
        task,
        content=content,
        next=first,
        did=target.get("did", ""),
        group_id=target.get("group_id", ""),
        scene_id=target.get("scene_id", ""),
    )
    call.side.schedules.replace(changed)
    call.side.scheduling.changed()
    return {"id": task.id}


def delete_common(call: Call) -> None:
    """Forget a task of the common scheduler."""
    call.side.schedules.remove(_found(call, "common", call.path("id")).id)


def _common(call: Call, body: Mapping[str, Any]) -> tuple[dict[str, Any], float | None, dict[str, str]]:
    """What is kept, the first time, and for what it is: device before group before scene."""
    content, first = _plan(call, body)
    content["remark"] = body.get("remark") or ""
    if body.get("did") or body.get("group_id"):
        named_command(body)
    if body.get("did"):
        device, _ = call.side.bound(call.user, body["did"])
        return content | checked_command(call.side, device.product_key, body), first, {"did": device.did}
    if body.get("group_id"):
        group = call.side.groups.get(call.user.uid, body["group_id"])
        return content | group_command(call.side, group, body), first, {"group_id": group.id}
    if body.get("scene_id"):
        scene = call.side.scenes.of(call.user.uid, body["scene_id"])
        return content | {"attrs": {}, "raw": ""}, first, {"scene_id": scene.id}
    raise ApiError(Code.FORM_INVALID, "did, group_id or scene_id is needed")


def group_command(
    side: AppSide, group: Group, body: Mapping[str, Any], *, base64_text: bool = False
) -> dict[str, Any]:
    """A command for every device of a group of one product."""
    if not group.product_key:
        raise ApiError(Code.FORM_INVALID, "only a group of one product can be controlled")
    return checked_command(side, group.product_key, body, base64_text=base64_text)
