"""Defects of reads and reports (serial.md §4.2, §5, §6.6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gizserial.commands import Command
from gizserial.datapoints import Raw
from gizserial.framing import Frame, Item
from gizserial.mcu_reports import is_slow
from gizserial.product import Product
from sim.mcu_defects.hooks import (
    is_control,
    is_read,
    is_reply,
    is_report,
    paid,
    parsed,
    receiving,
    reporting,
)
from sim.mcu_defects.machine import DefectiveMcu
from sim.mcu_defects.model import Fault, Make, Out, has_writable, is_fixed, is_variable, row


class _AfterControl(Fault):
    """Reports that follow a control are lost, or those that do not."""

    def __init__(self, *, lost: bool, seconds: float = 3.0) -> None:
        self._lost, self._seconds = lost, seconds
        self._control = float("-inf")

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and is_control(item):
            self._control = now
        return super().received(item, now)

    def sent(self, frame: Frame, now: float) -> list[Out]:
        after = now - self._control < self._seconds
        return [] if is_report(frame) and after is self._lost else [Out(frame)]


class _ChangesLate(Fault):
    """Changes on the device are told twenty seconds later."""

    def __init__(self) -> None:
        self._control = float("-inf")

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and is_control(item):
            self._control = now
        return super().received(item, now)

    def sent(self, frame: Frame, now: float) -> list[Out]:
        late = is_report(frame) and now - self._control > 3.0
        return [Out(frame, 20.0 if late else 0.0)]


class _Stale(Fault):
    """Reports carry the values before the change."""

    def __init__(self) -> None:
        self._before: dict[str, Raw] = {}
        self._last: tuple[Frame, Frame] | None = None

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        p0 = parsed(self.mcu, frame) if is_report(frame) else None
        if p0 is None or p0.raw is None:
            return [Out(frame)]
        if self._last is None or self._last[0] != frame:
            old = {name: self._before.get(name, value) for name, value in p0.raw.items()}
            self._before.update(p0.raw)
            self._last = (frame, paid(frame, self.mcu.p0.report(old)))
        return [Out(self._last[1])]


class _ReadStale(Fault):
    """Reads are answered with the values of the first read."""

    def __init__(self) -> None:
        self._first: dict[str, Raw] = {}

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        p0 = parsed(self.mcu, frame) if is_reply(frame) else None
        if p0 is None or p0.raw is None:
            return [Out(frame)]
        for name, value in p0.raw.items():
            self._first.setdefault(name, value)
        return [Out(paid(frame, self.mcu.p0.reply({name: self._first[name] for name in p0.raw})))]


class _AsReport(Fault):
    """A read is answered with a report.

    :param ack: The values are in the ack as well.
    """

    def __init__(self, *, ack: bool) -> None:
        self._ack = ack

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        if not is_reply(frame):
            return [Out(frame)]
        report = Frame(Command.P0_FROM_MCU, frame.sn ^ 0x80, self.mcu.p0.report(self.mcu.role.raw))
        return [Out(frame if self._ack else paid(frame, b"")), Out(report, 0.01)]


class _Ticks(Fault):
    """Something leaves at regular times, while the line is up."""

    def __init__(self, seconds: float, make: Callable[[DefectiveMcu, int], Frame], *, most: int) -> None:
        self._seconds, self._make, self._most = seconds, make, most
        self._due: float | None = None
        self._count = 0

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if self._due is None:
            self._due = now + self._seconds
        return super().received(item, now)

    def next_timeout(self) -> float | None:
        return self._due

    def handle_timeout(self, now: float) -> None:
        self._count += 1
        self._due = now + self._seconds if self._count < self._most else None
        self.mcu.say(self._make(self.mcu, self._count))


def ticking(seconds: float, make: Callable[[DefectiveMcu, int], Frame], *, most: int = 10**9) -> Make:
    """What :func:`make` gives leaves every so many seconds."""
    return lambda: _Ticks(seconds, make, most=most)


class _Storm(Fault):
    """After a control twenty frames leave in a row."""

    def __init__(self, make: Callable[[DefectiveMcu, int], Frame]) -> None:
        self._make = make

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and (is_control(item) or item.command == Command.STATUS):
            for number in range(20):
                self.mcu.say(self._make(self.mcu, number), 0.03 * (number + 1))
        return super().received(item, now)


class _Noisy(Fault):
    """A sensor's lowest bit flickers, and each flicker is reported."""

    def __init__(self) -> None:
        self._due: float | None = None
        self._on = False

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if self._due is None:
            self._due = now + 1.0
        return super().received(item, now)

    def next_timeout(self) -> float | None:
        return self._due

    def handle_timeout(self, now: float) -> None:
        self._due = now + 1.0
        self._on = not self._on
        point = next(p for p in self.mcu.product.points if is_slow(p) and p.scale is not None)
        if point.scale is not None:
            self.mcu.role.set_raw(point.name, point.scale.raw_min + self._on, now=now)


class _Rewrites(Fault):
    """Bytes of reports, or of replies, are changed."""

    def __init__(
        self, which: Callable[[Frame], bool], change: Callable[[DefectiveMcu, bytes], bytes]
    ) -> None:
        self._which, self._change = which, change

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        if not self._which(frame):
            return [Out(frame)]
        return [Out(paid(frame, self._change(self.mcu, frame.payload)))]


def _rewritten(which: Callable[[Frame], bool], change: Callable[[DefectiveMcu, bytes], bytes]) -> Make:
    return lambda: _Rewrites(which, change)


def report_of(mcu: DefectiveMcu, number: int) -> Frame:
    """A report of everything."""
    return Frame(Command.P0_FROM_MCU, number + 0x60 & 0xFF, mcu.p0.report(mcu.role.raw))


def _heartbeat_of(_mcu: DefectiveMcu, number: int) -> Frame:
    return Frame(Command.BIND_WINDOW, number + 0x60 & 0xFF)


def _with_flags(mcu: DefectiveMcu, payload: bytes, change: Callable[[bytes], bytes]) -> bytes:
    end = 1 + mcu.product.flag_bytes
    return payload[:1] + change(payload[1:end]) + payload[end:]


def _padded_flags(mcu: DefectiveMcu, payload: bytes) -> bytes:
    spare = (1 << 8 * mcu.product.flag_bytes) - 1 ^ mcu.p0.data_points.known_flags
    flags = int.from_bytes(payload[1 : 1 + mcu.product.flag_bytes], "big") | spare
    return _with_flags(mcu, payload, lambda data: flags.to_bytes(len(data), "big"))


def _padding_bits(mcu: DefectiveMcu, payload: bytes) -> bytes:
    """Sets the bits that belong to no point."""
    body = bytearray(payload)
    for section in mcu.product.sections:
        used = sum(
            ((1 << p.width) - 1) << p.bit_offset
            for p in mcu.product.points
            if p.is_bits and p.access is section.access
        )
        spare = (1 << 8 * section.size) - 1 ^ used
        first = 1 + section.base
        value = int.from_bytes(body[first : first + section.size], "big") | spare
        body[first : first + section.size] = value.to_bytes(section.size, "big")
    return bytes(body)


def _has_padding(product: Product) -> bool:
    bits: dict[object, int] = {}
    for point in product.points:
        if point.is_bits:
            bits[point.access] = bits.get(point.access, 0) + point.width
    return is_fixed(product) and any(count % 8 for count in bits.values())


def _values_of_all(mcu: DefectiveMcu, payload: bytes) -> bytes:
    end = 1 + mcu.product.flag_bytes
    return payload[:end] + mcu.p0.report(mcu.role.raw)[end:]


def _out_of_range(mcu: DefectiveMcu, raw: dict[str, Raw]) -> dict[str, Raw]:
    for name in raw:
        point = mcu.product.point(name)
        if point.scale is not None and point.scale.raw_max < point.raw_limit:
            raw[name] = point.raw_limit
    return raw


def _read_all(mcu: DefectiveMcu, frame: Frame) -> Frame:
    return paid(frame, mcu.p0.read()) if is_read(frame) else frame


def _empty_all(mcu: DefectiveMcu, frame: Frame) -> Frame | None:
    if not is_read(frame) or any(frame.payload[1:]):
        return frame
    mcu.say(Frame(Command.P0_TO_MCU + 1, frame.sn, mcu.p0.reply({})))
    return None


def _no_padding(mcu: DefectiveMcu, frame: Frame) -> Frame | None:
    if not is_read(frame):
        return frame
    flags = int.from_bytes(frame.payload[1:], "big")
    return None if flags & ~mcu.p0.data_points.known_flags else frame


def has_points(product: Product) -> bool:
    """The product has data points."""
    return bool(product.points)


def _spare_flags(product: Product) -> bool:
    return is_variable(product) and len(product.points) % 8 != 0


_ANSWER: Final = "a read is answered in its ack, with the live values"
_LAYOUT: Final = "a report has the layout of the definition"
_RATE: Final = "at most every 6 s unless something changed"

DEFECTS: Final = (
    row(
        "read-unanswered",
        "does not answer reads",
        _ANSWER,
        "4.2",
        receiving(lambda _mcu, frame: None if is_read(frame) else frame),
        fits=has_points,
    ),
    row(
        "read-ack-empty",
        "acks reads without values",
        _ANSWER,
        "4.2",
        _rewritten(is_reply, lambda _m, _p: b""),
        fits=has_points,
    ),
    row(
        "read-as-report",
        "answers reads with a report",
        _ANSWER,
        "4.2",
        lambda: _AsReport(ack=False),
        fits=has_points,
    ),
    row(
        "read-and-report",
        "reports after every read",
        "a read draws no report",
        "4.2",
        lambda: _AsReport(ack=True),
        fits=has_points,
    ),
    row(
        "read-reply-short",
        "cuts the last byte of an answer off",
        _LAYOUT,
        "5.4",
        _rewritten(is_reply, lambda _m, body: body[:-1]),
        fits=has_points,
    ),
    row(
        "read-wrong-action",
        "answers reads with the action of a report",
        "action 03, variable length 13",
        "5.1",
        _rewritten(is_reply, lambda _m, body: bytes((body[0] + 1,)) + body[1:]),
        fits=has_points,
    ),
    row("read-stale", "answers reads with old values", _ANSWER, "4.2", _ReadStale, fits=has_writable),
    row(
        "partial-read-answers-all",
        "answers a partial read with everything",
        "what is asked for",
        "5.5",
        receiving(_read_all),
        fits=is_variable,
    ),
    row(
        "read-reply-wrong-flags",
        "sets every flag in answers",
        "flags say what is there",
        "5.5",
        _rewritten(is_reply, lambda m, body: _with_flags(m, body, lambda flags: b"\xff" * len(flags))),
        fits=is_variable,
    ),
    row(
        "read-reply-padded",
        "fills answers up with stale bytes",
        "an answer ends with its last value",
        "5.5",
        _rewritten(is_reply, lambda _m, body: body + b"\x00\x07"),
        fits=is_variable,
    ),
    row(
        "read-all-empty",
        "answers a read without flags with nothing",
        "no flag asks for all",
        "5.5",
        receiving(_empty_all),
        fits=is_variable,
    ),
    row(
        "flag-padding-refused",
        "refuses reads with padding bits set",
        "padding bits mean nothing",
        "5.5",
        receiving(_no_padding),
        fits=_spare_flags,
    ),
    row(
        "report-after-control-missing",
        "does not report after controls",
        "a control is reported",
        "5.7",
        lambda: _AfterControl(lost=True),
        fits=has_writable,
    ),
    row(
        "report-only-when-changed",
        "reports a control only when it changed something",
        "every control is reported",
        "5.7",
        options={"report_after_control": False},
        fits=has_writable,
    ),
    row(
        "report-stale-values",
        "reports the values before the change",
        "the resulting state is reported",
        "5.7",
        _Stale,
        fits=has_writable,
    ),
    row(
        "report-change-missing",
        "does not report changes on the device",
        "a change is reported at once",
        "6.6",
        lambda: _AfterControl(lost=False),
        fits=has_points,
    ),
    row(
        "report-change-late",
        "reports changes after 20 s",
        "a change is reported at once",
        "6.6",
        _ChangesLate,
        fits=has_points,
    ),
    row(
        "report-every-second",
        "reports every second",
        _RATE,
        "6.4, 6.6",
        ticking(1.0, report_of),
        fits=has_points,
    ),
    row(
        "report-storm",
        "sends a report twenty times",
        "one report",
        "6.6",
        lambda: _Storm(report_of),
        fits=has_points,
    ),
    row(
        "report-noisy-sensor",
        "reports every flicker of a sensor",
        _RATE,
        "6.6",
        _Noisy,
        options={"report_min_s": 0.0},
        fits=lambda product: any(is_slow(p) and p.scale is not None for p in product.points),
    ),
    row(
        "report-full-missing",
        "never sends a full report by itself",
        "a full report every 600 s",
        "6.6",
        options={"report_full_s": 1e9},
        fits=has_points,
    ),
    row(
        "report-wrong-action",
        "reports with the action of an answer",
        "action 04, variable length 14",
        "5.1",
        _rewritten(is_report, lambda _m, body: bytes((body[0] - 1,)) + body[1:]),
        fits=has_writable,
    ),
    row(
        "report-short",
        "cuts the last byte of reports off",
        _LAYOUT,
        "5.4",
        _rewritten(is_report, lambda _m, body: body[:-1]),
        fits=has_writable,
    ),
    row(
        "report-tail",
        "sends a byte behind the last value",
        _LAYOUT,
        "5.4",
        _rewritten(is_report, lambda _m, body: body + b"\0"),
        fits=has_writable,
    ),
    row(
        "report-padding-bits",
        "sets bits that belong to no point",
        "padding bits are 0",
        "5.4",
        _rewritten(is_report, _padding_bits),
        fits=lambda product: _has_padding(product) and has_writable(product),
    ),
    row(
        "report-flags-padding",
        "sets padding flags in reports of changes",
        "padding bits are 0",
        "5.5",
        _rewritten(is_report, _padded_flags),
        fits=lambda product: _spare_flags(product) and has_writable(product),
    ),
    row(
        "report-flags-little-endian",
        "writes flags in little-endian order",
        "flags are big-endian",
        "5.5",
        _rewritten(is_report, lambda m, body: _with_flags(m, body, lambda flags: flags[::-1])),
        fits=lambda product: is_variable(product) and product.flag_bytes > 1 and has_writable(product),
    ),
    row(
        "report-unflagged-points",
        "sends the values of all points, whatever it flags",
        "only flagged points have values",
        "5.5",
        _rewritten(is_report, _values_of_all),
        fits=lambda product: is_variable(product) and len(product.points) > 1 and has_writable(product),
    ),
    row(
        "sends-fixed-action",
        "reports with the action of the other family",
        "14 in variable length",
        "5.1",
        _rewritten(is_report, lambda _m, body: bytes((body[0] ^ 0x10,)) + body[1:]),
        fits=has_writable,
    ),
    row(
        "report-out-of-range",
        "reports values outside their range",
        "min to max of the definition",
        "5.6",
        reporting(_out_of_range),
        fits=lambda product: (
            has_writable(product)
            and any(p.scale is not None and p.scale.raw_max < p.raw_limit for p in product.points)
        ),
    ),
    row(
        "heartbeat-storm",
        "opens the bind window over and over",
        "the line belongs to both",
        "1.8",
        lambda: _Storm(_heartbeat_of),
    ),
)
