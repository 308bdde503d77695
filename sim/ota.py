"""What a simulated MCU does with firmware: two banks of flash, and which of them it boots.

A piece goes into the bank that is not in use. Only when the whole file is there, read back and found right,
does the boot record name that bank; so whatever happens before leaves the old firmware as it was. With a file
behind it, the flash survives the end of the program, which is what a power failure is.

Firmware may say what it is, anywhere in it: ``GIZVER=`` and up to 8 characters, ended by a byte 0 or a blank,
is its version; ``GIZKEY=`` and 32 hex digits the product that it is for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
from pathlib import Path
from typing import IO, Any, Final

from gizserial.errors import GizserialError
from gizserial.image import ImageError, hex_memory
from gizserial.io.files import os_sentence

RECORD_SIZE: Final = 512
"""Bytes of the boot record, in front of the banks."""
BANKS: Final = 2
ERASED: Final = 0xFF
_FORMAT: Final = "gizsim flash 1"
_VERSION: Final = re.compile(rb"GIZVER=([!-~]{1,8})(?=[\x00-\x20]|\Z)")
_NAME: Final = re.compile(r"[!-~]{1,8}")
_KEY: Final = re.compile(rb"GIZKEY=([0-9a-f]{32})")


class FlashError(GizserialError, OSError):
    """A flash file that cannot be used."""


class FirmwareError(GizserialError, ValueError):
    """Firmware that the MCU does not boot."""


def version_of(firmware: bytes) -> str | None:
    """The version that firmware says it has."""
    found = _VERSION.search(firmware)
    return found.group(1).decode("ascii") if found else None


def product_of(firmware: bytes) -> str | None:
    """The product that firmware says it is for."""
    found = _KEY.search(firmware)
    return found.group(1).decode("ascii") if found else None


class Flash:
    """Two banks and a boot record.

    :param size: Bytes of a bank.
    :param path: Where it is kept; None: in memory, for as long as this object lives.
    :raises FlashError: the file cannot be used, or is no flash of this size.
    """

    def __init__(self, size: int, path: Path | None = None) -> None:
        self.size: Final = size
        self._path = path
        self._memory = bytearray([ERASED]) * (BANKS * size) if path is None else bytearray()
        self._record: dict[str, Any] = {"format": _FORMAT, "bank_size": size, "boot": None, "firmware": None}
        self.note = ""
        """What was wrong with what the boot record says, for people."""
        if path is not None:
            with self._errors():
                self._load(path)

    # --- what it boots

    @property
    def version(self) -> str | None:
        """Version of the firmware that boots; None: the one the MCU was made with."""
        firmware = self._record["firmware"]
        return str(firmware["version"]) if firmware else None

    @property
    def firmware(self) -> bytes | None:
        """The firmware that boots, as it came."""
        firmware = self._record["firmware"]
        return self._read(self._record["boot"], firmware["size"]) if firmware else None

    def _load(self, path: Path) -> None:
        if not path.exists():
            self._create(path)
            return
        if not path.is_file():
            raise FlashError(f"{path}: it is no regular file; give another one")
        with path.open("rb") as file:
            head = file.read(RECORD_SIZE)
        try:
            record = json.loads(head)
            fits = record["format"] == _FORMAT and path.stat().st_size == RECORD_SIZE + BANKS * self.size
            if not fits or record["bank_size"] != self.size:
                raise FlashError(f"{path}: it is a flash with banks of another size; give another file")
        except (ValueError, KeyError, TypeError):
            raise FlashError(f"{path}: it is no flash file of gizsim mcu; give another file") from None
        firmware = record.get("firmware")
        try:
            sound = firmware is None or (
                record["boot"] in range(BANKS)
                and _NAME.fullmatch(firmware["version"]) is not None
                and _digest(self._read(record["boot"], int(firmware["size"]))) == firmware["md5"]
            )
        except (ValueError, KeyError, TypeError):
            sound = False
        if sound:
            self._record = record
        else:
            self.note = "the firmware in its flash is damaged: the one it was made with boots"

    def _create(self, path: Path) -> None:
        """Whole or not at all, and for its owner only: firmware may be somebody's secret."""
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self._encoded_record())
                file.write(bytes([ERASED]) * (BANKS * self.size))
                _synced(file)
            temporary.replace(path)
        except FileNotFoundError as error:
            raise FlashError(f"{path}: its directory does not exist; make it first") from error
        finally:
            temporary.unlink(missing_ok=True)

    # --- an update

    @property
    def spare(self) -> int:
        """The bank that is not in use."""
        boot = self._record["boot"]
        return 0 if boot is None else 1 - int(boot)

    def erase(self) -> None:
        """Erase the spare bank."""
        self._write(self.spare, 0, bytes([ERASED]) * self.size)

    def write(self, offset: int, data: bytes) -> None:
        """Write a piece into the spare bank."""
        if offset + len(data) > self.size:
            raise FlashError(f"{offset + len(data)} bytes do not fit into a bank of {self.size}")
        self._write(self.spare, offset, data)

    def activate(
        self, size: int, md5: str, *, hex_text: bool, product_key: str, version: str | None = None
    ) -> str:
        """Read the spare bank back and, if it holds what it should, let it boot; gives its version.

        :param version: What it is to be called, whatever it says itself.
        :raises FirmwareError: it is not what it should be; the old firmware goes on booting.
        """
        stored = self._read(self.spare, size)
        if _digest(stored) != md5.lower():
            raise FirmwareError("what is in the flash has another MD5 than the file")
        try:
            program = hex_memory(stored)[1] if hex_text else stored
        except ImageError as error:
            raise FirmwareError(f"the HEX text is not sound: {error}") from error
        key = product_of(program)
        if key is not None and key != product_key:
            raise FirmwareError(f"it is for another product, {key[:8]}…")
        version = version or version_of(program) or _digest(stored)[:8]
        firmware = {"version": version, "size": size, "md5": _digest(stored), "hex": hex_text}
        self._record = self._record | {"boot": self.spare, "firmware": firmware}
        self._save_record()
        return version

    # --- where the bytes are

    def _read(self, bank: int, size: int) -> bytes:
        size = min(size, self.size)
        if self._path is None:
            return bytes(self._memory[bank * self.size : bank * self.size + size])
        with self._errors(), self._path.open("rb") as file:
            file.seek(RECORD_SIZE + bank * self.size)
            return file.read(size)

    def _write(self, bank: int, offset: int, data: bytes) -> None:
        start = bank * self.size + offset
        if self._path is None:
            self._memory[start : start + len(data)] = data
            return
        with self._errors(), self._path.open("r+b") as file:
            file.seek(RECORD_SIZE + start)
            file.write(data)
            _synced(file)

    def _encoded_record(self) -> bytes:
        return json.dumps(self._record).encode("ascii").ljust(RECORD_SIZE - 1) + b"\n"

    def _save_record(self) -> None:
        """Last of all, and in one write: it is what makes the other bank boot."""
        if self._path is not None:
            with self._errors(), self._path.open("r+b") as file:
                file.write(self._encoded_record())
                _synced(file)

    @contextlib.contextmanager
    def _errors(self) -> Any:
        try:
            yield
        except FlashError:
            raise
        except OSError as error:
            raise FlashError(f"{self._path}: {os_sentence(error)}") from error


def _synced(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _digest(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
