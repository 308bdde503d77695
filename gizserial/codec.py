"""Frames ↔ messages: what a frame says, with the place of every field, and frames from names and values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from gizserial.adapters import Body, Span
from gizserial.commands import (
    EMPTY,
    FRAMES,
    P0_BODY,
    UNKNOWN_NAME,
    Direction,
    FrameSpec,
)
from gizserial.datapoints import Raw
from gizserial.errors import BodyError
from gizserial.framing import Frame
from gizserial.p0 import P0, P0Codec, take_sub_device
from gizserial.product import DataPoint, Product


@dataclasses.dataclass(slots=True, kw_only=True)
class Message:
    """What one sound frame says (the members of cli.md §4)."""

    frame: Frame
    name: str
    direction: Direction | None
    """The input's, else the command's; None where neither says."""
    fields: dict[str, Any] | None = None
    """Named values of a body that is not data points; None where there are none."""
    p0: P0 | None = None
    """P0 frames."""
    attrs: dict[str, Any] | None = None
    """Data point name → bool, enum text (its index if out of range), number or bytes."""
    warnings: list[str] = dataclasses.field(default_factory=list)
    error: str | None = None
    """Why the body of this sound frame cannot be read."""
    spans: list[Span] = dataclasses.field(default_factory=list)
    """Fields of the payload in wire order, offsets from the start of the payload."""
    p0_start: int = 0
    """Where the P0 begins in the payload; not 0 when a sub-device's did stands before it."""

    @property
    def action(self) -> int | None:
        """First byte of P0."""
        return self.p0.action if self.p0 else None

    @property
    def raw(self) -> dict[str, int | bytes] | None:
        """Data point name → unsigned wire integer, or bytes."""
        return self.p0.raw if self.p0 else None


class Codec:
    """Reads and writes the frames of one product, or of none.

    :param product: Without it P0 frames keep their payload and are not taken apart into data points.
    """

    def __init__(self, product: Product | None = None) -> None:
        self.product: Final = product
        self.p0: Final = P0Codec(product)
        points = product.points if product is not None else ()
        self._readers: Final = {point.name: _Reader(point) for point in points}

    def decode(self, frame: Frame, direction: Direction | None = None) -> Message:
        """What the frame says. Never raises: a body that is too short is the message's ``error``.

        :param direction: Where the frame was seen, when the input says so.
        """
        spec = FRAMES.get(frame.command)
        message = Message(frame=frame, name=UNKNOWN_NAME, direction=direction)
        if frame.unescaped:
            message.warnings.append("unescaped FF accepted")
        if spec is None:
            message.warnings.append(f"unknown command {frame.command:02X}")
            return message
        message.name = spec.name
        if spec.sender is not None:
            if direction is None:
                message.direction = spec.sender.direction
            elif spec.sender.direction != direction:
                message.warnings.append(f"{spec.name} is a frame of the other direction")
        try:
            self._body(frame, spec, message)
        except BodyError as error:
            message.error = str(error)
            message.attrs = None
            if message.p0 is not None:
                message.p0.raw = None
        return message

    @staticmethod
    def direction_of(command: int) -> Direction | None:
        """The direction of a frame id; None for commands of both directions and unknown ones."""
        spec = FRAMES.get(command)
        return spec.sender.direction if spec is not None and spec.sender is not None else None

    def _body(self, frame: Frame, spec: FrameSpec, message: Message) -> None:
        if spec.body == P0_BODY:
            self._p0(frame, message)
        elif spec.body == EMPTY:
            self._tail(frame.payload, 0, message)
        elif isinstance(spec.body, Body):
            spans: list[Span] = []
            values = spec.body.parse(frame.payload, spans=spans)
            message.spans = spans
            message.fields = dict(values) or None
            self._tail(frame.payload, spans[-1].end if spans else 0, message)
        if spec.flag_bits:
            message.fields = (message.fields or {}) | {
                name: bool(frame.flags & bit) for name, bit in spec.flag_bits.items()
            }

    def _p0(self, frame: Frame, message: Message) -> None:
        message.p0 = P0()
        did, start = take_sub_device(frame.payload, frame.flags)
        fields: dict[str, Any] = {}
        if did is not None:
            fields["did"] = did
            message.fields = fields  # stays known when the body is too short
            message.spans.append(Span("did", 0, start, did))
        message.p0_start = start
        if len(frame.payload) > start:
            message.p0.action = frame.payload[start]  # stays known when the body is too short
        message.p0 = p0 = self.p0.parse(frame.payload[start:], carrier=frame.command)
        message.spans += [span.moved(start) for span in p0.spans]
        message.warnings += p0.warnings
        for name, value in (("data", p0.data), ("points", p0.points), ("devices", p0.devices)):
            if value is not None:
                fields[name] = list(value) if isinstance(value, tuple) else value
        if fields:
            message.fields = fields
        if p0.raw is not None and self.product is not None:
            attrs: dict[str, Any] = {}
            for name, raw in p0.raw.items():
                attrs[name], warnings = self._readers[name].read(raw)
                if warnings:
                    message.warnings += warnings
            message.attrs = attrs

    @staticmethod
    def _tail(payload: bytes, end: int, message: Message) -> None:
        extra = len(payload) - end
        if extra > 0:
            what = "1 byte" if extra == 1 else f"{extra} bytes"
            after = "after the last field" if end else "on a frame without body"
            message.warnings.append(f"{what} {after} ignored")


class _Reader:
    """Raw values of one point → value and warnings, remembered: the same few come over and over."""

    LIMIT: Final = 4096

    def __init__(self, point: DataPoint) -> None:
        self._point = point
        self._known: dict[int, tuple[Any, list[str]]] = {}

    def read(self, raw: Raw) -> tuple[Any, list[str]]:
        if not isinstance(raw, int):
            return self._point.value(raw), self._point.warnings(raw)
        known = self._known.get(raw)
        if known is None:
            known = self._point.value(raw), self._point.warnings(raw)
            if len(self._known) < self.LIMIT:
                self._known[raw] = known
        return known


def build_body(spec: FrameSpec, fields: Mapping[str, Any]) -> tuple[bytes, int]:
    """Payload and flags of a frame with a body that is not P0.

    :raises EncodeError: a field that is unknown, missing or has a value it cannot carry.
    """
    flags = 0
    values = dict(fields)
    for name, bit in spec.flag_bits.items():
        if values.pop(name, False):
            flags |= bit
    if not isinstance(spec.body, Body):
        raise TypeError(f"{spec.name} has no body of named fields")
    payload: bytes = spec.body.build(values)
    return payload, flags
