"""The cloud's certificates in its data directory.

``tls/`` holds

* ``authority.pem`` – key and certificate of the cloud's authority. It stays, so that trust given once stays.
* ``server.pem`` – key and certificate of the servers, replaced before it ends and when a host is missing.
* ``ca.pem`` – the authority's certificate alone, for clients.

Key and certificate are one file, so that a crash leaves the old pair or the new one. Who opens this has the
data directory locked already (:mod:`sim.cloud.database`).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from cryptography import x509

from sim.cloud.certificates import RENEW_DAYS, Authority, CertificateError, KeyPair
from sim.cloud.errors import StoreError

DIRECTORY: Final = "tls"
AUTHORITY: Final = "authority.pem"
SERVER: Final = "server.pem"
CA: Final = "ca.pem"
MAX_SIZE: Final = 256 * 1024
"""Largest file with certificates or a key that is read, in bytes."""

Told = Callable[[str], None]
"""Takes one sentence for the user."""

T = TypeVar("T")


class TlsFolder:
    """``tls`` in the data directory, for its owner only.

    :raises StoreError: it cannot be made.
    """

    def __init__(self, data: Path, *, told: Told) -> None:
        self._path, self._told = data / DIRECTORY, told
        self.ca: Final = self._path / CA
        try:
            for directory in (data, self._path):
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path.chmod(0o700)
        except OSError as error:
            reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror or str(error)
            raise StoreError(
                f"the directory {self._path} cannot be made: {reason}; name another one with --data"
            ) from error

    def authority(self, now: float) -> tuple[Authority, bool]:
        """The authority, and whether it is a new one, which no client trusts yet.

        :raises StoreError: a file cannot be read or written.
        """
        path, anew = self._path / AUTHORITY, f"clients have to be told to trust the new {self.ca}"
        missing = not path.exists()
        found = self._read(path, Authority.read, anew)
        if found is not None and found.pair.ends_within(RENEW_DAYS, now):
            # The clock may be wrong, and then the user wants it back.
            aside = self._set_aside(path, "ended")
            end = found.pair.certificate.not_valid_after_utc
            self._told(
                f"{path} ends on {end:%Y-%m-%d}, so a new authority was made; it was kept as {aside.name},"
                f" {anew}"
            )
            found = None
        elif found is not None and found.pair.is_early(now):
            self._told(
                f"{path} begins on {found.pair.certificate.not_valid_before_utc:%Y-%m-%d}, which has not come"
                " yet: check the clock of this machine"
            )
        elif missing and self.ca.exists():
            self._told(f"{path} is missing, so a new authority was made; {anew}")
        authority = found or Authority.make(now)
        if found is None:
            write_private(path, authority.pair.pem)
        if found is None or _content(self.ca) != authority.certificate_pem:
            write_private(self.ca, authority.certificate_pem)
        return authority, found is None

    def server(
        self, authority: Authority, names: tuple[x509.GeneralName, ...], now: float, *, is_new: bool
    ) -> KeyPair:
        """The servers' certificate, replaced where it ends soon, lacks a name or is of another authority.

        :param is_new: The authority is, so that nothing can be from it yet.
        :raises StoreError: a file cannot be read or written.
        """
        path = self._path / SERVER
        found = self._read(path, KeyPair.read, "a new one was made")
        if found is not None and not authority.issued(found):
            if not is_new:
                self._told(f"{path} was not issued by {self._path / AUTHORITY}, so a new one was made")
            found = None
        if (
            found is None
            or found.ends_within(RENEW_DAYS, now)
            or found.is_early(now)
            or not found.covers(names)
        ):
            found = authority.issue(names, now)
            self.keep_server(found)
        return found

    def keep_server(self, pair: KeyPair) -> None:
        """Replace the servers' certificate and key.

        :raises StoreError: they cannot be written; the old ones stay.
        """
        write_private(self._path / SERVER, pair.pem)

    def _read(self, path: Path, read: Callable[[bytes], T], consequence: str) -> T | None:
        """What the file holds; None when there is none, or when it is damaged and was set aside."""
        try:
            data = _content(path)
            if data is None:
                return None
            path.chmod(0o600)
            return read(data)
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error
        except CertificateError as error:
            aside = self._set_aside(path, "damaged")
            self._told(f"{path} is damaged ({error}); it was kept as {aside.name}, {consequence}")
            return None

    def _set_aside(self, path: Path, why: str) -> Path:
        number = 1
        while (aside := path.with_name(f"{path.name}.{why}-{number}")).exists():
            number += 1
        try:
            return path.rename(aside)
        except OSError as error:
            raise StoreError(f"{path} cannot be set aside: {error.strerror or error}") from error


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner reads, durably: it has the old content or all of the new.

    :raises StoreError: it cannot be written; the old one stays.
    """
    # One process at a time: what a crash has left under this name is nobody's.
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error


def _content(path: Path) -> bytes | None:
    """The bytes of a file, or None when there is none.

    :raises CertificateError: it is too large, or no file. The message is the end of a sentence.
    :raises OSError: it cannot be read.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise CertificateError("it is no regular file")
    if found.st_size > MAX_SIZE:
        raise CertificateError("it is too large")
    return path.read_bytes()
