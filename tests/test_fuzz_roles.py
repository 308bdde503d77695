"""Both roles, alone and joined: hypothesis looks for a history that breaks one.

The rules are those of :class:`sim.fuzz.Driven`: no exception, a timeout that moves on, every byte told once.
"""

from __future__ import annotations

import contextlib
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support_doctor import named

from gizserial.commands import FRAMES
from gizserial.errors import EncodeError, GizserialError
from gizserial.framing import Frame, Framer
from gizserial.image import Image
from gizserial.io.memory import MemoryLink, chain, corrupt, drop, duplicate, split
from gizserial.io.simulation import Simulation
from gizserial.mcu import McuRole
from gizserial.module import ModuleRole
from sim.fuzz import Driven, frame_bytes

PET, VAR = named("pet-house"), named("var-len")
FEW = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
QUEUE = 32
"""Requests that may ever wait: those of the application and one of a kind of the role's own."""

seconds = st.sampled_from([0.0, 0.001, 0.05, 0.2, 0.21, 0.5, 1.0, 6.0, 55.0, 601.0])


class Whatever(RuleBasedStateMachine):
    """One role with a peer that does anything."""

    driven: Driven

    def endpoint(self) -> Any:
        return self.driven.machine._endpoint  # type: ignore[attr-defined]

    @rule(data=st.binary(max_size=40))
    def bytes_arrive(self, data: bytes) -> None:
        self.driven.feed(data)

    @rule(seed=st.integers(0, 2**16))
    def something_near_a_frame_arrives(self, seed: int) -> None:
        self.driven.feed(frame_bytes(seed))

    @rule(
        command=st.sampled_from(sorted(FRAMES)),
        sn=st.sampled_from([0, 1, 0x55, 0xFE, 0xFF]),
        payload=st.binary(max_size=30),
        flags=st.sampled_from([0, 1, 2, 0xFFFF]),
        copies=st.integers(1, 4),
    )
    def a_frame_arrives(self, command: int, sn: int, payload: bytes, flags: int, copies: int) -> None:
        self.driven.feed(Frame(command, sn, payload, flags).encode() * copies)

    @rule(body=st.sampled_from([b"", b"\0", b"00000004" * 4 + b"0" * 32 + bytes(10)]))
    def what_was_sent_is_acked(self, body: bytes) -> None:
        sent = [item for item in Framer().feed(bytes(self.driven.sent)) if isinstance(item, Frame)]
        self.driven.sent.clear()
        for frame in sent[-3:]:
            self.driven.feed(Frame(frame.command + 1 & 0xFF, frame.sn, body).encode())

    @rule(cut=st.integers(1, 12), seed=st.integers(0, 1000))
    def a_frame_stops_in_the_middle(self, cut: int, seed: int) -> None:
        self.driven.feed(frame_bytes(seed)[:cut])

    @rule(time=seconds)
    def time_passes(self, time: float) -> None:
        self.driven.wait(time)

    @rule()
    def the_line_goes_down_and_up(self) -> None:
        self.driven.unplug()
        self.driven.plug()

    @rule(command=st.integers(0, 255), payload=st.binary(max_size=20))
    def anything_is_sent(self, command: int, payload: bytes) -> None:
        machine: Any = self.driven.machine
        self.driven.call(lambda: machine.send(command, payload, now=self.driven.now))

    @invariant()
    def queues_are_bounded(self) -> None:
        endpoint = self.endpoint()
        assert len(endpoint._queue) <= QUEUE
        assert len(endpoint._later) <= QUEUE
        assert not endpoint._out

    def teardown(self) -> None:
        self.driven.wait(1.0)
        self.driven.unplug()


class WhateverModule(Whatever):
    @initialize()
    def starts(self) -> None:
        self.driven = Driven(ModuleRole())
        self.driven.plug()

    @property
    def module(self) -> ModuleRole:
        assert isinstance(self.driven.machine, ModuleRole)
        return self.driven.machine

    @rule(connected=st.booleans(), strength=st.integers(0, 100))
    def router(self, connected: bool, strength: int) -> None:
        self.driven.call(lambda: self.module.set_router(connected, now=self.driven.now, strength=strength))

    @rule(p0=st.binary(max_size=300))
    def p0_is_relayed(self, p0: bytes) -> None:
        self.driven.call(lambda: self.module.send_p0(p0, now=self.driven.now))

    @rule(size=st.integers(1, 700))
    def a_file_is_offered(self, size: int) -> None:
        self.driven.call(lambda: self.module.offer_file(Image(bytes(size)), now=self.driven.now))

    @rule(delay=st.sampled_from([0.0, 0.1, 2.0]))
    def it_reboots(self, delay: float) -> None:
        self.driven.call(lambda: self.module.reboot("a test", now=self.driven.now, delay=delay))


class WhateverMcu(Whatever):
    product = PET

    @initialize()
    def starts(self) -> None:
        self.driven = Driven(McuRole(self.product))
        self.driven.plug()

    @property
    def mcu(self) -> McuRole:
        assert isinstance(self.driven.machine, McuRole)
        return self.driven.machine

    @rule(data=st.data())
    def a_value_changes(self, data: st.DataObject) -> None:
        point = data.draw(st.sampled_from([p for p in self.product.points if not p.size or p.scale]))
        raw = data.draw(st.integers(0, point.raw_limit))
        self.driven.call(lambda: self.mcu.set_raw(point.name, raw, now=self.driven.now))

    @rule(mode=st.integers(0, 255))
    def it_asks_for_something(self, mode: int) -> None:
        ask = [self.mcu.ask_time, self.mcu.ask_module_info, self.mcu.reset_module, self.mcu.restart_module][
            mode % 4
        ]
        self.driven.call(lambda: ask(now=self.driven.now))

    @rule(size=st.integers(1, 700))
    def a_file_is_sent(self, size: int) -> None:
        self.driven.call(lambda: self.mcu.send_file(Image(bytes(size)), now=self.driven.now))


class WhateverVarMcu(WhateverMcu):
    product = VAR


TestModule = WhateverModule.TestCase
TestMcu = WhateverMcu.TestCase
TestVarMcu = WhateverVarMcu.TestCase
for _case in (TestModule, TestMcu, TestVarMcu):
    _case.settings = FEW
del _case


@given(
    seed=st.integers(0, 2**32),
    losses=st.sampled_from([0.0, 0.01, 0.2]),
    doing=st.lists(st.tuples(st.floats(0, 90), st.integers(0, 7)), max_size=12),
)
@settings(max_examples=8, deadline=None, derandomize=True)
def test_both_roles_on_a_bad_line(seed: int, losses: float, doing: list[tuple[float, int]]) -> None:
    random = Random(seed)
    link = MemoryLink()
    for end in (link.a, link.b):
        end.set_manipulator(
            chain(
                drop(random, losses),
                corrupt(random, losses),
                duplicate(random, losses),
                split(random, 9, gap=0.01),
            )
        )
    module, mcu = ModuleRole(), McuRole(PET)
    simulation: Simulation[Any] = Simulation((module, link.a), (mcu, link.b))

    def act(what: int) -> None:
        now = simulation.now
        with contextlib.suppress(GizserialError):
            if what == 0:
                module.send_p0(b"\x02", now=now)
            elif what == 1:
                module.send_p0(bytes.fromhex("01 27 07 C8 00 00 07"), now=now)
            elif what == 2:
                mcu.set_value("Temperature", random.randrange(-13, 180), now=now)
            elif what == 3:
                mcu.reset_module(now=now)
            elif what == 4:
                module.offer_file(Image(random.randbytes(600)), now=now)
            elif what == 5:
                simulation.unplug()
                simulation.plug()
            elif what == 6:
                module.set_router(True, now=now)
            else:
                mcu.restart_module(now=now)

    for time, what in doing:
        simulation.at(time, lambda what=what: act(what))  # type: ignore[misc]
    simulation.run(until=120)
    assert simulation.steps < 100_000
    for end in (link.a, link.b):
        end.set_manipulator(None)
    simulation.run(until=simulation.now + 240)
    assert module.info is not None, "on a good line they find each other again"


def test_a_refusal_is_no_finding() -> None:
    driven = Driven(McuRole(PET))
    with pytest.raises(EncodeError):
        driven.machine.set_raw("Nothing", 1, now=0.0)  # type: ignore[attr-defined]
    driven.call(lambda: driven.machine.set_raw("Nothing", 1, now=0.0))  # type: ignore[attr-defined]
