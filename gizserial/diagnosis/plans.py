"""What is asked on a line, and in which order."""

from __future__ import annotations

import dataclasses
from typing import Final

from gizserial import schemas
from gizserial.commands import Command, Role
from gizserial.datapoints import Raw
from gizserial.diagnosis import orders
from gizserial.diagnosis.dialects import Dialect, single_faults
from gizserial.diagnosis.examination import Exchange, Interrupted, Plan, Probe
from gizserial.diagnosis.faults import Fault, of_dialect, of_orders
from gizserial.diagnosis.verdict import Diagnosis, diagnose, with_faults
from gizserial.errors import BodyError, EncodeError
from gizserial.framing import Frame, Framer
from gizserial.p0 import P0Codec
from gizserial.product import Product

LISTEN: Final = 1.0
"""Seconds of listening first: a module that starts repeats 01 five times in it, a boot log shows itself."""

_AS_MODULE: Final = (
    (Command.DEVICE_INFO, 0x2A, b""),
    (Command.HEARTBEAT, 0x31, b""),
    (Command.HEARTBEAT, 0x6B, b""),
    (Command.HEARTBEAT, 0xFF, b""),  # the sn is FF both ways
    (Command.HEARTBEAT, 0xF2, b""),  # the checksum of the ack is FF
    (Command.HEARTBEAT, 0xF3, b""),  # the checksum of the question is FF
    (Command.DEVICE_INFO, 0x94, b""),
)
_AS_MCU: Final = (
    (Command.MODULE_INFO, 0x2A, schemas.MODULE_INFO_REQUEST.build({"type": 0})),
    (Command.NETWORK_TIME, 0x31, b""),
    (Command.MODULE_INFO, 0xFF, schemas.MODULE_INFO_REQUEST.build({"type": 0})),
    (Command.NETWORK_TIME, 0xE3, b""),  # the checksum of the question is FF
    (Command.NETWORK_TIME, 0x94, b""),
)


def ask(command: int, sn: int, payload: bytes = b"") -> Probe:
    """A question that has an ack."""
    frame = Frame(command, sn, payload)
    return Probe(frame.encode(), frame, command + 1)


def line_plan(role: Role) -> Plan[list[Exchange]]:
    """Listen, then ask what shows the framing; what stays unanswered is asked once more."""
    done: list[Exchange] = [(yield Probe(wait=LISTEN))]
    for command, sn, payload in _AS_MODULE if role is Role.MODULE else _AS_MCU:
        for _attempt in range(2):
            exchange = yield ask(command, sn, payload)
            done.append(exchange)
            if exchange.received:
                break
    return done


def rate_plan(role: Role) -> Plan[Diagnosis]:
    """A short look, for one of many baud rates."""
    done: list[Exchange] = [(yield Probe(wait=0.4))]
    for command, sn, payload in (_AS_MODULE if role is Role.MODULE else _AS_MCU)[:3]:
        done.append((yield ask(command, sn, payload)))
    return diagnose(done, role)


def listen_plan(role: Role, seconds: float) -> Plan[Diagnosis]:
    """Send nothing."""
    return diagnose([(yield Probe(wait=seconds))], role)


def full_plan(role: Role, product: Product | None = None) -> Plan[Diagnosis]:
    """Everything that one baud rate can show.

    With its own product, an MCU that answers is controlled; its values are put back.
    """
    done = yield from line_plan(role)
    diagnosis = diagnose(done, role, product)
    if diagnosis.refused or not (diagnosis.received or diagnosis.echoed):
        dialect = yield from dialect_plan(role)
        if dialect is not None:
            kept = [fault for fault in diagnosis.faults if fault.code not in {"silent", "refuses"}]
            told = (*of_dialect(dialect, role), *kept)
            return dataclasses.replace(diagnosis, faults=told)
    other = any(fault.code == "other-product" for fault in diagnosis.faults)  # who knows what would move
    if product is not None and role is Role.MODULE and diagnosis.answered and not other:
        return with_faults(diagnosis, (yield from order_plan(product)))
    return diagnosis


def dialect_plan(role: Role) -> Plan[Dialect | None]:
    """Speak wrongly, in every way of the table, until the peer answers."""
    command = Command.HEARTBEAT if role is Role.MODULE else Command.NETWORK_TIME
    for number, dialect in enumerate(single_faults()):
        frame = Frame(command, 0x40 + number)
        exchange = yield Probe(dialect.encode(frame), frame, command + 1, wait=0.25)
        if exchange.received.startswith(exchange.probe.wire):
            continue
        for item in Framer().feed(exchange.received):
            if isinstance(item, Frame) and (item.command, item.sn) == (command + 1, frame.sn):
                return dialect
        position = exchange.received.find(b"\xff\xff")
        reading = dialect.read(exchange.received[position + 2 :]) if position >= 0 else None
        if reading is not None and reading.frame.command == command + 1:
            return dialect
    return None


@dataclasses.dataclass(slots=True)
class _Numbers:
    sn: int = 0xA0

    def next(self) -> int:
        self.sn = (self.sn + 1) & 0x7F | 0x80 if self.sn < 0xF0 else 0x80
        return self.sn


def order_plan(product: Product) -> Plan[list[Fault]]:
    """Control some points with telling values, read after each, put everything back."""
    codec, numbers = P0Codec(product), _Numbers()
    status = yield from _read(codec, numbers)
    if status is None:
        return []
    first = status
    try:
        known = orders.values(status, codec, orders.RIGHT)
        asked = orders.questions(codec, known)
    except BodyError:
        return []
    steps: list[orders.Step] = []
    try:
        for point, raw, high in asked:
            control = orders.control(codec, point, raw, known, high=high)
            acked = yield from _control(numbers, control)
            after = yield from _read(codec, numbers)
            if after is None:
                break
            if acked:  # a control that was lost says nothing
                steps.append(orders.Step(status, control, after))
            status = after
    except Interrupted:
        pass  # nothing more is changed; what was, is put back
    if not asked:
        steps.append(orders.Step(status, b"", status))  # what it says may be telling by itself
    judged = orders.judge(steps, codec) if steps else [orders.RIGHT]
    order = judged[0] if judged else orders.RIGHT
    touched = {point.name for point, _raw, _high in asked}
    restored = yield from _restore(codec, numbers, order, first=first, last=status, touched=touched)
    return of_orders(judged, steps, codec, restored=restored)


def _restore(
    codec: P0Codec,
    numbers: _Numbers,
    order: orders.Order,
    *,
    first: bytes,
    last: bytes,
    touched: set[str],
) -> Plan[bool]:
    """Put back what was changed, in the order that the MCU understands: all at once, then one by one.

    :param touched: Points that were controlled; they are put back even where the status shows no change.
    """
    try:
        wanted, found = orders.values(first, codec, order), orders.values(last, codec, order)
    except BodyError:
        return False
    names = [point.name for point in codec.data_points.product.writable]
    back: dict[str, Raw] = {
        name: wanted[name]
        for name in names
        if name in wanted and (name in touched or wanted[name] != found.get(name))
    }
    if not back:
        return True
    for some in ([back], [{name: raw} for name, raw in back.items()]):
        for values in some:
            try:
                control = orders.with_values(codec.control(values), codec, wanted)
            except EncodeError:
                continue
            if order.takes:
                control = orders.reordered(control, codec, order.parts, received=False)
            yield from _control(numbers, control)
        now = yield from _read(codec, numbers)
        if now is None:
            return False
        try:
            read = orders.values(now, codec, order)
        except BodyError:
            return False
        if all(read.get(name) == raw for name, raw in back.items()):
            return True
    return False


def _control(numbers: _Numbers, p0: bytes) -> Plan[bool]:
    """Send a control until it is acked."""
    probe = ask(Command.P0_TO_MCU, numbers.next(), p0)
    for _attempt in range(3):
        exchange = yield probe
        for item in Framer().feed(exchange.received):
            if isinstance(item, Frame) and probe.frame and item.command == probe.expect:
                return item.sn == probe.frame.sn
    return False


def _read(codec: P0Codec, numbers: _Numbers) -> Plan[bytes | None]:
    """The whole status, as P0 bytes."""
    names = [point.name for point in codec.data_points.product.points]
    fixed = codec.read()
    probe = ask(Command.P0_TO_MCU, numbers.next(), fixed if len(fixed) == 1 else codec.read(names))
    for _attempt in range(3):
        exchange = yield probe
        for burst in exchange.bursts:
            for item in Framer().feed(burst):
                if isinstance(item, Frame) and item.command == probe.expect and len(item.payload) > 1:
                    return item.payload
    return None
