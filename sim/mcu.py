"""A simulated MCU: the role on a port, and values that move."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Final

from gizserial.commands import Role
from gizserial.describe import value_text
from gizserial.events import (
    ControlApplied,
    Event,
    McuRestarting,
    ModuleAnswered,
    RawDataReceived,
    Reported,
    RequestFailed,
    TransferEnded,
    WifiStatusReceived,
)
from gizserial.io.base import Back, LineEvent, Lost, Notice, Overflow, Transport
from gizserial.io.driver import Clock, Driver, Machine, MonotonicClock
from gizserial.mcu import McuRole
from gizserial.mcu_options import McuOptions
from gizserial.product import Product
from sim.behaviours import Move
from sim.bootloader import Bootloader
from sim.mcu_defects import chosen, options_with
from sim.mcu_defects.machine import DefectiveMcu
from sim.ota import Flash
from sim.show import Show

MOVE_INTERVAL: Final = 1.0
"""Seconds between two looks at the moving values."""


class McuSimulator:
    """Plays the MCU of one product until stopped.

    :param values: Real values to begin with.
    :param moves: Points that move by themselves.
    :param defects: Names of defects that its firmware has.
    :param clock: The time; the real one unless it is given.
    :param flash: Where firmware is kept; None: in memory, when the options take firmware.
    :param ota_version: What new firmware is called, whatever it says itself.
    :raises UnknownName: a defect that does not exist.
    :raises EncodeError: a defect that cannot show in this product.
    """

    def __init__(
        self,
        transport: Transport,
        show: Show,
        product: Product,
        *,
        options: McuOptions | None = None,
        values: Mapping[str, object] | None = None,
        moves: Sequence[Move] = (),
        defects: Sequence[str] = (),
        clock: Clock | None = None,
        flash: Flash | None = None,
        ota_version: str | None = None,
    ) -> None:
        self.show = show
        self.product: Final = product
        faults = chosen(defects, product)
        self.role: Final = McuRole(product, options_with(options or McuOptions(), faults), values=values)
        machine: Machine[Event] = DefectiveMcu(self.role, faults) if faults else self.role
        self.driver: Final = Driver(
            machine, transport, on_event=self._event, on_line=self._line, clock=clock or MonotonicClock()
        )
        show.now = self.driver.now
        self._moves = moves
        options = self.role.options
        self.bootloader: Final = (
            Bootloader(self.role, flash or Flash(options.ota_most), say=self._say, version=ota_version)
            if options.ota
            else None
        )

    async def run(self) -> None:
        """Open the port, tell that it is open, play until cancelled.

        :raises TransportError: the port cannot be opened.
        """
        async with self.driver:
            transport = self.driver.transport
            self.show.ready(port=transport.other_end or transport.name)
            mover = asyncio.create_task(self._move()) if self._moves else None
            try:
                await self.driver.wait()
            finally:
                if mover is not None:
                    mover.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await mover

    def stop(self) -> None:
        """Nothing more is to happen."""
        self.driver.stop()

    def set_values(self, values: Mapping[str, object]) -> None:
        """Change values as the product itself would, all at one moment.

        :raises EncodeError: an unknown name, or a value that the definition does not allow; then none is set.
        """
        self.role.set_values(values, now=self.driver.now())
        self.driver.wake()

    async def _move(self) -> None:
        while True:
            now = self.driver.now()
            for move in self._moves:
                self.role.set_raw(move.point.name, move.raw(now), now=now)
            self.driver.wake()
            await asyncio.sleep(MOVE_INTERVAL)

    def _line(self, event: LineEvent) -> None:
        if isinstance(event, Back):
            self._say("the line is up")
        elif isinstance(event, Lost):
            self._say(f"the line is down: {event.reason}")
        elif isinstance(event, Overflow):
            self._say(f"the module does not read: {event.dropped} bytes were dropped")
        elif isinstance(event, Notice):
            self._say(event.text)

    def _event(self, event: Event) -> None:
        if self.show.line_event(event, self.driver.now()):
            return
        if self.bootloader is not None and self.bootloader.event(event, self.driver.now()):
            return
        if isinstance(event, ControlApplied):
            names = [f"{name}={value_text(self.role.value(name))}" for name in event.raw]
            ignored = f"; ignored: {', '.join(event.ignored)}" if event.ignored else ""
            self._say(f"control applied: {' '.join(names) or 'nothing'}{ignored}")
        elif isinstance(event, Reported):
            self._say(f"report ({event.why})")
        elif isinstance(event, WifiStatusReceived):
            self._say(f"module status {event.word:04X}, changed: {', '.join(event.changed) or 'nothing'}")
        elif isinstance(event, RawDataReceived):
            self._say(f"raw data: {event.data.hex(' ')}")
        elif isinstance(event, ModuleAnswered):
            fields = " ".join(f"{name}={value_text(value)}" for name, value in event.fields.items())
            self._say(f"{event.name}: {fields or 'its body cannot be read'}")
        elif isinstance(event, McuRestarting):
            self._say(f"the MCU restarts, software {self.role.soft_ver}")
        elif isinstance(event, TransferEnded):
            self._say(f"the file for the module: {event.outcome.value} {event.detail}".rstrip())
        elif isinstance(event, RequestFailed):
            self._say(f"no ack from the module: {event.reason}")

    def _say(self, text: str) -> None:
        self.show.said(self.driver.now(), text)


def mcu_show(product: Product, *, as_json: bool, quiet: bool) -> Show:
    """What an MCU shows."""
    return Show(Role.MCU, product, as_json=as_json, quiet=quiet)
