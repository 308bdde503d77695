"""Listening on lines: what came, from whom and when; passing on; a reader that is slow."""

from __future__ import annotations

import pytest
from support_io import Recorder

from gizserial.errors import TransportError
from gizserial.io.base import Port
from gizserial.io.memory_transport import MemoryTransport
from gizserial.io.ports import open_port
from gizserial.io.watch import BACKLOG, Happened, Heard, Line, Watch


def heard(watch: Watch) -> list[Heard | Happened]:
    things = []
    while (thing := watch.take()) is not None:
        things.append(thing)
    return things


def said(watch: Watch) -> list[tuple[str | None, bytes]]:
    return [(thing.direction, thing.data) for thing in heard(watch) if isinstance(thing, Heard)]


async def bytes_of(watch: Watch, size: int) -> bytes:
    data = b""
    while len(data) < size:
        await watch.wait(10)
        for thing in heard(watch):
            if isinstance(thing, Heard):
                data += thing.data
    return data


async def test_two_lines_are_told_apart() -> None:
    (one, mcu), (two, module) = MemoryTransport.pair(), MemoryTransport.pair()
    async with Watch([Line(one, "mcu>module"), Line(two, "module>mcu")]) as watch:
        await mcu.open(Recorder())
        await module.open(Recorder())
        assert [type(thing) for thing in heard(watch)] == [Happened, Happened]
        mcu.write(b"\x01")
        await watch.wait(10)
        assert [(t.direction, t.data) for t in heard(watch) if isinstance(t, Heard)] == [
            ("mcu>module", b"\x01")
        ]
        module.write(b"\x02")
        await watch.wait(10)
        assert [(t.direction, t.data) for t in heard(watch) if isinstance(t, Heard)] == [
            ("module>mcu", b"\x02")
        ]
        await module.close()
        (down,) = heard(watch)
        assert isinstance(down, Happened)
        assert down.lost
        assert down.text.startswith("line down: ")
        assert down.text.count(watch.lines[0].port.name) == 1
    await mcu.close()


async def test_between_passes_everything_on_both_ways() -> None:
    (one, mcu), (two, module) = MemoryTransport.pair(), MemoryTransport.pair()
    async with Watch([Line(one, "mcu>module"), Line(two, "module>mcu")], between=True) as watch:
        at_mcu, at_module = Recorder(), Recorder()
        await mcu.open(at_mcu)
        await module.open(at_module)
        mcu.write(b"\xff\xff\x00\x05")
        module.write(b"\x08\x01")
        assert await at_module.bytes_came(4) == b"\xff\xff\x00\x05"
        assert await at_mcu.bytes_came(2) == b"\x08\x01"
        assert watch.waiting
        await mcu.close()
        await module.close()


async def test_without_between_nothing_is_written() -> None:
    (one, mcu), (two, module) = MemoryTransport.pair(), MemoryTransport.pair()
    async with Watch([Line(one), Line(two)]) as watch:
        at_module = Recorder()
        await mcu.open(Recorder())
        await module.open(at_module)
        mcu.write(b"\x01")
        assert await bytes_of(watch, 1) == b"\x01"
        assert at_module.data == b""
        await mcu.close()
        await module.close()


class Hose(Port):
    """A port that says what the test tells it to, and is asked to pause."""

    async def _open(self) -> None:
        self._up()

    async def _close(self) -> None:
        pass

    def paused(self) -> bool:
        return self._paused

    def say(self, data: bytes) -> None:
        self._received(data)


async def test_ports_are_left_alone_while_too_much_waits() -> None:
    hose = Hose("hose")
    async with Watch([Line(hose)]) as watch:
        hose.say(bytes(BACKLOG))
        assert not hose.paused()
        hose.say(b"\x01")
        assert hose.paused()
        assert sum(len(thing.data) for thing in heard(watch) if isinstance(thing, Heard)) == BACKLOG + 1
        assert not hose.paused()


async def test_a_port_that_cannot_be_opened_closes_the_others() -> None:
    one, peer = MemoryTransport.pair()
    with pytest.raises(TransportError):
        async with Watch([Line(one), Line(open_port("/dev/no-such-port"))]):
            pass
    await peer.open(Recorder())
    assert not peer.connected
    await peer.close()


async def test_waiting_ends_without_anything() -> None:
    one, _ = MemoryTransport.pair()
    async with Watch([Line(one)]) as watch:
        await watch.wait(0)
        assert watch.take() is None
