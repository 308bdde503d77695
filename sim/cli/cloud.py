"""``gizsim cloud``: the embedded cloud alone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sim.cli.options import live_options

if TYPE_CHECKING:
    from gizserial.product import Product
    from sim.cloud.app import EmbeddedCloud


@click.command(
    epilog="\b\nExamples:\n"
    "  gizsim cloud\n"
    "  gizsim cloud --http 0.0.0.0:80 --mqtt 0.0.0.0:1883 --data ./cloud"
)
@click.option(
    "--http",
    default="127.0.0.1:8080",
    show_default=True,
    metavar="HOST:PORT",
    help="Device registration and provisioning; port 0 is any free one.",
)
@click.option(
    "--mqtt",
    multiple=True,
    default=("127.0.0.1:1883",),
    show_default=True,
    metavar="HOST:PORT",
    help="MQTT for devices and apps; may be given several times.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep devices and their last state here; without it in memory.",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Products as YAML.",
)
@click.option(
    "--advertise",
    metavar="HOST[:PORT]",
    help="MQTT address that devices are told; without it the one under which they reached us.",
)
@click.option("--strict", is_flag=True, help="Only products of --config may register.")
@click.option("--adopt", is_flag=True, help="Take over devices that log in with an unknown did.")
@live_options
@click.pass_context
def cloud(
    ctx: click.Context,
    *,
    http: str,
    mqtt: tuple[str, ...],
    data: Path | None,
    config_file: Path | None,
    advertise: str | None,
    strict: bool,
    adopt: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run the cloud that modules register in: HTTP (G1 and G2) and MQTT, for devices and apps.

    When everything listens it prints one line that begins with "ready" and has the real addresses.
    """
    from sim import lifetime
    from sim.cloud.app import EmbeddedCloud
    from sim.cloud.config import CloudConfig
    from sim.cloud.config_file import load_config
    from sim.cloud.show import CloudShow

    products = load_config(config_file) if config_file is not None else ()
    config = CloudConfig(
        http=http,
        mqtt=mqtt,
        data=data,
        products=products,
        strict_products=strict,
        advertise=advertise,
        adopt=adopt,
    )

    async def main() -> int:
        async with EmbeddedCloud(config) as running:
            if as_json:
                click.echo(json.dumps({"kind": "ready", **running.addresses}))
            else:
                click.echo(f"ready {json.dumps(running.addresses)}")
            for text in running.notices:
                click.echo(f"gizsim cloud: {text}", err=True)
            if not quiet:
                running.subscribe(
                    CloudShow(_Echo(), as_json=as_json, product_of=lambda did: _product(running, did))
                )
            await asyncio.Event().wait()
        return 0

    ctx.exit(lifetime.run(main()))


class _Echo:
    """Prints as long as somebody reads: who wanted the ready line only may close the pipe, devices go on."""

    def __init__(self) -> None:
        self._read = True

    def __call__(self, text: str) -> None:
        if not self._read:
            return
        try:
            click.echo(text)
        except BrokenPipeError:
            self._read = False


def _product(running: EmbeddedCloud, did: str) -> Product | None:
    device = running.store.device(did)
    known = running.products.get(device.product_key) if device is not None else None
    return known.product if known is not None else None
