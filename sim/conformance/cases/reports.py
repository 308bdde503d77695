"""Reports: what the MCU tells of its values by itself, when, and in which form (serial.md §5, §6.6)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from gizserial.commands import Command
from gizserial.errors import BodyError
from gizserial.framing import Frame
from gizserial.p0 import P0, Meaning, action_for
from gizserial.product import DataPoint, Layout
from sim.conformance.bench import Bench, Press, Report
from sim.conformance.cases.registry import MAY, SHOULD, Group
from sim.conformance.line import is_mcu_command
from sim.conformance.model import PERSON, POINTS, SLOW, WRITABLE, CaseSkippedError, Entry
from sim.conformance.thresholds import (
    FULL_REPORT,
    OWED,
    REPORT,
    REPORT_INTERVAL,
    STORM,
    TRANSMISSIONS,
    WATCH,
)
from sim.conformance.thresholds import (
    PERSON as PERSON_TIME,
)

group = Group(
    "report",
    "Look at where reports are decided and built: compare with the values that were reported last, wait 6 s"
    " for read-only numbers, lay out as `gizserial product show` says.",
)


@group.case(
    "on-change",
    "A change on the device is reported at once",
    rule="A key was pressed, a door was opened: bools, enums, writable points, alerts and faults are "
    "reported at once, read-only numbers after 6 s at the latest.",
    section="6.6",
    needs=(PERSON, POINTS),
    defects=("report-change-missing", "report-change-late"),
)
async def on_change(bench: Bench) -> None:
    await bench.settle()
    before = await bench.read()
    since = bench.line.mark()
    await bench.press(Press.CHANGE)
    deadline = bench.line.now() + PERSON_TIME
    changed: list[str] = []
    while not changed and bench.line.now() < deadline:
        now = await bench.read()
        changed = [name for name in now if name in before and now[name] != before[name]]
        if not changed:
            await bench.line.listen(1.0)
    if not changed:
        raise CaseSkippedError("no value changed")

    def told() -> bool:
        # A value that moves on may be reported with another one than was read.
        return set(changed) <= set(bench.reported(since))

    slow = all(_slow(bench.product.point(name)) for name in changed)
    within = REPORT_INTERVAL + REPORT if slow else REPORT
    if not await bench.line.until(told, within):
        raise bench.fail(
            f"{', '.join(changed)} changed on the device and was not reported within {within:g} s",
            expected="a report",
            got=bench.line.commands(since),
        )


def _slow(point: DataPoint) -> bool:
    from gizserial.mcu_reports import is_slow

    return is_slow(point)


@group.case(
    "rate",
    "An idle device does not report more often than every 6 s",
    rule="The cloud limits devices: reports that the environment causes come at most every 6 s; changes "
    "of switches and alarms are exempt. A report without any change is for every 600 s.",
    remedy="Wait 6 s between reports that only read-only numbers have caused, and do not report noise.",
    section="6.4, 6.6",
    severity=SHOULD,
    needs=(POINTS,),
    defects=(
        "report-every-second",
        "report-storm",
        "report-noisy-sensor",
    ),
)
async def rate(bench: Bench) -> None:
    await bench.settle()
    await bench.line.listen(REPORT_INTERVAL)
    since, last = bench.line.mark(), dict(bench.values)
    await bench.line.listen(WATCH)
    previous: tuple[float, Entry] | None = None
    for report in bench.reports(since):
        changed = [n for n, v in report.raw.items() if last.get(n) != v]
        quick = any(not _slow(bench.product.point(name)) for name in changed)
        last.update(report.raw)
        gap = report.entry.time - previous[0] if previous else REPORT_INTERVAL
        again = previous is not None and previous[1].frame == report.entry.frame
        if not quick and not again and gap < REPORT_INTERVAL - 0.2:
            raise bench.fail(
                f"two reports came {gap:.1f} s apart, and nothing but read-only numbers had changed",
                expected=f"at least {REPORT_INTERVAL:g} s between them",
                got=[previous[1], report.entry] if previous else [report.entry],
                entry=report.entry,
            )
        previous = (report.entry.time, report.entry)


@group.case(
    "idle",
    "A report that tells nothing new is for every 600 s",
    rule="Each report goes to the cloud and to every app, and devices there are limited: a report in which"
    " nothing changed is worth one every ten minutes. More often is allowed, 6 s apart.",
    remedy="Report what changed, and everything every 600 s. More often is allowed: this may stay.",
    section="6.6, R31",
    severity=MAY,
    needs=(POINTS,),
    defects=("report-every-ten-seconds", "report-every-second"),
)
async def idle(bench: Bench) -> None:
    await bench.settle()
    await bench.line.listen(REPORT_INTERVAL)
    since = bench.line.mark()
    known = dict(bench.values)
    await bench.line.listen(WATCH)
    idle_reports: list[Report] = []
    for report in bench.reports(since):
        news = any(known.get(name) != value for name, value in report.raw.items())
        known.update(report.raw)
        if not news and report.entry.frame not in [r.entry.frame for r in idle_reports]:
            idle_reports.append(report)
    if len(idle_reports) > 1:
        raise bench.fail(
            f"{len(idle_reports)} reports in which nothing had changed came within {WATCH:g} s",
            expected="silence for 600 s after a full report",
            got=[report.entry for report in idle_reports],
        )


@group.case(
    "storm",
    "The MCU never floods the line",
    rule="A report waits for its ack, and at 9600 baud a second has room for some tens of frames; a "
    "flood starves the module's commands.",
    section="1.8, 6.6",
    defects=("report-storm", "heartbeat-storm", "time-request-storm"),
    observes=True,
)
async def storm(bench: Bench) -> None:
    recent: deque[Entry] = deque()
    owed: deque[float] = deque()
    previous: Frame | None = None
    copies = 0
    for entry in bench.line.entries:
        frame = entry.frame
        if frame is None:
            continue
        if entry.direction == "sent":
            if frame.command == Command.P0_TO_MCU:
                owed.append(entry.time)
            continue
        if not is_mcu_command(frame) or frame.command == Command.ILLEGAL_FRAME_FROM_MCU:
            continue  # a second of noise may draw many notices
        copies, previous = (copies + 1 if frame == previous else 0), frame
        if 0 < copies < TRANSMISSIONS:
            continue  # a repetition is another case's business
        while owed and entry.time - owed[0] > OWED:
            owed.popleft()
        if frame.command == Command.P0_FROM_MCU and owed:
            owed.popleft()  # it answers a control, maybe one that had to wait for an earlier report's ack
            continue
        recent.append(entry)
        while entry.time - recent[0].time >= 1.0:
            recent.popleft()
        if len(recent) > STORM:
            raise bench.fail(
                f"{len(recent)} commands of the MCU came within one second: {_counted(bench, recent)}",
                expected=f"at most {STORM}, besides one report for each control",
                got=list(recent),
                entry=entry,
            )


def _counted(bench: Bench, entries: Iterable[Entry]) -> str:
    names = Counter(bench.status_of(entry.frame) for entry in entries if entry.frame is not None)
    return ", ".join(f"{count} {name}" for name, count in names.most_common())


@group.case(
    "full",
    "A full report comes every 600 s",
    rule="The cloud learns the state again that a lost report has hidden.",
    section="6.6, R31",
    severity=SHOULD,
    needs=(SLOW, POINTS),
    defects=("report-full-missing",),
)
async def full(bench: Bench) -> None:
    since = bench.line.mark()
    heard = await bench.line.until(
        lambda: any(len(r.raw) == len(bench.product.points) for r in bench.reports(since)), FULL_REPORT + 10
    )
    if not heard:
        raise bench.fail(
            "no full report came within 600 s",
            expected="a report with all points",
            got=[r.entry for r in bench.reports(since)],
        )


@group.case(
    "layout",
    "Every report has the layout that the definition gives",
    rule="Action, flags, size and positions follow from the definition; one byte more or less and apps "
    "show nonsense.",
    section="5.1, 5.4, 5.5",
    needs=(POINTS,),
    defects=(
        "report-wrong-action",
        "report-short",
        "report-tail",
        "report-flags-padding",
        "report-padding-bits",
        "report-unflagged-points",
        "sends-fixed-action",
        "report-flags-little-endian",
    ),
    observes=True,
)
async def layout(bench: Bench) -> None:
    variable = bench.product.layout is Layout.VARIABLE
    for entry in bench.line.frames(command=Command.P0_FROM_MCU):
        payload = entry.frame.payload if entry.frame is not None else b""
        try:
            p0 = bench.p0.parse(payload, Command.P0_FROM_MCU)
        except BodyError as error:
            bench.note(f"a report is unreadable: {error}", got=[entry], entry=entry)
            continue
        if p0.meaning is None:
            bench.note(
                "a report has an action that is not the product's",
                expected=_actions(bench),
                got="; ".join(p0.warnings) or "no action",
                entry=entry,
            )
        elif p0.meaning is Meaning.REPORT:
            _exact_report(bench, entry, payload, p0, variable=variable)


def _actions(bench: Bench) -> str:
    return f"action {action_for(Meaning.REPORT, bench.product.layout):02X}, or 06 for raw data"


def _exact_report(bench: Bench, entry: Entry, payload: bytes, p0: P0, *, variable: bool) -> None:
    if p0.warnings:
        bench.note(
            "a report has bytes behind its last value",
            expected="none",
            got="; ".join(p0.warnings),
            entry=entry,
        )
        return
    raw = p0.raw or {}
    rebuilt = bench.p0.report(raw)
    if rebuilt == payload:
        return
    if variable and rebuilt[: 1 + bench.product.flag_bytes] != payload[: 1 + bench.product.flag_bytes]:
        if len(raw) < len(bench.product.points):
            bench.note(
                "flag bits above the last point are set",
                expected=rebuilt[1 : 1 + bench.product.flag_bytes].hex(" "),
                got=payload[1 : 1 + bench.product.flag_bytes].hex(" "),
                entry=entry,
            )
        return  # a full report of generated code sets all bits of the flags (§5.5)
    bench.note(
        "padding bits in a report are not 0", expected=rebuilt.hex(" "), got=payload.hex(" "), entry=entry
    )


@group.case(
    "range",
    "Every reported value is one that the definition allows",
    rule="An index that the list does not have and a number outside its range are shown by apps as "
    "nonsense, or not at all.",
    section="5.6",
    severity=SHOULD,
    needs=(POINTS,),
    defects=("report-out-of-range", "enum-off-by-one", "signed-scaling"),
    observes=True,
)
async def in_range(bench: Bench) -> None:
    told: set[str] = set()
    for report in bench.reports():
        for name, raw in report.raw.items():
            point = bench.product.point(name)
            warnings = point.warnings(raw)
            if warnings and name not in told and bench.beyond.get(name) != raw:
                told.add(name)
                bench.note(
                    f"{name} was reported with a value outside its range",
                    got="; ".join(warnings),
                    entry=report.entry,
                )


@group.case(
    "truth",
    "Reports and reads say the same",
    rule="A report carries the live state; a different answer to a read means that one of the two is old.",
    section="5.7, 6.6",
    needs=(WRITABLE,),
    defects=("report-stale-values", "read-stale", "number-little-endian", "bit-section-little-endian"),
)
async def truth(bench: Bench) -> None:
    for turn in range(2):
        raw = bench.others(*bench.writable[turn::2])
        if not raw:
            continue
        await bench.settle()
        since = await bench.control_and_rest(raw)
        said = bench.reported(since)
        read = await bench.read()
        wrong = [
            p.name
            for p in bench.writable
            if p.name in said and p.name in read and said[p.name] != read[p.name]
        ]
        if wrong:
            raise bench.fail(
                "the last report and a read right behind it differ",
                expected=bench.shown(wrong, read),
                got=bench.shown(wrong, said),
            )
