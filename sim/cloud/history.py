"""What devices said and were told, for a while (open-api.md §8.4, §16)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from sim.cloud.database import Database
from sim.cloud.events import Origin
from sim.cloud.heartbeat import Heartbeat
from sim.cloud.store import read_state, write_state

RETENTION: Final = 7 * 86400.0
"""Seconds that history is kept: raw data can be asked for so long (§8.4)."""
MAX_ROWS: Final = 1_000_000
"""Rows of each table; the oldest go first."""
_LAST: Final = 2**63 - 1
"""After every row of its time."""
_PRUNE_EVERY: Final = 5_000
"""Rows written between two looks at the limits."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS packet (
    number INTEGER PRIMARY KEY,
    did TEXT NOT NULL, at REAL NOT NULL,
    kind TEXT NOT NULL,
    ip TEXT, payload BLOB,
    source TEXT, uid TEXT, appid TEXT,
    reason TEXT,
    keep_alive INTEGER,
    heartbeat TEXT                      -- JSON: of a connection that has ended
);
CREATE INDEX IF NOT EXISTS packet_of ON packet (did, at);
CREATE TABLE IF NOT EXISTS data (
    number INTEGER PRIMARY KEY,
    did TEXT NOT NULL, at REAL NOT NULL,
    state TEXT NOT NULL                 -- JSON: raw values of the points in one report
);
CREATE INDEX IF NOT EXISTS data_of ON data (did, at);
"""
_COLUMNS: Final = "kind, at, ip, payload, source, uid, appid, reason, keep_alive, heartbeat"
Kind = Literal["app2dev", "dev2app", "dev_online", "dev_re_online", "dev_offline"]
PACKETS: Final[tuple[Kind, ...]] = ("app2dev", "dev2app")
CONNECTIONS: Final[tuple[Kind, ...]] = ("dev_online", "dev_re_online", "dev_offline")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A packet, or a change of the connection."""

    kind: Kind
    at: float
    ip: str | None = None
    payload: bytes | None = None
    source: str | None = None
    uid: str | None = None
    appid: str | None = None
    reason: str | None = None
    """Why it went off line."""
    keep_alive: int | None = None
    """Seconds that it announced when it came on line; None: the entry is older than this column."""
    heartbeat: Mapping[str, int] | None = None
    """Members of :class:`Heartbeat` when it went off line; None as with ``keep_alive``."""


class History:
    """Keeps what happened, for ``retention`` seconds and at most ``max_rows`` rows of each kind."""

    def __init__(self, database: Database, *, retention: float = RETENTION, max_rows: int = MAX_ROWS) -> None:
        database.create(_TABLES)
        database.add_column("packet", "keep_alive", "INTEGER")
        database.add_column("packet", "heartbeat", "TEXT")
        self._database, self._retention, self._max_rows = database, retention, max_rows
        self._written = 0

    def packet(
        self,
        did: str,
        kind: Kind,
        at: float,
        *,
        ip: str | None,
        payload: bytes | None = None,
        origin: Origin | None = None,
        reason: str | None = None,
        keep_alive: int | None = None,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        """Keep a packet, or a change of the connection."""
        source, uid, appid = (origin.source, origin.uid, origin.appid) if origin else (None, None, None)
        beats = None if heartbeat is None else json.dumps(dataclasses.asdict(heartbeat))
        self._database.run(
            "INSERT INTO packet (did, at, kind, ip, payload, source, uid, appid, reason, keep_alive,"
            " heartbeat) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (did, at, kind, ip, payload, source, uid, appid, reason, keep_alive, beats),
        )
        self._count(at)

    def data(self, did: str, at: float, raw: Mapping[str, int | bytes]) -> None:
        """Keep the data points of one report."""
        self._database.run("INSERT INTO data (did, at, state) VALUES (?, ?, ?)", (did, at, write_state(raw)))
        self._count(at)

    def packets(
        self,
        did: str,
        kinds: tuple[Kind, ...],
        *,
        after: float,
        until: float,
        skip: int = 0,
        limit: int = 20,
        newest_first: bool = True,
    ) -> tuple[int, list[Entry]]:
        """How many there are with after < t ≤ until, and a page of them."""
        marks = ", ".join("?" * len(kinds))
        where = f"did = ? AND at > ? AND at <= ? AND kind IN ({marks})"
        values: tuple[Any, ...] = (did, after, until, *kinds)
        order = "DESC" if newest_first else "ASC"
        total = self._database.one(f"SELECT count(*) FROM packet WHERE {where}", values)  # noqa: S608 (marks only)
        rows = self._database.all(
            f"SELECT {_COLUMNS} FROM packet WHERE {where}"  # noqa: S608 (marks only)
            f" ORDER BY at {order}, number {order} LIMIT ? OFFSET ?",
            (*values, limit, skip),
        )
        return int(total[0]) if total else 0, [_entry(row) for row in rows]

    def reports(
        self,
        did: str,
        *,
        after: float,
        until: float,
        skip: int = 0,
        limit: int = -1,
        newest_first: bool = False,
    ) -> tuple[int, list[tuple[float, dict[str, int | bytes]]]]:
        """How many reports there are with after < t ≤ until, and a page of them as (time, raw values)."""
        order = "DESC" if newest_first else "ASC"
        where, values = "did = ? AND at > ? AND at <= ?", (did, after, until)
        total = self._database.one(f"SELECT count(*) FROM data WHERE {where}", values)  # noqa: S608 (constants)
        rows = self._database.all(
            f"SELECT at, state FROM data WHERE {where} ORDER BY at {order}, number {order} LIMIT ? OFFSET ?",  # noqa: S608
            (*values, limit, skip),
        )
        return int(total[0]) if total else 0, [(row[0], read_state(row[1])) for row in rows]

    def chunks(
        self, did: str, *, after: float, until: float, size: int = 500
    ) -> Iterator[list[tuple[float, dict[str, int | bytes]]]]:
        """Every report with after < t ≤ until, the oldest first, so many at a time.

        Whoever asks may wait between two of them: history may be long, and others want the loop.
        """
        at, number = after, _LAST
        while True:
            rows = self._database.all(
                "SELECT at, number, state FROM data WHERE did = ? AND (at, number) > (?, ?) AND at <= ?"
                " ORDER BY at, number LIMIT ?",
                (did, at, number, until, size),
            )
            if not rows:
                return
            at, number = rows[-1][:2]
            yield [(row[0], read_state(row[2])) for row in rows]

    def prune(self, now: float) -> None:
        """Drop what is too old or too much."""
        for table in ("packet", "data"):
            self._database.run(
                f"DELETE FROM {table} WHERE at < ? OR number <= (SELECT max(number) FROM {table}) - ?",  # noqa: S608
                (now - self._retention, self._max_rows),
            )

    def forget(self, did: str) -> None:
        """Drop everything of one device."""
        for table in ("packet", "data"):
            self._database.run(f"DELETE FROM {table} WHERE did = ?", (did,))  # noqa: S608 (constants)

    def _count(self, now: float) -> None:
        self._written += 1
        if self._written % _PRUNE_EVERY == 0:
            self.prune(now)


def _entry(row: tuple[Any, ...]) -> Entry:
    members = dict(zip(_COLUMNS.split(", "), row, strict=True))
    beats = members["heartbeat"]
    return Entry(**members | {"heartbeat": None if beats is None else json.loads(beats)})
