"""Acks: right command, right number, in time, exactly one (serial.md §1.4, §1.8)."""

from __future__ import annotations

from collections import Counter

from gizserial import schemas
from gizserial.commands import FRAMES, Command, Role
from gizserial.framing import Frame
from sim.conformance.bench import Bench
from sim.conformance.cases.registry import MAY, SHOULD, Group
from sim.conformance.exchanges import CONNECTED, freed
from sim.conformance.model import WRITABLE, Entry
from sim.conformance.thresholds import ACK, ACK_PATIENCE, ADAPTER

group = Group(
    "ack",
    "Send the ack where the frame is received, before anything that takes time: the command plus one, the"
    " number of the command, once.",
)

_NUMBERS = (0x00, 0x01, 0x55, 0x7F, 0x80, 0xFE, 0xFF, 0x00)


def _status(word: int) -> bytes:
    payload: bytes = schemas.WIFI_STATUS.build({"status": word})
    return payload


async def _plain(bench: Bench, frame: Frame, *, alone: bool = True) -> None:
    ack = await bench.acked(frame, alone=alone)
    if ack.frame is not None and ack.frame.payload:
        bench.note(
            f"the ack of {bench.status_of(frame)} carries a payload",
            expected="an empty payload",
            got=[ack],
            entry=ack,
        )
    if ack.frame is not None and ack.frame.flags:
        bench.note(
            f"the ack of {bench.status_of(frame)} has flags {ack.frame.flags:04X}",
            expected="0000",
            got=[ack],
            entry=ack,
        )


@group.case(
    "heartbeat",
    "A heartbeat is acked, whatever its number",
    rule="Every 55 s the module asks whether the MCU lives: after four unanswered heartbeats it reboots."
    " The ack repeats the number of the command.",
    section="1.4, 4.4, 6.2",
    defects=(
        "ack-missing-heartbeat",
        "ack-wrong-sn",
        "ack-wrong-command",
        "ack-late",
        "ack-twice",
        "ack-with-payload",
        "ack-flags",
        "heartbeat-acked-as-status",
        "ack-sn-of-own-counter",
    ),
)
async def heartbeat(bench: Bench) -> None:
    for sn in _NUMBERS:
        await _plain(bench, bench.command(Command.HEARTBEAT, sn=sn))


@group.case(
    "status",
    "A status push is acked",
    rule="The module pushes its status at every change and does not repeat a push that was never acked.",
    section="4.7, 6.3",
    defects=("ack-missing-status", "ack-status-late"),
)
async def status(bench: Bench) -> None:
    for word in (CONNECTED.word, 0x0005, 0x0002, 0x0012, CONNECTED.word):
        await _plain(bench, bench.command(Command.STATUS, _status(word)))


@group.case(
    "control",
    "A control is acked without payload",
    rule="The ack of a control is empty; the new state follows as a report. Without the ack the module "
    "sends the control again.",
    section="4.2, 5.7",
    needs=(WRITABLE,),
    defects=("ack-missing-control", "report-instead-of-ack", "ack-control-with-state"),
)
async def control(bench: Bench) -> None:
    point = bench.point
    await _plain(bench, bench.command(Command.P0_TO_MCU, bench.p0.control(bench.others(point))))


@group.case(
    "unknown-action",
    "A P0 with an unknown action, or with none, is acked empty",
    rule="A newer cloud may send actions that this firmware does not know.",
    section="4.2, 5.1",
    severity=SHOULD,
    defects=("unknown-action-unacked",),
)
async def unknown_action(bench: Bench) -> None:
    for payload in (b"\x7e", b"\x7e\x01\x02", b""):
        await _plain(bench, bench.command(Command.P0_TO_MCU, payload))


@group.case(
    "flags",
    "Acks have no flags, also where the command had some",
    rule="Flags of acks are 0000 unless the command says otherwise. Generated code copies those of a"
    " heartbeat or a status push into its ack; modules do not look.",
    remedy="Set the two flag bytes of every ack to 0. Modules do not look: this may stay.",
    section="1.5",
    severity=MAY,
    defects=("ack-flags-copied",),
)
async def flags(bench: Bench) -> None:
    for command, payload in ((Command.HEARTBEAT, b""), (Command.STATUS, _status(CONNECTED.word))):
        await _plain(bench, bench.command(command, payload, flags=0x8000), alone=False)


@group.case(
    "repeated",
    "A command that comes again is acked again",
    rule="The module repeats a command when the ack was lost; without another ack it gives the command up.",
    section="1.8",
    defects=("duplicate-unacked",),
)
async def repeated(bench: Bench) -> None:
    for command, payload in ((Command.HEARTBEAT, b""), (Command.STATUS, _status(CONNECTED.word))):
        frame = bench.command(command, payload)
        for _ in range(3):
            await bench.acked(frame, note="the same frame again")


@group.case(
    "while-waiting",
    "Commands are acked while the MCU waits for an ack of its own",
    rule="Both sides may be waiting for each other: whoever stops answering until he is answered ends in"
    " a deadlock.",
    remedy="Do not wait for an ack in a loop of its own: note that it is awaited, and go on receiving.",
    section="1.8",
    needs=(WRITABLE,),
    defects=("deaf-while-waiting",),
)
async def while_waiting(bench: Bench) -> None:
    point = bench.point
    with bench.line.withhold(Command.P0_FROM_MCU):
        since = bench.line.mark()
        await bench.control(bench.others(point))
        await bench.line.until(
            lambda: bench.line.frames(since, Command.P0_FROM_MCU), bench.patience(ACK_PATIENCE)
        )
        await bench.acked(bench.command(Command.HEARTBEAT), note="while a report is unacked")
    await bench.settle()


@group.case(
    "behind-control",
    "A command right behind a control is acked in time",
    rule="The ack of the control is out, and the firmware carries the control out: whoever drives the motor,"
    " draws the display or writes the flash in one go hears nothing meanwhile, and the module repeats.",
    remedy="Cut what takes long into steps, and look at the line between them.",
    section="1.8",
    severity=SHOULD,
    needs=(WRITABLE,),
    defects=("deaf-after-control",),
)
async def behind_control(bench: Bench) -> None:
    await bench.control(bench.others(*bench.writable))
    await bench.acked(bench.command(Command.HEARTBEAT), note="right behind a control of all points")
    await bench.settle()


@group.case(
    "in-time",
    "All acks are in time, also those of large controls",
    rule="200 ms after the last byte of a command the module sends it again. An MCU that first stores what it"
    " was told and then acks is late when there is much to store.",
    remedy="Ack first, then store, draw and switch.",
    section="1.8",
    severity=SHOULD,
    defects=("ack-late-after-large-control", "ack-late", "ack-status-late"),
    observes=True,
)
async def in_time(bench: Bench) -> None:
    waiting: dict[tuple[int, int], float] = {}
    count, booting = 0, True
    late: list[tuple[float, Entry]] = []
    for entry in bench.line.entries:
        frame = entry.frame
        if entry.direction == "sent":
            if frame is not None and frame.command == Command.RESTART_MCU:
                waiting.clear()
                booting = True
            elif frame is not None and frame.command % 2:
                waiting[frame.command + 1, frame.sn] = entry.time
            continue
        if frame is not None and (free := waiting.pop((frame.command, frame.sn), None)) is not None:
            count += 1
            latency = entry.began - free
            if latency > ACK + ADAPTER and not booting:
                late.append((latency, entry))
            # What was asked of an MCU that starts waits in its buffer.
            booting = booting and frame.command == Command.RESTART_MCU + 1
        waiting = {key: freed(free, entry) for key, free in waiting.items()}
    # One alone may be the operating system's.
    if len(late) > 1:
        worst, entry = max(late, key=lambda pair: pair[0])
        raise bench.fail(
            f"{len(late)} of {count} acks were late, one of them {worst * 1000:.0f} ms",
            expected=f"within {ACK * 1000:.0f} ms (and {ADAPTER * 1000:.0f} ms for the adapter)",
            got=[entry for _latency, entry in late[:4]],
            entry=entry,
        )


@group.case(
    "once",
    "No command draws more acks than it was sent",
    rule="A second ack may be taken for that of the next command with the same number.",
    section="1.8",
    defects=("ack-twice",),
    observes=True,
)
async def once(bench: Bench) -> None:
    owed: Counter[tuple[int, int]] = Counter()
    for entry in bench.line.entries:
        frame = entry.frame
        if frame is None:
            # Frames that were sent glued, split or damaged may be acked as well.
            if entry.direction == "sent":
                owed.update(_hidden(entry.wire))
            continue
        if entry.direction == "sent":
            if frame.command % 2:
                owed[frame.command + 1, frame.sn] += 1
        elif (spec := FRAMES.get(frame.command)) and spec.is_ack and spec.sender is not Role.MODULE:
            if not owed[frame.command, frame.sn]:
                bench.note(
                    f"{spec.name} sn {frame.sn} came, which nobody asked for",
                    expected="one ack for each transmission of a command",
                    got=[entry],
                    entry=entry,
                )
            else:
                owed[frame.command, frame.sn] -= 1


def _hidden(wire: bytes) -> list[tuple[int, int]]:
    """Acks that bytes may draw which were not sent as one frame."""
    from gizserial.framing import Framer

    framer = Framer()
    items = [*framer.feed(wire), *framer.flush()]
    return [(item.command + 1, item.sn) for item in items if isinstance(item, Frame)]
