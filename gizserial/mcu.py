"""The MCU's end of the serial line, as a machine without I/O (serial.md §5.7, §6.6).

It answers the module, applies controls, reports what changed, and asks the module for things.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gizserial import schemas
from gizserial.adapters import Body
from gizserial.commands import FRAMES, Command, IllegalFrameCode, Role
from gizserial.datapoints import Raw
from gizserial.endpoint import NOTICES, Endpoint
from gizserial.errors import BodyError, ValueOutOfRange
from gizserial.events import (
    BadFrameReceived,
    CommandReceived,
    ControlApplied,
    Event,
    McuRestarting,
    ModuleAnswered,
    NoticeReceived,
    RawDataReceived,
    ReadAnswered,
    Reported,
    Request,
    RequestAcked,
    RequestFailed,
    UnknownReceived,
    WifiStatusReceived,
)
from gizserial.framing import BadFrame, Frame
from gizserial.image import Image
from gizserial.mcu_options import McuOptions
from gizserial.mcu_reports import ReportPolicy, zero
from gizserial.p0 import P0, Meaning, P0Codec, raw_from_mcu, take_sub_device
from gizserial.product import DataPoint, DataType, Layout, Product
from gizserial.transfer import FileTransfers

_AUTO_CODE: Final = 0x02
_VAR_LEN: Final = 0x80
_REPORT: Final = object()
"""Token of a report that coalesces: the next one waits until it is acked or given up."""
_SUB_DEVICE: Final = 0x0001
_NEWS: Final = object()
"""Token of the 29 after an update; it is repeated until the module acked it."""
NEWS_AGAIN: Final = 5.0
"""Seconds until the module is asked again to read the new version."""


class McuRole:
    """The MCU of one product.

    :param values: Real values to begin with, by name; what is not named starts as 0.
    :raises ValueOutOfRange: a value that the definition does not allow.
    """

    def __init__(
        self,
        product: Product,
        options: McuOptions | None = None,
        *,
        values: Mapping[str, object] | None = None,
    ) -> None:
        self.product: Final = product
        self.options: Final = options or McuOptions()
        self.p0: Final = P0Codec(product)
        self.wifi_status = 0
        """The module's status word, as pushed last."""
        self._endpoint = Endpoint(Role.MCU, self.options.endpoint())
        self._events: list[Event] = []
        self._now = float("-inf")
        self._initial = {point.name: zero(point) for point in product.points}
        for name, value in (values or {}).items():
            self._initial[name] = product.point(name).raw(value)
        self._live = dict(self._initial)
        self._policy = ReportPolicy(product, self.options)
        self._open_reports = 0
        """Reports that wait for their ack, or for the line."""
        self._owed: dict[str, None] = {}
        """Points whose report after a control found no place in the queue."""
        self._restart_due: float | None = None
        self.soft_ver = self.options.soft_ver
        """What it says of its software in 02; :meth:`boot` changes it."""
        self._boots = ""
        """The version that the next restart brings."""
        self._news_due: float | None = None
        """When the module is to be told that there is a new version to read."""
        self._news: Request | None = None
        """The 29 that is to make it read it."""
        self._files = FileTransfers(self._endpoint, self.options.files(), tell=self._tell)
        self._up = self._started = False

    # --- values

    @property
    def raw(self) -> Mapping[str, Raw]:
        """Live raw values by name."""
        return self._live

    def value(self, name: str) -> Any:
        """The live real value of a point."""
        return self.product.point(name).value(self._live[name])

    def set_value(self, name: str, value: object, *, now: float) -> None:
        """The product's own doing: a key, a sensor. Reported by the rules.

        :raises EncodeError: an unknown name, or a value that the definition does not allow.
        """
        self.set_values({name: value}, now=now)

    def set_values(self, values: Mapping[str, object], *, now: float) -> None:
        """Several values at one moment: one report has them all.

        :raises EncodeError: as :meth:`set_value`; then none is set.
        """
        self._set({name: self.product.point(name).raw(value) for name, value in values.items()}, now)

    def set_raw(self, name: str, raw: Raw, *, now: float) -> None:
        """As :meth:`set_value` with a raw value, which may be out of the definition's range."""
        self._require_fit(name, raw)
        self._set({name: raw}, now)

    def _require_fit(self, name: str, raw: Raw) -> None:
        point = self.product.point(name)
        if isinstance(raw, int) is (point.data_type is DataType.BINARY):
            raise ValueOutOfRange(name, raw, "bytes for binary points, an integer for others")
        if isinstance(raw, int) and not 0 <= raw <= point.raw_limit:
            raise ValueOutOfRange(name, raw, f"a raw value from 0 to {point.raw_limit}")
        if isinstance(raw, bytes) and len(raw) != point.size:
            raise ValueOutOfRange(name, raw.hex(), f"{point.size} bytes")

    def _set(self, raw: Mapping[str, Raw], now: float) -> None:
        self._advance(now)
        self._live.update(raw)
        self._report_changes(now)

    # --- what it asks the module for

    def provision(self, mode: int, *, now: float) -> None:
        """Have the module wait for router data: 1 SoftAP, 2 AirLink."""
        self.send(Command.PROVISION, schemas.PROVISION.build({"mode": mode}), now=now)

    def give_access_point(self, ssid: str, password: str, *, now: float, bssid: str = "") -> None:
        """Give the module the router's data directly (mode 4).

        :param bssid: 12 lower-case hex digits, or nothing.
        :raises ValueOutOfRange: a text of more than 255 bytes.
        """
        fields = {"mode": 4, "ssid": ssid, "password": password, "bssid": bssid}
        self.send(Command.PROVISION, schemas.PROVISION.build(fields), now=now)

    def reset_module(self, *, now: float) -> None:
        """Have the module forget router and bindings."""
        self.send(Command.RESET_MODULE, now=now)

    def open_bind_window(self, *, now: float) -> None:
        """Let new users bind for the bind time."""
        self.send(Command.BIND_WINDOW, now=now)

    def start_test(self, *, now: float) -> None:
        """Have the module enter the production test."""
        self.send(Command.PRODUCTION_TEST, now=now)

    def ask_time(self, *, now: float) -> None:
        """Ask for the network time; :class:`ModuleAnswered` brings it."""
        self.send(Command.NETWORK_TIME, now=now)

    def ask_module_info(self, *, now: float) -> None:
        """Ask the module who it is; :class:`ModuleAnswered` brings it."""
        self.send(Command.MODULE_INFO, schemas.MODULE_INFO_REQUEST.build({"type": 0}), now=now)

    def restart_module(self, *, now: float) -> None:
        """Have the module restart."""
        self.send(Command.RESTART_MODULE, now=now)

    def send_file(self, image: Image, *, now: float, token: object = None) -> None:
        """Send a file to the module, for the cloud; the events are those of the module's ``offer_file``.

        :raises QueueFullError: another file is under way.
        """
        self._advance(now)
        self._files.offer(image, now=now, token=token)

    def stop_file(self, *, now: float, detail: str = "") -> None:
        """Stop the files that are under way: 27 for firmware, 1F for a file of ours."""
        self._advance(now)
        self._files.stop(now=now, detail=detail)

    def refuse_file(self, *, now: float) -> None:
        """Firmware that came whole is none that this MCU can start: tell the module (27)."""
        self._advance(now)
        self._files.refuse(now=now)

    def boot(self, soft_ver: str, *, now: float) -> None:
        """New firmware is in place: restart with its version, then have the module read it (29; §4.13).

        :raises EncodeError: a version that does not fit its field.
        """
        schemas.DEVICE_INFO.build(self._info_fields(soft_ver))
        self._advance(now)
        self._boots = soft_ver
        self._restart_due = now + self.options.reboot_delay_ms / 1000

    def send_raw(self, data: bytes, *, now: float) -> None:
        """Send opaque bytes to the apps."""
        self.send(Command.P0_FROM_MCU, raw_from_mcu(data), now=now)

    def send(
        self, command: int, payload: bytes = b"", *, now: float, flags: int = 0, token: object = None
    ) -> None:
        """Send any frame that wants an ack.

        :raises QueueFullError: too many wait already.
        """
        self._advance(now)
        self._endpoint.send(command, payload, now=now, flags=flags, token=token)

    # --- the machine

    def connection_made(self, *, now: float) -> list[Event]:
        """The line is up: the MCU's clocks start."""
        self._advance(now)
        self._up = True
        self._events += self._endpoint.connection_made(now=now)
        if not self._started:
            self._started = True
            self._policy.power_up(now)
        self._report_changes(now)
        return self._take()

    def connection_lost(self, *, now: float) -> list[Event]:
        """The line is down; values go on changing, nobody hears of them."""
        self._advance(now)
        self._up = False
        self._files.forget("the line went down")
        self._react(self._endpoint.connection_lost(now=now), now)
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
        times = [self._endpoint.next_timeout(), self._files.next_timeout(), self._restart_due]
        if self._may_tell_news:
            times.append(self._news_due)
        if self._may_report:
            times.append(self._policy.next_timeout(self._live))
        return min((time for time in times if time is not None), default=None)

    def handle_timeout(self, *, now: float) -> list[Event]:
        """Do what is due."""
        self._advance(now)
        self._react(self._endpoint.handle_timeout(now=now), now)
        self._files.handle_timeout(now)
        if self._restart_due is not None and now >= self._restart_due:
            self._restart(now)
        if self._may_tell_news and self._news_due is not None and now >= self._news_due:
            self._news_due = None
            self._news = self._endpoint.send(Command.RESTART_MODULE, now=now, token=_NEWS, reserved=True)
        self._report_changes(now)
        return self._take()

    def _advance(self, now: float) -> None:
        self._now = max(self._now, now)

    def _take(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _tell(self, event: Event) -> None:
        self._events.append(event)

    @property
    def _may_tell_news(self) -> bool:
        """Not while firmware comes: a module that restarts would break it off."""
        return self._up and not self._files.receiving

    def _news_is_known(self) -> None:
        """The module reads the version by itself (01): there is nothing to have it restarted for."""
        self._news_due = None
        if self._news is not None:
            self._endpoint.withdraw(self._news)
            self._news = None

    def _restart(self, now: float) -> None:
        self._restart_due = None
        self._files.forget("the MCU restarts")
        self._endpoint.restart()
        # Not reacted to: the end of a report would bring the next one, with values from before.
        self._events += self._endpoint.take_events()
        self._open_reports = 0
        self._live = dict(self._initial)
        self._policy.power_up(now)
        self._owed.clear()
        self.wifi_status = 0
        self._events.append(McuRestarting())
        if self._boots:
            self.soft_ver, self._boots = self._boots, ""
            self._news_due = now

    # --- reports

    @property
    def _may_report(self) -> bool:
        """One report of changes at a time: what changes meanwhile goes into the next one.

        The SDK sends it at once, which ends the repetitions of the one before.
        """
        waits = self._open_reports and not self.options.pending_overwrite
        return self._up and not waits and self._endpoint.has_room

    def _report_changes(self, now: float) -> None:
        """Report what the policy says."""
        if not self._may_report:
            return
        if self._owed:
            names = [point.name for point in self.product.points if point.name in self._owed]
            self._owed.clear()
            self._report(names, "control", now)
        elif self._policy.full_due(now):
            self._report([point.name for point in self.product.points], "periodic", now)
        else:
            names = self._policy.due(self._live, now)
            if names:
                self._report(names, "change", now)

    def _report(self, names: list[str], why: str, now: float) -> None:
        full = why == "periodic"
        shown = self._live if self.product.layout is Layout.FIXED else {n: self._live[n] for n in names}
        p0 = self.p0.report(shown)
        if full and self.options.report_flags_ff and self.product.layout is Layout.VARIABLE:
            flags = self.product.flag_bytes
            p0 = p0[:1] + b"\xff" * flags + p0[1 + flags :]
        self._endpoint.send(Command.P0_FROM_MCU, p0, now=now, token=_REPORT)
        self._open_reports += 1
        self._policy.sent(names, self._live, now, full=full)
        self._events.append(Reported(tuple(names), why))

    def _report_after_control(self, names: list[str], now: float) -> None:
        if not self.options.report_after_control:
            self._report_changes(now)
            return
        wanted = dict.fromkeys([*names, *self._policy.due(self._live, now)])
        ordered = [point.name for point in self.product.points if point.name in wanted]
        names = ordered or [point.name for point in self.product.points]
        if self._up and self._endpoint.has_room:
            self._report(names, "control", now)
        else:
            self._owed.update(dict.fromkeys(names))

    # --- reactions

    def _react(self, events: list[Event], now: float) -> None:
        for event in events:
            self._events.append(event)
            if isinstance(event, CommandReceived):
                self._command(event.frame, now)
            elif isinstance(event, RequestAcked):
                self._acked(event, now)
            elif isinstance(event, RequestFailed):
                self._files.failed(event.request, event.reason, now)
                if event.request.token is _NEWS:
                    self._news_due = now + NEWS_AGAIN
                self._ended(event.request, now)
            elif isinstance(event, NoticeReceived):
                self._files.noticed(event.frame, event.code)
            elif isinstance(event, BadFrameReceived):
                self._bad_frame(event.bad, now)
            elif isinstance(event, UnknownReceived):
                self._unknown(event.frame, now)

    def _acked(self, event: RequestAcked, now: float) -> None:
        self._files.acked(event.request, now)
        spec = FRAMES[event.ack.command]
        if isinstance(spec.body, Body):
            try:
                fields = dict(spec.body.parse(event.ack.payload))
            except BodyError:
                fields = {}
            self._events.append(ModuleAnswered(spec.name, fields))
        self._ended(event.request, now)

    def _ended(self, request: Request, now: float) -> None:
        if request.token is _REPORT:
            self._open_reports -= 1
        self._report_changes(now)

    def _command(self, frame: Frame, now: float) -> None:
        if frame.command == Command.DEVICE_INFO:
            info: bytes = schemas.DEVICE_INFO.build(self._info_fields(self.soft_ver))
            self._endpoint.ack(frame, info, now=now)
            self._news_is_known()
        elif frame.command == Command.P0_TO_MCU:
            self._p0(frame, now)
        elif frame.command == Command.STATUS:
            self._endpoint.ack(frame, now=now)
            self._status(frame)
        elif frame.command == Command.RESTART_MCU:
            self._endpoint.ack(frame, now=now)
            self._restart_due = now + self.options.reboot_delay_ms / 1000
        elif self._files.command(frame, now):
            pass
        elif FRAMES[frame.command].row.acked:
            self._endpoint.ack(frame, now=now)

    def _info_fields(self, soft_ver: str) -> dict[str, Any]:
        options = self.options
        fields: dict[str, Any] = {
            "protocol_ver": "00000004",
            "p0_ver": options.p0_ver,
            "hard_ver": options.hard_ver,
            "soft_ver": soft_ver,
            "product_key": _fitting(self.product.product_key),
            "bind_time": options.bind_time,
        }
        if options.info_variant >= "B":
            layout = _VAR_LEN if self.product.layout is Layout.VARIABLE else 0
            fields["dev_attr"] = bytes(7) + bytes((_AUTO_CODE | layout,))
        if options.info_variant >= "C":
            fields["product_secret"] = options.product_secret or "0" * 32
        if options.info_variant == "D":
            fields["data"] = dict(options.data)
        return fields

    def _p0(self, frame: Frame, now: float) -> None:
        try:
            did, start = take_sub_device(frame.payload, frame.flags)
        except BodyError:
            did, start = "", 0
        if did is not None:
            # For a sub-device, of which this MCU has none: the prefix is echoed, nothing is carried out.
            self._endpoint.ack(frame, frame.payload[:start], now=now, flags=_SUB_DEVICE)
            return
        try:
            p0 = self.p0.parse(frame.payload, carrier=frame.command)
        except BodyError:
            p0 = P0()
        if p0.meaning is Meaning.READ:
            self._read(frame, p0, now)
            return
        self._endpoint.ack(frame, now=now)
        if p0.meaning is Meaning.CONTROL:
            self._control(p0, now)
        elif p0.meaning is Meaning.RAW and p0.data is not None:
            self._events.append(RawDataReceived(p0.data))

    def _read(self, frame: Frame, p0: P0, now: float) -> None:
        source = self._policy.reported if self.options.answer_last_reported else self._live
        names = p0.points or tuple(point.name for point in self.product.points)
        self._endpoint.ack(frame, self.p0.reply({name: source[name] for name in names}), now=now)
        self._events.append(ReadAnswered(names))

    def _control(self, p0: P0, now: float) -> None:
        applied: dict[str, Raw] = {}
        ignored: list[str] = []
        for name, raw in (p0.raw or {}).items():
            point = self.product.point(name)
            if not point.writable or self._refused(point, raw):
                ignored.append(name)
            else:
                applied[name] = raw
        self._live.update(applied)
        self._events.append(ControlApplied(applied, tuple(ignored)))
        self._report_after_control([*applied, *ignored], now)

    def _refused(self, point: DataPoint, raw: Raw) -> bool:
        """Whether the definition does not allow the value; enums have no table for it in any case (§5.6)."""
        if self.options.takes_out_of_range and point.data_type is not DataType.ENUM:
            return False
        return bool(point.warnings(raw))

    def _status(self, frame: Frame) -> None:
        try:
            fields = schemas.WIFI_STATUS.parse(frame.payload)
        except BodyError:
            return
        before = schemas.WIFI_STATUS.parse(self.wifi_status.to_bytes(2, "big"))
        changed = tuple(name for name in fields if name != "status" and fields[name] != before[name])
        self.wifi_status = fields["status"]
        self._events.append(WifiStatusReceived(self.wifi_status, changed))

    def _bad_frame(self, bad: BadFrame, now: float) -> None:
        if bad.reason != "checksum" or bad.command is None or bad.sn is None:
            return
        if self.options.no_ack_on_bad_sum_notice and _is_answer(bad.command):
            return
        self._endpoint.notice(bad.sn, IllegalFrameCode.CHECKSUM, now=now)

    def _unknown(self, frame: Frame, now: float) -> None:
        # Also an ack that only an MCU sends, as in the SDK (observed.md). A notice for a notice could go on
        # for ever, for example where TX and RX are bridged.
        if frame.command not in NOTICES:
            self._endpoint.notice(frame.sn, IllegalFrameCode.UNKNOWN_COMMAND, now=now)


def _fitting(product_key: str) -> str:
    """What of a key fits its 32 bytes: a definition with a longer one is only warned of (cli.md §6)."""
    return product_key.encode()[:32].decode(errors="ignore")


def _is_answer(command: int) -> bool:
    """An ack (even id) or a notice: answering it could go on for ever (§4.9)."""
    return command % 2 == 0 or command == Command.ILLEGAL_FRAME_FROM_MODULE
