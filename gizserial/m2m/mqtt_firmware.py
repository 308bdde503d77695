"""Firmware as modules of other generations ask for it, by MQTT (device-cloud.md §9).

::

    G3   021c versions    → 021d MD5, address    022c: how far it is
    G0   0205 firmware id → 0206 the same id, or 020e address

G1 and G2 ask over HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from gizserial.m2m.frames import (
    Control,
    FirmwareOffer,
    G0FirmwareId,
    G0FirmwareUrl,
    G0Versions,
    UpgradeProgress,
    VersionReport,
    encode_control,
)
from gizserial.m2m.http import MCU_FIRMWARE, MODULE_FIRMWARE, Offer
from gizserial.m2m.identity import Identity
from gizserial.m2m.requests import Requests
from gizserial.m2m.topics import CLI2SER_REQ

Asking = Literal["http", "g3", "g0"]
"""How a module asks for firmware."""
P0_VERSION: Final = "00000002"
"""In 0205."""


class MqttFirmware:
    """Reports versions, reads offers, tells how far a file is; over HTTP none of it is done.

    :param publish: Takes topic and content of what goes to the cloud.
    """

    def __init__(self, asking: Asking, requests: Requests, publish: Callable[[str, bytes], object]) -> None:
        self._asking, self._requests, self._publish = asking, requests, publish
        self._online = False

    @property
    def checked(self) -> frozenset[int]:
        """The kinds of firmware for which the cloud is asked over HTTP."""
        return frozenset({MODULE_FIRMWARE, MCU_FIRMWARE} if self._asking == "http" else ())

    def link_is(self, me: Identity, *, online: bool) -> None:
        """Report as soon as there is a connection."""
        if online and not self._online:
            self._report(me)
        self._online = online

    def _report(self, me: Identity) -> None:
        module, mcu = self._requests.module, self._requests.mcu
        if self._asking == "g3":
            self._say(VersionReport(module=f"{module.hard},{module.soft}", mcu=f"{mcu.hard},{mcu.soft}"))
        elif self._asking == "g0":
            self._say(G0Versions(me.product_key, self._firmware_id(), P0_VERSION))

    def _firmware_id(self) -> bytes:
        return self._requests.module.soft.encode("ascii", "replace")[:8].ljust(8, b"\x00")

    def offered(self, message: Control) -> tuple[int, Offer] | None:
        """The kind of firmware and the offer in a message; None: there is none for this module."""
        if self._asking == "g3" and isinstance(message, FirmwareOffer) and message.sub_did is None:
            url = message.url or message.https_url
            kind = MODULE_FIRMWARE if message.module else MCU_FIRMWARE
            version = (message.module or message.mcu or "").partition(",")[2]
            return (kind, Offer(version, url, message.md5 or "")) if url else None
        if self._asking == "g0" and isinstance(message, G0FirmwareUrl):
            return message.type, Offer("", message.url)
        return None

    def nothing_new(self, message: Control) -> bool:
        """Whether a message says that there is no firmware: 021d without an address, 0206 without news.

        0206 with another id than zeros or our own is not documented (§9.1), so it says nothing.
        """
        if self._asking == "g3" and isinstance(message, FirmwareOffer) and message.sub_did is None:
            return not (message.url or message.https_url)
        if self._asking == "g0" and isinstance(message, G0FirmwareId):
            return message.firmware_id in {bytes(8), self._firmware_id()}
        return False

    def progress(self, percent: int, kind: int, offer: Offer, text: str) -> None:
        """022c: how far the file of an offer is."""
        if self._asking == "g3":
            hard = self._requests.versions(kind).hard
            self._say(UpgradeProgress(percent, f"{hard},{offer.soft_version}", text))

    def _say(self, message: Control) -> None:
        self._publish(CLI2SER_REQ, encode_control(message))
