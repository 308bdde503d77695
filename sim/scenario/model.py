"""A scenario as it was written: setup, variables, steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from gizserial.errors import GizserialError
from gizserial.io.products import load_product
from gizserial.m2m.identity import Identity
from gizserial.mcu_options import McuOptions
from gizserial.module_options import ModuleOptions
from gizserial.product import Product
from sim.mcu_defects import chosen
from sim.quirks import with_quirks
from sim.scenario.checks import VARIABLE_NAME, check, quirk_words
from sim.scenario.grammar import TOP, Step
from sim.scenario.nodes import Node, ScenarioError, read_file, read_nodes

MAX_TIME: Final = 600.0
"""Seconds that a run may take, unless the scenario says otherwise."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Who plays, on which line, in which time."""

    product: Product
    module_port: str | None = None
    """Where the real module is; None: it is simulated."""
    mcu_port: str | None = None
    module_quirks: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    mcu_quirks: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    mac: str = "0123456789AB"
    provisioned: bool = True
    signal: int = 80
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    defects: tuple[str, ...] = ()
    cloud: str = "none"
    real_clock: bool = False
    baud: int = 9600
    begin: str | None = None
    """``running``: the first step is done when the handshake is over; ``power-up``: at once. None: at once
    where the module is a real one, which may have been up for long."""
    faults: tuple[str, ...] = ()
    seed: int = 1
    max_time: float = MAX_TIME

    @property
    def running(self) -> bool:
        """The first step is done when the handshake is over."""
        return (self.begin or ("running" if self.module_port is None else "power-up")) == "running"

    @property
    def virtual(self) -> bool:
        """It can run in virtual time."""
        return not (self.real_clock or self.module_port or self.mcu_port or self.cloud == "simulated")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A scenario that can be run."""

    title: str
    source: str
    setup: Setup
    variables: Mapping[str, Any]
    steps: tuple[Step, ...]

    @classmethod
    def load(cls, path: str | Path) -> Scenario:
        """Read a file.

        :raises ScenarioError: it cannot be read, or is no scenario; with line and column.
        """
        path = Path(path)
        return cls.parse(read_file(path), source=str(path), base=path.parent)

    @classmethod
    def parse(cls, text: bytes | str, *, source: str = "scenario", base: Path | None = None) -> Scenario:
        """Read YAML.

        :param base: Where relative paths begin.
        :raises ScenarioError: as :meth:`load`.
        """
        node = read_nodes(text.encode() if isinstance(text, str) else text, source)
        top = TOP.read(node)
        setup_node = node.value["setup"][1]
        setup = _setup(top["setup"], setup_node, base or Path())
        scenario = cls(
            title=str(top.get("scenario") or Path(source).stem),
            source=source,
            setup=setup,
            variables=dict(top.get("variables", {})),
            steps=tuple(top["steps"]),
        )
        for name, (place, _) in node.value["variables"][1].value.items() if scenario.variables else ():
            if not VARIABLE_NAME.fullmatch(f"${{{name}}}"):
                raise ScenarioError(
                    f"{name!r} is no name of a variable: letters, digits and _, no digit first", place
                )
        check(scenario)
        return scenario

    def replaced(self, **changes: Any) -> Scenario:
        """The same with other members of the setup (port, seed, ...)."""
        return dataclasses.replace(self, setup=dataclasses.replace(self.setup, **changes))


def _setup(given: dict[str, Any], node: Node, base: Path) -> Setup:
    for name, value in given.items():
        if "${" in str(value):
            raise node.value[name][1].fault("variables stand in steps only; write the value itself")
    try:
        product = load_product(base / given["product"])
    except GizserialError as error:
        raise node.value["product"][1].fault(str(error)) from error
    module = given.get("module", {})
    mcu = given.get("mcu", {})
    module = {} if isinstance(module, str) else module
    mcu = {} if isinstance(mcu, str) else mcu
    if "port" in module and "port" in mcu:
        raise node.value["mcu"][1].fault("module and mcu have a port each; one of the two is simulated")
    _check_played(node, "module", module, product)
    _check_played(node, "mcu", mcu, product)
    setup = Setup(
        product=product,
        module_port=module.get("port"),
        mcu_port=mcu.get("port"),
        module_quirks=module.get("quirks", {}),
        mcu_quirks=mcu.get("quirks", {}),
        mac=module.get("mac", "0123456789AB"),
        provisioned=module.get("provisioned", True),
        signal=module.get("signal", 80),
        values=mcu.get("values", {}),
        defects=tuple(mcu.get("defects", ())),
        cloud=given.get("cloud", "none"),
        real_clock=given.get("clock") == "real",
        baud=given.get("baud", 9600),
        begin=given.get("begin"),
        faults=tuple(given.get("faults", ())),
        seed=given.get("seed", 1),
        max_time=given.get("max time", MAX_TIME),
    )
    if given.get("clock") == "virtual" and not setup.virtual:
        why = (
            "a real port" if setup.module_port or setup.mcu_port else "a simulated cloud, which has sockets,"
        )
        raise node.value["clock"][1].fault(f"{why} needs the real clock: write clock: real")
    return setup


def _check_played(node: Node, role: str, given: Mapping[str, Any], product: Product) -> None:
    checks: dict[str, Callable[[Any], object]] = {
        "mac": lambda mac: Identity(mac=mac),
        "quirks": lambda quirks: with_quirks(
            ModuleOptions() if role == "module" else McuOptions(), quirk_words(quirks)
        ),
        "values": lambda values: [product.point(name).raw(value) for name, value in values.items()],
        "defects": lambda defects: chosen(defects, product),
    }
    for name, value in given.items():
        try:
            checks.get(name, lambda _value: None)(value)
        except GizserialError as error:
            raise node.value[role][1].value[name][1].fault(str(error)) from None
