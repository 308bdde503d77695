"""``--from-capture FILE``: be a peer that was recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from gizserial.mcu_options import McuOptions
    from gizserial.module_options import ModuleOptions
    from gizserial.product import Product
    from sim.clone import Finding, McuClone, ModuleClone

_Command = TypeVar("_Command", bound=Callable[..., Any])


def capture_option(peer: str, what: str) -> Callable[[_Command], _Command]:
    """The option, given to the command as ``recorded``."""
    return click.option(
        "--from-capture",
        "recorded",
        metavar="FILE",
        help=f"Be the {peer} that was recorded in FILE: {what}. Other options win.",
    )


def cloned_mcu(path: str | None, product: Product, base: McuOptions, *, quiet: bool) -> McuClone:
    """The recorded MCU; without a capture one that is as ``base`` says."""
    from sim.clone import McuClone, clone_mcu

    if path is None:
        return McuClone(base)
    from gizserial.io.files import open_capture

    with open_capture(path) as capture:
        clone = clone_mcu(capture.records(), product, base)
    _show(path, clone.findings, quiet=quiet)
    return clone


def cloned_module(path: str | None, base: ModuleOptions, *, quiet: bool) -> ModuleClone:
    """The recorded module; without a capture one that is as ``base`` says."""
    from sim.clone import ModuleClone, clone_module

    if path is None:
        return ModuleClone(base)
    from gizserial.io.files import open_capture

    with open_capture(path) as capture:
        clone = clone_module(capture.records(), base)
    _show(path, clone.findings, quiet=quiet)
    return clone


def _show(path: str, findings: Iterable[Finding], *, quiet: bool) -> None:
    """What was found goes beside the output, which is for what happens."""
    for finding in () if quiet else findings:
        click.echo(f"from {path}: {finding}", err=True)
