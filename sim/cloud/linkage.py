"""Linkage rules: which event starts one, what has to be true, and what follows, as data (open-api.md §15)."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import pydantic

from gizserial.product import Access, DataType, Product

MAX_STEPS: Final = 32
"""Conditions, outputs or inputs of a rule, each way."""
MAX_DELAY: Final = 3600.0
"""Seconds of one delay."""
_OPERATORS: Final[Mapping[str, Callable[[Any, Any], bool]]] = MappingProxyType(
    {
        ">": operator.gt,
        ">=": operator.ge,
        "<": operator.lt,
        "<=": operator.le,
        "==": operator.eq,
        "!=": operator.ne,
    }
)
_NUMBER: Final = re.compile(r"-?\d{1,18}(\.\d{1,18})?")
_HEX: Final = re.compile(r"0[xX](?:[0-9A-Fa-f]{2})+")
_QUOTED: Final = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_TYPES: Final = {DataType.BOOL: "bool", DataType.ENUM: "enum", DataType.BINARY: "binary"}

Text = Annotated[str, pydantic.StringConstraints(max_length=256)]
Value = bool | int | pydantic.FiniteFloat | Text


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="ignore", frozen=True)


class EventAttr(_Part):
    """The data point that an event is about."""

    attr_name: Text
    value: Value | None = None


class Input(_Part):
    """A device whose data points conditions may name by a prefix."""

    did: Text
    prefix: Text
    product_key: Text = ""


class Condition(_Part):
    """One comparison."""

    left: Value
    opt: Literal[">", ">=", "<", "<=", "==", "!="]
    right: Value


class DevCtrl(_Part):
    """A command."""

    type: Literal["devctrl"]
    did: Text
    attrs: dict[str, Any] | None = None
    raw: (
        Annotated[str, pydantic.StringConstraints(max_length=4096)]
        | Annotated[list[int], pydantic.Field(max_length=2048)]
        | None
    ) = None


class Delay(_Part):
    """A pause in seconds."""

    type: Literal["delay"]
    delay: float = pydantic.Field(ge=0, le=MAX_DELAY)


Step = Annotated[DevCtrl | Delay, pydantic.Field(discriminator="type")]


class Rule(_Part):
    """A rule as a user writes it."""

    name: Text = ""
    remark: Text = ""
    product_key: Text = ""
    did: Text
    interval: int = pydantic.Field(default=0, ge=0, le=10**9)
    """Seconds after a run in which it does not run again."""
    event: Literal["online", "offline", "alert", "fault", "data"] = "data"
    event_attr: EventAttr | None = None
    """None, and an object that names nothing: whichever point it is."""
    input: list[Input] = pydantic.Field(default=[], max_length=MAX_STEPS)
    condition: list[Annotated[list[Condition], pydantic.Field(max_length=MAX_STEPS)]] = pydantic.Field(
        default=[], max_length=MAX_STEPS
    )
    output: list[Annotated[list[Step], pydantic.Field(max_length=MAX_STEPS)]] = pydantic.Field(
        default=[], max_length=MAX_STEPS
    )

    @pydantic.field_validator("event_attr", mode="before")
    @classmethod
    def _nothing_is_none(cls, value: Any) -> Any:
        """PHP writes an object without members as a list."""
        return value or None

    def named_points(self) -> Iterator[tuple[str, str]]:
        """Every ``prefix.point`` of the condition."""
        for comparison in (each for group in self.condition for each in group):
            for side in (comparison.left, comparison.right):
                named = _point_of(side)
                if named is not None:
                    yield named


Values = Mapping[str, Any]
"""Name of a data point → its value as ``latest`` shows it."""


def starts(rule: Rule, product: Product, before: Values, now: Values) -> bool:
    """Whether a report starts a rule of the events ``alert``, ``fault`` or ``data``.

    :param before: The values before the report.
    :param now: The values in the report.
    """
    wanted = rule.event_attr
    if rule.event == "data":
        if wanted is None:
            return True
        return wanted.attr_name in now and (
            wanted.value is None or _equal(now[wanted.attr_name], wanted.value)
        )
    access = Access.ALERT if rule.event == "alert" else Access.FAULT
    for point in product.points:
        if point.access is not access or point.name not in now:
            continue
        if wanted is not None and wanted.attr_name != point.name:
            continue
        edge = now[point.name] != before.get(point.name, 0)
        value = 1 if wanted is None or wanted.value is None else wanted.value
        if edge and _equal(now[point.name], value):
            return True
    return False


def holds(rule: Rule, values: Mapping[str, Values]) -> bool:
    """Whether a rule's condition is true; without any it is.

    :param values: Prefix of an input → the values of its device.
    """
    if not any(rule.condition):
        return True
    return any(all(_is_true(each, values) for each in group) for group in rule.condition if group)


def _is_true(condition: Condition, values: Mapping[str, Values]) -> bool:
    """A data point that is not known makes a comparison false."""
    left, right = (_operand(side, values) for side in (condition.left, condition.right))
    if left is None or right is None:
        return False
    if isinstance(left, str) != isinstance(right, str):
        return condition.opt == "!="
    return bool(_OPERATORS[condition.opt](left, right))


def _operand(text: Any, values: Mapping[str, Values]) -> Any:
    """``prefix.point``, or a literal: 1 is a number and '1' a text."""
    if not isinstance(text, str):
        return int(text) if isinstance(text, bool) else text
    quoted = _QUOTED.fullmatch(text)
    if quoted is not None:
        return quoted[1] if quoted[1] is not None else quoted[2]
    if _HEX.fullmatch(text):
        return text[2:].lower()  # as binary points are written
    if _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    named = _point_of(text)
    return text if named is None else values.get(named[0], {}).get(named[1])


def _point_of(text: Any) -> tuple[str, str] | None:
    """Prefix and name of an operand that is ``prefix.point``; texts with a dot are written in quotes."""
    if not isinstance(text, str) or _QUOTED.fullmatch(text) or _NUMBER.fullmatch(text):
        return None
    prefix, dot, name = text.partition(".")
    return (prefix, name) if dot else None


def _equal(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, bool):
        wanted = int(wanted)
    return bool(value == wanted) or str(value) == str(wanted)


def params(product: Product) -> list[dict[str, Any]]:
    """What conditions and outputs of a product may name, for ``GET /app/rules/params``."""
    return [
        {
            "name": point.name,
            "display_name": point.display_name,
            "type": _TYPES.get(point.data_type, "int"),
            "enum": list(point.texts),
        }
        for point in product.points
    ]
