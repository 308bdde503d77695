"""Recordings of our two roles on a line in memory, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from gizserial.capture.record import Record
from gizserial.commands import Role
from gizserial.events import Event
from gizserial.io.driver import Direction, Machine
from gizserial.io.memory import MemoryLink
from gizserial.io.products import load_product
from gizserial.io.simulation import simulate
from gizserial.mcu import McuRole
from gizserial.mcu_options import McuOptions
from gizserial.module import ModuleRole
from gizserial.module_options import ModuleOptions
from gizserial.p0 import P0Codec

ROOT = Path(__file__).resolve().parents[1]
PET = ROOT / "fixtures" / "products" / "pet-house.json"
PRODUCT = load_product(PET)

Action = tuple[float, Callable[[], object]]


def record(
    module: ModuleRole | None = None,
    mcu: McuRole | None = None,
    *,
    until: float = 10.0,
    actions: Callable[[ModuleRole, McuRole], Iterable[Action]] = lambda _module, _mcu: (),
) -> list[Record]:
    """What crosses the line between two roles."""
    module = module or ModuleRole()
    mcu = mcu or McuRole(PRODUCT)
    records: list[Record] = []

    def heard(machine: Machine[Event], way: Direction, data: bytes, now: float) -> None:
        if way == "sent":
            role = Role.MODULE if machine is module else Role.MCU
            records.append(Record(round(now, 6), role.direction, data))

    simulate((module, mcu), MemoryLink(), until=until, on_bytes=heard, actions=actions(module, mcu))
    return records


def a_day(module: ModuleRole, mcu: McuRole) -> Iterable[Action]:
    """A control, a change at the product, a read."""
    p0 = P0Codec(PRODUCT)
    on = {name: PRODUCT.point(name).raw(value) for name, value in {"LED_OnOff": True, "LED_R": 200}.items()}
    return (
        (2.0, lambda: module.send_p0(p0.control(on), now=2.0)),
        (4.0, lambda: mcu.set_value("Temperature", 25, now=4.0)),
        (6.0, lambda: module.send_p0(p0.read(), now=6.0)),
    )


def late_mcu() -> McuRole:
    """An MCU with habits that show."""
    options = McuOptions(
        soft_ver="03030000", info_variant="B", answers_late_ms=30, report_after_control=False, tries=2
    )
    return McuRole(PRODUCT, options, values={"Temperature": 21})


def old_module() -> ModuleRole:
    """A module with habits that show."""
    return ModuleRole(
        ModuleOptions(heartbeat_s=3.0, soft_ver="04020006", unstuffed_ack=True), mac="5AFE00000001"
    )
