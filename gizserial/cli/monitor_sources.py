"""Where the monitor gets what it shows: ports, or a recording; and the view that is only lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Protocol

from gizserial.capture.record import Record
from gizserial.describe import json_line, to_json
from gizserial.errors import CaptureError
from gizserial.io.recorder import CaptureRecorder
from gizserial.io.watch import Happened, Heard, Watch
from gizserial.monitor import Monitor, Row, clean


class Source(Protocol):
    """Where the monitor gets what it shows."""

    @property
    def now(self) -> float:
        """Seconds since it began."""

    @property
    def title(self) -> str:
        """What is watched."""

    @property
    def state(self) -> str:
        """Whether the line is up."""

    def take(self) -> Heard | Happened | Record | None:
        """The next thing, or None for now."""

    @property
    def ended(self) -> bool:
        """Nothing comes any more."""


class FileSource:
    """A recording, shown as if its last byte had just come."""

    def __init__(self, title: str, records: Iterator[Record]) -> None:
        self.title, self._records = title, records
        self.ended = False
        self.now = 0.0

    @property
    def state(self) -> str:
        """Whether all of it was read."""
        return "read" if self.ended else "reading"

    def take(self) -> Record | None:
        """The next record.

        :raises CaptureError: The file is damaged; what came before it is shown.
        """
        try:
            record = next(self._records, None)
        except CaptureError:
            self.ended = True
            raise
        if record is None:
            self.ended = True
        elif record.t is not None:
            self.now = max(self.now, record.t)
        return record


class PortSource:
    """Ports that are open."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.ended = False

    @property
    def now(self) -> float:
        """Seconds since the ports were opened."""
        return self._watch.now

    @property
    def title(self) -> str:
        """The ports, and what a peer on this machine opens."""
        ends = (
            line.port.name + (f" → {line.port.other_end}" if line.port.other_end else "")
            for line in self._watch.lines
        )
        return " | ".join(ends)

    @property
    def state(self) -> str:
        """Up, down, or which of two is down."""
        down = [line.port.name for line in self._watch.lines if not line.port.connected]
        if not down:
            return "UP"
        return "DOWN" if len(down) == len(self._watch.lines) else f"DOWN: {', '.join(down)}"

    def take(self) -> Heard | Happened | None:
        """What came."""
        return self._watch.take()


class Printer:
    """One line of standard output for each item; what happens to the line goes to standard error.

    :param recording: Gets everything that comes, for ``--save``.
    """

    def __init__(
        self,
        monitor: Monitor,
        recording: CaptureRecorder | None,
        *,
        as_json: bool,
        tell: Callable[[str], object],
    ) -> None:
        self._monitor, self._recording, self._as_json, self._tell = monitor, recording, as_json, tell

    def take(self, thing: Heard | Happened | Record) -> None:
        """Print what it completed."""
        if isinstance(thing, Happened):
            if thing.lost:
                self.show(self._monitor.flush())
            self._tell(clean(thing.text))
            return
        record = thing if isinstance(thing, Record) else Record(thing.t, thing.direction, thing.data)
        if self._recording is not None:
            self._recording.add(record)
        if isinstance(thing, Heard):
            self.show(self._monitor.receive_data(thing.data, now=thing.t, direction=thing.direction))
        else:
            self.show(self._monitor.receive_record(thing))

    def silent(self, now: float) -> None:
        """Print what a silent line left incomplete."""
        self.show(self._monitor.handle_timeout(now=now))

    def show(self, rows: list[Row]) -> None:
        """Print these rows."""
        if not rows:
            return
        sys.stdout.write("".join(f"{self._line(row)}\n" for row in rows))
        sys.stdout.flush()

    def _line(self, row: Row) -> str:
        if self._as_json:
            described = row.described(self._monitor.codec)
            return json_line(to_json(described)) if described is not None else ""
        when = f"{row.t:10.3f}" if row.t is not None else " " * 10
        sn = f"{row.sn:3}" if row.sn is not None else "   "
        sender = (row.direction or "").partition(">")[0]
        return f"{when} {row.mark} {sender:6} {row.name:20} {sn} {self._monitor.text(row)}".rstrip()
