"""The ``gizserial`` command: looks at bytes."""

from __future__ import annotations

from typing import NoReturn

import click

from gizserial.cli.group import LazyGroup, debug_option, run


@click.group(
    cls=LazyGroup,
    commands_at={
        "decode": "gizserial.cli.decode:decode",
        "encode": "gizserial.cli.encode:encode",
        "product": "gizserial.cli.product:product",
        "convert": "gizserial.cli.convert:convert",
        "capture": "gizserial.cli.capture:capture",
        "replay": "gizserial.cli.replay:replay",
        "plot": "gizserial.cli.plot:plot",
        "monitor": "gizserial.cli.monitor:monitor",
        "doctor": "gizserial.cli.doctor:doctor",
        "lan": "gizserial.cli.lan:lan",
    },
    epilog="\b\nExample:\n  gizserial decode FF FF 00 05 07 01 00 00 0D",
)
@click.version_option(package_name="gizserial")
@debug_option
def cli() -> None:
    """Look at the bytes of the Gizwits serial protocol: frames, captures and product definitions."""


def main() -> NoReturn:
    """Entry point of ``gizserial``."""
    run(cli, "gizserial")
