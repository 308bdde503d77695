"""Reads: what the MCU answers when it is asked for its values (serial.md §4.2, §5)."""

from __future__ import annotations

from gizserial.commands import Command
from gizserial.errors import BodyError
from gizserial.p0 import P0, Action, Meaning, action_for
from gizserial.product import Layout
from sim.conformance.bench import Bench
from sim.conformance.cases.registry import MAY, SHOULD, Group
from sim.conformance.model import POINTS, VARIABLE, WRITABLE, Entry
from sim.conformance.thresholds import (
    SECOND_ACK,
)

group = Group(
    "read",
    "Build the answer from the same values as the reports, with action 03 (variable length: 13), as the"
    " payload of the ack.",
)


def _reply(bench: Bench, entry: Entry) -> tuple[bytes, P0]:
    payload = entry.frame.payload if entry.frame is not None else b""
    try:
        return payload, bench.p0.parse(payload, Command.P0_TO_MCU + 1)
    except BodyError as error:
        raise bench.fail(f"the answer to a read is unreadable: {error}", got=[entry], entry=entry) from None


@group.case(
    "answered",
    "A read is answered in its ack, with all values",
    rule="Apps ask for the state when they connect; the answer comes in the ack (04), not as a report, "
    "and has every point.",
    section="4.2, 5.4, 5.5",
    needs=(POINTS,),
    defects=("read-unanswered", "read-ack-empty", "read-as-report", "read-reply-short", "read-wrong-action"),
)
async def answered(bench: Bench) -> None:
    ack = await bench.acked(bench.read_frame())
    payload, p0 = _reply(bench, ack)
    action = action_for(Meaning.READ_REPLY, bench.product.layout)
    if p0.action != action:
        raise bench.fail(
            "a read was not answered with values in its ack",
            expected=f"action {action:02X}",
            got=[ack],
            entry=ack,
        )
    missing = [point.name for point in bench.product.points if point.name not in (p0.raw or {})]
    if missing:
        raise bench.fail(
            "the answer to a read lacks points", expected="all points", got="without " + ", ".join(missing)
        )
    if bench.product.layout is Layout.FIXED and len(payload) != 1 + bench.product.status_size:
        raise bench.fail(
            "the answer to a read has another size than the definition gives",
            expected=f"{1 + bench.product.status_size} bytes",
            got=f"{len(payload)} bytes",
            entry=ack,
        )


@group.case(
    "fresh",
    "A read after a control and its report has the new value",
    rule="An app that reads must see what was set. Generated code answers with what it reported last, "
    "which is the new value once the report is out.",
    section="4.2, R22",
    needs=(WRITABLE,),
    defects=("read-stale",),
)
async def fresh(bench: Bench) -> None:
    for point in bench.writable[:3]:
        raw = bench.others(point)
        since = await bench.control_and_rest(raw)
        # The product may have made something else of it; what it reported is what a read must say.
        wanted = bench.reported(since).get(point.name, raw[point.name])
        got = await bench.read()
        if not bench.same(point.name, wanted, got.get(point.name, b"")):
            raise bench.fail(
                f"a read after a control of {point.name} does not have the value that was set and reported",
                expected=bench.shown([point.name], {point.name: wanted}),
                got=bench.shown([point.name], got) if point.name in got else "no value",
            )


@group.case(
    "quiet",
    "A read changes nothing and draws no report",
    rule="Reads come often; each with a report besides would fill the line and the cloud.",
    section="4.2",
    severity=SHOULD,
    needs=(POINTS,),
    defects=("read-as-report", "read-and-report"),
)
async def quiet(bench: Bench) -> None:
    await bench.settle()
    since = bench.line.mark()
    for _ in range(3):
        await bench.read()
    await bench.line.listen(SECOND_ACK)
    if len(bench.reports(since)) >= 3:
        raise bench.fail(
            "every read drew a report besides its answer",
            expected="only acks",
            got=[r.entry for r in bench.reports(since)],
        )


@group.case(
    "partial",
    "A read of some points is answered with these points",
    rule="The flags of a read (12) say what is wanted; the flags of the answer (13) say what is there. "
    "Generated code fills the answer up with stale bytes, which receivers ignore.",
    section="5.5",
    severity=SHOULD,
    needs=(VARIABLE, POINTS),
    defects=("partial-read-answers-all", "read-reply-wrong-flags"),
)
async def partial(bench: Bench) -> None:
    points = bench.product.points
    for chosen in ([points[0]], [points[-1]], list(points[::2])):
        names = [point.name for point in chosen]
        ack = await bench.exchange(bench.command(Command.P0_TO_MCU, bench.p0.read(names)))
        _payload, p0 = _reply(bench, ack)
        got = list(p0.raw or {})
        if got != names:
            raise bench.fail(
                "the answer to a partial read has other points",
                expected=", ".join(names),
                got=", ".join(got) or "none",
                entry=ack,
            )


@group.case(
    "exact",
    "An answer ends with its last value",
    rule="Generated code sends stale bytes behind the values of a partial answer; receivers have to "
    "ignore them.",
    remedy="Send as many bytes as the flags announce. Receivers ignore the tail: this may stay.",
    section="5.5, 11",
    severity=MAY,
    needs=(VARIABLE, POINTS),
    defects=("read-reply-padded",),
)
async def exact(bench: Bench) -> None:
    names = [bench.product.points[0].name]
    ack = await bench.exchange(bench.command(Command.P0_TO_MCU, bench.p0.read(names)))
    _payload, p0 = _reply(bench, ack)
    if p0.warnings:
        raise bench.fail(
            "the answer to a partial read has a tail",
            expected="no bytes behind the values",
            got="; ".join(p0.warnings),
        )


@group.case(
    "all",
    "A read without flags asks for all points",
    rule="No flag set, or no flags at all: the whole state is wanted (ruling R32). Generated code answers"
    " with the flags that came, that is with no value; apps that know it set every flag.",
    remedy="Take no flags for all flags. This may stay where only generated apps read.",
    section="5.5, R32",
    severity=MAY,
    needs=(VARIABLE, POINTS),
    defects=("read-all-empty",),
)
async def read_all(bench: Bench) -> None:
    for payload in (bytes((Action.VAR_READ,)) + bytes(bench.product.flag_bytes), bytes((Action.VAR_READ,))):
        ack = await bench.exchange(bench.command(Command.P0_TO_MCU, payload))
        _payload, p0 = _reply(bench, ack)
        if len(p0.raw or {}) != len(bench.product.points):
            raise bench.fail(
                "a read without flags was not answered with all points",
                expected=f"{len(bench.product.points)} points",
                got=f"{len(p0.raw or {})}",
                entry=ack,
            )


@group.case(
    "padding",
    "Padding bits in the flags of a read are ignored",
    rule="The flags are whole bytes; bits above the last point mean nothing.",
    section="5.5",
    severity=SHOULD,
    needs=(VARIABLE, POINTS),
    defects=("flag-padding-refused",),
)
async def padding(bench: Bench) -> None:
    ack = await bench.exchange(
        bench.command(Command.P0_TO_MCU, bytes((Action.VAR_READ,)) + b"\xff" * bench.product.flag_bytes)
    )
    _payload, p0 = _reply(bench, ack)
    if len(p0.raw or {}) != len(bench.product.points):
        raise bench.fail(
            "a read with all flag bits set was not answered with all points", got=[ack], entry=ack
        )
