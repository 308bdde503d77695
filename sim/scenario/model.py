"""A scenario as it was written: setup, variables, steps."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from gizserial.adapters import Body
from gizserial.codec import Codec
from gizserial.commands import EMPTY, FRAME_IDS, FRAMES, P0_BODY
from gizserial.encoding import encode, frame_names
from gizserial.errors import EncodeError, GizserialError, UnknownName
from gizserial.io.products import load_product
from gizserial.m2m.identity import Identity
from gizserial.mcu_options import McuOptions
from gizserial.module_options import ModuleOptions
from gizserial.product import DataPoint, DataType, Product
from sim.mcu_defects import chosen
from sim.quirks import with_quirks
from sim.scenario.grammar import OUTSIDE_FRAMES, STEPS, TOP, Step
from sim.scenario.match import number_of
from sim.scenario.nodes import Node, Place, ScenarioError, read_file, read_nodes

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
        for name, (place, _) in node.value["variables"][1].value.items() if scenario.variables else ():
            if not _NAME.fullmatch(f"${{{name}}}"):
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


def quirk_words(quirks: Mapping[str, Any]) -> list[str]:
    """Quirks as ``NAME=VALUE`` words."""
    return [f"{name}={text_of(value)}" for name, value in quirks.items()]


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


def check(scenario: Scenario, variables: Mapping[str, Any] | None = None) -> None:
    """Whether its steps can be done with this product and these variables, as far as that can be seen.

    :param variables: Values in place of the scenario's own.
    :raises ScenarioError: a step cannot.
    """
    given = {**scenario.variables, **(variables or {})}
    steps = list(all_steps(scenario.steps))
    counted = {step.args["as"] for step in steps if step.kind == "repeat" and "as" in step.args}
    codec = Codec(scenario.setup.product)
    for step in steps:
        own = own_args(step)
        names = set(_variables(own, step))
        for name in sorted(names):
            if name not in given and name not in counted:
                there = ", ".join({**given, **dict.fromkeys(counted)}) or "none"
                raise ScenarioError(
                    f"there is no variable {name!r}; add it to variables: (known: {there})", step.place
                )
        if names & counted:
            continue  # known only while it runs
        args = filled(step, given)
        try:
            check_step(step.kind, args, codec)
        except EncodeError as error:
            raise ScenarioError(str(error), step.place) from None


def own_args(step: Step) -> Any:
    """What a step says itself, without the steps inside of it."""
    if step.kind == "parallel":
        return None
    if step.kind == "repeat":
        return {name: value for name, value in step.args.items() if name != "steps"}
    return step.args


def filled(step: Step, variables: Mapping[str, Any]) -> Any:
    """What :func:`own_args` gives, with the variables put in.

    :raises ScenarioError: a variable is something that cannot stand there.
    """
    own = own_args(step)
    names = sorted(set(_variables(own, step)))
    if not names:
        return own
    node = _node(fill(own, variables), step.place)
    shape = STEPS[step.kind][0]
    try:
        if step.kind != "repeat":
            return shape.read(node)
        return {name: shape.members[name].shape.read(item) for name, (_, item) in node.value.items()}
    except ScenarioError as error:
        values = ", ".join(f"${{{name}}} is {text_of(variables[name])!r}" for name in names)
        raise ScenarioError(f"{error.sentence} ({values})", step.place) from None


def _node(value: Any, place: Place) -> Node:
    if isinstance(value, Mapping):
        return Node({name: (place, _node(member, place)) for name, member in value.items()}, place)
    if isinstance(value, list):
        return Node([_node(member, place) for member in value], place)
    return Node(value, place)


def check_step(kind: str, args: Any, codec: Codec) -> None:
    """Whether frames, fields, data points and values of a step are there.

    :raises EncodeError: one is not.
    """
    product = codec.product
    assert product is not None  # noqa: S101 - a setup has one
    if kind == "send":
        name, words = send_words(args)
        if name or "hex" not in args:
            encode(codec, name, words)
    elif kind == "set":
        for name, value in args.items():
            product.point(name).raw(value)
    elif kind == "expect":
        _check_expectation(expectation(args), product)
    elif kind == "cloud" and isinstance(args, dict):
        for name, value in args.get("control", {}).items():
            point = product.point(name)
            point.raw(value)
            if not point.writable:
                raise EncodeError(f"{name} cannot be controlled: it is not writable")
        _check_matches(args.get("expect", {}), product)


def _check_expectation(spec: Mapping[str, Any], product: Product) -> None:
    """An expectation that nothing can fulfil would let `nothing` and `count: 0` pass whatever comes."""
    _check_matches({**spec.get("attrs", {}), **spec.get("values", {})}, product)
    name = spec["frame"] if "frame" in spec else spec.get("nothing", "any")
    if name == "any":
        return
    if name in OUTSIDE_FRAMES:
        for member in ("attrs", "fields", "sn"):
            if member in spec:
                raise EncodeError(f"{member}: {name} has none; it is no frame")
        return
    if name not in frame_names():
        raise EncodeError(f"there is no frame {name!r}; see gizserial table, or write noise or error")
    frame = FRAMES[FRAME_IDS[name]] if name in FRAME_IDS else None
    if frame is None:
        return
    if "attrs" in spec and frame.body != P0_BODY:
        raise EncodeError(f"attrs: {name} has no data points; what it has are fields")
    if isinstance(frame.body, Body):
        for field in spec.get("fields", {}):
            if field not in {*frame.body.names, *frame.flag_bits}:
                raise UnknownName("field", field, (*frame.body.names, *frame.flag_bits))
    elif frame.body == EMPTY and spec.get("fields"):
        raise EncodeError(f"fields: {name} has none")


def _check_matches(expected: Mapping[str, Any], product: Product) -> None:
    for name, wanted in expected.items():
        point = product.point(name)
        if not isinstance(wanted, Mapping):
            _check_value(point, wanted)
            continue
        for word in ("is", "not"):
            if word in wanted:
                _check_value(point, wanted[word])
        for one in wanted.get("in", ()):
            _check_value(point, one)
        for word in ("min", "max", "tolerance"):
            if word in wanted and point.scale is None:
                raise EncodeError(f"{name} is no number, so it has no {word}")


def _check_value(point: DataPoint, value: Any) -> None:
    """A number outside of the definition may be what is expected of a faulty device; a text may not."""
    try:
        point.raw(value)
    except EncodeError:
        if point.data_type is DataType.BOOL or number_of(value) is None:
            raise


def send_words(args: Any) -> tuple[str, list[str]]:
    """Name and FIELD=VALUE words of a send step; no name where it has hex."""
    if isinstance(args, str):
        name, *words = args.split() or [""]
        return name, words
    fields = args.get("fields", {})
    words = [f"{name}={text_of(value)}" for name, value in fields.items()]
    return args.get("frame", ""), [*words, *args.get("points", ())]


def expectation(args: Any) -> dict[str, Any]:
    """An expect step in its long form; the short one compares data points with texts."""
    if not isinstance(args, str):
        return dict(args)
    name, *words = args.split() or [""]
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


def _variables(value: Any, step: Step | None = None) -> Iterator[str]:
    """The variables that are named.

    :raises ScenarioError: one is named wrongly.
    """
    if isinstance(value, str):
        names = _NAME.findall(value)
        if len(names) != value.count("${"):
            raise ScenarioError(
                "a variable is written ${NAME}; NAME has letters, digits and _, no digit first",
                step.place if step is not None else None,
            )
        yield from names
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from _variables(member, step)
    elif isinstance(value, list):
        for member in value:
            yield from _variables(member, step)


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
