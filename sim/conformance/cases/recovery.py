"""The way back: what stands between frames, frames that break off, a second of noise (serial.md §1.7)."""

from __future__ import annotations

import random

from gizserial.commands import Command
from sim.conformance.bench import Bench
from sim.conformance.cases.framing import heartbeat, pushed
from sim.conformance.cases.registry import SHOULD, Group
from sim.conformance.exchanges import CONNECTED

group = Group(
    "recovery",
    "Look at the receiver's states: FF FF begins a new frame whatever came before, and no state may wait"
    " for bytes that never come.",
)


async def _recovers(bench: Bench, junk: bytes, what: str) -> None:
    """Send something that is no frame, then a heartbeat as a module does: up to three times."""
    bench.line.send_wire(junk, note=what)
    await bench.line.sent_all()
    await bench.alive(what)


@group.case(
    "noise",
    "Bytes outside any frame are skipped",
    rule="Boot messages and disturbances stand between frames; the next FF FF begins a frame.",
    section="1.7",
    defects=("stuck-after-noise",),
)
async def noise(bench: Bench) -> None:
    await _recovers(
        bench, b"\r\nets Jan  8 2013,rst cause:2, boot mode:(3,6)\r\n", "text of a boot loader on the line"
    )
    await _recovers(bench, bytes(64), "64 bytes of 00")
    await _recovers(bench, b"\x55\xff\x55\xff\x00\xfe\x7f", "noise with single FFs")


@group.case(
    "header-again",
    "A header in the middle of anything begins a new frame",
    rule="FF FF cannot stand inside a frame: it always begins one, also right behind another header.",
    section="1.7",
    defects=("fake-header-lost", "header-triple-ff", "stuck-after-truncated"),
)
async def header_again(bench: Bench) -> None:
    await _recovers(bench, b"\xff\xff", "a header behind which another one stands")
    await _recovers(bench, b"\xff", "a single FF before a header")
    await _recovers(bench, b"\x12\xff\xff\x34", "a header in the noise")
    await _recovers(bench, b"\xff\xff\xff\xff\xff\xff\xff", "seven FFs")


@group.case(
    "first-try",
    "A frame right behind a stray FF, a second header or half a frame is not lost",
    rule="FF FF begins a new frame, also in the middle of another one: that costs nothing but a little care"
    " in the receiver, and saves 200 ms. Generated code manages it.",
    section="1.7",
    severity=SHOULD,
    defects=("header-triple-ff", "header-twice-lost", "header-inside-frame-lost"),
)
async def first_try(bench: Bench) -> None:
    broken_off = bench.command(Command.STATUS, pushed(CONNECTED.word)).encode()[:8]
    for junk, what in (
        (b"\xff", "a stray FF"),
        (b"\xff\xff", "a header that nothing followed"),
        (broken_off, "a status push that broke off after 8 bytes"),
    ):
        frame = heartbeat(bench)
        _sent, ack = await bench.once(frame, wire=junk + frame.encode(), note=f"{what} before the heartbeat")
        if ack is None:
            raise bench.fail(
                f"a heartbeat behind {what} was not acked", expected="heartbeat_ack", got="nothing"
            )


@group.case(
    "truncated",
    "A frame that breaks off costs only itself",
    rule="The module was unplugged or restarted in the middle of a frame; the next header begins anew.",
    section="1.7",
    defects=("stuck-after-truncated",),
)
async def truncated(bench: Bench) -> None:
    wire = bench.command(Command.STATUS, pushed(CONNECTED.word)).encode()
    for size in (3, 5, 8, len(wire) - 1):
        await _recovers(bench, wire[:size], f"a status push that broke off after {size} bytes")


@group.case(
    "overlong",
    "A length that is too large does not block the line",
    rule="One flipped bit makes a length of thousands: whoever waits for all those bytes is deaf for "
    "seconds. The next header ends the wait.",
    section="1.7",
    defects=("stuck-after-overlong",),
)
async def overlong(bench: Bench) -> None:
    for length in (0x0FF0, 0x7FF0):
        junk = b"\xff\xff" + length.to_bytes(2, "big") + bytes((Command.HEARTBEAT, 0x11, 0, 0))
        await _recovers(bench, junk, f"a frame that announces {length} bytes and has eight")


@group.case(
    "length-short",
    "A length below 5 is no frame",
    rule="The shortest frame has a length of 5: command, number, two flags and checksum.",
    section="1.2, 1.7",
    defects=("length-zero-hangs",),
)
async def length_short(bench: Bench) -> None:
    for length in (0, 1, 4):
        await _recovers(
            bench,
            b"\xff\xff\x00" + bytes((length, Command.HEARTBEAT, 0x22)),
            f"a frame with the length {length}",
        )


@group.case(
    "burst",
    "One second of line noise is survived",
    rule="Plugging the cable in, a motor that starts: for a second anything arrives. Afterwards three "
    "transmissions of a module must be enough.",
    section="1.7",
    defects=("stuck-after-noise", "stuck-after-overlong", "dead-after-burst"),
)
async def burst(bench: Bench) -> None:
    rng = random.Random(20260101)  # noqa: S311 - noise, the same in every run
    noise = _noise(rng, 900, bench)
    for start in range(0, len(noise), 90):
        bench.line.send_wire(noise[start : start + 90], note="line noise")
        await bench.line.listen(0.1)
    await bench.line.sent_all()
    await bench.settle()
    await bench.alive("one second of line noise")
    await bench.push_status(CONNECTED)


def _noise(rng: random.Random, size: int, bench: Bench) -> bytes:
    """Noise with many FFs, in which no frame gets longer than the buffer of generated code."""
    noise, since_header = bytearray(), 0
    while len(noise) < size:
        byte = rng.choice((0xFF, 0x00, rng.randrange(256)))
        if not bench.room(since_header):
            byte = 0xFF
        noise.append(byte)
        since_header = 0 if noise[-2:] == b"\xff\xff" else since_header + 1
    return bytes(noise)
