"""The status word that a module pushes to the MCU (serial.md §3.3)."""

from __future__ import annotations

import dataclasses
from typing import Final

from gizserial.schemas import WIFI_STATUS

PUSHED_BITS: Final = 0x1FFF
"""Bits whose change is pushed (§4.7)."""

_LEVELS: Final = ((80, 7), (70, 6), (60, 5), (50, 4), (40, 3), (20, 2), (1, 1))
RSSI_STEP: Final = 10
"""The level moves only when the strength moved by at least so many percent points."""


def rssi_level(percent: int) -> int:
    """Signal strength of 0 to 100 percent as GAgent's level 0 to 7."""
    return next((level for least, level in _LEVELS if percent >= least), 0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WifiStatus:
    """What the module is connected to."""

    soft_ap: bool = False
    """It runs its own access point."""
    station: bool = False
    """Its station interface is on."""
    onboarding: bool = False
    """Provisioning is active: with ``soft_ap`` SoftAP, without AirLink."""
    binding: bool = False
    """The bind window is open."""
    router: bool = False
    """Connected to an access point."""
    cloud: bool = False
    """Logged in at the MQTT server."""
    rssi: int = 0
    """Signal level 0 to 7; 0 without a router."""
    app: bool = False
    """At least one app is connected."""
    test: bool = False
    """Production test."""

    @property
    def word(self) -> int:
        """The 16 bits."""
        return int.from_bytes(self.encode(), "big")

    def encode(self) -> bytes:
        """Body of 0D."""
        level = self.rssi if self.router else 0
        body: bytes = WIFI_STATUS.build(dataclasses.asdict(dataclasses.replace(self, rssi=level)))
        return body
