"""``gizsim module``: play the Wi-Fi module and bridge to a cloud."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gizserial.cli.params import product_option
from gizserial.cli.port_options import port_options
from sim.cli.cloning import capture_option, cloned_module
from sim.cli.options import fault_options, fault_seed, live_options, quirk_options, with_faults

if TYPE_CHECKING:
    from gizserial.m2m.http import Server
    from gizserial.module_options import ModuleOptions
    from gizserial.product import Product


def _options() -> type[ModuleOptions]:
    from gizserial.module_options import ModuleOptions

    return ModuleOptions


@click.command(
    epilog="\b\nExamples:\n"
    "  gizsim module --port /dev/ttyUSB0 -p pet-house.json\n"
    "  gizsim module --port COM3 --cloud none\n"
    "  gizsim module --port pty: --cloud http://127.0.0.1:8080 --state ./state\n"
    "  gizsim module --port pty: --cloud none --lan"
)
@port_options()
@product_option()
@click.option(
    "--cloud",
    default="local",
    show_default=True,
    metavar="URL|local|none",
    help="Where it registers: an HTTP API, an embedded cloud of its own, or nowhere.",
)
@click.option(
    "--mac", metavar="MAC", help="Hardware id, 12 hex digits; without it the stored or a random one."
)
@click.option(
    "--state",
    "state_dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep did, passcode and MAC here; without it the module is a new device each time.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="With --cloud local: keep the cloud's devices here.",
)
@click.option(
    "--signal",
    type=click.IntRange(0, 100),
    default=80,
    show_default=True,
    metavar="PERCENT",
    help="Strength of the router that the module believes in.",
)
@click.option("--unprovisioned", is_flag=True, help="Start without router data, as a new module.")
@click.option(
    "--lan",
    is_flag=False,
    flag_value="127.0.0.1",
    metavar="[HOST[:TCP[:UDP[:WEB]]]]",
    help="Serve apps of the LAN: alone at 127.0.0.1, TCP 12416 and UDP 12414; in SoftAP mode a web form at "
    "port 80. Several modules take an address each (127.0.0.2, 127.0.0.3, ...) or free ports "
    "(127.0.0.1:0:0); 0.0.0.0 is every interface.",
)
@click.option(
    "--lan-quirk",
    "lan_quirks",
    multiple=True,
    metavar="NAME=VALUE",
    help="Forms of older firmware on the LAN: firmware_as_v4, tail=false, refusal_as_v4, info_as_v4; "
    "protocol=4.0.8.",
)
@click.option("--seed", type=int, help="Seed of the faults; a random one, which is printed, if not given.")
@click.option(
    "--cloud-fault",
    "cloud_faults",
    multiple=True,
    metavar="FAULT",
    help="Spoil the connections to the cloud: cut@30s, refuse@5s..20s, slow:200ms..500ms; @http or @mqtt: "
    "of one service only.",
)
@capture_option("module", "versions, MAC, heartbeat, how it repeats")
@fault_options
@quirk_options(_options)
@live_options
@click.pass_context
def module(
    ctx: click.Context,
    port: str,
    baud: int,
    *,
    pace: bool,
    product: Product | None,
    cloud: str,
    mac: str | None,
    state_dir: Path | None,
    data: Path | None,
    signal: int,
    unprovisioned: bool,
    lan: str | None,
    lan_quirks: tuple[str, ...],
    seed: int | None,
    cloud_faults: tuple[str, ...],
    faults: tuple[str, ...],
    recorded: str | None,
    quirks: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Play the Wi-Fi module to an MCU, real or simulated, and bridge it to a cloud.

    The MCU is asked who it is, gets heartbeats and Wi-Fi status, is controlled and read, and its reports
    arrive in the cloud. While it runs, type what apps and the network do (set LED_OnOff=true, read, wifi ap,
    raw 0102, help).
    """
    from gizserial.commands import Role
    from gizserial.io.ports import open_port
    from gizserial.lan.server import LanOptions
    from sim import lifetime
    from sim.cloud_faults import CloudFaults
    from sim.lan import LanAddress
    from sim.module import ModuleSimulator, module_show
    from sim.module_commands import commands
    from sim.network import Network
    from sim.prompt import Prompt
    from sim.quirks import with_quirks
    from sim.state import choose_mac
    from sim.words import byte_time

    server = _server(cloud)
    if data is not None and cloud != "local":
        raise click.UsageError("--data belongs to --cloud local")
    plain = _options()(byte_time=byte_time(port, baud, pace=pace))
    cloned = cloned_module(recorded, plain, quiet=quiet)
    options = with_quirks(cloned.options, quirks)
    address = None if lan is None else LanAddress.parse(lan)
    if lan_quirks and address is None:
        raise click.UsageError("--lan-quirk belongs to --lan")
    lan_options = with_quirks(LanOptions(), lan_quirks)
    if cloud_faults and cloud == "none":
        raise click.UsageError("--cloud-fault needs a cloud")
    spoiled_cloud = CloudFaults(cloud_faults, seed=fault_seed(seed))
    transport = with_faults(
        open_port(port, baud=baud, pace=pace), faults, spoiled_cloud.seed, Role.MODULE, more=cloud_faults
    )
    show = module_show(product, as_json=as_json, quiet=quiet)
    chosen = choose_mac(mac or cloned.mac, state_dir)

    async def main() -> int:
        async with contextlib.AsyncExitStack() as stack:
            reached = server
            if cloud == "local":
                from sim.local_cloud import local_cloud

                reached = await stack.enter_async_context(local_cloud(product, data, show))
            simulator = ModuleSimulator(
                transport,
                show,
                mac=chosen,
                options=options,
                product=product,
                server=reached,
                state_dir=state_dir,
                network=Network(strength=signal, known=not unprovisioned),
                lan=address,
                lan_options=lan_options,
                cloud_faults=spoiled_cloud,
            )
            prompt = Prompt(commands(simulator), show)
            await lifetime.first_to_end(simulator.run(), prompt.run())
        return 0

    ctx.exit(lifetime.run(main()))


def _server(cloud: str) -> Server | None:
    """The HTTP API that ``--cloud`` names; None for local and none."""
    from urllib.parse import urlsplit

    from gizserial.m2m.http import Server

    if cloud in {"local", "none"}:
        return None
    try:
        parts = urlsplit(cloud if "//" in cloud else f"http://{cloud}")
        port = parts.port or 80
    except ValueError:
        parts, port = urlsplit(""), 0
    extra = parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme != "http" or not parts.hostname or parts.path not in {"", "/"} or not port or extra:
        raise click.UsageError(
            f"--cloud {cloud}: give http://HOST[:PORT] (modules speak plain HTTP), local or none"
        )
    return Server(parts.hostname, port)
