"""What tests of the conformance suite share: a bench and a simulated MCU, in memory and virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from gizserial.events import Event
from gizserial.io.driver import Driver
from gizserial.io.memory import MemoryLink
from gizserial.io.memory_transport import MemoryTransport
from gizserial.io.products import load_product
from gizserial.mcu import McuRole
from gizserial.mcu_options import McuOptions
from gizserial.product import Product
from sim.clock import LoopClock, run_virtual
from sim.conformance.bench import Bench, Press
from sim.conformance.cases import CASES
from sim.conformance.line import BenchLine
from sim.conformance.model import Case, RunResult, Setting
from sim.conformance.runner import Progress, run_cases
from sim.mcu_defects import chosen, options_with
from sim.mcu_defects.machine import DefectiveMcu

PRODUCTS = Path(__file__).resolve().parent.parent / "fixtures" / "products"
BYTE_TIME = 10 / 9600


def product(name: str) -> Product:
    return load_product(PRODUCTS / f"{name}.json")


class Finger:
    """Presses the buttons of a simulated MCU."""

    def __init__(self, driver: Driver[Event], role: McuRole) -> None:
        self.driver, self.role = driver, role

    async def press(self, what: Press) -> bool:
        now, role = self.driver.now(), self.role
        if what is Press.SOFT_AP:
            role.provision(1, now=now)
        elif what is Press.AIRLINK:
            role.provision(2, now=now)
        elif what is Press.RESET:
            role.reset_module(now=now)
        else:
            changing = [point for point in role.product.points if point.width == 1]
            for point in changing[:1]:
                role.set_raw(point.name, 1 - int(role.raw[point.name]), now=now)
            return bool(changing)
        self.driver.wake()
        return True


@contextlib.asynccontextmanager
async def benched(
    of: Product,
    defects: Sequence[str] = (),
    *,
    slow: bool = False,
    large: bool = True,
    person: bool = True,
    byte_time: float = BYTE_TIME,
) -> AsyncIterator[Bench]:
    """A bench whose line ends in a simulated MCU."""
    ours, theirs = MemoryTransport.pair(MemoryLink(byte_time=byte_time))
    faults = chosen(defects, of)
    role = McuRole(of, options_with(McuOptions(byte_time=byte_time), faults))
    machine = DefectiveMcu(role, faults) if faults else role
    async with Driver(machine, theirs, clock=LoopClock()) as driver:
        line = BenchLine(ours, byte_time=byte_time)
        await line.open()
        try:
            setting = Setting(product=of, person=person, slow=slow, large=large)
            yield Bench(line, setting, person=Finger(driver, role))
        finally:
            await line.close()


MAIN = (sys.executable, "-c", "from sim.cli import main; main()")
"""The command gizsim in a process of its own."""


@contextlib.asynccontextmanager
async def mcu_process(link: Path, of: str) -> AsyncIterator[None]:
    """``gizsim mcu`` on a virtual port, in a process of its own."""
    mcu = await asyncio.create_subprocess_exec(
        *(*MAIN, "mcu", "--port", f"pty:{link}", "-p", of, "--quiet"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert mcu.stdout is not None
        async with asyncio.timeout(30):
            assert (await mcu.stdout.readline()).startswith(b"ready ")
        yield
    finally:
        mcu.kill()
        await mcu.communicate()


def check(
    of: Product,
    defects: Sequence[str] = (),
    cases: Sequence[Case] = CASES,
    *,
    slow: bool = False,
    progress: Progress | None = None,
    byte_time: float = BYTE_TIME,
) -> RunResult:
    """A conformance run in virtual time."""

    async def main() -> RunResult:
        async with benched(of, defects, slow=slow, byte_time=byte_time) as bench:
            return await run_cases(bench, cases, progress=progress)

    return run_virtual(main())
