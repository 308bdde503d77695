"""From what came to what is wrong."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gizserial import schemas
from gizserial.commands import FRAMES, Command, Role
from gizserial.diagnosis import faults, signals
from gizserial.diagnosis.dialects import RIGHT, Dialect, search
from gizserial.diagnosis.examination import Exchange, Probe
from gizserial.diagnosis.faults import Fault, count, peer_of
from gizserial.endpoint import NOTICES
from gizserial.errors import BodyError
from gizserial.framing import HEADER, Frame, Framer, Item
from gizserial.product import Product

UNHEARD: Final = frozenset({"silent", "refuses", "unanswered"})
"""Faults of a peer that answers nothing."""
_RATE: Final = frozenset({"silent", "garbage"})
_LATE: Final = 0.25
"""Seconds to an answer: 200 ms (§1.8), and the time that USB adapters and their drivers take."""
_KEY: Final = 32
"""Characters of a product key in the device information (§4.1)."""
_GLITCH: Final = 2
"""Bytes outside frames that opening a port may cause."""


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnosis:
    """What one examination found."""

    faults: tuple[Fault, ...]
    frames: int = 0
    """Good frames of the peer."""
    questions: int = 0
    answered: int = 0
    received: int = 0
    """Bytes of the peer, without an echo of ours."""
    echoed: bool = False
    """Our own bytes came back."""
    dialect: Dialect = RIGHT
    """How the peer makes its frames."""
    summary: str = ""
    """The sentence for a line without fault."""

    @property
    def healthy(self) -> bool:
        """Nothing is wrong."""
        return not self.faults

    @property
    def may_be_rate(self) -> bool:
        """Another baud rate may show more."""
        return any(fault.code in _RATE for fault in self.faults)

    @property
    def may_be_dialect(self) -> bool:
        """The peer may want to be spoken to in another way."""
        return not self.answered and any(fault.code in UNHEARD for fault in self.faults)

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        if not self.faults:
            return self.summary
        first, *rest = (fault.sentence.removesuffix(".") for fault in self.faults)
        return f"{first}; besides: {'; '.join(rest)}." if rest else f"{first}."


def with_faults(diagnosis: Diagnosis, more: Sequence[Fault]) -> Diagnosis:
    """The same with more faults."""
    return dataclasses.replace(diagnosis, faults=(*diagnosis.faults, *more))


def at_other_rate(first: Diagnosis, other: Diagnosis, baud: int, rate: int) -> Diagnosis:
    """What a rate shows that is not the one that was asked for."""
    seen = other.summary if other.healthy else other.faults[0].sentence
    kept = [fault for fault in first.faults if fault.code not in {"silent", "garbage"}]
    return dataclasses.replace(other, faults=(faults.other_rate(baud, rate, seen), *other.faults, *kept))


def nowhere(diagnosis: Diagnosis, rates: Sequence[int]) -> Diagnosis:
    """No rate shows a frame."""
    told = tuple(
        faults.silent_everywhere(fault, rates) if fault.code in {"silent", "garbage"} else fault
        for fault in diagnosis.faults
    )
    return dataclasses.replace(diagnosis, faults=told)


class _Line:
    """Everything that came, without the echo of what we sent."""

    def __init__(self, exchanges: Sequence[Exchange], role: Role) -> None:
        self.exchanges, self.role = exchanges, role
        questions = [exchange for exchange in exchanges if exchange.probe.frame is not None]
        self.asked = _by_sn(e for e in questions if e.probe.required)
        self.besides = _by_sn(e for e in questions if not e.probe.required)
        self.all = {**self.besides, **self.asked}
        sent = [exchange for exchange in exchanges if exchange.probe.wire]
        echoed = [e for e in sent if e.received.startswith(e.probe.wire)]
        self.echo: Exchange | None = None
        if len(echoed) >= 2 and len(echoed) * 4 >= len(sent) * 3:
            self.echo = echoed[0]
        self.bursts = [burst for exchange in exchanges for burst in self._bursts(exchange)]
        self.data = b"".join(self.bursts)
        self.items: list[Item] = []
        for burst in self.bursts:
            framer = Framer(lenient=False, hold_noise=True)
            self.items += [*framer.feed(burst), *framer.flush()]
        self.good = [item for item in self.items if isinstance(item, Frame)]
        self.bad = [item for item in self.items if not isinstance(item, Frame)]

    def answered(self, frames: Sequence[Frame]) -> set[int]:
        """Sequence numbers of the questions that frames answer."""
        return {f.sn for f in frames if f.sn in self.all and f.command == self.all[f.sn].probe.expect}

    def _bursts(self, exchange: Exchange) -> list[bytes]:
        if self.echo is None:
            return list(exchange.bursts)
        kept = list(exchange.bursts)
        for own in exchange.sent:
            for index, burst in enumerate(kept):
                before, found, after = burst.partition(own)
                if found:
                    kept[index] = before + after
                    break
        return [burst for burst in kept if burst]


def _by_sn(questions: Iterable[Exchange]) -> dict[int, Exchange]:
    return {e.probe.frame.sn: e for e in questions if e.probe.frame is not None}


def diagnose(
    exchanges: Sequence[Exchange], role: Role, product: Product | None = None, *, mixed: bool = False
) -> Diagnosis:
    """Name what is wrong with what came.

    :param role: Who we were to the peer.
    :param mixed: What both ends sent may be in it, as in a capture without directions.
    """
    line = _Line(exchanges, role)
    found: list[Fault] = []
    frames = list(line.good)
    if line.echo is not None:
        found.append(faults.echo(line.echo.probe.wire, answered=bool(line.data)))
    elif not line.data:
        found.append(faults.silent([e.probe.wire for e in exchanges if e.probe.wire]))
    dialect = RIGHT
    if line.bad:
        more, read, dialect = _bad_bytes(line)
        found += more
        frames = read or frames
    heard = line.answered(frames)
    answered = heard & line.asked.keys()
    peers = [frame for frame in frames if not _is_ours(frame, role)]
    ours = [frame for frame in frames if _is_ours(frame, role) and frame.command not in NOTICES]
    if not ours and not peers and not answered:
        ours = frames  # notices alone: of an end of our own role, which our questions mean nothing to
    refused = [f for f in peers if f.command in NOTICES and f.payload[:1] == b"\x01" and f.sn in line.asked]
    copied = [f for f in ours if f.sn in line.all and f.command == line.all[f.sn].probe.wire[4]]
    if len(copied) >= 2 and copied == ours and not answered:
        found.append(faults.wrong_command(role, line.all[copied[0].sn].probe.wire, copied[0]))
    elif ours and not answered and not mixed:
        found.append(faults.swapped_roles(ours, role))
    elif peers:
        frames_lost = any(fault.code == "damaged" for fault in found)
        found += _answers(line, peers, heard, refused, frames_lost=frames_lost)
        found += _identity(peers, product)
    return Diagnosis(
        tuple(found),
        frames=len(frames),
        questions=len(line.asked),
        answered=len(answered),
        received=len(line.data),
        echoed=line.echo is not None,
        dialect=dialect,
        summary=_summary(line, frames, answered),
    )


def _is_ours(frame: Frame, role: Role) -> bool:
    """Only an end of our own role sends it."""
    spec = FRAMES.get(frame.command)
    return spec is not None and spec.sender is role


def _summary(line: _Line, frames: Sequence[Frame], answered: set[int]) -> str:
    if not line.asked:
        return f"The line is sound: {count(len(frames), 'frame')} came, all of them good."
    return (
        f"The line is sound: the {peer_of(line.role)} answered {len(answered)} of "
        f"{count(len(line.asked), 'question')}, and all {count(len(frames), 'frame')} that came are good."
    )


def _bad_bytes(line: _Line) -> tuple[list[Fault], list[Frame], Dialect]:
    """Faults, the frames as these faults let them be read, and how they are made."""
    noise = b"".join(item.wire for item in line.bad)
    if signals.is_text(noise):
        frames = signals.hex_text_frames(line.data)
        if frames:
            return [faults.hex_text(line.data, frames)], frames, RIGHT
        return [faults.text(noise, framed=bool(line.good))], [], RIGHT
    if len(noise) <= _GLITCH and line.good:
        return [], [], RIGHT
    framed = [burst for burst in line.bursts if HEADER in burst]
    framed = [burst[at if at <= _GLITCH else 0 :] for burst in framed for at in (burst.find(HEADER),)]
    explanations = search(framed)
    if explanations:
        named = faults.explained(explanations)
        stray = [item for item in line.bad if HEADER not in item.wire]
        if sum(len(item.wire) for item in stray) > _GLITCH and not named:
            named.append(faults.damaged(stray, len(line.good)))
        best = explanations[0]
        return named, [reading.frame for reading in best.readings], best.dialect
    if line.good:
        return [faults.damaged(line.bad, len(line.good))], [], RIGHT
    return [faults.no_frame(line.data, line.bursts)], [], RIGHT


def _answers(
    line: _Line,
    peers: Sequence[Frame],
    heard: set[int],
    refused: Sequence[Frame],
    *,
    frames_lost: bool,
) -> list[Fault]:
    answered = heard & line.asked.keys()
    missing = {sn: exchange.probe for sn, exchange in line.asked.items() if sn not in answered}
    late = _late(line, answered)
    if late:
        return [faults.late(line.role, late, len(line.asked))]
    if not missing:
        return _repeated(line)
    broken = [item for item in line.bad if HEADER in item.wire]
    if frames_lost and len(missing) <= len(broken):
        return []  # the answers are among the broken frames
    wanted = {probe.expect for probe in missing.values()}
    strangers = [f for f in peers if f.command in wanted and f.sn not in line.asked]
    if strangers and len(strangers) * 2 >= len(missing):
        sent = next(probe for probe in missing.values() if probe.expect == strangers[0].command)
        return [faults.wrong_sn(line.role, sent.wire, strangers[0])]
    if refused and not answered:
        return [faults.refuses(line.role, line.asked[refused[0].sn].probe.wire, refused[0])]
    wires = [probe.wire for probe in missing.values()]
    if len(answered) >= 2 and _unread_escapes(line, missing, heard):
        return [faults.unescape_missing(line.role, wires)]
    return [faults.unanswered(line.role, wires, len(line.asked), peers)]


def _unread_escapes(line: _Line, missing: Mapping[int, Probe], heard: set[int]) -> bool:
    """Whether just the questions with an escape have no answer.

    One whose checksum alone is escaped may have one: who does not know escapes takes the 55 for noise.
    """
    probes = {sn: exchange.probe for sn, exchange in line.all.items()}
    escaped = {sn for sn, probe in probes.items() if b"\xff\x55" in probe.wire}
    inside = {sn for sn, probe in probes.items() if b"\xff\x55" in probe.wire[:-2]}
    return bool(inside) and inside.isdisjoint(heard) and escaped.issuperset(missing)


def _late(line: _Line, answered: set[int]) -> list[tuple[bytes, float | None]]:
    """Questions whose answer took too long, and how long; empty when it is not most of them.

    None stands for an answer that came after the next question only.
    """
    late: dict[int, tuple[bytes, float | None]] = {}
    for exchange in line.exchanges:
        for item in Framer().feed(exchange.received):
            asked = line.asked.get(item.sn) if isinstance(item, Frame) else None
            if asked is None or not isinstance(item, Frame) or item.command != asked.probe.expect:
                continue
            if exchange.probe.wire != asked.probe.wire:
                late[item.sn] = asked.probe.wire, None
            elif exchange.delay is not None and exchange.delay > _LATE:
                late[item.sn] = asked.probe.wire, exchange.delay
    return list(late.values()) if len(late) * 2 > len(answered) else []


def _repeated(line: _Line) -> list[Fault]:
    """Questions that were answered when they came again; the first one may have woken the peer."""
    sent = [e.probe for e in line.exchanges if e.probe.frame is not None and e.probe.required]
    again = [probe.wire for before, probe in itertools.pairwise(sent) if before == probe]
    lost = [wire for wire in again if wire != sent[0].wire]
    return [faults.answers_sometimes(line.role, lost, len(line.asked))] if lost else []


def _identity(peers: Sequence[Frame], product: Product | None) -> list[Fault]:
    info = next((f for f in peers if f.command == Command.DEVICE_INFO + 1), None)
    if info is None or product is None or not product.product_key:
        return []
    try:
        key = schemas.DEVICE_INFO.parse(info.payload)["product_key"]
    except BodyError:
        return []
    told = product.product_key[:_KEY]  # a longer one has no room
    return [] if key == told else [faults.other_product(key, told)]
