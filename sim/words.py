"""Words that people type, for commands and prompts, and what follows from them."""

from __future__ import annotations

import os
from collections.abc import Iterable

from gizserial.errors import EncodeError

_VIRTUAL = ("pty:", "tcp-listen:", "socket:", "loop:")
_TERMINALS = ("/dev/pts/", "/dev/ttys")  # macOS has /dev/ttys000; Linux has serial ports called /dev/ttyS0


def byte_time(port: str, baud: int, *, pace: bool) -> float:
    """Seconds that a byte takes on this line: 10 bit times, or none on a virtual port that is not paced.

    The other end of ``pty:`` is a virtual port too, whatever the link to it is called.
    """
    virtual = port.startswith(_VIRTUAL) or os.path.realpath(port).startswith(_TERMINALS)
    return 0.0 if virtual and not pace else 10 / baud


def assignments(words: Iterable[str]) -> dict[str, str]:
    """``NAME=VALUE`` words (:raises EncodeError: a word that is none)."""
    values: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise EncodeError(f"{word!r} is not NAME=VALUE")
        values[name] = value
    return values


def hex_bytes(words: Iterable[str]) -> bytes:
    """Hex words (:raises EncodeError: something else)."""
    try:
        return bytes.fromhex("".join(words))
    except ValueError:
        raise EncodeError("hex digits in pairs are needed, for example 0102") from None
