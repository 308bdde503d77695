"""Speeds, measured in one run so that they can be compared with each other. ``make bench``.

Nothing here is asserted: machines differ. Each figure is the best of three rounds.
"""

from __future__ import annotations

import asyncio
import functools
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from gizserial.codec import Codec
from gizserial.framing import Frame, Framer
from gizserial.io.products import load_product

ROOT = Path(__file__).resolve().parent.parent
PET = ROOT / "fixtures" / "products" / "pet-house.json"


def best(work: Callable[[], object], rounds: int = 3) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def machine() -> None:
    names = ("construct", "pydantic", "amqtt", "uvicorn", "h11", "fastapi")
    print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    print(", ".join(f"{name} {version(name)}" for name in names))


def framing() -> None:
    report = Frame(0x05, 1, bytes.fromhex("0407c800000701263c010a")).encode()
    inputs = {
        "20-byte reports": report * 100_000,
        "FF": b"\xff" * 10_000_000,
        "FF 55": b"\xff\x55" * 5_000_000,
        "headers only": b"\xff\xff\x00\x05\x07" * 200_000,
    }
    print("\nframing")
    for name, data in inputs.items():

        def run(data: bytes = data) -> None:
            framer = Framer(hold_noise=True)
            for start in range(0, len(data), 65536):
                framer.feed(data[start : start + 65536])
            framer.flush()

        print(f"  {name:18} {len(data) / best(run) / 1e6:8.1f} MB/s")


def fast_reader() -> None:
    codec = Codec(load_product(PET))
    block = codec.p0.data_points.dev_status
    body = bytes.fromhex("07c800000701263c010a")
    rounds = 20_000

    def fast() -> None:
        for _ in range(rounds):
            block.parse(body, "status")

    def schema() -> None:
        for _ in range(rounds):
            block.schema.parse(body)

    quick, slow = best(fast), best(schema)
    print("\nstatus block of the pet house (15 points)")
    print(f"  construct schema   {slow / rounds * 1e6:8.2f} µs")
    print(f"  compiled reader    {quick / rounds * 1e6:8.2f} µs, {slow / quick:.0f} times as fast")


def run(command: list[str]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def decode_command() -> None:
    report = Frame(0x05, 1, bytes.fromhex("0407c800000701263c010a")).encode()
    heartbeat = Frame(0x07, 1).encode()
    data = (report + heartbeat) * (10_000_000 // len(report + heartbeat))
    print("\ngizserial decode of a 10 MB capture of reports and heartbeats")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "capture.bin"
        path.write_bytes(data)
        for words in (["--json"], ["--json", "-p", str(PET)], ["-p", str(PET)]):
            command = [
                sys.executable,
                "-c",
                "from gizserial.cli import main; main()",
                "decode",
                str(path),
                *words,
            ]
            seconds = best(functools.partial(run, command), rounds=1)
            shown = " ".join(word.replace(str(PET), "pet-house.json") for word in words)
            print(f"  {shown:30} {len(data) / seconds / 1e6:6.2f} MB/s")


async def round_trip() -> None:
    from sim.demo import measure, running, summary
    from sim.module import module_show

    show = module_show(None, as_json=False, quiet=True)
    show.write = lambda _line: None
    print("\ncontrol → report through cloud, module and MCU on an unpaced virtual port")
    async with running(show) as demo:
        await demo.online()
        await demo.settled()
        await measure(demo, 50)
        print(f"  {summary(await measure(demo, 1000))}")
        print(f"  resident memory of everything in one process: {resident()}")


def resident() -> str:
    status = Path("/proc/self/status")
    if not status.exists():
        return "not known on this system"
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    now, peak = (int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return f"{now:.0f} MB (peak {peak:.0f} MB)"


def main() -> None:
    machine()
    asyncio.run(round_trip())
    framing()
    fast_reader()
    decode_command()


if __name__ == "__main__":
    main()
