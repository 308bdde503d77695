"""Bytes and frames: escape, length, checksum, and the way back after anything else (serial.md §1)."""

from __future__ import annotations

from gizserial import schemas
from gizserial.commands import FRAMES, Command, Role
from gizserial.framing import BadFrame, Frame, Noise, checksum
from gizserial.product import DataPoint, DataType
from sim.conformance.bench import Bench
from sim.conformance.cases.registry import MAY, SHOULD, Group
from sim.conformance.exchanges import CONNECTED
from sim.conformance.model import LARGE, POINTS, Entry, Need, Setting
from sim.conformance.samples import changeable
from sim.conformance.thresholds import ACK_PATIENCE, SECOND_ACK

group = Group(
    "framing",
    "Look at the two loops that put bytes onto the line and take them off it: `gizserial decode` shows"
    " where each byte of a capture (--capture) belongs.",
)

_SPLIT_GAP = 0.02
_LONG_GAP = 0.25
"""Below the 500 ms after which our roles give a frame up; no official receiver has a limit (§1.1)."""


def heartbeat(bench: Bench, sn: int | None = None) -> Frame:
    """A heartbeat with the next number, or with ``sn``."""
    return bench.command(Command.HEARTBEAT, sn=sn)


def pushed(word: int) -> bytes:
    """The body of a status push."""
    payload: bytes = schemas.WIFI_STATUS.build({"status": word})
    return payload


def _with_checksum_ff(command: Command) -> int:
    """The number with which a frame without payload has the checksum FF."""
    return (0xFF - checksum(bytes((0, 5, command, 0, 0, 0)))) & 0xFF


def _holds_ff(point: DataPoint) -> bool:
    """Whether a legal value of the point has an FF byte."""
    return point.data_type is DataType.BINARY or (
        point.scale is not None and point.scale.raw_max & 0xFF == 0xFF
    )


def _ff_missing(setting: Setting) -> str:
    points = [p for p in setting.product.writable if p.name not in setting.leave]
    return "" if any(_holds_ff(p) for p in points) else "no writable data point may hold a byte FF"


_FF_POINT = Need("a writable data point that may hold FF", _ff_missing)


def _ff_value(point: DataPoint) -> int | bytes:
    if point.data_type is DataType.BINARY:
        return (b"\xff\x55\xff" * point.size)[: point.size]
    if point.scale is None:
        return 0
    return 0xFF55 if point.size == 2 and point.scale.in_range(0xFF55) else point.scale.raw_max


@group.case(
    "escape-sn",
    "The escape is taken out of, and put into, the number and the checksum",
    rule="After the header every FF is followed by 55, also in number and checksum; neither length nor "
    "checksum count it. A number of FF comes once in 256 frames: firmware that forgets it fails "
    "once in hours.",
    remedy="Escape when bytes leave, after the checksum was computed, everything behind the header; take 55"
    " out behind FF before length and checksum are looked at.",
    section="1.6",
    defects=(
        "escape-missing-in-sn",
        "escape-missing-in-checksum",
        "escape-missing-anywhere",
        "unescape-missing",
        "escape-summed",
        "escape-counted-in-length",
    ),
)
async def escape_sn(bench: Bench) -> None:
    ack_is_ff = _with_checksum_ff(Command.HEARTBEAT) - 1 & 0xFF
    for sn, what in (
        (0xFF, "with sn FF"),
        (_with_checksum_ff(Command.HEARTBEAT), "whose checksum is FF"),
        (ack_is_ff, "whose ack has the checksum FF"),
    ):
        since = bench.line.mark()
        _sent, ack = await bench.once(heartbeat(bench, sn), note=f"a heartbeat {what}")
        if ack is None:
            raise bench.fail(
                f"a heartbeat {what} was not acked", expected="heartbeat_ack", got=bench.line.received(since)
            )
        _escaped(bench, ack, f"the ack of a heartbeat {what}")


def _escaped(bench: Bench, entry: Entry, what: str) -> None:
    frame = entry.frame
    if frame is not None and frame.unescaped:
        bench.note(
            f"{what} has an FF that is not followed by 55",
            expected=frame.encode().hex(" "),
            got=entry.wire.hex(" "),
            entry=entry,
        )


@group.case(
    "escape-payload",
    "Values with FF arrive and come back escaped",
    rule="FF in a value goes over the line as FF 55, FF 55 as FF 55 55; a receiver that takes too much "
    "or too little out shifts everything behind it.",
    section="1.6",
    needs=(_FF_POINT,),
    defects=(
        "escape-missing-in-payload",
        "unescape-missing",
        "escape-missing-anywhere",
        "escape-ff55-collapsed",
    ),
)
async def escape_payload(bench: Bench) -> None:
    since = bench.line.mark()
    for point in [p for p in bench.writable if _holds_ff(p)][-3:]:
        await bench.set_and_check({point.name: _ff_value(point)}, "a control with FF in its value")
    for entry in bench.line.frames(since):
        _escaped(
            bench, entry, f"{bench.status_of(entry.frame) if entry.frame else 'a frame'} with FF in a value"
        )
    for entry in bench.line.received(since):
        if isinstance(entry.item, BadFrame):
            bench.note("a frame with FF in a value is damaged", got=[entry], entry=entry)


def _length_ff(setting: Setting) -> str:
    product = setting.product
    size = 1 + product.status_size
    return "" if size == 250 else "no frame of the product has FF in its length (250 bytes of payload)"


@group.case(
    "escape-length",
    "A length of 00FF is escaped",
    rule="A payload of 250 bytes has the length 00FF: the length bytes are escaped as everything else is.",
    section="1.6",
    needs=(Need("a report of 250 bytes", _length_ff), POINTS),
    defects=("escape-missing-in-length", "escape-missing-anywhere"),
)
async def escape_length(bench: Bench) -> None:
    ack = await bench.exchange(bench.read_frame())
    _escaped(bench, ack, "the answer to a read with a length of 00FF")
    if ack.frame is None or len(ack.frame.payload) != 250:
        raise bench.fail(
            "the answer to a read has not the length that the definition gives", got=[ack], entry=ack
        )


@group.case(
    "split",
    "A frame that comes byte by byte is one frame",
    rule="No official receiver has a time limit inside a frame; bytes come one by one at 9600 baud, and "
    "a module may pause in the middle.",
    section="1.1, 1.7",
    defects=("split-frames-lost",),
)
async def split(bench: Bench) -> None:
    for gap, what in ((_SPLIT_GAP, "byte by byte, 20 ms apart"), (_LONG_GAP, "in two parts, 250 ms apart")):
        frame = heartbeat(bench)
        wire = frame.encode()
        pieces = [wire[i : i + 1] for i in range(len(wire))] if gap == _SPLIT_GAP else [wire[:5], wire[5:]]
        since = bench.line.mark()
        with bench.line.answers_held():
            for number, piece in enumerate(pieces, 1):
                last = number == len(pieces)
                bench.line.send_wire(piece, frame if last else None, note=what)
                await bench.line.sent_all()
                if not last:
                    await bench.line.listen(gap)
        await bench.acked_within(frame, since)
        if bench.ack_of(frame, since) is None:
            raise bench.fail(
                f"a heartbeat that came {what} was not acked",
                expected="heartbeat_ack",
                got=bench.line.received(since),
            )


@group.case(
    "glued",
    "Commands that follow each other at once are all acked",
    rule="A status push and a heartbeat may come in one go; each is a command of its own.",
    section="1.7, 1.8",
    defects=("glued-frames-second-lost",),
)
async def glued(bench: Bench) -> None:
    since = bench.line.mark()
    frames = [
        bench.command(Command.HEARTBEAT),
        bench.command(Command.STATUS, pushed(0x0312)),
        bench.command(Command.HEARTBEAT),
    ]
    bench.line.send_wire(b"".join(frame.encode() for frame in frames), note="three frames in one write")
    await bench.line.sent_all()
    await _all_acked(bench, frames, since, "three frames in one go")


async def _all_acked(bench: Bench, frames: list[Frame], since: int, what: str) -> None:
    await bench.line.until(lambda: all(bench.ack_of(f, since) for f in frames), bench.patience(ACK_PATIENCE))
    missing = [f"{bench.status_of(f)} sn {f.sn}" for f in frames if bench.ack_of(f, since) is None]
    if missing:
        verb = "was" if len(missing) == 1 else "were"
        raise bench.fail(
            f"of {what} {len(missing)} {verb} not acked: {', '.join(missing)}",
            expected="an ack for each",
            got=bench.line.received(since),
        )


@group.case(
    "checksum",
    "A frame with a wrong checksum does nothing",
    rule="A damaged control must not move anything, and a damaged command is never acked: the module "
    "sends it again.",
    section="1.3, 4.9",
    defects=("checksum-ignored-on-receive", "checksum-zero-unchecked", "checksum-seven-bits"),
)
async def bad_checksum(bench: Bench) -> None:
    for wrong in (0x5A, 0x01, 0x80, None, 0xFF):
        frame = heartbeat(bench)
        since = bench.line.mark()
        wire = damaged(frame, wrong)
        bench.line.send_wire(wire, note="heartbeat with a wrong checksum")
        await bench.line.sent_all()
        await bench.line.listen(SECOND_ACK)
        bench.unanswered(
            frame,
            since,
            f"a heartbeat with the checksum {wire[8]:02X} instead of {_sum(frame):02X} was acked",
        )
    for point in [p for p in bench.writable if changeable(p)][:1]:
        before, raw = bench.values.get(point.name), bench.others(point)
        wanted = raw[point.name]
        control = bench.command(Command.P0_TO_MCU, bench.p0.control(raw))
        since = bench.line.mark()
        bench.line.send_wire(damaged(control), note="control with a wrong checksum")
        await bench.line.sent_all()
        await bench.line.listen(SECOND_ACK)
        bench.unanswered(control, since, "a control with a wrong checksum was acked")
        got = bench.reported(since) or await bench.read()
        if before is not None and point.name in got and got[point.name] == wanted != before:
            raise bench.fail(
                "a control with a wrong checksum was carried out",
                expected=bench.shown([point.name], {point.name: before}),
                got=bench.shown([point.name], got),
            )
    await bench.alive("frames with a wrong checksum")


def damaged(frame: Frame, wrong: int | None = 0x5A) -> bytes:
    """The frame with a wrong checksum.

    :param wrong: The bits that are flipped in it; None: it is 00, as if it had not been computed.
    """
    wire, last = frame.encode(), _sum(frame)
    body = wire[: -2 if last == 0xFF else -1]
    value = last ^ wrong if wrong is not None else 0 if last else 1
    return body + (b"\xff\x55" if value == 0xFF else bytes((value,)))


def _sum(frame: Frame) -> int:
    """The checksum of the frame."""
    wire = frame.encode()
    return 0xFF if wire.endswith(b"\xff\x55") else wire[-1]


@group.case(
    "flags",
    "Flag bits that are not known are ignored",
    rule="The two flag bytes are reserved for later; a command with one of them set is carried out all "
    "the same.",
    section="1.5",
    severity=SHOULD,
    defects=("flags-refused",),
)
async def flags(bench: Bench) -> None:
    await bench.acked(bench.command(Command.HEARTBEAT, flags=0x8000), note="a heartbeat with flags 8000")


@group.case(
    "large",
    "A frame with 250 bytes of payload is taken",
    rule="Raw data and large products fill more than 255 bytes of the receive buffer. Generated code for"
    " small products has no room and does not check: then values or the sequence number are "
    "overwritten.",
    remedy="Compare the announced length with the size of the buffer before bytes go into it.",
    section="1.7, 4.18",
    severity=MAY,
    needs=(LARGE,),
    defects=("large-frames-lost", "escape-missing-in-length"),
)
async def large(bench: Bench) -> None:
    before = dict(bench.values)
    await bench.exchange(await bench.raw_data(bytes(index & 0x7F for index in range(249))))
    await bench.alive("a frame with 250 bytes of payload")
    if bench.product.points:
        bench.require_unchanged(
            before, await bench.read(), "raw data of 249 bytes overwrote values: the buffer has no check"
        )


@group.case(
    "while-sending",
    "Commands that arrive while the MCU sends are not lost",
    rule="The line has two directions. Firmware that sends byte by byte with its interrupts off, or with a"
    " software UART, loses what comes meanwhile: a heartbeat that crosses a report, or the ack of a report.",
    remedy="Send and receive by interrupt or DMA; never switch interrupts off for a whole frame.",
    section="1.1, 1.8",
    severity=SHOULD,
    defects=("deaf-while-sending",),
)
async def while_sending(bench: Bench) -> None:
    since = bench.line.mark()
    question = bench.command(Command.DEVICE_INFO)
    bench.line.send(question)
    await bench.line.sent_all()
    beats = []
    for _ in range(5):
        beats.append(heartbeat(bench))
        bench.line.send(beats[-1], note="while the answer to 01 is on its way")
        await bench.line.sent_all()
    await _all_acked(bench, [question, *beats], since, "01 and five heartbeats right behind it")


@group.case(
    "many-bytes",
    "No byte is lost over many frames",
    rule="A ring buffer that loses a byte where it wraps spoils one frame in many: rare, and hard to "
    "find on a desk.",
    remedy="Look at the edge of the receive ring, its size, and what interrupts do to both of its indices.",
    section="1.7",
    defects=("byte-lost-at-ring-edge", "frame-lost-sometimes"),
)
async def many_bytes(bench: Bench) -> None:
    lost = []
    payload = pushed(CONNECTED.word)
    for _ in range(60):
        frame = bench.command(Command.STATUS, payload)
        _sent, ack = await bench.once(frame)
        if ack is None:
            lost.append(frame.sn)
            await bench.line.listen(SECOND_ACK)
    if lost:
        raise bench.fail(
            f"of 60 status pushes {len(lost)} were not acked",
            expected="an ack for each",
            got="none for sn " + ", ".join(str(sn) for sn in lost[:8]),
        )


@group.case(
    "all-good",
    "Everything that the MCU sent was frames",
    rule="Length, checksum and escape were right in every frame, and nothing stood between them. What a boot"
    " loader says while the MCU starts does not count.",
    section="1.2, 1.3, 1.6",
    defects=(
        "checksum-with-header",
        "escape-summed",
        "escape-counted-in-length",
        "escape-missing-anywhere",
        "bad-checksum-sometimes",
        "debug-text-on-the-line",
        "byte-lost-when-sending",
        "flags-not-zero",
    ),
    observes=True,
)
async def all_good(bench: Bench) -> None:
    booting = True
    asked: dict[tuple[int, int], int] = {}
    for entry in bench.line.entries:
        item = entry.item
        if entry.direction == "sent":
            if isinstance(item, Frame):
                booting = booting or item.command == Command.RESTART_MCU
                asked[item.command + 1, item.sn] = item.flags
        elif booting and not entry.framed:
            pass  # a boot loader's text on the way up: a module skips it, and the firmware cannot help it
        elif isinstance(item, BadFrame):
            bench.note("the MCU sent a broken frame", expected="a good frame", got=[entry], entry=entry)
        elif isinstance(item, Noise) and item.wire.strip(b"\x00\xff"):
            bench.note("the MCU sent bytes outside any frame", expected="nothing", got=[entry], entry=entry)
        elif isinstance(item, Frame) and item.unescaped:
            bench.note(
                "an FF is not followed by 55",
                expected=item.encode().hex(" "),
                got=item.wire.hex(" "),
                entry=entry,
            )
        elif isinstance(item, Frame):
            booting = booting and item.command == Command.RESTART_MCU + 1
            # Generated code copies the flags of a command into its ack: ack.flags has that.
            if item.flags & ~_flag_bits(item) and item.flags != asked.get((item.command, item.sn)):
                got = f"{item.flags:04X}"
                bench.note("reserved flag bits are set", expected="0000", got=got, entry=entry)


def _flag_bits(frame: Frame) -> int:
    spec = FRAMES.get(frame.command)
    return sum(spec.flag_bits.values()) if spec is not None else 0


@group.case(
    "own-commands",
    "The MCU sends only commands that an MCU may send",
    rule="Commands of the other direction and unknown ones are not understood by any module.",
    section="2",
    defects=("sends-wrong-direction", "sends-unknown-command"),
    observes=True,
)
async def own_commands(bench: Bench) -> None:
    for entry in bench.line.frames():
        frame = entry.frame
        if frame is None:
            continue
        spec = FRAMES.get(frame.command)
        if spec is None:
            bench.note(
                "the MCU sent an unknown command", expected="a command of section 2", got=[entry], entry=entry
            )
        elif spec.sender is Role.MODULE:
            bench.note(
                f"the MCU sent {spec.name}, which only a module sends",
                expected="commands and acks of an MCU",
                got=[entry],
                entry=entry,
            )
