"""The devices of a cloud and their last state (device-cloud.md §12.4).

Registrations, DELETEs and adoptions are durable; versions, addresses, times and last states survive SIGKILL
(:mod:`sim.cloud.database`).
"""

from __future__ import annotations

import hmac
import json
import secrets
import sqlite3
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sim.cloud.database import Database
from sim.cloud.device import Device, LastData, Versions
from sim.cloud.errors import StoreError

_DID_LETTERS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_DID_LENGTH: Final = 22
_COLUMNS: Final = (
    "did, product_key, mac, passcode, previous_passcode, random_code, resets, disabled, created, last_seen,"
    " last_online, last_address, changed, state, module_hard, module_soft, mcu_hard, mcu_soft, report,"
    " report_time, raw, raw_time"
)
_SELECT: Final = f"SELECT {_COLUMNS} FROM device"  # noqa: S608 (constants only)
_PLAIN: Final = _COLUMNS.replace(",", "").split().index("module_hard")


def draw_did() -> str:
    """A new did: 22 random letters and digits."""
    return "".join(secrets.choice(_DID_LETTERS) for _ in range(_DID_LENGTH))


class Store:
    """Every device that a cloud knows.

    :param path: Directory of the database; None keeps everything in memory.
    :param told: Takes one sentence for the user: a damaged database was set aside.
    :param draw: Draws a did.
    :raises StoreError: The directory or database cannot be used, is open elsewhere, or is of a newer version.
    """

    def __init__(
        self, path: Path | None, *, told: Callable[[str], None], draw: Callable[[], str] = draw_did
    ) -> None:
        self.database: Final = Database(path, told=told)
        self.file: Final = self.database.file
        self._draw = draw

    def close(self) -> None:
        """Bring everything into the one file. Closing twice is fine; every other call afterwards is not."""
        self.database.close()

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
        with self.database.transaction() as db:
            row = db.execute(f"{_SELECT} WHERE product_key = ? AND mac = ?", (product_key, mac)).fetchone()
            if row is None:
                did = self._new_did(db)
                db.execute(
                    "INSERT INTO device"
                    " (did, product_key, mac, passcode, random_code, random_code_time, resets, created,"
                    " last_seen)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (did, product_key, mac, passcode, random_code, now, int(is_reset), now, now),
                )
            else:
                # A repeated registration (its answer was lost) must not forget the passcode before it: the
                # DELETE of that one is still to come.
                did, old = row[0], row[3]
                db.execute(
                    "UPDATE device SET passcode = ?, previous_passcode = CASE WHEN ? THEN ?"
                    " ELSE previous_passcode END, random_code = coalesce(?, random_code),"
                    " random_code_time = ?, mac = ?, resets = resets + ?, last_seen = ? WHERE did = ?",
                    (passcode, old != passcode, old, random_code, now, mac, int(is_reset), now, did),
                )
        return self._known(did)

    def adopt(self, did: str, passcode: str, now: float) -> Device:
        """Take over a device that was registered with another cloud; one that is known stays as it is."""
        with self.database.transaction() as db:
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
        with self.database.transaction() as db:
            db.execute("UPDATE device SET resets = resets + 1 WHERE did = ?", (did,))
        return True

    # --- look-ups

    def device(self, did: str) -> Device | None:
        """The device with this did."""
        return self._one("WHERE did = ?", did)

    def by_mac(self, product_key: str, mac: str) -> Device | None:
        """The device with this mac, in either case."""
        return self._one("WHERE product_key = ? AND mac = ?", product_key, mac)

    def devices(self) -> list[Device]:
        """Every device, the oldest first."""
        return [_device(row) for row in self.database.all(f"{_SELECT} ORDER BY created, did")]

    def by_random_codes(self, codes: Sequence[str], since: float) -> list[Device]:
        """Devices that registered with one of these codes since then (device-cloud.md §5.4)."""
        marks = ", ".join("?" * len(codes))
        return [
            _device(row)
            for row in self.database.all(
                f"{_SELECT} WHERE random_code IN ({marks}) AND random_code_time >= ? ORDER BY created, did",
                (*codes, since),
            )
        ]

    def check_login(self, did: str, passcode: str) -> bool:
        """Whether this is the current passcode of this device; takes the same time for a near miss."""
        row = self.database.one("SELECT passcode FROM device WHERE did = ?", (did,))
        # An unknown did is compared as well, so that both answers take the same time.
        return _same(passcode, row[0] if row else "") and row is not None

    # --- last state: survives SIGKILL, its last moments not a power cut

    def set_versions(self, did: str, firmware_type: int, hard: str, soft: str, now: float) -> None:
        """Versions as the device reported them.

        :param firmware_type: 1 module, 2 MCU.
        """
        names = {1: ("module_hard", "module_soft"), 2: ("mcu_hard", "mcu_soft")}[firmware_type]
        self.database.run(
            f"UPDATE device SET {names[0]} = ?, {names[1]} = ?, last_seen = ? WHERE did = ?",  # noqa: S608 (names are the constants above)
            (hard, soft, now, did),
        )

    def set_product(self, did: str, product_key: str) -> None:
        """Learn the product of an adopted device; one that is known stays."""
        self.database.run(
            "UPDATE device SET product_key = ? WHERE did = ? AND product_key = ''", (product_key, did)
        )

    def save_report(self, did: str, p0: bytes, now: float) -> None:
        """Keep the last P0 report."""
        self.database.run(
            "UPDATE device SET report = ?, report_time = ?, last_seen = ?, changed = ? WHERE did = ?",
            (bytes(p0), now, now, now, did),
        )

    def save_state(self, did: str, state: Mapping[str, int | bytes]) -> None:
        """Keep the raw value of every point that the device has ever reported."""
        self.database.run("UPDATE device SET state = ? WHERE did = ?", (write_state(state), did))

    def set_changed(self, did: str, now: float) -> None:
        """The device has just come on line or gone off line."""
        self.database.run("UPDATE device SET changed = ? WHERE did = ?", (now, did))

    def set_disabled(self, did: str, *, disabled: bool) -> None:
        """Take a device out of use, or back into it."""
        self.database.run("UPDATE device SET disabled = ? WHERE did = ?", (disabled, did))

    def delete(self, did: str) -> bool:
        """Forget a device altogether; whether there was one. If it registers again, it gets another did."""
        with self.database.transaction() as db:
            return db.execute("DELETE FROM device WHERE did = ?", (did,)).rowcount > 0

    def save_raw(self, did: str, data: bytes, now: float) -> None:
        """Keep the last raw data."""
        self.database.run(
            "UPDATE device SET raw = ?, raw_time = ?, last_seen = ? WHERE did = ?",
            (bytes(data), now, now, did),
        )

    def touch(self, did: str, now: float, *, online: bool = False, address: str | None = None) -> None:
        """The device was heard of.

        :param online: Whether it is (or was until now) in an MQTT session.
        :param address: Where it was heard from; None leaves the last one.
        """
        self.database.run(
            "UPDATE device SET last_seen = ?, last_online = CASE WHEN ? THEN ? ELSE last_online END,"
            " last_address = coalesce(?, last_address) WHERE did = ?",
            (now, online, now, address, did),
        )

    # --- inside

    def _one(self, where: str, *values: str) -> Device | None:
        row = self.database.one(f"{_SELECT} {where}", values)
        return None if row is None else _device(row)

    def _known(self, did: str) -> Device:
        device = self.device(did)
        if device is None:
            raise StoreError(f"{self.database.place}: the device that was just stored is not there")
        return device

    def _new_did(self, db: sqlite3.Connection) -> str:
        while True:
            did = self._draw()
            if db.execute("SELECT 1 FROM device WHERE did = ?", (did,)).fetchone() is None:
                return did


def _same(passcode: str, *candidates: str | None) -> bool:
    # No short cut: which of them matched must not show in the time.
    found = False
    for candidate in candidates:
        found |= candidate is not None and hmac.compare_digest(passcode.encode(), candidate.encode())
    return found


def _device(row: tuple[Any, ...]) -> Device:
    plain = dict(zip(_COLUMNS.replace(",", "").split(), row[:_PLAIN], strict=False))
    module_hard, module_soft, mcu_hard, mcu_soft, report, report_time, raw, raw_time = row[_PLAIN:]
    state = plain.pop("state")
    return Device(
        **plain | {"mac": plain["mac"] or "", "disabled": bool(plain["disabled"])},
        module_versions=None if module_hard is None else Versions(module_hard, module_soft),
        mcu_versions=None if mcu_hard is None else Versions(mcu_hard, mcu_soft),
        last_report=None if report is None else LastData(report, report_time),
        last_raw=None if raw is None else LastData(raw, raw_time),
        state=read_state(state) if state else {},
    )


def write_state(state: Mapping[str, int | bytes]) -> str:
    """Raw values by name as JSON; bytes as hex."""
    return json.dumps({name: raw if isinstance(raw, int) else raw.hex() for name, raw in state.items()})


def read_state(text: str) -> dict[str, int | bytes]:
    """The raw values that :func:`write_state` wrote."""
    return {
        name: raw if isinstance(raw, int) else bytes.fromhex(raw) for name, raw in json.loads(text).items()
    }
