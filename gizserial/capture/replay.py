"""One side of a capture, played to a live peer: a machine without I/O that waits where the capture waited.

What we sent is sent again byte for byte, with the recorded pauses. What the peer sent is waited for: its acks
must repeat our sn, its commands are answered as the capture shows, with the sn that they have now.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from gizserial.capture.script import Step
from gizserial.codec import Codec
from gizserial.commands import FRAMES, Command, Role
from gizserial.describe import Described, describe
from gizserial.framing import BadFrame, Frame, Framer

ACK_WAIT: Final = 0.2
TRIES: Final = 3
PATIENCE: Final = 2.0
"""How much later than recorded the peer may be, in seconds."""
WINDOW: Final = 16
"""A frame of the peer may come so many of its frames earlier than recorded."""
SILENCE: Final = 0.5
REPEATED: Final = 1.0
"""The same command with the same sn within so long is a repetition."""

DivergenceKind = Literal["missing", "differs", "unexpected", "damaged"]


@dataclasses.dataclass(frozen=True, slots=True)
class Sent:
    """Something of ours left."""

    t: float
    described: Described
    attempt: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Matched:
    """The peer did what the capture shows."""

    t: float
    came: Described


@dataclasses.dataclass(frozen=True, slots=True)
class Divergence:
    """The peer did something else."""

    t: float
    kind: DivergenceKind
    expected: Described | None = None
    came: Described | None = None


ReplayEvent = Sent | Matched | Divergence


class Replay:
    """Plays the steps of one side (:class:`gizserial.io.driver.Machine`).

    :param speed: Pauses are so many times shorter; None: none at all.
    :param patience: How much later than recorded the peer may be.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        role: Role,
        codec: Codec,
        *,
        speed: float | None = 1.0,
        patience: float = PATIENCE,
    ) -> None:
        self._steps, self._role, self._codec = list(steps), role, codec
        self._answered: dict[int, list[Step]] = {}
        """What the peer asked in the capture and got an answer to, by command."""
        for step in self._steps:
            if not step.ours and step.answer is not None and step.frame is not None:
                self._answered.setdefault(step.frame.command, []).append(step)
        self._speed, self._patience = speed, patience
        self._framer = Framer(lenient=True)
        self._position = 0
        self._before = self._steps[0].t if self._steps else 0.0
        """When the step before happened in the capture."""
        self._since: float | None = None
        """When it happened now; None before the line is up."""
        self._waiting: Step | None = None
        """A command of ours whose ack is waited for."""
        self._attempts = 0
        self._resend_at = 0.0
        self._give_up_at = 0.0
        self._replies: list[tuple[float, bytes, Described]] = []
        self._last: tuple[Frame, float, bytes] | None = None
        self._welcome: set[tuple[int, int]] = set()
        """Acks that may come beside the recorded ones: to repetitions, and to what nobody answered then."""
        self._acked: set[tuple[int, int]] = set()
        """Acks that came."""
        self._out = bytearray()
        self._heard = 0.0
        self._up = False
        self.divergences: list[Divergence] = []
        self.sent = self.matched = 0

    @property
    def done(self) -> bool:
        """Everything was played."""
        return self._position >= len(self._steps) and self._waiting is None and not self._replies

    @property
    def progress(self) -> tuple[int, int]:
        """Steps done, steps in all."""
        return self._position, len(self._steps)

    # --- the machine

    def connection_made(self, *, now: float) -> list[ReplayEvent]:
        """The line is up: begin, or go on."""
        self._up = True
        self._framer = Framer(lenient=True)
        if self._since is None:
            self._since = now
        return self._go_on(now)

    def connection_lost(self, *, now: float) -> list[ReplayEvent]:  # noqa: ARG002 - a machine's signature
        """The line is down; the peer's time-outs run on."""
        self._up = False
        return []

    def receive_data(self, data: bytes, *, now: float) -> list[ReplayEvent]:
        """Take what the peer sends."""
        self._heard = now
        return self._items(self._framer.feed(data), now)

    def data_to_send(self, *, now: float) -> bytes:  # noqa: ARG002 - a machine's signature
        """Take what is to leave."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def next_timeout(self) -> float | None:
        """When something is due."""
        if self._since is None or self.done:
            return None
        times = [due for due, _, _ in self._replies]
        if self._framer.in_frame:
            times.append(self._heard + SILENCE)
        if self._waiting is not None:
            times.append(self._resend_at if self._attempts < TRIES else self._give_up_at)
        elif (step := self._next()) is not None:
            times.append(self._due(step))
        return min(times, default=None)

    def handle_timeout(self, *, now: float) -> list[ReplayEvent]:
        """Do what is due."""
        events: list[ReplayEvent] = []
        if self._framer.in_frame and now >= self._heard + SILENCE:
            events += self._items(self._framer.flush(), now)
        for reply in [reply for reply in self._replies if reply[0] <= now]:
            self._replies.remove(reply)
            self._send(reply[1])
            events.append(Sent(now, reply[2]))
        return [*events, *self._go_on(now)]

    # --- our side

    def _next(self) -> Step | None:
        """The first step that is not done."""
        while self._position < len(self._steps):
            step = self._steps[self._position]
            if not step.done and (self._is_played(step) if step.ours else self._is_expected(step)):
                return step
            self._position += 1
        return None

    @staticmethod
    def _is_played(step: Step) -> bool:
        """Our answers go with the peer's commands, and repetitions of what was answered by our own rules."""
        return step.asked is None and not (step.repeats and step.first is not None and step.first.answer)

    @staticmethod
    def _is_expected(step: Step) -> bool:
        """Frames of the peer are waited for, but not its repetitions, heartbeats, noise and damaged frames.

        Its acks are waited for with our commands; those to nothing of ours were strays.
        """
        frame = step.frame
        spec = FRAMES.get(frame.command) if frame is not None else None
        if frame is None or step.repeats or frame.command == Command.HEARTBEAT:
            return False
        return spec is None or not spec.is_ack

    def _pause(self, seconds: float) -> float:
        return max(0.0, seconds) / self._speed if self._speed else 0.0

    def _due(self, step: Step) -> float:
        """When our step is to be sent, or the peer's is too late."""
        since = self._since or 0.0
        pause = self._pause(step.t - self._before)
        if step.ours:
            return since + pause
        # With --speed max the peer still has the recorded time: nobody makes it faster.
        return (
            since
            + max(pause, min(step.t - self._before, 60.0) if self._speed is None else 0)
            + self._patience
        )

    def _go_on(self, now: float) -> list[ReplayEvent]:
        events: list[ReplayEvent] = []
        while self._up:
            if self._waiting is not None:
                if self._attempts < TRIES and now >= self._resend_at:
                    events.append(self._transmit(self._waiting, now))
                elif self._attempts >= TRIES and now >= self._give_up_at:
                    answer = self._waiting.answer
                    events.append(
                        self._diverged("missing", now, expected=answer.described if answer else None)
                    )
                    if answer is not None:
                        answer.done = True
                    self._waiting = None
                    self._since = now
                    continue
                break
            step = self._next()
            if step is None or now < self._due(step):
                break
            self._position += 1
            if not step.ours:
                step.done = True
                events.append(self._diverged("missing", now, expected=step.described))
                self._happened(step, now)
                continue
            step.done = True
            self._happened(step, now)
            if step.answer is not None:
                self._waiting, self._attempts = step, 0
                self._give_up_at = now + TRIES * ACK_WAIT + self._patience
            events.append(self._transmit(step, now))
        return events

    def _transmit(self, step: Step, now: float) -> Sent:
        self._attempts += 1
        self._resend_at = now + ACK_WAIT
        self._send(step.item.wire)
        if step.frame is not None and self._attempts <= 1:
            self._acked.discard((step.frame.command + 1, step.frame.sn))
        if step.frame is not None and (self._attempts > 1 or step.answer is None):
            self._welcome.add((step.frame.command + 1, step.frame.sn))
        return Sent(now, step.described, max(1, self._attempts) if self._waiting is step else 1)

    def _send(self, wire: bytes) -> None:
        self._out += wire
        self.sent += 1

    def _happened(self, step: Step, now: float) -> None:
        self._before, self._since = max(self._before, step.t), now

    # --- the peer

    def _items(self, items: Iterable[object], now: float) -> list[ReplayEvent]:
        events: list[ReplayEvent] = []
        for item in items:
            if isinstance(item, Frame):
                events += self._frame(item, now)
            elif isinstance(item, BadFrame):
                came = describe(item, self._codec, t=now, direction=self._role.peer.direction)
                events.append(self._diverged("damaged", now, came=came))
        return [*events, *self._go_on(now)]

    def _frame(self, frame: Frame, now: float) -> list[ReplayEvent]:
        came = describe(frame, self._codec, t=now, direction=self._role.peer.direction)
        spec = FRAMES.get(frame.command)
        if spec is not None and spec.is_ack:
            return self._ack(frame, came, now)
        if self._last is not None and self._last[0] == frame and now - self._last[1] <= REPEATED:
            if self._last[2]:
                self._send(self._last[2])
            return []
        step = self._find(frame)
        answered = step if step is not None else self._like(frame)
        reply = answered.answer if answered is not None else None
        wire = b""
        if answered is None and spec is not None and spec.row.acked:
            wire = Frame(frame.command + 1, frame.sn).encode()
            self._send(wire)
        elif answered is not None and reply is not None and reply.frame is not None:
            answer = dataclasses.replace(reply.frame, sn=frame.sn)
            bare = reply.frame.unescaped
            wire = answer.encode(escape=not bare)
            due = now + self._pause(reply.t - answered.t)
            self._replies.append((due, wire, describe(answer, self._codec, direction=self._role.direction)))
        self._last = (frame, now, wire)
        if frame.command == Command.HEARTBEAT:
            return [Matched(now, came)]
        if step is None:
            return [self._diverged("unexpected", now, came=came)]
        step.done = True
        self._happened(step, now)
        return [self._compared(step, came, now)]

    def _ack(self, frame: Frame, came: Described, now: float) -> list[ReplayEvent]:
        waiting = self._waiting
        asked = waiting.frame if waiting is not None else None
        if waiting is None or asked is None or (asked.command + 1, asked.sn) != (frame.command, frame.sn):
            if (frame.command, frame.sn) in self._welcome:
                return [Matched(now, came)]
            again = (frame.command, frame.sn) in self._acked
            if asked is None or waiting is None or again or asked.command + 1 != frame.command:
                return [self._diverged("unexpected", now, came=came)]
            # The right ack with another sn: told once as that, not as one too many and one missing.
        self._waiting = None
        self._acked.add((frame.command, frame.sn))
        if waiting.answer is None:
            return []
        waiting.answer.done = True
        self._happened(waiting.answer, now)
        return [self._compared(waiting.answer, came, now)]

    def _compared(self, step: Step, came: Described, now: float) -> ReplayEvent:
        frame, item = step.frame, came.item
        clock = frame is not None and frame.command == Command.NETWORK_TIME + 1
        if isinstance(item, Frame) and frame is not None and _same(frame, item, clock=clock, ack=step.asked):
            self.matched += 1
            return Matched(now, came)
        return self._diverged("differs", now, expected=step.described, came=came)

    def _find(self, frame: Frame) -> Step | None:
        """The step that a command of the peer is: the same bytes if they are near, else the same command."""
        near: list[Step] = []
        for number in range(self._position, len(self._steps)):
            step = self._steps[number]
            other = step.frame
            if step.ours or step.done or step.asked is not None or other is None or step.repeats:
                continue
            near.append(step)
            if len(near) == WINDOW:
                break
        same = [step for step in near if step.frame is not None and step.frame.command == frame.command]
        exact = [step for step in same if step.frame is not None and step.frame.payload == frame.payload]
        return next(iter(exact or same), None)

    def _like(self, frame: Frame) -> Step | None:
        """Any command of the peer in the capture that is like this one, for its answer."""
        alike = self._answered.get(frame.command, [])
        exact = (step for step in alike if step.frame is not None and step.frame.payload == frame.payload)
        return next(exact, alike[0] if alike else None)

    def _diverged(
        self,
        kind: DivergenceKind,
        now: float,
        *,
        expected: Described | None = None,
        came: Described | None = None,
    ) -> Divergence:
        found = Divergence(now, kind, expected, came)
        self.divergences.append(found)
        return found


def _same(was: Frame, came: Frame, *, clock: bool, ack: Step | None) -> bool:
    """The peer's frame is as it was; the sn of a command may be any, that of an ack is its command's."""
    return (
        (clock or was.payload == came.payload)
        and was.flags == came.flags
        and was.unescaped == came.unescaped
        and (ack is None or was.sn == came.sn)
    )
