"""One test at a time on a real port, whichever worker or pytest run it belongs to."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

INTERVAL: Final = 0.02
"""Seconds between two attempts."""


class PortBusyError(Exception):
    """Somebody else has had the port for too long."""


@contextlib.contextmanager
def exclusive(port: str, *, timeout: float) -> Iterator[None]:
    """Have a port to oneself. The system frees it when a process ends, however it does.

    :raises PortBusyError: others had it for ``timeout`` seconds.
    """
    key = hashlib.sha256(os.path.realpath(port).encode() if port.startswith("/") else port.encode())
    path = Path(tempfile.gettempdir()) / f"gizwits-port-{key.hexdigest()[:16]}.lock"
    with path.open("ab") as file:
        ends = time.monotonic() + timeout
        while not _taken(file):
            if time.monotonic() > ends:
                raise PortBusyError(
                    f"{port} has been in use by another test run for {timeout:.0f} s; "
                    "wait for its end, or give another port with --gizwits-port"
                )
            time.sleep(INTERVAL)
        try:
            yield
        finally:
            _given_back(file)


if sys.platform == "win32":
    import msvcrt

    def _taken(file: IO[bytes]) -> bool:
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _given_back(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _taken(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _given_back(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
