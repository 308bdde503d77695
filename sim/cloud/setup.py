"""What a configuration makes of a cloud when it starts: apps, users, bindings, and what was not given.

What is made up is kept in the database under the place for which it was made ("app 1", "product 0123…"), so
that the next start with the same data gives the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from collections.abc import Iterable
from typing import Final

from sim.cloud.app_side import AppSide
from sim.cloud.config import AppConfig, CloudConfig, FirmwareConfig, UserConfig
from sim.cloud.database import Database
from sim.cloud.products import CloudProduct, Credential

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS made_up (
    place TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Generated:
    """Something that was made up at this start, for the owner of the cloud to read."""

    what: str
    """``app``, ``product``, ``snoti``, ``enterprise`` or ``user``."""
    members: dict[str, str] = dataclasses.field(repr=False)
    """What it is about, and what was made up, by the names of the configuration."""

    def __str__(self) -> str:
        return " ".join((self.what, *(f"{name}={value}" for name, value in self.members.items())))


class Setup:
    """Brings what the configuration says into the cloud. Doing it again changes nothing."""

    def __init__(self, database: Database) -> None:
        database.create(_TABLES)
        self._database = database
        self.generated: Final[list[Generated]] = []

    # --- products: before anything else is there

    def products(self, products: Iterable[CloudProduct]) -> tuple[CloudProduct, ...]:
        """The products with their secrets and credentials."""
        return tuple(self._product(product) for product in products)

    def _product(self, product: CloudProduct) -> CloudProduct:
        place, about = f"product {product.product_key}", {"product_key": product.product_key}
        if product.make_secret and product.secret is None:
            made = {"product_secret": place}
            product = dataclasses.replace(product, secret=self._values("product", about, made)[0])
        logins = tuple(
            self._credential("snoti", about, f"{place} snoti {number}", login, ("auth_id", "auth_secret"))
            for number, login in enumerate(product.credentials, start=1)
        )
        enterprise = product.enterprise
        if enterprise is not None:
            enterprise = self._credential(
                "enterprise", about, f"{place} enterprise", enterprise, ("id", "secret")
            )
        return dataclasses.replace(product, credentials=logins, enterprise=enterprise)

    def _credential(
        self, what: str, about: dict[str, str], place: str, known: Credential, names: tuple[str, str]
    ) -> Credential:
        missing = [name for name, value in zip(names, (known.id, known.secret), strict=True) if not value]
        given = {names[0]: known.id} if known.id else {}
        places = {name: f"{place} {known.id or ''} {name}" for name in missing}
        made = dict(zip(missing, self._values(what, about | given, places), strict=True))
        return Credential(known.id or made[names[0]], known.secret or made[names[1]])

    # --- apps and users

    def apply(self, config: CloudConfig, side: AppSide) -> None:
        """Register the apps and users, and let the users have their devices."""
        apps = [self._app(number, app, side) for number, app in enumerate(config.apps, start=1)]
        appid = apps[0] if apps else ""
        side.bindings.forget_wanted()
        for user in config.users:
            uid = self._user(user, side)
            for wanted in user.bind:
                side.bindings.want(
                    uid,
                    appid,
                    wanted.product_key,
                    wanted.mac,
                    remark=wanted.remark,
                    dev_alias=wanted.dev_alias,
                )
        for device in side.store.devices() if config.users else ():
            side.fulfil(device)
        for image in config.firmware:
            self._firmware(image, side)

    def _firmware(self, wanted: FirmwareConfig, side: AppSide) -> None:
        """An image with the same version and other bytes takes the place of the one before."""
        firmwares, found = side.firmwares, None
        for image in firmwares.images(wanted.product_key):
            if (image.type, image.soft_version) == (wanted.type, wanted.soft_version):
                found = image
        if found is not None and found.md5 != hashlib.md5(wanted.content, usedforsecurity=False).hexdigest():
            firmwares.delete(found.id)
            found = None
        if found is None:
            found = firmwares.add(
                wanted.content,
                product_key=wanted.product_key,
                firmware_type=wanted.type,
                soft_version=wanted.soft_version,
                name=wanted.name,
                now=side.now(),
                small=wanted.small,
            )
        if wanted.push and not found.everybody:
            side.pusher.push(found)

    def _app(self, number: int, app: AppConfig, side: AppSide) -> str:
        known = {each.appid for each in side.accounts.apps()}
        appid = app.appid or self._value(f"app {number}")
        is_new = appid not in known
        made = side.accounts.add_app(appid, app.appsecret, app.products)
        if is_new and (app.appid is None or app.appsecret is None):
            self.generated.append(Generated("app", {"appid": made.appid, "appsecret": made.appsecret}))
        return made.appid

    def _user(self, user: UserConfig, side: AppSide) -> str:
        accounts = side.accounts
        known = accounts.by(user.kind, user.name)
        if known is None:
            password = user.password or secrets.token_urlsafe(12)
            if user.password is None:
                self.generated.append(Generated("user", {user.kind: user.name, "password": password}))
            return accounts.create(user.kind, user.name, password).uid
        if user.password is not None and not accounts.has_password(known, user.password):
            accounts.update(known.uid, password=user.password)
            accounts.revoke(known.uid)
        return known.uid

    # --- what is made up

    def _values(self, what: str, about: dict[str, str], places: dict[str, str]) -> list[str]:
        """The values that were made up for these places; what is new is told."""
        before = {place for place in places.values() if self._kept(place) is not None}
        values = [self._value(place) for place in places.values()]
        if any(place not in before for place in places.values()):
            self.generated.append(Generated(what, about | dict(zip(places, values, strict=True))))
        return values

    def _value(self, place: str) -> str:
        """32 hex digits, the same for the same place."""
        kept = self._kept(place)
        if kept is None:
            kept = secrets.token_hex(16)
            with self._database.transaction() as db:
                db.execute("INSERT INTO made_up VALUES (?, ?)", (place, kept))
        return kept

    def _kept(self, place: str) -> str | None:
        row = self._database.one("SELECT value FROM made_up WHERE place = ?", (place,))
        return None if row is None else str(row[0])
