"""Controls: every writable point, alone and together, and what must not happen (serial.md §5, §5.7)."""

from __future__ import annotations

from gizserial.commands import Command
from gizserial.datapoints import Raw
from gizserial.p0 import Action
from gizserial.product import DataPoint, DataType, Layout
from sim.conformance.bench import Bench
from sim.conformance.cases.registry import SHOULD, Group
from sim.conformance.model import (
    FIXED,
    NUMBERS,
    TWO_WRITABLE,
    WRITABLE,
    WRITABLE_BINARY,
    WRITABLE_BOOL,
    WRITABLE_ENUM,
    WRITABLE_NUMBER,
    CaseFailedError,
    Need,
    Setting,
)
from sim.conformance.samples import other_value, sample_values
from sim.conformance.thresholds import QUIET, REPORT

group = Group("control")

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
        await bench.set_and_check(raw, "a control of all writable points at once", read_back=True)
    # Not neighbours: in variable length the bits of what is not flagged are not there.
    for some in (bench.writable[::2], bench.writable[1::2], bench.writable[::-3]):
        for turn in range(2):
            raw = {p.name: sample_values(p)[turn % len(sample_values(p))] for p in some}
            await bench.set_and_check(raw, "a control of some writable points")


def _unflagged_garbage(bench: Bench, flagged: DataPoint, value: Raw) -> bytes:
    """A control of one point whose other positions are filled, which fixed length allows to be anything."""
    values = bench.values
    full = bench.others(*bench.writable) | {
        p.name: values.get(p.name, bytes(p.size) if p.data_type is DataType.BINARY else 0)
        for p in bench.product.writable
        if p.name in bench.setting.leave  # as they are: firmware that ignores flags must not move them
    }
    full[flagged.name] = value
    points = bench.p0.data_points
    return bytes((Action.CONTROL,)) + points.build_flags([flagged.name]) + points.writable.build(full)


@group.case(
    "unflagged",
    "Positions that are not flagged are ignored",
    rule="A fixed-length control always has room for every writable point; only those whose flag is set "
    "are meant. The others are usually 0 and would switch everything off.",
    section="5.4",
    needs=(FIXED, TWO_WRITABLE),
    defects=("control-ignores-flags",),
)
async def unflagged(bench: Bench) -> None:
    before = await bench.read()
    for point in (bench.writable[0], bench.writable[-1]):
        value = other_value(point, before.get(point.name))
        payload = _unflagged_garbage(bench, point, value)
        note = f"only {point.name} is flagged, the rest is filled"
        await bench.control_and_rest({point.name: value}, payload=payload, note=note)
        now = await bench.read()
        bench.require_unchanged(
            before, now, f"a control of {point.name} changed points that it does not flag", point.name
        )
        before = now


@group.case(
    "no-flag",
    "A control without any flag changes nothing",
    rule="Empty flags are legal; such a control is acked and sets no point.",
    section="5.4, 5.5",
    needs=(WRITABLE,),
    defects=("control-ignores-flags", "control-empty-clears"),
)
async def no_flag(bench: Bench) -> None:
    raw = {
        p.name: other_value(p, 0 if isinstance(bench.values.get(p.name), int) else b"")
        for p in bench.writable
    }
    await bench.set_and_check(raw, "a control of all writable points")
    before = await bench.read()
    payload = bench.p0.control({})
    await bench.exchange(bench.command(Command.P0_TO_MCU, payload), note="no point is flagged")
    await bench.settle()
    now = await bench.read()
    bench.require_unchanged(before, now, "a control without flags changed values")


def _spare_index(setting: Setting) -> str:
    points = [p for p in setting.product.writable if p.name not in setting.leave]
    spare = any(p.data_type is DataType.ENUM and len(p.texts) <= p.raw_limit for p in points)
    return "" if spare else "every writable enum uses all values that its bits can hold"


def _spare_number(setting: Setting) -> str:
    points = [p for p in setting.product.writable if p.name not in setting.leave]
    spare = any(p.scale is not None and _beyond(p) is not None for p in points)
    return "" if spare else "every writable number may have all values that its bytes can hold"


def _spare_flags(setting: Setting) -> str:
    product = setting.product
    points = product.points if product.layout is Layout.VARIABLE else product.writable
    highest = max((point.id for point in points), default=-1)
    return "" if (highest + 1) % 8 else "every flag bit belongs to a data point"


def _beyond(point: DataPoint) -> int | None:
    """A raw value outside the definition's range."""
    if point.scale is None:
        return None
    if point.scale.raw_max < point.raw_limit:
        return point.scale.raw_max + 1
    return point.scale.raw_min - 1 if point.scale.raw_min else None


async def _out_of_range(bench: Bench, point: DataPoint, bad: int) -> None:
    points = bench.p0.data_points
    flags = points.build_flags([point.name])
    if bench.product.layout is Layout.FIXED:
        payload = bytes((Action.CONTROL,)) + flags + points.writable.build({point.name: bad})
    else:
        block = points.flagged(int.from_bytes(flags, "big"))
        payload = bytes((Action.VAR_CONTROL,)) + flags + block.build({point.name: bad})
    bench.beyond[point.name] = bad
    await bench.exchange(
        bench.command(Command.P0_TO_MCU, payload), note=f"{point.name} with the raw value {bad}"
    )
    await bench.settle()
    now = (await bench.read()).get(point.name)
    if now == bad:
        raise bench.fail(
            f"{point.name} took a value that the definition does not allow",
            expected=f"the value before, or one inside the range; sent was the raw value {bad:X}",
            got=bench.shown([point.name], {point.name: now}),
        )


@group.case(
    "enum-out-of-range",
    "An enum index that the definition does not have is ignored",
    rule="An old app may know values that this firmware has not; generated code hands the number on to "
    "the application, which must not index a table with it.",
    section="5.6",
    severity=SHOULD,
    needs=(Need("an enum with spare indices", _spare_index),),
    defects=("enum-out-of-range-taken",),
)
async def enum_out_of_range(bench: Bench) -> None:
    for point in bench.writable:
        if point.data_type is DataType.ENUM and len(point.texts) <= point.raw_limit:
            await _out_of_range(bench, point, len(point.texts))


@group.case(
    "number-out-of-range",
    "A number outside its range is ignored or limited",
    rule="Generated code does not check ranges. The application must: a heater that is told 255 degrees.",
    section="5.6",
    severity=SHOULD,
    needs=(Need("a number with a narrower range than its type", _spare_number),),
    defects=("number-out-of-range-taken",),
)
async def number_out_of_range(bench: Bench) -> None:
    for point in bench.writable:
        bad = _beyond(point)
        if bad is not None:
            await _out_of_range(bench, point, bad)


@group.case(
    "report",
    "After a control comes a report with the new values",
    rule="The ack of a control is empty; apps show a value only when the report brings it.",
    section="5.7",
    needs=(WRITABLE,),
    defects=("report-after-control-missing", "report-stale-values"),
)
async def report(bench: Bench) -> None:
    for point in bench.writable[:4]:
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
    "ack-first",
    "The ack of a control comes before its report",
    rule="The module has one command outstanding and waits for its ack; the report is another exchange.",
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
    got = bench.reported(since)
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
    section="1.8, 5.7",
    needs=(WRITABLE,),
    defects=("control-lost-while-report-pending", "deaf-while-waiting"),
)
async def while_reporting(bench: Bench) -> None:
    point = bench.point
    values = [*bench.others(point).values(), *sample_values(point)]
    first, second = values[0], next(v for v in values if v != values[0])
    with bench.line.withhold(Command.P0_FROM_MCU):
        since = bench.line.mark()
        await bench.control({point.name: first})
        await bench.line.until(lambda: bench.line.frames(since, Command.P0_FROM_MCU), bench.patience(REPORT))
        await bench.control({point.name: second})
        await bench.line.listen(QUIET)
    await bench.told_within({point.name: second}, since)
    await bench.settle()
    got = await bench.read()
    if not bench.same(point.name, second, got.get(point.name, b"")):
        raise bench.fail(
            "a control that came while a report was unacked was acked, but not carried out",
            expected=bench.shown([point.name], {point.name: second}),
            got=bench.shown([point.name], got) if point.name in got else "no value",
        )


@group.case(
    "stays",
    "A value that was set stays",
    rule="A heartbeat, a status push or a second is no reason for a value to change back.",
    section="5.7",
    needs=(WRITABLE,),
    defects=("values-lost-on-heartbeat", "values-lost-on-status"),
)
async def stays(bench: Bench) -> None:
    from sim.conformance.bench import CONNECTED

    raw = bench.others(*bench.writable[:6])
    await bench.set_and_check(raw)
    await bench.settle()
    await bench.exchange(bench.command(Command.HEARTBEAT))
    await bench.push_status(CONNECTED)
    await bench.line.listen(1.0)
    got = await bench.read()
    wrong = [n for n in raw if n in got and not bench.same(n, raw[n], got[n])]
    if wrong:
        raise bench.fail(
            "values changed back by themselves", expected=bench.shown(wrong, raw), got=bench.shown(wrong, got)
        )


@group.case(
    "same-number",
    "Another control with the number of the last one is carried out",
    rule="A repetition has the same number AND the same content, within a second. After a restart of the"
    " module, and every 256 frames, numbers come again with other content: firmware that looks at the"
    " number only loses these controls.",
    section="1.4, 1.8",
    needs=(WRITABLE,),
    defects=("dedup-by-sn-only",),
)
async def same_number(bench: Bench) -> None:
    point = bench.point
    sn = bench.line.next_sn()
    for what in ("a control", "another control with the number of the last one"):
        raw = bench.others(point)
        since = bench.line.mark()
        frame = bench.command(Command.P0_TO_MCU, bench.p0.control(raw), sn=sn)
        await bench.exchange(frame, note=what)
        got = await bench.learn(raw, since)
        bench.require_taken(raw, got, what)


@group.case(
    "padding",
    "Flag bits that belong to no point are ignored",
    rule="The flags are whole bytes; senders leave the bits above the last point 0, receivers ignore them.",
    section="5.4, 5.5",
    severity=SHOULD,
    needs=(WRITABLE, Need("spare flag bits", _spare_flags)),
    defects=("control-flag-padding-refused",),
)
async def padding(bench: Bench) -> None:
    point = bench.point
    raw = bench.others(point)
    payload = bench.p0.control(raw)
    size = len(bench.p0.data_points.build_flags(()))
    flags = int.from_bytes(payload[1 : 1 + size], "big") | 1 << (8 * size - 1)
    payload = payload[:1] + flags.to_bytes(size, "big") + payload[1 + size :]
    since = await bench.control_and_rest(raw, payload=payload, note="the highest flag bit is set too")
    got = await bench.learn(raw, since)
    bench.require_taken(raw, got, "a control with a flag bit above the last point")


@group.case(
    "other-family",
    "A control with the action of the other family does nothing",
    rule="01 is the control of fixed-length products, 11 that of variable length: the other one is acked"
    " empty and ignored.",
    section="5.1",
    severity=SHOULD,
    needs=(WRITABLE,),
    defects=("other-family-taken",),
)
async def other_family(bench: Bench) -> None:
    before = await bench.read()
    payload = bench.p0.control(bench.others(*bench.writable))
    other = Action.VAR_CONTROL if payload[0] == Action.CONTROL else Action.CONTROL
    note = f"action {other:02X}, which is not the product's"
    await bench.exchange(bench.command(Command.P0_TO_MCU, bytes((other,)) + payload[1:]), note=note)
    await bench.settle()
    text = f"a control with action {other:02X}, which is not the product's, was carried out"
    bench.require_unchanged(before, await bench.read(), text)


@group.case(
    "short",
    "A control that is too short does nothing",
    rule="Flags that announce a value which is not there: firmware that does not check takes what was in its"
    " buffer before. The frame has a good checksum, so the length is the only sign.",
    section="5.4, 5.5",
    severity=SHOULD,
    needs=(WRITABLE,),
    defects=("short-control-taken",),
)
async def short(bench: Bench) -> None:
    await bench.change()
    before = await bench.read()
    payload = bench.p0.control(bench.others(*bench.writable))
    size = 1 + len(bench.p0.data_points.build_flags(()))
    frame = bench.command(Command.P0_TO_MCU, payload[:size])
    await bench.once(frame, note="flags without values")
    await bench.settle()
    await bench.alive("a control that is too short")
    bench.require_unchanged(before, await bench.read(), "a control without its values changed points")


@group.case(
    "tail",
    "A control with bytes behind the last field is carried out",
    rule="A definition that was extended later makes longer controls; a receiver takes what it knows and"
    " ignores the tail.",
    section="5.4, 5.5",
    severity=SHOULD,
    needs=(WRITABLE,),
    defects=("control-tail-refused",),
)
async def tail(bench: Bench) -> None:
    point = bench.point
    raw = bench.others(point)
    payload = bench.p0.control(raw) + b"\x00"
    since = bench.line.mark()
    await bench.exchange(bench.command(Command.P0_TO_MCU, payload), note="one byte behind the last field")
    got = await bench.learn(raw, since)
    if point.name not in got or not bench.same(point.name, raw[point.name], got[point.name]):
        raise bench.fail(
            "a control with a byte behind the last field was not carried out",
            expected=bench.shown(raw, raw),
            got=bench.shown(got, got),
        )
