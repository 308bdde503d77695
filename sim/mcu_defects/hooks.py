"""Faults made of one function, for what needs no state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from gizserial.commands import FRAMES, Command, Role
from gizserial.datapoints import Raw
from gizserial.errors import BodyError, GizserialError
from gizserial.framing import Frame, Item, checksum
from gizserial.p0 import P0, Meaning
from sim.mcu_defects.model import Fault, Make, Out

if TYPE_CHECKING:
    from sim.mcu_defects.machine import DefectiveMcu

OnReceive = Callable[["DefectiveMcu", Frame], Frame | None]
OnSend = Callable[["DefectiveMcu", Frame], Frame | None]
OnRaw = Callable[["DefectiveMcu", dict[str, Raw]], dict[str, Raw]]


class _Receiving(Fault):
    def __init__(self, change: OnReceive) -> None:
        self._change = change

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if not isinstance(item, Frame):
            return super().received(item, now)
        changed = self._change(self.mcu, item)
        return [] if changed is None else [changed]


class _Sending(Fault):
    def __init__(self, change: OnSend) -> None:
        self._change = change

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        changed = self._change(self.mcu, frame)
        return [] if changed is None else [Out(changed)]


def receiving(change: OnReceive) -> Make:
    """Frames that arrive are changed, or lost (None)."""
    return lambda: _Receiving(change)


def sending(change: OnSend) -> Make:
    """Frames that leave are changed, or lost (None)."""
    return lambda: _Sending(change)


def is_ack(frame: Frame) -> bool:
    """An ack of the MCU."""
    spec = FRAMES.get(frame.command)
    return spec is not None and spec.is_ack and spec.sender is not Role.MODULE


def is_own(frame: Frame) -> bool:
    """A command of the MCU, a notice aside."""
    spec = FRAMES.get(frame.command)
    own = spec is not None and not spec.is_ack and spec.sender is not Role.MODULE
    return own and frame.command != Command.ILLEGAL_FRAME_FROM_MCU


def is_report(frame: Frame) -> bool:
    """A report of data points."""
    return frame.command == Command.P0_FROM_MCU and frame.payload[:1] in {b"\x04", b"\x14"}


def is_reply(frame: Frame) -> bool:
    """An answer to a read."""
    return frame.command == Command.P0_TO_MCU + 1 and bool(frame.payload)


def is_control(frame: Frame) -> bool:
    """A control of data points."""
    return frame.command == Command.P0_TO_MCU and frame.payload[:1] in {b"\x01", b"\x11"}


def is_read(frame: Frame) -> bool:
    """A read."""
    return frame.command == Command.P0_TO_MCU and frame.payload[:1] in {b"\x02", b"\x12"}


def paid(frame: Frame, payload: bytes) -> Frame:
    """The frame with another payload."""
    return dataclasses.replace(frame, payload=payload, wire=b"")


def parsed(mcu: DefectiveMcu, frame: Frame) -> P0 | None:
    """The P0 of a frame; None where it cannot be read."""
    try:
        return mcu.p0.parse(frame.payload, frame.command)
    except BodyError:
        return None


def controlling(change: OnRaw) -> Make:
    """Raw values of a control are changed before the role takes them."""

    def changed(mcu: DefectiveMcu, frame: Frame) -> Frame:
        p0 = parsed(mcu, frame) if is_control(frame) else None
        if p0 is None or p0.meaning is not Meaning.CONTROL or not p0.raw:
            return frame
        try:
            return paid(frame, mcu.p0.control(change(mcu, dict(p0.raw))))
        except GizserialError:
            return frame

    return receiving(changed)


def reporting(change: OnRaw, *, replies: bool = True) -> Make:
    """Raw values of reports (and replies) are changed when they leave."""

    def changed(mcu: DefectiveMcu, frame: Frame) -> Frame:
        if not (is_report(frame) or (replies and is_reply(frame))):
            return frame
        p0 = parsed(mcu, frame)
        if p0 is None or p0.raw is None:
            return frame
        raw = change(mcu, dict(p0.raw))
        return paid(frame, mcu.p0.report(raw) if is_report(frame) else mcu.p0.reply(raw))

    return sending(changed)


def logical(frame: Frame) -> bytes:
    """The frame from its length on, unescaped."""
    body = (len(frame.payload) + 5).to_bytes(2, "big") + bytes((frame.command, frame.sn))
    body += frame.flags.to_bytes(2, "big") + frame.payload
    return body + bytes((checksum(body),))
