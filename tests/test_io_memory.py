"""The line in memory: order, speed, manipulators, and that a run can be repeated."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_io import Recorder

from gizserial.io.base import Lost
from gizserial.io.memory import (
    Manipulator,
    MemoryLink,
    chain,
    corrupt,
    delay,
    drop,
    drop_writes,
    duplicate,
    mute,
    split,
    untouched,
)
from gizserial.io.memory_transport import MemoryTransport
from sim.clock import run_virtual


def arrivals(link: MemoryLink) -> list[tuple[float, bytes]]:
    """Everything that arrives at ``b``, at the times it says."""
    found = []
    while (due := link.b.next_delivery()) is not None:
        data = link.b.receive(now=due)
        assert data, f"nothing is there at {due!r}, when it was promised"
        found.append((due, data))
    return found


def test_bytes_take_their_time() -> None:
    link = MemoryLink(byte_time=0.001, latency=0.5)
    link.a.write(b"abc", now=10.0)
    link.a.write(b"d", now=10.001)
    link.a.write(b"e", now=20.0)
    assert [(round(at, 6), data) for at, data in arrivals(link)] == [
        (10.501, b"a"),
        (10.502, b"b"),
        (10.503, b"c"),
        (10.504, b"d"),
        (20.501, b"e"),
    ]


def test_what_arrived_meanwhile_comes_at_once() -> None:
    link = MemoryLink(byte_time=0.001)
    link.a.write(b"abcdef", now=0.0)
    assert link.b.receive(now=0.0009) == b""
    assert link.b.receive(now=0.0035) == b"abc"
    assert link.b.receive(now=1.0, limit=2) == b"de"
    assert link.b.receive(now=1.0) == b"f"
    assert link.b.receive(now=1.0) == b""


def test_directions_are_apart() -> None:
    link = MemoryLink()
    link.a.set_manipulator(mute)
    link.a.write(b"to b", now=0.0)
    link.b.write(b"to a", now=0.0)
    assert (link.a.receive(now=0.0), link.b.receive(now=0.0)) == (b"to a", b"")
    link.a.set_manipulator(None)
    link.a.write(b"to b", now=0.0)
    assert link.next_delivery() == 0.0
    assert link.b.receive(now=0.0) == b"to b"
    assert link.next_delivery() is None


def test_a_dead_peer_does_not_fill_memory() -> None:
    link = MemoryLink(limit=10)
    for _ in range(5):
        link.a.write(b"four", now=0.0)
    assert link.b.receive(now=0.0) == b"fourfour"
    assert link.a.dropped == 12


KEEPING: list[Callable[[Random], Manipulator]] = [
    lambda _rng: untouched,
    lambda rng: split(rng, 3, gap=0.01),
    lambda rng: delay(rng, 0.0, 0.3),
    lambda rng: chain(delay(rng, 0.1, 0.2), split(rng, 5), split(rng, 1, gap=0.001)),
    lambda rng: chain(drop(rng, 0.0), corrupt(rng, 0.0), duplicate(rng, 0.0), drop_writes(rng, 0.0)),
    lambda _rng: chain(),
]


@given(
    writes=st.lists(st.tuples(st.floats(0, 2), st.binary(max_size=20))),
    make=st.sampled_from(KEEPING),
    seed=st.integers(0, 2**32),
    byte_time=st.sampled_from([0.0, 10 / 9600, 10 / 115200, 1 / 3]),
    start=st.sampled_from([0.0, 1e5, 1e9]),
)
def test_what_keeps_bytes_keeps_their_order(
    writes: list[tuple[float, bytes]],
    make: Callable[[Random], Manipulator],
    seed: int,
    byte_time: float,
    start: float,
) -> None:
    link = MemoryLink(byte_time=byte_time)
    link.a.set_manipulator(make(Random(seed)))
    now = start
    for gap, data in writes:
        now += gap
        link.a.write(data, now=now)
    found = arrivals(link)
    times = [at for at, _ in found]
    assert b"".join(data for _, data in found) == b"".join(data for _, data in writes)
    # A clock that shows 1e9 s has steps of 1e-7 s.
    assert all(later >= earlier - 1e-6 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: drop(rng, 0.2),
        lambda rng: drop_writes(rng, 0.2),
        lambda rng: corrupt(rng, 0.2),
        lambda rng: duplicate(rng, 0.2),
        lambda rng: split(rng, 4, gap=0.1),
        lambda rng: delay(rng, 0.0, 1.0),
        lambda rng: chain(corrupt(rng, 0.1), drop(rng, 0.1), split(rng, 2), delay(rng, 0.0, 0.1)),
    ],
)
def test_the_same_seed_gives_the_same_line(make: Callable[[Random], Manipulator]) -> None:
    def run(seed: int) -> list[tuple[float, bytes]]:
        link = MemoryLink(byte_time=0.001)
        link.a.set_manipulator(make(Random(seed)))
        for number in range(50):
            link.a.write(bytes(range(number)), now=float(number))
        return arrivals(link)

    assert run(1) == run(1)
    assert run(1) != run(2)


def through(manipulator: Manipulator, data: bytes) -> bytes:
    return b"".join(piece for _, piece in manipulator(data, 0.0))


def test_rates_are_rates() -> None:
    data = bytes(20_000)
    damaged = through(corrupt(Random(1), 0.01), data)
    assert len(damaged) == len(data)
    assert 150 < sum(byte != 0 for byte in damaged) < 250
    assert 19_750 < len(through(drop(Random(1), 0.01), data)) < 19_850
    assert through(corrupt(Random(1), 1.0), data).count(0) == 0, "corrupt always changes the byte"
    assert through(drop(Random(1), 1.0), data) == b""
    assert through(duplicate(Random(1), 1.0), b"ab") == b"abab"
    assert through(drop_writes(Random(1), 1.0), b"ab") == b""
    assert through(mute, b"ab") == b""


def test_split_is_never_larger_than_asked() -> None:
    pieces = [piece for _, piece in split(Random(3), 4)(bytes(100), 0.0)]
    assert {len(piece) for piece in pieces} == {1, 2, 3, 4}


@pytest.mark.parametrize(
    "call",
    [
        lambda: MemoryLink(byte_time=-1),
        lambda: MemoryLink(latency=-1),
        lambda: drop(Random(0), 1.1),
        lambda: corrupt(Random(0), -0.1),
        lambda: split(Random(0), 0),
        lambda: delay(Random(0), 2, 1),
    ],
)
def test_impossible_settings_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"\d"):
        call()


def test_as_transports_of_an_event_loop() -> None:
    async def main() -> None:
        a, b = MemoryTransport.pair(MemoryLink(byte_time=0.5))
        at_a, at_b = Recorder(), Recorder()
        await a.open(at_a)
        a.write(b"nobody is there")
        assert not a.connected
        await b.open(at_b)
        await at_a.up()
        begin = asyncio.get_running_loop().time()
        a.write(b"ping")
        b.write(b"pong")
        await a.drain()
        b.pause_reading()
        assert await at_a.bytes_came(4) == b"pong"
        assert asyncio.get_running_loop().time() - begin == pytest.approx(2.0)
        assert at_b.data == b""
        b.resume_reading()
        assert await at_b.bytes_came(4) == b"ping"
        await a.close()
        assert at_b.of(Lost) == [Lost("memory:a was closed")]
        await b.close()

    run_virtual(main())
