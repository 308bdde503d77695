"""Our module against the board under test: ``gizwits_module``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import pytest

from gizserial.commands import Command, Role
from gizserial.errors import BodyError
from gizserial.events import (
    DeviceInfo,
    Event,
    HandshakeDone,
    HandshakeFailed,
    P0Acked,
    P0Failed,
    ReportReceived,
)
from gizserial.module import ModuleRole
from gizserial.p0 import P0Codec, raw_to_mcu
from gizserial.product import Product
from gizserial.wifi_status import PUSHED_BITS
from sim.pytest_plugin.mcu import McuStation
from sim.pytest_plugin.stage import Stage
from sim.pytest_plugin.station import (
    ACK_TIMEOUT,
    TIMEOUT,
    Inbox,
    NotSeenError,
    RawData,
    Station,
    Wanted,
    merged,
)

HANDSHAKE_TIMEOUT: Final = 10.0
"""Seconds for a board that has just been powered."""


class ModuleStation(Station):
    """The module's end. The fixture gives it with the handshake done.

    :ivar role: The module itself, for what no helper does; only its loop may touch it (:meth:`at_once`).
    """

    peer_name = "MCU"

    def __init__(self, stage: Stage, product: Product, role: ModuleRole) -> None:
        super().__init__(stage, Role.MODULE, product)
        self.role: Final = role
        self.p0: Final = P0Codec(product)
        self.handshakes: Final = Inbox()
        self._answers: dict[int, asyncio.Future[P0Acked | P0Failed]] = {}
        self._failed_attempts: list[HandshakeFailed] = []
        self._mcu: McuStation | None = None

    def sort(self, event: Event) -> None:
        """Sort an event of the module."""
        if isinstance(event, ReportReceived):
            self._report(event.p0)
        elif isinstance(event, P0Acked | P0Failed):
            answer = self._answers.get(id(event.token))
            if answer is not None and not answer.done():
                answer.set_result(event)
        elif isinstance(event, HandshakeDone):
            self.handshakes.append(event.info)
        elif isinstance(event, HandshakeFailed):
            self._failed_attempts.append(event)

    def _report(self, p0: bytes) -> None:
        try:
            parsed = self.p0.parse(p0, Command.P0_FROM_MCU)
        except BodyError:
            return
        if parsed.raw is not None:
            self.values_seen.append(parsed.raw)
        elif parsed.data is not None:
            self.raw_data.append(RawData(parsed.data))

    # --- who the board is

    def meet(self, mcu: McuStation) -> None:
        """The other end is ours too."""
        self._mcu, mcu.module = mcu, self

    @property
    def peer(self) -> McuStation:
        """The simulated MCU, whose keys a test may press. With a real board the test is skipped here."""
        if self._mcu is None:
            pytest.skip("a test that presses keys of the MCU needs a simulated one, not --gizwits-port")
        return self._mcu

    @property
    def info(self) -> DeviceInfo:
        """What the MCU said of itself: product key, versions, bind time."""
        info = self.at_once(lambda: self.role.info)
        if info is None:
            raise NotSeenError("the MCU has not said who it is")
        return info

    def wait_handshake(self, *, timeout: float = HANDSHAKE_TIMEOUT) -> DeviceInfo:
        """Wait until the MCU has said who it is.

        :raises NotSeenError: it did not.
        """
        __tracebackhide__ = True

        def sentence(_: list[object]) -> str:
            why = f" ({self._failed_attempts[-1].reason})" if self._failed_attempts else ""
            return f"the MCU did not answer the request for device information (01){why}"

        info: DeviceInfo = self.do(self.take(self.handshakes, lambda info: info, timeout, sentence))
        return info

    # --- data points

    def control(self, values: Wanted = None, /, *, timeout: float = ACK_TIMEOUT, **more: object) -> None:
        """Set values as an app does, and wait for the ack. Reports from before do not count any more.

        :param values: For names that are no Python names; ``control(power=True)`` does for others.
        :raises EncodeError: an unknown name, one that is not writable, or a value that is not allowed.
        :raises NotSeenError: no ack.
        """
        __tracebackhide__ = True
        wanted = merged(values, more)
        p0 = self.p0.control({name: self.product.point(name).raw(value) for name, value in wanted.items()})
        self.do(self._send(p0, "the control", timeout, forget=True))

    def read(self, *names: str, timeout: float = ACK_TIMEOUT) -> dict[str, Any]:
        """Ask for values and give them: all of them, or the named ones of a variable-length product.

        :raises NotSeenError: no answer, or one without values.
        """
        __tracebackhide__ = True
        p0 = self.do(self._send(self.p0.read(names), "the read", timeout))
        try:
            raw = self.p0.parse(p0, Command.P0_TO_MCU + 1).raw
        except BodyError as error:
            raise NotSeenError(f"the answer to the read cannot be read: {error}") from None
        if raw is None:
            raise NotSeenError(f"the answer to the read has no values: {p0.hex(' ') or 'it is empty'}")
        return self.real(raw)

    def send_raw(self, data: bytes, *, timeout: float = ACK_TIMEOUT) -> None:
        """Send opaque bytes as an app does, and wait for the ack."""
        __tracebackhide__ = True
        self.do(self._send(raw_to_mcu(data), "the raw data", timeout))

    def send_p0(self, p0: bytes, *, timeout: float = ACK_TIMEOUT) -> bytes:
        """Send any P0, sound or not, and give what the ack carries."""
        __tracebackhide__ = True
        return self.do(self._send(p0, "the P0", timeout))

    async def _send(self, p0: bytes, what: str, patience: float, *, forget: bool = False) -> bytes:
        token = object()
        answer = self._answers[id(token)] = asyncio.get_running_loop().create_future()
        try:
            if forget:
                self.values_seen.clear()
            self.role.send_p0(p0, now=self.now(), token=token)
            self.driver.wake()
            try:
                async with asyncio.timeout(patience):
                    event = await answer
            except TimeoutError:
                raise NotSeenError(f"{what} was not acked within {patience:g} s") from None
        finally:
            del self._answers[id(token)]
        if isinstance(event, P0Failed):
            raise NotSeenError(f"{what} was not acked by the MCU: {event.reason}")
        return bytes(event.p0)

    def wait_report(
        self, values: Wanted = None, /, *, timeout: float = TIMEOUT, **more: object
    ) -> dict[str, Any]:
        """Wait for a report that has these values, and give all values of it.

        :param values: For names that are no Python names. A value may be a function: ``lambda v: v > 20``.
        :raises EncodeError: an unknown name, or a value that is not allowed.
        :raises NotSeenError: none came.
        """
        __tracebackhide__ = True
        return self.do(self.take_values("report", merged(values, more), timeout))

    def no_report(self, seconds: float) -> None:
        """Let time pass, in which no report must come.

        :raises NotSeenError: one came.
        """
        __tracebackhide__ = True
        self.expect_none("p0_from_mcu", seconds=seconds)

    # --- the module's network, and restarts

    def status(self, *, router: bool = True, cloud: bool = True, apps: int = 0, strength: int = 100) -> int:
        """Be connected like this, push the status word (0D) if it changed, wait for the ack; gives the word.

        :raises NotSeenError: no ack.
        """
        __tracebackhide__ = True
        return self.do(self._status(router=router, cloud=cloud, apps=apps, strength=strength))

    async def _status(self, *, router: bool, cloud: bool, apps: int, strength: int) -> int:
        before = self.role.status.word
        self.endings.clear()
        now = self.now()
        self.role.set_router(router, now=now, strength=strength)
        self.role.set_cloud(cloud and router, now=now)
        self.role.set_apps(apps, now=now)
        self.driver.wake()
        word = self.role.status.word
        if (word ^ before) & PUSHED_BITS:
            await self.acked(Command.STATUS, "the status")
        return word

    def set_time(self, utc: float) -> None:
        """The network time is known from now on: seconds since 1970."""
        self.at_once(lambda: self.role.set_time(utc, now=self.now()))

    def reboot(self, *, timeout: float = HANDSHAKE_TIMEOUT) -> DeviceInfo:
        """Restart the module, and wait until the MCU has said again who it is."""
        __tracebackhide__ = True

        def work() -> None:
            self.handshakes.clear()
            self.role.reboot("the test wants it", now=self.now())

        self.at_once(work)
        return self.wait_handshake(timeout=timeout)

    def restart_mcu(self) -> None:
        """Ask the MCU to restart (0F), and wait for the ack."""
        __tracebackhide__ = True
        self.send(Command.RESTART_MCU)

    def send(self, command: int, payload: bytes = b"", *, flags: int = 0) -> Mapping[str, Any]:
        """Send any command, and wait for the ack; gives the ack's fields.

        :raises NotSeenError: no ack.
        """
        __tracebackhide__ = True
        return self.do(self._command(command, payload, flags))

    async def _command(self, command: int, payload: bytes, flags: int) -> Mapping[str, Any]:
        self.endings.clear()
        self.role.send(command, payload, now=self.now(), flags=flags)
        self.driver.wake()
        return (await self.acked(command, f"command {command:02X}")).fields or {}
