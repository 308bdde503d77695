"""Lines of the frames pane: what filters and counters need is kept, the rest decoded again when shown."""

from __future__ import annotations

import dataclasses
from typing import Literal

from gizserial.codec import Codec
from gizserial.commands import FRAMES, Command, Direction
from gizserial.describe import Described, describe, headline
from gizserial.framing import BadFrame, Frame, Item, Noise
from gizserial.p0 import ACTIONS

Kind = Literal["frame", "error", "noise", "line"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A frame, a bad frame, a stretch of noise, or what happened to the line."""

    number: int
    """Counted from 1 since the monitor began; what was dropped keeps its number."""
    t: float | None
    kind: Kind
    name: str
    """The frame's name; ``noise``; ``line``. Of an error the name as far as it arrived, else the reason."""
    direction: Direction | None
    """As shown: the line's, else the command's."""
    seen: Direction | None = None
    """The line's own, None where one line carries both."""
    item: Item | None = None
    """None for what happened to the line."""
    text: str = ""
    """What happened to the line."""
    repeat: bool = False
    """The same frame was sent before: a resend."""
    warned: bool = False
    points: tuple[str, ...] = ()
    """Data points that the frame carries or asks for."""
    ack: bool = False
    heartbeat: bool = False

    @property
    def sn(self) -> int | None:
        """The sequence number, where one arrived."""
        return None if self.item is None or isinstance(self.item, Noise) else self.item.sn

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return len(self.item.wire) if self.item is not None else 0

    @property
    def mark(self) -> str:
        """One character beside the colour: ``!`` error, ``~`` noise, ``R`` resend, ``?`` warning."""
        if self.kind != "frame":
            return {"error": "!", "noise": "~", "line": "-"}[self.kind]
        return "R" if self.repeat else "?" if self.warned else " "

    def described(self, codec: Codec) -> Described | None:
        """Everything that can be said of it; None for what happened to the line."""
        return describe(self.item, codec, t=self.t, direction=self.seen) if self.item is not None else None


def row_of(described: Described, *, number: int, seen: Direction | None, repeat: bool) -> Row:
    """The row of one item."""
    item, message = described.item, described.message
    if isinstance(item, Noise):
        return Row(
            number=number,
            t=described.t,
            kind="noise",
            name="noise",
            direction=described.direction,
            seen=seen,
            item=item,
        )
    spec = FRAMES.get(item.command) if item.command is not None else None
    bad = isinstance(item, BadFrame) or (message is not None and message.error is not None)
    fields = message.fields if message is not None and message.fields else {}
    asked = fields.get("points", ())
    points = tuple((message.attrs if message is not None else None) or (asked if message else ()))
    return Row(
        number=number,
        t=described.t,
        kind="error" if bad else "frame",
        name=_name(described),
        direction=described.direction,
        seen=seen,
        item=item,
        repeat=repeat,
        warned=bool(message is not None and message.warnings),
        points=points,
        ack=spec is not None and spec.is_ack,
        heartbeat=spec is not None and spec.row.command is Command.HEARTBEAT,
    )


def _name(described: Described) -> str:
    item, message = described.item, described.message
    if message is not None:
        return message.name
    if isinstance(item, BadFrame):
        spec = FRAMES.get(item.command) if item.command is not None else None
        return spec.name if spec is not None else item.reason
    raise TypeError("a frame is described with its message")


def one_line(row: Row, codec: Codec) -> str:
    """What the row says beside its name and number, as one printable line; secrets shortened."""
    described = row.described(codec)
    if described is None:
        return clean(row.text)
    item, message = described.item, described.message
    text = headline(described)
    if isinstance(item, Frame) and message is not None:
        text = text.removeprefix(f"{message.name} sn {item.sn}").strip()
        if message.action in ACTIONS:
            text = text.removeprefix(f"action {message.action:02X} ")
        if message.name == "unknown":
            text = f"command {item.command:02X} {item.payload.hex(' ')}"
        for warning in message.warnings:
            text += f" ({warning})"
    elif isinstance(item, Noise):
        text = f"{text}: {item.wire[:32].hex(' ')}{' …' if len(item.wire) > 32 else ''}"
    return clean(text.strip())


def clean(text: str) -> str:
    """A peer's text without what a terminal would obey: such characters become their escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
