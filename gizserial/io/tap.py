"""What a watch hears, into a recorder, with counts of it for whoever waits at the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from gizserial.capture.record import DIRECTIONS, Record
from gizserial.capture.senders import Senders
from gizserial.codec import Codec
from gizserial.commands import Direction
from gizserial.framing import BadFrame, Frame, Framer, Item
from gizserial.io.recorder import CaptureRecorder
from gizserial.io.watch import Happened, Watch

_SENDER: Final[dict[Direction | None, str]] = {
    "module>mcu": "module",
    "mcu>module": "MCU",
    None: "unknown sender",
}
_FEW: Final = 5


class Tap:
    """Takes everything that waits in a watch.

    :param attribute: Who sent a frame follows from its command; the watch does not know it.
    """

    def __init__(self, recorder: CaptureRecorder, *, attribute: bool = False) -> None:
        self._recorder = recorder
        self._senders = Senders() if attribute else None
        self._framers: dict[Direction | None, Framer] = {}
        self.frames = self.bad = self.noise = self.lost = 0
        self._against = 0
        """Frames whose command belongs to the other direction."""
        self.ended = 0.0

    def take(self, watch: Watch) -> list[str]:
        """Record what was heard; gives what happened to the ports, for people.

        :raises CaptureError: the file cannot be written.
        """
        told: list[str] = []
        while (thing := watch.take()) is not None:
            if isinstance(thing, Happened):
                told.append(thing.text)
                self.lost += thing.lost
                self._recorder.note(thing.text, thing.t)
            elif self._senders is not None:
                self._add(self._senders.receive_data(thing.data, now=thing.t))
            else:
                self._add([Record(thing.t, thing.direction, thing.data)])
        due = self._senders.next_timeout() if self._senders is not None else None
        if self._senders is not None and due is not None and watch.now >= due:
            self._add(self._senders.handle_timeout(now=watch.now))
        return told

    def finish(self, watch: Watch) -> None:
        """Record what is left."""
        self.ended = watch.now
        self.take(watch)
        if self._senders is not None:
            self._add(self._senders.flush())
        for direction, framer in self._framers.items():
            self._count(framer.flush(), direction)

    def _add(self, records: Iterable[Record]) -> None:
        for record in records:
            self._recorder.on_bytes(record.direction, record.data, record.t, **record.extra)
            framer = self._framers.get(record.direction)
            if framer is None:
                framer = self._framers[record.direction] = Framer(lenient=True)
            self._count(framer.feed(record.data), record.direction)

    def _count(self, items: Iterable[Item], direction: Direction | None) -> None:
        for item in items:
            if isinstance(item, Frame):
                self.frames += 1
                said = Codec.direction_of(item.command)
                self._against += None not in {said, direction} and said != direction
            elif isinstance(item, BadFrame):
                self.bad += 1
            else:
                self.noise += len(item.wire)

    def totals(self) -> dict[str, Any]:
        """The counts, for scripts."""
        return {
            "seconds": round(self.ended, 3),
            "records": self._recorder.records,
            "bytes": {way: self._recorder.bytes[way] for way in DIRECTIONS},
            "bytes_without_sender": self._recorder.bytes[None],
            "frames": self.frames,
            "bad": self.bad,
            "noise": self.noise,
            "line_lost": self.lost,
            "hints": self.hints(),
        }

    def counter(self, now: float) -> str:
        """The counts in one line."""
        heard = ", ".join(
            f"{_SENDER[way]} {count} bytes" for way, count in sorted(self._recorder.bytes.items(), key=str)
        )
        bad = f", {self.bad} bad" if self.bad else ""
        noise = f", {self.noise} bytes of noise" if self.noise else ""
        return f"{now:.1f} s: {heard or 'nothing heard'}; {self.frames} frames{bad}{noise}"

    def hints(self) -> list[str]:
        """What looks wrong, with what to do."""
        if not self._recorder.records:
            return ["nothing was heard: look at the wiring (TX of the device to RX here) and at --baud"]
        found: list[str] = []
        if self._against > self.frames // 2:
            found.append("most frames belong to the other direction: the ports are swapped, see --swap")
        if not self.frames and self.bad + self.noise > _FEW:
            found.append("no good frame among the bytes: is --baud right?")
        return found
