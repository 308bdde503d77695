"""``gizsim run``: play scenarios and judge what happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gizserial.cli.group import FINDING, FINE
from gizserial.cli.output import echo
from gizserial.cli.params import json_option

if TYPE_CHECKING:
    from gizserial.capture.record import Record
    from sim.scenario import Result, Scenario, Step
    from sim.scenario.log import Seen
    from sim.scenario.result import StepResult


def _schema(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from sim.scenario.grammar import schema

        click.echo(json.dumps(schema(), ensure_ascii=False, indent=2))
        ctx.exit()


@click.command(
    name="run",
    epilog="\b\nExamples:\n"
    "  gizsim run control.yaml\n"
    "  gizsim run *.yaml --report junit.xml\n"
    "  gizsim run control.yaml --port /dev/ttyUSB0 --capture run.jsonl\n"
    "  gizsim run control.yaml --port COM3 --play mcu\n"
    "  gizsim run --schema > scenario.schema.json",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--port", metavar="PORT", help="Play to a real device at this port, in real time.")
@click.option(
    "--play",
    type=click.Choice(("module", "mcu")),
    help="With --port: the role that is played (module, unless named); the device has the other one.",
)
@click.option("--baud", type=click.IntRange(50, 4_000_000), help="Speed of the line, in place of the file's.")
@click.option("--seed", type=click.IntRange(0, 2**32), help="Seed, in place of the file's.")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the scenario.")
@click.option(
    "--max-time",
    metavar="TIME",
    help="The run ends as failed after so long (90s, 10min); default: the file's.",
)
@click.option("--capture", metavar="FILE", help="Write all bytes as they were sent (.jsonl, .pcapng, ...).")
@click.option("--report", metavar="FILE", help="Write JUnit XML.")
@click.option("--frames", is_flag=True, help="Show the frames too.")
@click.option("--quiet", is_flag=True, help="Show nothing but what failed.")
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_schema,
    help="Print the JSON Schema of scenario files, for editors.",
)
@json_option
@click.pass_context
def run(
    ctx: click.Context,
    files: tuple[Path, ...],
    *,
    port: str | None,
    play: str | None,
    baud: int | None,
    seed: int | None,
    variables: tuple[str, ...],
    max_time: str | None,
    capture: str | None,
    report: str | None,
    frames: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Play scenarios: send, set, spoil the line, and check what comes.

    Where everything is simulated, time is virtual: minutes pass in a moment. FILE - is standard input,
    its product relative to the directory we are in. Exit status 1 when a step
    failed, 2 when a file is no scenario.
    """
    from gizserial.capture.formats import format_of
    from gizserial.errors import GizserialError
    from gizserial.io.files import atomic_writer, try_writing
    from sim.faults import seconds
    from sim.scenario import Scenario
    from sim.scenario.checks import check
    from sim.scenario.report import junit
    from sim.words import assignments

    changes: dict[str, Any] = {}
    if play is not None and port is None:
        raise click.UsageError("--play says who plays to the device at --port; name the port")
    if port is not None:
        other = {"module": "mcu_port", "mcu": "module_port"}
        changes |= {"mcu_port": None, "module_port": None, other[play or "module"]: port}
    changes |= {"baud": baud} if baud is not None else {}
    changes |= {"seed": seed} if seed is not None else {}
    changes |= {"max_time": seconds(max_time)} if max_time is not None else {}
    if capture is not None:
        format_of(capture)
        if len(files) > 1:
            raise click.UsageError("--capture takes one scenario at a time: their times begin at 0 each")
    scenarios = [Scenario.load(path).replaced(**changes) for path in files]
    given = assignments(variables)
    for scenario in scenarios:
        check(scenario, given)
    for output in (report, capture):
        if output is not None:
            try_writing(output)
    show = _Show(as_json=as_json, quiet=quiet, frames=frames)
    results: list[Result] = []
    broken: list[tuple[Scenario, str]] = []
    try:
        for scenario in scenarios:
            records: list[Record] = []
            broken = [(scenario, "it was interrupted")]
            try:
                result = _play(scenario, given, show, records if capture is not None else None)
            except GizserialError as error:
                broken = [(scenario, str(error))]
                raise
            finally:
                if capture is not None:
                    _write_capture(capture, scenario, records)
            broken.clear()
            results.append(result)
            show.ended(result)
    finally:
        if report is not None:
            with atomic_writer(report) as file:
                file.write(junit(results, broken))
    ctx.exit(FINE if all(result.passed for result in results) else FINDING)


def _play(scenario: Scenario, variables: dict[str, str], show: _Show, records: list[Record] | None) -> Result:
    from gizserial.capture.record import Record
    from sim import lifetime
    from sim.clock import run_virtual
    from sim.scenario import run_scenario

    def tap(direction: Any, data: bytes, t: float, arrived: bool) -> None:
        if records is not None and not arrived:
            records.append(Record(round(t, 6), direction, data))

    async def main() -> Result:
        return await run_scenario(
            scenario,
            variables=variables,
            on_begin=show.began,
            on_step=show.step,
            on_seen=show.seen,
            on_waiting=lambda place: echo(f"waiting for the device at {place} ...", err=True),
            tap=tap,
        )

    show.starts(scenario)
    if scenario.setup.virtual:
        return run_virtual(main())
    results: list[Result] = []

    async def real() -> int:
        results.append(await main())
        return FINE

    status = lifetime.run(real())
    if not results:
        raise click.exceptions.Exit(status)
    return results[0]


def _write_capture(path: str, scenario: Scenario, records: list[Record]) -> None:
    from gizserial.capture.formats import format_of
    from gizserial.capture.record import Meta
    from gizserial.io.files import atomic_writer

    with atomic_writer(path) as file:
        meta = Meta({"product_key": scenario.setup.product.product_key, "tool": "gizsim run"})
        writer = format_of(path).writer(file, path, meta)
        for record in records:
            writer.write(record)


class _Show:
    """What is told of a run while it runs."""

    def __init__(self, *, as_json: bool, quiet: bool, frames: bool) -> None:
        self._json, self._quiet, self._frames = as_json, quiet, frames

    def starts(self, scenario: Scenario) -> None:
        if self._json:
            self._line(
                {
                    "kind": "scenario",
                    "source": scenario.source,
                    "scenario": scenario.title,
                    "seed": scenario.setup.seed,
                    "clock": "virtual" if scenario.setup.virtual else "real",
                }
            )
        elif not self._quiet:
            echo(f"{scenario.source}: {scenario.title} (seed {scenario.setup.seed})")

    def began(self, step: Step, now: float) -> None:
        if step.kind in {"repeat", "parallel"} and not self._json and not self._quiet:
            echo(f"{now:10.3f}  line {step.place.line:<4} {step.title}")

    def step(self, result: StepResult) -> None:
        if self._json:
            self._line(result.to_json())
        elif not self._quiet and result.step.kind not in {"repeat", "parallel"}:
            how = "ok" if result.failure is None else "FAILED"
            echo(f"{result.t:10.3f}  line {result.step.place.line:<4} {how:<6} {result.step.title}")

    def seen(self, seen: Seen) -> None:
        if self._json:
            from gizserial.describe import to_json

            self._line(to_json(seen.described))
        elif self._frames and not self._quiet:
            echo(seen.line)

    def ended(self, result: Result) -> None:
        if self._json:
            self._line(result.to_json())
        elif not self._quiet or not result.passed:
            echo(result.summary)

    @staticmethod
    def _line(members: dict[str, Any]) -> None:
        from gizserial.describe import json_line

        echo(json_line(members))
