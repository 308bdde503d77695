"""What is asked on a line, and in which order."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias, TypeVar

from gizserial import schemas
from gizserial.commands import Command, Role
from gizserial.datapoints import Raw
from gizserial.diagnosis import orders
from gizserial.diagnosis.dialects import RIGHT, Dialect, explain, single_faults
from gizserial.diagnosis.examination import Exchange, Interrupted, Plan, Probe
from gizserial.diagnosis.faults import Fault, of_dialect, of_orders
from gizserial.diagnosis.verdict import UNHEARD, Diagnosis, diagnose, with_faults
from gizserial.errors import BodyError, EncodeError
from gizserial.framing import Frame, Framer
from gizserial.p0 import P0Codec
from gizserial.product import Product

T = TypeVar("T")
Reader: TypeAlias = Callable[[Sequence[bytes]], Iterable[Frame]]
"""Takes the frames out of bursts."""

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
_READS: Final = (
    (Command.P0_TO_MCU, 0x58, b"\x02"),
    (Command.P0_TO_MCU, 0x59, b"\x12" + b"\xff" * 8),  # variable length: any 64 points; FFs in the question
)
"""The status, of whatever product: the other family's action is acked and nothing else (§5.1)."""
_AS_MCU: Final = (
    (Command.MODULE_INFO, 0x2A, schemas.MODULE_INFO_REQUEST.build({"type": 0})),
    (Command.NETWORK_TIME, 0x31, b""),
    (Command.MODULE_INFO, 0xFF, schemas.MODULE_INFO_REQUEST.build({"type": 0})),
    (Command.NETWORK_TIME, 0xE3, b""),  # the checksum of the question is FF
    (Command.NETWORK_TIME, 0x94, b""),
)


_SPOKEN: Final = {
    Role.MODULE: ((Command.HEARTBEAT, b""), (Command.P0_TO_MCU, b"\x02")),
    Role.MCU: ((Command.NETWORK_TIME, b""),),
}
"""Questions in a dialect: the first of them that looks another way in it."""


def ask(command: int, sn: int, payload: bytes = b"", *, required: bool = True) -> Probe:
    """A question that has an ack."""
    frame = Frame(command, sn, payload)
    return Probe(frame.encode(), frame, command + 1, required=required)


def line_plan(role: Role) -> Plan[list[Exchange]]:
    """Listen, then ask what shows the framing; what stays unanswered is asked once more."""
    done: list[Exchange] = [(yield Probe(wait=LISTEN))]
    for command, sn, payload in _AS_MODULE if role is Role.MODULE else _AS_MCU:
        for _attempt in range(2):
            exchange = yield ask(command, sn, payload)
            done.append(exchange)
            if exchange.received:
                break
    if role is Role.MODULE and any(exchange.received for exchange in done):
        for command, sn, payload in _READS:
            done.append((yield ask(command, sn, payload, required=False)))
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
    diagnosis = yield from plain_plan(role, product)
    if diagnosis.may_be_dialect:
        return (yield from dialect_plan(role, diagnosis))
    return diagnosis


def plain_plan(role: Role, product: Product | None = None) -> Plan[Diagnosis]:
    """As :func:`full_plan`, but only right questions are asked."""
    done = yield from line_plan(role)
    diagnosis = diagnose(done, role, product)
    other = any(fault.code == "other-product" for fault in diagnosis.faults)  # who knows what would move
    if product is None or role is not Role.MODULE or not diagnosis.answered or other:
        return diagnosis
    reader = _right if diagnosis.dialect == RIGHT else functools.partial(_read_as, diagnosis.dialect)
    told = yield from _noted(order_plan(product, reader), done)
    return with_faults(diagnose(done, role, product), told)  # the values may have had an FF


def _noted(plan: Plan[T], done: list[Exchange]) -> Plan[T]:
    """Carry out a plan, and keep its exchanges."""
    step: Callable[[], Probe] = functools.partial(next, plan)
    while True:
        try:
            probe = step()
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            exchange = yield probe
        except Interrupted as interrupted:
            step = functools.partial(plan.throw, interrupted)
        else:
            done.append(exchange)
            step = functools.partial(plan.send, exchange)


def _right(bursts: Sequence[bytes]) -> Iterable[Frame]:
    """Frames as they should be."""
    for burst in bursts:
        yield from (item for item in Framer().feed(burst) if isinstance(item, Frame))


def _read_as(dialect: Dialect, bursts: Sequence[bytes]) -> Iterable[Frame]:
    """Frames as a faulty peer makes them."""
    return [reading.frame for reading in explain(bursts, dialect).readings]


def dialect_plan(role: Role, diagnosis: Diagnosis) -> Plan[Diagnosis]:
    """Speak wrongly, in every way of the table, until a peer answers that answers nothing else."""
    for number, dialect in enumerate(single_faults()):
        frames = [Frame(command, 0x40 + number, payload) for command, payload in _SPOKEN[role]]
        frame = next((frame for frame in frames if dialect.encode(frame) != frame.encode()), None)
        if frame is None:
            continue
        exchange = yield Probe(dialect.encode(frame), frame, frame.command + 1, wait=0.25)
        if exchange.received.startswith(exchange.probe.wire):
            continue
        for speaks, read in ((False, _right), (True, functools.partial(_read_as, dialect))):
            if any((f.command, f.sn) == (frame.command + 1, frame.sn) for f in read(exchange.bursts)):
                told = of_dialect(dialect, role, frame, speaks=speaks)
                same = {code for code, _words in dialect.faults(everywhere=True)} if speaks else set()
                kept = [fault for fault in diagnosis.faults if fault.code not in UNHEARD | same]
                return dataclasses.replace(diagnosis, faults=(*told, *kept))
    return diagnosis


@dataclasses.dataclass(slots=True)
class _Asker:
    """Numbers the P0s to an MCU, and reads what it answers."""

    read: Reader
    sn: int = 0xA0

    def ask(self, p0: bytes) -> Probe:
        self.sn = (self.sn + 1) & 0x7F | 0x80 if self.sn < 0xF0 else 0x80
        return ask(Command.P0_TO_MCU, self.sn, p0, required=False)


def order_plan(product: Product, reader: Reader = _right) -> Plan[list[Fault]]:
    """Control some points with telling values, read after each, put everything back."""
    codec, asker = P0Codec(product), _Asker(reader)
    status = yield from _read(codec, asker)
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
            acked = yield from _control(asker, control)
            after = yield from _read(codec, asker)
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
    restored = yield from _restore(codec, asker, order, first=first, last=status, touched=touched)
    return of_orders(judged, steps, codec, restored=restored)


def _restore(
    codec: P0Codec,
    asker: _Asker,
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
            yield from _control(asker, control)
        now = yield from _read(codec, asker)
        if now is None:
            return False
        try:
            read = orders.values(now, codec, order)
        except BodyError:
            return False
        if all(read.get(name) == raw for name, raw in back.items()):
            return True
    return False


def _control(asker: _Asker, p0: bytes) -> Plan[bool]:
    """Send a control until it is acked."""
    probe = asker.ask(p0)
    for _attempt in range(3):
        exchange = yield probe
        for frame in asker.read(exchange.bursts):
            if probe.frame and frame.command == probe.expect:
                return frame.sn == probe.frame.sn
    return False


def _read(codec: P0Codec, asker: _Asker) -> Plan[bytes | None]:
    """The whole status, as P0 bytes."""
    names = [point.name for point in codec.data_points.product.points]
    fixed = codec.read()
    probe = asker.ask(fixed if len(fixed) == 1 else codec.read(names))
    for _attempt in range(3):
        exchange = yield probe
        for frame in asker.read(exchange.bursts):
            if frame.command == probe.expect and len(frame.payload) > 1:
                return frame.payload
    return None
