"""The devices of a cloud and their last state, in SQLite (device-cloud.md §12.4).

What survives what:

* A registration, a DELETE and an adoption are on the disk before the call returns: they survive SIGKILL and
  a power cut.
* Versions, addresses, times and last states are handed to the operating system before the call returns. They
  survive SIGKILL; a power cut may lose those of the last moments, never anything older, and never the file.

One process at a time may have a directory open. Every call is synchronous and takes microseconds, a durable
one a few milliseconds.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import sqlite3
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from gizserial.errors import GizserialError
from sim.cloud.device import Device, LastData, Versions
from sim.cloud.errors import StoreError

SCHEMA: Final = 1
"""Version of the tables, in ``user_version``."""
APPLICATION: Final = 0x67697A73
"""``application_id`` of our files: "gizs". A database of another program is never touched."""
FILE_NAME: Final = "cloud.sqlite3"
LOCK_TIME: Final = 2.0
"""Seconds to wait for another process to let go of the file."""

_DID_LETTERS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_DID_LENGTH: Final = 22
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_TABLES: Final = """
CREATE TABLE device (
    did TEXT PRIMARY KEY,
    product_key TEXT NOT NULL,
    mac TEXT,                       -- NULL: adopted, never registered here
    passcode TEXT NOT NULL,
    previous_passcode TEXT,
    random_code TEXT,
    resets INTEGER NOT NULL DEFAULT 0,
    module_hard TEXT, module_soft TEXT,
    mcu_hard TEXT, mcu_soft TEXT,
    created REAL NOT NULL,
    last_seen REAL,
    last_online REAL,
    last_address TEXT,
    report BLOB, report_time REAL,
    raw BLOB, raw_time REAL,
    UNIQUE (product_key, mac)
) WITHOUT ROWID;
"""
_COLUMNS: Final = (
    "did, product_key, mac, passcode, previous_passcode, random_code, resets, module_hard, module_soft,"
    " mcu_hard, mcu_soft, created, last_seen, last_online, last_address, report, report_time, raw, raw_time"
)
_SELECT: Final = f"SELECT {_COLUMNS} FROM device"  # noqa: S608 (constants only)


def draw_did() -> str:
    """A new did: 22 random letters and digits."""
    return "".join(secrets.choice(_DID_LETTERS) for _ in range(_DID_LENGTH))


class Store:
    """Every device that a cloud knows.

    :param path: Directory of the database, made for its owner only when it is missing. None keeps everything
        in memory, for as long as the store lives.
    :param told: Takes one sentence for the user: a damaged database was set aside.
    :param draw: Draws a did.
    :raises StoreError: The directory or database cannot be used, is open elsewhere, or is of a newer version.
    """

    def __init__(
        self, path: Path | None, *, told: Callable[[str], None], draw: Callable[[], str] = draw_did
    ) -> None:
        self.file: Final = None if path is None else path / FILE_NAME
        self._draw = draw
        if path is not None:
            _make_directory(path)
        try:
            self._db = self._open()
        except _DamagedError as damage:
            told(_set_aside(self._place(), str(damage)))
            try:
                self._db = self._open()
            except _DamagedError as error:
                raise StoreError(f"{self._place()} is damaged as soon as it is made: {error}") from error

    def close(self) -> None:
        """Bring everything into the one file. Closing twice is fine; every other call afterwards is not."""
        with contextlib.suppress(sqlite3.Error):  # the write-ahead log is read at the next start
            self._db.close()

    # --- registration: durable

    def register(
        self,
        product_key: str,
        mac: str,
        passcode: str,
        *,
        is_reset: bool,
        now: float,
        random_code: str | None = None,
    ) -> Device:
        """Make a device known, or known again: the did is the same for the same product key and mac.

        :param is_reset: First registration after a reset: bindings are dropped.
        :param now: Unix seconds.
        """
        mac = mac.upper()
        with self._transaction(durable=True) as db:
            row = db.execute(f"{_SELECT} WHERE product_key = ? AND mac = ?", (product_key, mac)).fetchone()
            if row is None:
                did = self._new_did(db)
                db.execute(
                    "INSERT INTO device"
                    " (did, product_key, mac, passcode, random_code, resets, created, last_seen)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (did, product_key, mac, passcode, random_code, int(is_reset), now, now),
                )
            else:
                # A repeated registration (its answer was lost) must not forget the passcode before it: the
                # DELETE of that one is still to come.
                did, old = row[0], row[3]
                db.execute(
                    "UPDATE device SET passcode = ?, previous_passcode = CASE WHEN ? THEN ?"
                    " ELSE previous_passcode END, random_code = coalesce(?, random_code),"
                    " resets = resets + ?, last_seen = ? WHERE did = ?",
                    (passcode, old != passcode, old, random_code, int(is_reset), now, did),
                )
        return self._known(did)

    def adopt(self, did: str, passcode: str, now: float) -> Device:
        """Take over a device that was registered with another cloud; one that is known stays as it is."""
        with self._transaction(durable=True) as db:
            db.execute(
                "INSERT INTO device (did, product_key, passcode, created, last_seen) VALUES (?, '', ?, ?, ?)"
                " ON CONFLICT (did) DO NOTHING",
                (did, passcode, now, now),
            )
        return self._known(did)

    def unregister(self, did: str, passcode: str | None) -> bool:
        """Drop the bindings of a device. Its record, did, passcode and last state stay (§4.5, §12.4).

        The passcode before the current one is accepted too: a module sends its DELETE after a reset with the
        old one, when the same did is already registered with a new one.

        :param passcode: None when the caller knows otherwise that the device itself asks.
        :returns: Whether there is such a device and it is the one that asks.
        """
        device = self.device(did)
        if device is None:
            return False
        if passcode is not None and not _same(passcode, device.passcode, device.previous_passcode):
            return False
        with self._transaction(durable=True) as db:
            db.execute("UPDATE device SET resets = resets + 1 WHERE did = ?", (did,))
        return True

    # --- look-ups

    def device(self, did: str) -> Device | None:
        """The device with this did."""
        return self._one("WHERE did = ?", did)

    def by_mac(self, product_key: str, mac: str) -> Device | None:
        """The device with this mac, in either case."""
        return self._one("WHERE product_key = ? AND mac = ?", product_key, mac.upper())

    def devices(self) -> list[Device]:
        """Every device, the oldest first."""
        return [_device(row) for row in self._run(f"{_SELECT} ORDER BY created, did").fetchall()]

    def check_login(self, did: str, passcode: str) -> bool:
        """Whether this is the current passcode of this device; takes the same time for a near miss."""
        row = self._run("SELECT passcode FROM device WHERE did = ?", (did,)).fetchone()
        # An unknown did is compared as well, so that both answers take the same time.
        return _same(passcode, row[0] if row else "") and row is not None

    # --- last state: survives SIGKILL, its last moments not a power cut

    def set_versions(self, did: str, firmware_type: int, hard: str, soft: str, now: float) -> None:
        """Versions as the device reported them.

        :param firmware_type: 1 module, 2 MCU.
        """
        names = {1: ("module_hard", "module_soft"), 2: ("mcu_hard", "mcu_soft")}[firmware_type]
        self._run(
            f"UPDATE device SET {names[0]} = ?, {names[1]} = ?, last_seen = ? WHERE did = ?",  # noqa: S608 (names are the constants above)
            (hard, soft, now, did),
        )

    def set_product(self, did: str, product_key: str) -> None:
        """Learn the product of an adopted device; one that is known stays."""
        self._run("UPDATE device SET product_key = ? WHERE did = ? AND product_key = ''", (product_key, did))

    def save_report(self, did: str, p0: bytes, now: float) -> None:
        """Keep the last P0 report."""
        self._run(
            "UPDATE device SET report = ?, report_time = ?, last_seen = ? WHERE did = ?",
            (bytes(p0), now, now, did),
        )

    def save_raw(self, did: str, data: bytes, now: float) -> None:
        """Keep the last raw data."""
        self._run(
            "UPDATE device SET raw = ?, raw_time = ?, last_seen = ? WHERE did = ?",
            (bytes(data), now, now, did),
        )

    def touch(self, did: str, now: float, *, online: bool = False, address: str | None = None) -> None:
        """The device was heard of.

        :param online: Whether it is (or was until now) in an MQTT session.
        :param address: Where it was heard from; None leaves the last one.
        """
        self._run(
            "UPDATE device SET last_seen = ?, last_online = CASE WHEN ? THEN ? ELSE last_online END,"
            " last_address = coalesce(?, last_address) WHERE did = ?",
            (now, online, now, address, did),
        )

    # --- inside

    def _place(self) -> str:
        return "the database in memory" if self.file is None else str(self.file)

    def _open(self) -> sqlite3.Connection:
        if self.file is not None:
            _make_private(self.file)
        try:
            db = sqlite3.connect(self.file or ":memory:", timeout=LOCK_TIME, isolation_level=None)
        except sqlite3.Error as error:
            raise StoreError(f"{self._place()} cannot be opened: {error}") from error
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
        if _number(db, "PRAGMA user_version") == 0:
            db.execute(_TABLES)
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
            raise StoreError(f"{self._place()} belongs to another program; use another directory with --data")
        if version > SCHEMA:
            raise StoreError(
                f"{self._place()} was written by a newer version of gizsim (its tables are version {version},"
                f" this one knows {SCHEMA}); update gizsim or use another directory with --data"
            )

    def _translated(self, error: sqlite3.Error) -> StoreError:
        code = _primary(error)
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return StoreError(
                f"{self._place()} is in use by another process; stop that gizsim, or use another directory"
                " with --data"
            )
        if code == sqlite3.SQLITE_FULL:
            return StoreError(f"{self._place()} cannot be written: the disk is full")
        if code in _CORRUPT:
            return StoreError(
                f"{self._place()} was damaged while it was in use ({error}); restart gizsim,"
                " which sets it aside"
            )
        return StoreError(f"{self._place()}: {error}")

    @contextlib.contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        db = self._db
        try:
            # FULL waits for the disk at the commit, and with it for everything that was written before.
            db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            finally:
                db.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _run(self, sql: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _one(self, where: str, *values: str) -> Device | None:
        row = self._run(f"{_SELECT} {where}", values).fetchone()
        return None if row is None else _device(row)

    def _known(self, did: str) -> Device:
        device = self.device(did)
        if device is None:
            raise StoreError(f"{self._place()}: the device that was just stored is not there")
        return device

    def _new_did(self, db: sqlite3.Connection) -> str:
        while True:
            did = self._draw()
            if db.execute("SELECT 1 FROM device WHERE did = ?", (did,)).fetchone() is None:
                return did


class _DamagedError(Exception):
    """The file is not, or no longer, a database."""


def _same(passcode: str, *candidates: str | None) -> bool:
    # No short cut: which of them matched must not show in the time.
    found = False
    for candidate in candidates:
        found |= candidate is not None and hmac.compare_digest(passcode.encode(), candidate.encode())
    return found


def _number(db: sqlite3.Connection, sql: str) -> int:
    return int(db.execute(sql).fetchone()[0])


def _primary(error: sqlite3.Error) -> int:
    """The error code without its extension; -1 for errors of the Python module."""
    code = getattr(error, "sqlite_errorcode", None)
    return -1 if code is None else int(code) & 0xFF


def _device(row: tuple[Any, ...]) -> Device:
    (
        did,
        product_key,
        mac,
        passcode,
        previous,
        code,
        resets,
        module_hard,
        module_soft,
        mcu_hard,
        mcu_soft,
    ) = row[:11]
    created, seen, online, address, report, report_time, raw, raw_time = row[11:]
    return Device(
        did=did,
        product_key=product_key,
        mac=mac or "",
        passcode=passcode,
        previous_passcode=previous,
        random_code=code,
        resets=resets,
        module_versions=None if module_hard is None else Versions(module_hard, module_soft),
        mcu_versions=None if mcu_hard is None else Versions(mcu_hard, mcu_soft),
        created=created,
        last_seen=seen,
        last_online=online,
        last_address=address,
        last_report=None if report is None else LastData(report, report_time),
        last_raw=None if raw is None else LastData(raw, raw_time),
    )


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
