"""A capture as steps of two sides: which ack answers which command, and which command is a repetition."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Final

from gizserial.capture.record import Record
from gizserial.capture.senders import with_senders
from gizserial.codec import Codec
from gizserial.commands import FRAMES, Direction, Role
from gizserial.describe import Described, describe
from gizserial.framing import Frame, Item
from gizserial.streams import cut_records

COPIES_WITHIN: Final = 10.0
"""In a capture a copy that comes later is another command: sn are used again after 256 of them."""


@dataclasses.dataclass(slots=True)
class Step:
    """One frame, or stretch of other bytes, of the capture."""

    item: Item
    at: float | None
    """When its first byte was seen; None where the capture has no times."""
    ours: bool
    codec: Codec
    direction: Direction | None
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
        return self.item if isinstance(self.item, Frame) else None

    @property
    def described(self) -> Described:
        """Everything that can be said of it. Made when asked for: a capture may have millions of steps."""
        return describe(self.item, self.codec, t=self.at, direction=self.direction)

    @property
    def repeats(self) -> bool:
        """The same command came before."""
        return self.first is not None

    @property
    def t(self) -> float:
        """When its first byte was seen; 0 where the capture has no times."""
        return self.at or 0.0


def script(records: Iterable[Record], role: Role, codec: Codec) -> list[Step]:
    """The steps of a capture, with commands and acks joined."""
    steps: list[Step] = []
    open_commands: dict[tuple[bool, int, int], Step] = {}

    def step_of(item: Item, t: float | None, direction: Direction | None) -> Step:
        return Step(item, t, direction == role.direction, codec, direction)

    for step in cut_records(with_senders(records), step_of):
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


def speakers(records: Iterable[Record]) -> set[Role]:
    """The sides that say anything in a capture."""
    found = {record.direction for record in with_senders(records) if record.data}
    return {role for role in Role if role.direction in found}
