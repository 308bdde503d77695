"""What a simulated module keeps over a restart: its identity, in one private file per module.

The file is replaced whole, so a crash leaves the old or the new one. A file that cannot be read is set
aside under another name and told, never overwritten: the did in it is a device in somebody's account.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, get_args

from gizserial.errors import GizserialError
from gizserial.m2m.identity import Generation, Identity

FORMAT: Final = 1
MAX_SIZE: Final = 64 * 1024
"""Largest state file that is read, in bytes."""


class StateError(GizserialError, OSError):
    """The state cannot be kept where the user asked for it."""


class StateFile:
    """``module-<mac>.json`` in the state directory.

    :param directory: Made when it is missing, for its owner only.
    :param told: Takes one sentence for the user.
    """

    def __init__(self, directory: Path, mac: str, *, told: Callable[[str], None]) -> None:
        self.path: Final = directory / f"module-{mac}.json"
        self._mac, self._told = mac, told
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StateError(
                f"the state directory {directory} cannot be made: {error.strerror or error}; name another one"
            ) from error

    def load(self) -> Identity | None:
        """The identity that was stored last; None when there is none, or when it had to be set aside.

        :raises StateError: when the file exists and may not be read.
        """
        try:
            if self.path.stat().st_size > MAX_SIZE:
                self._set_aside("it is too large")
                return None
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{self.path} cannot be read: {error.strerror or error}") from error
        try:
            identity = _identity(json.loads(data))
            if identity.mac != self._mac:
                raise _DamagedError(f"it belongs to the module {identity.mac[:12]}")
            return identity
        except (ValueError, RecursionError) as error:
            self._set_aside(str(error) or type(error).__name__)
            return None

    def store(self, identity: Identity) -> None:
        """Replace the file, durably.

        :raises StateError: when it cannot be written; the old file stays.
        """
        text = json.dumps({"format": FORMAT, **dataclasses.asdict(identity)}, indent=1)
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.tmp")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise StateError(
                f"{self.path} cannot be written: {error.strerror or error}; the module would lose its did"
            ) from error

    def _set_aside(self, reason: str) -> None:
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.damaged-{number}")).exists():
            number += 1
        try:
            self.path.rename(aside)
        except OSError as error:
            raise StateError(f"{self.path} is damaged and cannot be renamed: {error.strerror}") from error
        self._told(
            f"{self.path} is damaged ({reason}); it was kept as {aside.name}, the module registers anew"
        )


class _DamagedError(ValueError):
    """The file's content is not what we wrote."""


def _identity(members: Any) -> Identity:
    if not isinstance(members, dict):
        raise _DamagedError("it holds no JSON object")
    if members.get("format") != FORMAT:
        raise ValueError(f"its format is {members.get('format')!r}, this version reads {FORMAT}")
    known = {field.name: field for field in dataclasses.fields(Identity)}
    values: dict[str, Any] = {}
    for name, value in members.items():
        if name == "format" or name not in known:
            continue
        wanted: type[Any] | tuple[type[Any], ...] = str
        if name == "reset_pending":
            wanted = bool
        elif name == "generation":
            wanted = (str, type(None))
        if not isinstance(value, wanted):
            raise _DamagedError(f"its member {name} has a wrong type")
        values[name] = value
    if "mac" not in values:
        raise ValueError("its member mac is missing")
    known_generations = get_args(Generation)
    if values.get("generation") not in {None, *known_generations}:
        raise ValueError(f"its member generation is none of {', '.join(known_generations)}")
    return Identity(**values)


def choose_mac(mac: str | None, directory: Path | None) -> str:
    """The MAC that was asked for, the one that the state directory knows, or a random one.

    :raises StateError: a MAC that is none, or a directory that knows several.
    """
    if mac is not None:
        digits = mac.replace(":", "").replace("-", "").upper()
        if len(digits) != 12 or any(digit not in "0123456789ABCDEF" for digit in digits):
            raise StateError(f"{mac!r} is not a MAC; give 12 hex digits, for example 5AFE00000001")
        return digits
    known = sorted(directory.glob("module-*.json")) if directory is not None else []
    if len(known) > 1:
        names = ", ".join(path.stem.removeprefix("module-") for path in known[:8])
        raise StateError(f"{directory} has several modules ({names}); choose one with --mac")
    if known:
        return choose_mac(known[0].stem.removeprefix("module-"), None)
    # Locally administered, so it can never be a real one.
    return f"5AFE{secrets.token_hex(4)}".upper()
