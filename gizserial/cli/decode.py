"""``gizserial decode``: explain frames."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gizserial.cli.group import FINDING
from gizserial.cli.params import Input, inputs_argument, json_option, product_option, read_inputs

if TYPE_CHECKING:
    from gizserial.product import Product


@click.command(
    epilog="\b\nExamples:\n"
    "  gizserial decode FFFF0005070100000D\n"
    "  gizserial decode -p pet-house.json capture.jsonl --json"
)
@inputs_argument
@product_option()
@json_option
@click.option("--strict", is_flag=True, help="Refuse an FF in a frame that is not escaped.")
@click.pass_context
def decode(
    ctx: click.Context, inputs: tuple[Input, ...], product: Product | None, *, as_json: bool, strict: bool
) -> None:
    """Explain the frames in INPUT: capture files, hex words, or standard input.

    Every byte is shown exactly once, as part of a frame, of an error or as noise. The exit status is 1 if
    anything was not a good frame.
    """
    from gizserial.codec import Codec
    from gizserial.describe import json_line, render, to_json
    from gizserial.streams import describe_records

    codec = Codec(product)
    out = sys.stdout
    bad = False
    first = True
    for stream in read_inputs(inputs):
        live = stream.name == "-" or out.isatty()  # somebody waits for each line
        if len(inputs) > 1 and not as_json:
            out.write(f"{'' if first else chr(10)}== {stream.name}\n")
        for described in describe_records(stream.records, codec, lenient=not strict):
            bad = bad or described.message is None or described.message.error is not None
            if as_json:
                out.write(json_line(to_json(described)) + "\n")
            else:
                out.write(("" if first else "\n") + render(described) + "\n")
            if live:
                out.flush()
            first = False
    if bad:
        ctx.exit(FINDING)
