"""Defects of acks, numbers and repetitions (serial.md §1.4, §1.8)."""

from __future__ import annotations

import dataclasses
from typing import Final

from gizserial.commands import Command
from gizserial.framing import Frame, Item
from gizserial.p0 import ACTIONS
from sim.mcu_defects.hooks import is_ack, is_control, is_own, is_report, paid, receiving, sending
from sim.mcu_defects.machine import DefectiveMcu
from sim.mcu_defects.model import Fault, Make, Out, has_writable, row

_RULE: Final = "exactly one ack, with the command's id plus one and its number, within 200 ms"
_CONTROL_ACK: Final = Command.P0_TO_MCU + 1


class _Late(Fault):
    """Acks come late."""

    def __init__(self, seconds: float, command: int | None = None) -> None:
        self._seconds, self._command = seconds, command

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        late = is_ack(frame) and self._command in {None, frame.command}
        return [Out(frame, self._seconds if late else 0.0)]


class _Twice(Fault):
    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        return [Out(frame), Out(frame, 0.05)] if is_ack(frame) else [Out(frame)]


class _OwnCounter(Fault):
    """Acks are numbered like commands."""

    def __init__(self) -> None:
        self._sn = 0x40

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        if not is_ack(frame):
            return [Out(frame)]
        self._sn = (self._sn + 1) & 0xFF
        return [Out(dataclasses.replace(frame, sn=self._sn))]


class _NoRepeats(Fault):
    """A frame that came before is not answered again."""

    def __init__(self) -> None:
        self._last: Frame | None = None

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame):
            if item == self._last:
                return []
            self._last = item
        return super().received(item, now)


class _WhileWaiting(Fault):
    """Something is lost while a report of ours is unacked.

    :param acked: Commands are acked, but controls are not carried out; otherwise nothing is heard.
    """

    def __init__(self, *, acked: bool) -> None:
        self._acked = acked
        self._until = float("-inf")

    def sent(self, frame: Frame, now: float) -> list[Out]:
        if is_report(frame):
            self._until = now + 0.6
        return [Out(frame)]

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if not isinstance(item, Frame):
            return super().received(item, now)
        if item.command == Command.P0_FROM_MCU + 1:
            self._until = float("-inf")
        elif now < self._until and (is_control(item) or not self._acked):
            if self._acked:
                self.mcu.say(Frame(_CONTROL_ACK, item.sn))
            return []
        return super().received(item, now)


class _NewNumber(Fault):
    """A repetition gets a number of its own."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._extra = 0

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        if not is_own(frame):
            return [Out(frame)]
        if frame.sn in self._seen:
            self._extra += 1
        self._seen = {frame.sn}
        return [Out(dataclasses.replace(frame, sn=(frame.sn + self._extra) & 0xFF))]

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and item.command == Command.P0_FROM_MCU + 1:
            return [dataclasses.replace(item, sn=(item.sn - self._extra) & 0xFF, wire=b"")]
        return super().received(item, now)


class _OtherBytes(Fault):
    """A repetition has other bytes: the buffer was used for something else meanwhile."""

    def __init__(self) -> None:
        self._last: Frame | None = None

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        if not is_report(frame):
            return [Out(frame)]
        again, self._last = frame == self._last, frame
        if again and len(frame.payload) > 1:
            last = frame.payload[-1]
            return [Out(paid(frame, frame.payload[:-1] + bytes((last ^ 1,))))]
        return [Out(frame)]


class _AckOverlooked(Fault):
    """Acks of reports are not recognised."""

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and item.command == Command.P0_FROM_MCU + 1:
            return []
        return super().received(item, now)


class _GivesUpForGood(Fault):
    """After a report that nobody acked no report leaves any more."""

    def __init__(self) -> None:
        self._unacked = 0

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        if is_report(frame):
            if self._unacked >= 3:
                return []
            self._unacked += 1
        return [Out(frame)]

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and item.command == Command.P0_FROM_MCU + 1 and self._unacked < 3:
            self._unacked = 0
        return super().received(item, now)


class _ReportForAck(Fault):
    """The report of a control takes the place and the number of its ack."""

    def __init__(self) -> None:
        self._sn: int | None = None

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        if frame.command == _CONTROL_ACK and not frame.payload:
            self._sn = frame.sn
            return []
        if is_report(frame) and self._sn is not None:
            return [Out(dataclasses.replace(frame, sn=self._sn))]
        return [Out(frame)]

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and item.command == Command.P0_FROM_MCU + 1 and item.sn == self._sn:
            self._sn = None
        return super().received(item, now)


class _Numbers(Fault):
    """Own commands are numbered in another way."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._peer = 0
        self._map: dict[int, int] = {}

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        if not is_own(frame):
            return [Out(frame)]
        sn = {
            "zero": 7,
            "peer": self._peer,
            "skips": frame.sn * 2 & 0xFF,
            "wraps": frame.sn & 0x0F,
        }[self._kind]
        self._map[sn] = frame.sn
        return [Out(dataclasses.replace(frame, sn=sn))]

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame):
            self._peer = item.sn
            if item.command == Command.P0_FROM_MCU + 1 and item.sn in self._map:
                return [dataclasses.replace(item, sn=self._map[item.sn], wire=b"")]
        return super().received(item, now)


def _lost(command: int) -> Make:
    return sending(lambda _mcu, frame: None if frame.command == command and not frame.payload else frame)


def _control_ack(mcu: DefectiveMcu, frame: Frame) -> Frame:
    if frame.command == _CONTROL_ACK and not frame.payload:
        return paid(frame, mcu.p0.report(mcu.role.raw))
    return frame


def _no_unknown_action(_mcu: DefectiveMcu, frame: Frame) -> Frame | None:
    unknown = frame.command == Command.P0_TO_MCU and frame.payload[:1] and frame.payload[0] not in ACTIONS
    return None if unknown else frame


def _acks(**change: int) -> Make:
    def changed(_mcu: DefectiveMcu, frame: Frame) -> Frame:
        if not is_ack(frame):
            return frame
        return Frame(
            frame.command + change.get("command", 0) & 0xFF,
            frame.sn + change.get("sn", 0) & 0xFF,
            frame.payload,
            change.get("flags", frame.flags),
        )

    return sending(changed)


DEFECTS: Final = (
    row("ack-wrong-sn", "acks with the next number", _RULE, "1.4", _acks(sn=1)),
    row("ack-sn-of-own-counter", "numbers its acks itself", _RULE, "1.4", _OwnCounter),
    row("ack-wrong-command", "acks with the command's own id", _RULE, "1.4", _acks(command=-1)),
    row("ack-flags", "sets flags in acks", "acks carry 0000", "1.5", _acks(flags=1)),
    row("ack-missing-heartbeat", "does not ack heartbeats", _RULE, "4.4", _lost(Command.HEARTBEAT + 1)),
    row("ack-missing-status", "does not ack status pushes", _RULE, "4.7", _lost(Command.STATUS + 1)),
    row("ack-missing-control", "does not ack controls", _RULE, "4.2", _lost(_CONTROL_ACK), fits=has_writable),
    row(
        "heartbeat-acked-as-status",
        "acks heartbeats with 0E",
        _RULE,
        "4.4",
        sending(
            lambda _mcu, frame: (
                dataclasses.replace(frame, command=Command.STATUS + 1)
                if frame.command == Command.HEARTBEAT + 1
                else frame
            )
        ),
    ),
    row("ack-twice", "acks twice", _RULE, "1.8", _Twice),
    row("ack-late", "acks after 350 ms", _RULE, "1.8", lambda: _Late(0.35)),
    row(
        "ack-status-late",
        "acks status pushes after 400 ms, when the display is drawn",
        _RULE,
        "1.8",
        lambda: _Late(0.4, Command.STATUS + 1),
    ),
    row(
        "ack-with-payload",
        "puts a byte into the ack of heartbeats",
        "the ack is empty",
        "4.4",
        sending(
            lambda _mcu, frame: paid(frame, b"\x00") if frame.command == Command.HEARTBEAT + 1 else frame
        ),
    ),
    row(
        "ack-control-with-state",
        "puts the state into the ack of controls",
        "the ack of a control is empty",
        "4.2",
        sending(_control_ack),
        fits=has_writable,
    ),
    row(
        "report-instead-of-ack",
        "takes the report for the ack of a control",
        "a control is acked with 04",
        "5.7",
        _ReportForAck,
        fits=has_writable,
    ),
    row(
        "report-after-control-before-ack",
        "reports before it acks a control",
        "first the ack, then the report",
        "5.7",
        lambda: _Late(0.08, _CONTROL_ACK),
        fits=has_writable,
    ),
    row(
        "unknown-action-unacked",
        "does not ack actions that it does not know",
        "every action is acked",
        "4.2",
        receiving(_no_unknown_action),
    ),
    row(
        "duplicate-unacked",
        "does not ack a command that comes again",
        "a repeated command is acked again",
        "1.8",
        _NoRepeats,
    ),
    row(
        "duplicate-applied-twice",
        "carries a repeated control out twice",
        "a repetition is acked only",
        "1.8",
        options={"dedup": False},
        fits=has_writable,
    ),
    row(
        "deaf-while-waiting",
        "hears nothing while it waits for an ack",
        "both sides may wait at once",
        "1.8",
        lambda: _WhileWaiting(acked=False),
        fits=has_writable,
    ),
    row(
        "control-lost-while-report-pending",
        "forgets controls while a report is unacked",
        "every acked control is carried out",
        "5.7",
        lambda: _WhileWaiting(acked=True),
        fits=has_writable,
    ),
    row(
        "resend-missing",
        "never repeats a frame",
        "two repetitions, 200 ms apart",
        "1.8",
        options={"tries": 1},
        fits=has_writable,
    ),
    row(
        "resend-forever",
        "repeats until somebody acks",
        "two repetitions, then the frame is dropped",
        "1.8",
        options={"tries": 1000},
        fits=has_writable,
    ),
    row(
        "resend-too-fast",
        "repeats after 50 ms",
        "200 ms",
        "1.8",
        options={"ack_wait": 0.05},
        fits=has_writable,
    ),
    row(
        "resend-too-slow", "repeats after 2 s", "200 ms", "1.8", options={"ack_wait": 2.0}, fits=has_writable
    ),
    row(
        "resend-new-sn",
        "repeats with a new number",
        "a repetition is the same frame",
        "1.4",
        _NewNumber,
        fits=has_writable,
    ),
    row(
        "resend-different-bytes",
        "repeats with other bytes",
        "a repetition is the same frame",
        "1.4",
        _OtherBytes,
        fits=has_writable,
    ),
    row(
        "resend-after-ack",
        "repeats reports that were acked",
        "an ack ends the repetitions",
        "1.8",
        _AckOverlooked,
        fits=has_writable,
    ),
    row(
        "stuck-after-give-up",
        "reports nothing more after a report was given up",
        "everything goes on",
        "1.8",
        _GivesUpForGood,
        fits=has_writable,
    ),
    row(
        "ack-sn-unchecked",
        "takes any ack, whatever its number",
        "an ack repeats the number",
        "1.4",
        options={"ack_match_sn": False},
        fits=has_writable,
    ),
    row(
        "sn-not-incremented",
        "gives every command the same number",
        "one counter, plus one each",
        "1.4",
        lambda: _Numbers("zero"),
        fits=has_writable,
    ),
    row(
        "sn-copied-from-peer",
        "numbers its commands with the module's last number",
        "one counter for each side",
        "1.4",
        lambda: _Numbers("peer"),
        fits=has_writable,
    ),
    row(
        "sn-skips",
        "counts by two",
        "one counter, plus one each",
        "1.4",
        lambda: _Numbers("skips"),
        fits=has_writable,
    ),
    row(
        "sn-wraps-early",
        "counts to 15 only",
        "FF is followed by 0",
        "1.4",
        lambda: _Numbers("wraps"),
        fits=has_writable,
    ),
)
