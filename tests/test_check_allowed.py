"""What the specification allows, or the vendor's generated code does, is never told as broken rules."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from support_check import BYTE_TIME, Finger, product
from support_sdk import sdk_mcu

from gizserial.commands import Command
from gizserial.datapoints import Raw
from gizserial.events import Event
from gizserial.framing import Frame
from gizserial.io.driver import Driver
from gizserial.io.memory import MemoryLink
from gizserial.io.memory_transport import MemoryTransport
from gizserial.mcu import McuRole
from gizserial.mcu_options import McuOptions
from gizserial.mcu_reports import is_slow
from gizserial.product import Product
from sim.clock import LoopClock, run_virtual
from sim.conformance.bench import Bench
from sim.conformance.cases import CASES, named
from sim.conformance.line import BenchLine
from sim.conformance.model import Case, RunResult, Setting, Severity, Verdict
from sim.conformance.runner import run_cases
from sim.mcu_defects.hooks import OnRaw, controlling, is_ack, is_report
from sim.mcu_defects.machine import DefectiveMcu
from sim.mcu_defects.model import Fault, Out, row

Move = Callable[[McuRole, int, float], None]


@contextlib.asynccontextmanager
async def moving(role: McuRole, driver: Driver[Event], seconds: float, move: Move) -> AsyncIterator[None]:
    async def go() -> None:
        count = 0
        while True:
            await asyncio.sleep(seconds)
            count += 1
            move(role, count, driver.now())
            driver.wake()

    task = asyncio.create_task(go())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def judged(
    of: Product,
    machine: DefectiveMcu,
    *,
    move: tuple[float, Move] | None = None,
    cases: tuple[Case, ...] = CASES,
    byte_time: float = BYTE_TIME,
) -> RunResult:
    async def main() -> RunResult:
        ours, theirs = MemoryTransport.pair(MemoryLink(byte_time=byte_time))
        async with contextlib.AsyncExitStack() as stack:
            driver = await stack.enter_async_context(Driver(machine, theirs, clock=LoopClock()))
            if move is not None:
                await stack.enter_async_context(moving(machine.role, driver, *move))
            line = BenchLine(ours, byte_time=byte_time)
            await line.open()
            stack.push_async_callback(line.close)
            setting = Setting(product=of, person=True)
            return await run_cases(Bench(line, setting, person=Finger(driver, machine.role)), cases)

    return run_virtual(main())


def mcu(of: Product, *faults: Callable[[], Fault], **options: Any) -> DefectiveMcu:
    role = McuRole(of, McuOptions(byte_time=BYTE_TIME, **options))
    return DefectiveMcu(role, [row(f"habit-{n}", "", "", "", fault) for n, fault in enumerate(faults)])


def failed(run: RunResult) -> dict[str, Severity]:
    assert not run.restored
    assert not run.stopped
    assert not run.of(Verdict.BROKEN)
    return {result.case.id: result.case.severity for result in run.of(Verdict.FAILED)}


# --- the vendor's generated code

SDK_FIXED = {
    "ack.flags": Severity.MAY,
    "control.number-out-of-range": Severity.SHOULD,
    "control.report-unchanged": Severity.SHOULD,
    "resend.number-checked": Severity.MAY,
}
SDK_VARIABLE = SDK_FIXED | {"read.all": Severity.MAY, "read.exact": Severity.MAY}
"""Padded answers, and the flags of a read copied into its answer."""


@pytest.mark.parametrize(("name", "expected"), [("greenhouse", SDK_FIXED), ("greenhouse-var", SDK_VARIABLE)])
def test_generated_code_breaks_no_must(name: str, expected: dict[str, Severity]) -> None:
    of = product(name)
    machine, receiver = sdk_mcu(of, BYTE_TIME)
    assert failed(judged(of, machine)) == expected
    # Its buffer has no check: without --large the bench never sends more than fits.
    assert receiver.longest <= of.status_size + of.flag_bytes + 20


def test_one_product_of_the_vendor_repeats_after_five_seconds() -> None:
    of = product("pet-house")
    run = judged(of, mcu(of, ack_wait=5.0, tries=4), cases=tuple(named(("resend", "report.storm"))))
    assert failed(run) == {"resend.interval": Severity.SHOULD}


# --- devices that live


def sensors(role: McuRole, count: int, now: float) -> None:
    for point in role.product.points:
        if is_slow(point) and point.scale is not None:
            span = point.scale.raw_max - point.scale.raw_min + 1
            role.set_raw(point.name, point.scale.raw_min + 3 * count % span, now=now)


def alarm(role: McuRole, count: int, now: float) -> None:
    name = next(p.name for p in role.product.points if not p.writable and p.width == 1)
    role.set_raw(name, count % 2, now=now)


@pytest.mark.parametrize("name", ["pet-house", "greenhouse-var"])
@pytest.mark.parametrize(("seconds", "move"), [(0.7, sensors), (3.3, alarm)])
def test_values_that_move_by_themselves(name: str, seconds: float, move: Move) -> None:
    of = product(name)
    assert failed(judged(of, mcu(of), move=(seconds, move))) == {}


class Slow(Fault):
    """Everything takes its time: an ack 150 ms, a report one second."""

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        return [Out(frame, 0.15 if is_ack(frame) else 1.0 if is_report(frame) else 0.0)]


class BootText(Fault):
    """A boot loader speaks before the first frame, and after a restart."""

    def __init__(self) -> None:
        self._speaks = True

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        text = [Out(b"\r\nets Jan  8 2013,rst cause:2\r\n\xff\xff\x00")] if self._speaks else []
        self._speaks = frame.command == Command.RESTART_MCU + 1
        return [*text, Out(frame)]


def test_a_slow_device() -> None:
    of = product("pet-house")
    run = judged(of, mcu(of, Slow, ack_wait=1.3))
    # The first copy of a report is a second late, and so is each one behind it.
    assert failed(run) == {}


def test_a_boot_loader_that_speaks() -> None:
    of = product("pet-house")
    cases = tuple(named(("info", "restart", "framing.all-good")))
    assert failed(judged(of, mcu(of, BootText), cases=cases)) == {}


def test_versions_that_are_filled_with_blanks() -> None:
    """§4.1: any eight characters."""
    of = product("pet-house")
    machine = mcu(of, hard_ver="V1.0    ", info_variant="D", data={"cfgMode": "1", "apName0": "John"})
    assert failed(judged(of, machine, cases=tuple(named(("info",))))) == {}


def _preset_sets_colours(_mcu: DefectiveMcu, raw: dict[str, Raw]) -> dict[str, Raw]:
    return raw | {"LED_R": 254, "LED_G": 70, "LED_B": 3} if raw.get("LED_Color") else raw


def _colour_ends_preset(_mcu: DefectiveMcu, raw: dict[str, Raw]) -> dict[str, Raw]:
    return raw | {"LED_Color": 0} if raw.keys() & {"LED_R", "LED_G", "LED_B"} else raw


@pytest.mark.parametrize(
    ("change", "moves"),
    [
        (_preset_sets_colours, {"LED_Color moves"}),
        (_colour_ends_preset, {"LED_R moves", "LED_G moves", "LED_B moves"}),
    ],
)
def test_points_that_the_product_links_are_found_out_and_not_taken_for_lost(
    change: OnRaw, moves: set[str]
) -> None:
    of = product("pet-house")
    run = judged(of, mcu(of, controlling(change)))
    assert failed(run) == {}
    assert moves <= run.facts.keys()
