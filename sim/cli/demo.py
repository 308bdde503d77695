"""``gizsim demo``: everything at once."""

from __future__ import annotations

import click

from gizserial.cli.output import echo
from sim.cli.options import live_options


@click.command(epilog="\b\nExamples:\n  gizsim demo\n  gizsim demo --once")
@click.option("--once", is_flag=True, help="One control and one report, the round trip, and the end.")
@live_options
@click.pass_context
def demo(ctx: click.Context, *, once: bool, as_json: bool, quiet: bool) -> None:
    """Put a fake device into an embedded cloud and show what happens.

    A cloud, a module and an MCU (a pet house) start, joined by a virtual serial port. What crosses the serial
    line and the cloud is printed, decoded, and how to talk to the device.
    """
    from gizserial.io.products import load_product
    from sim import lifetime
    from sim.demo import MOVES, demo_product, how_to_look, running
    from sim.module import module_show
    from sim.module_commands import commands
    from sim.prompt import Prompt

    show = module_show(load_product(demo_product()), as_json=as_json, quiet=quiet)

    async def main() -> int:
        async with running(show, moves=() if once else MOVES) as parts:
            await parts.online()
            now = parts.module.driver.now
            for line in how_to_look(parts) if not once else ():
                show.said(now(), line)
            if not once:
                await Prompt(commands(parts.module), show).run()
                return 0
            await parts.settled()
            control = await parts.control("LED_R", 200)
            report = await parts.report("Infrared", True)
            if as_json:
                show.said(
                    now(), "done", control_ms=round(control * 1000, 3), report_ms=round(report * 1000, 3)
                )
            else:
                echo(
                    f"round trip: control → MCU → report in the cloud {control * 1000:.1f} ms; "
                    f"report MCU → cloud {report * 1000:.1f} ms"
                )
            return 0

    ctx.exit(lifetime.run(main()))
