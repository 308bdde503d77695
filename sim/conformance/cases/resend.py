"""What the MCU does when nobody acks its own commands (serial.md §1.8)."""

from __future__ import annotations

import itertools

from gizserial.commands import Command
from gizserial.framing import BadFrame, Frame
from sim.conformance.bench import Bench
from sim.conformance.cases.framing import damaged
from sim.conformance.cases.registry import MAY, SHOULD, Group
from sim.conformance.exchanges import CONNECTED
from sim.conformance.line import is_mcu_command
from sim.conformance.model import SLOW, WRITABLE, CaseSkippedError, Entry, Need, Setting
from sim.conformance.repetitions import (
    copied,
    copies_of,
    repeated_after,
    report_for,
    unacked,
    usual_wait,
    watched,
)
from sim.conformance.thresholds import (
    MODULE_TRIES,
    REPORT,
    RESEND_EARLIEST,
    RESEND_LATEST,
    RESEND_PATIENCE,
    RESTART_PATIENCE,
    TRANSMISSIONS,
)

group = Group(
    "resend",
    "Keep the frame that was sent; send the same bytes again after 200 ms, two times; forget it when its"
    " ack comes (06, same number) or the third wait is over.",
)

_LONG_RUN = 132.0
"""Seconds: a counter of milliseconds with 16 bits begins again twice in them."""
_WRAPS = 260
_SHORT = 64
"""Bytes of status, twice, and flags up to which 256 controls with their reports take less than 30 s."""


def _transmissions(bench: Bench, sent: list[Entry]) -> list[Entry]:
    if len(sent) < 2:
        raise bench.fail(
            "a report that nobody acked was not sent again",
            expected="the same frame again after 200 ms, two times",
            got=sent,
        )
    return sent


@group.case(
    "repeats",
    "A report without ack is sent again",
    rule="One disturbed byte must not lose a report: after 200 ms without ack the frame is sent again, "
    "two times in all.",
    section="1.8, R1",
    needs=(WRITABLE,),
    defects=("resend-missing", "resend-new-sn"),
)
async def repeats(bench: Bench) -> None:
    _transmissions(bench, await unacked(bench))


@group.case(
    "count",
    "A report without ack is sent three times in all",
    rule="Generated code and modules send three times, older code four times. One repetition only is lost"
    " too easily; what is sent more often is another case.",
    section="1.8, R1",
    severity=SHOULD,
    needs=(WRITABLE,),
    defects=("resend-once",),
)
async def count(bench: Bench) -> None:
    sent = await unacked(bench)
    if len(sent) == 1:
        raise CaseSkippedError("it is not sent again at all: resend.repeats has that")
    if len(sent) < MODULE_TRIES:
        raise bench.fail(
            "a report that nobody acked was sent twice in all",
            expected=f"{MODULE_TRIES} times, at most {TRANSMISSIONS}",
            got=sent,
        )


@group.case(
    "same-frame",
    "A repetition is the same frame, byte by byte",
    rule="The receiver knows a repetition by number and content; with a new number the app gets the "
    "report twice.",
    section="1.4, 1.8",
    needs=(WRITABLE,),
    defects=("resend-new-sn", "resend-different-bytes"),
)
async def same_frame(bench: Bench) -> None:
    await bench.settle()
    since = bench.line.mark()
    with bench.line.withhold(Command.P0_FROM_MCU):
        await report_for(bench, since)
        await watched(bench, since)
        sent = bench.line.frames(since, Command.P0_FROM_MCU)
    first = sent[0]
    repeated = any(e.wire == first.wire for e in sent[1:])
    near = [e for e in sent[1:] if e.wire != first.wire and _near(e, first, repeated=repeated)]
    if near:
        raise bench.fail(
            "a report was repeated with other bytes",
            expected=first.wire.hex(" "),
            got="; ".join(entry.wire.hex(" ") for entry in near[:3]),
            entry=near[0],
        )


def _near(entry: Entry, first: Entry, *, repeated: bool) -> bool:
    """Whether it must be a repetition: the same number, or the same content where no true copy came."""
    one, other = entry.frame, first.frame
    if one is None or other is None:
        return False
    return one.sn == other.sn or (one.payload == other.payload and not repeated)


@group.case(
    "interval",
    "A repetition comes 200 ms after the frame",
    rule="Sooner it overtakes an ack that is in time; much later the app waits. Newer peers take 600 ms "
    "and more for long frames.",
    section="1.8, R2",
    severity=SHOULD,
    needs=(WRITABLE,),
    defects=("resend-too-fast", "resend-too-slow"),
)
async def interval(bench: Bench) -> None:
    sent = await unacked(bench)
    for earlier, later in itertools.pairwise(sent):
        gap = later.began - earlier.time
        if gap < RESEND_EARLIEST:
            raise bench.fail(
                f"a report was repeated after {gap * 1000:.0f} ms",
                expected=f"200 ms, at least {RESEND_EARLIEST * 1000:.0f} ms",
                got=[earlier, later],
            )
        if gap > RESEND_LATEST:
            raise bench.fail(
                f"a report was repeated only after {gap:.1f} s",
                expected=f"200 ms, at most {RESEND_LATEST:g} s",
                got=[earlier, later],
            )


@group.case(
    "gives-up",
    "The repetitions end",
    rule="Two repetitions, then the frame is dropped: a module that is gone must not keep the MCU busy. "
    "A peer tolerates up to four equal frames.",
    section="1.8, R1",
    needs=(WRITABLE,),
    defects=("resend-forever",),
)
async def gives_up(bench: Bench) -> None:
    sent = await unacked(bench)
    if len(sent) > TRANSMISSIONS:
        raise bench.fail(
            f"a report was sent {len(sent)} times, and there was no end to it",
            expected=f"3 times, at most {TRANSMISSIONS}",
            got=sent,
        )


@group.case(
    "ends-with-ack",
    "An ack ends the repetitions",
    rule="Once acked, a frame is done, also when it is a repetition that was acked: another copy would be a"
    " duplicate.",
    section="1.8",
    needs=(WRITABLE,),
    defects=("resend-after-ack", "resend-after-late-ack"),
)
async def ends_with_ack(bench: Bench) -> None:
    for acked in (1, 2):
        await bench.settle()
        since = bench.line.mark()
        with bench.line.withhold(Command.P0_FROM_MCU):
            await report_for(bench, since)
            if not await copied(bench, since, acked, bench.patience(RESEND_PATIENCE)):
                return  # it is not sent again at all: resend.repeats has that
            bench.line.ack(copies_of(bench, since)[-1])
        await bench.line.listen(1.0)
        copies = copies_of(bench, since)
        if len(copies) > acked:
            what = "it" if acked == 1 else "its repetition"
            raise bench.fail(
                f"a report was sent again although {what} was acked",
                expected="one transmission" if acked == 1 else f"{acked} transmissions",
                got=copies,
                entry=copies[acked],
            )


@group.case(
    "other-frames",
    "What comes meanwhile does not end the repetitions, nor does it get into them",
    rule="While a report waits for its ack the module asks and tells as always. The frame that waits needs"
    " a buffer of its own, and only its ack ends the wait.",
    remedy="Build acks and answers in another buffer than the frame that may have to be sent again, and end"
    " the wait with 06 only.",
    section="1.8",
    needs=(WRITABLE,),
    defects=("resend-ended-by-any-frame", "resend-buffer-shared"),
)
async def other_frames(bench: Bench) -> None:
    wait, _most = await usual_wait(bench)

    async def heartbeat(_report: Entry) -> None:
        await bench.exchange(bench.command(Command.HEARTBEAT))

    async def status_push(_report: Entry) -> None:
        await bench.push_status(CONNECTED)

    async def read(_report: Entry) -> None:
        await bench.read()

    for meanwhile in (heartbeat, status_push, read):
        what = f"a {meanwhile.__name__.replace('_', ' ')} that came meanwhile"
        await repeated_after(bench, wait, meanwhile, what)


@group.case(
    "damaged-ack",
    "An ack with a wrong checksum does not end the repetitions",
    rule="What is damaged may be anything: only a sound ack says that the report arrived.",
    remedy="Check the checksum of every frame, acks too, before the frame is looked at.",
    section="1.3, 1.8",
    needs=(WRITABLE,),
    defects=("checksum-unchecked-in-acks", "checksum-ignored-on-receive"),
)
async def damaged_ack(bench: Bench) -> None:
    async def acked_badly(report: Entry) -> None:
        if report.frame is not None:
            ack = Frame(Command.P0_FROM_MCU + 1, report.frame.sn)
            bench.line.send_wire(damaged(ack), note="ack with a wrong checksum")
            await bench.line.sent_all()

    wait, _most = await usual_wait(bench)
    await repeated_after(bench, wait, acked_badly, "an ack with a wrong checksum")


@group.case(
    "recovers",
    "After a report was given up everything goes on",
    rule="The module was away for a moment. Values stay, and controls are carried out and reported as"
    " before.",
    remedy="Drop the frame that nobody acked, and nothing else: whoever restarts instead forgets what was"
    " set.",
    section="1.8",
    needs=(WRITABLE,),
    defects=("stuck-after-give-up", "restarts-after-give-up"),
)
async def recovers(bench: Bench) -> None:
    point = bench.point
    await bench.settle()
    raw = bench.others(point)
    since = bench.line.mark()
    with bench.line.withhold(Command.P0_FROM_MCU):
        await report_for(bench, since)
        await watched(bench, since)
    await bench.settle()
    got = await bench.read()
    if point.name in got and not bench.same(point.name, raw[point.name], got[point.name]):
        raise bench.fail(
            "a value that was set is gone since its report was given up",
            expected=bench.shown(raw, raw),
            got=bench.shown(raw, got),
        )
    raw = bench.others(point)
    since = bench.line.mark()
    await bench.set_and_check(raw, "a control after a report was given up")
    await bench.line.until(lambda: bench.reports(since), bench.patience(REPORT))
    if not bench.reports(since):
        raise bench.fail(
            "after a report was given up no further report comes", expected="a report", got="nothing"
        )


@group.case(
    "number-checked",
    "An ack with another number is not taken",
    rule="A late ack of an earlier command must not end the repetitions of this one. Generated code "
    "looks at the command only (R24).",
    remedy="Compare the number of the ack with that of the frame that waits. Generated code does not: this"
    " may stay.",
    section="1.4, R24",
    severity=MAY,
    needs=(WRITABLE,),
    defects=("ack-sn-unchecked",),
)
async def number_checked(bench: Bench) -> None:
    wait, _most = await usual_wait(bench)
    await bench.settle()
    since = bench.line.mark()
    with bench.line.withhold(wrong_sn=True):
        await report_for(bench, since)
        await bench.line.listen(wait)
        sent = bench.line.frames(since, Command.P0_FROM_MCU)
    bench.line.ack(sent[-1])
    if len(sent) < 2:
        raise bench.fail(
            "an ack with another number ended the repetitions", expected="the report again", got=sent
        )


@group.case(
    "timer",
    "Repetitions come in time, whatever the clock of the firmware shows",
    rule="A counter of milliseconds with 16 bits begins again every 65.5 s. Compared as `now >= sent + 200`"
    " it gives a repetition at once, or none for a minute.",
    remedy="Compare differences, `(uint16_t)(now - sent) >= 200`, and never two times.",
    section="1.8",
    needs=(SLOW, WRITABLE),
    defects=("timer-wraps",),
)
async def timer(bench: Bench) -> None:
    wait, most = await usual_wait(bench)
    await bench.settle()
    end = bench.line.now() + _LONG_RUN
    with bench.line.withhold(Command.P0_FROM_MCU):
        while bench.line.now() < end:
            since = bench.line.mark()
            await report_for(bench, since)
            for count in range(2, most + 1):
                await copied(bench, since, count, wait)
            copies = copies_of(bench, since)
            bench.line.ack(copies[-1])
            early = [b for a, b in itertools.pairwise(copies) if b.began - a.time < RESEND_EARLIEST]
            if early or len(copies) < most:
                raise bench.fail(
                    "a report was repeated at once" if early else "a report was not repeated as before",
                    expected=f"{most} transmissions, as at other times, 200 ms apart",
                    got=copies,
                    entry=(early or copies)[0],
                )


def _long_frames(setting: Setting) -> str:
    product = setting.product
    if setting.slow or 2 * product.status_size + product.flag_bytes <= _SHORT:
        return ""
    return "256 controls of this product take minutes (--slow)"


@group.case(
    "wrap",
    "The MCU's own number goes through FF and begins again at 0",
    rule="Once in 256 commands the number is FF and has to be escaped, and one checksum in 256 is FF too:"
    " on a desk that is never seen, in the field it is a report lost every few hours.",
    remedy="Escape frames that the MCU begins as its acks are escaped: everything behind the header.",
    section="1.4, 1.6",
    needs=(WRITABLE, Need("short frames", _long_frames)),
    defects=("escape-missing-in-own-sn", "escape-missing-anywhere"),
)
async def wrap(bench: Bench) -> None:
    point = bench.point
    since = bench.line.mark()
    seen: set[int] = set()
    for _ in range(_WRAPS):
        before = bench.line.mark()
        raw = bench.others(point)
        await bench.control(raw)
        await bench.told_within(raw, before)
        new = {entry.frame.sn for entry in bench.line.commands(before) if entry.frame is not None}
        if not new and not _broken(bench, before):
            raise bench.fail(
                "no report followed a control, so its number cannot be seen", expected="a report"
            )
        seen |= new
        if 0xFF in seen and 0 in new:
            break
    broken = _broken(bench, since)
    if broken:
        raise bench.fail(
            "a report was no good frame: an FF in its number or checksum was not followed by 55",
            expected="every report a good frame, also that with number FF",
            got=broken,
            entry=broken[0],
        )


def _broken(bench: Bench, since: int) -> list[Entry]:
    """Frames of the MCU after the mark that were damaged, or lacked an escape."""
    return [
        entry
        for entry in bench.line.received(since)
        if isinstance(entry.item, BadFrame) or (entry.frame is not None and entry.frame.unescaped)
    ]


@group.case(
    "counter",
    "Every new command has the next number",
    rule="One counter for all commands of a side, plus one each, FF is followed by 0.",
    remedy="Count in one place, by one, for every new command; a repetition keeps its number.",
    section="1.4",
    defects=("sn-not-incremented", "sn-copied-from-peer", "sn-skips", "sn-wraps-early", "resend-new-sn"),
    severity=SHOULD,
    observes=True,
)
async def counter(bench: Bench) -> None:
    previous: Entry | None = None
    booted = 0.0
    for entry in bench.line.entries:
        frame = entry.frame
        if isinstance(entry.item, BadFrame):
            previous = None  # its number may have been lost with it
        if entry.direction == "sent":
            if frame is not None and frame.command == Command.DEVICE_INFO:
                previous = None  # it may begin again with a module that does
            if frame is not None and frame.command == Command.RESTART_MCU:
                booted = entry.time + RESTART_PATIENCE
            continue
        if entry.time < booted:
            previous = None
        if not is_mcu_command(frame) or frame is None or frame.command == Command.ILLEGAL_FRAME_FROM_MCU:
            continue
        if previous is None or previous.frame is None or previous.frame == frame:
            previous = entry
            continue
        step = (frame.sn - previous.frame.sn) & 0xFF
        if step != 1:
            last = previous.frame.sn
            raise bench.fail(
                f"{frame.sn} came after {last}: the counter ends early, or the MCU restarted"
                if frame.sn < min(last, 2)
                else "the numbers of two commands that follow each other do not",
                expected=f"sn {(last + 1) & 0xFF}",
                got=[previous, entry],
                entry=entry,
            )
        previous = entry
