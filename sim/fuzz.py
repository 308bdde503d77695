"""Finds input that our own code does not survive: mutates rows of the command table, shrinks, keeps it.

::

    python -m sim.fuzz                      every target for a while
    python -m sim.fuzz module --seconds 60  one target

A target takes any bytes. Those of the roles read them as a script: what arrives, how much time passes, what
the application calls, when the line goes down. Beside exceptions these count as findings: a timeout that does
not move on, a byte that is told in no frame or in two, answers without end. :mod:`sim.guided` plays the same
targets with atheris.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Final, Protocol

from gizserial.capture import FORMATS, Record
from gizserial.codec import Codec
from gizserial.commands import FRAMES, Role
from gizserial.describe import json_line, render, to_json
from gizserial.encoding import encode
from gizserial.errors import CaptureError, GizserialError, ProductError
from gizserial.events import BadFrameReceived, Event, FrameReceived, NoiseReceived
from gizserial.framing import MAX_LENGTH, BadFrame, Frame, Framer
from gizserial.image import Image
from gizserial.io.files import atomic_writer
from gizserial.io.products import load_product
from gizserial.lan.framing import LanFramer
from gizserial.m2m.mqtt31 import PacketReader
from gizserial.mcu import McuRole
from gizserial.module import ModuleRole
from gizserial.product import Product, parse_product
from gizserial.streams import describe_records

UNREAD: Final = 2 * (MAX_LENGTH + 2) + 4
"""Wire bytes that a role may hold back: one frame (serial.md §1.7)."""
SETTLES: Final = 300
"""Timeouts at one moment, before a machine counts as stuck."""
GROWTH: Final = 200_000
"""Bytes that a role may send for one chunk or one timeout."""
TICKS: Final = (0.0, 0.01, 0.05, 0.2, 0.5, 1.0, 6.0, 60.0, 700.0)
"""How much time an instruction may let pass."""


class Broken(AssertionError):
    """A rule of :mod:`sim.fuzz` that does not hold."""


class Machine(Protocol):
    """What both roles have."""

    def connection_made(self, *, now: float) -> Sequence[Event]:
        """The line is up."""

    def connection_lost(self, *, now: float) -> Sequence[Event]:
        """The line is down."""

    def receive_data(self, data: bytes, *, now: float) -> Sequence[Event]:
        """Take bytes."""

    def data_to_send(self, *, now: float) -> bytes:
        """What is to leave."""

    def next_timeout(self) -> float | None:
        """When it is due."""

    def handle_timeout(self, *, now: float) -> Sequence[Event]:
        """Do what is due."""


class Driven:
    """One role, and the rules it has to keep whatever happens.

    :raises Broken: from any method, when a rule does not hold.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.now = 0.0
        self.up = False
        self.untold = bytearray()
        """What came and was not told yet."""
        self.received: list[Record] = []
        """What it was sent, as a capture."""
        self.sent = bytearray()
        """What it sent since somebody looked."""

    @property
    def role(self) -> Role:
        """Who it is."""
        return Role.MODULE if isinstance(self.machine, ModuleRole) else Role.MCU

    def plug(self) -> None:
        """The line comes up."""
        if not self.up:
            self.up = True
            self._take(self.machine.connection_made(now=self.now))

    def unplug(self) -> None:
        """The line goes down: what came so far must have been told."""
        if self.up:
            self.up = False
            self._take(self.machine.connection_lost(now=self.now))
            if self.untold:
                raise Broken(f"bytes came and were not told: {self.untold.hex(' ')}")

    def feed(self, data: bytes) -> None:
        """Bytes arrive."""
        if self.up and data:
            self.untold += data
            self.received.append(Record(self.now, self.role.peer.direction, data))
            self._take(self.machine.receive_data(data, now=self.now))
            if len(self.untold) > UNREAD:
                raise Broken(f"{len(self.untold)} bytes are held back")

    def call(self, method: Callable[[], object]) -> None:
        """The application calls something; refusing is its right."""
        with contextlib.suppress(GizserialError):
            method()
        self._settle()

    def wait(self, seconds: float) -> None:
        """Time passes, timeout by timeout."""
        until = self.now + seconds
        for _ in range(5000):
            due = self.machine.next_timeout()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self._settle()
        else:
            raise Broken(f"5000 timeouts in {seconds} s")
        self.now = until
        self._settle()

    def _take(self, events: Sequence[Event]) -> None:
        self._count(events)
        self._settle()

    def _settle(self) -> None:
        grown = len(self.sent)
        for _ in range(SETTLES):
            data = self.machine.data_to_send(now=self.now)
            if self.up:
                self.sent += data
            if len(self.sent) - grown > GROWTH:
                raise Broken(f"more than {GROWTH} bytes are sent at once")
            due = self.machine.next_timeout()
            if due is None or due > self.now:
                if self.machine.data_to_send(now=self.now):
                    raise Broken("bytes are left over when nothing is due")
                if (again := self.machine.next_timeout()) is not None and again <= self.now:
                    continue  # sending starts the wait for an ack
                return
            self._count(self.machine.handle_timeout(now=self.now))
        raise Broken(f"the timeout does not move on at {self.now} s")

    def _count(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, FrameReceived):
                self._told(event.frame.wire)
            elif isinstance(event, BadFrameReceived):
                self._told(event.bad.wire)
            elif isinstance(event, NoiseReceived):
                self._told(event.noise.wire)

    def _told(self, wire: bytes) -> None:
        """Every byte is told once, in the order in which it came."""
        if not self.untold.startswith(wire):
            raise Broken(f"{wire.hex(' ')} is told where {self.untold[: len(wire)].hex(' ')} came")
        del self.untold[: len(wire)]


# --- bytes that frames are near to


def row_frame(random: Random) -> Frame:
    """A frame of some row of the table, its body right, short, long or anything."""
    spec = FRAMES[random.choice(list(FRAMES))]
    size = random.choice((0, 1, 2, 3, 9, 12, 66, 74, 106, 250))
    common = (0, 1, 2, 3, 0x11, 0x12, 0x30, 0xFF)
    payload = bytes(random.choice((*common, random.randrange(256))) for _ in range(size))
    return Frame(spec.id, random.choice((0, 1, 2, 254, 255)), payload, random.choice((0, 0, 0, 1, 3, 0xFFFF)))


def mutated(wire: bytes, random: Random) -> bytes:
    """Bytes that differ from some others in one or a few places."""
    out = bytearray(wire)
    for _ in range(random.choice((0, 0, 1, 1, 2, 4))):
        at = random.randrange(len(out) + 1)
        what = random.randrange(6)
        if what == 0 and at < len(out):
            out[at] ^= 1 << random.randrange(8)
        elif what == 1 and at < len(out):
            del out[at : at + random.choice((1, 1, 2, 5))]
        elif what == 2:
            out[at:at] = random.choice(
                (b"\xff", b"\x55", b"\xff\xff", b"\xff\x55", b"\0", random.randbytes(3))
            )
        elif what == 3:
            out[at:at] = out[: random.randrange(len(out) + 1)]
        elif what == 4:
            del out[at:]
        elif at < len(out):
            out[at] = random.choice((0x00, 0x55, 0xFF, 0x80))
    return bytes(out)


def frame_bytes(seed: int) -> bytes:
    """The bytes of one frame or of something near one; the same for the same seed."""
    random = Random(seed)  # noqa: S311 - test input
    return mutated(row_frame(random).encode(escape=random.random() > 0.1), random)


# --- scripts for the roles


class _Reader:
    """Takes numbers out of bytes; at the end everything is 0."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def bytes(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]


def _script(driven: Driven, data: bytes, calls: Sequence[Callable[[_Reader], object]]) -> None:
    """Play a script: each instruction is a byte that says what happens, and its operands."""
    reader = _Reader(data[:4096])
    driven.plug()
    while reader:
        what = reader.byte()
        kind = what & 7
        if kind in {0, 1}:
            driven.feed(frame_bytes(reader.byte() << 8 | reader.byte()))
        elif kind == 2:
            driven.feed(reader.bytes(1 + (what >> 3)))
        elif kind == 3:
            driven.wait(TICKS[(what >> 3) % len(TICKS)])
        elif kind == 4:
            _answer(driven, what)
        elif kind == 5 and what >> 3 > 28:
            driven.unplug()
            driven.plug()
        elif kind == 6:
            row = FRAMES[list(FRAMES)[reader.byte() % len(FRAMES)]]
            payload = reader.bytes(what >> 3)
            driven.feed(Frame(row.id, reader.byte(), payload, reader.byte() & 3).encode())
        else:
            driven.call(functools.partial(calls[(what >> 3) % len(calls)], reader))
    driven.wait(2.0)
    driven.unplug()


def _answer(driven: Driven, what: int) -> None:
    """The peer acks what was sent last, well or nearly."""
    frames = [item for item in Framer().feed(bytes(driven.sent[-UNREAD:])) if isinstance(item, Frame)]
    driven.sent.clear()
    if frames:
        last = frames[-1]
        body = _INFO if last.command == 1 and what & 8 else bytes(what >> 5)
        driven.feed(Frame(last.command + 1 & 0xFF, last.sn, body).encode())


_INFO: Final = b"00000004" * 4 + b"0" * 32 + bytes(10)
_DEFINITION: Final = Path(__file__).parent.parent / "fixtures" / "products"


def play_module(data: bytes) -> Driven:
    """Script a module role."""
    module = ModuleRole()
    driven = Driven(module)
    image = Image(bytes(range(256)) * 2)
    _script(
        driven,
        data,
        (
            lambda r: module.send_p0(r.bytes(r.byte() % 40), now=driven.now),
            lambda r: module.set_router(bool(r.byte() & 1), now=driven.now, strength=r.byte() % 101),
            lambda r: module.set_cloud(bool(r.byte() & 1), now=driven.now),
            lambda r: module.set_apps(r.byte(), now=driven.now),
            lambda _r: module.provision("airlink", now=driven.now),
            lambda _r: module.restart_mcu(now=driven.now),
            lambda _r: module.offer_file(image, now=driven.now),
            lambda _r: module.stop_file(now=driven.now),
            lambda r: module.reboot("fuzz", now=driven.now, delay=r.byte() / 10),
            lambda r: module.send(r.byte(), r.bytes(r.byte()), now=driven.now),
            lambda _r: module.open_bind_window(now=driven.now),
        ),
    )
    return driven


def play_mcu(data: bytes, product: Product) -> Driven:
    """Script an MCU role."""
    mcu = McuRole(product)
    driven = Driven(mcu)
    points = product.points
    image = Image(bytes(range(256)) * 2)
    _script(
        driven,
        data,
        (
            lambda r: mcu.set_raw(points[r.byte() % len(points)].name, r.byte(), now=driven.now),
            lambda r: mcu.send_raw(r.bytes(r.byte()), now=driven.now),
            lambda r: mcu.provision(r.byte(), now=driven.now),
            lambda _r: mcu.ask_time(now=driven.now),
            lambda _r: mcu.ask_module_info(now=driven.now),
            lambda _r: mcu.restart_module(now=driven.now),
            lambda _r: mcu.send_file(image, now=driven.now),
            lambda _r: mcu.stop_file(now=driven.now),
            lambda r: mcu.send(r.byte(), r.bytes(r.byte()), now=driven.now),
            lambda _r: mcu.reset_module(now=driven.now),
        ),
    )
    return driven


# --- everything else that reads what others wrote


def _decode(data: bytes, product: Product) -> None:
    """Decoding shows every byte once, and what it shows is text and JSON."""
    for known in (None, product):
        shown = 0
        for described in describe_records([Record(None, None, data)], Codec(known)):
            shown += len(described.item.wire)
            render(described)
            json_line(to_json(described))
        if shown != len(data):
            raise Broken(f"{len(data)} bytes were given, {shown} are shown")


def _framer(data: bytes) -> None:
    """Any chunking gives the same frames; a good frame is what its bytes say."""
    cut = data[0] if data else 0
    whole, parts = Framer(hold_noise=True), Framer(hold_noise=True)
    first = [*whole.feed(data), *whole.flush()]
    second = [*parts.feed(data[:cut]), *parts.feed(data[cut:]), *parts.flush()]
    if first != second:
        raise Broken("the items depend on the chunks")
    if b"".join(item.wire for item in first) != data:
        raise Broken("the items are not the bytes")
    for item in first:
        if isinstance(item, Frame) and not item.unescaped and item.encode() != item.wire:
            raise Broken("a frame is not what its bytes say")
        if isinstance(item, BadFrame) and not item.detail:
            raise Broken("a bad frame says nothing")


def _product(data: bytes) -> None:
    """A definition compiles, or the error names findings."""
    try:
        product = parse_product(data, "fuzz")
    except ProductError as error:
        if not error.findings:
            raise Broken("an error without a finding") from None
        return
    codec = Codec(product)
    for name in ("report", "read", "control"):
        with contextlib.suppress(GizserialError):
            encode(codec, name, [])


def _capture(name: str) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        with contextlib.suppress(CaptureError):
            for record in FORMATS[name].read(io.BytesIO(data), "fuzz").records():
                if record.t is not None and not 0 <= record.t <= 2**33:
                    raise Broken("a time out of bounds")

    return read


def _lan(data: bytes) -> None:
    """The LAN framer holds one frame at most."""
    framer = LanFramer()
    for start in range(0, len(data), 7):
        framer.feed(data[start : start + 7])
    if framer.waiting > len(data):
        raise Broken("it holds more than it got")


def _mqtt(data: bytes) -> None:
    """MQTT packets encode to what they were read from, or the reader fails once and for all."""
    reader = PacketReader()
    for start in range(0, len(data), 5):
        reader.feed(data[start : start + 5])
    if reader.buffered > len(data):
        raise Broken("it holds more than it got")


Target = Callable[[bytes], object]


def targets() -> Mapping[str, Target]:
    """Everything that is fuzzed, by name."""
    fixed, variable = (load_product(_DEFINITION / f"{name}.json") for name in ("pet-house", "var-len"))
    return {
        "module": play_module,
        "mcu": lambda data: play_mcu(data, fixed),
        "mcu-var": lambda data: play_mcu(data, variable),
        "framer": _framer,
        "decode": lambda data: _decode(data, fixed),
        "decode-var": lambda data: _decode(data, variable),
        "product": _product,
        **{f"capture-{name}": _capture(name) for name in FORMATS},
        "lan": _lan,
        "mqtt": _mqtt,
    }


_SEEDS: Final[Mapping[str, Sequence[bytes]]] = {
    "product": [(_DEFINITION / "var-len.json").read_bytes()] if _DEFINITION.is_dir() else [],
    "capture-jsonl": [b'{"meta":{}}\n{"t":1.5,"dir":"mcu>module","hex":"ffff0005080100000e"}\n'],
    "capture-hex": [b"12:00:01.5 TX FF FF 00 05 0x07,01\r\n00 00 0D"],
    "lan": [bytes.fromhex("00 00 00 03 03 00 00 06"), bytes.fromhex("00 00 00 03 06 00 00 93 00 00 01")],
    "mqtt": [
        bytes.fromhex("10 0C 00 06 4D 51 49 73 64 70 03 02 00 3C 00 00"),
        b"\x30\x05\x00\x03a/bx",
        b"\xc0\x00",
    ],
}


def inputs(name: str, random: Random) -> Iterator[bytes]:
    """Endless input for a target."""
    seeds = _SEEDS.get(name, [])
    while True:
        if seeds:
            yield mutated(random.choice(seeds), random)
        elif name in {"module", "mcu", "mcu-var"}:
            yield random.randbytes(random.randrange(1, 160))
        else:
            yield b"".join(frame_bytes(random.randrange(1 << 30)) for _ in range(random.randrange(1, 6)))


def shrink(target: Target, data: bytes, *, tries: int = 2000) -> bytes:
    """Shorter input that fails in the same way (the same type of exception)."""
    kind = type(failure(target, data))
    size = len(data) // 2
    while size and tries > 0:
        at = 0
        while at < len(data) and tries > 0:
            tries -= 1
            shorter = data[:at] + data[at + size :]
            if type(failure(target, shorter)) is kind:
                data = shorter
            else:
                at += size
        size //= 2
    return data


def failure(target: Target, data: bytes) -> Exception | None:
    """What a target raises for this input."""
    try:
        target(data)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        return error
    return None


def save(directory: Path, name: str, data: bytes) -> Path:
    """Keep a finding as a capture of raw bytes: the input of its target."""
    path = directory / f"fuzz-{name}-{len(data)}-{sum(data) & 0xFFFF:04x}.bin"
    with atomic_writer(path) as file:
        file.write(data)
    return path


def run(names: Sequence[str], *, runs: int, seconds: float, seed: int, out: Path) -> int:
    """Fuzz without guidance; gives how many targets failed.

    :param runs: Inputs per target at most.
    """
    table = targets()
    failed = 0
    for name in names:
        random = Random(f"{seed} {name}")  # noqa: S311 - test input
        ends = time.monotonic() + seconds
        for done, data in enumerate(inputs(name, random), 1):
            error = failure(table[name], data)
            if error is not None:
                small = shrink(table[name], data)
                path = save(out, name, small)
                sys.stdout.write(f"{name}: {type(error).__name__}: {error}; input kept in {path}\n")
                failed += 1
                break
            if done >= runs or time.monotonic() > ends:
                sys.stdout.write(f"{name}: {done} inputs, no finding (seed {seed})\n")
                break
    return failed


def main(args: Sequence[str] | None = None) -> int:
    """``python -m sim.fuzz``; see the module."""
    parser = argparse.ArgumentParser(prog="python -m sim.fuzz", description="Fuzz our own code.")
    parser.add_argument("targets", nargs="*", help=f"of: {', '.join(targets())}; all without")
    parser.add_argument("--seconds", type=float, default=10.0, help="per target (default: 10)")
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs per target at most")
    parser.add_argument("--seed", type=int, default=1, help="the same gives the same inputs")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for findings (default: here)")
    given = parser.parse_args(args)
    unknown = [name for name in given.targets if name not in targets()]
    if unknown:
        parser.error(f"there is no target {unknown[0]}; there are {', '.join(targets())}")
    names = given.targets or list(targets())
    return int(run(names, runs=given.runs, seconds=given.seconds, seed=given.seed, out=given.out) > 0)


if __name__ == "__main__":
    sys.exit(main())
