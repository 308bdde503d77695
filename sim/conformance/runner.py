"""Runs cases one after the other, puts the values back, and keeps what was seen."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from gizserial import schemas
from gizserial.commands import Command
from gizserial.datapoints import Raw
from gizserial.errors import BodyError
from gizserial.framing import BadFrame
from sim.conformance.bench import Bench
from sim.conformance.exchanges import CONNECTED
from sim.conformance.model import (
    Case,
    CaseFailedError,
    CaseResult,
    CaseSkippedError,
    Entry,
    LineLostError,
    RunResult,
    Verdict,
)
from sim.conformance.thresholds import RESTART_PATIENCE

_INFO: Final = Command.DEVICE_INFO + 1
CASE_LIMIT: Final = 900.0
"""Seconds after which a case is broken: longer than the longest wait, which is that for the full report."""

INTERRUPTED: Final = "it was interrupted"
_BEATS: Final = 4
_PATIENCE_AT_END: Final = 5.0
"""Seconds in which an interrupted run puts values back."""

Progress = Callable[[int, int, Case, CaseResult | None], None]
"""Told before (result None) and after each case: its number, how many there are, the case."""


async def run_cases(
    bench: Bench,
    cases: Sequence[Case],
    *,
    progress: Progress | None = None,
    skipped: Iterable[str] = (),
    cut_short: Callable[[RunResult], None] | None = None,
    waiting: Callable[[str], None] | None = None,
) -> RunResult:
    """Run the cases against the MCU on the bench's line, which is open.

    The device's values are read before and put back afterwards. If nothing at all comes from it, the run ends
    after the first case. If it is cancelled, the values are put back before the cancellation goes on.

    :param progress: Told before and after each case.
    :param skipped: Ids that the user does not want.
    :param waiting: Told what is waited for, if the MCU does not answer at once.
    :param cut_short: Told what there is of a run that is cancelled.
    """
    run = _Run(bench, progress, len(cases), waiting)
    unwanted = frozenset(skipped)
    try:
        await run.begin(alone=all(case.observes for case in cases))
        for number, case in enumerate(cases, 1):
            await run.case(number, case, unwanted=case.id in unwanted)
    except asyncio.CancelledError:
        await run.interrupted()
        if cut_short is not None:
            cut_short(run.end())
        raise
    return run.end()


class _Run:
    def __init__(
        self, bench: Bench, progress: Progress | None, count: int, waiting: Callable[[str], None] | None
    ) -> None:
        self._waiting = waiting
        self._bench = bench
        self._progress = progress
        self._count = count
        self._results: list[CaseResult] = []
        self._found: dict[str, Raw] = {}
        self._stopped = ""
        self._restored = ""
        self._facts: dict[str, str] = {}
        self._silent = False

    async def begin(self, *, alone: bool) -> None:
        """Meet the MCU and learn its values.

        :param alone: Only cases that look on are run: give them something to look at.
        """
        bench = self._bench
        try:
            await bench.line.listen(0.05)
            ack = await self._met("the MCU does not answer yet", Command.DEVICE_INFO)
            self._know(ack.frame.payload if ack.frame is not None else b"")
            await bench.push_status(CONNECTED)
            await bench.settle()
            await bench.first_values()
            self._found = dict(bench.values)
            if alone:
                await self._traffic()
        except CaseFailedError as failed:
            self._facts["handshake"] = failed.finding.text
            self._silent = not _answers(bench.line.entries)
        except LineLostError as lost:
            self._stopped = f"the line cannot be used any more: {lost}"

    async def _traffic(self) -> None:
        """What a module says in an hour, for cases that only look on."""
        bench = self._bench
        for _ in range(_BEATS):
            await bench.exchange(bench.command(Command.HEARTBEAT))
            await bench.push_status(CONNECTED)
            await bench.change()
        await self._tidy()

    async def _met(self, silence: str, *commands: Command) -> Entry:
        """An answer to one of the commands, for which a board that restarts has some time.

        Some restart when their port is opened.

        :param silence: What is told when it does not come at once.
        :raises CaseFailedError: it never came.
        """
        told = False
        asked = itertools.cycle(commands)
        deadline = self._bench.line.now() + RESTART_PATIENCE
        while True:
            try:
                return await self._bench.exchange(self._bench.command(next(asked)))
            except CaseFailedError:
                if self._bench.line.now() >= deadline:
                    raise
                if self._waiting is not None and not told:
                    self._waiting(f"{silence}: waiting up to {RESTART_PATIENCE:g} s ...")
                told = True

    def _know(self, payload: bytes) -> None:
        try:
            fields = schemas.DEVICE_INFO.parse(payload)
        except BodyError:
            return
        self._facts |= {
            "hardware": str(fields["hard_ver"]),
            "software": str(fields["soft_ver"]),
            "product key": f"{str(fields['product_key'])[:8]}…",
        }

    async def case(self, number: int, case: Case, *, unwanted: bool) -> None:
        """Run one case."""
        if self._stopped:
            return
        if self._progress is not None:
            self._progress(number, self._count, case, None)
        reason = "not wanted (--skip)" if unwanted else self._missing(case)
        if reason:
            result = CaseResult(
                case=case, verdict=Verdict.SKIPPED, reason=reason, began=self._bench.line.now()
            )
        else:
            result = await self._carried_out(case)
        self._results.append(result)
        if self._progress is not None:
            self._progress(number, self._count, case, result)

    def _missing(self, case: Case) -> str:
        return next((text for need in case.needs if (text := need.missing(self._bench.setting))), "")

    async def _carried_out(self, case: Case) -> CaseResult:
        bench = self._bench
        bench.findings = []
        mark, began = bench.line.mark(), bench.line.now()
        verdict, reason = Verdict.PASSED, ""
        try:
            if not case.observes:
                await bench.settle()
            async with asyncio.timeout(CASE_LIMIT):
                await case.run(bench)
        except CaseFailedError as failed:
            bench.findings.append(failed.finding)
        except CaseSkippedError as skip:
            verdict, reason = Verdict.SKIPPED, str(skip)
        except LineLostError as lost:
            verdict, reason = Verdict.BROKEN, f"the line cannot be used any more: {lost}"
            self._stopped = reason
        except TimeoutError:
            verdict, reason = Verdict.BROKEN, f"it did not end within {CASE_LIMIT:g} s"
        except Exception as error:  # noqa: BLE001 - a fault of ours costs its case, and not the run
            verdict, reason = Verdict.BROKEN, f"a fault of this program, please report it: {error!r}"
        if bench.findings:
            verdict = Verdict.FAILED
        ended = bench.line.now()
        entries = tuple(bench.line.entries[mark:])
        result = CaseResult(
            case=case,
            verdict=verdict,
            findings=tuple(bench.findings),
            reason=reason,
            began=began,
            seconds=ended - began,
            entries=entries,
        )
        if self._silent and not self._stopped:
            self._stopped = _no_mcu(bench.line.entries)
        if verdict in {Verdict.FAILED, Verdict.BROKEN} and not case.observes and not self._stopped:
            await self._require_life(case, entries)
        if not case.observes and not self._stopped:
            await self._tidy()
        return result

    async def _require_life(self, case: Case, entries: Sequence[Entry]) -> None:
        """End the run when the MCU has fallen silent: every case that follows would say so again."""
        received = [entry for entry in self._bench.line.entries if entry.direction == "received"]
        if not entries or any(entry.direction == "received" and entry.framed for entry in entries):
            return
        last = max((entry.time for entry in received if entry.framed), default=0.0)
        during = next((r.case.id for r in reversed(self._results) if r.began <= last), "the handshake")
        try:
            await self._met("the MCU does not answer any more", Command.HEARTBEAT, Command.DEVICE_INFO)
        except CaseFailedError:
            self._stopped = (
                f"the MCU fell silent: its last frame came {last:.1f} s after the start, in {during}, and"
                f" none in {case.id}; switch it off and on, and look with --only and --skip for the case that"
                " does it"
            )
        except LineLostError as lost:
            self._stopped = f"the line cannot be used any more: {lost}"

    async def _tidy(self) -> None:
        """The values as they were found, so that the next case and the user find them so."""
        try:
            await self._bench.settle()
            if self._found:
                self._restored = await self._bench.put_back(self._found)
        except LineLostError as lost:
            self._stopped = f"the line cannot be used any more: {lost}"

    async def interrupted(self) -> None:
        """Ctrl-C in the middle of a case: the values are put back all the same, if that goes quickly."""
        self._stopped = self._stopped or INTERRUPTED
        with contextlib.suppress(TimeoutError, LineLostError):
            async with asyncio.timeout(_PATIENCE_AT_END):
                await self._tidy()

    def end(self) -> RunResult:
        """Everything that was found out."""
        bench = self._bench
        for name, moved in bench.links.items():
            self._facts[f"{name} moves"] = ", ".join(sorted(moved))
        return RunResult(
            product=bench.product,
            results=tuple(self._results),
            seconds=bench.line.now(),
            facts=self._facts,
            restored=self._restored,
            stopped=self._stopped,
        )


def _answers(entries: Sequence[Entry]) -> bool:
    """Whether somebody is there: a frame that is no echo, or an answer to 01 with a wrong checksum."""
    sent = [entry.frame for entry in entries if entry.direction == "sent"]
    return any(
        entry.frame not in sent
        if entry.frame is not None
        else isinstance(entry.item, BadFrame) and entry.framed and entry.item.command == _INFO
        for entry in entries
        if entry.direction == "received"
    )


def _no_mcu(entries: Sequence[Entry]) -> str:
    """Why there is nobody to judge, and what to do."""
    received = [entry for entry in entries if entry.direction == "received"]
    size = sum(len(entry.wire) for entry in received)
    if any(entry.frame is not None for entry in received):
        return "only what was sent came back: TX and RX of the port are joined, and no MCU answers"
    came = f"only {size} bytes that are no frames" if size else "nothing"
    return (
        f"{came} came from the MCU; check its power, that its TX goes to our RX and ours to its, the ground,"
        " and --baud; `gizserial doctor` looks for the cause"
    )
