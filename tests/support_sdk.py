"""A simulated MCU that behaves as the vendor's generated code was observed to do, receiver and all.

``sim.mcu_defects`` holds faults; these are habits that peers accept, so they are no defects.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from gizserial.commands import Command
from gizserial.framing import Frame, Item
from gizserial.mcu import McuRole
from gizserial.mcu_options import McuOptions
from gizserial.p0 import Meaning
from gizserial.product import Layout, Product
from sim.mcu_defects.hooks import is_reply, is_report, paid, parsed
from sim.mcu_defects.machine import DefectiveMcu
from sim.mcu_defects.model import Defect, Fault, Out, row

OPTIONS: dict[str, Any] = {
    "ack_match_sn": False,
    "pending_overwrite": True,
    "dedup": False,
    "report_min_slow_only": True,
    "report_flags_ff": True,
    "answer_last_reported": True,
    "report_after_control": False,
    "no_ack_on_bad_sum_notice": False,
    "takes_out_of_range": True,
    "idle_timeout": 60.0,
}


class Receiver(Fault):
    """``gizProtocolGetOnePacket``: a header counts from the fifth byte on, FF 55 is FF anywhere.

    :ivar longest: The most bytes that its buffer held; it does not check.
    """

    def __init__(self) -> None:
        self.longest = 0
        self._in_frame = False
        self._buffer = bytearray()
        self._size = 0
        self._last = 0

    def incoming(self, data: bytes, now: float) -> bytes:  # noqa: ARG002 - the hook's signature
        out = bytearray()
        for byte in data:
            done = self._take(byte)
            if done:
                out += _rebuilt(done)
        return bytes(out)

    def _take(self, byte: int) -> bytes:
        last, self._last = self._last, byte
        if last == 0xFF and byte == 0xFF:
            if not self._in_frame or (len(self._buffer) > 4 and len(self._buffer) != self._size):
                self._in_frame = True
                self._buffer = bytearray(b"\xff\xff")
            return b""
        if (last == 0xFF and byte == 0x55) or not self._in_frame:
            return b""
        self._buffer.append(byte)
        self.longest = max(self.longest, len(self._buffer))
        if len(self._buffer) > 4:
            self._size = int.from_bytes(self._buffer[2:4], "big") + 4
            if len(self._buffer) == self._size:
                frame, self._in_frame, self._last = bytes(self._buffer), False, 0
                self._buffer.clear()
                return frame
        return b""


def _rebuilt(logical: bytes) -> bytes:
    """The frame on the wire as our role reads it; damaged ones stay damaged."""
    wire = logical[:2] + logical[2:].replace(b"\xff", b"\xff\x55")
    return wire if len(logical) >= 9 else b""


class Habits(Fault):
    """Flags copied into acks, partial answers with a tail, numbers one lower, deaf while it restarts."""

    def __init__(self) -> None:
        self._flags: dict[tuple[int, int], int] = {}
        self._asked = b""

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame):
            self._flags[item.command + 1, item.sn] = item.flags
            if item.command == Command.P0_TO_MCU:
                self._asked = item.payload
            elif item.command == Command.RESTART_MCU:
                self.mcu.deaf(0.6)
        return super().received(item, now)

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        if frame.command in {Command.HEARTBEAT + 1, Command.STATUS + 1}:
            return [Out(dataclasses.replace(frame, flags=self._flags.get((frame.command, frame.sn), 0)))]
        if is_reply(frame) or is_report(frame):
            frame = self._truncated(frame)
        if is_reply(frame) and self.mcu.product.layout is Layout.VARIABLE:
            frame = self._padded(frame)
        return [Out(frame)]

    def _truncated(self, frame: Frame) -> Frame:
        """x = (y - addition) / ratio in C float loses one with a broken ratio."""
        p0 = parsed(self.mcu, frame)
        if p0 is None or not p0.raw:
            return frame
        lower = {
            name: value - 1
            if isinstance(value, int) and value and _broken_ratio(self.mcu.product, name)
            else value
            for name, value in p0.raw.items()
        }
        same = p0.meaning is Meaning.REPORT
        return paid(frame, self.mcu.p0.report(lower) if same else self.mcu.p0.reply(lower))

    def _padded(self, frame: Frame) -> Frame:
        product = self.mcu.product
        if not any(self._asked[1:]):
            frame = paid(frame, frame.payload[:1] + bytes(product.flag_bytes))
        return paid(frame, frame.payload.ljust(len(self.mcu.p0.report(self.mcu.role.raw)), b"\xa5"))


def _broken_ratio(product: Product, name: str) -> bool:
    scale = product.point(name).scale
    return scale is not None and scale.ratio % 1 != 0


def sdk_mcu(of: Product, byte_time: float) -> tuple[DefectiveMcu, Receiver]:
    """The MCU, and its receiver to look at."""
    receiver = Receiver()
    habits: list[Defect] = [
        row("sdk-receiver", "", "", "", lambda: receiver),
        row("sdk-habits", "", "", "", Habits),
    ]
    options = dataclasses.replace(McuOptions(byte_time=byte_time), **OPTIONS)
    return DefectiveMcu(McuRole(of, options), habits), receiver
