"""Our MCU against the module under test: ``gizwits_mcu``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from gizserial import schemas
from gizserial.commands import Command, Role
from gizserial.errors import UnknownName
from gizserial.events import ControlApplied, Event, McuRestarting, RawDataReceived, WifiStatusReceived
from gizserial.mcu import McuRole
from gizserial.p0 import raw_from_mcu
from gizserial.product import Product
from sim.pytest_plugin.stage import Stage
from sim.pytest_plugin.station import ACK_TIMEOUT, TIMEOUT, Inbox, RawData, Station, Wanted, merged

if TYPE_CHECKING:
    from sim.pytest_plugin.module import ModuleStation

_BITS: Final = frozenset(schemas.WIFI_STATUS.parse(bytes(2))) - {"status"}


class McuStation(Station):
    """The MCU's end.

    :ivar role: The MCU itself, for what no helper does; only its loop may touch it (:meth:`at_once`).
    """

    peer_name = "module"

    def __init__(self, stage: Stage, product: Product, role: McuRole) -> None:
        super().__init__(stage, Role.MCU, product)
        self.role: Final = role
        self.statuses: Final = Inbox()
        self.restarts: Final = Inbox()
        self.module: ModuleStation | None = None

    def sort(self, event: Event) -> None:
        """Sort an event of the MCU."""
        if isinstance(event, ControlApplied):
            self.values_seen.append(event.raw)
        elif isinstance(event, RawDataReceived):
            self.raw_data.append(RawData(event.data))
        elif isinstance(event, WifiStatusReceived):
            self.statuses.append(event.word)
        elif isinstance(event, McuRestarting):
            self.restarts.append(event)

    @property
    def peer(self) -> ModuleStation:
        """The simulated module, which a test may have control us. With a real one the test is skipped."""
        if self.module is None:
            pytest.skip("a test that moves the module itself needs a simulated one, not --gizwits-port")
        return self.module

    # --- data points

    def set(self, values: Wanted = None, /, **more: object) -> None:
        """Change values as the product itself does: a key, a sensor. Reported by the rules.

        :param values: For names that are no Python names.
        :raises EncodeError: an unknown name, or a value that the definition does not allow.
        """
        wanted = merged(values, more)
        self.at_once(lambda: self.role.set_values(wanted, now=self.now()))

    def value(self, name: str) -> Any:
        """The value of a point.

        :raises UnknownName: there is none of this name.
        """
        return self.at_once(lambda: self.role.value(name))

    @property
    def values(self) -> dict[str, Any]:
        """All values."""
        return self.at_once(lambda: self.real(self.role.raw))

    def wait_control(
        self, values: Wanted = None, /, *, timeout: float = TIMEOUT, **more: object
    ) -> dict[str, Any]:
        """Wait for a control that sets these values, and give all that it set.

        :param values: For names that are no Python names. A value may be a function: ``lambda v: v > 20``.
        :raises EncodeError: an unknown name, or a value that is not allowed.
        :raises NotSeenError: none came.
        """
        __tracebackhide__ = True
        return self.do(self.take_values("control", merged(values, more), timeout))

    def send_raw(self, data: bytes) -> None:
        """Send opaque bytes to the apps, and wait for the ack."""
        __tracebackhide__ = True
        self.send(Command.P0_FROM_MCU, raw_from_mcu(data))

    # --- the module

    def wait_handshake(self, *, timeout: float = TIMEOUT) -> None:
        """Wait until the module asks who the MCU is (01)."""
        __tracebackhide__ = True
        self.expect("device_info", timeout=timeout)

    def wait_status(self, *, timeout: float = TIMEOUT, **bits: object) -> dict[str, Any]:
        """Wait until the module's status word has these bits (``router=True``), and give the word's fields.

        The word that was pushed last counts too.

        :raises UnknownName: the status word has no such bit.
        :raises NotSeenError: it was not pushed.
        """
        __tracebackhide__ = True
        for name in bits:
            if name not in _BITS:
                raise UnknownName("bit of the status word", name, sorted(_BITS))
        return self.do(self._wait_status(bits, timeout))

    async def _wait_status(self, bits: dict[str, object], patience: float) -> dict[str, Any]:
        def fits(word: int) -> dict[str, Any] | None:
            fields = dict(schemas.WIFI_STATUS.parse(word.to_bytes(2, "big")))
            return fields if all(fields[name] == value for name, value in bits.items()) else None

        known = fits(self.role.wifi_status)
        if known is not None:
            self.statuses.clear()
            return known
        wanted = " ".join(f"{name}={value}" for name, value in bits.items())
        return await self.take(
            self.statuses,
            fits,
            patience,
            lambda _: f"the module did not push a status with {wanted} (it is {self.role.wifi_status:04X})",
        )

    def wait_restart(self, *, timeout: float = TIMEOUT) -> None:
        """Wait until the module has had the MCU restarted (0F)."""
        __tracebackhide__ = True
        self.do(self.take(self.restarts, lambda event: event, timeout, lambda _: "the MCU was not restarted"))

    def provision(self, mode: int) -> None:
        """Have the module wait for router data, and wait for the ack: 1 SoftAP, 2 AirLink."""
        __tracebackhide__ = True
        self.send(Command.PROVISION, schemas.PROVISION.build({"mode": mode}))

    def reset_module(self) -> None:
        """Have the module forget router and bindings, and wait for the ack."""
        __tracebackhide__ = True
        self.send(Command.RESET_MODULE)

    def ask_time(self) -> dict[str, Any]:
        """Ask for the network time, and give the answer's fields."""
        __tracebackhide__ = True
        return self.send(Command.NETWORK_TIME)

    def ask_module_info(self) -> dict[str, Any]:
        """Ask the module who it is, and give the answer's fields."""
        __tracebackhide__ = True
        return self.send(Command.MODULE_INFO, schemas.MODULE_INFO_REQUEST.build({"type": 0}))

    def send(self, command: int, payload: bytes = b"", *, timeout: float = ACK_TIMEOUT) -> dict[str, Any]:
        """Send any command, and wait for the ack; gives the ack's fields.

        :raises NotSeenError: no ack.
        """
        __tracebackhide__ = True
        return self.do(self._command(command, payload, timeout))

    async def _command(self, command: int, payload: bytes, patience: float) -> dict[str, Any]:
        self.endings.clear()
        self.role.send(command, payload, now=self.now())
        self.driver.wake()
        return (await self.acked(command, f"command {command:02X}", patience)).fields or {}
