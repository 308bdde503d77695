"""Apps, users and their tokens (open-api.md §2, §3, §6).

A token is 32 hex digits and is kept as its hash only; a password as an scrypt hash.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Final

from sim.cloud.api_errors import ApiError, Code
from sim.cloud.database import Database
from sim.cloud.errors import StoreError
from sim.cloud.events import Event, TokensRevoked

TOKEN_TIME: Final = 7 * 86400.0
"""Seconds that a token is good for."""
EXPIRED_KEPT: Final = 30 * 86400.0
"""Seconds that an expired token is remembered, so that its owner hears "expired" and not "invalid"."""
SOURCES: Final = ("qq", "sina", "baidu", "wechat", "twitter", "facebook", "google", "amazon")
"""Where third-party users come from (§6.1)."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS app (
    appid TEXT PRIMARY KEY,
    appsecret TEXT NOT NULL,
    products TEXT                       -- JSON list of product keys; NULL: all
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS user (
    number INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    username TEXT UNIQUE, email TEXT COLLATE NOCASE UNIQUE, phone TEXT UNIQUE,
    password TEXT,
    appid TEXT, phone_id TEXT,          -- anonymous: one for each pair
    src TEXT, src_uid TEXT,             -- third party: one for each pair
    name TEXT, gender TEXT NOT NULL DEFAULT 'N', birthday TEXT, address TEXT,
    lang TEXT NOT NULL DEFAULT 'en', remark TEXT,
    created REAL NOT NULL, updated REAL NOT NULL,
    UNIQUE (appid, phone_id), UNIQUE (src, src_uid)
);
CREATE TABLE IF NOT EXISTS token (
    hash TEXT PRIMARY KEY,
    uid TEXT NOT NULL,
    appid TEXT NOT NULL,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS token_of ON token (uid);
CREATE TABLE IF NOT EXISTS app_token (
    hash TEXT PRIMARY KEY,
    appid TEXT NOT NULL,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
"""
_COLUMNS: Final = (
    "uid", "username", "email", "phone", "password", "appid", "phone_id", "src", "src_uid",
    "name", "gender", "birthday", "address", "lang", "remark", "created", "updated",
)  # fmt: skip
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM user"  # noqa: S608 (constants only)
_TAKEN: Final = {"username": Code.USERNAME_TAKEN, "email": Code.EMAIL_TAKEN, "phone": Code.PHONE_TAKEN}
PROFILE: Final = ("name", "gender", "birthday", "address", "lang", "remark")
"""What a user may say about himself."""


@dataclasses.dataclass(frozen=True, slots=True)
class App:
    """An application that may use the cloud."""

    appid: str
    appsecret: str = dataclasses.field(repr=False)
    products: frozenset[str] | None = None
    """Product keys that it may use; None: all (R7)."""

    def may_use(self, product_key: str) -> bool:
        """Whether it is associated with this product."""
        return self.products is None or product_key in self.products


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user as he was when he was asked for. Times are Unix seconds."""

    uid: str
    username: str | None = None
    email: str | None = None
    phone: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    appid: str | None = None
    """Of an anonymous user: the app that he belongs to."""
    phone_id: str | None = None
    src: str | None = None
    src_uid: str | None = None
    name: str | None = None
    gender: str = "N"
    birthday: str | None = None
    address: str | None = None
    lang: str = "en"
    remark: str | None = None
    created: float = 0.0
    updated: float = 0.0

    @property
    def is_anonymous(self) -> bool:
        """Known by his phone's id only."""
        return self.phone_id is not None and not (self.username or self.email or self.phone)


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """A token that has just been made."""

    token: str = dataclasses.field(repr=False)
    expire_at: int = 0


class Accounts:
    """Every app, user and token.

    :param now: Unix seconds.
    :param told: Takes :class:`TokensRevoked`.
    :param token_time: Seconds that a token is good for.
    :param accept_any_appid: An unknown appid is registered when it is first used (R14).
    """

    def __init__(
        self,
        database: Database,
        *,
        now: Callable[[], float],
        told: Callable[[Event], None],
        token_time: float = TOKEN_TIME,
        accept_any_appid: bool = False,
    ) -> None:
        database.create(_TABLES)
        self._database, self._now, self._told = database, now, told
        self._token_time, self._accept_any = token_time, accept_any_appid

    # --- apps

    def add_app(
        self, appid: str | None = None, appsecret: str | None = None, products: Iterable[str] | None = None
    ) -> App:
        """Register an app, or change the one with this appid; what is not given is made up, or stays."""
        known = self._app(appid) if appid is not None else None
        app = App(
            appid or secrets.token_hex(16),
            appsecret or (known.appsecret if known is not None else secrets.token_hex(16)),
            None if products is None else frozenset(products),
        )
        listed = None if app.products is None else json.dumps(sorted(app.products))
        with self._database.transaction() as db:
            db.execute("INSERT OR REPLACE INTO app VALUES (?, ?, ?)", (app.appid, app.appsecret, listed))
        return app

    def app(self, appid: str | None) -> App:
        """The app of a request.

        :raises ApiError: 9003, there is none.
        """
        app = self._app(appid) if appid else None
        if app is None and appid and self._accept_any and len(appid) <= 64 and appid.isprintable():
            app = self.add_app(appid)
        if app is None:
            raise ApiError(Code.APPID_INVALID)
        return app

    def apps(self) -> list[App]:
        """Every app."""
        return [_app(row) for row in self._database.all("SELECT * FROM app ORDER BY appid")]

    def delete_app(self, appid: str) -> bool:
        """Forget an app; whether there was one."""
        with self._database.transaction() as db:
            return db.execute("DELETE FROM app WHERE appid = ?", (appid,)).rowcount > 0

    def _app(self, appid: str) -> App | None:
        row = self._database.one("SELECT * FROM app WHERE appid = ?", (appid,))
        return None if row is None else _app(row)

    def issue_app_token(self, appid: str) -> Token:
        """A token of the app itself (§6.5)."""
        token = Token(secrets.token_hex(16), int(self._now() + self._token_time))
        with self._database.transaction() as db:
            db.execute("DELETE FROM app_token WHERE expires < ?", (int(self._now() - EXPIRED_KEPT),))
            db.execute(
                "INSERT INTO app_token VALUES (?, ?, ?)", (hash_token(token.token), appid, token.expire_at)
            )
        return token

    def check_app_token(self, token: str | None, appid: str) -> None:
        """Whether this is a token of the app (:raises ApiError: 9004 or 9006, it is not)."""
        row = self._database.one(
            "SELECT appid, expires FROM app_token WHERE hash = ?", (hash_token(token or ""),)
        )
        if row is None or row[0] != appid:
            raise ApiError(Code.TOKEN_INVALID)
        if row[1] <= self._now():
            raise ApiError(Code.TOKEN_EXPIRED)

    # --- users

    def user(self, uid: str) -> User | None:
        """The user with this uid."""
        return self._one("uid = ?", uid)

    def known_as(self, text: str) -> User | None:
        """The user with this user name, e-mail address or phone number."""
        return self._one("username = ?", text) or self._one("email = ?", text) or self._one("phone = ?", text)

    def by(self, kind: str, value: str) -> User | None:
        """The user with this ``username``, ``email``, ``phone`` or ``uid``."""
        if kind not in {"username", "email", "phone", "uid"}:
            raise KeyError(kind)
        return self._one(f"{kind} = ?", value)

    def users(self) -> list[User]:
        """Every user, the oldest first."""
        return [_user(row) for row in self._database.all(f"{_SELECT} ORDER BY number")]

    def anonymous(self, appid: str, phone_id: str, *, lang: str | None = None) -> User:
        """The anonymous user of this phone, made if need be (§6.1, R6)."""
        known = self._one("appid = ? AND phone_id = ?", appid, phone_id)
        return known or self._insert(appid=appid, phone_id=phone_id, lang=lang or "en")

    def third_party(self, src: str, src_uid: str, *, lang: str | None = None) -> User:
        """The user of another service, made if need be."""
        known = self._one("src = ? AND src_uid = ?", src, src_uid)
        return known or self._insert(src=src, src_uid=src_uid, lang=lang or "en")

    def create(self, kind: str, value: str, password: str, *, lang: str | None = None) -> User:
        """A new user.

        :param kind: ``username``, ``email`` or ``phone``.
        :raises ApiError: 9018, 9019 or 9022, somebody has it.
        """
        if self.by(kind, value) is not None:
            raise ApiError(_TAKEN[kind])
        return self._insert(**{kind: value}, password=hash_password(password), lang=lang or "en")

    def check_password(self, name: str, password: str) -> User:
        """The user who logs in (§6.2).

        :raises ApiError: 9005 unknown, 9020 wrong password.
        """
        user = self.known_as(name)
        if user is None:
            raise ApiError(Code.USER_UNKNOWN)
        if not is_password(password, user.password):
            raise ApiError(Code.PASSWORD_WRONG)
        return user

    @staticmethod
    def has_password(user: User, password: str) -> bool:
        """Whether this is the user's password."""
        return is_password(password, user.password)

    def check_own_password(self, user: User, password: str) -> None:
        """The password that a user gives to change it (:raises ApiError: 9020, it is wrong)."""
        if not is_password(password, user.password):
            raise ApiError(Code.PASSWORD_WRONG)

    def update(self, uid: str, **changes: str | None) -> None:
        """Change members of a user; a new ``password`` is given plain.

        :raises ApiError: 9018, 9019 or 9022, somebody else has it.
        """
        for kind, taken in _TAKEN.items():
            value = changes.get(kind)
            other = self.by(kind, value) if value is not None else None
            if other is not None and other.uid != uid:
                raise ApiError(taken)
        if changes.get("password") is not None:
            changes["password"] = hash_password(str(changes["password"]))
        columns = [name for name in changes if name in _COLUMNS and name != "uid"]
        sets = ", ".join(f"{name} = ?" for name in columns)
        with self._database.transaction() as db:
            db.execute(
                f"UPDATE user SET {sets}, updated = ? WHERE uid = ?",  # noqa: S608 (names of columns)
                (*(changes[name] for name in columns), self._now(), uid),
            )

    def delete_user(self, uid: str) -> bool:
        """Forget a user and his tokens; whether there was one."""
        with self._database.transaction() as db:
            found = db.execute("DELETE FROM user WHERE uid = ?", (uid,)).rowcount > 0
        self.revoke(uid)
        return found

    def _insert(self, **values: str | None) -> User:
        uid, now = secrets.token_hex(16), self._now()
        names = [*values, "uid", "created", "updated"]
        marks = ", ".join("?" * len(names))
        with self._database.transaction() as db:
            db.execute(
                f"INSERT INTO user ({', '.join(names)}) VALUES ({marks})",  # noqa: S608 (names of columns)
                (*values.values(), uid, now, now),
            )
        user = self.user(uid)
        if user is None:
            raise StoreError(f"{self._database.place}: the user who was just stored is not there")
        return user

    def _one(self, where: str, *values: str) -> User | None:
        row = self._database.one(f"{_SELECT} WHERE {where}", values)
        return None if row is None else _user(row)

    # --- tokens

    def issue_token(self, uid: str, appid: str) -> Token:
        """A new token; older ones stay good until they expire (§3)."""
        now = self._now()
        token = Token(secrets.token_hex(16), int(now + self._token_time))
        with self._database.transaction() as db:
            db.execute("DELETE FROM token WHERE expires < ?", (int(now - EXPIRED_KEPT),))
            db.execute(
                "INSERT INTO token VALUES (?, ?, ?, ?)",
                (hash_token(token.token), uid, appid, token.expire_at),
            )
        return token

    def check_token(self, token: str | None) -> tuple[User, str]:
        """Whose token this is, and the appid that it was issued for.

        :raises ApiError: 9004 unknown, 9006 expired.
        """
        row = self._database.one(
            "SELECT uid, appid, expires FROM token WHERE hash = ?", (hash_token(token or ""),)
        )
        user = self.user(row[0]) if row is not None else None
        if row is None or user is None:
            raise ApiError(Code.TOKEN_INVALID)
        if row[2] <= self._now():
            raise ApiError(Code.TOKEN_EXPIRED)
        return user, str(row[1])

    def token_expires(self, token_hash: str) -> float | None:
        """When a token ends; None when it is not good any more."""
        row = self._database.one("SELECT expires FROM token WHERE hash = ?", (token_hash,))
        return None if row is None else float(row[0])

    def revoke(self, uid: str, *, keep: str | None = None) -> None:
        """End the tokens of a user.

        :param keep: The token that stays good.
        """
        kept = hash_token(keep) if keep else None
        with self._database.transaction() as db:
            db.execute("DELETE FROM token WHERE uid = ? AND hash IS NOT ?", (uid, kept))
        self._told(TokensRevoked(at=self._now(), uid=uid, keep=kept))

    def expire(self, uid: str) -> None:
        """Let the tokens of a user expire now, for tests of clients."""
        with self._database.transaction() as db:
            db.execute("UPDATE token SET expires = ? WHERE uid = ?", (int(self._now()), uid))
        self._told(TokensRevoked(at=self._now(), uid=uid))


def hash_token(token: str) -> str:
    """What is kept of a token. It is random enough that no salt is needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


_SCRYPT: Final[dict[str, int]] = {"n": 2**12, "r": 8, "p": 1}
"""About 10 ms: this is a bench, and the server has one thread."""


def hash_password(password: str) -> str:
    """What is kept of a password."""
    salt = secrets.token_bytes(16)
    digest = hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, **_SCRYPT)
    return f"{salt.hex()}:{digest.hex()}"


def is_password(password: str, kept: str | None) -> bool:
    """Whether this is the password that ``kept`` was made of."""
    salt, colon, digest = (kept or "").partition(":")
    if not colon:
        return False
    found = hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=bytes.fromhex(salt), **_SCRYPT)
    return hmac.compare_digest(found, bytes.fromhex(digest))


def _app(row: tuple[Any, ...]) -> App:
    appid, appsecret, products = row
    return App(appid, appsecret, None if products is None else frozenset(json.loads(products)))


def _user(row: tuple[Any, ...]) -> User:
    return User(**dict(zip(_COLUMNS, row, strict=True)))
