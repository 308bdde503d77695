"""Faults of a serial line: named, composable, seeded; on a line in memory and on any real port.

::

    faults = Faults(["loss:0.01", "delay:20ms..50ms@module>mcu", "mute:2s@5s"], seed=7)
    faults.install(link)                                        a MemoryLink whose end ``a`` is the module
    FaultyTransport(open_port("pty:"), faults, Role.MODULE)     any port (:mod:`sim.faulty`)

A fault is written ``KIND[:VALUES][@DIRECTION][@TIME]``. Every fault draws from a generator of its own for
each direction, made of the seed and its place in the list: the same seed and the same writes give the same
bytes.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping
from random import Random
from types import MappingProxyType
from typing import Final

from gizserial.commands import Direction
from gizserial.errors import GizserialError
from gizserial.io import memory
from gizserial.io.memory import Manipulator, MemoryLink, Piece
from sim import fault_effects as effects

DIRECTIONS: Final[tuple[Direction, Direction]] = ("module>mcu", "mcu>module")
_REVERSED: Final = {"mcu<module": "module>mcu", "module<mcu": "mcu>module"}
_SECONDS: Final = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(us|ms|s|min|m|h)?")
_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
LONGEST: Final = 86400.0
"""A fault lasts, or delays, a day at most."""


class FaultError(GizserialError, ValueError):
    """A fault that was written wrongly; the sentence says how it is written."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One fault as it was written."""

    text: str
    kind: str
    values: tuple[float, ...] = ()
    direction: Direction | None = None
    """None: both."""
    start: float = 0.0
    """Seconds after the line was opened."""
    end: float = math.inf

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read ``loss:0.01@module>mcu``.

        :raises FaultError: it is no fault.
        """
        head, *places = text.strip().split("@")
        name, _, rest = head.partition(":")
        kind = KINDS.get(name)
        if kind is None:
            raise FaultError(f"there is no fault {name!r}; known are: {', '.join(KINDS)}")
        direction: Direction | None = None
        window: tuple[float, float] | None = None
        for place in places:
            towards = _direction(place)
            if towards is not None and direction is None:
                direction = towards
            elif towards is None and window is None:
                window = time_window(place, text, ", ".join(DIRECTIONS))
            else:
                raise FaultError(f"{text}: after @ stands one direction and one time, each once")
        try:
            values = kind.read(rest)
        except FaultError as error:
            raise FaultError(f"{text}: {error}; write {kind.usage}") from None
        start, end = window or (0.0, math.inf)
        if name == "mute" and values:
            if math.isfinite(end):
                raise FaultError(f"{text}: it has two ends; write mute:2s@5s or mute@5s..7s")
            end = start + values[0]
        return cls(text.strip(), name, values, direction, start, end)

    def manipulator(self, direction: Direction, rng: Random) -> Manipulator:
        """What it does to bytes of this direction, in seconds after the line was opened."""
        made = KINDS[self.kind].make(self.values, direction, rng)
        if self.start == 0.0 and math.isinf(self.end):
            return made
        return effects.between(made, self.start, self.end)

    def concerns(self, direction: Direction) -> bool:
        """Whether it is a fault of this direction."""
        return self.direction in {None, direction}

    def __str__(self) -> str:
        return self.text


class Faults:
    """The faults of one line, which may come and go while it is used.

    :param faults: Faults, or how they are written.
    :param seed: Whoever gives the same seed, and writes the same at the same times, gets the same.
    :raises FaultError: one is written wrongly.
    """

    def __init__(self, faults: Iterable[Fault | str] = (), *, seed: int = 0) -> None:
        self.seed: Final = seed
        self._active: dict[int, tuple[Fault, dict[Direction, Manipulator]]] = {}
        self._count = 0
        for fault in faults:
            self.add(fault)

    @property
    def active(self) -> tuple[Fault, ...]:
        """Those that are there now, whatever their times say."""
        return tuple(fault for fault, _ in self._active.values())

    def add(self, fault: Fault | str) -> int:
        """One more, behind the others; gives what :meth:`remove` takes.

        :raises FaultError: it is written wrongly.
        """
        fault = Fault.parse(fault) if isinstance(fault, str) else fault
        number, self._count = self._count, self._count + 1
        made = {
            direction: fault.manipulator(direction, Random(f"{self.seed}/{number}/{direction}"))  # noqa: S311
            for direction in DIRECTIONS
            if fault.concerns(direction)
        }
        self._active[number] = fault, made
        return number

    def remove(self, number: int) -> None:
        """It is over; nothing happens when it is not there."""
        self._active.pop(number, None)

    def clear(self) -> None:
        """All are over."""
        self._active.clear()

    def concern(self, direction: Direction) -> bool:
        """Whether one of them is a fault of this direction."""
        return any(direction in by for _, by in self._active.values())

    def passed(self, direction: Direction, data: bytes, now: float) -> list[Piece]:
        """What arrives, and when. A manipulator of one direction, as :mod:`gizserial.io.memory` has them."""
        made = [by[direction] for fault, by in self._active.values() if direction in by and not _echo(fault)]
        return list(memory.chain(*made)(data, now))

    def returned(self, direction: Direction, data: bytes, now: float) -> list[Piece]:
        """What comes back to the sender: an echo."""
        pieces: list[Piece] = []
        for fault, by in self._active.values():
            if _echo(fault) and direction in by and fault.start <= now < fault.end:
                pieces += by[direction](data, now)
        return pieces

    def install(self, link: MemoryLink, *, start: float = 0.0) -> None:
        """Let them happen on a line in memory whose end ``a`` is the module's.

        :param start: The time that counts as the opening of the line.
        """
        for end, direction in ((link.a, DIRECTIONS[0]), (link.b, DIRECTIONS[1])):
            end.set_manipulator(_on(self, end, direction, start))


def _on(faults: Faults, end: memory.LinkEnd, direction: Direction, start: float) -> Manipulator:
    def manipulate(data: bytes, now: float) -> list[Piece]:
        for at, piece in faults.returned(direction, data, now - start):
            end.hear(piece, now=at + start)
        return [(at + start, piece) for at, piece in faults.passed(direction, data, now - start)]

    return manipulate


def _echo(fault: Fault) -> bool:
    return fault.kind == "echo"


# --- how faults are written


_Make = Callable[[tuple[float, ...], Direction, Random], Manipulator]


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    usage: str
    help: str
    read: Callable[[str], tuple[float, ...]]
    make: _Make


def seconds(text: str) -> float:
    """``20ms``, ``1.5s``, ``2min``; a number alone is seconds.

    :raises FaultError: it is no time.
    """
    match = _SECONDS.fullmatch(text.strip())
    if match is None:
        raise FaultError(f"{text!r} is no time, as 20ms, 1.5s or 2min")
    value = float(match[1]) * _UNITS[match[2] or "s"]
    if value > LONGEST:
        raise FaultError(f"{text!r} is longer than a day")
    return value


def _direction(text: str) -> Direction | None:
    text = _REVERSED.get(text, text)
    return next((direction for direction in DIRECTIONS if direction == text), None)


def time_window(place: str, text: str, instead: str) -> tuple[float, float]:
    """``5s`` or ``5s..7s`` behind an @ of ``text``: start and end.

    :param instead: What else may stand there.
    :raises FaultError: it is no time.
    """
    first, dots, last = place.partition("..")
    try:
        start = seconds(first)
        end = seconds(last) if last else math.inf
    except FaultError as error:
        raise FaultError(f"{text}: after @ stands {instead} or a time (5s, 5s..7s), and {error}") from None
    if dots and end <= start:
        raise FaultError(f"{text}: the time after @ ends before it begins")
    return start, end


def _rate(text: str) -> tuple[float, ...]:
    percent = text.endswith("%")
    try:
        value = float(text.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        raise FaultError(f"{text!r} is no probability" if text else "the probability is missing") from None
    if not 0 <= value <= 1:
        raise FaultError(f"{text} is no probability from 0 to 1")
    return (value,)


def delay_values(text: str) -> tuple[float, float]:
    """``20ms`` or ``20ms..50ms``: shortest and longest.

    :raises FaultError: it is no delay.
    """
    if not text:
        raise FaultError("the time is missing")
    first, dots, last = text.partition("..")
    least = seconds(first)
    most = seconds(last) if dots else least
    if most < least:
        raise FaultError("the longest delay is shorter than the shortest")
    return least, most


def _time(text: str) -> tuple[float, ...]:
    if not text:
        raise FaultError("the time is missing")
    return (seconds(text),)


def _optional_time(text: str) -> tuple[float, ...]:
    return _time(text) if text else ()


def _whole(text: str, least: int, most: int, what: str) -> int:
    if not text.isascii() or not text.isdigit() or not least <= int(text[:9]) <= most:
        raise FaultError(f"{what} is a whole number from {least} to {most}, not {text!r}")
    return int(text)


def _pieces(text: str) -> tuple[float, ...]:
    size, comma, gap = text.partition(",")
    return _whole(size, 1, 4096, "the largest piece"), seconds(gap) if comma else 0.0


def _burst(text: str) -> tuple[float, ...]:
    rate, comma, size = text.partition(",")
    longest = _whole(size, 1, 4096, "the longest burst") if comma else effects.NOISE_BYTES
    return (*_rate(rate), longest)


def _places(text: str) -> tuple[float, ...]:
    return (_whole(text, 2, 65536, "the size of the ring buffer"),)


def _bauds(text: str) -> tuple[float, ...]:
    module, slash, mcu = text.partition("/")
    if not slash:
        raise FaultError("two baud rates are needed, the module's and the MCU's")
    return tuple(_whole(part, 50, 4_000_000, "a baud rate") for part in (module, mcu))


def _sure_or_rate(text: str) -> tuple[float, ...]:
    return _rate(text) if text else (1.0,)


def _baud(values: tuple[float, ...], direction: Direction, rng: Random) -> Manipulator:
    sent_at, read_at = values if direction == "module>mcu" else values[::-1]
    return effects.wrong_baud(rng, sent_at, read_at)


def _mute(_values: tuple[float, ...], _direction: Direction, _rng: Random) -> Manipulator:
    return memory.mute


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "delay": Kind(
            "delay:20ms or delay:20ms..50ms",
            "each write waits so long; later ones wait behind it",
            delay_values,
            lambda v, _d, rng: memory.delay(rng, v[0], v[1]),
        ),
        "jitter": Kind(
            "jitter:5ms", "each byte waits up to so long", _time, lambda v, _d, rng: effects.jitter(rng, v[0])
        ),
        "loss": Kind(
            "loss:0.01",
            "each byte is lost with this probability",
            _rate,
            lambda v, _d, rng: memory.drop(rng, v[0]),
        ),
        "frame-loss": Kind(
            "frame-loss:0.1",
            "each frame is lost with this probability",
            _rate,
            lambda v, _d, rng: effects.lose_frames(rng, v[0]),
        ),
        "write-loss": Kind(
            "write-loss:0.1",
            "each write is lost with this probability",
            _rate,
            lambda v, _d, rng: memory.drop_writes(rng, v[0]),
        ),
        "corrupt": Kind(
            "corrupt:0.001",
            "each byte becomes another one with this probability",
            _rate,
            lambda v, _d, rng: memory.corrupt(rng, v[0]),
        ),
        "duplicate": Kind(
            "duplicate:0.1",
            "each frame comes twice with this probability",
            _rate,
            lambda v, _d, rng: effects.repeat_frames(rng, v[0]),
        ),
        "split": Kind(
            "split:3 or split:3,10ms",
            "writes come in pieces of at most so many bytes, up to so much time apart",
            _pieces,
            lambda v, _d, rng: memory.split(rng, int(v[0]), gap=v[1]),
        ),
        "echo": Kind(
            "echo or echo:0.5",
            "what an end sends comes back to it (RX and TX bridged)",
            _sure_or_rate,
            # A write that is not lost comes back.
            lambda v, _d, rng: memory.drop_writes(rng, 1 - v[0]),
        ),
        "mute": Kind("mute, mute:2s@5s or mute@5s..7s", "nothing arrives", _optional_time, _mute),
        "baud": Kind(
            "baud:9600/8600",
            "the module's UART and the MCU's have these rates: what the receiver makes of the bits arrives",
            _bauds,
            _baud,
        ),
        "noise": Kind(
            "noise:0.1 or noise:0.1,32",
            "random bytes, at most so many, stand before or behind a write with this probability",
            _burst,
            lambda v, _d, rng: effects.noise(rng, v[0], int(v[1])),
        ),
        "ring": Kind(
            "ring:128",
            "the receiver's ring buffer of this size loses a byte each time round",
            _places,
            lambda v, _d, _rng: effects.ring_edge(int(v[0])),
        ),
    }
)
"""Every kind of fault, by name."""
