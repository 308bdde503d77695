"""What the parts of a scenario look like: one description for the reader and for the JSON Schema.

Every shape reads a node (:raises ScenarioError: with its place) and says what it is in JSON Schema.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from sim.faults import FaultError, seconds
from sim.scenario.nodes import Node, ScenarioError

Schema = dict[str, Any]
VARIABLE: Final = r"\$\{[A-Za-z_][A-Za-z0-9_]*\}"


class Shape(Protocol):
    """What a part looks like."""

    def read(self, node: Node) -> Any:
        """The value of a node."""

    def schema(self) -> Schema:
        """The shape in JSON Schema."""

    def takes(self, node: Node) -> bool:
        """Whether the node is of this kind at all; :class:`Either` chooses by it."""


def _is_variable(node: Node) -> bool:
    return isinstance(node.value, str) and re.fullmatch(VARIABLE, node.value) is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """A text; with ``choices`` one of these."""

    what: str = "a text"
    choices: Sequence[str] = ()
    check: Callable[[str], object] | None = None
    """Raises ValueError with a sentence for what is no good; not asked where a variable stands."""

    def takes(self, node: Node) -> bool:
        """Whether the node is of this kind."""
        return isinstance(node.value, str | int | float | bool)

    def read(self, node: Node) -> Any:
        """The value of a node."""
        if not self.takes(node):
            raise node.fault(f"here stands {self.what}")
        text = _typed(node)
        if self.choices and text not in self.choices:
            raise node.fault(f"{text!r} is not known here; {_nearest(text, self.choices)}")
        if self.check is not None and "${" not in text:
            try:
                self.check(text)
            except ValueError as error:
                raise node.fault(str(error)) from None
        return text

    def schema(self) -> Schema:
        """The shape in JSON Schema."""
        return {"enum": list(self.choices)} if self.choices else {"type": ["string", "number", "boolean"]}


@dataclasses.dataclass(frozen=True, slots=True)
class Whole:
    """A whole number."""

    least: int = 0
    most: int = 1_000_000

    def takes(self, node: Node) -> bool:
        """Whether the node is of this kind."""
        return (isinstance(node.value, int) and not isinstance(node.value, bool)) or _is_variable(node)

    def read(self, node: Node) -> Any:
        """The value of a node."""
        if _is_variable(node):
            return node.value
        digits = isinstance(node.value, str) and re.fullmatch("[0-9]{1,12}", node.value)
        number = int(node.value) if digits else node.value
        if not (digits or self.takes(node)) or not self.least <= number <= self.most:
            raise node.fault(f"here stands a whole number from {self.least} to {self.most}")
        return number

    def schema(self) -> Schema:
        """The shape in JSON Schema."""
        number = {"type": "integer", "minimum": self.least, "maximum": self.most}
        return {"anyOf": [number, {"type": "string", "pattern": f"^{VARIABLE}$"}]}


@dataclasses.dataclass(frozen=True, slots=True)
class Duration:
    """A time: ``200ms``, ``1.5s``, ``2min``; a number alone is seconds."""

    def takes(self, node: Node) -> bool:
        """Whether the node is of this kind."""
        return isinstance(node.value, str | int | float) and not isinstance(node.value, bool)

    def read(self, node: Node) -> Any:
        """The value of a node."""
        if _is_variable(node):
            return node.value
        if not self.takes(node):
            raise node.fault("here stands a time, as 200ms, 1.5s or 2min")
        try:
            return round(seconds(_typed(node)), 9)
        except FaultError as error:
            raise node.fault(str(error)) from None

    def schema(self) -> Schema:
        """The shape in JSON Schema."""
        pattern = r"^\s*([0-9]+([.][0-9]+)?|[.][0-9]+)(us|ms|s|min|m|h)?\s*$"
        return {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": pattern},
                {"type": "string", "pattern": f"^{VARIABLE}$"},
            ]
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Flag:
    """true or false; with ``only`` just this one."""

    only: bool | None = None

    def takes(self, node: Node) -> bool:
        """Whether the node is of this kind."""
        return isinstance(node.value, bool)

    def read(self, node: Node) -> Any:
        """The value of a node."""
        if not self.takes(node):
            raise node.fault("here stands true or false")
        if self.only is not None and node.value != self.only:
            raise node.fault(f"here stands {_plain(self.only)}, or nothing at all")
        return node.value

    def schema(self) -> Schema:
        """The shape in JSON Schema."""
        return {"type": "boolean"} if self.only is None else {"const": self.only}


@dataclasses.dataclass(frozen=True, slots=True)
class Scalar:
    """Any single value: a number, a text, true or false."""

    def takes(self, node: Node) -> bool:
        """Whether the node is of this kind."""
        return isinstance(node.value, str | int | float | bool)

    def read(self, node: Node) -> Any:
        """The value of a node."""
        if not self.takes(node) or (isinstance(node.value, float) and not math.isfinite(node.value)):
            raise node.fault("here stands one value: a number, a text, true or false")
        return node.value

    def schema(self) -> Schema:
        """The shape in JSON Schema."""
        return {"type": ["string", "number", "boolean"]}


@dataclasses.dataclass(frozen=True, slots=True)
class Number:
    """A number, or a variable that is one."""

    def takes(self, node: Node) -> bool:
        """Whether the node is of this kind."""
        return isinstance(node.value, int | float) and not isinstance(node.value, bool)

    def read(self, node: Node) -> Any:
        """The value of a node."""
        if _is_variable(node):
            return node.value
        number = node.value
        if isinstance(number, str) and re.fullmatch(r"-?[0-9]{1,15}([.][0-9]+)?", number):
            number = float(number)
        elif not self.takes(node) or not math.isfinite(number):
            raise node.fault("here stands a number")
        return number

    def schema(self) -> Schema:
        """The shape in JSON Schema."""
        return {"anyOf": [{"type": "number"}, {"type": "string", "pattern": f"^{VARIABLE}$"}]}


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """Members of any name, all of one shape."""

    of: Shape
    least: int = 0

    def takes(self, node: Node) -> bool:
        """Whether the node is of this kind."""
        return isinstance(node.value, dict)

    def read(self, node: Node) -> Any:
        """The value of a node."""
        if not self.takes(node):
            raise node.fault("here stand names with values, as LED_R: 30")
        if len(node.value) < self.least:
            raise node.fault("nothing is named; write names with values, as LED_R: 30")
        return {name: self.of.read(item) for name, (_, item) in node.value.items()}

    def schema(self) -> Schema:
        """The shape in JSON Schema."""
        least = {"minProperties": self.least} if self.least else {}
        return {"type": "object", "additionalProperties": self.of.schema(), **least}


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """A list, all of one shape."""

    of: Shape
    least: int = 0
    what: str = "a list: lines that begin with -"

    def takes(self, node: Node) -> bool:
        """Whether the node is of this kind."""
        return isinstance(node.value, list)

    def read(self, node: Node) -> Any:
        """The value of a node."""
        if not self.takes(node):
            raise node.fault(f"here stands {self.what}")
        if len(node.value) < self.least:
            raise node.fault("the list is empty")
        return [self.of.read(item) for item in node.value]

    def schema(self) -> Schema:
        """The shape in JSON Schema."""
        return {"type": "array", "items": self.of.schema(), "minItems": self.least}


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """One member of a mapping."""

    shape: Shape
    help: str
    required: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Mapped:
    """Members with known names."""

    what: str
    members: Mapping[str, Member]
    exactly_one_of: Sequence[str] = ()
    at_least_one_of: Sequence[str] = ()
    only_with: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    """Members that say something beside some others only."""

    def takes(self, node: Node) -> bool:
        """Whether the node is of this kind."""
        return isinstance(node.value, dict)

    def read(self, node: Node) -> Any:
        """The value of a node."""
        if not self.takes(node):
            raise node.fault(f"{self.what} has members: {', '.join(self.members)}")
        for name, (place, _) in node.value.items():
            if name not in self.members:
                raise ScenarioError(
                    f"{self.what} has no member {name!r}; {_nearest(name, tuple(self.members))}", place
                )
        for name, member in self.members.items():
            if member.required and name not in node.value:
                raise node.fault(f"{self.what} needs {name}: {member.help}")
        given = [name for name in self.exactly_one_of if name in node.value]
        if self.exactly_one_of and len(given) != 1:
            raise node.fault(f"{self.what} has exactly one of: {', '.join(self.exactly_one_of)}")
        if self.at_least_one_of and not any(name in node.value for name in self.at_least_one_of):
            raise node.fault(f"{self.what} has one of: {', '.join(self.at_least_one_of)}")
        for name, others in self.only_with.items():
            if name in node.value and not any(other in node.value for other in others):
                place, _ = node.value[name]
                beside = " or ".join(f"{other}:" for other in others)
                raise ScenarioError(f"{name}: says something beside {beside} only", place)
        return {name: self.members[name].shape.read(item) for name, (_, item) in node.value.items()}

    def schema(self) -> Schema:
        """The shape in JSON Schema."""
        schema: Schema = {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                name: {"description": member.help, **member.shape.schema()}
                for name, member in self.members.items()
            },
        }
        required = [name for name, member in self.members.items() if member.required]
        if required:
            schema["required"] = required
        if self.exactly_one_of:
            schema["oneOf"] = [{"required": [name]} for name in self.exactly_one_of]
        if self.at_least_one_of:
            schema["anyOf"] = [{"required": [name]} for name in self.at_least_one_of]
        if self.only_with:
            schema["dependentSchemas"] = {
                name: {"anyOf": [{"required": [other]} for other in others]}
                for name, others in self.only_with.items()
            }
        return schema


@dataclasses.dataclass(frozen=True, slots=True)
class Either:
    """The first of several shapes whose kind the node has."""

    shapes: Sequence[Shape]

    def takes(self, node: Node) -> bool:
        """Whether the node is of this kind."""
        return any(shape.takes(node) for shape in self.shapes)

    def read(self, node: Node) -> Any:
        """The value of a node."""
        for shape in self.shapes:
            if shape.takes(node):
                return shape.read(node)
        return self.shapes[-1].read(node)

    def schema(self) -> Schema:
        """The shape in JSON Schema."""
        return {"anyOf": [shape.schema() for shape in self.shapes]}


@dataclasses.dataclass(frozen=True, slots=True)
class Defined:
    """A shape with a name, which may be part of itself."""

    name: str
    of: Callable[[], Shape]

    def takes(self, node: Node) -> bool:
        """Whether the node is of this kind."""
        return self.of().takes(node)

    def read(self, node: Node) -> Any:
        """The value of a node."""
        return self.of().read(node)

    def schema(self) -> Schema:
        """The shape in JSON Schema."""
        return {"$ref": f"#/$defs/{self.name}"}


def _typed(node: Node) -> str:
    """A scalar as it was typed: 0123 and yes are texts where a text stands."""
    if node.text is not None:
        return node.text
    return node.value if isinstance(node.value, str) else _plain(node.value)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.10f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(known)}"
