"""Firmware on its way through a simulated module: from the cloud's file to the MCU (serial.md §6.7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gizserial.endpoint import QueueFullError
from gizserial.events import (
    Event,
    FileOffered,
    FileReady,
    LateStopReceived,
    Outcome,
    TransferEnded,
    TransferEvent,
    TransferProgress,
)
from gizserial.image import Image, ImageError
from gizserial.m2m.effects import Effect, FirmwareFailed, FirmwareFetched, FirmwareOffer
from gizserial.m2m.firmware import Firmware
from gizserial.m2m.http import MODULE_FIRMWARE
from gizserial.m2m.requests import Versions
from gizserial.m2m.session import CloudSession
from gizserial.module import ModuleRole

STEPS: Final = 10
"""How often progress is told in all."""
RESTART: Final = 0.1
"""Seconds from new firmware of the module itself to its restart."""


class FirmwareSide:
    """Hands what the session fetched to the MCU, and tells each step.

    A failure ends it: the next attempt is the next check's (device-cloud.md §4.4).

    :param say: Takes what happens, for people.
    """

    def __init__(self, role: ModuleRole, *, say: Callable[[str], None]) -> None:
        self._role, self._say = role, say
        self._step = 0

    # --- from the cloud

    def effect(self, effect: Effect, session: CloudSession, now: float) -> bool:
        """Do what an effect means for firmware; gives whether it means something."""
        if isinstance(effect, FirmwareOffer):
            than = "" if effect.newer else ", which does not sort after the present version"
            self._say(f"the cloud offers {_of(effect.firmware_type)} firmware {effect.soft_version}{than}")
        elif isinstance(effect, FirmwareFailed):
            whose = _of(effect.firmware_type)
            self._say(f"{whose} firmware {effect.soft_version} cannot be had: {effect.reason}")
        elif isinstance(effect, FirmwareFetched):
            if effect.firmware.firmware_type == MODULE_FIRMWARE:
                self._update_module(effect.firmware, session, now)
            else:
                self._offer(effect.firmware, now)
        else:
            return False
        return True

    def _update_module(self, firmware: Firmware, session: CloudSession, now: float) -> None:
        self._role.soft_ver = firmware.soft_version
        session.module_updated(Versions(self._role.options.hard_ver, firmware.soft_version))
        self._role.reboot(f"new module firmware {firmware.soft_version}", now=now, delay=RESTART)

    def _offer(self, firmware: Firmware, now: float) -> None:
        try:
            image = Image(firmware.data, firmware.hex, firmware.soft_version, firmware.md5)
            self._role.offer_file(image, now=now, token=firmware)
        except (QueueFullError, ImageError) as error:
            self._say(f"firmware {firmware.soft_version} cannot be offered to the MCU: {error}")
            return
        self._step = 0
        kind = "HEX" if firmware.hex else "BIN"
        self._say(f"firmware {firmware.soft_version} is announced to the MCU: {image.size} bytes, {kind}")

    # --- from the MCU

    def event(self, event: Event) -> bool:
        """Tell how a transfer goes; gives whether the event is of one."""
        if not isinstance(event, TransferEvent):
            return False
        if isinstance(event, FileReady):
            what = (
                f"{event.count} lines of HEX"
                if event.hex
                else f"{event.count} pieces of {event.piece_size} bytes"
            )
            self._say(f"the MCU wants the firmware: {what}")
        elif isinstance(event, TransferProgress):
            self._progress(event)
        elif isinstance(event, TransferEnded) and isinstance(event.token, Firmware):
            self._ended(event, event.token.soft_version)
        elif isinstance(event, LateStopReceived):
            self._say("the MCU refused the firmware when it was complete (27)")
        elif not isinstance(event, FileOffered):
            self._say(f"a file of the MCU: {type(event).__name__}")
        return True

    def _progress(self, event: TransferProgress) -> None:
        step = event.number * STEPS // event.count if event.count else 0
        if step > self._step:
            self._step = step
            self._say(f"firmware: piece {event.number} of {event.count}")

    def _ended(self, event: TransferEnded, version: str) -> None:
        if event.outcome is Outcome.COMPLETE:
            self._say(f"the MCU has firmware {version}; its next start tells whether it took it")
        else:
            self._say(f"the MCU has no new firmware ({event.outcome.value}): {event.detail}")


def _of(firmware_type: int) -> str:
    return "module" if firmware_type == MODULE_FIRMWARE else "MCU"
