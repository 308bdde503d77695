"""Reports that nobody acks, and their repetitions: what the cases about resending watch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gizserial.commands import Command
from sim.conformance.bench import Bench
from sim.conformance.model import CaseSkippedError, Entry
from sim.conformance.thresholds import (
    MODULE_TRIES,
    REPORT,
    RESEND_END,
    RESEND_LATEST,
    RESEND_PATIENCE,
    TRANSMISSIONS,
)

_TURNS = 3
_MANY = 20
"""Reports among which copies are looked for; where more come, another case has its finding."""


async def report_for(bench: Bench, since: int) -> None:
    """Have the MCU send a report, by a control."""
    point = bench.point
    await bench.control(bench.others(point))
    await bench.line.until(lambda: bench.line.frames(since, Command.P0_FROM_MCU), bench.patience(REPORT))
    if not bench.line.frames(since, Command.P0_FROM_MCU):
        raise bench.fail(
            "no report followed a control, so no repetition can be seen", expected="a report", got="nothing"
        )


async def unacked(bench: Bench) -> list[Entry]:
    """All transmissions of one report that nobody acks.

    Another report may take its place, as in generated code: then it is tried again.
    """
    sent: list[Entry] = []
    for _ in range(_TURNS):
        await bench.settle()
        since = bench.line.mark()
        with bench.line.withhold(Command.P0_FROM_MCU):
            await report_for(bench, since)
            sent = await watched(bench, since)
        if len(sent) > 1 or len(bench.line.frames(since, Command.P0_FROM_MCU)) == len(sent):
            break
    return sent


async def watched(bench: Bench, since: int) -> list[Entry]:
    """Watch the first report after the mark until no copy of it comes any more."""
    first = bench.line.frames(since, Command.P0_FROM_MCU)[0].frame

    def copies() -> list[Entry]:
        found = bench.line.frames(since, Command.P0_FROM_MCU)
        return [e for e in found if e.frame is not None and first is not None and e.frame.sn == first.sn]

    def news() -> bool:
        return len(bench.line.frames(since, Command.P0_FROM_MCU)) > known

    wait = bench.patience(RESEND_PATIENCE)
    while len(sent := copies()) <= TRANSMISSIONS:
        known = len(bench.line.frames(since, Command.P0_FROM_MCU))
        if known > _MANY or not await bench.line.until(news, wait):
            break
        if len(both := copies()) > 1:
            interval = both[-1].began - both[-2].time
            wait = bench.patience(max(RESEND_LATEST, RESEND_END * interval))
    return sent


def copies_of(bench: Bench, since: int) -> list[Entry]:
    """The first report after the mark and its repetitions."""
    found = bench.line.frames(since, Command.P0_FROM_MCU)
    return [entry for entry in found if entry.frame == found[0].frame]


async def copied(bench: Bench, since: int, count: int, within: float) -> bool:
    """Wait until the first report after the mark was sent so often in all; gives whether it was."""
    return await bench.line.until(lambda: len(copies_of(bench, since)) >= count, within)


async def usual_wait(bench: Bench) -> tuple[float, int]:
    """How long to wait for a repetition of this MCU, and how often it sends a report in all.

    :raises CaseSkippedError: it repeats nothing.
    """
    sent = await unacked(bench)
    if len(sent) < 2:
        raise CaseSkippedError("it is not sent again at all: resend.repeats has that")
    wait = bench.patience(max(RESEND_LATEST, RESEND_END * (sent[1].began - sent[0].time)))
    return wait, min(len(sent), MODULE_TRIES)


async def repeated_after(
    bench: Bench, wait: float, meanwhile: Callable[[Entry], Awaitable[object]], what: str
) -> None:
    """Require that a report is repeated although something else happens first."""
    await bench.settle()
    since = bench.line.mark()
    with bench.line.withhold(Command.P0_FROM_MCU):
        await report_for(bench, since)
        await meanwhile(bench.line.frames(since, Command.P0_FROM_MCU)[0])
        repeated = await copied(bench, since, 2, wait)
        bench.line.ack(copies_of(bench, since)[-1])
    if not repeated:
        raise bench.fail(
            f"{what} ended the repetitions of a report",
            expected="the report again, byte by byte",
            got=bench.line.received(since),
        )
