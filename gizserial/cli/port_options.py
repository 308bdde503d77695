"""``--port``, ``--baud`` and ``--pace``, for the commands that talk to a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])

_HELP = (
    "Serial port (/dev/ttyUSB0, COM3), pyserial URL (socket://host:port, rfc2217://host:port, loop://), "
    "virtual port (pty: or pty:/some/link) or tcp-listen:host:port."
)


def baud_option(command: _Command) -> _Command:
    """``--baud N``, given to the command as ``baud``."""
    return click.option(
        "--baud",
        type=click.IntRange(min=1),
        default=9600,
        show_default=True,
        metavar="N",
        help="Bits per second of the line.",
    )(command)


def port_options(*, required: bool = True) -> Callable[[_Command], _Command]:
    """``--port PORT``, ``--baud N`` and ``--pace``, given to the command as ``port``, ``baud`` and ``pace``.

    Give them to :func:`gizserial.io.ports.open_port`, which says what is wrong with them.
    """

    def decorate(command: _Command) -> _Command:
        command = click.option(
            "--pace", is_flag=True, help="Send at the real speed of --baud on a virtual port too."
        )(command)
        return click.option("--port", metavar="PORT", required=required, help=_HELP)(baud_option(command))

    return decorate


def two_ports(ports: Sequence[str]) -> None:
    """Refuse one port twice: it can be opened, but hears itself. ``pty:`` is another one each time.

    :raises click.UsageError: They are the same.
    """
    if len(ports) == 2 and ports[0] == ports[1] != "pty:":
        raise click.UsageError(
            f"both ports are {ports[0]}; give the one at the module, then the one at the MCU"
        )
