"""Defects that do not show on a desk: rare numbers, unusual frames, both directions at once."""

from __future__ import annotations

import dataclasses
from typing import Final

from gizserial.commands import Command
from gizserial.framing import Frame, Item
from gizserial.product import DataPoint, Layout, Product
from sim.mcu_defects.hooks import is_ack, is_control, is_own, paid, parsed, receiving, sending
from sim.mcu_defects.machine import DefectiveMcu
from sim.mcu_defects.model import Fault, Out, has_writable, row
from sim.mcu_defects.reports import has_points, report_of, ticking

_FEW: Final = 3
_CONTROL_ACK: Final = Command.P0_TO_MCU + 1


class _FlagsCopied(Fault):
    """An ack is made in the buffer of its command, flags and all."""

    def __init__(self) -> None:
        self._flags: dict[tuple[int, int], int] = {}

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame):
            self._flags[item.command + 1, item.sn] = item.flags
        return super().received(item, now)

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        flags = self._flags.get((frame.command, frame.sn), 0) if is_ack(frame) else 0
        return [Out(dataclasses.replace(frame, flags=frame.flags | flags))]


class _SameNumber(Fault):
    """A control with the number of the last one is taken for its repetition, whatever is in it."""

    def __init__(self) -> None:
        self._last: int | None = None

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and is_control(item):
            if item.sn == self._last:
                self.mcu.say(Frame(_CONTROL_ACK, item.sn))
                return []
            self._last = item.sn
        return super().received(item, now)


class _SlowStore(Fault):
    """Values go into flash before the ack leaves: the more, the later."""

    def __init__(self) -> None:
        self._many = False

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and item.command == Command.P0_TO_MCU:
            p0 = parsed(self.mcu, item) if is_control(item) else None
            self._many = p0 is not None and len(p0.raw or ()) > _FEW
        return super().received(item, now)

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        return [Out(frame, 0.35 if self._many and frame.command == _CONTROL_ACK else 0.0)]


class _HalfDuplex(Fault):
    """What arrives while a frame leaves is lost: it sends with its interrupts off."""

    def __init__(self) -> None:
        self._busy = float("-inf")

    def encoded(self, frame: Frame, wire: bytes) -> bytes:  # noqa: ARG002 - the hook's signature
        byte_time = self.mcu.role.options.byte_time
        self._busy = max(self._busy, self.mcu.now) + len(wire) * byte_time
        return wire

    def incoming(self, data: bytes, now: float) -> bytes:
        return b"" if now < self._busy else data


class _OwnNumber(Fault):
    """The number of a command of its own is not escaped: the acks, which are, were tested."""

    def encoded(self, frame: Frame, wire: bytes) -> bytes:
        return wire[:6] + wire[7:] if is_own(frame) and frame.sn == 0xFF else wire


def _other_family(mcu: DefectiveMcu, frame: Frame) -> Frame:
    """The action is looked at by its lower half only."""
    if frame.command != Command.P0_TO_MCU or frame.payload[:1] not in {b"\x01", b"\x11"}:
        return frame
    action = 0x11 if mcu.product.layout is Layout.VARIABLE else 0x01
    return paid(frame, bytes((action,)) + frame.payload[1:])


def _filled(mcu: DefectiveMcu, frame: Frame) -> Frame:
    """What a control lacks is taken from a buffer that holds zeros."""
    return paid(frame, frame.payload + bytes(mcu.product.status_size)) if is_control(frame) else frame


def _no_padding(mcu: DefectiveMcu, frame: Frame) -> Frame | None:
    if not is_control(frame):
        return frame
    points = mcu.p0.data_points
    size = len(points.build_flags(()))
    flags = int.from_bytes(frame.payload[1 : 1 + size], "big")
    known = int.from_bytes(points.build_flags(point.name for point in _flagged(mcu.product)), "big")
    return None if flags & ~known else frame


def _flagged(product: Product) -> tuple[DataPoint, ...]:
    return product.points if product.layout is Layout.VARIABLE else product.writable


def _spare_flags(product: Product) -> bool:
    return bool(product.writable) and len(_flagged(product)) % 8 != 0


def _calls_status_illegal(mcu: DefectiveMcu, frame: Frame) -> Frame:
    if frame.command == Command.STATUS:
        mcu.say(Frame(Command.ILLEGAL_FRAME_FROM_MCU, frame.sn, b"\x03"), 0.02)
    return frame


def _garbled_data(_mcu: DefectiveMcu, frame: Frame) -> Frame:
    if frame.command != Command.DEVICE_INFO + 1:
        return frame
    data = b"cfgMode:1;\x80"
    return paid(frame, frame.payload[:106].ljust(106, b"0") + len(data).to_bytes(2, "big") + data)


DEFECTS: Final = (
    row(
        "ack-flags-copied",
        "copies the flags of a command into its ack",
        "acks have the flags 0000",
        "1.5",
        _FlagsCopied,
    ),
    row(
        "ack-late-after-large-control",
        "acks a control of many points after 350 ms, when it is stored",
        "an ack within 200 ms, before anything that is slow",
        "1.8",
        _SlowStore,
        fits=has_writable,
    ),
    row(
        "control-flag-padding-refused",
        "refuses controls with padding bits set",
        "flag bits above the last point are ignored",
        "5.4",
        receiving(_no_padding),
        fits=_spare_flags,
    ),
    row(
        "deaf-while-sending",
        "hears nothing while it sends",
        "the line has two directions",
        "1.1",
        _HalfDuplex,
    ),
    row(
        "dedup-by-sn-only",
        "takes any control with the number of the last one for a repetition",
        "a repetition has the same number and the same content",
        "1.8",
        _SameNumber,
        fits=has_writable,
    ),
    row(
        "escape-missing-in-own-sn",
        "leaves the escape out in the number of its own commands",
        "FF is escaped everywhere behind the header",
        "1.6",
        _OwnNumber,
        fits=has_writable,
    ),
    row(
        "info-data-garbled",
        "gives the module settings that are no key=value pairs",
        "the data field is ASCII key=value pairs joined by &",
        "4.1",
        sending(_garbled_data),
    ),
    row(
        "notice-on-good-frames",
        "calls status pushes illegal, and acks them",
        "a notice is for damaged and unknown frames",
        "4.9",
        receiving(_calls_status_illegal),
    ),
    row(
        "other-family-taken",
        "carries out controls with the action of the other family",
        "an action of the other family is acked empty and ignored",
        "5.1",
        receiving(_other_family),
        fits=has_writable,
    ),
    row(
        "report-every-ten-seconds",
        "reports every ten seconds, whatever changed",
        "a full report every 600 s",
        "6.6",
        ticking(10.0, report_of),
        fits=has_points,
    ),
    row(
        "resend-once",
        "repeats once only",
        "three transmissions in all",
        "1.8",
        options={"tries": 2},
        fits=has_writable,
    ),
    row(
        "short-control-taken",
        "takes values that a control announces and does not have from its buffer",
        "a control that is too short does nothing",
        "5.4",
        receiving(_filled),
        fits=has_writable,
    ),
)
"""Defects of this group."""
