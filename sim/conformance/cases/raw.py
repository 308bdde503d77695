"""Raw data: opaque bytes beside the data points (serial.md §4.18)."""

from __future__ import annotations

from gizserial.commands import Command
from sim.conformance.bench import Bench
from sim.conformance.cases.registry import SHOULD, Group

group = Group(
    "raw",
    "Look at the action first: 05 is opaque bytes for the application, acked empty; what goes back has 06.",
)


@group.case(
    "acked",
    "Raw data are acked empty",
    rule="Actions 05 and 06 carry opaque bytes and exist for every product; firmware without use for "
    "them acks and ignores them.",
    section="4.18, 5.1",
    defects=("raw-data-crashes", "raw-data-unacked"),
)
async def acked(bench: Bench) -> None:
    for data in (b"\x01\x02\x03", b"", b"\xff\x55\x00\xff"):
        if not bench.room(1 + len(data)):
            continue
        ack = await bench.acked(await bench.raw_data(data))
        if ack.frame is not None and ack.frame.payload:
            bench.note(
                "the ack of raw data carries a payload", expected="an empty payload", got=[ack], entry=ack
            )
    await bench.alive("raw data")


@group.case(
    "harmless",
    "Raw data change no value",
    rule="Bytes that look like a control are still raw data when the action says so.",
    section="4.18",
    severity=SHOULD,
    defects=("raw-data-taken-for-control",),
)
async def harmless(bench: Bench) -> None:
    if not bench.product.points:
        return
    before = await bench.read()
    control = bench.p0.control(bench.others(*bench.writable)) if bench.writable else b"\x01\x01"
    data = control[1:]
    if bench.room(1 + len(data)):
        await bench.exchange(await bench.raw_data(data), note="raw data that look like a control")
    await bench.settle()
    now = await bench.read()
    bench.require_unchanged(before, now, "raw data were taken for a control")


@group.case(
    "from-mcu",
    "Raw data of the MCU have action 06",
    rule="05 is the way to the MCU, 06 the way back; the module does not look, the cloud does.",
    section="4.18",
    defects=("raw-data-wrong-action",),
    observes=True,
)
async def from_mcu(bench: Bench) -> None:
    for entry in bench.line.frames(command=Command.P0_FROM_MCU):
        if entry.frame is not None and entry.frame.payload[:1] == b"\x05":
            bench.note("raw data of the MCU have action 05", expected="06", got=[entry], entry=entry)
