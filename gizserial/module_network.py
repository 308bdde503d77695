"""What the module believes of its network, and what its status word says of it (serial.md §3.3, §6.5).

Router, cloud and apps are told to it; provisioning, bind window and production test end by themselves.
"""

from __future__ import annotations

from typing import Final

from gizserial.errors import ValueOutOfRange
from gizserial.events import (
    AccessPointGiven,
    BindWindowOpened,
    DeviceInfo,
    Event,
    ProductionTestStarted,
    ProvisioningEnded,
    ProvisioningStarted,
)
from gizserial.module_options import ModuleOptions
from gizserial.wifi_status import RSSI_STEP, WifiStatus, rssi_level

TIME_END: Final = 1 << 32
"""The first second since 1970 that does not fit into the answer to 17."""
TIME_ZONE: Final = 28800
"""UTC+8, unless ``tz`` says otherwise (§4.1)."""


class ModuleNetwork:
    """The part of a module that is not about the line; the role is built on it."""

    def __init__(self, options: ModuleOptions) -> None:
        self.options: Final = options
        self.info: DeviceInfo | None = None
        """What the MCU said of itself last."""
        self._events: list[Event] = []
        self._station = self._router = self._cloud = False
        self._level_strength = 0
        self._apps = 0
        self._mode: str | None = None
        self._mode_ends: float | None = None
        self._bind_until: float | None = None
        self._test_until: float | None = None
        self._clock: tuple[float, float] | None = None
        """Seconds since 1970, and the time at which they were right."""

    def _changed(self, now: float) -> None:
        """Something in the status may have changed."""
        raise NotImplementedError

    @property
    def status(self) -> WifiStatus:
        """What the status word says now."""
        return WifiStatus(
            soft_ap=self._mode == "softap",
            station=self._station and self._mode is None,
            onboarding=self._mode is not None,
            binding=self.binding,
            router=self._router,
            cloud=self._cloud,
            rssi=rssi_level(self._level_strength),
            app=self._apps > 0,
            test=self._test_until is not None,
        )

    @property
    def binding(self) -> bool:
        """New users may bind: always with a bind time of 0, else while the window is open (§4.11)."""
        return self.info is not None and (self.info.bind_time == 0 or self._bind_until is not None)

    @property
    def provisioning(self) -> str | None:
        """``softap`` or ``airlink`` while router data are awaited."""
        return self._mode

    def set_station(self, on: bool, *, now: float) -> None:
        """The station interface is on: router data are there."""
        self._station = on
        self._changed(now)

    def set_router(self, connected: bool, *, now: float, strength: int = 100) -> None:
        """The router is joined or lost.

        :param strength: Signal, 0 to 100 percent. The level follows when it moved by 10 points (§3.3).
        """
        self._router = connected
        self._station = self._station or connected
        if connected and (not self._level_strength or abs(strength - self._level_strength) >= RSSI_STEP):
            self._level_strength = strength
        if not connected:
            self._cloud = False
            self._level_strength = 0
        self._changed(now)

    def set_cloud(self, connected: bool, *, now: float) -> None:
        """The cloud session is up or down."""
        self._cloud = connected
        self._changed(now)

    def set_apps(self, count: int, *, now: float) -> None:
        """So many apps are connected, through LAN and cloud together."""
        self._apps = count
        self._changed(now)

    def set_time(self, utc: float, *, now: float) -> None:
        """Network time is known: seconds since 1970, UTC.

        :raises ValueOutOfRange: a time that the four bytes of 18 cannot hold.
        """
        if not 0 <= utc < TIME_END:
            raise ValueOutOfRange("utc", utc, "seconds since 1970, from 0 to 4294967295")
        self._clock = utc, now

    def utc(self, now: float) -> float | None:
        """Seconds since 1970; None before the time is known."""
        return None if self._clock is None else self._clock[0] + (now - self._clock[1])

    def give_access_point(self, ssid: str, password: str, *, now: float, bssid: str = "") -> None:
        """Somebody gives the router's data: provisioning is over, the module joins (``0002`` first, §4.5)."""
        self._leave_router()
        self._mode = self._mode_ends = None
        self._station = True
        self._events.append(AccessPointGiven(ssid, password, bssid))
        self._changed(now)

    def provision(self, mode: str, *, now: float) -> None:
        """Wait for router data: ``softap`` or ``airlink``. Router and cloud are left (§4.5)."""
        self._leave_router()
        self._station = False
        self._mode = mode
        self._mode_ends = now + (self.options.softap_s if mode == "softap" else self.options.airlink_s)
        self._events.append(ProvisioningStarted(mode))
        self._changed(now)

    def _leave_router(self) -> None:
        self._router = self._cloud = False
        self._level_strength = 0
        self._apps = 0

    def open_bind_window(self, *, now: float) -> None:
        """New users may bind for the MCU's bind time (§4.11)."""
        seconds = self.info.bind_time if self.info is not None else 0
        self._bind_until = now + seconds if seconds else None
        self._events.append(BindWindowOpened(seconds))
        self._changed(now)

    def start_test(self, *, now: float) -> None:
        """Production test (§4.10)."""
        self._test_until = now + self.options.test_s
        self._events.append(ProductionTestStarted())
        self._changed(now)

    @property
    def tz(self) -> int:
        """Local time minus UTC, in seconds."""
        if self.options.tz_s is not None:
            return self.options.tz_s
        return int_of(self._setting("tz"), TIME_ZONE, -86400, 86400)

    def _setting(self, key: str) -> str | None:
        return self.info.data.get(key) if self.info is not None else None

    def _network_timeouts(self) -> tuple[float | None, ...]:
        """When something of these ends."""
        return self._mode_ends, self._bind_until, self._test_until

    def _network_timers(self, now: float) -> None:
        """End what is over."""
        if self._mode_ends is not None and now >= self._mode_ends:
            if self._mode == "airlink":
                self.provision("softap", now=now)
            else:
                self._mode = self._mode_ends = None
                self._events.append(ProvisioningEnded())
                self._changed(now)
        if self._bind_until is not None and now >= self._bind_until:
            self._bind_until = None
            self._changed(now)
        if self._test_until is not None and now >= self._test_until:
            self._test_until = None
            self._station = False  # it ends in null mode (§4.10)
            self._changed(now)
            if self._mode is not None:
                self._mode = self._mode_ends = None
                self._events.append(ProvisioningEnded())


def int_of(text: str | None, default: int, least: int, most: int) -> int:
    """A setting of the MCU's data field; one that is no number, or out of all proportion, does not count."""
    digits = "" if text is None else text.removeprefix("-")
    if text is None or len(text) > 8 or not (digits.isascii() and digits.isdigit()):
        return default
    value = int(text)
    return value if least <= value <= most else default
