"""One role under a virtual clock, and a peer that does as it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from gizserial.commands import COMMANDS, FRAMES
from gizserial.events import Event
from gizserial.framing import Frame, Framer

E = TypeVar("E", bound=Event)


class Machine(Protocol):
    def connection_made(self, *, now: float) -> list[Event]: ...
    def connection_lost(self, *, now: float) -> list[Event]: ...
    def receive_data(self, data: bytes, *, now: float) -> list[Event]: ...
    def data_to_send(self, *, now: float) -> bytes: ...
    def next_timeout(self) -> float | None: ...
    def handle_timeout(self, *, now: float) -> list[Event]: ...


class Bench:
    """Moves the bytes of a machine and watches its clock; everything that comes out is kept.

    :param answers: What the peer answers at once to a command: frame → payload of the ack. A command without
        an entry stays unanswered.
    """

    def __init__(
        self, machine: Machine, *, answers: dict[int, Callable[[Frame], bytes]] | None = None, up: bool = True
    ) -> None:
        self.machine = machine
        self.answers = answers or {}
        self.now = 0.0
        self.events: list[Event] = []
        self.sent: list[tuple[float, Frame]] = []
        self.writes: list[tuple[float, bytes]] = []
        self._framer = Framer()
        if up:
            self.plug()

    def plug(self) -> None:
        self.events += self.machine.connection_made(now=self.now)
        self.settle()

    def unplug(self) -> None:
        self.events += self.machine.connection_lost(now=self.now)
        self.settle()

    def receive(self, *frames: Frame | bytes) -> None:
        """The machine gets all of it in one chunk."""
        wire = b"".join(frame if isinstance(frame, bytes) else frame.encode() for frame in frames)
        self.events += self.machine.receive_data(wire, now=self.now)
        self.settle()

    def settle(self) -> None:
        """Everything that is due now."""
        for _ in range(10_000):
            if self._send():
                continue
            due = self.machine.next_timeout()
            if due is None or due > self.now:
                return
            self.events += self.machine.handle_timeout(now=self.now)
        raise AssertionError(f"the machine does not come to rest at {self.now} s")

    def _send(self) -> bool:
        data = self.machine.data_to_send(now=self.now)
        if not data:
            return False
        self.writes.append((self.now, data))
        frames = [item for item in self._framer.feed(data) if isinstance(item, Frame)]
        self.sent += [(self.now, frame) for frame in frames]
        acks = [
            Frame(frame.command + 1, frame.sn, self.answers[frame.command](frame))
            for frame in frames
            if frame.command in self.answers
        ]
        for ack in acks:
            self.events += self.machine.receive_data(ack.encode(), now=self.now)
        return True

    def run(self, *, until: float) -> None:
        """Let time pass."""
        self.settle()
        while (due := self.machine.next_timeout()) is not None and due <= until:
            self.now = max(self.now, due)
            self.settle()
        self.now = max(self.now, until)
        self.settle()

    def run_for(self, seconds: float) -> None:
        self.run(until=self.now + seconds)

    # --- what came out

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def frames(self, command: int) -> list[Frame]:
        return [frame for _time, frame in self.sent if frame.command == command]

    def times(self, command: int) -> list[float]:
        return [round(time, 6) for time, frame in self.sent if frame.command == command]

    def take(self) -> list[Frame]:
        """Frames sent since the last call."""
        frames = [frame for _time, frame in self.sent]
        self.clear()
        return frames

    def clear(self) -> None:
        self.sent.clear()
        self.writes.clear()
        self.events.clear()


def silent_acks(commands: Iterable[int]) -> dict[int, Callable[[Frame], bytes]]:
    """Answers without a body."""
    return dict.fromkeys(commands, lambda _frame: b"")


COMMAND_IDS = sorted(COMMANDS)
ACK_IDS = sorted(id_ for id_, spec in FRAMES.items() if spec.is_ack)
