"""``--pace``: exact on average, in small pieces, bounded; in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from support_io import EVERY_BYTE, Recorder

from gizserial.io.base import READ_SIZE, Back, Data, LineEvent, Lost, Overflow
from gizserial.io.memory_transport import MemoryTransport
from gizserial.io.pace import HELD_LIMIT, SLICE, PacedPort
from sim.clock import run_virtual

BYTE = 10 / 9600


class Timed(Recorder):
    """Remembers the time of each event too."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[tuple[float, int]] = []

    def __call__(self, event: LineEvent) -> None:
        if isinstance(event, Data):
            self.times.append((asyncio.get_running_loop().time(), len(event.data)))
        super().__call__(event)


async def lines(baud: int = 9600, **options: int) -> tuple[PacedPort, Timed, MemoryTransport, Timed]:
    inner, far = MemoryTransport.pair()
    paced, at_paced, at_far = PacedPort(inner, baud=baud, **options), Timed(), Timed()
    await paced.open(at_paced)
    await far.open(at_far)
    await at_paced.up()
    return paced, at_paced, far, at_far


@pytest.mark.parametrize("baud", [300, 9600, 115200, 921600])
@pytest.mark.parametrize("outward", [True, False])
def test_as_fast_as_the_rate_says(baud: int, outward: bool) -> None:
    async def main() -> None:
        paced, at_paced, far, at_far = await lines(baud)
        begin = asyncio.get_running_loop().time()
        if outward:
            paced.write(EVERY_BYTE)
        else:
            far.write(EVERY_BYTE)
        recorder = at_far if outward else at_paced
        assert await recorder.bytes_came(256) == EVERY_BYTE
        sent = 0
        for time, size in recorder.times:
            sent += size
            assert time - begin == pytest.approx(sent * 10 / baud), "no byte before its last bit"
            assert size <= max(1, SLICE * baud / 10)
        await paced.close()
        await far.close()

    run_virtual(main())


def test_bytes_written_one_by_one_are_not_early() -> None:
    async def main() -> None:
        paced, _, far, at_far = await lines()
        begin = asyncio.get_running_loop().time()
        paced.write(b"a")
        await asyncio.sleep(BYTE / 2)
        paced.write(b"b")
        await at_far.bytes_came(2)
        assert [round((time - begin) / BYTE, 3) for time, _ in at_far.times] == [1.0, 2.0]
        await asyncio.sleep(5)
        begin = asyncio.get_running_loop().time()
        paced.write(b"c")
        await at_far.bytes_came(3)
        assert at_far.times[-1][0] - begin == pytest.approx(BYTE), "an idle line saves nothing up"
        await paced.close()
        await far.close()

    run_virtual(main())


def test_drain_waits_for_the_last_byte() -> None:
    async def main() -> None:
        paced, _, far, at_far = await lines()
        begin = asyncio.get_running_loop().time()
        paced.write(bytes(96))
        await paced.drain()
        assert asyncio.get_running_loop().time() - begin == pytest.approx(0.1)
        await at_far.bytes_came(96)
        await paced.close()
        await far.close()

    run_virtual(main())


def test_too_much_at_once_is_dropped_whole_and_said_once() -> None:
    async def main() -> None:
        paced, at_paced, far, at_far = await lines(write_limit=100)
        for _ in range(4):
            paced.write(bytes(60))
        assert at_paced.of(Overflow) == [Overflow(60)]
        await paced.drain()
        paced.write(bytes(60))
        assert await at_far.bytes_came(120) == bytes(120)
        await paced.close()
        await far.close()

    run_virtual(main())


def test_a_fast_peer_is_slowed_down_not_stored() -> None:
    async def main() -> None:
        paced, at_paced, far, _ = await lines()
        for _ in range(10):
            far.write(bytes(3000))
        begin = asyncio.get_running_loop().time()
        await asyncio.sleep(0)
        peak = 0
        while len(at_paced.data) < 30_000:
            peak = max(peak, len(paced._inward))
            await asyncio.sleep(0.05)
        assert HELD_LIMIT / 2 < peak <= HELD_LIMIT + READ_SIZE
        assert asyncio.get_running_loop().time() - begin == pytest.approx(30_000 * BYTE, rel=0.01)
        await paced.close()
        await far.close()

    run_virtual(main())


def test_a_lost_line_delivers_first_what_was_under_way() -> None:
    async def main() -> None:
        paced, at_paced, far, _ = await lines()
        far.write(b"last words")
        await asyncio.sleep(2 * BYTE)
        await far.close()
        assert at_paced.data == b"last words"
        assert isinstance(at_paced.events[-1], Lost)
        assert not paced.connected
        paced.write(b"into the void")
        await far.open(Recorder())
        assert isinstance(at_paced.events[-1], Back)
        await paced.close()
        await far.close()

    run_virtual(main())


def test_a_paused_reader_gets_everything_later_in_order() -> None:
    async def main() -> None:
        paced, at_paced, far, _ = await lines()
        far.write(b"before")
        await asyncio.sleep(2 * BYTE)
        paced.pause_reading()
        seen = len(at_paced.events)
        await asyncio.sleep(1)
        await far.close()
        assert len(at_paced.events) == seen
        paced.resume_reading()
        assert at_paced.data == b"before"
        assert isinstance(at_paced.events[-1], Lost)
        await paced.close()

    run_virtual(main())


def test_names_are_those_of_the_line() -> None:
    inner, _ = MemoryTransport.pair()
    paced = PacedPort(inner, baud=9600)
    assert (paced.name, paced.other_end) == ("memory:a", None)
