"""Tells devices of firmware by MQTT, at once or when they come on line (device-cloud.md §9.1, §9.2, §9.4).

::

    G1, G2   0211 "check"                        the module asks over HTTP (§4.3)
    G3       021c versions    → 021d MD5, URL    022c: how far it is
    G0       0205 firmware id → 0206, 020e URL

A device is of the generation in which it reports. An image that is pushed later is sent to it in that form,
without another report.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gizserial.m2m import frames
from gizserial.m2m.frames import Control, G0Versions, VersionReport
from gizserial.m2m.http import MCU_FIRMWARE, MODULE_FIRMWARE, Server
from sim.cloud.device import Device
from sim.cloud.events import Event, FirmwareProgress, Offline, Online, Unregistered, VersionReported
from sim.cloud.firmware import KINDS, FirmwareImage, Push
from sim.cloud.http_firmware import PATH, PATH_G0, step

if TYPE_CHECKING:
    from sim.cloud.app_side import AppSide

NO_ID: Final = bytes(8)
"""In 0206: nothing by this way. What follows another id is not documented; images are offered by 020e."""
_VERSIONS: Final = re.compile(r"([!-+\--~]{0,32}),([!-+\--~]{1,32})")
"""``hardware,software``."""
_FIRMWARE_ID: Final = re.compile(r"[!-~]{1,8}")


class FirmwarePusher:
    """Pushes images, and tells a device that was off line as soon as it is back.

    A device that starts checks by itself; one that only lost its connection does not.
    """

    def __init__(self, side: AppSide) -> None:
        self._side = side
        self._reports: dict[str, VersionReport | G0Versions] = {}
        """What a device has reported by MQTT since it came on line."""
        side.hub.subscribe(self._watch)
        side.hub.on_request = self._request

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
        side, report = self._side, self._reports.get(push.did)
        if report is not None and self._offer(push, report):
            push = side.firmwares.moved(push, "offered", side.now())
        elif report is None and self._check(push):
            push = side.firmwares.moved(push, "told", side.now())
        side.hub.tell(step(push, side.now()))
        return push

    def _check(self, push: Push) -> bool:
        message = frames.CheckFirmware(push.type, push.did)
        return self._side.hub.say(push.did, message, key=f"0211 {push.type}")

    def _watch(self, event: Event) -> None:
        if isinstance(event, Offline):
            self._reports.pop(event.did, None)
        elif isinstance(event, Online) and event.did in self._reports:
            self._answer(event.did, self._reports[event.did])
        elif isinstance(event, Online):
            for firmware_type in KINDS:
                push = self._side.firmwares.push_of(event.did, firmware_type)
                if push is not None and push.state == "waiting":
                    self._tell(push)

    # --- G3 and G0

    def _request(self, did: str, message: Control) -> None:
        side = self._side
        if isinstance(message, VersionReport | G0Versions):
            self._reports[did] = message
            if side.hub.is_online(did):
                self._answer(did, message)
        elif isinstance(message, frames.UpgradeProgress):
            progress = FirmwareProgress(
                at=side.now(),
                did=did,
                progress=message.progress,
                versions=message.versions,
                text=message.text,
            )
            side.hub.tell(progress)
        elif isinstance(message, frames.DeviceReset):
            side.store.unregister(did, None)
            side.hub.tell(Unregistered(at=side.now(), did=did))

    def _answer(self, did: str, report: VersionReport | G0Versions) -> None:
        device = self._side.store.device(did)
        if device is None:
            return
        if isinstance(report, G0Versions):
            self._answer_g0(device, report)
        else:
            self._answer_g3(device, report)

    def _answer_g0(self, device: Device, report: G0Versions) -> None:
        self._side.hub.say(device.did, frames.G0FirmwareId(NO_ID), key="0206")
        for push in self._due(device, {MODULE_FIRMWARE: _firmware_id(report)}):
            self._offer(push, report)
        mcu = self._side.firmwares.push_of(device.did, MCU_FIRMWARE)
        # No report names the version of its MCU: what was fetched once is not offered again.
        if mcu is not None and mcu.state in {"waiting", "told", "offered"}:
            self._tell(mcu)

    def _answer_g3(self, device: Device, report: VersionReport) -> None:
        sent = [self._offer(push, report) for push in self._due(device, _versions(report))]
        if not any(sent):
            nothing = frames.FirmwareOffer(sub_did=report.sub_did, module=report.module, mcu=report.mcu)
            self._side.hub.say(device.did, nothing, key="021d")

    def _due(self, device: Device, versions: dict[int, tuple[str, str] | None]) -> list[Push]:
        """Note the versions, and find what the device should run instead."""
        side, due = self._side, list[Push]()
        for firmware_type, reported in versions.items():
            if reported is None:
                continue
            now, (hard, soft) = side.now(), reported
            side.store.set_versions(device.did, firmware_type, hard, soft, now)
            side.hub.tell(
                VersionReported(
                    at=now, did=device.did, firmware_type=firmware_type, hard_version=hard, soft_version=soft
                )
            )
            found = side.firmwares.checked(device.did, device.product_key, firmware_type, soft, now)
            if found is not None and found[1]:
                side.hub.tell(step(found[0], now))
            if found is not None and found[0].state != "done":
                due.append(found[0])
        return due

    def _offer(self, push: Push, report: VersionReport | G0Versions) -> bool:
        """Send the address of an image; whether that was possible."""
        side = self._side
        image = side.firmwares.image(push.firmware)
        if image is None:
            return False
        server = Server(side.endpoints.host or side.hub.here(push.did), side.endpoints.http)
        if isinstance(report, G0Versions):
            number = int(image.id[:8], 16)
            url = f"http://{server.authority}{PATH_G0}/{push.token}"
            return side.hub.say(
                push.did, frames.G0FirmwareUrl(push.type, number, url), key=f"020e {push.type}"
            )
        reported = _versions(report).get(push.type)
        named = f"{reported[0] if reported else ''},{push.soft_version}"
        offer = frames.FirmwareOffer(
            module=named if push.type == MODULE_FIRMWARE else None,
            mcu=named if push.type == MCU_FIRMWARE else None,
            md5=image.md5,
            url=f"http://{server.authority}{PATH}/{push.token}",
        )
        return side.hub.say(push.did, offer, key=f"021d {push.type}")


def _versions(report: VersionReport) -> dict[int, tuple[str, str] | None]:
    """Hardware and software of module and MCU. Those of a sub-device are not the device's: none."""
    if report.sub_did is not None:
        return {}
    return {
        kind: None if found is None else (found[1], found[2])
        for kind, found in (
            (MODULE_FIRMWARE, _VERSIONS.fullmatch(report.module or "")),
            (MCU_FIRMWARE, _VERSIONS.fullmatch(report.mcu or "")),
        )
    }


def _firmware_id(report: G0Versions) -> tuple[str, str] | None:
    """The firmware id as a version, where it is text."""
    text = report.firmware_id.rstrip(b"\x00").decode("ascii", "replace")
    return ("", text) if _FIRMWARE_ID.fullmatch(text) else None
