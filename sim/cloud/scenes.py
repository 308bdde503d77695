"""Scenes: tasks of a user's that run in order when he starts them (open-api.md §14)."""

from __future__ import annotations

import dataclasses
import enum
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sim.cloud.api_errors import ApiError, Code
from sim.cloud.database import Database

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS scene (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    uid TEXT NOT NULL,
    appid TEXT NOT NULL,
    scene_name TEXT NOT NULL, remark TEXT NOT NULL,
    tasks TEXT NOT NULL,                -- JSON list
    status INTEGER NOT NULL,
    created REAL NOT NULL, updated REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS scene_of ON scene (uid);
"""
_COLUMNS: Final = "id, uid, appid, scene_name, remark, tasks, status, created, updated"


class SceneStatus(enum.IntEnum):
    """How a scene's last run went."""

    RUNNING = 0
    DONE = 1
    FAILED = 2
    NEVER = 3


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One scene. Times are Unix seconds."""

    id: str
    uid: str
    appid: str
    scene_name: str
    remark: str = ""
    tasks: Sequence[Mapping[str, Any]] = ()
    """Each has ``task_type``: ``device`` with ``did`` and a command, ``group`` with ``group_id`` and a
    command, ``delay`` with ``time``. A command is ``attrs`` or ``raw`` in hex."""
    status: SceneStatus = SceneStatus.NEVER
    created: float = 0.0
    updated: float = 0.0


class Scenes:
    """Every scene.

    :param now: Unix seconds.
    """

    def __init__(self, database: Database, *, now: Callable[[], float]) -> None:
        database.create(_TABLES)
        self._database, self._now = database, now

    def by_id(self, number: str) -> Scene | None:
        """The scene with this id."""
        row = self._database.one(f"SELECT {_COLUMNS} FROM scene WHERE id = ?", (number,))  # noqa: S608
        return None if row is None else _scene(row)

    def of(self, uid: str, number: str) -> Scene:
        """A scene of the user's (:raises ApiError: 9220 there is none, 9221 it is somebody else's)."""
        scene = self.by_id(number)
        if scene is None:
            raise ApiError(Code.SCENE_NOT_FOUND)
        if scene.uid != uid:
            raise ApiError(Code.SCENE_FOREIGN)
        return scene

    def of_user(self, uid: str) -> list[Scene]:
        """A user's scenes, the oldest first."""
        rows = self._database.all(
            f"SELECT {_COLUMNS} FROM scene WHERE uid = ? ORDER BY number",  # noqa: S608 (constants)
            (uid,),
        )
        return [_scene(row) for row in rows]

    def count(self, uid: str) -> int:
        """How many a user has."""
        row = self._database.one("SELECT count(*) FROM scene WHERE uid = ?", (uid,))
        return int(row[0]) if row is not None else 0

    def add(
        self, uid: str, appid: str, scene_name: str, remark: str, tasks: Sequence[Mapping[str, Any]]
    ) -> str:
        """Keep a new scene; gives its id."""
        number, now = secrets.token_hex(12), self._now()
        with self._database.transaction() as db:
            db.execute(
                f"INSERT INTO scene ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 (constants)
                (number, uid, appid, scene_name, remark, json.dumps(tasks), SceneStatus.NEVER, now, now),
            )
        return number

    def replace(self, scene: Scene) -> None:
        """Change name, remark and tasks."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE scene SET scene_name = ?, remark = ?, tasks = ?, updated = ? WHERE id = ?",
                (scene.scene_name, scene.remark, json.dumps(scene.tasks), self._now(), scene.id),
            )

    def remove(self, number: str) -> None:
        """Forget a scene."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM scene WHERE id = ?", (number,))

    def drop_user(self, uid: str) -> None:
        """Forget everything of a user."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM scene WHERE uid = ?", (uid,))

    def set_status(self, number: str, status: SceneStatus) -> None:
        """How its run goes."""
        self._database.run("UPDATE scene SET status = ? WHERE id = ?", (status, number))

    def interrupted(self) -> None:
        """The cloud has just started: what was running has not come to its end."""
        self._database.run(
            "UPDATE scene SET status = ? WHERE status = ?", (SceneStatus.FAILED, SceneStatus.RUNNING)
        )


def _scene(row: tuple[Any, ...]) -> Scene:
    members = dict(zip(_COLUMNS.split(", "), row, strict=True))
    changed = {"tasks": json.loads(members["tasks"]), "status": SceneStatus(members["status"])}
    return Scene(**members | changed)
