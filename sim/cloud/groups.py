"""Groups of a user's devices (open-api.md §10)."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from typing import Final

from sim.cloud.api_errors import ApiError, Code
from sim.cloud.database import Database

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS device_group (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    uid TEXT NOT NULL,
    name TEXT NOT NULL,
    product_key TEXT NOT NULL,          -- empty: devices of any product
    created REAL NOT NULL, updated REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS device_group_of ON device_group (uid);
CREATE TABLE IF NOT EXISTS grouped (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL, did TEXT NOT NULL,
    UNIQUE (id, did)
);
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """A group. Times are Unix seconds."""

    id: str
    uid: str
    name: str
    product_key: str
    created: float
    updated: float


class Groups:
    """Every group.

    :param now: Unix seconds.
    """

    def __init__(self, database: Database, *, now: Callable[[], float]) -> None:
        database.create(_TABLES)
        self._database, self._now = database, now

    def of_user(self, uid: str) -> list[Group]:
        """A user's groups, in the order in which they were made."""
        rows = self._database.all(
            "SELECT id, uid, name, product_key, created, updated FROM device_group WHERE uid = ?"
            " ORDER BY number",
            (uid,),
        )
        return [Group(*row) for row in rows]

    def by_id(self, number: str) -> Group | None:
        """The group with this id."""
        row = self._database.one(
            "SELECT id, uid, name, product_key, created, updated FROM device_group WHERE id = ?", (number,)
        )
        return None if row is None else Group(*row)

    def get(self, uid: str, number: str) -> Group:
        """A group of this user (:raises ApiError: 9200, he has none with this id)."""
        group = self.by_id(number)
        if group is None or group.uid != uid:
            raise ApiError(Code.GROUP_NOT_FOUND)
        return group

    def create(self, uid: str, name: str, product_key: str) -> str:
        """Make a group; gives its id."""
        number, now = secrets.token_hex(12), self._now()
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO device_group (id, uid, name, product_key, created, updated)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (number, uid, name, product_key, now, now),
            )
        return number

    def rename(self, number: str, name: str) -> None:
        """Give a group another name."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE device_group SET name = ?, updated = ? WHERE id = ?", (name, self._now(), number)
            )

    def delete(self, number: str) -> None:
        """Forget a group; its devices stay bound."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM grouped WHERE id = ?", (number,))
            db.execute("DELETE FROM device_group WHERE id = ?", (number,))

    def dids(self, number: str) -> list[str]:
        """The devices in a group, in the order in which they came."""
        rows = self._database.all("SELECT did FROM grouped WHERE id = ? ORDER BY number", (number,))
        return [row[0] for row in rows]

    def add(self, number: str, did: str) -> None:
        """Put a device into a group, where it may be already."""
        with self._database.transaction() as db:
            db.execute("INSERT OR IGNORE INTO grouped (id, did) VALUES (?, ?)", (number, did))

    def remove(self, number: str, did: str) -> bool:
        """Take a device out; whether it was in."""
        with self._database.transaction() as db:
            return db.execute("DELETE FROM grouped WHERE id = ? AND did = ?", (number, did)).rowcount > 0

    def drop_user(self, uid: str) -> None:
        """Forget every group of a user."""
        for group in self.of_user(uid):
            self.delete(group.id)

    def left(self, uid: str, did: str) -> None:
        """A user has a device no more: it leaves his groups."""
        with self._database.transaction() as db:
            db.execute(
                "DELETE FROM grouped WHERE did = ? AND id IN (SELECT id FROM device_group WHERE uid = ?)",
                (did, uid),
            )
