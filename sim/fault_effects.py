"""What faults do to bytes that :mod:`gizserial.io.memory` has no manipulator for."""

from __future__ import annotations

import math
from random import Random
from typing import Final

from gizserial.framing import Framer
from gizserial.io.memory import Manipulator, Piece
from sim.uart import resample

NOISE_BYTES: Final = 16
"""Longest burst of noise, unless one is given."""


def jitter(rng: Random, most: float) -> Manipulator:
    """Each byte waits up to ``most`` seconds longer; those behind it wait with it."""

    def manipulate(data: bytes, now: float) -> list[Piece]:
        return [(now + rng.uniform(0, most), bytes((byte,))) for byte in data]

    return manipulate


def lose_frames(rng: Random, rate: float) -> Manipulator:
    """Each frame is lost as a whole with the probability ``rate``; what is outside of frames passes."""
    framer = Framer()
    losing = False

    def manipulate(data: bytes, now: float) -> list[Piece]:
        nonlocal losing
        kept = bytearray()
        for byte in data:
            inside = framer.in_frame
            framer.feed(bytes((byte,)))
            if not inside:
                losing = framer.in_frame and rng.random() < rate
            if not losing:
                kept.append(byte)
        return [(now, bytes(kept))]

    return manipulate


def repeat_frames(rng: Random, rate: float) -> Manipulator:
    """Each frame comes twice in a row with the probability ``rate``."""
    framer = Framer()

    def manipulate(data: bytes, now: float) -> list[Piece]:
        passed = bytearray()
        for byte in data:
            passed.append(byte)
            for item in framer.feed(bytes((byte,))):
                if item.wire[:2] == b"\xff\xff" and rng.random() < rate:
                    passed += item.wire
        return [(now, bytes(passed))]

    return manipulate


def noise(rng: Random, rate: float, most: int = NOISE_BYTES) -> Manipulator:
    """With the probability ``rate`` a burst of 1 to ``most`` random bytes stands before or behind a write."""

    def manipulate(data: bytes, now: float) -> list[Piece]:
        if rng.random() >= rate:
            return [(now, data)]
        burst = rng.randbytes(rng.randint(1, most))
        return [(now, burst), (now, data)] if rng.random() < 0.5 else [(now, data), (now, burst)]

    return manipulate


def ring_edge(size: int) -> Manipulator:
    """The receiver's ring buffer loses the byte that falls on its last place, once per round."""
    place = 0

    def manipulate(data: bytes, now: float) -> list[Piece]:
        nonlocal place
        kept = bytearray()
        for byte in data:
            place = (place + 1) % size
            if place:
                kept.append(byte)
        return [(now, bytes(kept))]

    return manipulate


def wrong_baud(rng: Random, sent_at: float, read_at: float) -> Manipulator:
    """The receiver reads at another rate than the sender sends at."""

    def manipulate(data: bytes, now: float) -> list[Piece]:
        return [(now, resample(data, sent_at=sent_at, read_at=read_at, phase=rng.random()))]

    return manipulate


def between(manipulator: Manipulator, start: float, end: float = math.inf) -> Manipulator:
    """Happens to what is written from ``start`` until before ``end`` only."""

    def manipulate(data: bytes, now: float) -> list[Piece]:
        return list(manipulator(data, now)) if start <= now < end else [(now, data)]

    return manipulate
