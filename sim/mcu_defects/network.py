"""Defects of what the MCU makes of its network (serial.md §3.3, §4.5, §4.12)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gizserial.commands import Command
from gizserial.framing import Frame, Item
from sim.mcu_defects.hooks import paid, receiving, sending
from sim.mcu_defects.machine import DefectiveMcu
from sim.mcu_defects.model import Fault, Make, row

_CLOUD: Final = 1 << 5
_ROUTER: Final = 1 << 4


def _word(frame: Frame) -> int:
    """The status word of a push; 0 where it has none."""
    return int.from_bytes(frame.payload[:2], "big") if len(frame.payload) >= 2 else 0


class _AsksTime(Fault):
    """Asks for the time when a status comes.

    :param when: Told the word; whether to ask.
    :param again: Seconds until it asks again; 0: once.
    """

    def __init__(self, when: Callable[[int], bool], *, again: float = 0.0, hangs: bool = False) -> None:
        self._when, self._again, self._hangs = when, again, hangs
        self._due: float | None = None
        self._sn = 0x50

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and item.command == Command.STATUS:
            self._due = now + 0.05 if self._when(_word(item)) else None
        elif isinstance(item, Frame) and item.command == Command.NETWORK_TIME + 1 and item.sn == self._sn:
            if self._hangs and not any(item.payload):
                self.mcu.deaf(8.0)
            return []
        return super().received(item, now)

    def next_timeout(self) -> float | None:
        return self._due

    def handle_timeout(self, now: float) -> None:
        self._due = now + self._again if self._again else None
        self._sn = (self._sn + 1) & 0xFF
        self.mcu.say(Frame(Command.NETWORK_TIME, self._sn))


def _status_hangs(bit: int) -> Make:
    def changed(mcu: DefectiveMcu, frame: Frame) -> Frame | None:
        if frame.command == Command.STATUS and _word(frame) >> bit & 1:
            mcu.deaf(8.0)
            return None
        return frame

    return receiving(changed)


def _wrong_mode(_mcu: DefectiveMcu, frame: Frame) -> Frame:
    if frame.command == Command.PROVISION and frame.payload:
        return paid(frame, bytes((3 - frame.payload[0] if frame.payload[0] in {1, 2} else 1,)))
    return frame


DEFECTS: Final = (
    row(
        "status-bit-crashes",
        "hangs when the test bit is set",
        "every combination is taken",
        "3.3",
        _status_hangs(12),
    ),
    row(
        "status-bits-wrong",
        "takes the router bit for the cloud bit",
        "bit 5 is the cloud",
        "3.3",
        lambda: _AsksTime(lambda word: bool(word & _ROUTER)),
    ),
    row(
        "time-request-without-cloud",
        "asks for the time at every status",
        "only with a cloud",
        "4.12",
        lambda: _AsksTime(lambda _word: True),
    ),
    row(
        "time-request-storm",
        "asks for the time twice a second",
        "once is enough",
        "4.12",
        lambda: _AsksTime(lambda word: bool(word & _CLOUD), again=0.5),
    ),
    row(
        "time-zero-crashes",
        "hangs when the time is all zeros",
        "zeros: no time is known",
        "4.12",
        lambda: _AsksTime(lambda word: bool(word & _CLOUD), hangs=True),
    ),
    row(
        "provision-wrong-mode",
        "mixes SoftAP and AirLink up",
        "1 SoftAP, 2 AirLink",
        "4.5",
        sending(_wrong_mode),
    ),
)
