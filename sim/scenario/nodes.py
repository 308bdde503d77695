"""YAML with places: text → nodes, and errors that say file, line and column."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Final

import yaml

from gizserial.errors import GizserialError
from gizserial.io.files import os_sentence, standard_input

MAX_SIZE: Final = 1024 * 1024
MAX_NODES: Final = 50_000
"""Aliases can make a small file huge."""
MAX_DEPTH: Final = 40
_LONGEST: Final = 500
"""Characters of a message: what somebody wrote wrongly may be long."""
_HINTS: Final = (
    ("mapping values are not allowed", "is the indentation right? a text with a colon needs quotes"),
    ("but got '{'", 'a variable inside { } or [ ] needs quotes: "${NAME}"'),
    ("expected <block end>", "the indentation does not fit: what belongs together begins in one column"),
    ("'\\t'", "indent with spaces, not with tabs"),
    ("found another document", "one file holds one scenario: take away the ---"),
    ("found undefined alias", "no &NAME stands before it; a text that begins with * needs quotes"),
    ("could not find expected ':'", "a name is followed by a colon and a space"),
    ("did not find expected", "is a bracket, brace or quote left open?"),
    ("found unexpected end of stream", "a quote is left open"),
)
_INTEGER: Final = re.compile(r"[-+]?[0-9]+")
_BASED: Final = re.compile(r"0x[0-9A-Fa-f]+|0o[0-7]+")
_REAL: Final = re.compile(r"[-+]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][-+]?[0-9]+)?")


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in its file, counted from 1."""

    source: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}"


class ScenarioError(GizserialError, ValueError):
    """A scenario that cannot be used: where, what is wrong, what to write.

    :ivar place: Where; None when it concerns the whole file.
    :ivar sentence: The message without the place.
    """

    def __init__(self, message: str, place: Place | None = None, *, source: str = "") -> None:
        self.place = place
        self.sentence = message
        where = str(place) if place is not None else source
        if len(message) > _LONGEST:
            message = f"{message[:_LONGEST]} …"
        super().__init__(f"{where}: {message}" if where else message)


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A piece of YAML: a scalar, a list of nodes, or members with the places of their names."""

    value: Any
    place: Place
    text: str | None = None
    """A scalar as it was typed."""

    def fault(self, message: str) -> ScenarioError:
        """What is wrong here."""
        return ScenarioError(message, self.place)


Members = dict[str, tuple[Place, Node]]
"""What the value of a mapping's node is."""


def read_nodes(text: bytes, source: str) -> Node:
    """Parse YAML.

    :raises ScenarioError: it is none, or too large.
    """
    if len(text) > MAX_SIZE:
        raise ScenarioError(f"it is larger than {MAX_SIZE >> 20} MiB", source=source)
    try:
        loader = yaml.SafeLoader(text.decode("utf-8-sig"))
        try:
            node = loader.get_single_node()
            if node is None:
                raise ScenarioError("it is empty; a scenario has setup and steps", source=source)
            return _Reader(source, loader).read(node, 0)
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        raise ScenarioError(f"byte {error.start} is not UTF-8", source=source) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = Place(source, mark.line + 1, mark.column + 1) if mark is not None else None
        problem = error.problem or "this is not YAML"
        hint = next((f": {hint}" for words, hint in _HINTS if words in problem), "")
        raise ScenarioError(problem.removeprefix("but ") + hint, place, source=source) from error
    except yaml.reader.ReaderError as error:
        before = text.decode("utf-8-sig")[: error.position].split("\n")
        place = Place(source, len(before), len(before[-1]) + 1)
        raise ScenarioError(f"the character {error.character:#x} may not stand in YAML", place) from error
    except RecursionError:
        raise ScenarioError("it is nested too deeply", source=source) from None


def read_file(path: Path) -> bytes:
    """The bytes of a scenario file; ``-`` is standard input (:raises GizserialError: it cannot be read)."""
    if str(path) == "-":
        return standard_input().read(MAX_SIZE + 1)
    try:
        with path.open("rb") as file:
            return file.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        raise ScenarioError(os_sentence(error), source=str(path)) from error


class _Reader:
    def __init__(self, source: str, loader: yaml.SafeLoader) -> None:
        self._source, self._loader, self._count = source, loader, 0

    def read(self, node: yaml.Node, depth: int) -> Node:
        place = Place(self._source, node.start_mark.line + 1, node.start_mark.column + 1)
        self._count += 1
        if self._count > MAX_NODES or depth > MAX_DEPTH:
            raise ScenarioError("it is nested too deeply, or has too many parts", place)
        if isinstance(node, yaml.SequenceNode):
            return Node([self.read(item, depth + 1) for item in node.value], place)
        if isinstance(node, yaml.MappingNode):
            return Node(self._members(node, depth), place)
        return Node(self._scalar(node, place), place, str(node.value))

    def _scalar(self, node: yaml.Node, place: Place) -> Any:
        """The value of a scalar: numbers as in YAML 1.2, which editors read; dates are texts."""
        text = str(node.value)
        kind = str(node.tag).rpartition(":")[2]
        try:
            if kind in {"int", "float"} and (_INTEGER.fullmatch(text) or _BASED.fullmatch(text)):
                return int(text, 0 if _BASED.fullmatch(text) else 10)
            if kind in {"int", "float"} and not text.lstrip("+-").startswith("."):
                return float(text) if _REAL.fullmatch(text) else text
            if kind in {"timestamp", "merge"}:
                return text
            value = self._loader.construct_object(node)
        except yaml.MarkedYAMLError:
            raise
        except (ValueError, LookupError, AttributeError, TypeError):
            raise ScenarioError(f"{text!r} is no {kind}", place) from None
        return value if isinstance(value, bool | int | float | str) or value is None else text

    def _members(self, node: yaml.MappingNode, depth: int) -> Members:
        members: Members = {}
        for key, item in node.value:
            named = self.read(key, depth + 1)
            # YAML 1.1 takes the bare word "on" for true; here it is a name.
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else None
            if name is None:
                raise named.fault("a name stands here, not a list or mapping")
            if name == "<<":
                raise named.fault("<< is not known here; write the members, or name the whole with *")
            if name in members:
                raise named.fault(f"{name} is given twice")
            members[name] = named.place, self.read(item, depth + 1)
        return members
