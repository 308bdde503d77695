"""The cloud's SQLite file: opening, one writer, transactions. The tables stand in the modules that use them.

What survives what:

* A durable transaction (registrations, accounts, bindings) is on the disk before the call returns: it
  survives SIGKILL and a power cut.
* Everything else is handed to the operating system before the call returns. It survives SIGKILL; a power cut
  may lose what was written in the last moments, never anything older, and never the file.

One process at a time may have a directory open. Every call is synchronous and takes microseconds, a durable
one a few milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from gizserial.errors import GizserialError
from sim.cloud.errors import StoreError

SCHEMA: Final = 2
"""Version of the tables, in ``user_version``."""
APPLICATION: Final = 0x67697A73
"""``application_id`` of our files: "gizs". A database of another program is never touched."""
FILE_NAME: Final = "cloud.sqlite3"
LOCK_TIME: Final = 2.0
"""Seconds to wait for another process to let go of the file."""

_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_DEVICE_TABLE: Final = """
CREATE TABLE device (
    did TEXT PRIMARY KEY,
    product_key TEXT NOT NULL,
    mac TEXT COLLATE NOCASE,        -- as registered; NULL: adopted, never registered here
    passcode TEXT NOT NULL,
    previous_passcode TEXT,
    random_code TEXT, random_code_time REAL,
    resets INTEGER NOT NULL DEFAULT 0,
    disabled INTEGER NOT NULL DEFAULT 0,
    module_hard TEXT, module_soft TEXT,
    mcu_hard TEXT, mcu_soft TEXT,
    created REAL NOT NULL,
    last_seen REAL,
    last_online REAL,
    last_address TEXT,
    changed REAL,                   -- last report or change between on line and off line
    report BLOB, report_time REAL,
    raw BLOB, raw_time REAL,
    state TEXT,                     -- JSON: raw value of each point ever reported, binary as hex
    UNIQUE (product_key, mac)
) WITHOUT ROWID;
"""
_FROM_1: Final = f"""
ALTER TABLE device RENAME TO device_1;
{_DEVICE_TABLE}
INSERT INTO device (did, product_key, mac, passcode, previous_passcode, random_code, resets, module_hard,
    module_soft, mcu_hard, mcu_soft, created, last_seen, last_online, last_address, report, report_time,
    raw, raw_time, changed)
    SELECT did, product_key, mac, passcode, previous_passcode, random_code, resets, module_hard,
    module_soft, mcu_hard, mcu_soft, created, last_seen, last_online, last_address, report, report_time,
    raw, raw_time, report_time FROM device_1;
DROP TABLE device_1;
"""  # noqa: S608 (constants only)


class Database:
    """One file, or memory.

    :param path: Directory of the file, made for its owner only when it is missing. None keeps everything in
        memory, for as long as the object lives.
    :param told: Takes one sentence for the user: a damaged database was set aside.
    :raises StoreError: The directory or file cannot be used, is open elsewhere, or is of a newer version.
    """

    def __init__(self, path: Path | None, *, told: Callable[[str], None]) -> None:
        self.file: Final = None if path is None else path / FILE_NAME
        if path is not None:
            _make_directory(path)
        try:
            self._db = self._open()
        except _DamagedError as damage:
            told(_set_aside(self.place, str(damage)))
            try:
                self._db = self._open()
            except _DamagedError as error:
                raise StoreError(f"{self.place} is damaged as soon as it is made: {error}") from error

    @property
    def place(self) -> str:
        """What to call it in a sentence."""
        return "the database in memory" if self.file is None else str(self.file)

    def close(self) -> None:
        """Bring everything into the one file. Closing twice is fine; every other call afterwards is not."""
        with contextlib.suppress(sqlite3.Error):  # the write-ahead log is read at the next start
            self._db.close()

    def create(self, tables: str) -> None:
        """Make the tables of a module, if they are not there: ``CREATE … IF NOT EXISTS`` statements.

        :raises StoreError: they cannot be made.
        """
        try:
            self._db.executescript(f"BEGIN IMMEDIATE; {tables}; COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise self._translated(error) from error

    def add_column(self, table: str, name: str, kind: str) -> None:
        """Give a table of an older version a column that it does not have yet; it is NULL in every row.

        :raises StoreError: it cannot be done.
        """
        if not any(column[1] == name for column in self.all(f"PRAGMA table_info({table})")):
            self.run(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")

    def run(self, sql: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """One statement, a transaction of its own unless one is open.

        :raises StoreError: it cannot be done.
        """
        try:
            return self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def one(self, sql: str, values: tuple[Any, ...] = ()) -> tuple[Any, ...] | None:
        """The first row (:raises StoreError: it cannot be read)."""
        row: tuple[Any, ...] | None = self.run(sql, values).fetchone()
        return row

    def all(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Every row (:raises StoreError: they cannot be read)."""
        try:
            return self.run(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._translated(error) from error

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Everything in the block or nothing; inside another transaction it is part of that one.

        :param durable: On the disk when the block ends.
        :raises StoreError: it cannot be done.
        """
        db = self._db
        if db.in_transaction:
            yield db
            return
        try:
            # FULL waits for the disk at the commit, and with it for everything that was written before.
            db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.OperationalError):  # an error may have ended it already
                    db.execute("ROLLBACK")
                raise
            finally:
                db.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _open(self) -> sqlite3.Connection:
        if self.file is not None:
            _make_private(self.file)
        try:
            db = sqlite3.connect(self.file or ":memory:", timeout=LOCK_TIME, isolation_level=None)
        except sqlite3.Error as error:
            raise StoreError(f"{self.place} cannot be opened: {error}") from error
        try:
            self._prepare(db)
        except sqlite3.DatabaseError as error:
            db.close()
            if _primary(error) in _CORRUPT:
                raise _DamagedError(str(error)) from error
            raise self._translated(error) from error
        except GizserialError:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        # Exclusive: two clouds on one directory would each believe their own half. It also needs no shared
        # memory file. The lock is the operating system's and ends with the process.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA trusted_schema = OFF")
        if self.file is not None:
            self._refuse_foreign(db)
            db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("BEGIN EXCLUSIVE")
        version = _number(db, "PRAGMA user_version")
        if version < SCHEMA:
            for statement in (_FROM_1 if version == 1 else _DEVICE_TABLE).split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA}")
            db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute("COMMIT")
        findings = db.execute("PRAGMA quick_check(1)").fetchone()
        if findings[0] != "ok":
            raise _DamagedError(str(findings[0]).replace("\n", ", "))
        db.execute("SELECT count(*) FROM device").fetchone()

    def _refuse_foreign(self, db: sqlite3.Connection) -> None:
        version = _number(db, "PRAGMA user_version")
        used = _number(db, "SELECT count(*) FROM sqlite_master")
        if used and _number(db, "PRAGMA application_id") != APPLICATION:
            raise StoreError(f"{self.place} belongs to another program; use another directory with --data")
        if version > SCHEMA:
            raise StoreError(
                f"{self.place} was written by a newer version of gizsim (its tables are version {version},"
                f" this one knows {SCHEMA}); update gizsim or use another directory with --data"
            )

    def _translated(self, error: sqlite3.Error) -> StoreError:
        code = _primary(error)
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return StoreError(
                f"{self.place} is in use by another process; stop that gizsim, or use another directory"
                " with --data"
            )
        if code == sqlite3.SQLITE_FULL:
            return StoreError(f"{self.place} cannot be written: the disk is full")
        if code in _CORRUPT:
            return StoreError(
                f"{self.place} was damaged while it was in use ({error}); restart gizsim, which sets it aside"
            )
        return StoreError(f"{self.place}: {error}")


class _DamagedError(Exception):
    """The file is not, or no longer, a database."""


def _number(db: sqlite3.Connection, sql: str) -> int:
    return int(db.execute(sql).fetchone()[0])


def _primary(error: sqlite3.Error) -> int:
    """The error code without its extension; -1 for errors of the Python module."""
    code = getattr(error, "sqlite_errorcode", None)
    return -1 if code is None else int(code) & 0xFF


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except FileExistsError as error:
        raise StoreError(f"{path} is a file, not a directory; name another one with --data") from error
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise StoreError(f"the data directory {path} cannot be made: {reason}; name another one") from error


def _make_private(file: Path) -> None:
    """Only its owner reads the passcodes; SQLite gives its write-ahead log the same mode."""
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        file.chmod(0o600)
    except OSError as error:
        raise StoreError(
            f"{file} cannot be opened: {error.strerror or error}; name another directory with --data"
        ) from error


def _set_aside(place: str, reason: str) -> str:
    """Rename the database and its log; the sentence that says so.

    :raises StoreError: when they cannot be renamed: then nothing may be written over them.
    """
    file, number = Path(place), 1
    while (aside := file.with_name(f"{file.name}.damaged-{number}")).exists():
        number += 1
    try:
        for suffix in ("-wal", "-shm"):
            companion = file.with_name(file.name + suffix)
            if companion.exists():
                companion.rename(aside.with_name(aside.name + suffix))
        file.rename(aside)
    except OSError as error:
        raise StoreError(f"{file} is damaged ({reason}) and cannot be renamed: {error.strerror}") from error
    return f"{file} is damaged ({reason}); it was kept as {aside.name}, devices have to register anew"
