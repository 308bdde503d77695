"""Round trip of a heartbeat-sized frame over each kind of port, and through the threads that Windows uses.

Run: python benchmarks/port_latency.py [ROUNDS]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable

from gizserial.io.base import Back, Data, LineEvent, Transport
from gizserial.io.ports import open_port
from gizserial.io.serial import SerialPort

FRAME = bytes.fromhex("FF FF 00 05 07 01 00 00 0D")


async def measure(near: Transport, connect: Callable[[str], Transport], rounds: int) -> list[float]:
    up, answered = asyncio.Event(), asyncio.Event()
    got = bytearray()

    def at_near(event: LineEvent) -> None:
        if isinstance(event, Back):
            up.set()
        elif isinstance(event, Data):
            got.extend(event.data)
            if len(got) >= len(FRAME):
                got.clear()
                answered.set()

    def at_far(event: LineEvent) -> None:
        if isinstance(event, Data):
            far.write(event.data)

    await near.open(at_near)
    far = connect(near.other_end or near.name)
    await far.open(at_far)
    await up.wait()
    times = []
    for _ in range(rounds):
        answered.clear()
        begin = time.perf_counter()
        near.write(FRAME)
        await answered.wait()
        times.append(time.perf_counter() - begin)
    await far.close()
    await near.close()
    return times


async def main(rounds: int) -> None:
    cases: list[tuple[str, Transport, Callable[[str], Transport]]] = [
        ("pty, event loop", open_port("pty:"), open_port),
        ("pty, threads", open_port("pty:"), lambda name: SerialPort(name, threads=True)),
        ("tcp-listen, socket://", open_port("tcp-listen:127.0.0.1:0"), open_port),
        ("pty, 115200 paced", open_port("pty:", baud=115200, pace=True), open_port),
    ]
    for name, near, connect in cases:
        times = sorted(await measure(near, connect, rounds))
        median, p99 = statistics.median(times) * 1e3, times[int(len(times) * 0.99)] * 1e3
        print(f"{name:24} {rounds} round trips: median {median:.3f} ms, p99 {p99:.3f} ms")


asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
