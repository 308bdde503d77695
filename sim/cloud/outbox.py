"""Codes and links that the real service sends by SMS and e-mail: here they stay at home (open-api.md §6.7).

Nothing leaves this machine. Tests and people read the outbox through the admin API.
"""

from __future__ import annotations

import dataclasses
import hmac
import secrets
from collections.abc import Callable
from typing import Final

from sim.cloud.api_errors import ApiError, Code
from sim.cloud.database import Database

CODE_TIME: Final = 86400.0
"""Seconds that a code is good for."""
FIXED_CODE: Final = "123456"
"""Always matches, so that a test needs no outbox."""
CAPTCHA: Final = "1234"
"""What every captcha shows."""
MAX_KEPT: Final = 1000
"""Messages in the outbox; the oldest go first."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY,
    at REAL NOT NULL, kind TEXT NOT NULL, target TEXT NOT NULL, text TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS code (
    target TEXT NOT NULL, code TEXT NOT NULL, expires REAL NOT NULL,
    PRIMARY KEY (target, code)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS captcha (id TEXT PRIMARY KEY, expires REAL NOT NULL) WITHOUT ROWID;
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A message that was not sent."""

    at: float
    kind: str
    """``sms`` or ``email``."""
    target: str
    """Phone number or e-mail address."""
    text: str
    """The code, or the link."""


class Outbox:
    """The outbox and the codes in it.

    :param now: Unix seconds.
    :param fixed_code: Matches always.
    """

    def __init__(self, database: Database, *, now: Callable[[], float], fixed_code: str = FIXED_CODE) -> None:
        database.create(_TABLES)
        self._database, self._now, self._fixed = database, now, fixed_code

    def letters(self, target: str | None = None) -> list[Letter]:
        """What would have been sent, the newest first; only to ``target`` when it is given."""
        rows = self._database.all(
            "SELECT at, kind, target, text FROM outbox WHERE ? IS NULL OR target = ? ORDER BY number DESC",
            (target, target),
        )
        return [Letter(at=at, kind=kind, target=to, text=text) for at, kind, to, text in rows]

    def put(self, kind: str, target: str, text: str) -> None:
        """Keep a message."""
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO outbox (at, kind, target, text) VALUES (?, ?, ?, ?)",
                (self._now(), kind, target, text),
            )
            db.execute("DELETE FROM outbox WHERE number <= (SELECT max(number) FROM outbox) - ?", (MAX_KEPT,))

    def send_code(self, phone: str) -> None:
        """Make a code for this phone and "send" it."""
        code, now = f"{secrets.randbelow(10**6):06d}", self._now()
        with self._database.transaction() as db:
            db.execute("DELETE FROM code WHERE expires < ?", (now - CODE_TIME,))
            db.execute("INSERT OR REPLACE INTO code VALUES (?, ?, ?)", (phone, code, now + CODE_TIME))
            self.put("sms", phone, code)

    def use_code(self, phone: str, code: str) -> None:
        """Take a code; it is good once.

        :raises ApiError: 9010 it does not match, 9009 it has expired.
        """
        if hmac.compare_digest(code.encode(), self._fixed.encode()):
            return
        row = self._database.one("SELECT expires FROM code WHERE target = ? AND code = ?", (phone, code))
        if row is None:
            raise ApiError(Code.CODE_INVALID)
        if row[0] <= self._now():
            raise ApiError(Code.CODE_EXPIRED)
        with self._database.transaction() as db:
            db.execute("DELETE FROM code WHERE target = ? AND code = ?", (phone, code))

    def captcha(self) -> str:
        """A new captcha; gives its id."""
        number, now = secrets.token_hex(12), self._now()
        with self._database.transaction() as db:
            db.execute("DELETE FROM captcha WHERE expires < ?", (now,))
            db.execute("INSERT INTO captcha VALUES (?, ?)", (number, now + CODE_TIME))
        return number

    def use_captcha(self, number: str, answer: str) -> None:
        """Take the answer of a captcha (:raises ApiError: 9010, it is wrong or the captcha unknown)."""
        with self._database.transaction() as db:
            known = db.execute("DELETE FROM captcha WHERE id = ? AND expires > ?", (number, self._now()))
            found = known.rowcount > 0
        if not found or answer != CAPTCHA:
            raise ApiError(Code.CODE_INVALID)
