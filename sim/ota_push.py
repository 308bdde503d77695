"""Plays the module to a board that gets new firmware, and measures how it takes it (serial.md §4.13, §6.7).

Handshake, announcement, pieces, restart, version: each step has a limit in time, and ends in one
:class:`Report`. Time is that of the event loop, so it runs in virtual time as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any, Final, Literal

from gizserial.commands import Command
from gizserial.events import (
    DeviceInfo,
    Event,
    FileOffered,
    FileReady,
    FrameSent,
    HandshakeDone,
    HandshakeFailed,
    LateStopReceived,
    Outcome,
    RequestAcked,
    RestartRequested,
    TransferEnded,
    TransferProgress,
)
from gizserial.image import Image
from gizserial.io.base import Back, LineEvent, Lost, Transport
from gizserial.io.driver import Driver
from gizserial.module import ModuleRole
from gizserial.module_options import ModuleOptions
from gizserial.transfer_sender import NOT_ASKED
from sim.clock import LoopClock

Verdict = Literal["updated", "refused", "failed"]
Tell = Callable[[str, dict[str, Any]], None]
"""Takes what happens: its kind, and its facts."""

HANDSHAKE: Final = 20.0
"""Seconds until the MCU must have said who it is."""
_NOT_ASKED: Final = (
    "the MCU acked the announcement (1A) and did not ask for the file (1B): it takes no updates,"
    " or none of this size"
)
_LATE_STOP: Final = "the MCU refused the file when it was complete (27)"
_RESTARTED: Final = "the MCU had the module restarted (29) before it had the whole file"
_SAME: Final = "it restarted the module (29), and its version is {} as before; --expect-version makes sure"
STOP: Final = 1.0
"""Seconds that the ack of 1F is waited for when the user stops."""


@dataclasses.dataclass(slots=True)
class Timing:
    """What the board took. Seconds."""

    first_sent: float | None = None
    last_acked: float | None = None
    sent_at: float = 0.0
    resends: int = 0
    pieces: int = 0
    count: int = 0
    piece_size: int = 0
    erase: float | None = None
    """From the announcement's ack to 1B."""
    on_line: float = 0.0
    """How long the piece is on the line, by its speed."""
    waits: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    """Of each piece: from its first byte, sent for the first time, to its ack, and how much of that it was on
    the line. Waits before it was sent again count: nobody can tell which transmission an ack is for."""
    restart: float | None = None
    """From the last ack to the answer that names the version."""

    @property
    def acks(self) -> list[float]:
        """Of each piece: from its last byte on the line, sent for the first time, to its ack."""
        # A virtual port without --pace has no speed, whatever the option says: acks come "too early" then.
        virtual = any(wait < on_line for wait, on_line in self.waits)
        return [wait if virtual else wait - on_line for wait, on_line in self.waits]

    def facts(self, size: int) -> dict[str, Any]:
        """For the report."""
        waits = self.acks
        acks = sorted(waits)
        whole = (
            self.last_acked - self.first_sent
            if self.last_acked is not None and self.first_sent is not None
            else None
        )
        facts: dict[str, Any] = {
            "pieces": self.pieces,
            "count": self.count,
            "piece_size": self.piece_size,
            "resends": self.resends,
            "erase_s": self.erase,
            "transfer_s": whole,
            "bytes_per_s": size / whole if whole and self.pieces == self.count else None,
            "ack_median_s": acks[len(acks) // 2] if acks else None,
            "ack_slowest_s": acks[-1] if acks else None,
            "slowest_piece": waits.index(acks[-1]) + 1 if acks else None,
            "restart_s": self.restart,
        }
        return {name: round(fact, 4) if isinstance(fact, float) else fact for name, fact in facts.items()}


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """How it went."""

    verdict: Verdict
    detail: str
    before: str
    """Version of the software before; empty when the MCU never said."""
    after: str
    """Version afterwards; empty when it did not say."""
    facts: dict[str, Any]


class Push:
    """One update.

    :param expect: The version that the board must name afterwards; None: that it restarts is enough.
    :param product_key: Of the product that the board must be; None: any.
    :param restart_wait: Seconds from the last piece until the board must have restarted.
    """

    def __init__(
        self,
        transport: Transport,
        image: Image,
        *,
        options: ModuleOptions | None = None,
        expect: str | None = None,
        product_key: str | None = None,
        restart_wait: float = 30.0,
        tell: Tell,
    ) -> None:
        self._image, self._expect, self._product_key = image, expect, product_key
        self._restart_wait, self._tell = restart_wait, tell
        self.role: Final = ModuleRole(options)
        self._driver: Final = Driver(
            self.role, transport, on_event=self._event, on_line=self._line, clock=LoopClock()
        )
        self._timing = Timing()
        self._before: DeviceInfo | None = None
        self._after: DeviceInfo | None = None
        self._ended: TransferEnded | None = None
        self._problem = ""
        """Why there was no handshake."""
        self._offered_at: float | None = None
        self._restarted = self._late_stop = False
        self._complete_sent = self._complete_again = False
        """The last piece was sent; it was sent again."""
        self._changed: asyncio.Event | None = None

    async def run(self) -> Report:
        """Update the board.

        :raises TransportError: the port cannot be opened.
        """
        self._changed = asyncio.Event()
        async with self._driver:
            other = self._driver.transport.other_end
            self._tell("ready", {"port": other or self._driver.transport.name})
            playing = asyncio.ensure_future(self._driver.wait())
            steps = asyncio.ensure_future(self._steps())
            try:
                await asyncio.wait({playing, steps}, return_when=asyncio.FIRST_COMPLETED)
                if playing.done() and not steps.done():
                    playing.result()
                return steps.result()
            finally:
                await self._leave(playing, steps)

    async def _leave(self, *tasks: asyncio.Future[Any]) -> None:
        """Stop what is under way (1F), and let that leave."""
        steps = tasks[1]
        steps.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await steps
        if self.role.sending_file:
            self.role.stop_file(now=self._driver.now(), detail="stopped by the user")
            self._driver.wake()
            acked = await self._within(STOP, lambda: self.role.line_idle)
            how = "the MCU was told (1F)" if acked else "the MCU did not ack it (1F)"
            self._tell("stopped", {"pieces": self._timing.pieces, "count": self._timing.count, "detail": how})
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _until(self, condition: Callable[[], bool]) -> None:
        changed = self._changed
        while changed is not None and not condition():
            changed.clear()
            await changed.wait()

    async def _within(self, seconds: float, condition: Callable[[], bool]) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._until(condition)
        except TimeoutError:
            return False
        return True

    # --- the steps

    async def _steps(self) -> Report:
        await self._until(lambda: self._driver.transport.connected)
        if not await self._within(HANDSHAKE, lambda: self._before is not None):
            why = f"{self._problem or 'no answer'}; gizserial doctor looks for the cause"
            return self._report("failed", f"the MCU did not say who it is: {why}")
        before = self._before
        if before is None:
            raise AssertionError("a handshake without its answer")
        self._tell("mcu", {"hard_ver": before.hard_ver, "soft_ver": before.soft_ver})
        if self._product_key is not None and before.product_key != self._product_key:
            return self._report(
                "refused", f"the MCU is another product: its key begins with {before.product_key[:8]}"
            )
        self.role.offer_file(self._image, now=self._driver.now())
        self._driver.wake()
        await self._until(lambda: self._ended is not None)
        ended = self._ended
        if ended is None:
            raise AssertionError("a transfer without its end")
        if ended.outcome is not Outcome.COMPLETE and not self._complete_sent:
            declined = ended.outcome is Outcome.STOPPED_BY_PEER and not self._timing.count
            unwanted = declined or ended.outcome in {Outcome.REFUSED, Outcome.STOPPED}
            detail = _NOT_ASKED if ended.detail == NOT_ASKED else ended.detail
            detail = _RESTARTED if self._restarted else detail
            return self._report("refused" if unwanted else "failed", detail)
        if ended.outcome is Outcome.STOPPED_BY_PEER and not self._complete_again:
            return self._report("failed", _LATE_STOP)
        # The last piece may have been stored though its ack got lost, and 27 may be said by an MCU that has
        # restarted since: the version tells.
        return await self._version(ended)

    async def _version(self, ended: TransferEnded) -> Report:
        self._tell("sent", {"detail": ended.detail})
        await self._within(self._restart_wait, lambda: self._after is not None or self._late_stop)
        if self._late_stop:
            return self._report("failed", _LATE_STOP)
        if self._after is None:
            # Without 29 a module does not ask again: we do, and say that it was not told.
            self._tell("asking", {})
            self.role.reboot("the version is asked for", now=self._driver.now())
            self._driver.wake()
            if not await self._within(HANDSHAKE, lambda: self._after is not None):
                return self._report("failed", "the MCU does not answer any more after the last piece")
        return self._judge(ended)

    def _judge(self, ended: TransferEnded) -> Report:
        before, after = self._before, self._after
        if before is None or after is None:
            raise AssertionError("versions are there")
        if self._expect is not None and after.soft_ver != self._expect:
            return self._report("failed", f"its software is {after.soft_ver}, {self._expect} was expected")
        if self._restarted:
            same = self._expect is None and after.soft_ver == before.soft_ver
            return self._report("updated", _SAME.format(after.soft_ver) if same else "")
        if after.soft_ver != before.soft_ver:
            return self._report("updated", "it did not have the module restarted (29) to read the version")
        why = ended.detail or f"it did not restart (no 29 within {self._restart_wait:g} s)"
        return self._report("failed", f"its software is {after.soft_ver} as before: {why}")

    def _report(self, verdict: Verdict, detail: str) -> Report:
        facts = {"size": self._image.size, "md5": self._image.md5, **self._timing.facts(self._image.size)}
        before = self._before.soft_ver if self._before is not None else ""
        after = self._after.soft_ver if self._after is not None else ""
        return Report(verdict, detail, before, after, facts)

    # --- what happens

    def _line(self, event: LineEvent) -> None:
        if isinstance(event, Lost):
            self._tell("line", {"text": f"the line is down: {event.reason}"})
            self._problem = "the line is down"
        elif isinstance(event, Back):
            now = self._driver.now()
            self.role.set_router(True, now=now)
            self.role.set_cloud(True, now=now)
            self.role.set_time(time.time(), now=now)
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()

    def _event(self, event: Event) -> None:
        now = self._driver.now()
        timing = self._timing
        if isinstance(event, FrameSent) and event.frame.command == Command.FILE_PIECE:
            self._piece_sent(event, now)
        elif isinstance(event, HandshakeFailed):
            self._problem = event.reason
        elif isinstance(event, HandshakeDone):
            self._met(event.info, now)
        elif isinstance(event, FileOffered):
            self._offered_at = now
            wait = self.role.options.ota_ready_wait
            self._tell("offered", {"size": event.size, "md5": event.md5, "ready_wait_s": wait})
        elif isinstance(event, FileReady):
            timing.count, timing.piece_size = event.count, event.piece_size
            timing.erase = now - self._offered_at if self._offered_at is not None else None
            if self._image.hex and not event.hex:
                detail = "the MCU wants BIN: make one of the HEX file (objcopy -I ihex -O binary)"
                self.role.stop_file(now=now, detail=detail)
            else:
                self._tell("start", {"count": event.count, "piece_size": event.piece_size, "hex": event.hex})
        elif isinstance(event, TransferProgress):
            timing.pieces = event.number
            wait, on_line = timing.waits[-1]
            ack = wait - on_line if wait >= on_line else wait
            facts = {"number": event.number, "count": event.count, "ack_s": round(ack, 4)}
            self._tell("progress", facts)
        elif isinstance(event, RequestAcked) and event.request.frame.command == Command.FILE_PIECE:
            timing.last_acked = now
            timing.waits.append((now - timing.sent_at, timing.on_line))
        elif isinstance(event, TransferEnded) and event.sending:
            self._ended = event
        elif isinstance(event, RestartRequested):
            self._restarted = True
        elif isinstance(event, LateStopReceived) and event.sending:
            self._late_stop = True
        self._wake()

    def _piece_sent(self, event: FrameSent, now: float) -> None:
        timing = self._timing
        if timing.first_sent is None:
            timing.first_sent = now
        number = int.from_bytes(event.frame.payload[:2], "big")
        if event.attempt == 1:
            timing.sent_at = now
            timing.on_line = len(event.frame.encode()) * self.role.options.byte_time
        else:
            timing.resends += 1
            self._tell("again", {"number": number, "attempt": event.attempt})
        self._complete_sent = number == timing.count
        self._complete_again = self._complete_sent and event.attempt > 1

    def _met(self, info: DeviceInfo, now: float) -> None:
        if self._before is None:
            self._before = info
        elif self._ended is not None:
            self._after = info
            if self._timing.last_acked is not None:
                self._timing.restart = now - self._timing.last_acked
            self._tell("mcu", {"hard_ver": info.hard_ver, "soft_ver": info.soft_ver})
