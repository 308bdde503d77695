"""The line of one test and who plays on it: ``gizwits_port``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gizserial.commands import Role
from gizserial.errors import TransportError
from gizserial.events import Event
from gizserial.io.base import LineEvent, Transport
from gizserial.io.memory import MemoryLink
from gizserial.io.memory_transport import MemoryTransport
from gizserial.io.ports import open_port
from gizserial.mcu import McuRole
from gizserial.mcu_options import McuOptions
from gizserial.module import ModuleRole
from gizserial.module_options import ModuleOptions
from gizserial.product import Product
from sim.pytest_plugin.lock import exclusive
from sim.pytest_plugin.mcu import McuStation
from sim.pytest_plugin.module import ModuleStation
from sim.pytest_plugin.stage import Entered, Stage
from sim.pytest_plugin.tap import Recorder, TappedPort

if TYPE_CHECKING:
    from sim.module import ModuleSimulator
    from sim.pytest_plugin.cloud import TestCloud

BITS_PER_BYTE: Final = 10
MAC: Final = "5AFE00000001"
LOCK_TIMEOUT: Final = 600.0
"""Seconds that a test waits for the port while others have it."""


class PortUnderTest:
    """The port of one test: a real one, or a line in memory with a simulated peer.

    :ivar url: The PORT that was given; empty when there is none.
    :ivar baud: Its rate. The simulated line is as fast.
    :ivar simulated: There is no board: our module and our MCU play with each other.
    """

    def __init__(self, *, url: str, baud: int, stage: Stage, product: Product, recorder: Recorder) -> None:
        self.url, self.baud = url, baud
        self.simulated: Final = not url
        self.recorder: Final = recorder
        self._stage, self._product = stage, product
        self._cleanup = contextlib.ExitStack()
        self._ends: dict[Role, Transport] = {}

    def __str__(self) -> str:
        return self.url or "a line in memory"

    def _line(self, role: Role) -> Transport:
        """The transport of one end."""
        if not self.simulated:
            self._cleanup.enter_context(exclusive(self.url, timeout=LOCK_TIMEOUT))
            return TappedPort(open_port(self.url, baud=self.baud), role, self.recorder)
        if not self._ends:
            link = MemoryLink(byte_time=BITS_PER_BYTE / self.baud)
            module, mcu = MemoryTransport.pair(link)
            # One tap hears both directions.
            self._ends = {Role.MODULE: TappedPort(module, Role.MODULE, self.recorder), Role.MCU: mcu}
        return self._ends[role]

    @property
    def _byte_time(self) -> float:
        return BITS_PER_BYTE / self.baud

    # --- the two ends

    def mcu(self) -> McuStation:
        """Our MCU on the line; on a simulated one it may be the peer."""
        role = McuRole(self._product, McuOptions(byte_time=self._byte_time))
        station = McuStation(self._stage, self._product, role)
        self._enter(station.driven(role, self._line(Role.MCU)))
        return station

    def module(self, cloud: TestCloud | None = None) -> ModuleStation:
        """Our module on the line, bridged to a cloud if one is given."""
        options = ModuleOptions(byte_time=self._byte_time)
        if cloud is not None:
            return self._module_with_cloud(cloud, options)
        role = ModuleRole(options, mac=MAC)
        station = ModuleStation(self._stage, self._product, role)
        self._enter(station.driven(role, self._line(Role.MODULE)))
        return station

    def _module_with_cloud(self, cloud: TestCloud, options: ModuleOptions) -> ModuleStation:
        from sim.module import ModuleSimulator, module_show

        stage, product, line = self._stage, self._product, self._line(Role.MODULE)

        class Watched(ModuleSimulator):
            """Tells the station what it sees."""

            station: ModuleStation

            def _event(self, event: Event) -> None:
                super()._event(event)
                self.station.happened(event)

            def _line(self, event: LineEvent) -> None:
                super()._line(event)
                self.station.line_changed(event)

        async def made() -> Watched:
            show = module_show(product, as_json=False, quiet=True)
            show.write = _nobody_reads
            return Watched(line, show, mac=MAC, options=options, product=product, server=cloud.server)

        simulator = stage.call(made())
        station = simulator.station = ModuleStation(stage, product, simulator.role)
        station.driver = simulator.driver
        session = simulator.session
        cloud.did_of_module = lambda: session.identity.did if session is not None else ""
        self._enter(_playing(simulator))
        return station

    def _enter(self, context: contextlib.AbstractAsyncContextManager[Any]) -> None:
        entered: Entered[Any] = self._stage.enter(context)
        self._cleanup.callback(entered.leave)

    def close(self) -> None:
        """Everybody leaves the line.

        :raises Exception: what went wrong in one of our ends.
        """
        self._cleanup.close()

    def write_capture(self, path: Path) -> None:
        """Write what crossed the line."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.recorder.write(path)


def _nobody_reads(_line: str) -> None:
    """What the simulator shows is in the capture."""


@contextlib.asynccontextmanager
async def _playing(simulator: ModuleSimulator) -> AsyncIterator[None]:
    """Run a simulator beside the block."""
    opened = asyncio.Event()
    task = asyncio.create_task(simulator.run(opened))
    waiting = asyncio.create_task(opened.wait())
    try:
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            raise TransportError("the module ended as soon as it began")
        yield
    finally:
        for each in (waiting, task):
            if not each.done():
                each.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await each
