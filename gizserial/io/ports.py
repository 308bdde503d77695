"""PORT, as the user types it → the transport that it means (cli.md §1)."""

from __future__ import annotations

import importlib.util
import os
import re
from typing import Final

from gizserial.errors import TransportError
from gizserial.io.base import Transport

FORMS: Final = (
    "/dev/ttyUSB0, COM3, socket://host:port, rfc2217://host:port, loop://, "
    "pty:, pty:/some/link, tcp-listen:host:port"
)
"""Every form of PORT, for help texts."""
DEFAULT_BAUD: Final = 9600
"""serial.md §1.1."""
MAX_BAUD: Final = 4_000_000
"""Fastest rate of common adapters."""

_TCP_LISTEN = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<host>[^:\[\]/]*)):(?P<port>\d{1,5})")
_HAS_PTY = os.name == "posix"


def open_port(text: str, *, baud: int = DEFAULT_BAUD, pace: bool = False) -> Transport:
    """The transport that PORT means. It is opened by its own ``open``, or by a driver that is entered.

    :param baud: Bits per second of a real port, and of any port with ``pace``.
    :param pace: Make the line as slow as ``baud`` says. A real port is so slow by itself.
    :raises TransportError: This is no PORT; the sentence names the forms there are.
    """
    if not 0 < baud <= MAX_BAUD:
        raise TransportError(f"{baud} is no baud rate; usual are 9600 and 115200")
    line = _line(text, baud)
    if not pace:
        return line
    from gizserial.io.pace import PacedPort

    return PacedPort(line, baud=baud)


def _line(text: str, baud: int) -> Transport:
    if not text.strip():
        raise TransportError(f"the port is empty; it is one of {FORMS}")
    if "\0" in text:
        raise TransportError("a port has no zero byte in its name")
    scheme, colon, rest = text.partition(":")
    if scheme == "pty" and not rest.startswith("//"):
        return _pty(rest)
    if scheme == "tcp-listen":
        return _tcp_listen(text, rest)
    # A drive on Windows (C:\...) has a colon as well, and a URL has its slashes.
    is_form = colon and re.fullmatch(r"[a-z][a-z0-9+.-]+", scheme)
    if is_form and (scheme == "pty" or not rest.startswith("//")):
        hint = f"did you mean {scheme}://{rest}?" if _pyserial_knows(scheme) else f"a port is one of {FORMS}"
        raise TransportError(f"{text}: there is no such form of port; {hint}")
    from gizserial.io.serial import SerialPort

    return SerialPort(text, baud=baud)


def _pyserial_knows(scheme: str) -> bool:
    if not scheme.isidentifier():
        return False
    return importlib.util.find_spec(f"serial.urlhandler.protocol_{scheme}") is not None


def _pty(link: str) -> Transport:
    if not _HAS_PTY:
        raise TransportError(
            "pty: there are no virtual ports of this kind on Windows; install com0com and name one of its "
            "two ports, or use tcp-listen:127.0.0.1:4000 here and socket://127.0.0.1:4000 on the other side"
        )
    from gizserial.io.pty import PtyPort

    return PtyPort(link)


def _tcp_listen(text: str, address: str) -> Transport:
    from gizserial.io.tcp import TcpListenPort

    found = _TCP_LISTEN.fullmatch(address)
    port = int(found["port"]) if found else -1
    if found is None or port > 65535:
        raise TransportError(
            f"{text}: this needs a host and a port from 0 to 65535, as in tcp-listen:127.0.0.1:4000 or "
            "tcp-listen:[::1]:4000"
        )
    return TcpListenPort(found["six"] or found["host"], port)
