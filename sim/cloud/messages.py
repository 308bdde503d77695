"""Messages to users: what happened around their devices (open-api.md §12)."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

from sim.cloud.api_errors import ApiError, Code
from sim.cloud.database import Database

SHARING: Final = 1
"""``type`` of a message about sharing."""
UNREAD, READ, DELETED = 0, 1, 2
MAX_KEPT: Final = 1000
"""Messages of a user; the oldest go first."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS message (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    uid TEXT NOT NULL,
    type INTEGER NOT NULL, status INTEGER NOT NULL,
    content TEXT NOT NULL,              -- JSON
    created REAL NOT NULL, updated REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS message_of ON message (uid);
"""
_COLUMNS: Final = "id, uid, type, status, content, created, updated"


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """A message. Times are Unix seconds."""

    id: str
    uid: str
    type: int
    status: int
    content: Any
    created: float
    updated: float


class Messages:
    """Every message.

    :param now: Unix seconds.
    """

    def __init__(self, database: Database, *, now: Callable[[], float]) -> None:
        database.create(_TABLES)
        self._database, self._now = database, now

    def put(self, uid: str, content: Mapping[str, Any], *, kind: int = SHARING) -> None:
        """Leave a message for a user."""
        now = self._now()
        with self._database.transaction() as db:
            db.execute(
                f"INSERT INTO message ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 (constants)
                (secrets.token_hex(12), uid, kind, UNREAD, json.dumps(content), now, now),
            )
            db.execute(
                "DELETE FROM message WHERE uid = ? AND number <= (SELECT number FROM message WHERE uid = ?"
                " ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (uid, uid, MAX_KEPT),
            )

    def of_user(self, uid: str, kind: int | None) -> list[Message]:
        """A user's messages that he has not deleted, the newest first."""
        rows = self._database.all(
            f"SELECT {_COLUMNS} FROM message WHERE uid = ? AND status <> ? AND coalesce(type = ?, 1)"  # noqa: S608
            " ORDER BY number DESC",
            (uid, DELETED, kind),
        )
        return [_message(row) for row in rows]

    def drop_user(self, uid: str) -> None:
        """Forget every message to a user."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM message WHERE uid = ?", (uid,))

    def set_status(self, uid: str, number: str, status: int) -> None:
        """Mark a message as read, or delete it.

        :raises ApiError: 9085 there is none, 9101 it is another user's, 9098 it is deleted.
        """
        row = self._database.one(f"SELECT {_COLUMNS} FROM message WHERE id = ?", (number,))  # noqa: S608
        if row is None:
            raise ApiError(Code.MESSAGE_NOT_FOUND)
        message = _message(row)
        if message.uid != uid:
            raise ApiError(Code.NOT_RECEIVER)
        if message.status == DELETED:
            raise ApiError(Code.MESSAGE_DELETED)
        with self._database.transaction() as db:
            db.execute(
                "UPDATE message SET status = ?, updated = ? WHERE id = ?", (status, self._now(), number)
            )


def _message(row: tuple[Any, ...]) -> Message:
    number, uid, kind, status, content, created, updated = row
    return Message(number, uid, kind, status, json.loads(content), created, updated)
