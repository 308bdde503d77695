"""Sick ends of a line, and the doctor's examination of them in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gizserial.commands import Role
from gizserial.diagnosis.examination import Examination, Finished, Plan
from gizserial.diagnosis.plans import full_plan
from gizserial.diagnosis.verdict import Diagnosis
from gizserial.framing import Frame, Framer
from gizserial.io.driver import Machine
from gizserial.io.memory import MemoryLink
from gizserial.io.products import load_product
from gizserial.io.simulation import Simulation
from gizserial.mcu import McuRole
from gizserial.product import Product

PRODUCTS = Path(__file__).resolve().parent.parent / "fixtures" / "products"

Sends = Callable[[Frame], bytes]
Hears = Callable[[bytes], bytes]
Length = Callable[[int], int]
Total = Callable[[bytes], int]


def named(name: str) -> Product:
    return load_product(PRODUCTS / f"{name}.json")


class Sick:
    """A machine whose frames leave in another form, and that hears something else than was sent."""

    def __init__(
        self, machine: McuRole, *, sends: Sends = Frame.encode, hears: Hears | None = None, deaf: bool = False
    ) -> None:
        self.machine, self.sends, self.hears, self.deaf = machine, sends, hears, deaf
        self.framer = Framer()

    def connection_made(self, *, now: float) -> list[object]:
        return [*self.machine.connection_made(now=now)]

    def connection_lost(self, *, now: float) -> list[object]:
        return [*self.machine.connection_lost(now=now)]

    def receive_data(self, data: bytes, *, now: float) -> list[object]:
        if self.deaf:
            return []
        if self.hears is not None:
            data = b"".join(self.hears(item.wire) for item in self.framer.feed(data))
        return [*self.machine.receive_data(data, now=now)]

    def data_to_send(self, *, now: float) -> bytes:
        items = Framer().feed(self.machine.data_to_send(now=now))
        return b"".join(self.sends(item) for item in items if isinstance(item, Frame))

    def next_timeout(self) -> float | None:
        return self.machine.next_timeout()

    def handle_timeout(self, *, now: float) -> list[object]:
        return [*self.machine.handle_timeout(now=now)]


class Says:
    """Repeats the same bytes, whatever it hears."""

    def __init__(self, data: bytes, *, every: float = 0.3, answers: bool = False) -> None:
        self.data, self.every, self.answers = data, every, answers
        self.due: float | None = None
        self.out = b""

    def connection_made(self, *, now: float) -> list[object]:
        self.due = None if self.answers else now
        return []

    def connection_lost(self, *, now: float) -> list[object]:  # noqa: ARG002 - a machine's
        return []

    def receive_data(self, data: bytes, *, now: float) -> list[object]:  # noqa: ARG002 - a machine's
        if self.answers:
            self.out += self.data
        return []

    def data_to_send(self, *, now: float) -> bytes:  # noqa: ARG002 - a machine's
        out, self.out = self.out, b""
        return out

    def next_timeout(self) -> float | None:
        return self.due

    def handle_timeout(self, *, now: float) -> list[object]:
        self.due = now + self.every
        self.out += self.data
        return []


class Echo(Says):
    """TX bridged to RX, perhaps with a peer behind it."""

    def __init__(self, behind: Machine[Any] | None = None) -> None:
        super().__init__(b"")
        self.behind = behind

    def connection_made(self, *, now: float) -> list[object]:
        return [*self.behind.connection_made(now=now)] if self.behind else []

    def receive_data(self, data: bytes, *, now: float) -> list[object]:
        self.out += data
        return [*self.behind.receive_data(data, now=now)] if self.behind else []

    def data_to_send(self, *, now: float) -> bytes:
        return super().data_to_send(now=now) + (self.behind.data_to_send(now=now) if self.behind else b"")

    def next_timeout(self) -> float | None:
        return self.behind.next_timeout() if self.behind else None

    def handle_timeout(self, *, now: float) -> list[object]:
        return [*self.behind.handle_timeout(now=now)] if self.behind else []


def examine(
    peer: Machine[Any],
    *,
    role: Role = Role.MODULE,
    product: Product | None = None,
    plan: Plan[Diagnosis] | None = None,
) -> Diagnosis:
    """The doctor at the other end of the line, at 9600 baud."""
    asked = plan or full_plan(role, product)
    doctor: Examination[Diagnosis] = Examination(asked, role, byte_time=10 / 9600)
    link = MemoryLink(byte_time=10 / 9600)
    simulation: Simulation[Any] = Simulation((doctor, link.a), (peer, link.b))
    while doctor.finished is None and simulation.now < 120:
        simulation.run(until=simulation.now + 1)
    assert isinstance(doctor.finished, Finished), "the examination does not end"
    return doctor.finished.result


def body(frame: Frame) -> bytes:
    """Everything between length and checksum."""
    return bytes((frame.command, frame.sn)) + frame.flags.to_bytes(2, "big") + frame.payload


def escaped(logical: bytes) -> bytes:
    """A header, and what follows it with escapes."""
    return b"\xff\xff" + logical.replace(b"\xff", b"\xff\x55")


def codes(diagnosis: Diagnosis) -> list[str]:
    return [fault.code for fault in diagnosis.faults]


def made(total: Total = sum, length: Length = lambda size: size) -> Callable[[Frame], bytes]:
    """Frames whose length and checksum are made by other rules."""

    def sends(frame: Frame) -> bytes:
        logical = length(len(frame.payload) + 5).to_bytes(2, "big") + body(frame)
        return escaped(logical + bytes((total(logical) & 0xFF,)))

    return sends


def xor(data: bytes) -> int:
    result = 0
    for byte in data:
        result ^= byte
    return result
