"""Options that the simulators' commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from gizserial.commands import Role
    from gizserial.io.base import Transport

_Command = TypeVar("_Command", bound=Callable[..., Any])


def quirk_options(options: Callable[[], type[Any]]) -> Callable[[_Command], _Command]:
    """``--quirk NAME=VALUE`` (given as ``quirks``) and ``--list-quirks``.

    :param options: Gives the dataclass that holds them.
    """

    def show(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
        if wanted and not ctx.resilient_parsing:
            import dataclasses

            from sim.quirks import quirks_of

            for quirk in quirks_of(options()):
                list_line(ctx, dataclasses.asdict(quirk), f"{quirk.word:<29} {quirk.meaning}".rstrip())
            ctx.exit()

    def decorate(command: _Command) -> _Command:
        command = click.option(
            "--quirk",
            "quirks",
            multiple=True,
            metavar="NAME=VALUE",
            help="Behave like some real firmware; may be given several times.",
        )(command)
        return click.option(
            "--list-quirks",
            is_flag=True,
            expose_value=False,
            callback=show,
            help="List the quirks with their defaults; with --json one object per line.",
        )(command)

    return decorate


def fault_options(command: _Command) -> _Command:
    """``--fault SPEC`` (given as ``faults``) and ``--list-faults``."""

    def show(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
        if wanted and not ctx.resilient_parsing:
            from sim.faults import KINDS

            for name, kind in KINDS.items():
                fields = {"name": name, "usage": kind.usage, "meaning": kind.help}
                list_line(ctx, fields, f"{kind.usage:<38} {kind.help}")
            if not ctx.params.get("as_json"):
                click.echo(
                    "Behind it, as needed: @module>mcu or @mcu>module, and @5s or @5s..7s (since the start)."
                )
            ctx.exit()

    command = click.option(
        "--fault",
        "faults",
        multiple=True,
        metavar="FAULT",
        help="Spoil the line, as loss:0.01, delay:20ms..50ms, 'corrupt:0.001@module>mcu' or mute:2s@5s; "
        "may be given several times.",
    )(command)
    return click.option(
        "--list-faults",
        is_flag=True,
        expose_value=False,
        callback=show,
        help="List the faults and how they are written; with --json one object per line.",
    )(command)


def list_line(ctx: click.Context, fields: dict[str, Any], text: str) -> None:
    """A line of a list. ``--json`` is eager where there is one, so it is known by now."""
    from gizserial.describe import json_line

    click.echo(json_line(fields) if ctx.params.get("as_json") else text)


def fault_seed(given: int | None) -> int:
    """The seed that was given, or a random one."""
    from random import randrange

    return randrange(1 << 32) if given is None else given  # noqa: S311 - to be told and repeated, no secret


def with_faults(
    line: Transport, faults: tuple[str, ...], seed: int | None, role: Role, *, more: tuple[str, ...] = ()
) -> Transport:
    """The line, with these faults if there are any. The seed is printed on stderr: it repeats them.

    :param more: Other faults of this seed, to be named too.
    :raises FaultError: a fault that is written wrongly.
    """
    seed, spoiled = fault_seed(seed), line
    if faults:
        from sim.faults import Faults
        from sim.faulty import FaultyTransport

        spoiled = FaultyTransport(line, Faults(faults, seed=seed), role)
    if faults or more:
        click.echo(f"faults: {', '.join((*faults, *more))}; repeat them with --seed {seed}", err=True)
    return spoiled


def live_options(command: _Command) -> _Command:
    """``--json`` and ``--quiet``, given as ``as_json`` and ``quiet``."""
    command = click.option("--quiet", is_flag=True, help="Print the ready line only.")(command)
    return click.option(
        "--json", "as_json", is_flag=True, is_eager=True, help="One JSON object per line on stdout."
    )(command)
