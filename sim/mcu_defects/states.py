"""Defects of firmware that mistakes a state: of the line, of the network, of its values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gizserial.commands import Command
from gizserial.datapoints import Raw
from gizserial.framing import BadFrame, Frame, Item
from gizserial.product import DataPoint, DataType, Product
from sim.mcu_defects.hooks import controlling, is_control, is_report, parsed, receiving, reporting
from sim.mcu_defects.model import Fault, Out, has_writable, is_variable, row
from sim.mcu_defects.reports import has_points, report_of

if TYPE_CHECKING:
    from sim.mcu_defects.machine import DefectiveMcu

_CONTROL_ACK: Final = Command.P0_TO_MCU + 1
_ROUTER, _CLOUD = 4, 5
"""Bits of the status word."""
_MOTOR: Final = 0.5
"""Seconds that the firmware drives something and looks at nothing else."""
_FALLS_BACK: Final = 1.5


class _SumTaken(Fault):
    """Some wrong checksums are taken."""

    def __init__(self, right: Callable[[int, int], bool]) -> None:
        self._right = right

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, BadFrame) and item.reason == "checksum":
            body, said = item.logical[:-1], item.logical[-1]
            if self._right(said, sum(body) & 0xFF):
                return [Frame(body[2], body[3], body[6:], int.from_bytes(body[4:6], "big"))]
        return super().received(item, now)


class _NoNewHeader(Fault):
    """FF FF in the middle of a frame ends it, and does not begin the next one."""

    def __init__(self) -> None:
        self._inside = False

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        inside, self._inside = self._inside, isinstance(item, BadFrame) and item.reason == "truncated"
        return [] if inside and isinstance(item, Frame) else super().received(item, now)


class _WithoutCloud(Fault):
    """Something is not done while the status says that there is no cloud.

    :param reports: It does not report; otherwise it acks controls and forgets them.
    """

    def __init__(self, *, reports: bool) -> None:
        self._reports = reports
        self._cloud = True

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and item.command == Command.STATUS:
            self._cloud = _bit(item, _CLOUD)
        if isinstance(item, Frame) and is_control(item) and not (self._cloud or self._reports):
            self.mcu.say(Frame(_CONTROL_ACK, item.sn))
            return []
        return super().received(item, now)

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        return [] if is_report(frame) and self._reports and not self._cloud else [Out(frame)]


class _FallsBack(Fault):
    """A while after a control the values are those of the start again."""

    def __init__(self) -> None:
        self._due: float | None = None

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and is_control(item):
            self._due = now + _FALLS_BACK
        return super().received(item, now)

    def next_timeout(self) -> float | None:
        return self._due

    def handle_timeout(self, now: float) -> None:
        self._due = None
        self.mcu.forget_values(now)


class _Reports(Fault):
    """A command of the module draws a report besides its ack."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._count = 0

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and item.command == self._command:
            self._count += 1
            self.mcu.say(report_of(self.mcu, self._count), 0.02)
        return super().received(item, now)


def _bit(frame: Frame, number: int) -> bool:
    """A bit of a status word (serial.md §3.3)."""
    return bool(int.from_bytes(frame.payload[:2], "big") >> number & 1)


def _drives_motor(mcu: DefectiveMcu, frame: Frame) -> Frame:
    if is_control(frame):
        mcu.deaf(_MOTOR)
    return frame


def _provisions(mcu: DefectiveMcu, frame: Frame) -> Frame:
    if frame.command == Command.STATUS and not _bit(frame, _ROUTER):
        mcu.role.provision(2, now=mcu.now)
    return frame


def _toggled(mcu: DefectiveMcu, raw: dict[str, Raw]) -> dict[str, Raw]:
    return {
        name: 1 - int(mcu.role.raw[name]) if _is_bool(mcu.product.point(name)) and value else value
        for name, value in raw.items()
    }


def _is_bool(point: DataPoint) -> bool:
    return point.data_type is DataType.BOOL


def _without_last(mcu: DefectiveMcu, raw: dict[str, Raw]) -> dict[str, Raw]:
    last = mcu.product.writable[-1].name
    return {name: value for name, value in raw.items() if name != last}


def _writes_all(mcu: DefectiveMcu, frame: Frame) -> Frame:
    p0 = parsed(mcu, frame) if is_control(frame) else None
    for name, value in (p0.raw if p0 is not None and p0.raw else {}).items():
        if mcu.product.point(name) not in mcu.product.writable:
            mcu.role.set_raw(name, value, now=mcu.now)
    return frame


def _measures(product: Product) -> bool:
    return is_variable(product) and any(p not in product.writable and not p.width for p in product.points)


def _switches(product: Product) -> bool:
    return any(_is_bool(point) for point in product.writable)


DEFECTS: Final = (
    row(
        "bool-toggled",
        "toggles a bool that is set to 1",
        "a control says what a point is to be",
        "5.7",
        controlling(_toggled),
        fits=_switches,
    ),
    row(
        "checksum-seven-bits",
        "compares seven bits of the checksum",
        "a damaged frame is not carried out",
        "1.3",
        lambda: _SumTaken(lambda said, right: (said ^ right) & 0x7F == 0),
    ),
    row(
        "checksum-zero-unchecked",
        "takes a checksum of 00 for one that was not computed",
        "a damaged frame is not carried out",
        "1.3",
        lambda: _SumTaken(lambda said, _right: said == 0),
    ),
    row(
        "control-needs-cloud",
        "acks controls without cloud, and forgets them",
        "controls come from the LAN too",
        "6.4",
        lambda: _WithoutCloud(reports=False),
        fits=has_writable,
    ),
    row(
        "deaf-after-control",
        "hears nothing for half a second after a control, while a motor turns",
        "an ack within 200 ms",
        "1.8",
        receiving(_drives_motor),
        fits=has_writable,
    ),
    row(
        "header-inside-frame-lost",
        "loses the frame that follows one that broke off",
        "FF FF begins a new frame",
        "1.7",
        _NoNewHeader,
    ),
    row(
        "provisions-without-router",
        "starts provisioning when the router is away",
        "provisioning is for a person to start",
        "4.5",
        receiving(_provisions),
    ),
    row(
        "read-only-written",
        "takes values for points that only it can measure",
        "flags of points that cannot be written are ignored",
        "5.5",
        receiving(_writes_all),
        fits=_measures,
    ),
    row(
        "report-forgets-last-point",
        "leaves the last writable point out of its reports",
        "a report has what changed",
        "5.7",
        reporting(_without_last, replies=False),
        fits=has_writable,
    ),
    row(
        "report-needs-cloud",
        "reports nothing without cloud",
        "reports go to the LAN too",
        "6.4",
        lambda: _WithoutCloud(reports=True),
        fits=has_writable,
    ),
    row(
        "report-on-heartbeat",
        "reports at every heartbeat",
        "a report is for changes, controls and every 600 s",
        "6.6",
        lambda: _Reports(Command.HEARTBEAT),
        fits=has_points,
    ),
    row(
        "report-on-status",
        "reports at every status push",
        "a report is for changes, controls and every 600 s",
        "6.6",
        lambda: _Reports(Command.STATUS),
        fits=has_points,
    ),
    row(
        "values-lost-after-seconds",
        "forgets what a control set after a second and a half",
        "values stay",
        "5.7",
        _FallsBack,
        fits=has_writable,
    ),
)
"""Defects of this group."""
