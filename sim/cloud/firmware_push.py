"""Tells devices (0211, device-cloud.md §9.1) that there is firmware, at once or when they come on line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sim.cloud.events import Event, Online
from sim.cloud.firmware import KINDS, FirmwareImage, Push
from sim.cloud.http_firmware import step

if TYPE_CHECKING:
    from sim.cloud.app_side import AppSide


class FirmwarePusher:
    """Pushes images, and tells a device that was off line as soon as it is back.

    A device that starts checks by itself; one that only lost its connection does not.
    """

    def __init__(self, side: AppSide) -> None:
        self._side = side
        side.hub.subscribe(self._watch)

    def push(self, image: FirmwareImage, dids: Sequence[str] | None = None) -> list[Push]:
        """Have devices run an image.

        :param dids: None: every device of the product, those too that register later.
        """
        side = self._side
        if dids is None:
            side.firmwares.for_everybody(image)
            devices = side.store.devices()
            dids = [device.did for device in devices if device.product_key == image.product_key]
        return [self._tell(side.firmwares.push(did, image, side.now())) for did in dids]

    def _tell(self, push: Push) -> Push:
        if self._side.hub.check_firmware(push.did, push.type):
            push = self._side.firmwares.moved(push, "told", self._side.now())
        self._side.hub.tell(step(push, self._side.now()))
        return push

    def _watch(self, event: Event) -> None:
        if not isinstance(event, Online):
            return
        for firmware_type in KINDS:
            push = self._side.firmwares.push_of(event.did, firmware_type)
            if push is not None and push.state == "waiting":
                self._tell(push)
