"""``gizserial plot``: data points of a capture over time."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

import click

from gizserial.cli.params import product_option

if TYPE_CHECKING:
    from gizserial.product import Product

_SUFFIXES = (".html", ".svg", ".png")


@click.command(
    epilog="\b\nExamples:\n"
    "  gizserial plot run.jsonl Temperature LED_OnOff -p pet-house.json -o run.html\n"
    "  gizserial plot run.jsonl -p pet-house.json -o run.svg"
)
@click.argument("capture", metavar="CAPTURE", type=click.Path(allow_dash=True))
@click.argument("names", nargs=-1, metavar="[NAME]...")
@product_option(required=True)
@click.option(
    "-o",
    "--out",
    required=True,
    metavar="FILE",
    help="Where to: .html (with values to point at), .svg or .png.",
)
def plot(capture: str, names: tuple[str, ...], product: Product, out: str) -> None:
    """Draw data points of CAPTURE over time, each in a panel of its own.

    A value holds until the device says another one; dots are the moments at which it said it, circles what a
    control asked for. Red marks are damaged frames and noise, grey is a stretch in which nothing was heard.
    NAME is a data point or a bit of the module's status (status.cloud); without any: all points that change.

    .png needs the extra "plot" (matplotlib); .html and .svg need nothing.
    """
    from gizserial.capture.curves import collect
    from gizserial.capture.curves_svg import page, svg
    from gizserial.io.files import atomic_writer, open_capture

    suffix = PurePath(out).suffix.lower()
    if suffix not in _SUFFIXES:
        raise click.UsageError(f"-o {out}: the picture has one of {', '.join(_SUFFIXES)}")
    title = PurePath(capture).name if capture != "-" else "standard input"
    if suffix == ".png":
        from gizserial.cli.plot_figure import png
    with open_capture(capture) as opened:
        drawn = collect(opened.records(), product, names)
    if drawn.left_out:
        more = ", ".join(drawn.left_out)
        click.echo(f"note: {len(drawn.curves)} points are drawn; to see {more}, name them", err=True)
    if suffix == ".png":
        data, missing = png(drawn, title)
        if missing:
            click.echo(
                f"note: no font here has the letters of {', '.join(missing[:5])}: their numbers are shown; "
                "install a font with Chinese (fonts-noto-cjk, Noto Sans CJK SC) or write .html or .svg",
                err=True,
            )
    else:
        data = (page if suffix == ".html" else svg)(drawn, title).encode()
    with atomic_writer(out) as file:
        file.write(data)
