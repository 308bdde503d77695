"""Notices, 11 and 12: what is illegal, what is not, and what must stay silent (serial.md §4.9)."""

from __future__ import annotations

from collections import deque

from gizserial import schemas
from gizserial.commands import Command, IllegalFrameCode
from gizserial.framing import Frame
from sim.conformance.bench import Bench
from sim.conformance.cases.framing import damaged, heartbeat
from sim.conformance.cases.registry import SHOULD, Group
from sim.conformance.line import is_mcu_command
from sim.conformance.model import Entry
from sim.conformance.thresholds import ACK_PATIENCE, SECOND_ACK

group = Group(
    "framing",
    "Look at where a received frame is dispatched: 12 with the number of the frame for a wrong checksum"
    " (01) and an unknown command (02), silence for notices and acks.",
)

_KNOWN = frozenset(
    {Command.DEVICE_INFO, Command.P0_TO_MCU, Command.HEARTBEAT, Command.STATUS, Command.RESTART_MCU}
)
"""Commands that an MCU program must support (§2)."""
_NOTICE_WINDOW = 2.0
"""A notice is for something that was sent within so many seconds before it."""


@group.case(
    "checksum-notice",
    "A wrong checksum is answered with 12, code 01 and its number",
    rule="The notice tells the module that something arrived damaged; it is no ack and is not acked.",
    section="4.9",
    severity=SHOULD,
    defects=("no-notice-on-bad-checksum", "notice-wrong-sn", "notice-wrong-code", "notice-wrong-direction"),
)
async def checksum_notice(bench: Bench) -> None:
    frame = heartbeat(bench)
    await _notice(
        bench, damaged(frame), frame.sn, IllegalFrameCode.CHECKSUM, "a heartbeat with a wrong checksum"
    )


async def _notice(bench: Bench, wire: bytes, sn: int, code: int, what: str) -> None:
    since = bench.line.mark()
    bench.line.send_wire(wire, note=what)
    await bench.line.sent_all()
    await bench.line.until(lambda: _notices(bench, since), bench.patience(ACK_PATIENCE))
    expected = f"illegal_frame_from_mcu (12) with sn {sn} and code {code:02X}"
    notices = _notices(bench, since)
    if not notices:
        raise bench.fail(f"{what} drew no notice", expected=expected, got=bench.line.received(since))
    got = notices[0].frame
    if got is not None and (got.sn != sn or got.payload[:1] != bytes((code,))):
        raise bench.fail(f"{what} drew another notice", expected=expected, got=notices, entry=notices[0])


def _notices(bench: Bench, since: int) -> list[Entry]:
    return bench.line.frames(since, Command.ILLEGAL_FRAME_FROM_MCU)


@group.case(
    "unknown-command",
    "An unknown command is not acked and draws a notice with code 02",
    rule="Newer modules know more commands. An ack would say that it was carried out; the notice says "
    "that it is not known.",
    section="2, 4.9",
    severity=SHOULD,
    defects=("unknown-command-acked", "no-notice-on-unknown", "stuck-after-unknown"),
)
async def unknown_command(bench: Bench) -> None:
    frame = bench.command(0x6F)
    since = bench.line.mark()
    await _notice(
        bench,
        frame.encode(),
        frame.sn,
        IllegalFrameCode.UNKNOWN_COMMAND,
        "a command that does not exist (6F)",
    )
    await bench.line.listen(SECOND_ACK)
    bench.unanswered(frame, since, "a command that does not exist was acked")
    await bench.alive("an unknown command")


async def _answers(bench: Bench, frame: Frame) -> list[Entry]:
    """What comes with the number of a frame that wants no answer; commands of the MCU's own are none."""
    since = bench.line.mark()
    bench.line.send(frame, note="nobody is to answer it")
    await bench.line.sent_all()
    await bench.line.listen(SECOND_ACK)
    return [
        entry
        for entry in bench.line.frames(since)
        if entry.frame is not None
        and entry.frame.sn == frame.sn
        and (not is_mcu_command(entry.frame) or entry.frame.command == Command.ILLEGAL_FRAME_FROM_MCU)
    ]


@group.case(
    "notice-ignored",
    "A notice of the module is not answered",
    rule="11 and 12 are no commands: whoever answers a notice with a notice goes on for ever.",
    section="1.8, 4.9",
    defects=("notice-answered",),
)
async def notice_ignored(bench: Bench) -> None:
    payload = schemas.ILLEGAL_FRAME.build({"code": 1})
    answers = await _answers(bench, bench.command(Command.ILLEGAL_FRAME_FROM_MODULE, payload, sn=0x33))
    if answers:
        raise bench.fail("a notice was answered", expected="silence", got=answers, entry=answers[0])
    await bench.alive("a notice")


@group.case(
    "stray-ack",
    "An ack that nobody waits for does nothing",
    rule="An ack may come late, when it was given up.",
    section="1.4, 1.8",
    defects=("stray-ack-answered",),
)
async def stray_ack(bench: Bench) -> None:
    # A notice is allowed: generated code does not know all acks.
    answers = await _answers(bench, bench.command(Command.P0_FROM_MCU + 1, sn=0x44))
    if any(e.frame is not None and e.frame.command != Command.ILLEGAL_FRAME_FROM_MCU for e in answers):
        raise bench.fail("an ack was answered", expected="silence", got=answers, entry=answers[0])
    await bench.alive("an ack that nobody waited for")


@group.case(
    "wrong-direction",
    "A command that only the MCU sends is not acked by it",
    rule="With TX and RX bridged the MCU hears itself: acking its own reports it would never see that "
    "nobody listens.",
    section="1.8",
    severity=SHOULD,
    defects=("wrong-direction-acked",),
)
async def wrong_direction(bench: Bench) -> None:
    frame = bench.command(Command.BIND_WINDOW)
    since = bench.line.mark()
    bench.line.send(frame, note="a command of the other direction")
    await bench.line.sent_all()
    await bench.line.listen(SECOND_ACK)
    bench.unanswered(frame, since, "the MCU acked a command that only an MCU sends")
    await bench.alive("a command of the other direction")


@group.case(
    "needless-notice",
    "A good frame of a command that every MCU knows draws no notice",
    rule="A notice says that a frame was damaged or is not known. Beside an ack it is a lie, instead of one"
    " it hides a fault in the firmware's own check.",
    section="2, 4.9",
    severity=SHOULD,
    defects=("notice-on-good-frames",),
    observes=True,
)
async def needless_notice(bench: Bench) -> None:
    sent: deque[Entry] = deque(maxlen=8)
    for entry in bench.line.entries:
        if entry.direction == "sent":
            sent.append(entry)
        elif entry.frame is not None and entry.frame.command == Command.ILLEGAL_FRAME_FROM_MCU:
            recent = [e for e in sent if e.time >= entry.began - _NOTICE_WINDOW]
            if recent and all(e.frame is not None and e.frame.command in _KNOWN for e in recent):
                bench.note(
                    "the MCU called a good frame illegal",
                    expected="no notice: everything that was sent before it was sound",
                    got=[*recent[-2:], entry],
                    entry=entry,
                )
