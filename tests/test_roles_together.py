"""The two roles against each other in virtual time: days on a bad line, and any order of calls."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gizserial.commands import Command
from gizserial.datapoints import Raw
from gizserial.endpoint import QueueFullError
from gizserial.events import (
    Booted,
    ControlApplied,
    Event,
    FrameSent,
    HandshakeDone,
    P0Acked,
    Reported,
    ReportReceived,
    StatusChanged,
)
from gizserial.framing import Frame
from gizserial.io.driver import Machine
from gizserial.io.memory import (
    Manipulator,
    MemoryLink,
    chain,
    corrupt,
    delay,
    drop,
    drop_writes,
    duplicate,
    split,
)
from gizserial.io.products import load_product
from gizserial.io.simulation import Simulation
from gizserial.mcu import McuRole
from gizserial.mcu_options import McuOptions
from gizserial.mcu_reports import is_slow
from gizserial.module import ModuleRole
from gizserial.module_options import ModuleOptions
from gizserial.p0 import P0Codec
from gizserial.product import DataPoint, DataType, Product

BYTE_TIME = 10 / 9600
DAY = 24 * 3600.0
ROOT = Path(__file__).resolve().parent.parent


def product_of(name: str) -> Product:
    return load_product(ROOT / "fixtures" / "products" / f"{name}.json")


def any_raw(rng: Random, point: DataPoint) -> Raw:
    if point.data_type is DataType.BINARY:
        return rng.randbytes(point.size)
    if point.data_type is DataType.ENUM:
        return rng.randrange(len(point.texts))
    return rng.randint(0, point.raw_limit)


class House:
    """A module and an MCU on a line, values that change and controls that come.

    ``seen`` is what somebody behind the module knows: the last report or answer of each point.
    """

    def __init__(
        self,
        product: Product,
        seed: int,
        *,
        module: ModuleOptions | None = None,
        mcu: McuOptions | None = None,
    ) -> None:
        self.product, self.rng = product, Random(seed)
        self.codec = P0Codec(product)
        self.module = ModuleRole(module or ModuleOptions(byte_time=BYTE_TIME))
        self.mcu = McuRole(product, mcu or McuOptions(byte_time=BYTE_TIME))
        self.link = MemoryLink(byte_time=BYTE_TIME)
        self.sim: Simulation[Event] = Simulation(
            (self.module, self.link.a), (self.mcu, self.link.b), on_event=self._on_event
        )
        self.seen: dict[str, Raw] = dict(self.mcu.raw)
        self.sent: dict[tuple[str, int], list[tuple[float, int]]] = {}
        self.events: dict[type, int] = {}
        self.reports: list[tuple[float, Reported]] = []
        self.controls = 0

    def _on_event(self, machine: Machine[Event], event: Event, now: float) -> None:
        self.events[type(event)] = self.events.get(type(event), 0) + 1
        if isinstance(event, FrameSent):
            side = "module" if machine is self.module else "mcu"
            self.sent.setdefault((side, event.frame.command), []).append((now, event.attempt))
        elif isinstance(event, Reported):
            self.reports.append((now, event))
        elif isinstance(event, ReportReceived):
            self._learn(event.p0, Command.P0_FROM_MCU)
        elif isinstance(event, P0Acked):
            self._learn(event.p0, Command.P0_TO_MCU + 1)

    def _learn(self, p0: bytes, carrier: int) -> None:
        self.seen.update(self.codec.parse(p0, carrier).raw or {})

    def faults(self, make: Callable[[Random], Manipulator] | None) -> None:
        for end in (self.link.a, self.link.b):
            end.set_manipulator(make(self.rng) if make else None)

    def change(self) -> None:
        point = self.rng.choice(self.product.points)
        self.mcu.set_raw(point.name, any_raw(self.rng, point), now=self.sim.now)

    def control(self) -> None:
        chosen = self.rng.sample(self.product.writable, self.rng.randint(1, len(self.product.writable)))
        self.relay(self.codec.control({point.name: any_raw(self.rng, point) for point in chosen}))

    def read(self) -> None:
        self.relay(self.codec.read())

    def relay(self, p0: bytes) -> None:
        try:
            self.module.send_p0(p0, now=self.sim.now)
        except QueueFullError:
            return
        self.controls += 1

    def live_on(self, seconds: float, *, every: float) -> None:
        """Let things happen at random moments, ``every`` seconds on average."""
        end = self.sim.now + seconds
        while (moment := self.sim.now + self.rng.uniform(0, 2 * every)) < end:
            self.sim.run(until=moment)
            draw = self.rng.random()
            (self.change if draw < 0.7 else self.control if draw < 0.95 else self.read)()
        self.sim.run(until=end)


FAULTS: dict[str, Callable[[Random], Manipulator]] = {
    "1 % of bytes damaged": lambda rng: corrupt(rng, 0.01),
    "1 % of bytes lost": lambda rng: drop(rng, 0.01),
    "10 % of writes lost": lambda rng: drop_writes(rng, 0.1),
    "20 % of writes doubled": lambda rng: duplicate(rng, 0.2),
    "in pieces with gaps": lambda rng: split(rng, 7, gap=0.05),
    "late": lambda rng: delay(rng, 0.0, 0.3),
    "everything": lambda rng: chain(
        delay(rng, 0.0, 0.1),
        duplicate(rng, 0.05),
        drop(rng, 0.005),
        split(rng, 9, gap=0.02),
        corrupt(rng, 0.005),
    ),
}


def check_rules(house: House, seconds: float) -> None:
    """Nothing was sent more often than the rules allow."""
    for (side, command), sent in house.sent.items():
        assert max(attempt for _time, attempt in sent) <= 3, (side, hex(command))
    boots, done = house.events.get(Booted, 0), house.events.get(HandshakeDone, 0)
    firsts = {key: [time for time, attempt in sent if attempt == 1] for key, sent in house.sent.items()}
    assert len(firsts["module", Command.DEVICE_INFO]) <= boots * 10
    beats = firsts["module", Command.HEARTBEAT]
    assert len(beats) <= seconds / 55
    assert boots > 1 or all(b - a >= 54 for a, b in itertools.pairwise(beats))
    assert len(firsts["module", Command.STATUS]) == house.events[StatusChanged] <= seconds / 600 + 1 + done
    assert len(firsts.get(("module", Command.P0_TO_MCU), ())) <= house.controls

    slow = {point.name for point in house.product.points if is_slow(point)}
    last, last_full = float("-inf"), 0.0
    for now, report in house.reports:
        if report.why == "periodic":
            assert now - last_full >= 600
            last_full = now
        elif report.why == "change" and slow.issuperset(report.names):
            # Reports that other points caused do not count, as in the recorded SDK.
            assert now - last >= 6 - 1e-6, report
            last = now
    by_control = [report for _now, report in house.reports if report.why == "control"]
    assert len(by_control) <= house.events.get(ControlApplied, 0)


def check_agreement(house: House) -> None:
    """After the damage at most one period brings both to the same values."""
    house.faults(None)
    house.sim.run(until=house.sim.now + 700)
    assert house.seen == dict(house.mcu.raw)


@pytest.mark.parametrize("name", ["pet-house", "var-len"])
def test_a_day_with_one_percent_of_bytes_damaged(name: str) -> None:
    seed = 20250411
    house = House(product_of(name), seed)
    house.faults(FAULTS["1 % of bytes damaged"])
    house.live_on(DAY, every=60)
    check_rules(house, DAY)
    assert house.events[HandshakeDone] >= 1, f"seed {seed}"
    assert len(house.reports) > 800, f"seed {seed}"
    check_agreement(house)


@pytest.mark.parametrize("name", ["pet-house", "var-len"])
@pytest.mark.parametrize("fault", FAULTS)
def test_an_hour_with_every_fault(name: str, fault: str) -> None:
    seed = 4711
    house = House(product_of(name), seed)
    house.faults(FAULTS[fault])
    house.live_on(3600, every=15)
    check_rules(house, 3600)
    check_agreement(house)


def test_a_quiet_day_on_a_good_line_has_what_the_rules_say() -> None:
    house = House(product_of("pet-house"), 1)
    house.sim.run(until=DAY)
    assert house.events[Booted] == house.events[HandshakeDone] == 1
    firsts = {key: len(sent) for key, sent in house.sent.items()}
    assert firsts["module", Command.HEARTBEAT] == int(DAY // 55)
    # at the first tick, then 600 s after each push
    assert firsts["module", Command.STATUS] == 1 + int((DAY - 1) // 600)
    assert abs(firsts["mcu", Command.P0_FROM_MCU] - DAY / 600) <= 1
    assert all(attempt == 1 for sent in house.sent.values() for _time, attempt in sent)


def test_both_sides_with_every_quirk_survive_a_bad_line() -> None:
    house = House(
        product_of("var-len"),
        7,
        module=ModuleOptions(
            byte_time=BYTE_TIME,
            heartbeat_policy="idle",
            sn_skips_0_255=True,
            unstuffed_ack=True,
            silent_on_unknown=True,
            single_outstanding_drop=True,
            dedup=False,
        ),
        mcu=McuOptions(
            byte_time=BYTE_TIME,
            ack_match_sn=False,
            pending_overwrite=True,
            dedup=False,
            report_flags_ff=True,
            answer_last_reported=True,
            report_after_control=False,
            no_ack_on_bad_sum_notice=False,
            answers_late_ms=20,
            drops_every_nth=17,
            bad_checksum_every_nth=13,
        ),
    )
    house.faults(FAULTS["1 % of bytes damaged"])
    house.live_on(3600, every=10)
    # Its checksums stay bad and its ears deaf, so a report may be lost for good; two periods are enough here.
    house.faults(None)
    house.sim.run(until=house.sim.now + 1300)
    assert house.seen == dict(house.mcu.raw)


def test_a_pulled_cable_and_a_restarting_mcu_end_in_agreement() -> None:
    house = House(product_of("pet-house"), 3)
    for _ in range(20):
        house.live_on(30, every=2)
        house.sim.unplug()
        house.change()
        house.sim.run(until=house.sim.now + house.rng.uniform(0, 400))
        house.sim.plug()
        house.live_on(30, every=2)
        house.module.restart_mcu(now=house.sim.now)
    check_agreement(house)


# --- any order of calls


@settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
class Together(RuleBasedStateMachine):
    """Nothing raises but for a full queue, nothing grows without bound, no machine is stuck."""

    @initialize(name=st.sampled_from(["pet-house", "var-len"]), seed=st.integers(0, 1 << 32))
    def begin(self, name: str, seed: int) -> None:
        self.house = House(product_of(name), seed)
        self.house.sim.run(until=2)

    @property
    def now(self) -> float:
        return self.house.sim.now

    @rule(seconds=st.sampled_from([0.0, 0.003, 0.2, 1.0, 7.0, 60.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self.house.sim.run(until=self.now + seconds)

    @rule(fault=st.sampled_from([None, *FAULTS]))
    def fault(self, fault: str | None) -> None:
        self.house.faults(FAULTS[fault] if fault else None)

    @rule()
    def change(self) -> None:
        self.house.change()

    @rule(times=st.integers(1, 40))
    def control(self, times: int) -> None:
        for _ in range(times):
            self.house.control()

    @rule()
    def read(self) -> None:
        self.house.read()

    @rule(data=st.binary(max_size=40), to_module=st.booleans())
    def noise(self, data: bytes, to_module: bool) -> None:
        (self.house.link.b if to_module else self.house.link.a).write(data, now=self.now)

    @rule(
        command=st.integers(0, 255),
        sn=st.integers(0, 255),
        flags=st.sampled_from([0, 0, 0, 1, 0xFFFF]),
        payload=st.binary(max_size=40),
        to_module=st.booleans(),
    )
    def any_frame(self, command: int, sn: int, flags: int, payload: bytes, to_module: bool) -> None:
        end = self.house.link.b if to_module else self.house.link.a
        end.write(Frame(command, sn, payload, flags).encode(), now=self.now)

    @rule(command=st.integers(0, 255), payload=st.binary(max_size=40), module=st.booleans())
    def any_request(self, command: int, payload: bytes, module: bool) -> None:
        role = self.house.module if module else self.house.mcu
        try:
            role.send(command, payload, now=self.now)
        except QueueFullError:
            return

    @rule(
        call=st.sampled_from(
            [
                "reset_module",
                "open_bind_window",
                "start_test",
                "ask_time",
                "ask_module_info",
                "restart_module",
            ]
        )
    )
    def ask(self, call: str) -> None:
        try:
            getattr(self.house.mcu, call)(now=self.now)
        except QueueFullError:
            return

    @rule(router=st.booleans(), cloud=st.booleans(), apps=st.integers(0, 2), strength=st.integers(0, 100))
    def network(self, router: bool, cloud: bool, apps: int, strength: int) -> None:
        module = self.house.module
        module.set_router(router, now=self.now, strength=strength)
        module.set_cloud(cloud, now=self.now)
        module.set_apps(apps, now=self.now)

    @rule()
    def reboot(self) -> None:
        self.house.module.reboot("a test", now=self.now)

    @rule()
    def cable(self) -> None:
        self.house.sim.unplug()
        self.house.sim.run(until=self.now + 1)
        self.house.sim.plug()

    @invariant()
    def bounded(self) -> None:
        if hasattr(self, "house"):
            for role in (self.house.module, self.house.mcu):
                # 16, and of the module's own one heartbeat, one status and one 01
                assert len(role._endpoint._queue) <= 16 + 3
                due = role.next_timeout()
                assert due is None or due > float("-inf")

    def teardown(self) -> None:
        if hasattr(self, "house"):
            check_agreement(self.house)


test_any_order_of_calls = Together.TestCase
