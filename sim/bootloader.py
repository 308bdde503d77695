"""The part of a simulated MCU that takes firmware: from the line into the flash, and into the next start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gizserial.events import (
    Event,
    FileAnnounced,
    FileReceived,
    Outcome,
    PieceReceived,
    TransferEnded,
)
from gizserial.mcu import McuRole
from sim.ota import FirmwareError, Flash

STEPS: Final = 10
"""How often progress is told in all."""


class Bootloader:
    """Keeps what an MCU role receives.

    :param version: What new firmware is called, whatever it says itself; None: what it says.
    :param say: Takes what happens, for people.
    """

    def __init__(
        self, role: McuRole, flash: Flash, *, say: Callable[[str], None], version: str | None = None
    ) -> None:
        self.flash: Final = flash
        self._role, self._say, self._version = role, say, version
        self._told = 0
        if flash.version is not None:
            role.soft_ver = flash.version
        if flash.note:
            say(flash.note)

    def event(self, event: Event, now: float) -> bool:
        """Do what an event of the role means for the flash; gives whether it means something."""
        if isinstance(event, FileAnnounced):
            self._announced(event)
        elif isinstance(event, PieceReceived):
            self.flash.write(event.offset, event.data)
            self._progress(event)
        elif isinstance(event, FileReceived):
            self._received(event, now)
        elif isinstance(event, TransferEnded) and not event.sending:
            if event.outcome is not Outcome.COMPLETE:
                self._say(f"the old firmware {self._role.soft_ver} stays: {event.detail}")
        else:
            return False
        return True

    def _announced(self, event: FileAnnounced) -> None:
        if event.declined:
            self._say(f"firmware of {event.size} bytes is not taken: {event.declined}")
            return
        self._told = 0
        self.flash.erase()
        self._say(f"firmware announced: {event.size} bytes, MD5 {event.md5}")

    def _progress(self, event: PieceReceived) -> None:
        if not event.count:
            return
        step = event.number * STEPS // event.count
        if step > self._told or event.number == 1:
            self._told = step
            self._say(f"firmware: piece {event.number} of {event.count}")

    def _received(self, event: FileReceived, now: float) -> None:
        try:
            version = self.flash.activate(
                len(event.data),
                event.md5,
                hex_text=event.hex,
                product_key=self._role.product.product_key,
                version=self._version,
            )
        except FirmwareError as error:
            self._say(f"the old firmware {self._role.soft_ver} stays: {error}")
            self._role.refuse_file(now=now)
            return
        self._say(f"firmware {version} is complete: the MCU restarts with it")
        self._role.boot(version, now=now)
