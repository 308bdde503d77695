"""The Wi-Fi module's end of the serial line, as a machine without I/O (serial.md §4, §6.1–6.5).

::

    line up -> BOOT -> HANDSHAKE (01, 10 attempts) -> RUN (0D, 07, relaying)
                ^          `-- no answer --------.      |
                `------------- reboot <----------+------' no heartbeat, 29, 0B

What the module believes of its network comes in through :meth:`ModuleRole.set_router` and the others
(:mod:`gizserial.module_network`); what it is asked to do comes out as events. Requests of the MCU are
answered in :mod:`gizserial.module_requests`.
"""

from __future__ import annotations

import enum
import math
from typing import Final

from gizserial import schemas
from gizserial.commands import FRAMES, Command, IllegalFrameCode, Role
from gizserial.endpoint import NOTICES, Endpoint, QueueFullError
from gizserial.errors import BodyError
from gizserial.events import (
    BadFrameReceived,
    Booted,
    CommandReceived,
    DeviceInfo,
    Event,
    FrameReceived,
    HandshakeDone,
    HandshakeFailed,
    NoticeReceived,
    P0Acked,
    P0Failed,
    Rebooting,
    RequestAcked,
    RequestFailed,
    StatusChanged,
    StrayAckReceived,
    UnknownReceived,
)
from gizserial.framing import BadFrame, Frame
from gizserial.image import Image
from gizserial.module_network import ModuleNetwork, int_of
from gizserial.module_options import ModuleOptions
from gizserial.module_requests import ModuleRequests
from gizserial.p0 import take_sub_device
from gizserial.transfer import FileTransfers
from gizserial.wifi_status import PUSHED_BITS

HEARTBEAT: Final = 55.0
"""Seconds between heartbeats (``LocalHT``)."""
MISSED_MOST: Final = 3
"""More heartbeats missed than this and the module reboots (§6.2)."""
IDLE_LOSS: Final = 180.0
"""Seconds of silence after which older firmware reboots (§6.2)."""
LEAST_INFO: Final = 66
"""Bytes of the shortest answer to 01; a shorter one counts as none (§4.1)."""

_ALREADY_TOLD_BY_CHECKSUM: Final = frozenset(
    {
        Command.P0_FROM_MCU,
        Command.PROVISION,
        Command.RESET_MODULE,
        Command.PRODUCTION_TEST,
        Command.BIND_WINDOW,
        Command.NETWORK_TIME,
        Command.FILE_READY,
    }
)
"""A damaged frame with one of these commands draws 11 code 01, others code 02 (§4.9)."""


class Phase(enum.Enum):
    """Where the module is."""

    OFF = "off"
    BOOT = "boot"
    HANDSHAKE = "handshake"
    RUN = "run"


class ModuleRole(ModuleNetwork):
    """The module's end of the line.

    :param mac: 12 upper-case hex digits, for answers to 21.
    :raises EncodeError: a version or a MAC that does not fit its field.
    """

    def __init__(self, options: ModuleOptions | None = None, *, mac: str = "000000000000") -> None:
        super().__init__(options or ModuleOptions())
        self.mac = mac
        self.ip = ""
        """Its address in the router's network, dotted; empty without one."""
        self.soft_ver = self.options.soft_ver
        """Version of its own software: that of the options until it gets new firmware."""
        self.phase = Phase.OFF
        self._endpoint = Endpoint(Role.MODULE, self.options.endpoint())
        self._files = FileTransfers(self._endpoint, self.options.files(), tell=self.tell)
        self._requests = ModuleRequests(self, self._endpoint, self._files)
        self._now = float("-inf")
        self._boot_due: float | None = None
        self._reboot: tuple[float, str] | None = None
        self._booted_at = 0.0
        self._attempt = 0
        self._unusable = ""
        """What was wrong with an answer that did not count."""
        self._heartbeat_due: float | None = None
        self._missed = 0
        self._last_good = float("-inf")
        self._pushed: int | None = None
        self._push_due: float | None = None
        self._full_push_due: float | None = None
        self._provision_at_boot = False
        schemas.MODULE_INFO.build(self._requests.module_info())

    # --- what is sent to the MCU

    def send_p0(self, p0: bytes, *, now: float, token: object = None) -> None:
        """Relay a P0; :class:`P0Acked` or :class:`P0Failed` with the token tells how it went.

        :raises QueueFullError: too many wait, or the handshake is not done.
        """
        if self.phase is not Phase.RUN:
            raise QueueFullError("the MCU has not answered the handshake yet")
        if self.options.single_outstanding_drop and not self._endpoint.idle:
            raise QueueFullError("the line is busy: another P0 is waiting for its ack")
        self._endpoint.send(Command.P0_TO_MCU, p0, now=now, token=_Relay(token))

    def offer_file(self, image: Image, *, now: float, token: object = None) -> None:
        """Offer firmware to the MCU (19); reports go on meanwhile.

        Events with the token tell how it goes: :class:`FileOffered`, :class:`FileReady`,
        :class:`TransferProgress` for each piece, :class:`TransferEnded` once in any case. What the MCU
        makes of a complete file is seen in its next :class:`HandshakeDone`.

        :raises QueueFullError: the handshake is not done, or another file is under way.
        """
        if self.phase is not Phase.RUN:
            raise QueueFullError("the MCU has not answered the handshake yet")
        self._files.offer(image, now=now, token=token)

    def stop_file(self, *, now: float, detail: str = "") -> None:
        """Stop the files that are under way: 1F for ours, 27 for one of the MCU."""
        self._advance(now)
        self._files.stop(now=now, detail=detail)

    @property
    def sending_file(self) -> bool:
        """A file is offered to the MCU, or under way."""
        return self._files.sending

    @property
    def line_idle(self) -> bool:
        """Nothing that was sent to the MCU waits for its ack."""
        return self._endpoint.idle

    def restart_mcu(self, *, now: float) -> None:
        """Ask the MCU to restart (0F)."""
        self._endpoint.send(Command.RESTART_MCU, now=now)

    def send(self, command: int, payload: bytes = b"", *, now: float, flags: int = 0) -> None:
        """Send any other frame that wants an ack, as a conformance case does."""
        self._endpoint.send(command, payload, now=now, flags=flags)

    def reboot(self, reason: str, *, now: float, delay: float = 0.0) -> None:
        """Restart the module; identity and router data stay. Until then it asks the MCU for nothing more.

        Of two restarts the earlier one counts.
        """
        earlier = self._reboot is None or now + delay < self._reboot[0]
        if earlier and self.phase is not Phase.OFF:
            self._reboot = (now + delay, reason)
            self._heartbeat_due = self._push_due = self._full_push_due = None

    def forget_network(self, *, now: float, delay: float) -> None:
        """Reset: router data are erased, provisioning begins after the reboot (§4.6)."""
        self._provision_at_boot = True
        self.reboot("reset by the MCU", now=now, delay=delay)

    def tell(self, event: Event) -> None:
        """Add to what is told."""
        self._events.append(event)

    # --- the machine

    def connection_made(self, *, now: float) -> list[Event]:
        """The line is up: the module starts."""
        self._advance(now)
        self._events += self._endpoint.connection_made(now=now)
        self._start(now, delay=0.0)
        return self._take()

    def connection_lost(self, *, now: float) -> list[Event]:
        """The line is down: there is nothing to do until it is back."""
        self._advance(now)
        self.phase = Phase.OFF  # first: an abandoned 01 is no failed attempt
        self._files.forget("the line went down")
        self._react(self._endpoint.connection_lost(now=now), now)
        self._boot_due = self._reboot = None
        self._heartbeat_due = self._push_due = self._full_push_due = None
        return self._take()

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        """Take bytes off the line, in chunks of any size. Never raises on what a peer sent."""
        self._advance(now)
        self._react(self._endpoint.receive_data(data, now=now), now)
        return self._take()

    def data_to_send(self, *, now: float) -> bytes:
        """Take the bytes that are to leave."""
        self._advance(now)
        return self._endpoint.data_to_send(now=now)

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is due."""
        if self._events:
            return self._now
        times = [
            self._endpoint.next_timeout(),
            self._files.next_timeout(),
            self._boot_due,
            self._reboot[0] if self._reboot else None,
            self._heartbeat_due,
            self._push_due,
            self._full_push_due,
            *self._network_timeouts(),
        ]
        return min((time for time in times if time is not None), default=None)

    def handle_timeout(self, *, now: float) -> list[Event]:
        """Do what is due."""
        self._advance(now)
        self._react(self._endpoint.handle_timeout(now=now), now)
        self._files.handle_timeout(now)
        if self._reboot is not None and now >= self._reboot[0]:
            reason = self._reboot[1]
            self._reboot = None
            self._events.append(Rebooting(reason))
            self._start(now, delay=self.options.boot_time)
        if self._boot_due is not None and now >= self._boot_due:
            self._boot(now)
        self._network_timers(now)
        if self._heartbeat_due is not None and now >= self._heartbeat_due:
            self._heartbeat(now)
        self._push_if_due(now)
        return self._take()

    def _advance(self, now: float) -> None:
        self._now = max(self._now, now)

    def _take(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    # --- start

    def _start(self, now: float, *, delay: float) -> None:
        self.phase = Phase.BOOT  # first: an abandoned 01 is no failed attempt
        self._files.forget("the module restarts")
        self._endpoint.restart()
        self._endpoint.options = self.options.endpoint()
        self._react(self._endpoint.take_events(), now)
        self._boot_due = now + delay
        self._heartbeat_due = self._push_due = self._full_push_due = None
        self._pushed = None
        self._bind_until = self._test_until = None
        self._reboot = None

    def _boot(self, now: float) -> None:
        self._boot_due = None
        self._endpoint.abandon("the module starts")  # what was asked for while it rebooted
        self._react(self._endpoint.take_events(), now)
        self.phase = Phase.HANDSHAKE
        self._booted_at = now
        self._attempt = 0
        self._missed = 0
        self._last_good = now
        self._events.append(Booted())
        if self._provision_at_boot:
            self._provision_at_boot = False
            self.provision("airlink" if self._setting("cfgMode") == "2" else "softap", now=now)
        self._ask_info(now)

    def _ask_info(self, now: float) -> None:
        self._attempt += 1
        self._unusable = ""
        self._endpoint.send(Command.DEVICE_INFO, now=now, least=LEAST_INFO)

    def _info_failed(self, reason: str, now: float) -> None:
        if self.phase is not Phase.HANDSHAKE:
            return
        told = HandshakeFailed(self._attempt, self.options.info_attempts, self._unusable or reason)
        self._events.append(told)
        if self._attempt < self.options.info_attempts:
            self._ask_info(now)
        else:
            self.reboot("the MCU does not say who it is", now=now)

    def _info_arrived(self, ack: Frame, now: float) -> None:
        info = DeviceInfo(**dict(schemas.DEVICE_INFO.parse(ack.payload)))
        changed = self.info is not None and self.info.product_key != info.product_key
        self.info = info
        if self.phase is not Phase.HANDSHAKE:
            return
        self.phase = Phase.RUN
        wait = int_of(self._setting("LocalAckT"), 0, 0, 60_000)
        self._endpoint.options = self.options.endpoint(ack_wait=wait / 1000 if wait else None)
        self._bind_until = self._booted_at + info.bind_time if info.bind_time else None
        self._events.append(HandshakeDone(info, changed))
        self._heartbeat_due = self._booted_at + self._heartbeat_s
        self._push_due = self._next_tick(now)

    # --- reactions

    def _react(self, events: list[Event], now: float) -> None:
        deaf = self.phase is Phase.BOOT and self._boot_due is not None and now < self._boot_due
        for event in events:
            self._events.append(event)
            if deaf and not isinstance(event, RequestAcked | RequestFailed):
                continue
            if isinstance(event, FrameReceived):
                self._missed = 0
                self._last_good = now
                if self.options.heartbeat_policy == "idle" and self._heartbeat_due is not None:
                    self._heartbeat_due = now + self._heartbeat_s
            elif isinstance(event, CommandReceived):
                self._requests.answer(event.frame, now)
            elif isinstance(event, RequestAcked):
                self._acked(event, now)
            elif isinstance(event, RequestFailed):
                self._failed(event, now)
            elif isinstance(event, StrayAckReceived):
                self._stray(event.frame)
            elif isinstance(event, NoticeReceived):
                self._files.noticed(event.frame, event.code)
            elif isinstance(event, BadFrameReceived):
                self._bad_frame(event.bad, now)
            elif isinstance(event, UnknownReceived) and not self.options.silent_on_unknown:
                self._unknown(event.frame, now)

    def _acked(self, event: RequestAcked, now: float) -> None:
        self._files.acked(event.request, now)
        command = event.request.frame.command
        if command == Command.DEVICE_INFO:
            self._info_arrived(event.ack, now)
        elif isinstance(event.request.token, _Relay):
            p0 = event.ack.payload
            try:
                p0 = p0[take_sub_device(p0, event.ack.flags)[1] :]
            except BodyError:
                p0 = event.ack.payload  # the requester sees what came
            self._events.append(P0Acked(event.request.token.token, p0))

    def _failed(self, event: RequestFailed, now: float) -> None:
        self._files.failed(event.request, event.reason, now)
        if event.request.frame.command == Command.DEVICE_INFO:
            self._info_failed(event.reason, now)
        elif isinstance(event.request.token, _Relay):
            self._events.append(P0Failed(event.request.token.token, event.reason))

    def _stray(self, ack: Frame) -> None:
        if ack.command == Command.DEVICE_INFO + 1 and len(ack.payload) < LEAST_INFO:
            self._unusable = f"its answer has {len(ack.payload)} bytes, {LEAST_INFO} is the least"

    def _bad_frame(self, bad: BadFrame, now: float) -> None:
        """§4.9: damaged acks and notices stay unanswered."""
        if bad.reason != "checksum" or bad.command is None or bad.sn is None:
            return
        spec = FRAMES.get(bad.command)
        if bad.command == Command.ILLEGAL_FRAME_FROM_MCU or (spec is not None and spec.is_ack):
            return
        known = bad.command in _ALREADY_TOLD_BY_CHECKSUM
        code = IllegalFrameCode.CHECKSUM if known else IllegalFrameCode.UNKNOWN_COMMAND
        self._endpoint.notice(bad.sn, code, now=now)

    def _unknown(self, frame: Frame, now: float) -> None:
        spec = FRAMES.get(frame.command)
        # A notice for a notice could go on for ever, for example where TX and RX are bridged.
        if frame.command in NOTICES or (spec is not None and spec.is_ack):
            return
        self._endpoint.notice(frame.sn, IllegalFrameCode.UNKNOWN_COMMAND, now=now)

    # --- heartbeat

    @property
    def _heartbeat_s(self) -> float:
        if self.options.heartbeat_s is not None:
            return self.options.heartbeat_s
        return float(int_of(self._setting("LocalHT"), int(HEARTBEAT), 1, 3600))

    def _heartbeat(self, now: float) -> None:
        self._heartbeat_due = now + self._heartbeat_s
        lost = (
            now - self._last_good >= IDLE_LOSS
            if self.options.heartbeat_policy == "idle"
            else self._missed > MISSED_MOST
        )
        if lost and self.options.reboot_on_loss:
            self.reboot("the MCU does not answer heartbeats", now=now)
            return
        if self.options.heartbeat_policy == "idle" and now < self._last_good + IDLE_LOSS:
            self._heartbeat_due = min(self._heartbeat_due, self._last_good + IDLE_LOSS)
        if self._try_send(Command.HEARTBEAT, now=now):
            self._missed += 1

    def _try_send(self, command: Command, payload: bytes = b"", *, now: float) -> bool:
        """Send a frame of the module's own, P0 waiting or not; when the one before still waits, not now."""
        if self._endpoint.waits(command):
            return False
        self._endpoint.send(command, payload, now=now, reserved=True)
        return True

    # --- status

    def _changed(self, now: float) -> None:
        """Something in the status may have changed: look at it at the next tick."""
        self._advance(now)
        if self.phase is Phase.RUN and self._push_due is None and self._reboot is None:
            self._push_due = self._next_tick(now)

    def _next_tick(self, now: float) -> float:
        tick = self.options.status_tick_s
        due = self._booted_at + (math.floor((now - self._booted_at) / tick) + 1) * tick
        return due if due > now else due + tick  # rounding may have given the tick that is now

    def _push_if_due(self, now: float) -> None:
        ticked = self._push_due is not None and now >= self._push_due
        full = self._full_push_due is not None and now >= self._full_push_due
        if not (ticked or full):
            return
        self._push_due = None
        word = self.status.word
        if not full and word & PUSHED_BITS == self._pushed:
            return
        if not self._try_send(Command.STATUS, self.status.encode(), now=now):
            self._push_due = self._next_tick(now)
            if full:
                self._full_push_due = self._push_due
            return
        # Set before it is sent: a push that is never acked is not repeated until the next change (§6.3).
        self._pushed = word & PUSHED_BITS
        self._full_push_due = now + self.options.status_period_s
        self._events.append(StatusChanged(word))


class _Relay:
    """Marks a request that relays a P0, and keeps whose it is."""

    __slots__ = ("token",)

    def __init__(self, token: object) -> None:
        self.token = token
