"""Which user has which device, and as what (open-api.md §7)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any, Final, Literal

from sim.cloud.api_errors import ApiError, Code
from sim.cloud.database import Database
from sim.cloud.device import Device
from sim.cloud.events import Bound, Event, Unbound

ROLE = Literal["special", "owner", "normal", "guest"]

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS binding (
    number INTEGER PRIMARY KEY,
    uid TEXT NOT NULL,
    did TEXT NOT NULL,
    appid TEXT NOT NULL,
    role TEXT NOT NULL,
    remark TEXT NOT NULL, dev_alias TEXT NOT NULL,
    dev_label TEXT NOT NULL,            -- JSON list
    created REAL NOT NULL,
    ends REAL,                          -- of a guest whose time is limited
    resets INTEGER NOT NULL,            -- of the device when it was bound: a reset voids the binding
    UNIQUE (uid, did)
);
CREATE INDEX IF NOT EXISTS binding_of ON binding (did);
CREATE TABLE IF NOT EXISTS wanted_binding (  -- of the configuration: for a device that has not registered yet
    uid TEXT NOT NULL, appid TEXT NOT NULL, product_key TEXT NOT NULL, mac TEXT NOT NULL COLLATE NOCASE,
    remark TEXT NOT NULL, dev_alias TEXT NOT NULL,
    PRIMARY KEY (uid, product_key, mac)
) WITHOUT ROWID;
"""
_COLUMNS: Final = ("uid", "did", "appid", "role", "remark", "dev_alias", "dev_label", "created", "ends")
_SELECT: Final = (
    f"SELECT {', '.join(f'binding.{name}' for name in _COLUMNS)} FROM binding"  # noqa: S608 (constants only)
    " JOIN device ON device.did = binding.did AND device.resets = binding.resets"
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One user's hold of one device. Times are Unix seconds."""

    uid: str
    did: str
    appid: str
    role: ROLE
    remark: str = ""
    dev_alias: str = ""
    dev_label: tuple[str, ...] = ()
    created: float = 0.0
    ends: float | None = None


class Bindings:
    """Every binding.

    :param now: Unix seconds.
    :param told: Takes :class:`Bound` and :class:`Unbound`.
    """

    def __init__(
        self, database: Database, *, now: Callable[[], float], told: Callable[[Event], None]
    ) -> None:
        database.create(_TABLES)
        self._database, self._now, self._told = database, now, told

    # --- look-ups

    def get(self, uid: str, did: str) -> Binding | None:
        """The user's binding of this device."""
        row = self._database.one(f"{_SELECT} WHERE uid = ? AND binding.did = ?", (uid, did))
        return None if row is None else _binding(row)

    def of_user(self, uid: str) -> list[Binding]:
        """What a user has, in the order of binding."""
        return self._all("uid = ?", uid)

    def of_device(self, did: str) -> list[Binding]:
        """Who has a device, in the order of binding."""
        return self._all("binding.did = ?", did)

    def users_of(self, did: str) -> frozenset[str]:
        """The uids of those who have a device."""
        return frozenset(binding.uid for binding in self.of_device(did))

    # --- changes

    def bind(
        self,
        uid: str,
        device: Device,
        appid: str,
        *,
        remark: str = "",
        dev_alias: str = "",
        set_owner: bool = False,
        role: ROLE | None = None,
        ends: float | None = None,
    ) -> Binding:
        """Bind, or change remark and alias of the binding that there is (§7.1).

        :param set_owner: The product's devices are shared by their owner: the first becomes owner.
        :param role: What he becomes; None: as the rules say.
        :raises ApiError: 9092, somebody else owns it.
        """
        known = self.get(uid, device.did)
        if known is not None:
            self.edit(uid, device.did, remark=remark or known.remark, dev_alias=dev_alias or known.dev_alias)
            return self.get(uid, device.did) or known
        others = self.of_device(device.did)
        if role is None:
            if any(other.role == "owner" for other in others):
                raise ApiError(Code.OWNER_EXISTS)
            role = "normal" if others else "owner" if set_owner else "special"
        now = self._now()
        with self._database.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO binding"
                " (uid, did, appid, role, remark, dev_alias, dev_label, created, ends, resets)"
                " VALUES (?, ?, ?, ?, ?, ?, '[]', ?, ?, ?)",
                (uid, device.did, appid, role, remark, dev_alias, now, ends, device.resets),
            )
        self._told(Bound(at=now, did=device.did, uid=uid, appid=appid))
        return self.get(uid, device.did) or Binding(uid=uid, did=device.did, appid=appid, role=role)

    def unbind(self, uid: str, did: str) -> bool:
        """End a binding, and what follows from it; whether there was one.

        The oldest of those who remain becomes special after a special user; after an owner nobody remains.
        """
        known = self.get(uid, did)
        if known is None:
            return False
        ended = [known]
        with self._database.transaction() as db:
            db.execute("DELETE FROM binding WHERE uid = ? AND did = ?", (uid, did))
            rest = self.of_device(did)
            if known.role == "owner":
                ended += rest
                db.execute("DELETE FROM binding WHERE did = ?", (did,))
            elif known.role == "special" and rest:
                db.execute(
                    "UPDATE binding SET role = 'special' WHERE uid = ? AND did = ?", (rest[0].uid, did)
                )
        self._tell_ended(ended)
        return True

    def edit(
        self,
        uid: str,
        did: str,
        *,
        remark: str | None = None,
        dev_alias: str | None = None,
        dev_label: list[str] | None = None,
    ) -> None:
        """Change what the user calls it; None leaves a member as it is."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE binding SET remark = coalesce(?, remark), dev_alias = coalesce(?, dev_alias),"
                " dev_label = coalesce(?, dev_label) WHERE uid = ? AND did = ?",
                (remark, dev_alias, None if dev_label is None else json.dumps(dev_label), uid, did),
            )

    def set_role(self, uid: str, did: str, role: ROLE) -> None:
        """Make a user something else; only a guest's time is limited."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE binding SET role = ?, ends = CASE WHEN ? = 'guest' THEN ends END"
                " WHERE uid = ? AND did = ?",
                (role, role, uid, did),
            )

    def void(self, did: str) -> None:
        """The device was reset: remove what a smaller reset counter was bound under, and tell who lost it."""
        rows = self._database.all(
            f"SELECT {', '.join(_COLUMNS)} FROM binding WHERE did = ? AND resets <>"  # noqa: S608
            " coalesce((SELECT resets FROM device WHERE device.did = binding.did), -1)",
            (did,),
        )
        ended = [_binding(row) for row in rows]
        with self._database.transaction() as db:
            for binding in ended:
                db.execute("DELETE FROM binding WHERE uid = ? AND did = ?", (binding.uid, did))
        self._tell_ended(ended)

    def drop_user(self, uid: str) -> None:
        """Everything of a user who is no more."""
        for binding in self.of_user(uid):
            self.unbind(uid, binding.did)

    def expire(self) -> float | None:
        """End the bindings whose time is over; gives when the next one's is."""
        now = self._now()
        for uid, did in self._database.all("SELECT uid, did FROM binding WHERE ends <= ?", (now,)):
            if not self.unbind(uid, did):  # it is void: the device was reset since
                with self._database.transaction() as db:
                    db.execute("DELETE FROM binding WHERE uid = ? AND did = ?", (uid, did))
        row = self._database.one("SELECT min(ends) FROM binding")
        return None if row is None else row[0]

    # --- of the configuration

    def want(
        self, uid: str, appid: str, product_key: str, mac: str, *, remark: str = "", dev_alias: str = ""
    ) -> None:
        """Bind a device as soon as it has registered."""
        with self._database.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO wanted_binding VALUES (?, ?, ?, ?, ?, ?)",
                (uid, appid, product_key, mac, remark, dev_alias),
            )

    def forget_wanted(self) -> None:
        """Nobody waits for a device any more."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM wanted_binding")

    def fulfil(self, device: Device, *, set_owner: bool = False) -> None:
        """Bind a device that is registered to those who wait for it; beside an owner they become guests.

        :param set_owner: The first becomes owner, as the product's devices are shared by their owner.
        """
        rows = self._database.all(
            "SELECT uid, appid, remark, dev_alias FROM wanted_binding WHERE product_key = ? AND mac = ?"
            " ORDER BY (SELECT number FROM user WHERE user.uid = wanted_binding.uid)",
            (device.product_key, device.mac),
        )
        for uid, appid, remark, dev_alias in rows:
            if self.get(uid, device.did) is None:
                owned = any(other.role == "owner" for other in self.of_device(device.did))
                self.bind(
                    uid,
                    device,
                    appid,
                    remark=remark,
                    dev_alias=dev_alias,
                    set_owner=set_owner,
                    role="guest" if owned else None,
                )

    def _all(self, where: str, value: str) -> list[Binding]:
        rows = self._database.all(f"{_SELECT} WHERE {where} ORDER BY number", (value,))
        return [_binding(row) for row in rows]

    def _tell_ended(self, ended: list[Binding]) -> None:
        now = self._now()
        for binding in ended:
            self._told(
                Unbound(at=now, did=binding.did, uid=binding.uid, appid=binding.appid, role=binding.role)
            )


def _binding(row: tuple[Any, ...]) -> Binding:
    members = dict(zip(_COLUMNS, row, strict=True))
    return Binding(**members | {"dev_label": tuple(json.loads(members["dev_label"]))})
