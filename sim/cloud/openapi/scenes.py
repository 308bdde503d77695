"""Scenes (open-api.md §14)."""

from __future__ import annotations

import base64
import dataclasses
from typing import Annotated, Any, Final, Literal

import pydantic

from sim.cloud.api_errors import ApiError, Code
from sim.cloud.app_side import AppSide
from sim.cloud.commands import checked_command
from sim.cloud.openapi.calls import Call, Calls, Form
from sim.cloud.openapi.records import moment, product_name
from sim.cloud.openapi.schedulers import group_command
from sim.cloud.scenes import Scene

MAX_SCENES: Final = 100
"""Scenes of one user."""
Text = Annotated[str, pydantic.StringConstraints(max_length=1024)]


class Step(Form):
    """A task of a scene; ``raw`` is base64 here, ``time`` of a delay in seconds."""

    task_type: Literal["device", "group", "delay"]
    did: Text = ""
    group_id: Text = ""
    raw: Annotated[str, pydantic.StringConstraints(max_length=8192)] | None = None
    attrs: dict[str, Any] | None = None
    binary_coding: Text | None = None
    time: int | None = pydantic.Field(default=None, ge=0, le=3600)


class NewScene(Form):
    """Body of ``POST /app/scene``."""

    scene_name: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=256)]
    remark: Text = ""
    tasks: list[Step] = pydantic.Field(max_length=100)


class ChangedScene(Form):
    """Body of ``PUT /app/scene/{id}``; what is not named stays."""

    scene_name: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=256)] | None = None
    remark: Text | None = None
    tasks: list[Step] | None = pydantic.Field(default=None, max_length=100)


_STEP_ERRORS: Final = (Code.DEVICE_NOT_FOUND, Code.NOT_BOUND, Code.ATTR_INVALID, Code.GROUP_NOT_FOUND)
_SCENE_ERRORS: Final = (Code.SCENE_NOT_FOUND, Code.SCENE_FOREIGN)


def scene_calls(side: AppSide) -> Calls:
    """The calls of §14."""
    calls = Calls(side, "Scenes")
    calls.add("GET", "/app/scene", list_scenes)
    calls.add("POST", "/app/scene", create, body=NewScene, status=201, errors=_STEP_ERRORS)
    calls.add(
        "PUT POST", "/app/scene/{id}", change, body=ChangedScene, errors=(*_STEP_ERRORS, *_SCENE_ERRORS)
    )
    calls.add("DELETE", "/app/scene/{id}", delete, errors=_SCENE_ERRORS)
    calls.add("POST", "/app/scene/{id}/task", start, errors=_SCENE_ERRORS)
    calls.add("GET", "/app/scene/{id}/task", status, errors=_SCENE_ERRORS)
    return calls


def _scene(call: Call) -> Scene:
    return call.side.scenes.of(call.user.uid, call.path("id"))


def list_scenes(call: Call) -> Any:
    """The user's scenes."""
    return [
        {
            "id": scene.id,
            "scene_name": scene.scene_name,
            "remark": scene.remark,
            "created_at": moment(scene.created),
            "updated_at": moment(scene.updated),
            "tasks": [_shown(call, step) for step in scene.tasks],
        }
        for scene in call.side.scenes.of_user(call.user.uid)
    ]


def _shown(call: Call, step: Any) -> dict[str, Any]:
    side, did, group_id = call.side, step.get("did", ""), step.get("group_id", "")
    device = side.store.device(did) if did else None
    binding = side.bindings.get(call.user.uid, did) if did else None
    group = next((each for each in side.groups.of_user(call.user.uid) if each.id == group_id), None)
    key = device.product_key if device is not None else group.product_key if group is not None else ""
    return {
        "task_type": step["task_type"],
        "did": did,
        "product_key": key,
        "group_id": group_id,
        "group_name": group.name if group is not None else "",
        "raw": base64.b64encode(bytes.fromhex(step.get("raw") or "")).decode("ascii"),
        "attrs": step.get("attrs") or {},
        "time": step.get("time") or 0,
        "dev_remark": binding.remark if binding is not None else "",
        "dev_alias": binding.dev_alias if binding is not None else "",
        "verbose_name": product_name(side, key) if key else "",
    }


def _checked(call: Call, steps: list[Step]) -> list[dict[str, Any]]:
    """The tasks as they are kept (:raises ApiError: one cannot be done)."""
    kept: list[dict[str, Any]] = []
    for step in steps:
        members: dict[str, Any] = {"task_type": step.task_type}
        body = step.model_dump()
        if step.task_type == "delay":
            if step.time is None:
                raise ApiError(Code.FORM_INVALID, "time: seconds of the delay")
            members["time"] = step.time
        elif step.task_type == "group":
            group = call.side.groups.get(call.user.uid, step.group_id)
            members |= {"group_id": group.id, **group_command(call.side, group, body, base64_text=True)}
        else:
            device, _ = call.side.bound(call.user, step.did)
            members |= {
                "did": device.did,
                **checked_command(call.side, device.product_key, body, base64_text=True),
            }
        kept.append(members)
    return kept


def create(call: Call) -> Any:
    """Make a scene."""
    form, scenes = call.body(NewScene), call.side.scenes
    if scenes.count(call.user.uid) >= MAX_SCENES:
        raise ApiError(Code.FORM_INVALID, f"a user has at most {MAX_SCENES} scenes")
    tasks = _checked(call, form.tasks)
    return {"id": scenes.add(call.user.uid, call.app.appid, form.scene_name, form.remark, tasks)}


def change(call: Call) -> None:
    """Change a scene."""
    scene, form = _scene(call), call.body(ChangedScene)
    call.side.scenes.replace(
        dataclasses.replace(
            scene,
            scene_name=form.scene_name or scene.scene_name,
            remark=scene.remark if form.remark is None else form.remark,
            tasks=scene.tasks if form.tasks is None else _checked(call, form.tasks),
        )
    )


def delete(call: Call) -> None:
    """Forget a scene, and stop it."""
    number = _scene(call).id
    call.side.scheduling.stop_scene(number)
    call.side.scenes.remove(number)


def start(call: Call) -> None:
    """Run a scene; it goes on in the background."""
    call.side.scheduling.start_scene(_scene(call))


def status(call: Call) -> Any:
    """How the last run went: 0 running, 1 done, 2 failed, 3 never run."""
    return {"status": int(_scene(call).status)}
