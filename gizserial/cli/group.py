"""What both commands share: subcommands imported when they are used, and errors as one sentence."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, cast

import click

from gizserial.errors import GizserialError

FINE: Final = 0
FINDING: Final = 1
"""The thing examined is bad."""
USAGE: Final = 2
"""Wrong usage or unreadable input."""
INTERRUPTED: Final = 130


_EXTRAS: Final = {"matplotlib": "plot", "textual": "tui", "rich": "tui", "yaml": "bench"}
"""Package → the extra of ours that brings it; all others belong to ``cloud``."""


def _extra_of(package: str | None) -> str:
    return _EXTRAS.get((package or "").partition(".")[0], "cloud")


class _ReaderGoneError(Exception):
    """Nobody reads our output any more. Not an OSError, of which click makes exit status 1."""


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they are used.

    :param commands_at: Subcommand name → ``module:attribute``.
    """

    def __init__(self, *args: Any, commands_at: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._commands_at = commands_at

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise _ReaderGoneError from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return [*self._commands_at, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module that has the command."""
        place = self._commands_at.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{place} is not a command")
        return command


debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show the traceback of an error (anywhere on the line)."
)


def run(group: click.Group, name: str, args: list[str] | None = None) -> NoReturn:
    """Run a command line and exit: 0 fine, 1 finding, 2 usage or unreadable input, 130 after Ctrl-C."""
    args = sys.argv[1:] if args is None else args
    if cast("object", sys.stdout) is None:  # closed by whoever started us: nobody wants to see anything
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - lives as long as we do
    for stream in (sys.stdout, sys.stderr):
        # Enum texts and file names are in any script, whatever the console's code page.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    debug = "--debug" in args
    args = [word for word in args if word != "--debug"]  # wherever it stands
    color = False if os.environ.get("NO_COLOR") else None
    try:
        status = group.main(args=args, prog_name=name, standalone_mode=False, color=color)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        status = stop.exit_code
    except click.Abort:
        status = INTERRUPTED
    except KeyboardInterrupt:
        status = INTERRUPTED
    except click.ClickException as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            click.echo(error.format_message(), err=True)
            sys.exit(USAGE)
        context = error.ctx if isinstance(error, click.UsageError) else None
        path = context.command_path if context is not None else name
        hint = f" (see: {path} --help)" if context is not None else ""
        click.echo(f"{path}: {error.format_message().removesuffix('.')}{hint}", err=True)
        status = USAGE
    except GizserialError as error:
        if debug:
            traceback.print_exc()
        click.echo(f"{name}: {error}", err=True)
        status = USAGE
    except (BrokenPipeError, _ReaderGoneError):
        # The reader of our output has seen enough (head, less). Nothing may be written at exit either.
        sys.stdout = None
        status = FINE
    except ModuleNotFoundError as error:
        if debug:
            traceback.print_exc()
        click.echo(
            f"{name}: this needs the package {error.name}, which is not installed; "
            f"run: python -m pip install 'gizserial[{_extra_of(error.name)}]'",
            err=True,
        )
        status = USAGE
    except OSError as error:
        if debug:
            traceback.print_exc()
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"{name}: {where}{error.strerror or error}", err=True)
        status = USAGE
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback reaches a user
        if debug:
            traceback.print_exc()
        what = f"{type(error).__name__}: {error}"
        click.echo(f"{name}: internal error, {what}; run it again with --debug and report it", err=True)
        status = USAGE
    sys.exit(status if isinstance(status, int) else FINE)
