"""A recorded peer as options of our roles: what the capture shows of it, with the evidence."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import statistics
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, Final

from gizserial.capture.record import Record
from gizserial.capture.script import Step, script
from gizserial.codec import Codec, Message
from gizserial.commands import FRAMES, Command, Role
from gizserial.describe import json_value
from gizserial.errors import EncodeError, GizserialError
from gizserial.framing import Frame
from gizserial.mcu_options import InfoVariant, McuOptions
from gizserial.mcu_reports import is_slow
from gizserial.module_options import ModuleOptions
from gizserial.p0 import Meaning
from gizserial.product import Access, DataType, Layout, Product
from sim.behaviours import Move
from sim.quirks import with_quirks

LATE: Final = 0.005
"""Acks that come sooner than this are at once."""
AFTER_CONTROL: Final = 0.5
"""A report within so long of a control belongs to it."""
_TEXT_OPTIONS: Final = ("hard_ver", "soft_ver", "p0_ver")


class CloneError(GizserialError):
    """The capture does not show the peer that is to be cloned."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the capture shows."""

    what: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.what} ({self.evidence})"


@dataclasses.dataclass(frozen=True, slots=True)
class Recorded:
    """A value that moves as it was recorded, then stays."""

    samples: tuple[tuple[float, float], ...]

    def at(self, t: float) -> float:
        """The value at a time after the first sample."""
        index = bisect.bisect_right(self.samples, (t, float("inf")))
        return self.samples[max(0, index - 1)][1]


@dataclasses.dataclass(slots=True)
class McuClone:
    """What ``gizsim mcu`` needs to be the recorded MCU."""

    options: McuOptions
    values: dict[str, object] = dataclasses.field(default_factory=dict)
    moves: list[Move] = dataclasses.field(default_factory=list)
    findings: list[Finding] = dataclasses.field(default_factory=list)

    def moves_beside(self, names: Container[str]) -> list[Move]:
        """The moves of all points but these, which the user has set."""
        return [move for move in self.moves if move.point.name not in names]


@dataclasses.dataclass(slots=True)
class ModuleClone:
    """What ``gizsim module`` needs to be the recorded module."""

    options: ModuleOptions
    mac: str | None = None
    findings: list[Finding] = dataclasses.field(default_factory=list)


def clone_mcu(records: Iterable[Record], product: Product, base: McuOptions | None = None) -> McuClone:
    """The MCU of a capture.

    :raises CloneError: The MCU says nothing in it.
    """
    steps = _steps(records, Role.MCU, Codec(product))
    clone = McuClone(base or McuOptions())
    changes: dict[str, Any] = _Line(steps, clone.findings).changes()
    if (late := changes.pop("answers_late", None)) is not None:
        changes["answers_late_ms"] = late
    _identity(steps, product, clone, changes)
    _values(steps, product, clone)
    _report_habits(steps, product, clone, changes)
    clone.options = dataclasses.replace(clone.options, **changes)
    return clone


def clone_module(records: Iterable[Record], base: ModuleOptions | None = None) -> ModuleClone:
    """The module of a capture.

    :raises CloneError: The module says nothing in it.
    """
    steps = _steps(records, Role.MODULE, Codec())
    clone = ModuleClone(base or ModuleOptions())
    found = clone.findings
    changes: dict[str, Any] = _Line(steps, found).changes()
    if changes.pop("answers_late", None) is not None:
        found.append(Finding("answers at once", "our module has no option to be late"))
    ours = [step for step in steps if step.ours and step.frame is not None]
    bare = [step for step in ours if step.frame is not None and step.frame.unescaped]
    if bare:
        changes["unstuffed_ack"] = True
        found.append(Finding("unstuffed_ack=true", f"{len(bare)} frames with a bare FF, {_at(bare[0])}"))
    beats = [step.t for step in ours if _is(step, Command.HEARTBEAT) and not step.repeats]
    gaps = [later - earlier for earlier, later in itertools.pairwise(beats)]
    if gaps and (rhythm := round(statistics.median(gaps), 1)) >= 0.1:
        changes["heartbeat_s"] = rhythm
        found.append(Finding(f"heartbeat_s={rhythm:g}", f"median of {len(gaps)} intervals"))
    _module_sn(ours, changes, found)
    _module_answers(ours, clone, changes)
    clone.options = dataclasses.replace(clone.options, **changes)
    return clone


def _steps(records: Iterable[Record], role: Role, codec: Codec) -> list[Step]:
    steps = script(records, role, codec)
    if not any(step.ours and step.frame is not None for step in steps):
        raise CloneError(f"the {role.value} says nothing in the capture, so there is nothing to clone")
    return steps


def _is(step: Step, command: int) -> bool:
    return step.frame is not None and step.frame.command == command


def _at(step: Step) -> str:
    return "" if step.at is None else f"at {step.t:.3f} s"


def _message(step: Step) -> Message | None:
    message = step.described.message
    return message if message is not None and message.error is None else None


class _Line:
    """What both roles show: when they answer, and when they repeat."""

    def __init__(self, steps: Sequence[Step], findings: list[Finding]) -> None:
        self._steps, self._findings = steps, findings

    def changes(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._latency(found)
        self._repeats(found)
        return found

    def _latency(self, found: dict[str, Any]) -> None:
        delays = [
            step.t - step.asked.t
            for step in self._steps
            if step.ours and step.asked is not None and step.at is not None
        ]
        if not delays or (late := statistics.median(delays)) < LATE:
            return
        found["answers_late"] = round(late * 1000)
        evidence = f"median of {len(delays)} acks, {min(delays) * 1000:.0f} to {max(delays) * 1000:.0f} ms"
        self._findings.append(Finding(f"answers {late * 1000:.0f} ms late", evidence))

    def _repeats(self, found: dict[str, Any]) -> None:
        copies: dict[int, list[Step]] = {}
        for step in self._steps:
            if step.ours and step.first is not None:
                copies.setdefault(id(step.first), [step.first]).append(step)
        waits = [
            later.t - earlier.t
            for group in copies.values()
            for earlier, later in itertools.pairwise(group)
            if 0.01 <= later.t - earlier.t < 10
        ]
        if waits:
            found["ack_wait"] = round(statistics.median(waits), 3)
            evidence = f"median of {len(waits)} repetitions"
            self._findings.append(Finding(f"ack_wait={found['ack_wait']:g}", evidence))
        given_up = [len(group) for group in copies.values() if group[0].answer is None]
        # The module asks who the MCU is ten times over; elsewhere the longest row of copies tells.
        if given_up and waits:
            found["tries"] = max(given_up)
            evidence = f"{len(given_up)} commands were given up"
            self._findings.append(Finding(f"tries={found['tries']}", evidence))


def _identity(steps: Sequence[Step], product: Product, clone: McuClone, changes: dict[str, Any]) -> None:
    for step in steps:
        message = _message(step) if step.ours and _is(step, Command.DEVICE_INFO + 1) else None
        fields = message.fields if message is not None else None
        if not fields:
            continue
        for name in _TEXT_OPTIONS:
            try:
                with_quirks(McuOptions(), [f"{name}={fields[name]}"])
            except EncodeError:
                clone.findings.append(Finding(f"{name} cannot be cloned", f"{fields[name]!r}, {_at(step)}"))
                continue
            changes[name] = fields[name]
        changes["bind_time"] = fields["bind_time"]
        variant: InfoVariant = "A"
        if "dev_attr" in fields:
            variant = "B"
        if "product_secret" in fields:
            variant = "C"
            changes["product_secret"] = fields["product_secret"]
        if "data" in fields:
            variant = "D"
            changes["data"] = dict(fields["data"])
        changes["info_variant"] = variant
        shown = " ".join(
            f"{name}={changes[name]}"
            for name in (*_TEXT_OPTIONS, "bind_time", "info_variant")
            if name in changes
        )
        clone.findings.append(Finding(shown, f"its answer to device_info {_at(step)}"))
        if fields["product_key"] != product.product_key:
            evidence = f"the capture has {fields['product_key'][:8]}…, {_at(step)}"
            clone.findings.append(Finding("the definition is of another product key", evidence))
        return


def _p0_message(step: Step) -> Message | None:
    """The message of a frame that has a P0."""
    if step.frame is None or not step.frame.payload:  # most acks: not worth decoding
        return None
    message = _message(step)
    return message if message is not None and message.p0 is not None else None


def _said(message: Message | None) -> dict[str, Any] | None:
    """Raw values that a report or an answer to a read of the MCU has."""
    if message is None or message.raw is None or message.p0 is None:
        return None
    return dict(message.raw) if message.p0.meaning in {Meaning.REPORT, Meaning.READ_REPLY} else None


def _values(steps: Sequence[Step], product: Product, clone: McuClone) -> None:
    first: dict[str, Any] = {}
    last: dict[str, Any] = {}
    samples: dict[str, list[tuple[float, float]]] = {}
    start = steps[0].t
    for step in steps:
        for name, raw in (_said(_p0_message(step) if step.ours else None) or {}).items():
            first.setdefault(name, raw)
            if last.get(name) == raw:
                continue
            last[name] = raw
            point = product.point(name)
            if point.access is Access.WRITABLE or point.data_type is DataType.BINARY:
                continue
            number = float(json_value(point.scale.real(raw) if point.scale is not None else raw))
            samples.setdefault(name, []).append((step.t - start, number))
    outside: list[str] = []
    for name, raw in first.items():
        point = product.point(name)
        value = point.value(raw)
        try:
            point.raw(value)
        except EncodeError:
            outside.append(name)
            continue
        clone.values[name] = value
    clone.moves = [
        Move(product.point(name), Recorded(tuple(moves))) for name, moves in samples.items() if len(moves) > 1
    ]
    if first:
        clone.findings.append(
            Finding(f"{len(clone.values)} of {len(product.points)} values to begin with", "said first")
        )
    if outside:
        clone.findings.append(
            Finding("not taken: " + ", ".join(outside), "outside of the definition's range")
        )
    if clone.moves:
        names = ", ".join(move.point.name for move in clone.moves)
        clone.findings.append(Finding(f"moving as recorded: {names}", f"{len(clone.moves)} read-only points"))


def _report_habits(steps: Sequence[Step], product: Product, clone: McuClone, changes: dict[str, Any]) -> None:
    known: dict[str, Any] = {}
    control: Step | None = None
    idle_controls = silent = 0
    slow: list[float] = []
    same: list[float] = []
    padded = 0
    for index, step in enumerate(steps):
        message = _p0_message(step)
        if message is None or message.p0 is None:
            continue
        if not step.ours and message.p0.meaning is Meaning.CONTROL and message.raw is not None:
            control = step
            if (
                step.answer is not None
                and message.raw
                and all(known.get(n) == r for n, r in message.raw.items())
            ):
                idle_controls += 1
                silent += not _reported_soon(steps, index)
        said = _said(message if step.ours else None)
        if said is None or message.p0.meaning is not Meaning.REPORT or step.repeats:
            known |= said or {}
            continue
        changed = {name for name, raw in said.items() if known.get(name) != raw}
        known |= said
        if control is None or step.t - control.t > AFTER_CONTROL:
            if changed and all(is_slow(product.point(name)) for name in changed):
                slow.append(step.t)
            elif not changed:
                same.append(step.t)
        padded += _padded(message.frame, product)
    if idle_controls:
        changes["report_after_control"] = not silent
        what = f"report_after_control={str(not silent).lower()}"
        evidence = f"{silent} of {idle_controls} controls that changed nothing had no report"
        clone.findings.append(Finding(what, evidence))
    if padded:
        changes["report_flags_ff"] = True
        clone.findings.append(Finding("report_flags_ff=true", f"{padded} reports set padding flags"))
    _rhythm(slow, "report_min_s", min, clone, changes)
    _rhythm(same, "report_full_s", statistics.median, clone, changes)


def _reported_soon(steps: Sequence[Step], place: int) -> bool:
    """A report follows the control at this place, before the next one."""
    control = steps[place]
    for number in range(place + 1, len(steps)):
        step = steps[number]
        if step.t - control.t > AFTER_CONTROL or (not step.ours and _is(step, Command.P0_TO_MCU)):
            return False
        message = _p0_message(step) if step.ours else None
        if message is not None and message.p0 is not None and message.p0.meaning is Meaning.REPORT:
            return True
    return False


def _padded(frame: Frame, product: Product) -> bool:
    if product.layout is not Layout.VARIABLE:
        return False
    flags = int.from_bytes(frame.payload[1 : 1 + product.flag_bytes], "big")
    return bool(flags >> len(product.points))


def _rhythm(
    times: Sequence[float],
    name: str,
    choose: Callable[[list[float]], float],
    clone: McuClone,
    changes: dict[str, Any],
) -> None:
    gaps = [later - earlier for earlier, later in itertools.pairwise(times) if later > earlier]
    if len(gaps) < 2:
        return
    seconds = round(choose(gaps), 1)
    if seconds >= 1:
        changes[name] = seconds
        clone.findings.append(Finding(f"{name}={seconds:g}", f"from {len(gaps)} intervals between reports"))


def _module_sn(ours: Sequence[Step], changes: dict[str, Any], found: list[Finding]) -> None:
    numbers = [
        step.frame.sn
        for step in ours
        if step.frame is not None
        and not step.repeats
        and step.frame.command in FRAMES
        and not FRAMES[step.frame.command].is_ack
        and FRAMES[step.frame.command].row.acked
    ]
    wraps = sum(pair == (254, 1) for pair in itertools.pairwise(numbers))
    if wraps:
        changes["sn_skips_0_255"] = True
        found.append(Finding("sn_skips_0_255=true", f"1 follows 254, {wraps} times"))


def _module_answers(ours: Sequence[Step], clone: ModuleClone, changes: dict[str, Any]) -> None:
    for step in ours:
        message = _message(step)
        fields = message.fields if message is not None else None
        if not fields:
            continue
        if _is(step, Command.MODULE_INFO + 1):
            for name in ("hard_ver", "soft_ver"):
                try:
                    with_quirks(ModuleOptions(), [f"{name}={fields[name]}"])
                except (EncodeError, KeyError):
                    continue
                changes[name] = fields[name]
            clone.mac = str(fields.get("mac", "")).upper() or None
            shown = " ".join(
                f"{name}={changes[name]}" for name in ("hard_ver", "soft_ver") if name in changes
            )
            clone.findings.append(Finding(shown, f"its answer to module_info {_at(step)}"))
        elif _is(step, Command.NETWORK_TIME + 1) and "tz_s" not in changes:
            _zone(step, fields, clone, changes)


def _zone(step: Step, fields: dict[str, Any], clone: ModuleClone, changes: dict[str, Any]) -> None:
    import datetime as dt

    try:
        local = dt.datetime(  # noqa: DTZ001 - local time is what the fields are
            *(fields[name] for name in ("year", "month", "day", "hour", "minute", "second"))
        )
    except (KeyError, ValueError):
        return  # zeros: the module does not know the time
    since = (local - dt.datetime(1970, 1, 1)).total_seconds()  # noqa: DTZ001 - as above
    zone = round((since - int(fields["timestamp"])) / 900) * 900
    if abs(zone) <= 86400:
        changes["tz_s"] = zone
        clone.findings.append(Finding(f"tz_s={zone}", f"its answer to network_time {_at(step)}"))
