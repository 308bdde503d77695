"""Groups in which an enterprise keeps the devices of a product: a tree (open-api.md §19)."""

from __future__ import annotations

import secrets
from typing import Any, Final

from sim.cloud.api_errors import EnterpriseError
from sim.cloud.database import Database

MAX_GROUPS: Final = 1000
"""Groups of one product."""
MAX_LEVELS: Final = 32
"""Groups within groups."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS enterprise_group (
    number INTEGER PRIMARY KEY,
    gid TEXT NOT NULL UNIQUE,
    product_key TEXT NOT NULL,
    parent TEXT NOT NULL                -- empty: the root, of which a product has one
);
CREATE TABLE IF NOT EXISTS enterprise_grouped (
    number INTEGER PRIMARY KEY,
    product_key TEXT NOT NULL, mac TEXT NOT NULL COLLATE NOCASE,
    gid TEXT NOT NULL,
    UNIQUE (product_key, mac)
);
"""


class DeviceGroups:
    """The groups of every product; a device is in at most one."""

    def __init__(self, database: Database) -> None:
        database.create(_TABLES)
        self._database = database

    def tree(self, product_key: str) -> dict[str, Any]:
        """Every group of a product by its gid, with those in it; an empty text when there are none."""
        rows = self._database.all(
            "SELECT gid, parent FROM enterprise_group WHERE product_key = ? ORDER BY number", (product_key,)
        )
        children: dict[str, list[str]] = {}
        for gid, parent in rows:
            children.setdefault(parent, []).append(gid)

        def below(gid: str) -> dict[str, Any]:
            return {child: below(child) or "" for child in children.get(gid, ())}

        return below("")

    def create(self, product_key: str, parent: str) -> str:
        """Make a group; gives its gid.

        :param parent: Empty: the root.
        :raises EnterpriseError: 5201 the parent is another product's, 5202 there is none,
            5203 there is a root, 5002 there are too many.
        """
        if parent:
            self.check(product_key, parent, unknown=5202)
        elif self._one("SELECT 1 FROM enterprise_group WHERE product_key = ? AND parent = ''", product_key):
            raise EnterpriseError(5203)
        count = self._one("SELECT count(*) FROM enterprise_group WHERE product_key = ?", product_key)
        if count >= MAX_GROUPS or (parent and self._level(parent) >= MAX_LEVELS):
            raise EnterpriseError(5002, f"at most {MAX_GROUPS} groups, {MAX_LEVELS} within each other")
        gid = secrets.token_hex(16)
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO enterprise_group (gid, product_key, parent) VALUES (?, ?, ?)",
                (gid, product_key, parent),
            )
        return gid

    def check(self, product_key: str, gid: str, *, unknown: int = 5206) -> None:
        """Whether the product has this group (:raises EnterpriseError: 5201 another has it, or nobody)."""
        owner = self._one("SELECT product_key FROM enterprise_group WHERE gid = ?", gid)
        if owner is None:
            raise EnterpriseError(unknown)
        if owner != product_key:
            raise EnterpriseError(5201)

    def delete(self, gid: str) -> None:
        """Forget an empty group (:raises EnterpriseError: 5204 or 5205, something is in it)."""
        if self._one("SELECT 1 FROM enterprise_group WHERE parent = ?", gid):
            raise EnterpriseError(5204)
        if self._one("SELECT 1 FROM enterprise_grouped WHERE gid = ?", gid):
            raise EnterpriseError(5205)
        with self._database.transaction() as db:
            db.execute("DELETE FROM enterprise_group WHERE gid = ?", (gid,))

    def macs(self, gid: str) -> list[str]:
        """The devices in a group."""
        rows = self._database.all("SELECT mac FROM enterprise_grouped WHERE gid = ? ORDER BY number", (gid,))
        return [row[0] for row in rows]

    def assign(self, product_key: str, gid: str, mac: str, *, reassign: bool) -> bool:
        """Put a device into a group; not if it is in another, unless ``reassign``."""
        now = self._one(
            "SELECT gid FROM enterprise_grouped WHERE product_key = ? AND mac = ?", product_key, mac
        )
        if now is not None and now != gid and not reassign:
            return False
        if now != gid:
            with self._database.transaction() as db:
                db.execute(
                    "INSERT OR REPLACE INTO enterprise_grouped (product_key, mac, gid) VALUES (?, ?, ?)",
                    (product_key, mac, gid),
                )
        return True

    def unassign(self, product_key: str, gid: str, mac: str) -> bool:
        """Take a device out of a group; whether it was in it."""
        with self._database.transaction() as db:
            gone = db.execute(
                "DELETE FROM enterprise_grouped WHERE product_key = ? AND mac = ? AND gid = ?",
                (product_key, mac, gid),
            )
            return gone.rowcount > 0

    def _level(self, gid: str) -> int:
        level = 0
        while gid and level <= MAX_LEVELS:
            gid = self._one("SELECT parent FROM enterprise_group WHERE gid = ?", gid) or ""
            level += 1
        return level

    def _one(self, sql: str, *values: str) -> Any:
        row = self._database.one(sql, values)
        return None if row is None else row[0]
