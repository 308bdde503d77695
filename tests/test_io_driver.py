"""Machines joined to lines: in real time by the driver, in virtual time by the simulation."""

from __future__ import annotations

import asyncio
import time
from random import Random

import pytest
from support_io import Recorder, Ticker

from gizserial.errors import TransportError
from gizserial.io.base import Back, LineEvent, Lost
from gizserial.io.driver import Driver, MonotonicClock, StuckMachine, drive
from gizserial.io.memory import MemoryLink, chain, corrupt, split
from gizserial.io.memory_transport import MemoryTransport
from gizserial.io.simulation import Simulation, simulate
from sim.clock import LoopClock, run_virtual


class Stuck(Ticker):
    """Never moves its timeout on."""

    def handle_timeout(self, *, now: float) -> list[str]:
        return [f"again at {now}"]


class Parrot(Ticker):
    """Says everything back at once."""

    def receive_data(self, data: bytes, *, now: float) -> list[str]:
        self.say(data)
        return super().receive_data(data, now=now)


def quiet(kind: type[Ticker] = Ticker) -> Ticker:
    return kind(float("inf"))


async def test_monotonic_clock_starts_at_zero() -> None:
    clock = MonotonicClock()
    first = clock.now()
    assert 0 <= first <= clock.now() < 60


def test_bytes_events_and_timers() -> None:
    async def main() -> None:
        near, far = MemoryTransport.pair()
        machine, at_far = Ticker(55.0), Recorder()
        events: list[str] = []
        line: list[LineEvent] = []
        tapped: list[tuple[str, bytes, float]] = []
        driver = Driver(
            machine,
            near,
            on_event=events.append,
            on_line=line.append,
            on_bytes=lambda *what: tapped.append(what),
            clock=LoopClock(),
        )
        async with driver:
            assert machine.calls == []
            await far.open(at_far)
            begin = driver.now()
            assert (events, line) == (["made"], [Back()])
            far.write(b"hello")
            await asyncio.sleep(1)
            assert events == ["made", "hello"]
            await asyncio.sleep(3600)
            assert at_far.data == b"tick" * 65
            assert tapped[:2] == [
                ("received", b"hello", begin),
                ("sent", b"tick", pytest.approx(begin + 55)),
            ]
            machine.say(b"request")
            await asyncio.sleep(0)
            assert not at_far.data.endswith(b"request"), "nobody told the driver"
            driver.wake()
            await asyncio.sleep(0.001)
            assert at_far.data.endswith(b"request")
            driver.report(["from a call"])
            assert events[-1] == "from a call"
            await far.close()
            assert events[-1] == "lost"
            assert isinstance(line[-1], Lost)
            sent = len(tapped)
            machine.say(b"unheard")
            driver.wake()
            assert len(tapped) == sent, "what did not go onto the line was not sent"
            driver.stop()
            await driver.wait()

    run_virtual(main())


def test_a_new_deadline_replaces_the_old_one() -> None:
    async def main() -> None:
        near, far = MemoryTransport.pair()
        machine, at_far = Ticker(100.0), Recorder()
        async with Driver(machine, near, clock=LoopClock()) as driver:
            await far.open(at_far)
            machine.due = driver.now() + 1
            driver.wake()
            await asyncio.sleep(2)
            assert at_far.data == b"tick"
            machine.due = None
            driver.wake()
            await asyncio.sleep(1000)
            assert at_far.data == b"tick"
        await far.close()

    run_virtual(main())


def test_on_event_may_talk_to_the_machine() -> None:
    async def main() -> None:
        near, far = MemoryTransport.pair()
        machine, at_far = quiet(), Recorder()

        def answer(event: str) -> None:
            machine.say(f"<{event}>".encode())
            driver.wake()

        driver = Driver(machine, near, on_event=answer, clock=LoopClock())
        async with driver:
            await far.open(at_far)
            far.write(b"x")
            assert await at_far.bytes_came(9) == b"<made><x>"
        await far.close()

    run_virtual(main())


@pytest.mark.parametrize("waiting", [True, False])
async def test_an_error_in_a_callback_reaches_whoever_waits(waiting: bool) -> None:
    near, far = MemoryTransport.pair()

    def fail(event: str) -> None:
        raise LookupError(event)

    async def run() -> None:
        async with Driver(quiet(), near, on_event=fail) as driver:
            await far.open(Recorder())
            if waiting:
                await driver.wait()

    with pytest.raises(LookupError, match="made"):
        await run()
    assert not near.connected
    await far.close()


async def test_a_machine_that_is_stuck_is_told_apart_from_a_busy_one() -> None:
    near, far = MemoryTransport.pair()
    async with Driver(Stuck(0.0), near) as driver:
        await far.open(Recorder())
        with pytest.raises(StuckMachine, match="Stuck does not move its timeout on"):
            await driver.wait()
    await far.close()


def test_a_late_clock_is_caught_up_with() -> None:
    """A laptop slept for a day: thousands of timeouts are due at once, and none is a fault."""

    class Sleepy(LoopClock):
        slept = 0.0

        def now(self) -> float:
            return super().now() + self.slept

    async def main() -> None:
        near, far = MemoryTransport.pair()
        clock, at_far = Sleepy(), Recorder()
        async with Driver(Ticker(1.0, word=b"."), near, clock=clock) as driver:
            await far.open(at_far)
            clock.slept = 5000.5
            driver.wake()
            assert await at_far.bytes_came(5000) == b"." * 5000
        await far.close()

    run_virtual(main())


async def test_a_port_that_cannot_be_opened_is_the_callers_error() -> None:
    class Broken(MemoryTransport):
        async def _open(self) -> None:
            raise TransportError("it is broken; mend it")

    link = MemoryLink()
    with pytest.raises(TransportError, match="mend it"):
        await Driver(quiet(), Broken("broken", link, link.a)).run()
    with pytest.raises(RuntimeError, match="async with"):
        await Driver(quiet(), Broken("broken", link, link.a)).wait()


async def test_drive_runs_until_it_is_cancelled() -> None:
    near, far = MemoryTransport.pair()
    events: list[str] = []
    task = asyncio.create_task(drive(quiet(), near, on_event=events.append))
    at_far = Recorder()
    await far.open(at_far)
    await at_far.up()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await at_far.down()
    assert events == ["made"]
    await far.close()


def test_a_simulated_day_takes_as_long_as_its_events() -> None:
    link = MemoryLink(byte_time=10 / 9600)
    link.a.set_manipulator(chain(split(Random(1), 3, gap=0.01), corrupt(Random(2), 0.01)))
    a, b = Ticker(55.0), Ticker(600.0, word=b"report")
    heard: list[tuple[Ticker, str, float]] = []
    begin = time.perf_counter()
    simulation = Simulation(
        (a, link.a),
        (b, link.b),
        on_event=lambda machine, event, now: heard.append((machine, event, now)),  # type: ignore[arg-type] # all machines here are tickers
    )
    simulation.run(until=24 * 3600)
    assert time.perf_counter() - begin < 10
    assert simulation.now == 24 * 3600
    at_a = "".join(event for machine, event, _ in heard if machine is a and event != "made")
    at_b = "".join(event for machine, event, _ in heard if machine is b and event != "made")
    assert at_a == "report" * 143, "the 144th is under way when the day ends"
    assert len(at_b) == 4 * 1570
    assert 20 < sum(x != y for x, y in zip(at_b, "tick" * 1570, strict=True)) < 110


def test_time_is_that_of_the_bytes() -> None:
    link = MemoryLink(byte_time=0.001, latency=0.5)
    a, b = quiet(), quiet(Parrot)
    tapped: list[tuple[bool, str, bytes, float]] = []
    simulation = Simulation(
        (a, link.a),
        (b, link.b),
        on_bytes=lambda machine, direction, data, now: tapped.append(
            (machine is a, direction, data, round(now, 6))
        ),
        start=100.0,
    )
    simulation.run(until=101.0)
    a.say(b"x")
    simulation.run(until=105.0)
    assert tapped == [
        (True, "sent", b"x", 101.0),
        (False, "received", b"x", 101.501),
        (False, "sent", b"x", 101.501),
        (True, "received", b"x", 102.002),
    ]


def test_actions_happen_in_their_order() -> None:
    link = MemoryLink()
    a, b = quiet(), quiet()
    seen: list[tuple[str, float]] = []
    simulation = Simulation((a, link.a), (b, link.b))
    simulation.at(2.0, lambda: seen.append(("second", simulation.now)))
    simulation.at(1.0, lambda: seen.append(("first", simulation.now)))
    simulation.at(2.0, lambda: a.say(b"said"))
    simulation.at(2.0, lambda: seen.append(("third", simulation.now)))
    simulation.at(9.0, lambda: seen.append(("later", simulation.now)))
    simulation.run(until=5.0)
    assert seen == [("first", 1.0), ("second", 2.0), ("third", 2.0)]
    assert b.calls[-1] == ("data", 2.0)


def test_a_pulled_cable_loses_what_is_under_way() -> None:
    link = MemoryLink(byte_time=0.1)
    a, b = Ticker(1.0), quiet()
    simulation = Simulation((a, link.a), (b, link.b))
    simulation.at(1.05, simulation.unplug)
    simulation.at(1.06, simulation.unplug)
    simulation.at(5.0, simulation.plug)
    simulation.run(until=6.45)
    assert [call for call in b.calls if call[0] != "data"] == [("made", 0.0), ("lost", 1.05), ("made", 5.0)]
    assert [round(at, 6) for kind, at in b.calls if kind == "data"] == [6.1, 6.2, 6.3, 6.4]


def test_a_stuck_machine_ends_the_simulation() -> None:
    link = MemoryLink()
    with pytest.raises(StuckMachine, match="Stuck"):
        simulate((Stuck(1.0), quiet()), link, until=10)


def test_a_long_conversation_on_a_fast_line_is_no_fault() -> None:
    link = MemoryLink()
    a = quiet(Parrot)
    replies = iter(range(5000))

    class Bored(Parrot):
        def receive_data(self, data: bytes, *, now: float) -> list[str]:
            return super().receive_data(data, now=now) if next(replies, None) is not None else []

    bored = Bored(float("inf"))
    simulation = simulate((a, bored), link, until=1.0, actions=[(0.5, lambda: a.say(b"x"))])
    assert len(bored.calls) == 5001
    assert simulation.now == 1.0
