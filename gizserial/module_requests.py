"""What the module answers when the MCU asks: one method per command (serial.md §4)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from gizserial import schemas
from gizserial.adapters import Body
from gizserial.commands import COMMANDS, Command, IllegalFrameCode
from gizserial.endpoint import Endpoint
from gizserial.errors import BodyError
from gizserial.events import ModuleAsked, ReportReceived, ResetRequested, RestartRequested
from gizserial.framing import Frame
from gizserial.p0 import take_sub_device
from gizserial.transfer import FileTransfers

if TYPE_CHECKING:
    from gizserial.module import ModuleRole

SOFTAP, AIRLINK, WRITE_ACCESS_POINT = 1, 2, 4
"""Provisioning modes (§4.5)."""
SERIAL_PROTOCOL: Final = "00000004"
WIFI: Final = 1
_SUB_DEVICE: Final = 0x0001


class ModuleRequests:
    """Acks commands of the MCU, before acting where acting is slow (§1.8)."""

    def __init__(self, module: ModuleRole, endpoint: Endpoint, files: FileTransfers) -> None:
        self._module, self._endpoint, self._files = module, endpoint, files
        self._handlers: Final[dict[int, Callable[[Frame, float], None]]] = {
            Command.P0_FROM_MCU: self._report,
            Command.PROVISION: self._provision,
            Command.RESET_MODULE: self._reset,
            Command.PRODUCTION_TEST: self._test,
            Command.BIND_WINDOW: self._bind_window,
            Command.NETWORK_TIME: self._time,
            Command.MODULE_INFO: self._module_info,
            Command.RESTART_MODULE: self._restart,
        }

    def answer(self, frame: Frame, now: float) -> None:
        """Ack one command and do what it says. Those without a handler are acked and told."""
        if not self._files.command(frame, now):
            self._handlers.get(frame.command, self._told)(frame, now)

    def _report(self, frame: Frame, now: float) -> None:
        did, start, prefix = None, 0, b""
        try:
            did, start = take_sub_device(frame.payload, frame.flags)
            prefix = frame.payload[:start]
        except BodyError:
            prefix = b""  # acked all the same: the module does not look into reports (§4.3)
        self._endpoint.ack(frame, prefix, now=now, flags=_SUB_DEVICE if prefix else 0)
        p0 = frame.payload[start:]
        if p0 or self._module.options.forward_empty_p0:
            self._module.tell(ReportReceived(p0, did))

    def _provision(self, frame: Frame, now: float) -> None:
        try:
            fields = schemas.PROVISION.parse(frame.payload)
        except BodyError:
            self._endpoint.notice(frame.sn, IllegalFrameCode.OTHER, now=now)
            return
        self._endpoint.ack(frame, now=now)
        mode = fields["mode"]
        if mode == SOFTAP:
            self._module.provision("softap", now=now)
        elif mode == WRITE_ACCESS_POINT:
            self._module.give_access_point(fields["ssid"], fields["password"], now=now, bssid=fields["bssid"])
        elif mode == AIRLINK or self._module.options.cfg_unknown_is_airlink:
            self._module.provision("airlink", now=now)
        else:
            self._module.tell(ModuleAsked("provision", {"mode": mode}))

    def _reset(self, frame: Frame, now: float) -> None:
        self._endpoint.ack(frame, now=now)
        self._module.tell(ResetRequested())
        self._module.forget_network(now=now, delay=self._module.options.reset_delay)

    def _test(self, frame: Frame, now: float) -> None:
        self._endpoint.ack(frame, now=now)
        self._module.start_test(now=now)

    def _bind_window(self, frame: Frame, now: float) -> None:
        self._endpoint.ack(frame, now=now)
        self._module.open_bind_window(now=now)

    def _time(self, frame: Frame, now: float) -> None:
        fields = time_fields(
            self._module.utc(now), self._module.tz, from_1970=self._module.options.time_from_1970
        )
        self._endpoint.ack(frame, schemas.NETWORK_TIME.build(fields), now=now)
        self._module.tell(ModuleAsked("network_time", fields))

    def module_info(self) -> dict[str, Any]:
        """Body of the answer to 21."""
        options = self._module.options
        info = self._module.info
        attributes = info.dev_attr if info is not None and info.dev_attr is not None else bytes(8)
        return {
            "type": WIFI,
            "protocol_ver": SERIAL_PROTOCOL,
            "hard_ver": options.hard_ver,
            "soft_ver": self._module.soft_ver,
            "mac": self._module.mac,
            "ip": self._module.ip,
            "dev_attr": attributes,
        }

    def _module_info(self, frame: Frame, now: float) -> None:
        fields = self.module_info()
        self._endpoint.ack(frame, schemas.MODULE_INFO.build(fields), now=now)
        self._module.tell(ModuleAsked("module_info", fields))

    def _restart(self, frame: Frame, now: float) -> None:
        self._endpoint.ack(frame, now=now)
        self._module.tell(RestartRequested())
        self._module.reboot("restarted by the MCU", now=now, delay=self._module.options.restart_delay)

    def _told(self, frame: Frame, now: float) -> None:
        row = COMMANDS[Command(frame.command)]
        if row.acked:
            self._endpoint.ack(frame, now=now)
        fields: dict[str, Any] = {}
        if isinstance(row.body, Body):
            try:
                fields = dict(row.body.parse(frame.payload))
            except BodyError:
                fields = {}
        self._module.tell(ModuleAsked(row.name, fields))


def time_fields(utc: float | None, tz: int, *, from_1970: bool = False) -> dict[str, int]:
    """Body of the answer to 17: local calendar and UTC seconds; zeros before the time is known (R17)."""
    if utc is None and not from_1970:
        return dict.fromkeys(("year", "month", "day", "hour", "minute", "second", "timestamp"), 0)
    seconds = int(utc or 0)
    local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds + tz)
    return {
        "year": local.year,
        "month": local.month,
        "day": local.day,
        "hour": local.hour,
        "minute": local.minute,
        "second": local.second,
        "timestamp": seconds & 0xFFFFFFFF,
    }
