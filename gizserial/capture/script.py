"""A capture as steps of two sides: which ack answers which command, and which command is a repetition."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Final

from gizserial.capture.record import Record
from gizserial.capture.senders import with_senders
from gizserial.codec import Codec
from gizserial.commands import FRAMES, Role
from gizserial.describe import Described
from gizserial.framing import Frame
from gizserial.streams import describe_records

COPIES_WITHIN: Final = 10.0
"""In a capture a copy that comes later is another command: sn are used again after 256 of them."""


@dataclasses.dataclass(slots=True)
class Step:
    """One frame, or stretch of other bytes, of the capture."""

    described: Described
    ours: bool
    answer: Step | None = None
    """The ack that the other side gave to this command."""
    asked: Step | None = None
    """The command that this ack answers."""
    first: Step | None = None
    """The command that this one repeats, as after a missing ack."""
    done: bool = False

    @property
    def frame(self) -> Frame | None:
        """The frame; None for noise and damaged frames."""
        item = self.described.item
        return item if isinstance(item, Frame) else None

    @property
    def repeats(self) -> bool:
        """The same command came before."""
        return self.first is not None

    @property
    def t(self) -> float:
        """When its first byte was seen."""
        return self.described.t or 0.0


def script(records: Iterable[Record], role: Role, codec: Codec) -> list[Step]:
    """The steps of a capture, with commands and acks joined."""
    steps: list[Step] = []
    open_commands: dict[tuple[bool, int, int], Step] = {}
    for described in describe_records(with_senders(records), codec):
        step = Step(described, described.direction == role.direction)
        steps.append(step)
        frame = step.frame
        spec = FRAMES.get(frame.command) if frame is not None else None
        if frame is None or spec is None:
            continue
        if spec.is_ack:
            asked = open_commands.pop((not step.ours, frame.command - 1, frame.sn), None)
            if asked is not None:
                asked.answer, step.asked = step, asked
        elif spec.row.acked:
            key = (step.ours, frame.command, frame.sn)
            first = open_commands.get(key)
            if first is not None and first.frame == frame and step.t - first.t <= COPIES_WITHIN:
                step.first = first
            else:
                open_commands[key] = step
    return steps


def speakers(records: Sequence[Record], codec: Codec) -> set[Role]:
    """The sides that say anything in a capture."""
    found = {item.direction for item in describe_records(with_senders(records), codec)}
    return {role for role in Role if role.direction in found}
