"""The parts of a run: the simulators that play, the line between them, its faults, and the cloud."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from gizserial.commands import Role
from gizserial.errors import BodyError
from gizserial.framing import Frame
from gizserial.io.base import Transport
from gizserial.io.memory import MemoryLink
from gizserial.io.ports import open_port
from gizserial.m2m.http import Server
from gizserial.mcu_options import McuOptions
from gizserial.module_options import ModuleOptions
from gizserial.p0 import Meaning, P0Codec
from sim.clock import LoopClock
from sim.cloud_faults import CloudFaults
from sim.faults import Faults
from sim.faulty import FaultyTransport, Tap
from sim.mcu import McuSimulator, mcu_show
from sim.module import ModuleSimulator, module_show
from sim.network import Network
from sim.quirks import with_quirks
from sim.scenario.checks import quirk_words
from sim.scenario.log import Log, Seen
from sim.scenario.match import is_frame
from sim.scenario.model import Setup
from sim.scenario.result import StepFailed
from sim.show import Show
from sim.words import byte_time

if TYPE_CHECKING:
    from sim.cloud.app import EmbeddedCloud
    from sim.cloud.events import Event as CloudEvent

PATIENCE: Final = 30.0
"""Seconds until the MCU must have answered the handshake."""
_LOOK: Final = 0.01
"""Seconds between two looks at whether the line is up."""
_Options = TypeVar("_Options")


class Stage:
    """An asynchronous context manager: entering opens the line, leaving closes everything.

    :param on_seen: Told every frame.
    :param on_waiting: Told what the device has to open, when nobody is at the port yet.
    :param tap: Told all bytes, before and after the faults.
    :raises GizserialError: a part cannot be made or opened.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        on_seen: Callable[[Seen], None] | None = None,
        on_waiting: Callable[[str], None] | None = None,
        tap: Tap | None = None,
    ) -> None:
        self.setup: Final = setup
        self.faults: Final = Faults(setup.faults, seed=setup.seed)
        self.cloud_faults: Final = CloudFaults(seed=setup.seed)
        self.log: Final = Log(setup.product, on_seen)
        self.p0: Final = P0Codec(setup.product)
        self.module: ModuleSimulator | None = None
        self.mcu: McuSimulator | None = None
        self.cloud: EmbeddedCloud | None = None
        self.cloud_values: dict[str, int | bytes] = {}
        """Raw values that the cloud knows."""
        self.online = False
        """The device is on line in the simulated cloud."""
        self._tap, self._on_waiting = tap, on_waiting
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = contextlib.AsyncExitStack()
        self._clock = LoopClock()  # as it is: a difference may round so that virtual time stands still
        self.line: FaultyTransport

    async def __aenter__(self) -> Self:
        """Open everything."""
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close everything."""
        await self._close()

    async def _open(self) -> None:
        setup = self.setup
        server = await self._cloud() if setup.cloud == "simulated" else None
        if setup.module_port is not None:
            self._spoiled(open_port(setup.module_port, baud=setup.baud), Role.MCU)
            self._make_mcu(self.line, byte_time(setup.module_port, setup.baud, pace=False))
        elif setup.mcu_port is not None:
            self._spoiled(open_port(setup.mcu_port, baud=setup.baud), Role.MODULE)
            self._make_module(self.line, byte_time(setup.mcu_port, setup.baud, pace=False), server)
        else:
            link = MemoryLink(byte_time=10 / setup.baud)
            self.line, mcu_end = FaultyTransport.pair(link, self.faults, tap=self._crossed)
            self._make_module(self.line, 10 / setup.baud, server)
            self._make_mcu(mcu_end, 10 / setup.baud)
        self.log.begin()
        for part in (self.mcu, self.module):
            if part is not None:
                self._tasks.append(asyncio.create_task(part.run()))
        await asyncio.sleep(0)
        self.check()

    def _spoiled(self, inner: Transport, role: Role) -> None:
        self.line = FaultyTransport(inner, self.faults, role, tap=self._crossed)

    def _make_module(self, line: Transport, time: float, server: Server | None) -> None:
        setup = self.setup
        self.module = ModuleSimulator(
            line,
            _silent(module_show(setup.product, as_json=False, quiet=True)),
            mac=setup.mac,
            options=_quirks(ModuleOptions(byte_time=time), setup.module_quirks),
            product=setup.product,
            server=server,
            network=Network(strength=setup.signal, known=setup.provisioned),
            clock=self._clock,
            cloud_faults=self.cloud_faults,
        )

    def _make_mcu(self, line: Transport, time: float) -> None:
        setup = self.setup
        self.mcu = McuSimulator(
            line,
            _silent(mcu_show(setup.product, as_json=False, quiet=True)),
            setup.product,
            options=_quirks(McuOptions(byte_time=time), setup.mcu_quirks),
            values=setup.values,
            defects=setup.defects,
            clock=self._clock,
        )

    async def _cloud(self) -> Server:
        from sim.cloud.app import EmbeddedCloud
        from sim.cloud.config import CloudConfig
        from sim.local_cloud import server_of

        self.cloud = await self._stack.enter_async_context(EmbeddedCloud(CloudConfig(auto_ports=True)))
        self.cloud.subscribe(self._cloud_event)
        return server_of(self.cloud)

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.log.close()
        await self._stack.aclose()

    def check(self) -> None:
        """Whether every part still plays.

        :raises Exception: what ended one of them.
        """
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()
                raise StepFailed("a simulator that goes on playing", ["it has ended"])

    async def connected(self) -> None:
        """Wait until somebody is at the other end."""
        told = False
        while not self.line.connected:
            self.check()
            place = self.line.other_end
            if place is not None and not told and self._on_waiting is not None:
                told = True
                self._on_waiting(place)
            await asyncio.sleep(_LOOK)

    async def running(self) -> None:
        """Wait until the handshake is done, and a pretended cloud is connected.

        :raises StepFailed: the MCU does not answer.
        """
        module = self.module
        met = await self.log.until(lambda: self._broken() or self._met(), self.log.now() + PATIENCE)
        self.check()
        if not met:
            raise StepFailed(f"the handshake within {PATIENCE:g} s", ["no answer to device_info"])
        if module is not None and self.setup.cloud == "pretended" and self.setup.provisioned:
            await self.log.until(lambda: module.role.status.router, self.log.now() + PATIENCE)
            self.pretend_cloud(on=True)

    def _broken(self) -> bool:
        return any(task.done() for task in self._tasks)

    def _met(self) -> bool:
        if self.module is not None:
            return self.module.running
        return any(is_frame(seen.described, "device_info_ack") for seen in self.log.seen)

    def pretend_cloud(self, *, on: bool) -> None:
        """The module believes that its cloud session is up, or that it is lost."""
        if self.module is not None:
            self.module.role.set_cloud(on, now=self.module.driver.now())
            self.module.driver.wake()

    @property
    def is_online(self) -> bool:
        """The cloud has the device on line."""
        if self.cloud is not None:
            return self.online
        return self.module is not None and self.module.role.status.cloud

    def wake(self) -> None:
        """A role was told something: let what it wants happen."""
        for part in (self.module, self.mcu):
            if part is not None:
                part.driver.wake()

    # --- what is heard

    def _crossed(self, direction: Any, data: bytes, _t: float, arrived: bool) -> None:
        if self._tap is not None:
            self._tap(direction, data, self.log.now(), arrived)
        before = len(self.log.seen)
        self.log.take(direction, data, arrived)
        if self.cloud is None and self.is_online:
            for seen in self.log.seen[before:]:
                self._pretended_report(seen)

    def _pretended_report(self, seen: Seen) -> None:
        item = seen.described.item
        if seen.arrived and isinstance(item, Frame) and is_frame(seen.described, "report"):
            message = seen.described.message
            self.cloud_values.update((message.raw or {}) if message is not None else {})

    def _cloud_event(self, event: CloudEvent) -> None:
        from sim.cloud.events import Offline, Online, Report

        if isinstance(event, Online | Offline):
            self.online = isinstance(event, Online)
        elif isinstance(event, Report):
            with contextlib.suppress(BodyError):
                p0 = self.p0.parse(event.p0)
                if p0.meaning in {Meaning.REPORT, Meaning.READ_REPLY}:
                    self.cloud_values.update(p0.raw or {})
        self.log.changed()


def _silent(show: Show) -> Show:
    show.write = _nothing
    return show


def _nothing(_line: str) -> None:
    """Nobody reads it."""


def _quirks(options: _Options, quirks: Mapping[str, Any]) -> _Options:
    return with_quirks(options, quirk_words(quirks))
