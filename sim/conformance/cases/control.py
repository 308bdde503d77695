"""Controls: every writable point, alone and together, and what must not happen (serial.md §5, §5.7)."""

from __future__ import annotations

import dataclasses

from gizserial.commands import Command
from gizserial.product import DataPoint, DataType
from sim.conformance.bench import Bench
from sim.conformance.cases.registry import SHOULD, Group
from sim.conformance.exchanges import CONNECTED, OFFLINE
from sim.conformance.links import set_together
from sim.conformance.model import (
    NUMBERS,
    TWO_WRITABLE,
    WRITABLE,
    WRITABLE_BINARY,
    WRITABLE_BOOL,
    WRITABLE_ENUM,
    WRITABLE_NUMBER,
    CaseFailedError,
)
from sim.conformance.samples import sample_values
from sim.conformance.thresholds import QUIET, REPORT

group = Group(
    "control",
    "Compare positions, widths and byte order with `gizserial product show`. If the product itself refuses"
    " the value (a lock, another mode), name the point with --leave.",
)

_FEW = 4
_MANY = 24
"""More points of a kind than this are written together first: one by one takes minutes."""


async def _each_value(bench: Bench, kinds: frozenset[DataType]) -> None:
    """Write every sample value of every point of these kinds; all that fail are told."""
    points = [point for point in bench.writable if point.data_type in kinds]
    if len(points) > _MANY and await _all_at_once(bench, points):
        return
    for point in points:
        for value in sample_values(point):
            try:
                await bench.set_and_check({point.name: value}, f"a control of {point.name}")
            except CaseFailedError as failed:
                bench.findings.append(failed.finding)
                break


async def _all_at_once(bench: Bench, points: list[DataPoint]) -> bool:
    """Write the sample values of many points together; False: something is wrong, so look at each alone."""
    for turn in range(max(len(sample_values(point)) for point in points)):
        raw = {p.name: sample_values(p)[turn % len(sample_values(p))] for p in points}
        try:
            await bench.set_and_check(raw, "a control of many points")
        except CaseFailedError:
            return False
    return True


@group.case(
    "bool",
    "Every writable bool can be switched on and off",
    rule="Bits stand in a big-endian section: the first point is the lowest bit of the LAST byte. Most "
    "firmware that works with eight points fails with the ninth.",
    section="5.4, 5.5",
    needs=(WRITABLE_BOOL,),
    defects=(
        "bool-inverted",
        "bit-section-little-endian",
        "flags-little-endian",
        "control-only-first-flag",
        "control-ignores-last-point",
        "bit-order-reversed",
    ),
)
async def bools(bench: Bench) -> None:
    await _each_value(bench, frozenset({DataType.BOOL}))


@group.case(
    "enum",
    "Every value of every writable enum can be set",
    rule="The value on the wire is the index in the list of the definition, counted from 0; it takes as "
    "many bits as the largest index needs.",
    section="5.2, 5.4",
    needs=(WRITABLE_ENUM,),
    defects=("enum-off-by-one", "enum-one-bit-short", "bit-section-little-endian"),
)
async def enums(bench: Bench) -> None:
    await _each_value(bench, frozenset({DataType.ENUM}))


@group.case(
    "number",
    "Every writable number takes its minimum, its maximum and a value between",
    rule="The wire carries the unsigned raw value x, big-endian; y = x * ratio + addition is computed in"
    " the firmware, and the reverse when it reports.",
    section="5.2, 5.6",
    needs=(WRITABLE_NUMBER,),
    defects=(
        "number-little-endian",
        "signed-scaling",
        "addition-forgotten",
        "ratio-ignored",
        "control-max-truncated",
        "number-saturates-early",
    ),
)
async def numbers(bench: Bench) -> None:
    await _each_value(bench, NUMBERS)


@group.case(
    "binary",
    "Every writable binary takes any bytes",
    rule="Binary points have a fixed size and carry any byte, 00 and FF too: they are no C strings.",
    section="5.2",
    needs=(WRITABLE_BINARY,),
    defects=("binary-truncated", "binary-stops-at-zero"),
)
async def binaries(bench: Bench) -> None:
    await _each_value(bench, frozenset({DataType.BINARY}))


@group.case(
    "several",
    "Several points in one control are all set",
    rule="An app may set everything at once; each flagged point takes its value.",
    section="5.4, 5.5, 5.7",
    needs=(TWO_WRITABLE,),
    defects=(
        "control-only-first-flag",
        "control-ignores-last-point",
        "flags-little-endian",
        "bit-section-little-endian",
        "bit-part-includes-unflagged",
    ),
)
async def several(bench: Bench) -> None:
    for turn in range(2):
        raw = {p.name: sample_values(p)[turn % len(sample_values(p))] for p in bench.writable}
        await set_together(bench, raw, "a control of all writable points at once", read_back=True)
    # Not neighbours: in variable length the bits of what is not flagged are not there.
    for some in (bench.writable[::2], bench.writable[1::2], bench.writable[::-3]):
        for turn in range(2):
            raw = {p.name: sample_values(p)[turn % len(sample_values(p))] for p in some}
            await set_together(bench, raw, "a control of some writable points")


@group.case(
    "report",
    "After a control comes a report with the new values",
    rule="The ack of a control is empty; apps show a value only when the report brings it.",
    remedy="Take the values, then report them: a report that is built before shows the state of before. If"
    " the product itself refuses the value, name the point with --leave.",
    section="5.7",
    needs=(WRITABLE,),
    defects=("report-after-control-missing", "report-stale-values", "report-forgets-last-point"),
)
async def report(bench: Bench) -> None:
    # Some of a large product, from both ends: a faulty report may leave out the last points.
    for point in dict.fromkeys((*bench.writable[:_FEW], *bench.writable[-_FEW:])):
        raw = bench.others(point)
        since = bench.line.mark()
        await bench.control(raw)
        await bench.told_within(raw, since)
        got = bench.reported(since)
        if point.name not in got:
            raise bench.fail(
                f"no report followed a control of {point.name} within {REPORT:g} s",
                expected=f"a report with {bench.shown(raw, raw)}",
                got=bench.line.commands(since),
            )
        if not bench.same(point.name, raw[point.name], got[point.name]):
            raise bench.fail(
                f"the report after a control of {point.name} has another value",
                expected=bench.shown(raw, raw),
                got=bench.shown(raw, got),
            )


@group.case(
    "report-unchanged",
    "A control that changes nothing is reported too",
    rule="The app waits for the report. Generated code reports only what changed: after a control with "
    "the old value the app's switch hangs (R23).",
    remedy="Report after every control, and not only when a value changed: call the report after the"
    " control was carried out.",
    section="5.7, R23",
    severity=SHOULD,
    needs=(WRITABLE,),
    defects=("report-only-when-changed", "report-after-control-missing"),
)
async def report_unchanged(bench: Bench) -> None:
    point = bench.point
    raw = bench.others(point)
    await bench.set_and_check(raw)
    await bench.settle()
    since = bench.line.mark()
    await bench.control(raw)
    await bench.line.until(lambda: bench.reports(since), bench.patience(REPORT))
    if not bench.reports(since):
        raise bench.fail(
            f"a control of {point.name} with the value that it has already was not reported",
            expected=f"a report with {bench.shown(raw, raw)}",
            got=bench.line.commands(since),
        )


@group.case(
    "same-value",
    "A control with the values that the points have already changes nothing",
    rule="A control says what a point is to be, not that it is to change: apps and timers repeat it.",
    remedy="Set the point to the value of the control; never toggle it.",
    section="5.7",
    needs=(WRITABLE,),
    defects=("bool-toggled",),
)
async def same_value(bench: Bench) -> None:
    for _ in range(2):
        await bench.change()
        before = await bench.read()
        await bench.control_and_rest({p.name: before[p.name] for p in bench.writable if p.name in before})
        bench.require_unchanged(before, await bench.read(), "a control with the same values changed some")


@group.case(
    "ack-first",
    "The ack of a control comes before its report",
    rule="The module has one command outstanding and waits for its ack; the report is another exchange.",
    remedy="Send the ack before the values are taken, or the report after the ack.",
    section="5.7",
    needs=(WRITABLE,),
    defects=("report-after-control-before-ack",),
)
async def ack_first(bench: Bench) -> None:
    point = bench.point
    await bench.settle()
    wanted = bench.others(point)
    frame = bench.command(Command.P0_TO_MCU, bench.p0.control(wanted))
    since = bench.line.mark()
    await bench.exchange(frame)
    ack = bench.ack_of(frame, since, any_sn=True)
    # Reports that tell something else may come at any time.
    early = [
        r.entry
        for r in bench.reports(since)
        if ack is not None and r.entry.time < ack.time and r.raw.get(point.name) == wanted[point.name]
    ]
    if early:
        raise bench.fail(
            "the report came before the ack of the control",
            expected="first 04, then 05",
            got=[*early, ack] if ack else early,
        )


@group.case(
    "repeated",
    "A control that comes again is acked again and not carried out twice",
    rule="The ack was lost: the module sends the same frame with the same number. A toggle would undo "
    "itself; generated code carries it out again, which does no harm where a control only sets "
    "values.",
    remedy="Keep number and content of the last command for a second: when both come again, ack only.",
    section="1.8, R27",
    severity=SHOULD,
    needs=(WRITABLE,),
    defects=("duplicate-applied-twice", "duplicate-unacked"),
)
async def repeated(bench: Bench) -> None:
    point = bench.point
    raw = bench.others(point)
    await bench.settle()
    frame = bench.command(Command.P0_TO_MCU, bench.p0.control(raw))
    since = bench.line.mark()
    await bench.acked(frame)
    _sent, ack = await bench.once(frame, note="the same frame again, as after a lost ack")
    if ack is None:
        raise bench.fail("a repeated control was not acked again", expected="p0_to_mcu_ack", got="nothing")
    await bench.line.listen(REPORT / 2)
    distinct = {r.entry.frame.sn for r in bench.reports(since) if r.entry.frame is not None}
    got = await bench.read()
    if point.name in got and not bench.same(point.name, raw[point.name], got[point.name]):
        raise bench.fail(
            "the repeated control undid the first one",
            expected=bench.shown(raw, raw),
            got=bench.shown(raw, got),
        )
    # One report for each is what counts: of a sensor that moves there may be more.
    told = [r for r in bench.reports(since) if point.name in r.raw]
    again = [r for r in told[1:] if r.raw == told[0].raw]
    if len(distinct) > 1 and again:
        raise bench.fail(
            "the repeated control was carried out twice: there are two reports",
            expected="one report",
            got=[told[0].entry, again[0].entry],
        )


@group.case(
    "while-reporting",
    "A control while a report waits for its ack is carried out",
    rule="The user presses twice: the second control arrives while the first report is unacked. "
    "Generated code replaces the waiting report by the new one, which is fine; losing the control "
    "is not.",
    remedy="Keep controls apart from what waits for its ack: a newer report may replace the older, a"
    " control is never dropped.",
    section="1.8, 5.7",
    needs=(WRITABLE,),
    defects=("control-lost-while-report-pending", "change-lost-while-report-pending", "deaf-while-waiting"),
)
async def while_reporting(bench: Bench) -> None:
    point = bench.point
    values = [*bench.others(point).values(), *sample_values(point)]
    first, second = values[0], next(v for v in values if v != values[0])
    await bench.settle()
    with bench.line.withhold(Command.P0_FROM_MCU):
        since = bench.line.mark()
        await bench.control({point.name: first})
        await bench.line.until(lambda: bench.line.frames(since, Command.P0_FROM_MCU), bench.patience(REPORT))
        await bench.acked(
            bench.command(Command.P0_TO_MCU, bench.p0.control({point.name: second})),
            note="while the report of another control is unacked",
        )
        await bench.line.listen(QUIET)
    for waiting in bench.line.frames(since, Command.P0_FROM_MCU)[-1:]:
        bench.line.ack(waiting)
    await bench.told_within({point.name: second}, since)
    told = bench.has({point.name: second}, since)
    await bench.settle()
    got = await bench.read()
    if not bench.same(point.name, second, got.get(point.name, b"")):
        raise bench.fail(
            "a control that came while a report was unacked was acked, but not carried out",
            expected=bench.shown([point.name], {point.name: second}),
            got=bench.shown([point.name], got) if point.name in got else "no value",
        )
    if not told:
        raise bench.fail(
            "a control that came while a report was unacked was carried out, but never reported",
            expected=f"a report with {bench.shown([point.name], {point.name: second})}",
            got=[report.entry for report in bench.reports(since)],
        )


@group.case(
    "offline",
    "A control that comes without cloud is carried out and reported",
    rule="Without Internet the app in the house goes on: what it sends reaches the MCU in the same frames,"
    " and it waits for the same report.",
    remedy="Bit 5 of the status says whether there is a cloud, not whether anybody listens: let nothing but"
    " the time depend on it.",
    section="4.3, 6.4",
    needs=(WRITABLE,),
    defects=("control-needs-cloud", "report-needs-cloud"),
)
async def offline(bench: Bench) -> None:
    point = bench.point
    await bench.push_status(dataclasses.replace(OFFLINE, app=True))
    await bench.settle()
    raw, since = bench.others(point), bench.line.mark()
    await bench.set_and_check(raw, "a control without cloud")
    if not bench.has(raw, since):
        bench.note(
            "a control without cloud was carried out, but not reported",
            expected=f"a report with {bench.shown(raw, raw)}",
            got=bench.line.commands(since),
        )
    await bench.push_status(CONNECTED)


@group.case(
    "stays",
    "A value that was set stays",
    rule="A heartbeat, a status push or three seconds are no reason for a value to change back.",
    section="5.7",
    needs=(WRITABLE,),
    defects=("values-lost-on-heartbeat", "values-lost-on-status", "values-lost-after-seconds"),
)
async def stays(bench: Bench) -> None:
    await bench.control_and_rest(bench.others(*bench.writable[:6]))
    before = await bench.read()
    await bench.exchange(bench.command(Command.HEARTBEAT))
    await bench.push_status(CONNECTED)
    await bench.line.listen(3.0)
    bench.require_unchanged(before, await bench.read(), "values changed back by themselves")
