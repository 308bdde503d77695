"""``gizserial convert``: between capture formats."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Final

import click

from gizserial.capture.formats import FORMATS, Format, format_of
from gizserial.capture.record import ByteWriter, Item, Losses, Record
from gizserial.capture.select import only
from gizserial.commands import Direction

_LONG: Final = 4 * 1024 * 1024
"""Bytes of input from which progress is worth showing."""

_SENDERS: Final[dict[str, Direction]] = {"mcu": "mcu>module", "module": "module>mcu"}


@click.command(epilog="\b\nExample:\n  gizserial convert capture.jsonl capture.pcapng")
@click.argument("source", metavar="IN", type=click.Path(allow_dash=True))
@click.argument("target", metavar="OUT", type=click.Path(allow_dash=True))
@click.option(
    "--from", "source_form", type=click.Choice(list(FORMATS)), help="Format of IN, whatever its suffix."
)
@click.option(
    "--to", "target_form", type=click.Choice(list(FORMATS)), help="Format of OUT, whatever its suffix."
)
@click.option(
    "--sender",
    type=click.Choice(list(_SENDERS)),
    help="Take only what this side sent. Where IN has no directions: say that this side sent it.",
)
def convert(
    source: str, target: str, source_form: str | None, target_form: str | None, sender: str | None
) -> None:
    r"""Convert the capture IN to OUT, each in the format of its suffix; - is standard input or output.

    \b
    .jsonl             keeps everything
    .pcapng            keeps bytes, times in microseconds, directions and comments; opens in Wireshark
    .hex, .txt, .log   hex bytes, with times and directions as text for people
    .bin               raw bytes of one direction

    What OUT cannot keep is told on stderr. OUT is replaced only when all of IN was read; it may be IN itself.
    """
    given = FORMATS[source_form] if source_form else None
    form = FORMATS[target_form] if target_form else _target_form(target)
    direction = _SENDERS[sender] if sender else None
    with _output(target) as file:
        losses, kept, undirected = _copy(source, given, file, target, form=form, direction=direction)
    if losses:
        what = ", ".join(f"{name} ({count})" for name, count in losses.items())
        click.echo(f"note: {target} does not keep: {what}", err=True)
    if direction and not kept:
        click.echo(f"note: {target} is empty: the {sender} sent nothing in {source}", err=True)
    if undirected and form.name in {"jsonl", "pcapng"}:
        click.echo(
            f"note: {source} does not say who sent the bytes, so {target} does not either; "
            "--sender mcu or --sender module adds it",
            err=True,
        )


def _target_form(target: str) -> Format:
    if target == "-":
        raise click.UsageError("standard output has no suffix; name the format, for example --to jsonl")
    return format_of(target)


def _copy(
    source: str,
    given: Format | None,
    file: ByteWriter,
    target: str,
    *,
    form: Format,
    direction: Direction | None,
) -> tuple[Losses, int, int]:
    """Copy everything; gives what was lost, the records written and those of them without a direction."""
    from gizserial.io.files import open_capture

    kept = undirected = 0
    with _progress(source) as on_read, open_capture(source, form=given, on_read=on_read) as capture:
        writer = form.writer(file, target, capture.meta)
        items: Iterator[Item] = only(capture.items, direction) if direction else capture.items
        for item in items:
            writer.write(item)
            if isinstance(item, Record):
                kept += 1
                undirected += item.direction is None
    return +writer.losses, kept, undirected


@contextlib.contextmanager
def _output(target: str) -> Iterator[ByteWriter]:
    from gizserial.io.files import atomic_writer

    if target == "-":
        yield sys.stdout.buffer
        return
    with atomic_writer(target) as file:
        yield file


@contextlib.contextmanager
def _progress(source: str) -> Iterator[Callable[[int], None] | None]:
    """A bar on a terminal, for long files."""
    size = 0
    if source != "-":
        # A file that cannot be looked at gets its sentence when it is opened.
        with contextlib.suppress(OSError, ValueError):
            size = os.stat(source).st_size  # noqa: PTH116 - nothing else here needs a path object
    if size < _LONG or not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=size, label=source, file=sys.stderr) as bar:
        yield bar.update
