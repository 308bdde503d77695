"""A scenario as it was written: setup, variables, steps."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from gizserial.codec import Codec
from gizserial.encoding import encode, frame_names
from gizserial.errors import EncodeError, GizserialError
from gizserial.io.products import load_product
from gizserial.product import Product
from sim.scenario.grammar import OUTSIDE_FRAMES, TOP, Step
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
    running: bool = True
    """The first step is done when the handshake is over."""
    faults: tuple[str, ...] = ()
    seed: int = 1
    max_time: float = MAX_TIME

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
        _check(scenario)
        return scenario

    def replaced(self, **changes: Any) -> Scenario:
        """The same with other members of the setup (port, seed, ...)."""
        return dataclasses.replace(self, setup=dataclasses.replace(self.setup, **changes))


def _setup(given: dict[str, Any], node: Node, base: Path) -> Setup:
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
    for name in mcu.get("values", {}):
        if name not in product.by_name:
            raise node.value["mcu"][1].fault(
                f"the product has no data point {name!r}; it has: {', '.join(product.by_name)}"
            )
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
        running=given.get("begin", "power-up" if "port" in module else "running") == "running",
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


# --- what can be seen without running it


def all_steps(steps: tuple[Step, ...] | list[Step]) -> Iterator[Step]:
    """These steps and those inside of them."""
    for step in steps:
        yield step
        if step.kind == "repeat":
            yield from all_steps(step.args["steps"])
        elif step.kind == "parallel":
            for branch in step.args:
                yield from all_steps(branch)


def _check(scenario: Scenario) -> None:
    known = set(scenario.variables)
    for step in all_steps(scenario.steps):
        if step.kind == "repeat" and "as" in step.args:
            known.add(step.args["as"])
    codec = Codec(scenario.setup.product)
    for step in all_steps(scenario.steps):
        if step.kind in {"repeat", "parallel"}:
            continue
        for name in _variables(step.args):
            if name not in known:
                there = ", ".join(known) or "none"
                raise ScenarioError(
                    f"there is no variable {name!r}; add it to variables: (known: {there})", step.place
                )
        try:
            _check_step(step, codec)
        except EncodeError as error:
            raise ScenarioError(str(error), step.place) from None


def _check_step(step: Step, codec: Codec) -> None:
    product = codec.product
    if product is None:
        return
    points: list[str] = []
    args = step.args
    if step.kind == "send" and not any(_variables(args)):
        name, words = send_words(args)
        if name:
            encode(codec, name, words)
    elif step.kind == "expect":
        spec = expectation(args)
        points = [*spec.get("attrs", {}), *spec.get("values", {})]
        frame = spec.get("frame") or spec.get("nothing")
        if frame not in {None, "any", *frame_names(), *OUTSIDE_FRAMES}:
            raise EncodeError(f"there is no frame {frame!r}; see gizserial table, or write noise or error")
    elif step.kind == "set":
        points = list(args)
    elif step.kind == "cloud" and isinstance(args, dict):
        points = [*args.get("control", {}), *args.get("expect", {})]
    for name in points:
        point = product.point(name)
        if step.kind == "set" and not any(_variables(args[name])):
            point.raw(args[name])


def send_words(args: Any) -> tuple[str, list[str]]:
    """Name and FIELD=VALUE words of a send step; no name where it has hex."""
    if isinstance(args, str):
        name, *words = args.split()
        return name, words
    fields = args.get("fields", {})
    words = [f"{name}={text_of(value)}" for name, value in fields.items()]
    return args.get("frame", ""), [*words, *args.get("points", ())]


def expectation(args: Any) -> dict[str, Any]:
    """An expect step in its long form; the short one compares data points with texts."""
    if not isinstance(args, str):
        return dict(args)
    name, *words = args.split()
    attrs: dict[str, Any] = {}
    for word in words:
        point, equals, value = word.partition("=")
        if not equals:
            raise EncodeError(f"{word!r} is not NAME=VALUE; write what else is expected as members")
        attrs[point] = value
    return {"frame": name, "attrs": attrs} if attrs else {"frame": name}


def text_of(value: Any) -> str:
    """A scalar as it is typed."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


_NAME: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def _variables(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _NAME.findall(value)
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from _variables(member)
    elif isinstance(value, list):
        for member in value:
            yield from _variables(member)


def fill(value: Any, variables: Mapping[str, Any]) -> Any:
    """The value with its variables put in; one that is nothing but a variable keeps the variable's type."""
    if isinstance(value, str):
        whole = _NAME.fullmatch(value)
        if whole is not None:
            return variables[whole[1]]
        return _NAME.sub(lambda match: text_of(variables[match[1]]), value)
    if isinstance(value, Mapping):
        return {name: fill(member, variables) for name, member in value.items()}
    if isinstance(value, list):
        return [fill(member, variables) for member in value]
    return value
