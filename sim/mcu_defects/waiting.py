"""Defects while a report waits for its ack: what ends it, what is sent again, what gets lost."""

from __future__ import annotations

from typing import Final

from gizserial.commands import Command
from gizserial.framing import BadFrame, Frame, Item
from sim.mcu_defects.hooks import is_ack, is_control, is_report
from sim.mcu_defects.model import Fault, Out, has_writable, row

_ACK: Final = Command.P0_FROM_MCU + 1
_INTERVAL: Final = 0.2
_WRAP: Final = 65.536
"""Seconds that a counter of milliseconds with 16 bits can count."""


class _Waiting(Fault):
    """Knows the report that waits for its ack, and how often it was sent."""

    def __init__(self) -> None:
        self.report: Frame | None = None
        self.copies = 0

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        if is_report(frame):
            self.copies = self.copies + 1 if frame == self.report else 1
            self.report = frame
        return [Out(frame)]

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and item.command == _ACK:
            self.report = None
        return super().received(item, now)


class _LateAckOverlooked(_Waiting):
    """Only an ack of the first transmission ends the wait."""

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and item.command == _ACK and self.report is not None and self.copies > 1:
            return []
        return super().received(item, now)


class _AnyFrameEnds(_Waiting):
    """Whatever arrives is taken for the ack."""

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        waiting = self.report
        seen = super().received(item, now)
        if isinstance(item, Frame) and item.command != _ACK and waiting is not None:
            self.report = None
            return [Frame(_ACK, waiting.sn), *seen]
        return seen


class _SharedBuffer(_Waiting):
    """Acks and answers are built where the report stands that may have to be sent again."""

    def __init__(self) -> None:
        super().__init__()
        self._buffer: Frame | None = None

    def sent(self, frame: Frame, now: float) -> list[Out]:
        seen = super().sent(frame, now)
        if is_ack(frame) or (is_report(frame) and self.copies == 1):
            self._buffer = frame
            return seen
        return [Out(self._buffer)] if is_report(frame) and self._buffer is not None else seen


class _ChangeLost(_Waiting):
    """What a control changes while a report waits is never reported."""

    def __init__(self) -> None:
        super().__init__()
        self._after: Frame | None = None
        self._lost: int | None = None

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and is_control(item) and self.report is not None:
            self._after = self.report
        return super().received(item, now)

    def sent(self, frame: Frame, now: float) -> list[Out]:
        if is_report(frame) and self._after is not None and frame != self._after:
            self._after, self._lost = None, frame.sn
        if is_report(frame) and frame.sn == self._lost:
            return []
        return super().sent(frame, now)


class _Restarts(_Waiting):
    """When nobody acks the third transmission the MCU restarts, and its values are those of its start."""

    def __init__(self) -> None:
        super().__init__()
        self._due: float | None = None

    def sent(self, frame: Frame, now: float) -> list[Out]:
        seen = super().sent(frame, now)
        if is_report(frame) and self.copies == 3:
            self._due = now + _INTERVAL
        return seen

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and item.command == _ACK:
            self._due = None
        return super().received(item, now)

    def next_timeout(self) -> float | None:
        return self._due

    def handle_timeout(self, now: float) -> None:
        self._due = None
        self.mcu.forget_values(now)


class _TimerWraps(_Waiting):
    """Compares times that have 16 bits: at their end a report is repeated at once."""

    def sent(self, frame: Frame, now: float) -> list[Out]:
        seen = super().sent(frame, now)
        if is_report(frame) and now % _WRAP + _INTERVAL >= _WRAP:
            return [*seen, Out(frame, 0.01)]
        return seen


class _DamagedAckTaken(Fault):
    """Acks are taken without a look at their checksum."""

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, BadFrame) and item.reason == "checksum" and item.command == _ACK:
            return [Frame(_ACK, item.logical[3])]
        return super().received(item, now)


DEFECTS: Final = (
    row(
        "change-lost-while-report-pending",
        "never reports what a control changes while a report is unacked",
        "every control is reported",
        "5.7",
        _ChangeLost,
        fits=has_writable,
    ),
    row(
        "checksum-unchecked-in-acks",
        "takes acks with a wrong checksum",
        "a damaged frame is not looked at",
        "1.3",
        _DamagedAckTaken,
        fits=has_writable,
    ),
    row(
        "resend-after-late-ack",
        "overlooks acks of repetitions",
        "an ack ends the repetitions",
        "1.8",
        _LateAckOverlooked,
        fits=has_writable,
    ),
    row(
        "resend-buffer-shared",
        "repeats whatever it sent last instead of the report that waits",
        "a repetition is the same frame",
        "1.8",
        _SharedBuffer,
        fits=has_writable,
    ),
    row(
        "resend-ended-by-any-frame",
        "takes whatever arrives for the ack it waits for",
        "an ack has the command plus one",
        "1.4",
        _AnyFrameEnds,
        fits=has_writable,
    ),
    row(
        "restarts-after-give-up",
        "restarts when nobody acks a report, and forgets its values",
        "the frame is dropped, and nothing else",
        "1.8",
        _Restarts,
        fits=has_writable,
    ),
    row(
        "timer-wraps",
        "repeats at once when its 16-bit counter of milliseconds begins again",
        "a repetition comes 200 ms after the frame",
        "1.8",
        _TimerWraps,
        fits=has_writable,
    ),
)
"""Defects of this group."""
