"""``gizserial capture``: record what crosses a line."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final

import click

from gizserial.capture.formats import format_of
from gizserial.cli.durations import DURATION
from gizserial.cli.group import FINE
from gizserial.cli.output import echo
from gizserial.cli.params import json_option
from gizserial.cli.port_options import baud_option, two_ports
from gizserial.cli.termination import or_terminated

if TYPE_CHECKING:
    from gizserial.commands import Direction
    from gizserial.io.recorder import CaptureRecorder
    from gizserial.io.tap import Tap
    from gizserial.io.watch import Line, Watch

_SENDERS: Final[dict[str, Direction]] = {"mcu": "mcu>module", "module": "module>mcu"}
_TICK: Final = 0.5


@click.command(
    epilog="\b\nExamples:\n"
    "  gizserial capture /dev/ttyUSB0 -o run.jsonl\n"
    "  gizserial capture /dev/ttyUSB0 /dev/ttyUSB1 -o run.pcapng --for 10m\n"
    "  gizserial capture --between /dev/ttyUSB0 /dev/ttyUSB1 -o run.jsonl"
)
@click.argument("ports", nargs=-1, required=True, metavar="PORT [PORT]")
@click.option(
    "-o",
    "--out",
    required=True,
    metavar="FILE",
    help="Where to; the suffix says the format (.jsonl, .pcapng, .hex, .txt, .log, .bin).",
)
@baud_option
@click.option("--between", is_flag=True, help="Pass the bytes on between the two ports: sit in the middle.")
@click.option("--swap", is_flag=True, help="The first of two ports hears the MCU, the second the module.")
@click.option("--sender", type=click.Choice(list(_SENDERS)), help="One port: this side alone is heard on it.")
@click.option("--for", "seconds", type=DURATION, metavar="TIME", help="Stop after 10s, 500ms, 2m or 1h.")
@json_option
@click.pass_context
def capture(
    ctx: click.Context,
    ports: tuple[str, ...],
    out: str,
    *,
    baud: int,
    between: bool,
    swap: bool,
    sender: str | None,
    seconds: float | None,
    as_json: bool,
) -> None:
    """Record every byte that one or two ports hear, until Ctrl-C or for the time of --for.

    Two PORTs, one for each direction: the first hears what the module sends, the second what the MCU sends
    (--swap: the other way round). With --between the line is cut: the first port is wired to the module, the
    second to the MCU, and what one says is passed on to the other.

    One PORT: the command of each frame says who sent it; bytes that do not say it count to the frame before
    them and are marked "guessed" in .jsonl. When only one side is heard, say so with --sender.

    What was received is in FILE at once. A port that is unplugged is opened again when it is back.
    """
    form = format_of(out)
    if len(ports) > 2:
        raise click.UsageError("there are more than two ports; give one, or one for each direction")
    if between and len(ports) != 2:
        raise click.UsageError("--between needs two ports: the one at the module, then the one at the MCU")
    if swap and len(ports) != 2:
        raise click.UsageError("--swap belongs to two ports")
    if sender and len(ports) != 1:
        raise click.UsageError("--sender belongs to one port; two ports say who is heard by their order")
    if form.name == "bin" and len(ports) == 2:
        raise click.UsageError("-o: .bin holds one direction and two ports give both; use .jsonl or .pcapng")
    two_ports(ports)
    lines = _lines(ports, baud, sender, swap=swap)
    ctx.exit(_record(lines, out, seconds, between=between, as_json=as_json))


def _lines(ports: tuple[str, ...], baud: int, sender: str | None, *, swap: bool) -> list[Line]:
    """The ports, and who is heard on each."""
    from gizserial.io.ports import open_port
    from gizserial.io.watch import Line

    directions: list[Direction | None] = ["module>mcu", "mcu>module"]
    if swap:
        directions.reverse()
    if len(ports) == 1:
        directions = [_SENDERS[sender] if sender else None]
    return [
        Line(open_port(port, baud=baud), direction) for port, direction in zip(ports, directions, strict=True)
    ]


def _record(lines: list[Line], out: str, seconds: float | None, *, between: bool, as_json: bool) -> int:
    from gizserial.io.recorder import CaptureRecorder
    from gizserial.io.tap import Tap

    recorder = CaptureRecorder(out)
    tap = Tap(recorder, attribute=lines[0].direction is None and recorder.form.name != "bin")
    try:
        work = _run(lines, recorder, tap, seconds, between=between, as_json=as_json)
        return asyncio.run(or_terminated(work))
    finally:
        if recorder.opened:
            _summary(tap, recorder, as_json=as_json)


async def _run(
    lines: list[Line],
    recorder: CaptureRecorder,
    tap: Tap,
    seconds: float | None,
    *,
    between: bool,
    as_json: bool,
) -> int:
    from gizserial.describe import json_line
    from gizserial.io.watch import Watch

    # The ports first: one that cannot be opened leaves an older recording as it is.
    async with Watch(lines, between=between) as watch:
        with recorder:
            ends = [line.port.other_end or line.port.name for line in lines]
            if as_json:
                echo(json_line({"kind": "ready", "ports": ends, "file": recorder.path}))
            else:
                _tell(f"recording {', '.join(ends)} to {recorder.path}; Ctrl-C stops")
            try:
                await _listen(watch, tap, seconds)
            finally:
                tap.finish(watch)
    return FINE


async def _listen(watch: Watch, tap: Tap, seconds: float | None) -> None:
    live = sys.stderr.isatty()
    while seconds is None or watch.now < seconds:
        left = _TICK if seconds is None else min(_TICK, seconds - watch.now)
        await watch.wait(max(0.0, left))
        for told in tap.take(watch):
            _tell(told)
        if live:
            echo(f"\r\x1b[2K{tap.counter(watch.now)}", nl=False, err=True)


def _tell(text: str) -> None:
    lead = "\r\x1b[2K" if sys.stderr.isatty() else ""
    echo(f"{lead}{text}", err=True)


def _summary(tap: Tap, recorder: CaptureRecorder, *, as_json: bool) -> None:
    from gizserial.describe import json_line

    if as_json:
        echo(json_line({"kind": "summary", "file": recorder.path, **tap.totals()}))
        return
    _tell(f"{recorder.path}: {tap.counter(tap.ended)}")
    for hint in tap.hints():
        _tell(f"note: {hint}")
