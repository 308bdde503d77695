"""Devices that their owners share with guests (open-api.md §11)."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from typing import Any, Final, Literal

from sim.cloud.accounts import User
from sim.cloud.api_errors import ApiError, Code
from sim.cloud.bindings import Binding, Bindings
from sim.cloud.database import Database
from sim.cloud.device import Device
from sim.cloud.messages import Messages

BY_NAME, BY_QR = 0, 1
OPEN, ACCEPTED, REFUSED, CANCELLED = 0, 1, 2, 3
VALID: Final = {BY_NAME: 24 * 3600.0, BY_QR: 15 * 60.0}
"""Seconds in which an offer can be accepted."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS sharing (
    id INTEGER PRIMARY KEY,
    type INTEGER NOT NULL,
    owner TEXT NOT NULL, appid TEXT NOT NULL,
    guest TEXT,                         -- NULL: whoever has the code
    did TEXT NOT NULL,
    code TEXT UNIQUE,
    status INTEGER NOT NULL,
    duration REAL,                      -- seconds from acceptance; NULL: for good
    user_alias TEXT NOT NULL DEFAULT '',
    created REAL NOT NULL, updated REAL NOT NULL, expires REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS sharing_by ON sharing (owner);
CREATE INDEX IF NOT EXISTS sharing_with ON sharing (guest);
"""
_COLUMNS: Final = (
    "id, type, owner, appid, guest, did, code, status, duration, user_alias, created, updated, expires"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Sharing:
    """One offer. Times are Unix seconds."""

    id: int
    type: int
    owner: str
    appid: str
    guest: str | None
    did: str
    code: str | None
    status: int
    duration: float | None
    user_alias: str
    created: float
    updated: float
    expires: float


class Sharings:
    """Every offer.

    :param now: Unix seconds.
    """

    def __init__(
        self, database: Database, bindings: Bindings, messages: Messages, *, now: Callable[[], float]
    ) -> None:
        database.create(_TABLES)
        self._database, self._bindings, self._messages, self._now = database, bindings, messages, now

    # --- by the owner

    def offer(
        self,
        owner: User,
        binding: Binding,
        *,
        guest: User | None,
        duration: float | None,
    ) -> Sharing:
        """Offer a device to a user, or to whoever has the QR code.

        :param binding: The owner's.
        :param guest: None: by QR code.
        :raises ApiError: 9081 he is not the owner, 9080 to himself, 9083 the guest has it, 9087 it waits.
        """
        did = binding.did
        if binding.role not in {"owner", "special"}:
            raise ApiError(Code.CANNOT_SHARE)
        if guest is not None:
            if guest.uid == owner.uid:
                raise ApiError(Code.SHARE_TO_SELF)
            if self._bindings.get(guest.uid, did) is not None:
                raise ApiError(Code.GUEST_BOUND)
            if self._pending(did, guest.uid):
                raise ApiError(Code.SHARING_PENDING)
        self._become_owner(binding)
        kind = BY_QR if guest is None else BY_NAME
        now = self._now()
        with self._database.transaction() as db:
            cursor = db.execute(
                "INSERT INTO sharing (type, owner, appid, guest, did, code, status, duration, created,"
                " updated, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    kind,
                    owner.uid,
                    binding.appid,
                    None if guest is None else guest.uid,
                    did,
                    secrets.token_hex(16) if guest is None else None,
                    OPEN,
                    duration,
                    now,
                    now,
                    now + VALID[kind],
                ),
            )
            number = int(cursor.lastrowid or 0)
        sharing = self.get(number)
        self._tell(sharing, "offered")
        return sharing

    def _become_owner(self, binding: Binding) -> None:
        """The first sharing of a special user makes him owner, and everybody else a guest (§7.1)."""
        if binding.role == "special":
            for other in self._bindings.of_device(binding.did):
                role: Literal["owner", "guest"] = "owner" if other.uid == binding.uid else "guest"
                self._bindings.set_role(other.uid, binding.did, role)

    def cancel(self, uid: str, number: int) -> None:
        """Take an offer back; who has accepted it has the device no more.

        :raises ApiError: 9084 there is none, 9093 it is another's, 9094 it is cancelled.
        """
        sharing = self.get(number)
        if sharing.owner != uid:
            raise ApiError(Code.NOT_OWNER)
        if sharing.status == CANCELLED:
            raise ApiError(Code.SHARING_CANCELLED)
        self._set(sharing, CANCELLED)
        theirs = self._bindings.get(sharing.guest, sharing.did) if sharing.guest is not None else None
        # After a transfer he is a guest no more, and has it in his own right.
        if sharing.status == ACCEPTED and theirs is not None and theirs.role == "guest":
            self._bindings.unbind(theirs.uid, sharing.did)
        self._tell(sharing, "cancelled")

    def transfer(self, owner: User, device: Device, uid: str) -> None:
        """Make a guest the owner; the old owner has the device no more.

        :raises ApiError: 9017 not bound, 9093 not the owner, 9082 the other is no guest.
        """
        mine = self._bindings.get(owner.uid, device.did)
        if mine is None:
            raise ApiError(Code.NOT_BOUND)
        if mine.role not in {"owner", "special"}:
            raise ApiError(Code.NOT_OWNER)
        theirs = self._bindings.get(uid, device.did)
        if theirs is None or theirs.role != "guest":
            raise ApiError(Code.GUEST_NOT_FOUND)
        # First roles, then the end of the old owner's: an owner's end would be everybody's.
        self._bindings.set_role(uid, device.did, "owner")
        self._bindings.set_role(owner.uid, device.did, "guest")
        self._bindings.unbind(owner.uid, device.did)
        for receiver in (owner.uid, uid):
            self._messages.put(receiver, {"event": "transferred", "did": device.did, "uid": uid})

    # --- by the guest

    def answer(self, user: User, appid: str, device: Device, number: int, *, accept: bool) -> None:
        """Accept or refuse an offer.

        :raises ApiError: 9084 there is none, 9101 it is another's, 9089 it is not open, 9088 it expired,
            9083 he has the device.
        """
        sharing = self.get(number)
        if sharing.guest != user.uid:
            raise ApiError(Code.NOT_RECEIVER)
        self._check_open(sharing)
        if accept and self._bindings.get(user.uid, sharing.did) is not None:
            raise ApiError(Code.GUEST_BOUND)
        if accept:
            self._accept(sharing, user, appid, device)
        else:
            self._set(sharing, REFUSED)
        self._tell(sharing, "accepted" if accept else "refused")

    def accept_code(self, user: User, appid: str, device: Device, code: str) -> None:
        """Accept the offer of a QR code.

        :raises ApiError: 9084 there is none, 9096 it is his own, 9089 it is not open, 9088 it has expired,
            9083 he has the device.
        """
        sharing = self.by_code(code)
        if sharing.owner == user.uid:
            raise ApiError(Code.NOT_GUEST)
        self._check_open(sharing)
        if self._bindings.get(user.uid, sharing.did) is not None:
            raise ApiError(Code.GUEST_BOUND)
        with self._database.transaction() as db:
            db.execute("UPDATE sharing SET guest = ? WHERE id = ?", (user.uid, sharing.id))
        sharing = self.get(sharing.id)
        self._accept(sharing, user, appid, device)
        self._tell(sharing, "accepted")

    def _accept(self, sharing: Sharing, user: User, appid: str, device: Device) -> None:
        self._set(sharing, ACCEPTED)
        ends = None if sharing.duration is None else self._now() + sharing.duration
        self._bindings.bind(user.uid, device, appid, role="guest", ends=ends)

    # --- by both

    def get(self, number: int) -> Sharing:
        """An offer (:raises ApiError: 9084, there is none)."""
        row = self._database.one(f"SELECT {_COLUMNS} FROM sharing WHERE id = ?", (number,))  # noqa: S608
        if row is None:
            raise ApiError(Code.SHARING_NOT_FOUND)
        return Sharing(*row)

    def by_code(self, code: str) -> Sharing:
        """The offer of a QR code (:raises ApiError: 9084, there is none)."""
        row = self._database.one(f"SELECT {_COLUMNS} FROM sharing WHERE code = ?", (code,))  # noqa: S608
        if row is None:
            raise ApiError(Code.SHARING_NOT_FOUND)
        return Sharing(*row)

    def of_user(self, uid: str, *, received: bool, status: int | None, did: str | None) -> list[Sharing]:
        """Offers that a user made or got, the newest first."""
        side = "guest" if received else "owner"
        rows = self._database.all(
            f"SELECT {_COLUMNS} FROM sharing WHERE {side} = ? AND coalesce(status = ?, 1)"  # noqa: S608
            " AND coalesce(did = ?, 1) ORDER BY id DESC",
            (uid, status, did),
        )
        return [Sharing(*row) for row in rows]

    def set_alias(self, uid: str, number: int, alias: str) -> None:
        """Name the other side (:raises ApiError: 9084 there is none, 9100 he is neither side)."""
        sharing = self.get(number)
        if uid not in {sharing.owner, sharing.guest}:
            raise ApiError(Code.NOT_OWNER_OR_GUEST)
        with self._database.transaction() as db:
            db.execute(
                "UPDATE sharing SET user_alias = ?, updated = ? WHERE id = ?", (alias, self._now(), number)
            )

    def check_valid(self, sharing: Sharing) -> None:
        """Whether the time for an answer is not over (:raises ApiError: 9088, it is)."""
        if sharing.expires <= self._now():
            raise ApiError(Code.SHARING_EXPIRED)

    def ended(self, uid: str, did: str, role: str) -> None:
        """A user has a device no more: what he offered is cancelled, what he accepted has ended."""
        for sharing in self._of_device(did, "owner", uid, OPEN):
            self._set(sharing, CANCELLED)
            self._tell(sharing, "cancelled")
        for sharing in self._of_device(did, "guest", uid, ACCEPTED) if role == "guest" else ():
            self._set(sharing, CANCELLED)
            self._tell(sharing, "ended")

    def drop_user(self, uid: str) -> None:
        """Forget what a user has offered and was offered."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM sharing WHERE owner = ? OR guest = ?", (uid, uid))

    def _of_device(self, did: str, side: Literal["owner", "guest"], uid: str, status: int) -> list[Sharing]:
        rows = self._database.all(
            f"SELECT {_COLUMNS} FROM sharing WHERE did = ? AND {side} = ? AND status = ?",  # noqa: S608
            (did, uid, status),
        )
        return [Sharing(*row) for row in rows]

    def _check_open(self, sharing: Sharing) -> None:
        owner = self._bindings.get(sharing.owner, sharing.did)
        if sharing.status != OPEN or owner is None or owner.role not in {"owner", "special"}:
            raise ApiError(Code.SHARING_NOT_OPEN)
        self.check_valid(sharing)

    def _pending(self, did: str, guest: str) -> bool:
        row = self._database.one(
            "SELECT 1 FROM sharing WHERE did = ? AND guest = ? AND status = ? AND expires > ?",
            (did, guest, OPEN, self._now()),
        )
        return row is not None

    def _set(self, sharing: Sharing, status: int) -> None:
        with self._database.transaction() as db:
            db.execute(
                "UPDATE sharing SET status = ?, updated = ? WHERE id = ?", (status, self._now(), sharing.id)
            )

    def _tell(self, sharing: Sharing, event: str) -> None:
        content: dict[str, Any] = {
            "event": event,
            "id": sharing.id,
            "did": sharing.did,
            "owner": sharing.owner,
            "guest": sharing.guest,
        }
        for uid in (sharing.owner, sharing.guest):
            if uid is not None:
                self._messages.put(uid, content)
