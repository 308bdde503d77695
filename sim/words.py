"""Words that people type, for commands and prompts, and what follows from them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime

from gizserial.errors import EncodeError
from gizserial.module_network import TIME_END

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


def moment(text: str) -> float:
    """``2024-03-14T12:23:19+08:00`` (UTC where no zone is named) in seconds since 1970.

    :raises ValueError: it is none, or one that the four bytes of network time cannot hold (serial.md §4.12).
    """
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time, as 2024-03-14T12:23:19+08:00") from None
    seconds = (given if given.tzinfo is not None else given.replace(tzinfo=UTC)).timestamp()
    if not 0 <= seconds < TIME_END:
        raise ValueError(f"{text} is not between 1970 and 2106, where network time ends")
    return seconds
