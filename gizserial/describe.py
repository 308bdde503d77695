"""Items and messages as people and scripts read them: an annotated tree, and the JSON of cli.md §4."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from gizserial.adapters import Span
from gizserial.codec import Codec, Message
from gizserial.commands import Direction, frame_name
from gizserial.datapoints import Block
from gizserial.framing import BadFrame, Frame, Item, Noise
from gizserial.p0 import ACTIONS

BYTES_PER_LINE: Final = 8
_HEADER_FIELDS: Final = (("length", 0, 2), ("command", 2, 3), ("sn", 3, 4), ("flags", 4, 6))


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """One line of the tree: some wire bytes and what they mean."""

    offset: int
    """In wire bytes since the stream began."""
    wire: bytes
    label: str
    text: str = ""
    children: tuple[Node, ...] = ()
    bits: str = ""
    """``0`` or ``1..2`` for a point inside a bit section; then ``wire`` is empty."""


@dataclasses.dataclass(frozen=True, slots=True)
class Described:
    """One item of a stream with everything that can be said of it."""

    item: Item
    message: Message | None
    """Sound frames."""
    t: float | None
    direction: Direction | None


def describe(
    item: Item, codec: Codec, *, t: float | None = None, direction: Direction | None = None
) -> Described:
    """Decode one item of a stream.

    :param t: Time of the record that held its first byte, in seconds.
    :param direction: Where it was seen, when the input says so.
    """
    message = codec.decode(item, direction) if isinstance(item, Frame) else None
    shown = direction
    if shown is None and message is not None:
        shown = message.direction
    elif shown is None and isinstance(item, BadFrame) and item.command is not None:
        shown = codec.direction_of(item.command)
    return Described(item, message, t, shown)


# --- JSON ----------------------------------------------------------------------------------------------


def json_value(value: Any) -> Any:
    """Bytes as hex, exact decimals as the shortest number, containers member by member."""
    if type(value) in _AS_THEY_ARE:  # most values: no look at base classes, which takes long
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Mapping):
        return {
            name: member if type(member) in _AS_THEY_ARE else json_value(member)
            for name, member in value.items()
        }
    if isinstance(value, list | tuple):
        return [json_value(member) for member in value]
    return value


_AS_THEY_ARE: Final = frozenset({bool, int, str, float, type(None)})
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def json_line(members: Mapping[str, Any]) -> str:
    """One line of JSON Lines, without its end."""
    return _ENCODER.encode(members)


def to_json(described: Described) -> dict[str, Any]:
    """The object of cli.md §4."""
    item, message = described.item, described.message
    result: dict[str, Any] = {
        "kind": "noise",
        "t": described.t,
        "dir": described.direction,
        "offset": item.offset,
        "length": len(item.wire),
        "wire": item.wire.hex(),
    }
    if isinstance(item, Noise):
        return result
    result["kind"] = "error"
    if isinstance(item, BadFrame):
        if item.command is not None:
            result |= {
                "command": item.command,
                "name": frame_name(item.command),
                "sn": item.sn,
                "flags": item.flags,
            }
        return result | {"error": item.reason, "detail": item.detail}
    if message is None:
        raise TypeError("a frame is described with its message")
    result |= {
        "command": item.command,
        "name": message.name,
        "sn": item.sn,
        "flags": item.flags,
        "payload": item.payload.hex(),
    }
    if message.action is not None:
        result["action"] = message.action
    if message.fields is not None:
        result["fields"] = json_value(message.fields)
    if message.attrs is not None and message.raw is not None:
        result["attrs"] = json_value(message.attrs)
        result["raw"] = json_value(message.raw)
    result["warnings"] = message.warnings
    if message.error is not None:
        return result | {"error": "payload", "detail": message.error}
    result["kind"] = "frame"
    return result


# --- the tree ------------------------------------------------------------------------------------------


def tree(described: Described) -> list[Node]:
    """Every byte of the item with its meaning, in wire order."""
    item = described.item
    if isinstance(item, Noise):
        return [Node(item.offset, item.wire, "noise", "bytes outside any frame")]
    places = _places(item.wire)
    nodes = [Node(item.offset, item.wire[:2], "header")]
    if isinstance(item, BadFrame):
        nodes += _envelope(item.offset, item.wire, places, len(item.logical))
        end = len(item.logical)
        if end > 6:
            complete = item.reason == "checksum"
            nodes += _plain_payload(item, places, end - 1 if complete else end)
            if complete:
                nodes.append(_node(item, places, end - 1, end, "checksum", "wrong"))
        tail = places[end - 1][1] if end else 2
        if tail < len(item.wire):
            nodes.append(
                Node(item.offset + tail, item.wire[tail:], "rest", "after this the frame was given up")
            )
        return nodes
    message = described.message
    if message is None:
        raise TypeError("a frame is described with its message")
    nodes += _envelope(item.offset, item.wire, places, 6)
    nodes += _payload_nodes(item, message, places)
    end = len(item.payload) + 6
    nodes.append(_node(item, places, end, end + 1, "checksum"))
    return nodes


SECRET_FIELDS: Final = frozenset({"product_secret", "password"})
"""Fields that :func:`headline` does not show whole: it is made for logs."""


def masked(value: str) -> str:
    """The first characters of a secret, enough to tell two apart."""
    return f"{value[:4]}…" if len(value) > 4 else "…"


def headline(described: Described) -> str:
    """The item in one line, without offset and time: name, numbers and values; secrets shortened."""
    item, message = described.item, described.message
    if isinstance(item, Noise):
        return f"noise, {len(item.wire)} bytes"
    if isinstance(item, BadFrame):
        known = f" {frame_name(item.command)} sn {item.sn}" if item.command is not None else ""
        return f"ERROR {item.reason}{known}: {item.detail}"
    if message is None:
        raise TypeError("a frame is described with its message")
    parts = [f"{message.name} sn {item.sn}"]
    if message.action is not None:
        spec = ACTIONS.get(message.action)
        parts.append(f"action {message.action:02X}" + (f" {spec.meaning.value}" if spec else ""))
    fields = dict(message.fields or {})
    if "status" in fields:
        parts.append(_status_text(fields))
        fields.clear()
    values = {**fields, **(message.attrs or {})}
    parts += [
        f"{name}={masked(value) if name in SECRET_FIELDS and isinstance(value, str) else value_text(value)}"
        for name, value in values.items()
    ]
    if message.error is not None:
        parts.append(f"ERROR payload: {message.error}")
    return " ".join(parts)


def _status_text(fields: Mapping[str, Any]) -> str:
    """The status word in hex and the bits that are set."""
    on = [f"{k} {v}" if k == "rssi" else k for k, v in fields.items() if v and k != "status"]
    return f"{fields['status']:04X} {', '.join(on) or 'nothing on'}"


def value_text(value: Any) -> str:
    """A value as ``encode`` takes it."""
    value = json_value(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def render(described: Described) -> str:
    """The tree as text: offset, bytes, meaning; warnings and errors below."""
    item, message = described.item, described.message
    lines = [_title(described)]
    for node in tree(described):
        lines += _lines(node)
    for warning in message.warnings if message else ():
        lines.append(f"  warning: {warning}")
    if isinstance(item, BadFrame):
        lines.append(f"  error: {item.detail}")
    elif message is not None and message.error is not None:
        lines.append(f"  error: {message.error}")
    return "\n".join(lines)


def _title(described: Described) -> str:
    item, message = described.item, described.message
    when = f"{described.t:.6f} s  " if described.t is not None else ""
    where = f"  {described.direction}" if described.direction else ""
    size = f"  at byte {item.offset}, {len(item.wire)} bytes"
    if isinstance(item, Noise):
        return f"{when}noise{where}{size}"
    if isinstance(item, BadFrame):
        name = f"  {frame_name(item.command)}" if item.command is not None else ""
        return f"{when}ERROR {item.reason}{name}{where}{size}"
    if message is None:
        raise TypeError("a frame is described with its message")
    bad = "ERROR payload  " if message.error is not None else ""
    return f"{when}{bad}{message.name} ({item.command:02X})  sn {item.sn}{where}{size}"


def _lines(node: Node, indent: int = 0) -> Iterator[str]:
    meaning = f"{'  ' * indent}{node.label}{f'  {node.text}' if node.text else ''}"
    if node.bits:
        yield f"  {'':8}  {'bit ' + node.bits:>{3 * BYTES_PER_LINE - 1}}  {meaning}"
    else:
        first = node.wire[:BYTES_PER_LINE]
        yield f"  {node.offset:08x}  {first.hex(' '):<{3 * BYTES_PER_LINE - 1}}  {meaning}".rstrip()
        for start in range(BYTES_PER_LINE, len(node.wire), BYTES_PER_LINE):
            yield f"  {node.offset + start:08x}  {node.wire[start : start + BYTES_PER_LINE].hex(' ')}"
    for child in node.children:
        yield from _lines(child, indent + 1)


def _places(wire: bytes) -> list[tuple[int, int]]:
    """First and last-plus-one wire byte of every logical byte after the header."""
    places: list[tuple[int, int]] = []
    here = 2
    while here < len(wire):
        size = 2 if wire[here] == 0xFF and wire[here + 1 : here + 2] == b"\x55" else 1
        places.append((here, here + size))
        here += size
    return places


def _node(  # noqa: PLR0917 - a row of the tree, called in every line of this part
    item: Frame | BadFrame, places: list[tuple[int, int]], start: int, end: int, label: str, text: str = ""
) -> Node:
    if start >= end:
        here = places[start][0] if start < len(places) else len(item.wire)
        return Node(item.offset + here, b"", label, text)
    first, last = places[start][0], places[end - 1][1]
    return Node(item.offset + first, item.wire[first:last], label, text)


def _envelope(offset: int, wire: bytes, places: list[tuple[int, int]], arrived: int) -> Iterator[Node]:
    for label, start, last_needed in _HEADER_FIELDS:
        end = min(last_needed, arrived)
        if start >= end:
            return
        raw = b"".join(wire[a : a + 1] for a, _ in places[start:end])
        number = int.from_bytes(raw, "big")
        text = {
            "length": str(number),
            "command": frame_name(number),
            "sn": str(number),
            "flags": f"{number:04X}",
        }[label]
        first, last = places[start][0], places[end - 1][1]
        yield Node(offset + first, wire[first:last], label, text)


def _plain_payload(item: Frame | BadFrame, places: list[tuple[int, int]], end: int) -> Iterable[Node]:
    return [_node(item, places, 6, end, "payload")] if end > 6 else []


def _payload_nodes(item: Frame, message: Message, places: list[tuple[int, int]]) -> Iterator[Node]:
    done = 0
    for span in message.spans:
        yield _span_node(item, places, span, message)
        done = span.end
    p0 = message.p0
    if p0 is not None and p0.block is not None and p0.raw is not None:
        start = message.p0_start + p0.block_start
        yield from _block_nodes(item, places, p0.block, start, message)
        done = start + p0.block.size
    if done < len(item.payload):
        label = "ignored" if done or message.error is None else "payload"
        yield _node(item, places, 6 + done, 6 + len(item.payload), label)


def _span_node(item: Frame, places: list[tuple[int, int]], span: Span, message: Message) -> Node:
    text = value_text(span.value)
    if span.name == "action" and isinstance(span.value, int):
        spec = ACTIONS.get(span.value)
        text = f"{span.value:02X} {spec.meaning.value if spec else 'unknown'}"
    elif span.name == "attr_flags":
        names = message.p0.points if message.p0 and message.p0.points is not None else (message.raw or {})
        text = ", ".join(names) or "none"
    elif span.name == "status" and message.fields is not None:
        text = _status_text(message.fields)
    elif isinstance(span.value, bytes):
        text = ""
    node = _node(item, places, 6 + span.start, 6 + span.end, span.name, text)
    children = tuple(_span_node(item, places, child, message) for child in span.children)
    return dataclasses.replace(node, children=children) if children else node


def _block_nodes(
    item: Frame, places: list[tuple[int, int]], block: Block, start: int, message: Message
) -> Iterator[Node]:
    pieces: dict[tuple[int, int], list[Node]] = {}
    texts: dict[tuple[int, int], tuple[str, str]] = {}
    for slot in block.slots:
        name = slot.point.name
        text = _point_text(name, message)
        if slot.point.is_bits:
            top = slot.bit + slot.point.width - 1
            bits = str(slot.bit) if top == slot.bit else f"{slot.bit}..{top}"
            pieces.setdefault((slot.start, slot.end), []).append(Node(0, b"", name, text, bits=bits))
        else:
            pieces[slot.start, slot.end] = []
            texts[slot.start, slot.end] = name, text
    here = 0
    for (first, last), children in sorted(pieces.items()):
        if first > here:
            yield _node(item, places, 6 + start + here, 6 + start + first, "unused")
        label, text = texts.get((first, last), ("bits", ""))
        node = _node(item, places, 6 + start + first, 6 + start + last, label, text)
        yield dataclasses.replace(node, children=tuple(children))
        here = last
    if here < block.size:
        yield _node(item, places, 6 + start + here, 6 + start + block.size, "unused")


def _point_text(name: str, message: Message) -> str:
    raw = (message.raw or {}).get(name)
    if raw is None:
        return "not flagged, ignored"
    value = (message.attrs or {}).get(name)
    if isinstance(raw, bytes):
        return ""
    text = value_text(value)
    return text if isinstance(value, bool) or text == str(raw) else f"{text} (raw {raw})"
