"""Faults of a serial line: how they are written, what each does to the bytes, that a seed repeats them."""

from __future__ import annotations

import asyncio
from functools import partial
from random import Random

import pytest
from support_check import product
from support_io import Recorder

from gizserial.commands import Direction, Role
from gizserial.framing import Frame, Framer
from gizserial.io.driver import Driver
from gizserial.io.memory import MemoryLink
from gizserial.io.memory_transport import MemoryTransport
from gizserial.io.simulation import Simulation
from gizserial.mcu import McuRole
from gizserial.mcu_options import McuOptions
from gizserial.module import ModuleRole
from gizserial.module_options import ModuleOptions
from sim.cli.options import fault_seed, with_faults
from sim.clock import LoopClock, run_virtual
from sim.faults import KINDS, Fault, FaultError, Faults
from sim.faulty import WRITE_GAP, FaultyTransport
from sim.uart import resample, wire_bits

HEARTBEAT = Frame(0x07, 0).encode()
BYTE_TIME = 10 / 9600


def through(*faults: str, data: bytes = HEARTBEAT, now: float = 0.0, seed: int = 1) -> bytes:
    return b"".join(piece for _, piece in Faults(faults, seed=seed).passed("module>mcu", data, now))


# --- how they are written


@pytest.mark.parametrize(
    ("text", "values", "direction", "start", "end"),
    [
        ("loss:0.01", (0.01,), None, 0, float("inf")),
        ("loss:1%", (0.01,), None, 0, float("inf")),
        ("corrupt:0.001@module>mcu", (0.001,), "module>mcu", 0, float("inf")),
        ("corrupt:0.001@mcu<module", (0.001,), "module>mcu", 0, float("inf")),
        ("delay:20ms..50ms", (0.02, 0.05), None, 0, float("inf")),
        ("mute:2s@5s", (2.0,), None, 5, 7),
        ("mute@5s..7s", (), None, 5, 7),
        ("baud:9600/9500@2s@mcu>module", (9600, 9500), "mcu>module", 2, float("inf")),
        ("split:3,10ms", (3, 0.01), None, 0, float("inf")),
        ("echo", (1.0,), None, 0, float("inf")),
    ],
)
def test_faults_are_written_so(
    text: str, values: tuple[float, ...], direction: str | None, start: float, end: float
) -> None:
    fault = Fault.parse(text)
    assert fault.values == pytest.approx(values)
    assert str(fault.direction) == str(direction)
    assert (fault.start, fault.end) == (start, end)
    assert str(fault) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("los:0.1", "there is no fault 'los'"),
        ("", "there is no fault ''"),
        ("loss", "the probability is missing; write loss:0.01"),
        ("loss:2", "2 is no probability from 0 to 1"),
        ("loss:nan", "nan is no probability"),
        ("delay", "the time is missing"),
        ("delay:50ms..20ms", "the longest delay is shorter"),
        ("delay:soon", "'soon' is no time"),
        ("mute:2s@5s..7s", "it has two ends"),
        ("mute@7s..5s", "ends before it begins"),
        ("loss:0.1@up", "after @ stands module>mcu"),
        ("loss:0.1@1s@2s", "each once"),
        ("baud:9600", "two baud rates are needed"),
        ("baud:9600/x", "a baud rate is a whole number"),
        ("ring:1", "the size of the ring buffer"),
        ("split:0", "the largest piece"),
        ("delay:99999999s", "longer than a day"),
    ],
)
def test_what_is_written_wrongly_is_one_clear_sentence(text: str, says: str) -> None:
    with pytest.raises(FaultError, match=says.replace("(", r"\(")) as caught:
        Faults([text])
    assert "\n" not in str(caught.value)


def test_every_usage_can_be_written() -> None:
    for name, kind in KINDS.items():
        for usage in kind.usage.replace(",", " ,").replace(" ,", ",").split(" or "):
            for word in usage.split(", "):
                assert Fault.parse(word).kind == name


# --- what each does


def test_sure_faults() -> None:
    assert through("loss:1") == b""
    assert through("frame-loss:1") == b""
    assert through("write-loss:1") == b""
    assert through("mute") == b""
    assert through("duplicate:1") == HEARTBEAT * 2
    assert through("split:2") == HEARTBEAT
    changed = through("corrupt:1")
    assert len(changed) == len(HEARTBEAT)
    assert all(a != b for a, b in zip(changed, HEARTBEAT, strict=True))
    assert through("loss:0") == through("corrupt:0") == through("noise:0") == HEARTBEAT


def test_a_lost_frame_is_lost_whole_wherever_the_chunks_end() -> None:
    faults = Faults(["frame-loss:0.5"], seed=3)
    frames = [Frame(0x07, sn).encode() for sn in range(40)]
    stream = b"".join(frames)
    out = b"".join(
        piece
        for place in range(0, len(stream), 5)
        for _, piece in faults.passed("module>mcu", stream[place : place + 5], 0.0)
    )
    items = Framer().feed(out)
    assert 5 < len(items) < 35
    assert all(isinstance(item, Frame) for item in items)


def test_a_ring_buffer_loses_one_byte_each_time_round() -> None:
    assert through("ring:8", data=bytes(range(20))) == bytes(n for n in range(20) if n % 8 != 7)


def test_noise_leaves_the_frame_whole() -> None:
    seen = {through("noise:1,4", seed=seed) for seed in range(20)}
    assert all(HEARTBEAT in out and 0 < len(out) - len(HEARTBEAT) <= 4 for out in seen)
    assert {out.startswith(HEARTBEAT) for out in seen} == {True, False}


def test_times_begin_and_end() -> None:
    assert [through("mute:2s@5s", now=now) != b"" for now in (0, 4.9, 5, 6.9, 7)] == [1, 1, 0, 0, 1]


def test_delay_and_jitter_keep_the_order_and_stay_within_bounds() -> None:
    faults = Faults(["delay:20ms..50ms", "jitter:5ms"], seed=2)
    link = MemoryLink()
    faults.install(link)
    link.a.write(HEARTBEAT, now=0.0)
    assert link.b.receive(now=0.019) == b""
    assert link.b.receive(now=0.056) == HEARTBEAT


def test_one_direction_only() -> None:
    faults = Faults(["mute@module>mcu"])
    assert faults.passed("module>mcu", b"a", 0) == []
    assert faults.passed("mcu>module", b"a", 0) == [(0, b"a")]


def test_faults_come_and_go() -> None:
    faults = Faults()
    number = faults.add("mute")
    assert faults.passed("module>mcu", b"a", 0) == []
    faults.remove(number)
    faults.remove(number)
    assert faults.passed("module>mcu", b"a", 0) == [(0, b"a")]


# --- the UART


def test_the_bits_of_a_byte_are_those_of_a_uart() -> None:
    assert wire_bits(b"\x01") == [0, 1, 0, 0, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("ratio", [1.0, 0.97, 1.03])
def test_three_percent_of_clock_error_are_harmless(ratio: float) -> None:
    # The ninth bit is sampled in its middle: 5 % is where UARTs begin to fail.
    data = bytes(range(256))
    assert resample(data, sent_at=9600 * ratio, read_at=9600) == data


def test_a_receiver_at_twice_the_rate_sees_each_bit_twice() -> None:
    # 55 on the wire: 0 1010 1010 1. At twice the rate the start bit is start and bit 0, ...
    assert resample(b"\x55", sent_at=9600, read_at=19200)[0] == 0b01100110
    # A zero byte is a break of 18 half bits: a byte 00 with a wrong stop bit; then the line is high.
    assert resample(b"\x00", sent_at=9600, read_at=19200) == b"\x00"


def test_a_receiver_at_half_the_rate_sees_every_other_bit() -> None:
    # FF: the start bit is half a bit long there, and no start.
    assert resample(b"\xff\xff", sent_at=19200, read_at=9600) in {b"", b"\xff\xff", b"\xff"}
    assert resample(HEARTBEAT, sent_at=115200, read_at=9600) != HEARTBEAT


def test_a_wrong_rate_is_wrong_in_both_directions_and_differently() -> None:
    faults = Faults(["baud:9600/19200"])
    there = faults.passed("module>mcu", HEARTBEAT, 0)[0][1]
    back = faults.passed("mcu>module", HEARTBEAT, 0)[0][1]
    assert there == resample(HEARTBEAT, sent_at=9600, read_at=19200, phase=0.5)
    assert len(back) < len(HEARTBEAT) < len(there)


# --- on lines


def test_an_echo_comes_back_on_a_line_in_memory() -> None:
    link = MemoryLink()
    Faults(["echo@module>mcu"]).install(link)
    link.a.write(b"hello", now=0.0)
    link.b.write(b"world", now=0.0)
    assert link.a.receive(now=0.0) == b"helloworld"
    assert link.b.receive(now=0.0) == b"hello"


def faulty_run(seed: int) -> tuple[list[tuple[float, str, bytes]], int]:
    """Ten minutes of a module and an MCU on a bad line: everything that crossed it."""
    pet = product("pet-house")
    link = MemoryLink(byte_time=BYTE_TIME)
    every = ["loss:0.002", "corrupt:0.002", "delay:0..30ms", "duplicate:0.05", "split:4,5ms", "noise:0.05"]
    Faults(every, seed=seed).install(link)
    module = ModuleRole(ModuleOptions(byte_time=BYTE_TIME))
    mcu = McuRole(pet, McuOptions(byte_time=BYTE_TIME))
    seen: list[tuple[float, str, bytes]] = []
    simulation = Simulation(
        (module, link.a),
        (mcu, link.b),
        on_bytes=lambda who, way, data, now: seen.append((now, f"{type(who).__name__} {way}", data)),
    )

    def set_humidity(value: int) -> None:
        mcu.set_value("Humidity", value, now=simulation.now)

    for second in range(10, 600, 7):
        simulation.at(second, partial(set_humidity, second % 100))
    simulation.run(until=600)
    return seen, len(Framer().feed(b"".join(data for _, way, data in seen if way == "McuRole received")))


def test_a_seed_repeats_a_run_byte_by_byte() -> None:
    first, frames = faulty_run(7)
    assert frames > 100
    assert faulty_run(7)[0] == first
    assert faulty_run(8)[0] != first


def test_any_transport_can_be_spoiled() -> None:
    async def main() -> None:
        ours, theirs = MemoryTransport.pair()
        faults = Faults(["delay:1s@module>mcu", "mute:10s@5s@mcu>module", "echo@20s"])
        crossed: list[tuple[str, bytes, bool]] = []
        spoiled = FaultyTransport(
            ours, faults, Role.MODULE, tap=lambda way, data, _t, after: crossed.append((way, data, after))
        )
        near, far = Recorder(), Recorder()
        await spoiled.open(near)
        await theirs.open(far)
        assert spoiled.name == "memory:a"
        spoiled.write(b"late")
        await asyncio.sleep(0.9)
        assert far.data == b""
        await spoiled.drain()
        await asyncio.sleep(0)
        assert far.data == b"late"
        assert crossed == [("module>mcu", b"late", False), ("module>mcu", b"late", True)]
        await asyncio.sleep(5)
        theirs.write(b"unheard")
        await asyncio.sleep(15)
        assert near.data == b""
        theirs.write(b"back")
        await asyncio.sleep(0.1)
        assert near.data == b"back"
        assert far.data == b"lateback"
        spoiled.pause_reading()
        theirs.write(b"!")
        await asyncio.sleep(0.1)
        assert near.data == b"back"
        spoiled.resume_reading()
        await asyncio.sleep(0.1)
        assert near.data == b"back!"
        await spoiled.close()
        await theirs.close()

    run_virtual(main())


@pytest.mark.parametrize("writer", ["module", "mcu"])
def test_on_a_line_in_memory_the_faults_happen_where_the_bytes_are_written(writer: str) -> None:
    async def main() -> None:
        crossed: list[tuple[str, bytes, float, bool]] = []
        ends = FaultyTransport.pair(
            MemoryLink(byte_time=BYTE_TIME),
            Faults([f"write-loss:0.5@{Role(writer).direction}", "split:4", "echo"], seed=3),
            tap=lambda *seen: crossed.append(seen),
        )
        near, far = ends if writer == "module" else ends[::-1]
        wrote, heard = Recorder(), Recorder()
        await near.open(wrote)
        await far.open(heard)
        for _ in range(20):
            near.write(HEARTBEAT)
            await asyncio.sleep(1)
        sent = [(data, t) for _way, data, t, arrived in crossed if not arrived]
        assert sent == [(HEARTBEAT, float(second)) for second in range(20)]
        # Each write came whole or not at all, though the line brings it byte by byte; all of them came back.
        writes, rest = divmod(len(heard.data), len(HEARTBEAT))
        assert 3 < writes < 17
        assert not rest
        assert heard.data == HEARTBEAT * writes
        assert wrote.data == HEARTBEAT * 20
        first = next(t for way, _, t, arrived in crossed if arrived and way == near_direction)
        assert first % 1 == pytest.approx(BYTE_TIME)
        await near.close()
        await far.close()

    near_direction = Role(writer).direction
    run_virtual(main())


def test_a_frame_that_comes_in_chunks_is_one_write() -> None:
    # A UART brings what a device writes byte by byte, an adapter in chunks of its own.
    async def main() -> None:
        ours, theirs = MemoryTransport.pair(MemoryLink(byte_time=BYTE_TIME))
        line = FaultyTransport(ours, Faults(["noise:1,4@mcu>module"], seed=2), Role.MODULE)
        near = Recorder()
        await line.open(near)
        await theirs.open(Recorder())
        theirs.write(HEARTBEAT * 2)
        await asyncio.sleep(1)
        assert near.data.count(HEARTBEAT) == 2
        assert 2 <= len(near.data) - 2 * len(HEARTBEAT) <= 8
        before = len(near.data)
        theirs.write(HEARTBEAT[:6])
        await asyncio.sleep(6 * BYTE_TIME + WRITE_GAP - 0.001)
        assert len(near.data) == before
        await asyncio.sleep(0.002)
        assert HEARTBEAT[:6] in near.data[before:]
        theirs.write(HEARTBEAT[:6])
        await asyncio.sleep(6 * BYTE_TIME)
        await line.close()
        await asyncio.sleep(1)
        await theirs.close()

    run_virtual(main())


def test_without_faults_of_its_direction_what_comes_is_passed_on_at_once() -> None:
    async def main() -> None:
        ours, theirs = MemoryTransport.pair()
        faults = Faults(["mute@module>mcu"])
        line = FaultyTransport(ours, faults, Role.MODULE)
        near = Recorder()
        await line.open(near)
        await theirs.open(Recorder())
        theirs.write(HEARTBEAT[:3])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert near.data == HEARTBEAT[:3]
        await line.close()
        await theirs.close()

    run_virtual(main())


def test_roles_live_on_a_spoiled_transport_and_a_seed_repeats_it() -> None:
    def run(seed: int) -> list[tuple[str, bytes, float, bool]]:
        crossed: list[tuple[str, bytes, float, bool]] = []

        async def main() -> None:
            ours, theirs = MemoryTransport.pair(MemoryLink(byte_time=BYTE_TIME))
            faults = Faults(["loss:0.01", "jitter:2ms", "duplicate:0.1"], seed=seed)
            line = FaultyTransport(ours, faults, Role.MODULE, tap=lambda *seen: crossed.append(seen))
            mcu = McuRole(product("pet-house"), McuOptions(byte_time=BYTE_TIME))
            module = ModuleRole(ModuleOptions(byte_time=BYTE_TIME))
            async with Driver(mcu, theirs, clock=LoopClock()), Driver(module, line, clock=LoopClock()):
                await asyncio.sleep(300)

        run_virtual(main())
        return crossed

    assert len(run(5)) > 30
    assert run(5) == run(5)
    assert run(5) != run(6)


def test_more_than_fits_is_dropped_and_told() -> None:
    async def main() -> None:
        ours, theirs = MemoryTransport.pair()
        line = FaultyTransport(ours, Faults(["delay:1s"]), Role.MODULE, write_limit=10)
        near, far = Recorder(), Recorder()
        await line.open(near)
        await theirs.open(far)
        line.write(b"12345678")
        line.write(b"12345678")
        await asyncio.sleep(2)
        assert far.data == b"12345678"
        assert [type(event).__name__ for event in near.events] == ["Back", "Overflow"]
        await line.close()
        await theirs.close()

    run_virtual(main())


def test_bad_lines_never_stop_the_roles() -> None:
    rng = Random(4)
    for seed in range(3):
        faults = [f"{kind}:{rng.uniform(0, 0.2):.3f}" for kind in ("loss", "corrupt", "duplicate", "noise")]
        link = MemoryLink(byte_time=BYTE_TIME)
        Faults([*faults, "echo:0.2", "ring:128", "baud:9600/9400"], seed=seed).install(link)
        module, mcu = ModuleRole(), McuRole(product("pet-house"))
        Simulation((module, link.a), (mcu, link.b)).run(until=30)


def test_the_command_line_tells_the_seed(capsys: pytest.CaptureFixture[str]) -> None:
    ours, _ = MemoryTransport.pair()
    assert with_faults(ours, (), 5, Role.MODULE) is ours
    line = with_faults(ours, ("loss:0.01", "mute:2s@5s"), 5, Role.MODULE)
    assert isinstance(line, FaultyTransport)
    told = capsys.readouterr()
    assert told.out == ""  # standard output is for the ready line (cli.md §5)
    assert told.err == "faults: loss:0.01, mute:2s@5s; repeat them with --seed 5\n"
    drawn = with_faults(ours, ("loss:0.01",), None, Role.MCU)
    assert isinstance(drawn, FaultyTransport)
    assert capsys.readouterr().err.endswith(f"--seed {drawn.faults.seed}\n")


def test_the_seed_that_is_printed_is_that_of_the_cloud_too(capsys: pytest.CaptureFixture[str]) -> None:
    ours, _ = MemoryTransport.pair()
    seed = fault_seed(None)
    assert fault_seed(seed) == seed
    assert with_faults(ours, (), seed, Role.MODULE, more=("slow:1s",)) is ours
    assert capsys.readouterr().err == f"faults: slow:1s; repeat them with --seed {seed}\n"


@pytest.mark.parametrize(
    ("rates", "survive"),
    [
        ("9600/9615", True),  # a divider that does not fit: harmless
        ("9600/9400", True),
        ("9600/8600", False),
        ("9600/115200", False),
        ("115200/9600", False),
    ],
)
@pytest.mark.parametrize("direction", ["module>mcu", "mcu>module"])
def test_rates_that_are_near_are_harmless_and_others_are_not(
    rates: str, survive: bool, direction: Direction
) -> None:
    faults = Faults([f"baud:{rates}"], seed=3)
    for number in range(20):
        wire = Frame(0x05, number, Random(number).randbytes(20)).encode()
        arrived = b"".join(piece for _, piece in faults.passed(direction, wire, float(number)))
        assert (arrived == wire) == survive
