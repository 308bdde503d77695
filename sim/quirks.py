"""``--quirk NAME=VALUE``: the options of a role by name, from the dataclass that holds them."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import types
import typing
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, Final, TypeVar

from gizserial.errors import EncodeError, UnknownName

OptionsT = TypeVar("OptionsT")

_TOP: Final = 10**9
_LEAST: Final = MappingProxyType(
    {
        "tries": 1,
        "info_attempts": 1,
        "ack_wait": 0.01,
        "ota_piece_wait": 0.01,
        "ota_silence": 0.01,
        "upload_silence": 0.01,
        "upload_piece_size": 1,
        "idle_timeout": 0.01,
        "heartbeat_s": 0.1,
        "status_period_s": 0.1,
        "status_tick_s": 0.01,
        "report_full_s": 0.1,
        "tz_s": -86400,
    }
)
"""Smallest value, where 0 would have nothing but a busy line; 0 for all others."""
_MOST: Final = MappingProxyType(
    {
        "tz_s": 86400,
        "bind_time": 0xFFFF,
        "tries": 1000,
        "ota_piece_size": 0xFFFF,
        "upload_piece_size": 0xFFFF,
        "ota_most": 64 << 20,  # there is memory, or a file, for two of them
    }
)
_TEXTS: Final = MappingProxyType(
    {
        "product_secret": (re.compile(r"(?:[0-9a-fA-F]{32})?"), "32 hex digits"),
        "hard_ver": (re.compile(r"[!-~]{1,8}"), "1 to 8 printable ASCII characters"),
        "soft_ver": (re.compile(r"[!-~]{1,8}"), "1 to 8 printable ASCII characters"),
        "p0_ver": (re.compile(r"[!-~]{1,8}"), "1 to 8 printable ASCII characters"),
    }
)
"""What fits into its field of a frame."""


@dataclasses.dataclass(frozen=True, slots=True)
class Quirk:
    """What may be set."""

    name: str
    default: Any
    meaning: str
    """The documentation of the option, in one line."""

    @property
    def word(self) -> str:
        """``NAME=VALUE`` with the default."""
        value = self.default
        text = str(value).lower() if value is None or isinstance(value, bool) else str(value)
        return f"{self.name}={text}"


def quirks_of(options: type[Any]) -> list[Quirk]:
    """Everything that ``--quirk`` may set in these options."""
    meanings = _meanings(options)
    return [
        Quirk(field.name, field.default, meanings.get(field.name, ""))
        for field in dataclasses.fields(options)
        if _settable(options, field)
    ]


def _meanings(options: type[Any]) -> dict[str, str]:
    """Field → the text below it. Python does not keep these texts, so the source is read."""
    try:
        tree = ast.parse(inspect.getsource(options))
    except OSError:  # an installation without sources
        return {}
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef))
    return {
        field.target.id: " ".join(text.value.value.replace("``", "").split())
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


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
    if types.NoneType in choices and text.lower() == "none":
        return None
    if int in choices or float in choices:
        return _number(name, int if int in choices else float, text)
    pattern, wanted = _TEXTS.get(name, (None, ""))
    if pattern is not None and not pattern.fullmatch(text):
        # The value is not repeated: it may be a secret with one digit too many.
        raise EncodeError(f"the quirk {name} is {wanted}")
    return text


def _number(name: str, kind: type[int | float], text: str) -> int | float:
    least, most = _LEAST.get(name, 0), _MOST.get(name, _TOP)
    try:
        value = kind(text)
    except ValueError:
        raise EncodeError(f"the quirk {name} is a number, not {text[:40]!r}") from None
    if not least <= value <= most:
        raise EncodeError(f"the quirk {name} is a number from {least} to {most}, not {text[:40]}")
    return value
