"""The ``gizsim`` command: plays a part."""

from __future__ import annotations

from typing import NoReturn

import click

from gizserial.cli.group import LazyGroup, debug_option, run


@click.group(
    cls=LazyGroup,
    commands_at={
        "demo": "sim.cli.demo:demo",
        "module": "sim.cli.module:module",
        "mcu": "sim.cli.mcu:mcu",
        "cloud": "sim.cli.cloud:cloud",
        "check": "sim.cli.check:check",
        "run": "sim.cli.run:run",
        "ota": "sim.cli.ota:ota",
    },
    epilog="\b\nExample:\n  gizsim demo",
)
@click.version_option(package_name="gizserial")
@debug_option
def cli() -> None:
    """Play the parts around a Gizwits device: the Wi-Fi module, the MCU and the cloud."""


def main() -> NoReturn:
    """Entry point of ``gizsim``."""
    run(cli, "gizsim")
