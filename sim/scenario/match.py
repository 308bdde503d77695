"""Whether what came is what is expected, and if not, why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from gizserial.codec import Message
from gizserial.commands import FRAME_IDS, FRAMES, UNKNOWN_NAME, Command
from gizserial.describe import Described, json_value, value_text
from gizserial.encoding import SHORT_FORMS
from gizserial.errors import EncodeError
from gizserial.framing import BadFrame, Noise
from gizserial.p0 import ACTIONS, Action
from gizserial.product import Product

_CLOSE: Final = 1e-9


def is_frame(described: Described, name: str) -> bool:
    """Whether it is what ``name`` (of ``gizserial encode``; noise, error, any) calls it."""
    item, message = described.item, described.message
    if isinstance(item, Noise):
        return name in {"noise", "any"}
    if isinstance(item, BadFrame) or message is None:
        return name in {"error", "any"}
    if name == "any":
        return True
    if name == UNKNOWN_NAME:
        return item.command not in FRAMES
    if name not in SHORT_FORMS:
        return item.command == FRAME_IDS.get(name)
    command, meaning = SHORT_FORMS[name]
    spec = ACTIONS.get(message.action) if message.action is not None else None
    if item.command != command or spec is None:
        return False
    return spec.action == meaning if isinstance(meaning, Action) else spec.meaning is meaning


def sender_of(name: str) -> str | None:
    """Who sends a frame of this name: ``module`` or ``mcu``; None where both do."""
    command = SHORT_FORMS[name][0] if name in SHORT_FORMS else FRAME_IDS.get(name)
    spec = FRAMES.get(command) if command is not None else None
    if command == Command.P0_TO_MCU + 1:
        return "mcu"
    return spec.sender.value if spec is not None and spec.sender is not None else None


def objections(described: Described, spec: Mapping[str, Any], product: Product) -> list[str]:
    """Why a frame of the right name is not the one that is expected; nothing if it is."""
    message = described.message
    found: list[str] = []
    if "sn" in spec and (message is None or message.frame.sn != spec["sn"]):
        found.append(f"sn is not {spec['sn']}")
    for name, expected in spec.get("attrs", {}).items():
        found += _attr(message, name, expected, product)
    for name, expected in spec.get("fields", {}).items():
        fields = message.fields if message is not None else None
        if fields is None or name not in fields:
            found.append(f"it has no field {name}")
        else:
            found += compare(name, json_value(fields[name]), expected)
    return found


def _attr(message: Message | None, name: str, expected: Any, product: Product) -> list[str]:
    if message is None or message.attrs is None or name not in message.attrs:
        return [f"{name} is not in it"]
    raw = (message.raw or {})[name]
    return compare_point(name, message.attrs[name], raw, expected, product)


def compare_point(name: str, value: Any, raw: Any, expected: Any, product: Product) -> list[str]:
    """Compare a data point: enums by text or index, numbers in their unit."""
    point = product.point(name)

    def same(wanted: Any) -> bool | None:
        try:
            return bool(point.raw(wanted) == raw)
        except EncodeError:
            return None  # a value that the definition does not allow may be what is expected

    return compare(name, json_value(value), expected, same)


def compare(
    name: str, value: Any, expected: Any, same: Callable[[Any], bool | None] = lambda _wanted: None
) -> list[str]:
    """Compare a value with one, or with a comparison; gives what is wrong.

    :param same: Whether something stands for the value; None when only its text can tell.
    """

    def equal(wanted: Any) -> bool:
        known = same(wanted)
        return _equal(value, wanted) if known is None else known

    shown = f"{name} is {value_text(value)}"
    if not isinstance(expected, Mapping):
        return [] if equal(expected) else [f"{shown}, not {value_text(expected)}"]
    found: list[str] = []
    if "is" in expected:
        tolerance = expected.get("tolerance", 0)
        if not (_equal(value, expected["is"], tolerance) if tolerance else equal(expected["is"])):
            about = f" ± {tolerance}" if tolerance else ""
            found.append(f"{shown}, not {value_text(expected['is'])}{about}")
    if "not" in expected and equal(expected["not"]):
        found.append(f"{shown}, which it must not be")
    if "in" in expected and not any(equal(one) for one in expected["in"]):
        found.append(f"{shown}, which is none of {', '.join(map(value_text, expected['in']))}")
    number = number_of(value)
    least, most = number_of(expected.get("min")), number_of(expected.get("max"))
    if least is not None and (number is None or number < least - _CLOSE):
        found.append(f"{shown}, less than {expected['min']}")
    if most is not None and (number is None or number > most + _CLOSE):
        found.append(f"{shown}, more than {expected['max']}")
    return found


def number_of(value: Any) -> float | None:
    """A number, or a text that is one; else None."""
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return None


def _equal(value: Any, expected: Any, tolerance: Any = 0) -> bool:
    if isinstance(value, bool) or isinstance(expected, bool):
        return value_text(value).lower() == value_text(expected).lower()
    a, b = number_of(value), number_of(expected)
    if a is not None and b is not None:
        return abs(a - b) <= (number_of(tolerance) or 0.0) + _CLOSE
    return value_text(value) == value_text(expected)


def wanted(spec: Mapping[str, Any]) -> str:
    """The expectation in words."""
    parts = [str(spec.get("frame", ""))] if "frame" in spec else []
    if "from" in spec:
        parts.append(f"from the {spec['from']}")
    if "sn" in spec:
        parts.append(f"with sn {spec['sn']}")
    for name, expected in {
        **spec.get("fields", {}),
        **spec.get("attrs", {}),
        **spec.get("values", {}),
    }.items():
        if isinstance(expected, Mapping):
            about = " ".join(f"{word} {text(value)}" for word, value in expected.items())
            parts.append(f"{name} ({about})")
        else:
            parts.append(f"{name}={value_text(expected)}")
    return " ".join(parts)


def text(value: Any) -> str:
    """A value, or a list of them."""
    return ", ".join(map(value_text, value)) if isinstance(value, list) else value_text(value)
