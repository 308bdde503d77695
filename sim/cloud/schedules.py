"""What users have planned: tasks of the device, the old and the common scheduler (open-api.md §13)."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from sim.cloud.database import Database

KIND = Literal["device", "old", "common"]
"""``/app/devices/{did}/scheduler``, ``/app/scheduler`` and ``/app/common_scheduler``."""
MAX_LOGS: Final = 100
"""Runs that are remembered of one task of the old scheduler."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS schedule (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    uid TEXT NOT NULL,
    appid TEXT NOT NULL,
    did TEXT NOT NULL, group_id TEXT NOT NULL, scene_id TEXT NOT NULL,  -- at most one is not empty
    content TEXT NOT NULL,              -- JSON: times and commands
    created REAL NOT NULL,
    next REAL                           -- when it is due; NULL: never again
);
CREATE INDEX IF NOT EXISTS schedule_of ON schedule (uid, kind);
CREATE INDEX IF NOT EXISTS schedule_due ON schedule (next) WHERE next IS NOT NULL;
CREATE TABLE IF NOT EXISTS schedule_retry (
    id TEXT PRIMARY KEY,
    at REAL NOT NULL,
    remaining INTEGER NOT NULL,
    failed TEXT NOT NULL                -- JSON: numbers of the tasks that have not succeeded
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS schedule_log (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    at REAL NOT NULL,
    detail TEXT NOT NULL                -- JSON: whether it succeeded, by did
);
CREATE INDEX IF NOT EXISTS schedule_log_of ON schedule_log (id);
"""
_COLUMNS: Final = "id, kind, uid, appid, did, group_id, scene_id, content, created, next"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One planned task. Times are Unix seconds."""

    id: str
    kind: KIND
    uid: str
    appid: str
    did: str = ""
    group_id: str = ""
    scene_id: str = ""
    content: Mapping[str, Any]
    created: float = 0.0
    next: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    """A run of the old scheduler that is tried again."""

    id: str
    at: float
    remaining: int
    """How often, this one included."""
    failed: tuple[int, ...]
    """Which of its tasks have not succeeded."""


@dataclasses.dataclass(frozen=True, slots=True)
class Log:
    """How a run of the old scheduler went."""

    at: float
    detail: Mapping[str, bool]

    @property
    def succeeded(self) -> bool:
        """Every command was sent."""
        return all(self.detail.values())


class Schedules:
    """Every planned task.

    :param now: Unix seconds.
    """

    def __init__(self, database: Database, *, now: Callable[[], float]) -> None:
        database.create(_TABLES)
        self._database, self._now = database, now

    # --- what there is

    def get(self, uid: str, kind: KIND, number: str) -> Schedule | None:
        """A task of the user's."""
        return self._one("id = ? AND kind = ? AND uid = ?", number, kind, uid)

    def by_id(self, number: str) -> Schedule | None:
        """The task with this id."""
        return self._one("id = ?", number)

    def of_user(
        self, uid: str, kind: KIND, *, start: int = 0, size: int = 1000, **target: str
    ) -> list[Schedule]:
        """A user's tasks, the oldest first.

        :param target: Only those for this ``did``, ``group_id`` or ``scene_id``.
        """
        known = [name for name in ("did", "group_id", "scene_id") if target.get(name)]
        where = " AND ".join(["uid = ?", "kind = ?", *(f"{name} = ?" for name in known)])
        rows = self._database.all(
            f"SELECT {_COLUMNS} FROM schedule WHERE {where} ORDER BY number LIMIT ? OFFSET ?",  # noqa: S608 (names of columns)
            (uid, kind, *(target[name] for name in known), size, start),
        )
        return [_schedule(row) for row in rows]

    def count(self, uid: str) -> int:
        """How many a user has."""
        row = self._database.one("SELECT count(*) FROM schedule WHERE uid = ?", (uid,))
        return int(row[0]) if row is not None else 0

    # --- changes

    def add(
        self,
        kind: KIND,
        uid: str,
        appid: str,
        content: Mapping[str, Any],
        *,
        next: float | None,  # noqa: A002 - the member's name
        did: str = "",
        group_id: str = "",
        scene_id: str = "",
    ) -> str:
        """Keep a new task; gives its id."""
        number = secrets.token_hex(12)
        with self._database.transaction() as db:
            db.execute(
                f"INSERT INTO schedule ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (
                    number,
                    kind,
                    uid,
                    appid,
                    did,
                    group_id,
                    scene_id,
                    json.dumps(content),
                    self._now(),
                    next,
                ),
            )
        return number

    def replace(self, task: Schedule) -> None:
        """Change target, content and next run of a task."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE schedule SET did = ?, group_id = ?, scene_id = ?, content = ?, next = ? WHERE id = ?",
                (task.did, task.group_id, task.scene_id, json.dumps(task.content), task.next, task.id),
            )

    def remove(self, number: str) -> None:
        """Forget a task, its retries and its log."""
        with self._database.transaction() as db:
            for table in ("schedule", "schedule_retry", "schedule_log"):
                db.execute(f"DELETE FROM {table} WHERE id = ?", (number,))  # noqa: S608 (constants)

    def drop_user(self, uid: str) -> None:
        """Forget everything that a user has planned."""
        with self._database.transaction():
            for (number,) in self._database.all("SELECT id FROM schedule WHERE uid = ?", (uid,)):
                self.remove(number)

    # --- running

    def due(self, now: float) -> list[Schedule]:
        """Tasks whose time has come, in the order of their times."""
        rows = self._database.all(
            f"SELECT {_COLUMNS} FROM schedule WHERE next <= ? ORDER BY next, number",  # noqa: S608 (constants)
            (now,),
        )
        return [_schedule(row) for row in rows]

    def earliest(self) -> float | None:
        """When the next task or retry is due."""
        row = self._database.one(
            "SELECT min(at) FROM (SELECT min(next) AS at FROM schedule WHERE next IS NOT NULL"
            " UNION ALL SELECT min(at) FROM schedule_retry)"
        )
        return None if row is None else row[0]

    def advance(self, number: str, following: float | None) -> None:
        """The task is due next then, or never again."""
        with self._database.transaction() as db:
            db.execute("UPDATE schedule SET next = ? WHERE id = ?", (following, number))

    def retries_due(self, now: float) -> list[Retry]:
        """Runs that are to be tried again by now."""
        rows = self._database.all(
            "SELECT id, at, remaining, failed FROM schedule_retry WHERE at <= ? ORDER BY at, id", (now,)
        )
        return [Retry(number, at, left, tuple(json.loads(failed))) for number, at, left, failed in rows]

    def set_retry(self, number: str, at: float, remaining: int, failed: Sequence[int]) -> None:
        """Try a run again then; none remaining: never."""
        with self._database.transaction() as db:
            if remaining > 0 and failed:
                db.execute(
                    "INSERT OR REPLACE INTO schedule_retry VALUES (?, ?, ?, ?)",
                    (number, at, remaining, json.dumps(list(failed))),
                )
            else:
                db.execute("DELETE FROM schedule_retry WHERE id = ?", (number,))

    def log(self, number: str, at: float, detail: Mapping[str, bool]) -> None:
        """Remember how a run went."""
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO schedule_log (id, at, detail) VALUES (?, ?, ?)", (number, at, json.dumps(detail))
            )
            db.execute(
                "DELETE FROM schedule_log WHERE id = ? AND number NOT IN"
                " (SELECT number FROM schedule_log WHERE id = ? ORDER BY number DESC LIMIT ?)",
                (number, number, MAX_LOGS),
            )

    def logs(self, number: str) -> list[Log]:
        """How the runs of a task went, the newest first."""
        rows = self._database.all(
            "SELECT at, detail FROM schedule_log WHERE id = ? ORDER BY number DESC", (number,)
        )
        return [Log(at, json.loads(detail)) for at, detail in rows]

    def _one(self, where: str, *values: str) -> Schedule | None:
        row = self._database.one(f"SELECT {_COLUMNS} FROM schedule WHERE {where}", values)  # noqa: S608
        return None if row is None else _schedule(row)


def _schedule(row: tuple[Any, ...]) -> Schedule:
    members = dict(zip(_COLUMNS.split(", "), row, strict=True))
    return Schedule(**members | {"content": json.loads(members["content"])})
