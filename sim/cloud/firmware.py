"""Firmware images of the cloud, and which device is to have which (device-cloud.md §4.3, §4.4).

A *push* is the wish that a device runs an image: it is offered at every check until the device reports the
version of the image. One push per device and kind; a new one takes the place of the one before.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import secrets
from collections import deque
from typing import Any, Final, Literal

from gizserial.errors import ValueOutOfRange
from gizserial.image import Image, hex_memory
from gizserial.m2m.firmware import MAX_FIRMWARE, SMALLEST
from sim.cloud.database import Database

MAX_TOTAL: Final = 64 * 1024 * 1024
"""Bytes of all images together."""
MAX_IMAGES: Final = 200
KINDS: Final = {1: "module", 2: "mcu"}

State = Literal["waiting", "told", "offered", "downloaded", "done", "withdrawn"]
"""``waiting`` for the device to come on line, ``told`` to check (0211), ``offered`` when it was sent the
address, ``downloaded``, and ``done`` when it has reported the version of the image. ``withdrawn``: its
product has the image, this device is not to have it."""
Fault = Literal["md5", "cut"]
"""What is wrong with a download on purpose: the MD5, or it ends in the middle."""

_VERSION: Final = re.compile(r"[!-%'-~]{1,8}")
_UNSAFE: Final = re.compile(r"[^0-9A-Za-z_-]+")
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS firmware (
    id TEXT PRIMARY KEY,                -- random: it is part of the address that anybody may fetch
    product_key TEXT NOT NULL,
    type INTEGER NOT NULL,              -- 1 module, 2 MCU
    soft_version TEXT NOT NULL,
    name TEXT NOT NULL,
    md5 TEXT NOT NULL,
    size INTEGER NOT NULL,
    created REAL NOT NULL,
    everybody INTEGER NOT NULL DEFAULT 0,   -- pushed to the product: devices that come later get it too
    content BLOB NOT NULL,
    UNIQUE (product_key, type, soft_version)
);
CREATE TABLE IF NOT EXISTS firmware_push (
    did TEXT NOT NULL,
    type INTEGER NOT NULL,
    firmware TEXT NOT NULL,
    token TEXT NOT NULL UNIQUE,         -- the address from which this device fetches it
    state TEXT NOT NULL,
    pushed REAL NOT NULL,
    changed REAL NOT NULL,
    offers INTEGER NOT NULL DEFAULT 0,
    downloads INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (did, type)
) WITHOUT ROWID;
"""
_IMAGE: Final = "id, product_key, type, soft_version, name, md5, size, created, everybody"
_SELECT_IMAGE: Final = f"SELECT {_IMAGE} FROM firmware"  # noqa: S608 (constants only)
_SELECT_PUSH: Final = (
    "SELECT p.did, p.type, p.firmware, p.token, p.state, p.pushed, p.changed, p.offers, p.downloads,"
    " f.soft_version FROM firmware_push p JOIN firmware f ON f.id = p.firmware"
)


@dataclasses.dataclass(frozen=True, slots=True)
class FirmwareImage:
    """One image, without its bytes."""

    id: str
    product_key: str
    type: int
    soft_version: str
    name: str
    """With ``.hex`` or ``.bin`` at its end."""
    md5: str
    size: int
    created: float
    everybody: bool

    @property
    def hex(self) -> bool:
        """Intel HEX text."""
        return self.name.endswith(".hex")


@dataclasses.dataclass(frozen=True, slots=True)
class Push:
    """The wish that a device runs an image."""

    did: str
    type: int
    firmware: str
    token: str
    state: State
    pushed: float
    changed: float
    offers: int
    downloads: int
    soft_version: str


class Firmwares:
    """Every image, every push.

    :ivar faults: What is done to the next downloads, one each.
    """

    def __init__(self, database: Database) -> None:
        database.create(_TABLES)
        self._database = database
        self.faults: Final[deque[Fault]] = deque()

    # --- images

    def add(
        self,
        content: bytes,
        *,
        product_key: str,
        firmware_type: int,
        soft_version: str,
        name: str,
        now: float,
        small: bool = False,
    ) -> FirmwareImage:
        """Keep an image.

        :param name: As the file is called; ``.hex`` at its end makes it Intel HEX text.
        :param small: Take a file that field modules do not survive, as it is shorter than 600 bytes.
        :raises ValueOutOfRange: something does not fit, or the version is there already.
        :raises ImageError: a ``.hex`` file that is no sound Intel HEX.
        """
        check_image(content, firmware_type, soft_version, name, small=small)
        images = self.images()
        if len(images) >= MAX_IMAGES or sum(image.size for image in images) + len(content) > MAX_TOTAL:
            limit = f"{MAX_IMAGES} images with {MAX_TOTAL} bytes in all; delete some"
            raise ValueOutOfRange("size", len(content), limit)
        if any(
            (image.product_key, image.type, image.soft_version) == (product_key, firmware_type, soft_version)
            for image in images
        ):
            raise ValueOutOfRange("soft_version", soft_version, "a version that is not there yet")
        image = FirmwareImage(
            secrets.token_hex(8),
            product_key,
            firmware_type,
            soft_version,
            _file_name(name),
            hashlib.md5(content, usedforsecurity=False).hexdigest(),
            len(content),
            now,
            False,
        )
        with self._database.transaction() as db:
            db.execute(
                f"INSERT INTO firmware ({_IMAGE}, content) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (*dataclasses.astuple(image), content),
            )
        return image

    def images(self, product_key: str | None = None) -> list[FirmwareImage]:
        """Every image, or those of a product; the newest first."""
        where = "" if product_key is None else "WHERE product_key = ?"
        values = () if product_key is None else (product_key,)
        rows = self._database.all(f"{_SELECT_IMAGE} {where} ORDER BY created DESC, rowid DESC", values)
        return [_image(row) for row in rows]

    def image(self, number: str) -> FirmwareImage | None:
        """The image with this id."""
        row = self._database.one(f"{_SELECT_IMAGE} WHERE id = ?", (number,))
        return None if row is None else _image(row)

    def content(self, image: FirmwareImage) -> bytes:
        """Its bytes; none when it was deleted in the meantime."""
        row = self._database.one("SELECT content FROM firmware WHERE id = ?", (image.id,))
        return b"" if row is None else bytes(row[0])

    def delete(self, number: str) -> bool:
        """Forget an image and what was to be done with it; whether there was one."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM firmware_push WHERE firmware = ?", (number,))
            return db.execute("DELETE FROM firmware WHERE id = ?", (number,)).rowcount > 0

    def latest(self, product_key: str, firmware_type: int) -> FirmwareImage | None:
        """The image that came last."""
        return next((image for image in self.images(product_key) if image.type == firmware_type), None)

    def for_everybody(self, image: FirmwareImage) -> None:
        """Devices of the product that come later get this image too, and none before it."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE firmware SET everybody = (id = ?) WHERE product_key = ? AND type = ?",
                (image.id, image.product_key, image.type),
            )

    # --- pushes

    def push(self, did: str, image: FirmwareImage, now: float) -> Push:
        """Wish that a device runs an image."""
        with self._database.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO firmware_push (did, type, firmware, token, state, pushed, changed)"
                " VALUES (?, ?, ?, ?, 'waiting', ?, ?)",
                (did, image.type, image.id, secrets.token_hex(8), now, now),
            )
        return self._known(did, image.type)

    def pushes(self) -> list[Push]:
        """Every push, the newest first. Those of devices that were deleted are gone."""
        self._database.run("DELETE FROM firmware_push WHERE did NOT IN (SELECT did FROM device)")
        return [Push(*row) for row in self._database.all(f"{_SELECT_PUSH} ORDER BY p.pushed DESC, p.did")]

    def push_of(self, did: str, firmware_type: int) -> Push | None:
        """What this device is to run."""
        row = self._database.one(f"{_SELECT_PUSH} WHERE p.did = ? AND p.type = ?", (did, firmware_type))
        return None if row is None else Push(*row)

    def by_token(self, token: str) -> Push | None:
        """The push whose address this is."""
        row = self._database.one(f"{_SELECT_PUSH} WHERE p.token = ?", (token,))
        return None if row is None else Push(*row)

    def withdraw(self, did: str, firmware_type: int, now: float) -> bool:
        """Offer it no more; whether there was something.

        What was pushed to the whole product is remembered, or the next check would push it anew.
        """
        push = self.push_of(did, firmware_type)
        image = None if push is None else self.image(push.firmware)
        if push is not None and image is not None and image.everybody:
            if push.state != "withdrawn":
                self.moved(push, "withdrawn", now)
            return push.state != "withdrawn"
        statement = "DELETE FROM firmware_push WHERE did = ? AND type = ?"
        return self._database.run(statement, (did, firmware_type)).rowcount > 0

    def moved(self, push: Push, state: State, now: float) -> Push:
        """A push has come further. Offers and downloads are counted."""
        self._database.run(
            "UPDATE firmware_push SET state = ?, changed = ?, offers = offers + ?, downloads = downloads + ?"
            " WHERE token = ?",
            (state, now, state == "offered", state == "downloaded", push.token),
        )
        return dataclasses.replace(push, state=state, changed=now)

    def checked(
        self, did: str, product_key: str, firmware_type: int, soft_version: str, now: float
    ) -> tuple[Push, bool] | None:
        """A device has reported its version and asks for another.

        :returns: What it is to run, and whether that is new: offered now, or reached just now.
        """
        push = self.push_of(did, firmware_type)
        if push is None:
            general = next(
                (each for each in self.images(product_key) if each.type == firmware_type and each.everybody),
                None,
            )
            if general is None or general.soft_version == soft_version:
                return None
            push = self.push(did, general, now)
        if push.state == "withdrawn":
            return None
        if push.state == "done":
            return push, False
        reached = push.soft_version == soft_version
        return self.moved(push, "done" if reached else "offered", now), True

    def _known(self, did: str, firmware_type: int) -> Push:
        push = self.push_of(did, firmware_type)
        if push is None:
            raise LookupError(did)
        return push


def check_image(content: bytes, firmware_type: int, soft_version: str, name: str, *, small: bool) -> None:
    """Whether this can be an image.

    :raises ValueOutOfRange: it cannot, and why.
    :raises ImageError: a ``.hex`` file that is no sound Intel HEX, or cannot travel in lines.
    """
    if firmware_type not in KINDS:
        raise ValueOutOfRange("type", firmware_type, "1 (module) or 2 (MCU)")
    if not _VERSION.fullmatch(soft_version):
        raise ValueOutOfRange("soft_version", soft_version, "1 to 8 printable characters, no & and no blank")
    least = 1 if small else SMALLEST
    if not least <= len(content) <= MAX_FIRMWARE:
        hint = "" if small or not content else "; field modules crash on less, and small: true takes it"
        raise ValueOutOfRange("size", len(content), f"{least} to {MAX_FIRMWARE} bytes{hint}")
    if _file_name(name).endswith(".hex"):
        hex_memory(content)
        Image(content, hex=True).lines()


def _image(row: tuple[Any, ...]) -> FirmwareImage:
    image = FirmwareImage(*row)
    return dataclasses.replace(image, everybody=bool(image.everybody))


def _file_name(name: str) -> str:
    """A name with one dot, and without what modules search for in headers."""
    stem, dot, extension = name.rpartition(".")
    is_hex = bool(dot) and extension.lower() == "hex"
    clean = _UNSAFE.sub("_", stem if dot else name).strip("_")[:64]
    return f"{clean or 'firmware'}.{'hex' if is_hex else 'bin'}"
