"""``gizsim check``: judge the firmware of an MCU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from gizserial.cli.group import FINDING, FINE, USAGE
from gizserial.cli.output import echo
from gizserial.cli.params import product_option
from gizserial.cli.port_options import port_options

if TYPE_CHECKING:
    from gizserial.errors import CaptureError
    from gizserial.product import Product
    from sim.conformance.model import RunResult

_SEVERITIES: Final = ("must", "should", "may")


def _listed(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from sim.conformance.cases import CASES

        for case in CASES:
            click.echo(f"{case.id:<28} {case.severity.word:<7} {case.title}")
        ctx.exit()


def _explained(ctx: click.Context, _param: click.Parameter, word: str | None) -> None:
    if word is not None and not ctx.resilient_parsing:
        from sim.conformance.cases import named
        from sim.conformance.report_text import explanation

        click.echo("\n\n".join(explanation(case) for case in named((word,))))
        ctx.exit()


@click.command(
    epilog="\b\nExamples:\n"
    "  gizsim check --port /dev/ttyUSB0 -p pet-house.json\n"
    "  gizsim check --port COM3 -p pet-house.json --only control --skip control.binary\n"
    "  gizsim check --port /dev/ttyUSB0 -p pet-house.json --report junit.xml --html report.html\n"
    "  gizsim check --explain framing.escape-sn"
)
@port_options()
@product_option(required=True)
@click.option(
    "--only", multiple=True, metavar="ID", help="Run these cases only: an id, a group, or a pattern."
)
@click.option("--skip", multiple=True, metavar="ID", help="Leave these cases out.")
@click.option(
    "--leave", multiple=True, metavar="NAME", help="Never write this data point (a motor, a heater)."
)
@click.option("--ask", is_flag=True, help="Ask the person at the device to press buttons, and wait for it.")
@click.option("--slow", is_flag=True, help="Also run cases that wait for ten minutes.")
@click.option("--large", is_flag=True, help="Also send frames that overflow the buffer of generated code.")
@click.option("--report", metavar="FILE", help="Write JUnit XML.")
@click.option("--html", metavar="FILE", help="Write one page with a picture of each failed case.")
@click.option(
    "--capture", metavar="FILE", help="Write everything that crossed the line (.jsonl, .pcapng, ...)."
)
@click.option("--json", "json_file", metavar="FILE", help="Write JSON Lines; - is standard output.")
@click.option(
    "--fail-on",
    type=click.Choice(_SEVERITIES),
    default="should",
    show_default=True,
    help="Least severity of a deviation that makes the exit status 1.",
)
@click.option(
    "--list", is_flag=True, is_eager=True, expose_value=False, callback=_listed, help="List all cases."
)
@click.option(
    "--explain",
    metavar="ID",
    is_eager=True,
    expose_value=False,
    callback=_explained,
    help="Say what a case is about.",
)
@click.pass_context
def check(
    ctx: click.Context,
    port: str,
    baud: int,
    *,
    pace: bool,
    product: Product,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    leave: tuple[str, ...],
    ask: bool,
    slow: bool,
    large: bool,
    report: str | None,
    html: str | None,
    capture: str | None,
    json_file: str | None,
    fail_on: str,
) -> None:
    """Judge the firmware of an MCU: play the module to it, case by case, and say what it does wrong.

    The firmware needs no change. Values are put back as they were found; name with --leave what must not
    move at all. Exit status 1 when a case failed.
    """
    from gizserial.io.ports import open_port
    from sim import lifetime
    from sim.conformance.bench import Bench
    from sim.conformance.cases import CASES, named
    from sim.conformance.line import BenchLine
    from sim.conformance.model import Setting, Severity, Verdict
    from sim.conformance.outputs import Outputs, Progress, Terminal, wall_time
    from sim.conformance.report_text import summary
    from sim.conformance.runner import run_cases
    from sim.words import byte_time

    cases = named(only) if only else list(CASES)
    unwanted = {case.id for case in named(skip)}
    for name in leave:
        product.point(name)
    least = Severity[fail_on.upper()]
    outputs = Outputs(
        report=report,
        html=html,
        json_file=json_file,
        capture=capture,
        product_key=product.product_key,
        fails_from=least,
    )
    transport = open_port(port, baud=baud, pace=pace)
    setting = Setting(product=product, leave=frozenset(leave), person=ask, slow=slow, large=large)
    quiet = json_file == "-"

    broken: list[CaptureError] = []

    def told(run: RunResult) -> None:
        """Everything there is to say of a run, also of one that was interrupted."""
        if not quiet:
            echo(summary(run))
        broken.extend(outputs.write(run))
        for error in broken:
            echo(f"gizsim: {error}", err=True)

    async def main() -> int:
        time = byte_time(port, baud, pace=pace)
        line = BenchLine(transport, byte_time=time, on_bytes=outputs.recorded if capture else None)
        line.utc = wall_time
        try:
            await line.open(waiting=lambda place: _tell(f"waiting for the MCU at {place} ..."))
            bench = Bench(line, setting, person=Terminal() if ask else None)
            progress = None if quiet else Progress()
            run = await run_cases(
                bench, cases, progress=progress, skipped=unwanted, cut_short=told, waiting=_tell
            )
        finally:
            await line.close()
        told(run)
        if broken:
            return USAGE
        return FINDING if run.failed(least) or run.of(Verdict.BROKEN) or run.stopped else FINE

    ctx.exit(lifetime.run(main()))


def _tell(text: str) -> None:
    echo(text, err=True)
