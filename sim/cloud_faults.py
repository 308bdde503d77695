"""Faults between a module and its cloud: connections that are cut, slow or refused, over HTTP and MQTT.

A fault is written ``KIND[:VALUES][@http|@mqtt][@TIME]``, as those of the serial line (:mod:`sim.faults`)::

    CloudFaults(["slow:200ms..500ms", "refuse@mqtt@5s..20s", "cut@30s"], seed=7)
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from random import Random
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from sim.faults import FaultError, delay_values, time_window

Service: TypeAlias = Literal["http", "mqtt"]
SERVICES: Final[tuple[Service, Service]] = ("http", "mqtt")

USAGES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "cut": ("cut@30s", "the connections break once, at this time; new ones are possible"),
        "refuse": ("refuse or refuse@5s..20s", "new connections are refused; those that are open stay"),
        "slow": ("slow:200ms or slow:200ms..500ms", "connecting, requests and answers take so much longer"),
    }
)
"""How each is written, and what it does."""


@dataclasses.dataclass(frozen=True, slots=True)
class CloudFault:
    """One fault as it was written."""

    text: str
    kind: str
    least: float = 0.0
    most: float = 0.0
    service: Service | None = None
    """None: both."""
    start: float = 0.0
    """Seconds after the module was started."""
    end: float = math.inf

    @classmethod
    def parse(cls, text: str) -> CloudFault:
        """Read ``slow:200ms@mqtt``.

        :raises FaultError: it is no fault.
        """
        head, *places = text.strip().split("@")
        kind, colon, rest = head.partition(":")
        if kind not in USAGES:
            raise FaultError(f"there is no cloud fault {kind!r}; known are: {', '.join(USAGES)}")
        usage = USAGES[kind][0]
        if bool(colon) != (kind == "slow"):
            raise FaultError(f"{text}: write {usage}")
        service: Service | None = None
        window: tuple[float, float] | None = None
        for place in places:
            named = next((service for service in SERVICES if service == place), None)
            if named is not None and service is None:
                service = named
            elif named is None and window is None:
                window = time_window(place, text, "http, mqtt")
            else:
                raise FaultError(f"{text}: after @ stands one service and one time, each once")
        if kind == "cut" and (window is None or math.isfinite(window[1])):
            raise FaultError(f"{text}: a cut happens at one time; write {usage}")
        try:
            least, most = delay_values(rest) if kind == "slow" else (0.0, 0.0)
        except FaultError as error:
            raise FaultError(f"{text}: {error}; write {usage}") from None
        start, end = window or (0.0, math.inf)
        return cls(text.strip(), kind, least, most, service, start, end)


class CloudFaults:
    """The faults of one module's connections to its cloud, which may come and go.

    :param faults: Faults, or how they are written.
    :raises FaultError: one is written wrongly.
    """

    def __init__(self, faults: Iterable[CloudFault | str] = (), *, seed: int = 0) -> None:
        self.seed: Final = seed
        self._rng = Random(f"{seed}/cloud")  # noqa: S311 - repeatable on purpose
        self._active: dict[int, CloudFault] = {}
        self._count = 0
        self._started: float | None = None
        self._cut: Callable[[Service], None] = lambda _service: None
        self._timers: dict[int, asyncio.TimerHandle] = {}
        for fault in faults:
            self.add(fault)

    def add(self, fault: CloudFault | str) -> int:
        """One more; gives what :meth:`remove` takes.

        :raises FaultError: it is written wrongly.
        """
        fault = CloudFault.parse(fault) if isinstance(fault, str) else fault
        number, self._count = self._count, self._count + 1
        self._active[number] = fault
        if self._started is not None:
            self._watch(number, fault)
        return number

    def add_now(self, text: str) -> int:
        """As :meth:`add`, its times counted from now.

        :raises FaultError: it is written wrongly.
        """
        fault = CloudFault.parse(text)
        since = self._since()
        start = fault.start + since if fault.start else 0.0
        return self.add(dataclasses.replace(fault, start=start, end=fault.end + since))

    def remove(self, number: int) -> None:
        """It is over."""
        self._active.pop(number, None)
        if number in self._timers:
            self._timers.pop(number).cancel()

    def clear(self) -> None:
        """All are over."""
        for number in tuple(self._active):
            self.remove(number)

    def start(self, cut: Callable[[Service], None]) -> None:
        """The module starts: times count from now.

        :param cut: Breaks the connections of a service.
        """
        self._started = asyncio.get_running_loop().time()
        self._cut = cut
        for number, fault in self._active.items():
            self._watch(number, fault)

    def stop(self) -> None:
        """The module has ended."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def cut(self, service: Service | None = None) -> None:
        """Break the connections now."""
        for each in SERVICES:
            if service in {None, each}:
                self._cut(each)

    async def reach(self, service: Service) -> None:
        """Before a connection is made.

        :raises ConnectionRefusedError: it is refused.
        """
        await self.wait(service)
        if any(fault.kind == "refuse" for fault in self._now(service)):
            raise ConnectionRefusedError

    async def wait(self, service: Service) -> None:
        """Before something is passed on."""
        seconds = self.delay(service)
        if seconds:
            await asyncio.sleep(seconds)

    def delay(self, service: Service) -> float:
        """How much longer something takes now."""
        slow = [fault for fault in self._now(service) if fault.kind == "slow"]
        return sum(self._rng.uniform(fault.least, fault.most) for fault in slow)

    def _now(self, service: Service) -> list[CloudFault]:
        now = self._since()
        return [
            fault
            for fault in self._active.values()
            if fault.service in {None, service} and fault.start <= now < fault.end
        ]

    def _since(self) -> float:
        return 0.0 if self._started is None else asyncio.get_running_loop().time() - self._started

    def _watch(self, number: int, fault: CloudFault) -> None:
        if fault.kind == "cut" and self._started is not None:
            loop = asyncio.get_running_loop()
            self._timers[number] = loop.call_at(self._started + fault.start, self.cut, fault.service)
