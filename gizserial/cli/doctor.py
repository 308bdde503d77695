"""``gizserial doctor``: what is wrong with a line, in one sentence."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import click

from gizserial.cli.group import FINDING
from gizserial.cli.output import echo
from gizserial.cli.params import json_option, product_option

if TYPE_CHECKING:
    from gizserial.commands import Role
    from gizserial.diagnosis.examination import Exchange, Plan
    from gizserial.diagnosis.verdict import Diagnosis
    from gizserial.product import Product

RATES: Final = (9600, 115200, 57600, 38400, 19200, 4800, 74880, 2400, 230400, 14400, 28800, 1200)
"""Rates that are tried on a real port: the protocol's, those of module builds, debug ports, and others."""
RESTORE: Final = 5.0
"""Seconds that putting values back may take after Ctrl-C."""
LISTEN: Final = 10.0
"""Seconds that --listen lasts."""
_BETWEEN: Final = 0.05
"""Seconds without a byte that part two bursts of a capture."""
_VIRTUAL: Final = re.compile(r"/dev/(pts/|ttys\d)")


@click.command(
    epilog="\b\nExamples:\n"
    "  gizserial doctor /dev/ttyUSB0\n"
    "  gizserial doctor /dev/ttyUSB0 -p pet-house.json --json\n"
    "  gizserial doctor capture.jsonl"
)
@click.argument("port", metavar="PORT|FILE")
@product_option()
@click.option(
    "--baud",
    type=click.IntRange(min=1),
    default=9600,
    show_default=True,
    metavar="N",
    help="Rate to begin with.",
)
@json_option
@click.option(
    "--as",
    "part",
    type=click.Choice(["module", "mcu"]),
    default="module",
    show_default=True,
    help="Which part we play; the other end is the other one.",
)
@click.option("--listen", is_flag=True, help="Send nothing: listen for 10 seconds.")
@click.pass_context
def doctor(
    ctx: click.Context,
    port: str,
    product: Product | None,
    baud: int,
    *,
    as_json: bool,
    part: str,
    listen: bool,
) -> None:
    """Say in one sentence what is wrong with the line at PORT, with the bytes that show it.

    It plays the module, asks the MCU who it is and looks at the answers; on a real port it also tries the
    usual baud rates. With -p some writable data points are controlled, to see the byte order, and put back.
    A capture FILE is looked at in the same way. The exit status is 1 when something is wrong, 2 when the port
    cannot be opened.
    """
    from gizserial.commands import Role

    role = Role(part)
    if _is_capture(port):
        diagnosis, where = _of_file(port, role, product), port
    else:
        import asyncio

        diagnosis, baud = asyncio.run(_of_port(port, role, product, baud, listen=listen, as_json=as_json))
        where = (
            f"{port} at {baud} baud" if not _is_virtual(port) else f"{port} (a virtual port: no baud rate)"
        )
    echo(_json(diagnosis, where) if as_json else _text(diagnosis, where))
    if not diagnosis.healthy:
        ctx.exit(FINDING)


def _is_capture(port: str) -> bool:
    from gizserial.capture.formats import SUFFIXES

    try:
        return Path(port).suffix.lower() in SUFFIXES and Path(port).is_file()
    except (OSError, ValueError):
        return False


def _is_virtual(port: str) -> bool:
    """Whether the baud rate means nothing there."""
    scheme, colon, _rest = port.partition(":")
    if colon and len(scheme) > 1:
        return scheme != "rfc2217"
    try:
        return bool(_VIRTUAL.match(str(Path(port).resolve())))
    except (OSError, ValueError, RuntimeError):
        return False


def _of_file(path: str, role: Role, product: Product | None) -> Diagnosis:
    """A capture: what the peer sent, burst by burst."""
    from gizserial.diagnosis.examination import MOST, Exchange, Probe
    from gizserial.diagnosis.verdict import diagnose
    from gizserial.io.files import open_capture

    bursts: list[bytearray] = []
    size, last, mixed = 0, None, False
    with open_capture(path) as capture:
        for record in capture.records():
            if record.direction not in {None, role.peer.direction}:
                continue
            gap = 0.0 if record.t is None or last is None else record.t - last
            if not bursts or gap >= _BETWEEN:
                bursts.append(bytearray())
            last, mixed = record.t, mixed or record.direction is None
            bursts[-1] += record.data
            size += len(record.data)
            if size > 8 * MOST:
                break
    data = b"".join(bursts)
    exchange = Exchange(Probe(), data, bursts=tuple(map(bytes, bursts)))
    return diagnose([exchange], role, product, mixed=mixed)


Examine: TypeAlias = "Callable[[int, Plan[Diagnosis]], Awaitable[Diagnosis]]"
"""Carries out a plan at a baud rate."""


async def _of_port(
    port: str, role: Role, product: Product | None, baud: int, *, listen: bool, as_json: bool
) -> tuple[Diagnosis, int]:
    from gizserial.diagnosis.plans import full_plan, listen_plan

    async def on(rate: int, plan: Plan[Diagnosis]) -> Diagnosis:
        return await _examine(port, plan, role, rate, acks=not listen)

    def told(rate: int) -> None:
        if not as_json:
            echo(f"no frame yet, trying {rate} baud", err=True)

    if listen:
        return await on(baud, listen_plan(role, LISTEN)), baud
    if _is_virtual(port):
        return await on(baud, full_plan(role, product)), baud
    return await search_rates(on, role, product, baud, told=told)


async def search_rates(
    on: Examine, role: Role, product: Product | None, baud: int, *, told: Callable[[int], None]
) -> tuple[Diagnosis, int]:
    """Examine at one rate, and at the usual ones when it shows no frame; gives the rate that showed most.

    :param told: Called before each other rate.
    """
    from gizserial.diagnosis.plans import dialect_plan, full_plan, plain_plan, rate_plan
    from gizserial.diagnosis.verdict import at_other_rate, nowhere

    first = await on(baud, plain_plan(role, product))
    if not first.may_be_rate:
        return (await on(baud, dialect_plan(role, first)) if first.may_be_dialect else first), baud
    tried = [baud]
    for rate in RATES:
        if rate in tried:
            continue
        told(rate)
        tried.append(rate)
        other = await on(rate, rate_plan(role))
        if other.received and not other.may_be_rate:
            return at_other_rate(first, await on(rate, full_plan(role, product)), baud, rate), rate
    last = await on(baud, dialect_plan(role, first)) if first.may_be_dialect else first
    return nowhere(last, tried), baud


async def _examine(
    port: str, plan: Plan[Diagnosis], role: Role, baud: int, *, acks: bool = True
) -> Diagnosis:
    import asyncio

    from gizserial.diagnosis.examination import Examination, Finished
    from gizserial.errors import TransportError
    from gizserial.io.base import LineEvent, Lost
    from gizserial.io.driver import Driver
    from gizserial.io.ports import open_port

    byte_time = 0.0 if _is_virtual(port) else 10 / baud
    machine = Examination(plan, role, byte_time=byte_time, acks=acks)
    transport = open_port(port, baud=baud)
    lost = ""

    def on_line(event: LineEvent) -> None:
        nonlocal lost
        if isinstance(event, Lost):
            lost = event.reason
            driver.stop()

    def on_event(event: Exchange | Finished[Diagnosis]) -> None:
        if isinstance(event, Finished):
            driver.stop()

    driver: Driver[Exchange | Finished[Diagnosis]] = Driver(
        machine, transport, on_event=on_event, on_line=on_line
    )
    async with driver:
        if transport.other_end and not transport.connected:
            echo(f"waiting for a peer at {transport.other_end}", err=True)
        try:
            await driver.wait()
        except asyncio.CancelledError:
            if machine.interrupt(now=driver.now()):
                driver.wake()
                await asyncio.wait({asyncio.ensure_future(driver.wait())}, timeout=RESTORE)
            raise
    if machine.finished is None:
        raise TransportError(f"{port}: the line went down during the examination: {lost}")
    return machine.finished.result


def _text(diagnosis: Diagnosis, where: str) -> str:
    lines = [f"{where}", f"Verdict: {diagnosis.sentence}"]
    for fault in diagnosis.faults:
        if len(diagnosis.faults) > 1:
            lines += ["", fault.sentence]
        lines += [f"  seen: {text}" for text in fault.evidence]
        lines.append(f"  do:   {fault.remedy}")
    return "\n".join(lines)


def _json(diagnosis: Diagnosis, where: str) -> str:
    from gizserial.describe import json_line

    rows: list[dict[str, object]] = [
        {
            "kind": "fault",
            "code": fault.code,
            "sentence": fault.sentence,
            "evidence": list(fault.evidence),
            "remedy": fault.remedy,
        }
        for fault in diagnosis.faults
    ]
    verdict: dict[str, object] = {
        "kind": "verdict",
        "where": where,
        "healthy": diagnosis.healthy,
        "sentence": diagnosis.sentence,
        "codes": [fault.code for fault in diagnosis.faults],
        "frames": diagnosis.frames,
        "questions": diagnosis.questions,
        "answered": diagnosis.answered,
    }
    return "\n".join(json_line(row) for row in [*rows, verdict])
