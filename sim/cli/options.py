"""Options that the simulators' commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def quirk_options(options: Callable[[], type[Any]]) -> Callable[[_Command], _Command]:
    """``--quirk NAME=VALUE`` (given as ``quirks``) and ``--list-quirks``.

    :param options: Gives the dataclass that holds them.
    """

    def show(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
        if wanted and not ctx.resilient_parsing:
            from sim.quirks import names

            click.echo("\n".join(names(options())))
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
            is_eager=True,
            expose_value=False,
            callback=show,
            help="List the quirks with their defaults.",
        )(command)

    return decorate


def live_options(command: _Command) -> _Command:
    """``--json`` and ``--quiet``, given as ``as_json`` and ``quiet``."""
    command = click.option("--quiet", is_flag=True, help="Print the ready line only.")(command)
    return click.option("--json", "as_json", is_flag=True, help="One JSON object per line on stdout.")(
        command
    )
