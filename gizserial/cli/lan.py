"""``gizserial lan``: find modules on the network, watch and control them (lan.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gizserial.cli.group import FINDING
from gizserial.cli.params import HEX, json_option, product_option, utf8

if TYPE_CHECKING:
    from gizserial.product import Product

_Command = TypeVar("_Command", bound=Callable[..., Any])

_PORT = click.IntRange(1, 65535)


def _session_options(command: _Command) -> _Command:
    command = click.option(
        "--show-passcode", is_flag=True, help="Print the passcode that the module gave, whole."
    )(command)
    command = click.option(
        "--port", type=_PORT, default=12416, show_default=True, metavar="N", help="TCP port of the module."
    )(command)
    command = click.option(
        "--passcode",
        envvar="GIZSERIAL_PASSCODE",
        metavar="TEXT",
        help="Passcode of the device (or in GIZSERIAL_PASSCODE). Without it the module is asked, which works "
        "while it allows binding.",
    )(command)
    return click.argument("host")(command)


def _udp_port_option(command: _Command) -> _Command:
    return click.option(
        "--udp-port",
        type=_PORT,
        default=12414,
        show_default=True,
        metavar="N",
        help="UDP port of the modules.",
    )(command)


@click.group(
    epilog="\b\nExamples:\n"
    "  gizserial lan discover\n"
    "  gizserial lan watch 192.168.1.20 -p pet-house.json\n"
    "  gizserial lan set 192.168.1.20 -p pet-house.json LED_OnOff=true"
)
def lan() -> None:
    """Find modules on the network, watch and control them, without a cloud."""


@lan.command(
    epilog="\b\nExamples:\n  gizserial lan discover\n  gizserial lan discover 192.168.1.20 --timeout 1 --json"
)
@click.argument("targets", nargs=-1, metavar="[HOST]...")
@click.option(
    "--timeout",
    "seconds",
    type=click.FloatRange(0.05, 3600),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="How long answers and announcements are awaited.",
)
@click.option("--no-broadcast", is_flag=True, help="Ask the given hosts only.")
@_udp_port_option
@json_option
@click.pass_context
def discover(
    ctx: click.Context,
    targets: tuple[str, ...],
    seconds: float,
    *,
    no_broadcast: bool,
    udp_port: int,
    as_json: bool,
) -> None:
    """Find modules: ask every interface (and each HOST directly), listen to announcements.

    Each module is printed once. Exits with 1 if none was found.
    """
    import asyncio

    from gizserial.cli.lan_session import device_line
    from gizserial.io.lan import discover as find

    if no_broadcast and not targets:
        raise click.UsageError("--no-broadcast needs a HOST to ask")

    async def main() -> int:
        number = 0
        async for found in find(targets, seconds=seconds, port=udp_port, broadcast=not no_broadcast):
            number += 1
            click.echo(device_line(found, as_json=as_json))
        return number

    if not asyncio.run(main()):
        click.echo(
            f"no module answered in {seconds:g} s; is it in this network? Give its address to ask it",
            err=True,
        )
        ctx.exit(FINDING)


@lan.command(
    epilog="\b\nExamples:\n"
    "  gizserial lan watch 192.168.1.20 -p pet-house.json\n"
    "  gizserial lan watch 192.168.1.20 --passcode ABCDEFGHIJ --json"
)
@_session_options
@product_option()
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Leave after so many messages.")
@json_option
@click.pass_context
def watch(
    ctx: click.Context,
    host: str,
    passcode: str | None,
    port: int,
    *,
    product: Product | None,
    count: int | None,
    show_passcode: bool,
    as_json: bool,
) -> None:
    """Log in at the module at HOST, read its values, and print what it reports until Ctrl-C.

    A lost session is taken up again, after 2 s at first and 5 minutes at most.
    """
    from gizserial.cli.lan_session import Watch, run

    ctx.exit(
        run(Watch(product, count=count, as_json=as_json, show_passcode=show_passcode), host, port, passcode)
    )


@lan.command(
    "set", epilog="\b\nExample:\n  gizserial lan set 192.168.1.20 -p pet-house.json LED_OnOff=true LED_R=200"
)
@_session_options
@product_option(required=True)
@click.argument("values", nargs=-1, required=True, metavar="NAME=VALUE...")
@json_option
@click.pass_context
def set_(
    ctx: click.Context,
    host: str,
    passcode: str | None,
    port: int,
    *,
    product: Product,
    values: tuple[str, ...],
    show_passcode: bool,
    as_json: bool,
) -> None:
    """Control data points of the device at HOST and wait for its acknowledgement.

    Exits with 1 if the device does not acknowledge or refuses the login, with 2 if it cannot be reached.
    """
    from gizserial.cli.lan_session import Control, control_p0, run

    p0 = control_p0(product, [utf8(word) for word in values])
    ctx.exit(run(Control(p0, as_json=as_json, show_passcode=show_passcode), host, port, passcode))


@lan.command(
    epilog="\b\nExamples:\n"
    "  gizserial lan raw 192.168.1.20 02\n"
    "  gizserial lan raw 192.168.1.20 0000000303000013"
)
@_session_options
@click.argument("data", type=HEX, nargs=-1, required=True, metavar="HEX...")
@click.option(
    "--wait",
    type=click.FloatRange(0.05, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How long answers to a whole frame are awaited.",
)
@json_option
@click.pass_context
def raw(
    ctx: click.Context,
    host: str,
    passcode: str | None,
    port: int,
    *,
    data: tuple[bytes, ...],
    wait: float,
    show_passcode: bool,
    as_json: bool,
) -> None:
    """Send HEX to the module at HOST and print the frames that come.

    HEX is a P0 (action byte first), or a whole frame when it begins with 00000003. Exits with 1 if nothing
    came.
    """
    from gizserial.cli.lan_session import Raw, run

    task = Raw(b"".join(data), wait=wait, as_json=as_json, show_passcode=show_passcode)
    ctx.exit(run(task, host, port, passcode))


@lan.command(epilog="\b\nExample:\n  gizserial lan onboard --ssid home --password-prompt")
@click.argument("targets", nargs=-1, metavar="[HOST]...")
@click.option("--ssid", required=True, help="Name of the router.")
@click.option(
    "--password",
    envvar="GIZSERIAL_WIFI_PASSWORD",
    default="",
    help="Its password (or in GIZSERIAL_WIFI_PASSWORD).",
)
@click.option("--password-prompt", is_flag=True, help="Ask for the password.")
@click.option("--short", is_flag=True, help="One-byte lengths, as newer modules take them.")
@click.option(
    "--timeout",
    "seconds",
    type=click.FloatRange(0.05, 3600),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long an acknowledgement is awaited.",
)
@_udp_port_option
@click.pass_context
def onboard(
    ctx: click.Context,
    targets: tuple[str, ...],
    ssid: str,
    password: str,
    seconds: float,
    *,
    password_prompt: bool,
    short: bool,
    udp_port: int,
) -> None:
    """Give router data to a module in SoftAP mode, once this machine has joined its access point.

    HOST is 10.10.100.254 and broadcast unless given. Exits with 1 if no module acknowledged.
    """
    import asyncio

    from gizserial.io.lan import onboard as give
    from gizserial.lan.messages import RouterData

    if password_prompt:
        password = click.prompt("Password of the router", hide_input=True, err=True)
    asked = targets or ("10.10.100.254", "255.255.255.255")
    address = asyncio.run(give(RouterData(ssid, password, short), asked, seconds=seconds, port=udp_port))
    if address is None:
        click.echo("no module acknowledged; is it in SoftAP mode, and this machine in its network?", err=True)
        ctx.exit(FINDING)
    click.echo(f"{address} took the router data")
