"""What can be judged before a scenario runs: variables, frames, data points, who is needed for a step."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from gizserial.adapters import Body
from gizserial.codec import Codec
from gizserial.commands import EMPTY, FRAME_IDS, FRAMES, P0_BODY
from gizserial.encoding import encode, frame_names
from gizserial.errors import EncodeError, UnknownName
from gizserial.product import DataPoint, DataType, Product
from sim.scenario.grammar import OUTSIDE_FRAMES, STEPS, Step
from sim.scenario.match import number_of
from sim.scenario.nodes import Node, Place, ScenarioError

if TYPE_CHECKING:
    from sim.scenario.model import Scenario, Setup

WITHIN: Final = 2.0
"""Seconds that an expectation waits unless it says otherwise."""


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
        _check_parts(step, scenario.setup)
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


_NEEDS: Final = {"set": "mcu", "press": "mcu", "wifi": "module", "cloud": "module", "restart": "module"}
"""Which simulator does a step."""


def needs_simulated(step: Step, role: str) -> ScenarioError:
    """A step for which the real one at a port cannot be used."""
    return ScenarioError(f"{step.kind} needs a simulated {role}; here the real one is at a port", step.place)


def _check_parts(step: Step, setup: Setup) -> None:
    """Whether the simulators and the cloud that a step needs are there."""
    args = step.args if isinstance(step.args, dict) else {}
    role = "mcu" if step.kind == "expect" and "values" in args else _NEEDS.get(step.kind)
    if {"module": setup.module_port, "mcu": setup.mcu_port}.get(role or "") is not None:
        raise needs_simulated(step, str(role))
    if step.kind == "cloud" and setup.cloud == "none":
        raise ScenarioError("there is no cloud; write cloud: pretended in the setup", step.place)
    if step.kind == "cloud" and "fault" in args and setup.cloud != "simulated":
        raise ScenarioError("faults need cloud: simulated; a pretended one has no connections", step.place)
    if step.kind == "cloud" and "time" in args and setup.cloud != "pretended":
        raise ScenarioError("time needs cloud: pretended; a simulated one gives its own", step.place)


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
    _check_bounds(spec)
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


def _check_bounds(spec: Mapping[str, Any]) -> None:
    """A time or a value between bounds that leave nothing between them never comes."""
    within = spec.get("within", WITHIN)
    if spec.get("not before", 0.0) > within:
        raise EncodeError(f"not before is later than within, which is {within:g} s; write a longer within")
    for group in ("attrs", "values", "fields"):
        for name, wanted in spec.get(group, {}).items():
            if isinstance(wanted, Mapping) and wanted.get("min", -math.inf) > wanted.get("max", math.inf):
                raise EncodeError(f"{name}: min {wanted['min']} is more than max {wanted['max']}")


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


VARIABLE_NAME: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def _variables(value: Any, step: Step | None = None) -> Iterator[str]:
    """The variables that are named.

    :raises ScenarioError: one is named wrongly.
    """
    if isinstance(value, str):
        names = VARIABLE_NAME.findall(value)
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
        whole = VARIABLE_NAME.fullmatch(value)
        if whole is not None:
            return variables[whole[1]]
        return VARIABLE_NAME.sub(lambda match: text_of(variables[match[1]]), value)
    if isinstance(value, Mapping):
        return {name: fill(member, variables) for name, member in value.items()}
    if isinstance(value, list):
        return [fill(member, variables) for member in value]
    return value


def quirk_words(quirks: Mapping[str, Any]) -> list[str]:
    """Quirks as ``NAME=VALUE`` words."""
    return [f"{name}={text_of(value)}" for name, value in quirks.items()]
