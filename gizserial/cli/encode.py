"""``gizserial encode``: make one frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gizserial.cli.params import product_option, utf8

if TYPE_CHECKING:
    from gizserial.product import Product


@click.command(
    epilog="\b\nExamples:\n"
    "  gizserial encode heartbeat --sn 7\n"
    "  gizserial encode -p pet-house.json control LED_OnOff=true Motor_Speed=-3"
)
@click.argument("name")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@product_option()
@click.option("--sn", type=click.IntRange(0, 255), default=0, show_default=True, help="Sequence number.")
@click.option("--out", type=click.Path(), help="Write the bytes to this file instead of hex to stdout.")
def encode(name: str, fields: tuple[str, ...], product: Product | None, sn: int, out: str | None) -> None:
    """Make the frame NAME and print its bytes as hex, as they go over the wire.

    NAME is a command (heartbeat, status, device_info_ack, ...) or, with a product, what to do with its data
    points: control, read, read_reply, report, raw_to_mcu, raw_from_mcu.
    """
    from gizserial.codec import Codec
    from gizserial.encoding import encode as encode_frame
    from gizserial.encoding import size_warning

    frame = encode_frame(Codec(product), name, [utf8(word) for word in fields], sn=sn)
    wire = frame.encode()
    warning = size_warning(frame)
    if warning:
        click.echo(f"warning: {warning}", err=True)
    if out is None:
        click.echo(wire.hex())
        return
    from gizserial.io.files import atomic_writer

    with atomic_writer(out) as file:
        file.write(wire)
