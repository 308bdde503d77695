"""``gizserial monitor``: a live view of a line or of a recording."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gizserial.capture.formats import SUFFIXES, format_of
from gizserial.cli.group import FINE
from gizserial.cli.output import echo
from gizserial.cli.params import product_option
from gizserial.cli.port_options import baud_option, two_ports
from gizserial.cli.termination import TERMINATED

if TYPE_CHECKING:
    from gizserial.cli.monitor_app import MonitorApp
    from gizserial.cli.monitor_sources import Printer, Source
    from gizserial.commands import Direction
    from gizserial.io.recorder import CaptureRecorder
    from gizserial.io.watch import Watch
    from gizserial.monitor import Monitor
    from gizserial.product import Product


@click.command(
    epilog="\b\nExamples:\n"
    "  gizserial monitor /dev/ttyUSB0 -p pet-house.json\n"
    "  gizserial monitor --between /dev/ttyUSB0 /dev/ttyUSB1 -p pet-house.json --save run.jsonl\n"
    "  gizserial monitor run.jsonl -p pet-house.json"
)
@click.argument("ports", nargs=-1, required=True, metavar="PORT|FILE [PORT]")
@product_option()
@baud_option
@click.option("--between", is_flag=True, help="Pass the bytes on between the two ports: sit in the middle.")
@click.option("--swap", is_flag=True, help="The first of two ports hears the MCU, the second the module.")
@click.option("--save", metavar="FILE", help="Record everything; the suffix says the format.")
@click.option(
    "--keep",
    type=click.IntRange(100, 1_000_000),
    default=20_000,
    show_default=True,
    metavar="N",
    help="Rows kept in memory.",
)
@click.option(
    "--plain",
    is_flag=True,
    help="One line for each frame instead of the panes; the default without a terminal.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each frame, as decode --json.")
@click.pass_context
def monitor(
    ctx: click.Context,
    ports: tuple[str, ...],
    product: Product | None,
    *,
    baud: int,
    between: bool,
    swap: bool,
    save: str | None,
    keep: int,
    plain: bool,
    as_json: bool,
) -> None:
    """Watch a line: frames, values, counters and curves, with filters.

    One PORT: who sent a frame follows from its command. Two PORTs, one for each direction: the first hears
    what the module sends, the second what the MCU sends. --between sits in the middle of a line that was cut:
    the first port is wired to the module, the second to the MCU. FILE is a capture, shown whole; - reads one
    from standard input.

    Press ? for the keys.
    """
    if save is not None:
        if format_of(save).name == "bin" and (len(ports) > 1):
            raise click.UsageError(
                "--save: .bin holds one direction and two ports give both; use .jsonl or .pcapng"
            )
        if any(Path(port).resolve() == Path(save).resolve() for port in ports):
            raise click.UsageError("--save: this is the file that is shown; give another name")
    from gizserial.io.recorder import CaptureRecorder
    from gizserial.monitor import Monitor

    machine = Monitor(product, keep=keep)
    lines = plain or as_json or not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    # Opened when the ports are: a port that cannot be opened leaves an older recording as it is.
    recording = CaptureRecorder(save) if save is not None else None
    if _is_file(ports[0]):
        if len(ports) > 1 or between:
            raise click.UsageError("a FILE is watched alone; give one FILE, or one or two PORTs")
        status = _watch_file(ports[0], machine, recording, lines=lines, as_json=as_json)
    else:
        if len(ports) > 2:
            raise click.UsageError("there are more than two ports; give one, or one for each direction")
        if between and len(ports) != 2:
            raise click.UsageError(
                "--between needs two ports: the one at the module, then the one at the MCU"
            )
        if swap and len(ports) != 2:
            raise click.UsageError("--swap belongs to two ports")
        two_ports(ports)
        work = _watch_ports(
            ports, machine, recording, baud=baud, between=between, swap=swap, lines=lines, as_json=as_json
        )
        status = asyncio.run(work)
    ctx.exit(status)


def _is_file(text: str) -> bool:
    if text == "-":
        return True
    if Path(text).suffix.lower() in SUFFIXES:
        if not Path(text).exists():
            raise click.UsageError(f"{text}: there is no such file")
        return True
    return Path(text).is_file()


def _watch_file(
    path: str, machine: Monitor, recording: CaptureRecorder | None, *, lines: bool, as_json: bool
) -> int:
    from gizserial.cli.monitor_sources import FileSource, Printer
    from gizserial.io.files import open_capture

    with open_capture(path) as capture, recording or contextlib.nullcontext():
        records = capture.records()
        if not lines:
            return asyncio.run(_show(_app(machine, FileSource(Path(path).name, records), recording)))
        printer = Printer(machine, recording, as_json=as_json, tell=_tell)
        for record in records:
            printer.take(record)
        printer.show(machine.flush())
    return FINE


async def _watch_ports(
    ports: Sequence[str],
    machine: Monitor,
    recording: CaptureRecorder | None,
    *,
    baud: int,
    between: bool,
    swap: bool,
    lines: bool,
    as_json: bool,
) -> int:
    from gizserial.cli.monitor_sources import PortSource, Printer
    from gizserial.io.ports import open_port
    from gizserial.io.watch import Line, Watch

    both: tuple[Direction, Direction] = ("mcu>module", "module>mcu") if swap else ("module>mcu", "mcu>module")
    directions: Sequence[Direction | None] = both if len(ports) == 2 else (None,)
    opened = [Line(open_port(port, baud=baud), who) for port, who in zip(ports, directions, strict=True)]
    async with Watch(opened, between=between) as watch, _opened(recording):
        if not lines:
            return await _show(_app(machine, PortSource(watch), recording))
        for line in opened:
            if line.port.other_end is not None:
                _tell(f"{line.port.name}: the other end is {line.port.other_end}")
        printer = Printer(machine, recording, as_json=as_json, tell=_tell)
        stop = asyncio.Event()
        with _on_terminate(stop.set):
            while not stop.is_set():
                await _next(watch, machine, printer)
        return TERMINATED


async def _next(watch: Watch, machine: Monitor, printer: Printer) -> None:
    due = machine.next_timeout()
    # Not for ever: a request to terminate has to be seen.
    await watch.wait(0.5 if due is None else min(0.5, max(0.0, due - watch.now)))
    thing = watch.take()
    if thing is not None:
        printer.take(thing)
    printer.silent(watch.now)


@contextlib.asynccontextmanager
async def _opened(recording: CaptureRecorder | None) -> AsyncIterator[None]:
    with recording or contextlib.nullcontext():
        yield


def _app(machine: Monitor, source: Source, recording: CaptureRecorder | None) -> MonitorApp:
    from gizserial.cli.monitor_app import MonitorApp

    return MonitorApp(machine, source, recording=recording)


async def _show(view: MonitorApp) -> int:
    """Run the panes; gives the exit status, not 0 when they broke down."""
    with _on_terminate(lambda: view.exit(TERMINATED)):
        status = await view.run_async()
    return status if status is not None else view.return_code or FINE


@contextlib.contextmanager
def _on_terminate(call: Callable[[], object]) -> Iterator[None]:
    """Let SIGTERM end it in order, where the system has it."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGTERM, call)
    except (NotImplementedError, RuntimeError):
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def _tell(text: str) -> None:
    echo(text, err=True)
