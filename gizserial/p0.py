"""P0, the business payload: its actions, and their bodies for one product (serial.md §5).

::

    action | body
    01 11    attr_flags attr_vals                 control
    02 12    nothing | attr_flags                 read
    03 04    dev_status                           reply, report of a fixed-length product
    13 14    attr_flags attr_vals                 reply, report of a variable-length product
    05 06    bytes                                raw data
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from gizserial import schemas
from gizserial.adapters import Body, Span
from gizserial.commands import Command
from gizserial.datapoints import Block, DataPoints, Raw, RawValues
from gizserial.errors import EncodeError
from gizserial.product import Layout, Product


class Action(enum.IntEnum):
    """First byte of P0 (serial.md §5.1, §4.16)."""

    CONTROL = 0x01
    READ = 0x02
    READ_REPLY = 0x03
    REPORT = 0x04
    RAW_TO_MCU = 0x05
    RAW_FROM_MCU = 0x06
    VAR_CONTROL = 0x11
    VAR_READ = 0x12
    VAR_READ_REPLY = 0x13
    VAR_REPORT = 0x14
    MESH_STATUS = 0x71
    MESH_CONTROL = 0x72
    MESH_REPORT = 0x73


class Meaning(enum.Enum):
    """What an action does, whichever layout the product has."""

    CONTROL = "control"
    READ = "read"
    READ_REPLY = "read_reply"
    REPORT = "report"
    RAW = "raw data"
    MESH = "sub-devices"


@dataclasses.dataclass(frozen=True, slots=True)
class ActionSpec:
    """One row of the table of actions."""

    action: Action
    carrier: int
    """Id of the frame that carries it: 03, 04 or 05."""
    meaning: Meaning
    layout: Layout | None = None
    """The product family it belongs to; None: both."""
    body: Body | None = None


_REPLY: Final = Command.P0_TO_MCU + 1

_TO, _FROM = int(Command.P0_TO_MCU), int(Command.P0_FROM_MCU)
_FIXED, _VARIABLE = Layout.FIXED, Layout.VARIABLE

ACTIONS: Final[Mapping[int, ActionSpec]] = MappingProxyType(
    {
        spec.action: spec
        for spec in (
            ActionSpec(Action.CONTROL, _TO, Meaning.CONTROL, _FIXED),
            ActionSpec(Action.READ, _TO, Meaning.READ, _FIXED),
            ActionSpec(Action.READ_REPLY, _REPLY, Meaning.READ_REPLY, _FIXED),
            ActionSpec(Action.REPORT, _FROM, Meaning.REPORT, _FIXED),
            ActionSpec(Action.RAW_TO_MCU, _TO, Meaning.RAW),
            ActionSpec(Action.RAW_FROM_MCU, _FROM, Meaning.RAW),
            ActionSpec(Action.VAR_CONTROL, _TO, Meaning.CONTROL, _VARIABLE),
            ActionSpec(Action.VAR_READ, _TO, Meaning.READ, _VARIABLE),
            ActionSpec(Action.VAR_READ_REPLY, _REPLY, Meaning.READ_REPLY, _VARIABLE),
            ActionSpec(Action.VAR_REPORT, _FROM, Meaning.REPORT, _VARIABLE),
            ActionSpec(Action.MESH_STATUS, _FROM, Meaning.MESH, body=schemas.MESH_STATUS),
            ActionSpec(Action.MESH_CONTROL, _TO, Meaning.MESH, body=schemas.MESH_DATA),
            ActionSpec(Action.MESH_REPORT, _FROM, Meaning.MESH, body=schemas.MESH_DATA),
        )
    }
)
"""Every action, with the frame that carries it and the family it belongs to."""

_BY_MEANING: Final = {(spec.meaning, spec.layout): spec.action for spec in ACTIONS.values()}


def action_for(meaning: Meaning, layout: Layout) -> Action:
    """The action that does this in a product of that layout."""
    return _BY_MEANING[meaning, layout]


def raw_to_mcu(data: bytes) -> bytes:
    """P0 with opaque bytes for the MCU (serial.md §4.18)."""
    return bytes((Action.RAW_TO_MCU,)) + data


def raw_from_mcu(data: bytes) -> bytes:
    """P0 with opaque bytes from the MCU (serial.md §4.18)."""
    return bytes((Action.RAW_FROM_MCU,)) + data


@dataclasses.dataclass(slots=True, kw_only=True)
class P0:
    """What one P0 says."""

    action: int | None = None
    """None when the P0 is empty, as in plain acks."""
    meaning: Meaning | None = None
    """None when the action is not understood here; ``warnings`` says why."""
    raw: dict[str, Raw] | None = None
    """Raw wire values by name, in id order; None where the body has no values or there is no product."""
    points: tuple[str, ...] | None = None
    """The points a variable-length read asks for; empty: all."""
    data: bytes | None = None
    """Raw data."""
    devices: list[dict[str, Any]] | None = None
    """Sub-devices of a light gateway."""
    warnings: list[str] = dataclasses.field(default_factory=list)
    spans: list[Span] = dataclasses.field(default_factory=list)
    """Parts in wire order, offsets from the start of the P0."""
    block: Block | None = None
    """Where the values of ``raw`` stood, ``block_start`` bytes into the P0."""
    block_start: int = 0


class P0Codec:
    """P0 of one product ↔ raw values; without a product only what needs none is understood."""

    def __init__(self, product: Product | None = None) -> None:
        self.product: Final = product
        self._points: Final = DataPoints(product) if product is not None else None

    @property
    def data_points(self) -> DataPoints:
        """The product's blocks (:raises EncodeError: without a product)."""
        if self._points is None:
            raise EncodeError("this needs a product definition")
        return self._points

    def parse(self, p0: bytes, carrier: int | None = None) -> P0:
        """Read one P0.

        :param carrier: Id of the frame that brought it; an action that does not go with it is not read.
        :raises BodyError: when the body is too short for what its action says.
        """
        result = P0()
        if not p0:
            return result
        result.action = p0[0]
        result.spans.append(Span("action", 0, 1, p0[0]))
        spec = ACTIONS.get(p0[0])
        if spec is None:
            result.warnings.append(f"unknown action {p0[0]:02X}")
        elif carrier is not None and spec.carrier != carrier:
            result.warnings.append(f"action {p0[0]:02X} does not go with frame {carrier:02X}")
        elif self.product is not None and spec.layout not in (None, self.product.layout):
            family = "fixed-length" if spec.layout is Layout.FIXED else "variable-length"
            result.warnings.append(f"action {p0[0]:02X} belongs to {family} products")
        else:
            result.meaning = spec.meaning
            self._body(p0, spec, result)
        return result

    def _body(self, p0: bytes, spec: ActionSpec, result: P0) -> None:
        if spec.meaning is Meaning.RAW:
            result.data = p0[1:]
            result.spans.append(Span("data", 1, len(p0), result.data))
        elif spec.body is not None:
            spans: list[Span] = []
            values = spec.body.parse(p0[1:], spans=spans)
            result.devices = values["devices"]
            result.spans += [span.moved(1) for span in spans]
            self._tail(p0, result.spans[-1].end, result)
        elif spec.meaning is Meaning.READ:
            self._read(p0, spec, result)
        elif self._points is not None:
            self._values(p0, spec, result, self._points)

    def _read(self, p0: bytes, spec: ActionSpec, result: P0) -> None:
        if spec.layout is Layout.FIXED:
            self._tail(p0, 1, result)
        elif self._points is not None:
            points = self._points
            flags = points.parse_flags(p0[1:]) if len(p0) > 1 else 0  # R32: without flags it asks for all
            end = min(len(p0), 1 + points.flag_bytes)
            result.points = tuple(point.name for point in points.points_of(flags))
            if end > 1:
                result.spans.append(Span("attr_flags", 1, end, p0[1:end]))
            self._tail(p0, end, result)

    def _values(self, p0: bytes, spec: ActionSpec, result: P0, points: DataPoints) -> None:
        control = spec.meaning is Meaning.CONTROL
        start, what = 1, "status"
        block = points.dev_status
        flags = -1
        if control or spec.layout is Layout.VARIABLE:
            flags = points.parse_flags(p0[1:])
            start, what = 1 + points.flag_bytes, "part with the values"
            block = (
                points.writable if spec.layout is Layout.FIXED else points.flagged(flags & points.known_flags)
            )
            result.spans.append(Span("attr_flags", 1, start, p0[1:start]))
        raw = block.parse(p0[start:], what)
        if flags >= 0:
            flagged = points.points_of(flags)
            result.raw = {point.name: raw[point.name] for point in flagged if point.name in raw}
            if control:
                result.warnings += [
                    f"{point.name} is flagged in a control but is not writable"
                    for point in flagged
                    if not point.writable
                ]
        else:
            result.raw = raw
        result.block, result.block_start = block, start
        self._tail(p0, start + block.size, result)

    def _tail(self, p0: bytes, end: int, result: P0) -> None:
        if len(p0) > end:
            result.warnings.append(f"{_count(len(p0) - end)} after the last field ignored")

    def control(self, raw: RawValues) -> bytes:
        """A control of the named points.

        :raises EncodeError: a point that is unknown or not writable, or a product without writable points.
        """
        points = self.data_points
        layout = points.product.layout
        if not points.product.writable:
            raise EncodeError("the product has no writable data points, so it has no control")
        points.require_writable(raw)
        flags = points.build_flags(raw)
        block = points.writable if layout is Layout.FIXED else points.flagged(int.from_bytes(flags, "big"))
        return bytes((action_for(Meaning.CONTROL, layout),)) + flags + block.build(raw)

    def read(self, names: Iterable[str] = ()) -> bytes:
        """A read: of everything, or of the named points of a variable-length product."""
        points = self.data_points
        names = tuple(names)
        action = bytes((action_for(Meaning.READ, points.product.layout),))
        if points.product.layout is Layout.VARIABLE:
            return action + points.build_flags(names)
        if names:
            raise EncodeError("a read of a fixed-length product names no points: it always asks for all")
        return action

    def reply(self, raw: RawValues) -> bytes:
        """The answer to a read, as :meth:`report`."""
        return self._status(Meaning.READ_REPLY, raw)

    def report(self, raw: RawValues) -> bytes:
        """A report. Fixed length: every point, those not named are 0; variable length: the named ones."""
        return self._status(Meaning.REPORT, raw)

    def _status(self, meaning: Meaning, raw: RawValues) -> bytes:
        points = self.data_points
        layout = points.product.layout
        action = bytes((action_for(meaning, layout),))
        if layout is Layout.FIXED:
            return action + points.dev_status.build(raw)
        flags = points.build_flags(raw)
        return action + flags + points.flagged(int.from_bytes(flags, "big")).build(raw)


def take_sub_device(payload: bytes, flags: int) -> tuple[str | None, int]:
    """The sub-device's did that stands before the P0 when bit 0 of the flags is set, and where the P0 begins.

    :raises BodyError: when the did is cut off (serial.md §1.5).
    """
    if not flags & 1 or not payload:
        return None, 0
    spans: list[Span] = []
    values = schemas.SUB_DEVICE.parse(payload, spans=spans)
    return values["did"], spans[0].end


def _count(number: int) -> str:
    return "1 byte" if number == 1 else f"{number} bytes"
