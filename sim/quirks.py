"""``--quirk NAME=VALUE``: the options of a role by name, from the dataclass that holds them."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from gizserial.errors import EncodeError, UnknownName

OptionsT = TypeVar("OptionsT")


def names(options: type[Any]) -> list[str]:
    """What may be set, with its default."""
    return [
        f"{field.name}={_default(field)}"
        for field in dataclasses.fields(options)
        if _settable(options, field)
    ]


def with_quirks(options: OptionsT, words: Iterable[str]) -> OptionsT:
    """The options with ``NAME=VALUE`` words applied.

    :raises EncodeError: an unknown name or a value of another type.
    """
    kind = type(options)
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in dataclasses.fields(kind) if _settable(kind, field)}  # type: ignore[arg-type]  # a dataclass by contract
    changes: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if name not in known:
            raise UnknownName("quirk", name, sorted(known))
        if not equals and bool not in _choices(hints[name]):
            raise EncodeError(f"the quirk {name} needs a value: {name}=VALUE")
        changes[name] = _value(name, hints[name], text if equals else "true")
    return dataclasses.replace(options, **changes)  # type: ignore[type-var]  # a dataclass by contract


def _settable(kind: type[Any], field: dataclasses.Field[Any]) -> bool:
    hint = typing.get_type_hints(kind)[field.name]
    return all(
        choice in {bool, int, float, str, types.NoneType} or isinstance(choice, str)
        for choice in _choices(hint)
    )


def _choices(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _value(name: str, hint: Any, text: str) -> Any:
    choices = _choices(hint)
    literals = [choice for choice in choices if isinstance(choice, str)]
    if literals:
        if text not in literals:
            raise EncodeError(f"the quirk {name} is one of {', '.join(literals)}, not {text!r}")
        return text
    if bool in choices:
        if text.lower() not in {"true", "false", "1", "0"}:
            raise EncodeError(f"the quirk {name} is true or false, not {text!r}")
        return text.lower() in {"true", "1"}
    try:
        if int in choices:
            return int(text)
        if float in choices:
            return min(max(0.0, float(text)), 1e9)
    except ValueError:
        raise EncodeError(f"the quirk {name} is a number, not {text!r}") from None
    return text


def _default(field: dataclasses.Field[Any]) -> str:
    return "" if field.default is dataclasses.MISSING else str(field.default)
