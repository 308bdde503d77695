"""The network that a simulated module believes in: a router, its signal, a phone that knows the password."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

from gizserial.module import ModuleRole


@dataclasses.dataclass(slots=True, kw_only=True)
class Network:
    """What is around the module. Times are seconds."""

    ssid: str = "gizsim"
    password: str = dataclasses.field(default="gizsim-password", repr=False)
    strength: int = 80
    """Signal of the router, 0 to 100 percent."""
    ip: str = "192.168.1.20"
    """The address that the router gives."""
    join_s: float = 0.05
    """From the handshake to the connection, where router data are known."""
    associate_s: float = 1.2
    """From new router data to the connection: more than a status tick, so that the MCU sees 0002 (§4.5)."""
    phone_s: float | None = 3.0
    """An app gives router data so long after provisioning began; None: never."""
    known: bool = True
    """The module has router data from the start."""


class Surroundings:
    """Lets the network act on the module, in real time.

    :param lan: Apps can reach the module: SoftAP provisioning is theirs, not the pretended phone's.
    :param now: The time that the module knows.
    :param done: Called after each act, so that bytes leave.
    """

    def __init__(
        self,
        network: Network,
        module: ModuleRole,
        *,
        lan: bool = False,
        now: Callable[[], float],
        done: Callable[[], None],
        router_changed: Callable[[bool], None],
    ) -> None:
        self.network = network
        self._module, self._now, self._done = module, now, done
        self._lan = lan
        self._router_changed = router_changed
        self._timer: asyncio.TimerHandle | None = None

    def booted(self) -> None:
        """The MCU has answered: a known router is joined, provisioning that was under way goes on."""
        if self._module.provisioning is not None:
            if self._timer is None:
                self.provisioning()
        elif self.network.known:
            self._later(self.network.join_s, self._joined)

    def join(self) -> None:
        """Router data were given: connected after a moment."""
        self._later(self.network.associate_s, self._joined)

    def provisioning(self) -> None:
        """The module waits for router data: a phone gives them after a while."""
        self.cancel()
        self._router_changed(False)
        by_app = self._lan and self._module.provisioning == "softap"
        if self.network.phone_s is not None and not by_app:
            self._later(self.network.phone_s, self._phone)

    def forget(self) -> None:
        """Router data were erased."""
        self.network.known = False
        self.cancel()
        self._router_changed(False)

    def lose_router(self) -> None:
        """The router is gone."""
        self.cancel()
        self._module.ip = ""
        self._module.set_router(False, now=self._now())
        self._module.set_apps(0, now=self._now())
        self._router_changed(False)
        self._done()

    def cancel(self) -> None:
        """Nothing that was coming comes any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, act)

    def _phone(self) -> None:
        self._timer = None
        if self._module.provisioning is not None:
            self._module.give_access_point(self.network.ssid, self.network.password, now=self._now())
            self._done()

    def _joined(self) -> None:
        self._timer = None
        self.network.known = True
        self._module.ip = self.network.ip
        self._module.set_router(True, now=self._now(), strength=self.network.strength)
        self._router_changed(True)
        self._done()
