"""JSON read for people who must mend it: exact numbers, doubled keys and a place for every complaint.

Nothing here raises on any input. Nesting, numbers and the count of findings are bounded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

from gizserial.findings import Finding, Severity
from gizserial.scale import MAX_DIGITS, bounded_decimal, shown

MAX_FINDINGS: Final = 1000
"""A file with more faults than this is no definition; what follows is not listed."""

_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENCODINGS: Final = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


class Findings(list[Finding]):
    """Findings as they are made, in the order in which they are made, at most :data:`MAX_FINDINGS`."""

    def error(self, path: str, message: str, remedy: str) -> None:
        """Note something that makes the definition useless."""
        self._add(path, "error", message, remedy)

    def warning(self, path: str, message: str, remedy: str) -> None:
        """Note something that its author should know."""
        self._add(path, "warning", message, remedy)

    @property
    def full(self) -> bool:
        """No more is listed."""
        return len(self) > MAX_FINDINGS

    @property
    def has_errors(self) -> bool:
        """Whether there is an error among them."""
        return any(finding.severity == "error" for finding in self)

    def _add(self, path: str, severity: Severity, message: str, remedy: str) -> None:
        if len(self) < MAX_FINDINGS:
            self.append(Finding(path=path, severity=severity, message=message, remedy=remedy))
        elif len(self) == MAX_FINDINGS:
            message = f"more than {MAX_FINDINGS} findings; the rest is not listed"
            remedy = "mend the first ones and check again"
            self.append(Finding(path="$", severity="error", message=message, remedy=remedy))


class Unreadable:
    """Stands for a number that is out of all proportion."""


class _Object(dict[str, Any]):
    """An object, and the values that doubled keys had before the last one.

    :ivar doubled: Key → whether all of its values are equal.
    """

    __slots__ = ("doubled",)
    doubled: dict[str, bool]


def child(path: str, key: str | int) -> str:
    """The JSON path of a member or an item."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if len(key) <= 80 and _PLAIN_KEY.fullmatch(key):
        return f"{path}.{key}"
    return f"{path}[{json.dumps(key if len(key) <= 80 else key[:80] + '…')}]"


def is_unicode(text: str) -> bool:
    """Whether the text can be written as UTF-8: JSON lets escapes name one half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def kind(value: object) -> str:
    """What a value of JSON is, with the value itself when it is short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Unreadable):
        return "a number out of all proportion"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return f"{'the' if is_unicode(value) else 'the broken'} text {shown(value)}"
    return f"the number {shown(value)}"


def read_json(data: bytes, findings: Findings) -> object:
    """The value in a file; None when it is not JSON (then there is a finding at ``$``).

    Numbers with a fraction or an exponent are Decimals, those out of all proportion :class:`Unreadable`.
    """
    text = _text(data, findings)
    if text is None:
        return None
    doubled: list[_Object] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) == len(pairs):
            return made
        marked = _Object(made)
        marked.doubled = _doubled(pairs)
        doubled.append(marked)
        return marked

    try:
        value: object = json.loads(
            text,
            object_pairs_hook=members,
            parse_float=_fraction,
            parse_int=_integer,
            parse_constant=_no_constant,
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        findings.error("$", f"this is not JSON: {error.msg} at {where}", _remedy(text, error.pos))
        return None
    except _NotJson as error:
        findings.error("$", f"this is not JSON: {error}", "write a number that JSON has")
        return None
    except RecursionError:
        findings.error("$", "lists and objects are nested too deep", "export the definition again")
        return None
    if value is None:
        findings.error("$", "must be an object, is null", "export the definition again")
    if doubled:
        _report_doubled(value, findings)
    return value


def _text(data: bytes, findings: Findings) -> str | None:
    for mark, name in _ENCODINGS:
        if data.startswith(mark):
            findings.error("$", f"the file is {name}, not UTF-8", "save it as UTF-8")
            return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"the file is not UTF-8: byte {data[error.start]:02X} at offset {error.start}, line {line}"
        findings.error("$", message, "save it as UTF-8")
        return None


class _NotJson(ValueError):
    """Python's json takes it, the standard does not have it."""


def _no_constant(word: str) -> object:
    raise _NotJson(f"there is no {word}")


def _integer(text: str) -> int | Unreadable:
    return int(text) if len(text) <= MAX_DIGITS else Unreadable()


def _fraction(text: str) -> Decimal | Unreadable:
    number = bounded_decimal(text)
    return Unreadable() if number is None else number


def _remedy(text: str, position: int) -> str:
    if not text.strip():
        return "the file is empty; export the definition again"
    near = text[max(0, position - 1) : position + 2]
    if "//" in near or "/*" in near:
        return "JSON has no comments; remove them"
    if text.lstrip()[:1] == "<":
        return "this looks like a web page; download the definition itself"
    return "mend it there, or export the definition again"


def _doubled(pairs: list[tuple[str, Any]]) -> dict[str, bool]:
    first: dict[str, Any] = {}
    doubled: dict[str, bool] = {}
    for key, value in pairs:
        if key in first:
            doubled[key] = doubled.get(key, True) and _same(first[key], value)
        else:
            first[key] = value
    return doubled


def _same(one: object, other: object) -> bool:
    """Equal scalars; lists and objects are not compared, which could recurse deeply."""
    return type(one) is type(other) and not isinstance(one, dict | list) and one == other


def _report_doubled(value: object, findings: Findings) -> None:
    for path, item in _objects(value):
        for key, same in getattr(item, "doubled", {}).items():
            where = child(path, key)
            if same or where == "$.ui" or where.startswith(("$.ui.", "$.ui[")):
                findings.warning(where, "the key is there twice", "remove one of the two")
            else:
                message = "the key is there twice, with different values"
                findings.error(where, message, "remove the wrong one: readers differ in which they take")
            if findings.full:
                return


def _objects(value: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object with its path, in the order of the file."""
    stack = [iter([("$", value)])]
    while stack:
        path, item = next(stack[-1], ("", None))
        if not path:
            stack.pop()
            continue
        if isinstance(item, _Object):
            yield path, item
        stack.append(_containers(path, item))


def _containers(path: str, item: object) -> Iterator[tuple[str, object]]:
    if isinstance(item, dict):
        members: Iterable[tuple[str | int, object]] = item.items()
    else:
        members = enumerate(item) if isinstance(item, list) else ()
    return ((child(path, key), member) for key, member in members if isinstance(member, dict | list))
