"""Controls out of the ordinary: what is not flagged, not allowed, not there, or not ours (serial.md §5)."""

from __future__ import annotations

from gizserial.commands import Command
from gizserial.datapoints import Raw
from gizserial.p0 import Action
from gizserial.product import DataPoint, DataType, Layout
from sim.conformance.bench import Bench
from sim.conformance.cases.registry import SHOULD, Group
from sim.conformance.model import FIXED, TWO_WRITABLE, VARIABLE, WRITABLE, Need, Setting
from sim.conformance.samples import changeable, other_value

group = Group(
    "control",
    "Check action, flags, length and range before a value is taken. If the product links these points"
    " itself, name one of them with --leave.",
)


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
            before,
            now,
            f"a control of {point.name} changed points that it does not flag",
            *(point.name, *bench.links.get(point.name, ())),
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
    await bench.control_and_rest(raw)
    before = await bench.read()
    payload = bench.p0.control({})
    await bench.exchange(bench.command(Command.P0_TO_MCU, payload), note="no point is flagged")
    await bench.settle()
    now = await bench.read()
    bench.require_unchanged(before, now, "a control without flags changed values")


def _read_only(setting: Setting) -> list[DataPoint]:
    """Read-only points without bits: generated code miscounts the bits of a control that flags others."""
    product = setting.product
    return [p for p in product.points if p not in product.writable and not p.width and changeable(p)]


@group.case(
    "read-only",
    "A control of a point that cannot be written is ignored",
    rule="In variable length every point has a flag, also a measured one; what an app or the cloud writes"
    " there by mistake must not pass for a measurement.",
    remedy="Take flagged points only when they are writable.",
    section="5.5",
    severity=SHOULD,
    needs=(
        VARIABLE,
        Need(
            "a read-only number or binary",
            lambda setting: "" if _read_only(setting) else "the product has no read-only number or binary",
        ),
    ),
    defects=("read-only-written",),
)
async def read_only(bench: Bench) -> None:
    before = await bench.read()
    for point in _read_only(bench.setting)[:2]:
        value = other_value(point, before.get(point.name))
        data = value if isinstance(value, bytes) else value.to_bytes(point.size, "big")
        flags = bench.p0.data_points.build_flags([point.name])
        payload = bytes((Action.VAR_CONTROL,)) + flags + data
        await bench.exchange(
            bench.command(Command.P0_TO_MCU, payload), note=f"{point.name}, which is read-only, is flagged"
        )
        await bench.settle()
        got = await bench.read()
        if got.get(point.name) == value != before.get(point.name):
            bench.note(
                f"a control set {point.name}, which is read-only",
                expected=bench.shown([point.name], before) if point.name in before else "its own value",
                got=bench.shown([point.name], got),
            )


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
    remedy="Check the index against the number of values before it is used.",
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
    remedy="Check min and max of the definition where the application takes the value; generated code does"
    " not.",
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
    "same-number",
    "Another control with the number of the last one is carried out",
    rule="A repetition has the same number AND the same content, within a second. After a restart of the"
    " module, and every 256 frames, numbers come again with other content: firmware that looks at the"
    " number only loses these controls.",
    remedy="Compare number and content, or do not look for repetitions at all.",
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
