"""What passes between the apps of a cloud and the MCU: P0, one request at a time (device-cloud.md §8)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from gizserial.m2m import frames, topics
from gizserial.m2m.effects import AppCount, Effect, P0Received, Trace

QUEUE_DEPTH: Final = 16
"""So many requests wait while the MCU answers one; what is beyond is dropped."""
REQUEST_TIMEOUT: Final = 10.0
"""Seconds after which a request that the driver forgot to answer makes room for the next."""


class Apps:
    """The apps of one cloud session: how many there are, whose request is pending, who waits behind it.

    :param out: Takes the effects.
    :param publish: Takes topic and content of what goes to the cloud; False when there is no connection.
    """

    def __init__(self, out: list[Effect], publish: Callable[[str, bytes], bool]) -> None:
        self._out, self._publish = out, publish
        self._waiting: deque[P0Received] = deque()
        self._pending: P0Received | None = None
        self._until = 0.0
        self.count = 0
        """How many the cloud says are connected."""

    def counted(self, count: int) -> None:
        """0210: so many apps are connected."""
        self.count = count
        self._out.append(AppCount(count))

    def received(self, client: str, payload: bytes, now: float) -> None:
        """A message of an app: hand it on when it is its turn, drop what is no request."""
        frame = frames.BusinessFrame.decode(payload)
        if isinstance(frame, frames.BadMessage):
            self._trace(f"ignored a message of an app: {frame.reason}")
        elif frame.command not in {frames.CONTROL, frames.CONTROL_ACKED} or frame.sub_did is not None:
            self._trace(f"ignored command {frame.command:04x} of an app")
        elif len(self._waiting) >= QUEUE_DEPTH:
            self._trace(f"dropped a request of an app: {QUEUE_DEPTH} are waiting for the MCU already")
        else:
            request = P0Received(client[: topics.MAX_CLIENT], frame.command, frame.sn, frame.payload)
            self._waiting.append(request)
            if self._pending is None:
                self._next(now)

    def report(self, did: str, p0: bytes) -> bool:
        """Publish a P0 as 0091 to everybody; False, and dropped, when there is no connection (§8.2).

        :raises ValueOutOfRange: when the frame would be longer than 65 535 bytes.
        """
        return self._publish(topics.dev2app(did), frames.BusinessFrame(frames.REPORT, p0).encode())

    def answer(self, did: str, request: P0Received, p0: bytes, now: float) -> bool:
        """The MCU acknowledged with this P0: 0094 to the app of a 0093, 0091 to all for a 0090 (§8.1).

        False, and dropped, when the request is over: answered before, timed out, or of a lost connection.
        """
        if request is not self._pending:
            self._trace("an answer came after its request was over: dropped")
            return False
        if request.command == frames.CONTROL_ACKED:
            frame = frames.BusinessFrame(frames.ACK, p0, request.sn)
            self._publish(topics.dev2app(did, request.client), frame.encode())
        else:
            self.report(did, p0)
        self._next(now)
        return True

    def no_answer(self, request: P0Received, now: float) -> None:
        """The MCU was silent, or a LAN client got the answer: nothing is published (§8.1, R12)."""
        if request is self._pending:
            self._next(now)

    def gone(self) -> None:
        """The connection is gone, and with it whoever was counted or has asked."""
        if self.count:
            self.counted(0)
        self._waiting.clear()
        self._pending = None

    def next_timeout(self) -> float | None:
        """When the pending request is given up."""
        return None if self._pending is None else self._until

    def handle_timeout(self, now: float) -> None:
        """Give the pending request up when its time is over."""
        if self._pending is not None and now >= self._until:
            self._trace("a request of an app was never answered by the bridge: the next one follows")
            self._next(now)

    def _next(self, now: float) -> None:
        self._pending = self._waiting.popleft() if self._waiting else None
        if self._pending is not None:
            self._until = now + REQUEST_TIMEOUT
            self._out.append(self._pending)

    def _trace(self, text: str) -> None:
        self._out.append(Trace(text))
