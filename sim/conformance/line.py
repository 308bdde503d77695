"""The bench's end of the line: what is sent and what comes, with times, and a module's polite answers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Final

from gizserial import schemas
from gizserial.commands import COMMANDS, FRAMES, Command, Role
from gizserial.framing import BadFrame, Frame, Framer, Item, Noise
from gizserial.io.base import Back, Data, LineEvent, Lost, Transport
from gizserial.io.driver import OnBytes
from gizserial.module_network import TIME_ZONE
from gizserial.module_requests import time_fields
from sim.conformance.model import Entry, LineLostError
from sim.conformance.thresholds import IDLE_PARTIAL

MOST_ENTRIES: Final = 200_000
"""A run sees some thousand frames; whoever sends more than this babbles."""

_STRETCH: Final = 0.02
"""Bytes outside any frame belong together when they come closer to each other than this."""
_LONGEST_STRETCH: Final = 4096
_TICK: Final = 1e-6
"""A wait that is shorter has ended: sums of floats never meet exactly."""

_MODULE_INFO: Final[dict[str, Any]] = {
    "type": 1,
    "protocol_ver": "00000004",
    "hard_ver": "0000BNCH",
    "soft_ver": "04020035",
    "mac": "000000000000",
    "ip": "",
    "dev_attr": bytes(8),
}


class BenchLine:
    """Everything that crosses the line, in order.

    Commands of the MCU are acked as a module does it, unless a case withholds that.

    :param byte_time: Seconds per byte; 0 where bytes take no time.
    :param on_bytes: Told every chunk that crosses the line: ``sent`` or ``received``, bytes, time.
    """

    def __init__(self, transport: Transport, *, byte_time: float, on_bytes: OnBytes | None = None) -> None:
        self.transport: Final = transport
        self.byte_time: Final = byte_time
        self.entries: list[Entry] = []
        self._on_bytes = on_bytes
        self._framer = Framer()
        self._frame_began = 0.0
        self._free = 0.0
        self._start: float | None = None
        self._lost = ""
        self._changed = asyncio.Event()
        self._flush: asyncio.TimerHandle | None = None
        self._withheld: set[int] = set()
        self._held: list[Frame] | None = None
        self._wrong_sn = False
        self._sn = 0
        self.utc: Callable[[], float | None] = lambda: None
        """Seconds since 1970 that 17 is answered with; None: no time is known, all zeros (R17)."""

    async def open(self, waiting: Callable[[str], None] | None = None) -> None:
        """Open the port and wait until the line is up.

        :param waiting: Told what the peer has to open, when nobody is there yet.
        :raises TransportError: it cannot be opened.
        """
        loop = asyncio.get_running_loop()
        await self.transport.open(self._line)
        if not self.transport.connected and waiting is not None:
            waiting(self.transport.other_end or self.transport.name)
        while not self.transport.connected:
            await self._wait(None)
        self._start = loop.time()

    async def close(self) -> None:
        """Close the port."""
        if self._flush is not None:
            self._flush.cancel()
        await self.transport.close()

    def now(self) -> float:
        """Seconds since the line was opened."""
        start = self._start
        return 0.0 if start is None else asyncio.get_running_loop().time() - start

    # --- sending

    def next_sn(self) -> int:
        """The number of the bench's next command."""
        sn = self._sn
        self._sn = (sn + 1) & 0xFF
        return sn

    def restart_sn(self) -> None:
        """As after the power-up of a module."""
        self._sn = 0

    def send(self, frame: Frame, *, note: str = "") -> Entry:
        """Send a frame; the entry's time is when its last byte has left."""
        return self.send_wire(frame.encode(), frame, note=note)

    def send_wire(
        self, wire: bytes, item: Frame | BadFrame | Noise | None = None, *, note: str = ""
    ) -> Entry:
        """Send any bytes."""
        self._require_line()
        now = self.now()
        began = max(now, self._free)
        self._free = began + len(wire) * self.byte_time
        entry = Entry(self._free, "sent", item or Noise(0, wire), wire, note, began)
        self._add(entry)
        if self._on_bytes is not None:
            self._on_bytes("sent", wire, now)
        self.transport.write(wire)
        return entry

    async def sent_all(self) -> None:
        """Wait until the last byte has left."""
        await asyncio.sleep(max(0.0, self._free - self.now()))

    @contextlib.contextmanager
    def withhold(self, *commands: Command, wrong_sn: bool = False) -> Iterator[None]:
        """Do not ack these commands of the MCU; or ack them with a number that is not theirs."""
        before, self._withheld = self._withheld, self._withheld | set(commands)
        was_wrong, self._wrong_sn = self._wrong_sn, wrong_sn
        try:
            yield
        finally:
            self._withheld, self._wrong_sn = before, was_wrong

    @contextlib.contextmanager
    def answers_held(self) -> Iterator[None]:
        """Answer the MCU only afterwards: an ack would land inside a frame that leaves in pieces."""
        held = self._held = list[Frame]()
        try:
            yield
        finally:
            self._held = None
        for frame in held:
            self._answer(frame)

    def ack(self, entry: Entry) -> None:
        """Ack a command of the MCU that was withheld."""
        frame = entry.frame
        if frame is not None:
            self._answer(frame)

    # --- receiving

    def mark(self) -> int:
        """A place in the entries: what comes later stands after it."""
        return len(self.entries)

    def received(self, since: int = 0) -> list[Entry]:
        """What the MCU sent after the mark."""
        return [entry for entry in self.entries[since:] if entry.direction == "received"]

    def frames(self, since: int = 0, command: int | None = None) -> list[Entry]:
        """Good frames of the MCU after the mark, of one command or of all."""
        return [
            entry
            for entry in self.received(since)
            if entry.frame is not None and command in {None, entry.frame.command}
        ]

    def commands(self, since: int = 0) -> list[Entry]:
        """Commands of the MCU after the mark: what it sends of its own accord."""
        return [entry for entry in self.frames(since) if is_mcu_command(entry.frame)]

    async def until(self, condition: Callable[[], object], within: float) -> bool:
        """Wait until the condition holds, at most so many seconds; gives whether it does."""
        deadline = self.now() + within
        while not condition():
            left = deadline - self.now()
            if left < _TICK:
                return False
            await self._wait(left)
        return True

    async def listen(self, seconds: float) -> None:
        """Let time pass; what comes is kept and acked."""
        await self.until(lambda: False, seconds)

    async def rest(self, quiet: float, patience: float) -> bool:
        """Wait until no command of the MCU came for ``quiet`` seconds; False if that never happens."""
        deadline = self.now() + patience
        while self.now() < deadline:
            since = self.mark()
            if not await self.until(lambda since=since: self.commands(since), quiet):  # type: ignore[misc]  # the default binds the loop's value
                return True
        return False

    # --- inside

    async def _wait(self, seconds: float | None) -> None:
        self._require_line()
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        self._require_line()

    def _require_line(self) -> None:
        if self._lost:
            raise LineLostError(self._lost)

    def _line(self, event: LineEvent) -> None:
        if isinstance(event, Data):
            if self._on_bytes is not None:
                self._on_bytes("received", event.data, self.now())
            self._take(event.data)
        elif isinstance(event, Lost):
            self._lost = event.reason.partition(";")[0]  # what the port does next is of no use to a run
        elif isinstance(event, Back):
            self._lost = ""
        self._changed.set()

    def _take(self, data: bytes) -> None:
        now = self.now()
        if not self._framer.in_frame:
            self._frame_began = now - len(data) * self.byte_time
        items = self._framer.feed(data)
        self._got(items, now)
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        if self._framer.in_frame:
            self._flush = asyncio.get_running_loop().call_later(IDLE_PARTIAL, self._give_up_partial)

    def _give_up_partial(self) -> None:
        self._flush = None
        self._got(self._framer.flush(), self.now())
        self._changed.set()

    def _got(self, items: list[Item], now: float) -> None:
        # One chunk may bring several frames: each ended when those behind it had not begun.
        behind = sum(len(item.wire) for item in items)
        for item in items:
            if self._lost:
                return
            behind -= len(item.wire)
            ended = now - behind * self.byte_time
            began = min(self._frame_began, ended - len(item.wire) * self.byte_time)
            self._frame_began = ended
            self._add(Entry(ended, "received", item, item.wire, "", began))
            wanted = isinstance(item, Frame) and is_mcu_command(item) and item.command not in self._withheld
            if wanted and isinstance(item, Frame) and not self._lost:
                if self._held is not None:
                    self._held.append(item)
                else:
                    self._answer(item)

    def _answer(self, frame: Frame) -> None:
        row = COMMANDS[Command(frame.command)]
        if row.ack is None:
            return
        payload = b""
        if row.command is Command.NETWORK_TIME:
            payload = schemas.NETWORK_TIME.build(time_fields(self.utc(), TIME_ZONE))
        elif row.command is Command.MODULE_INFO:
            payload = schemas.MODULE_INFO.build(_MODULE_INFO)
        sn = (frame.sn + 1) & 0xFF if self._wrong_sn else frame.sn
        self.send(Frame(row.ack, sn, payload), note="wrong sn on purpose" if self._wrong_sn else "")

    def _add(self, entry: Entry) -> None:
        last = self.entries[-1] if self.entries else None
        if last is not None and isinstance(last.item, Noise) and _continues(last, entry):
            wire = last.wire + entry.wire
            item = Noise(last.item.offset, wire)
            self.entries[-1] = dataclasses.replace(entry, item=item, wire=wire, began=last.began)
            return
        self.entries.append(entry)
        if len(self.entries) >= MOST_ENTRIES:
            # Told to whoever waits: this may be the port that is calling.
            self._lost = f"more than {MOST_ENTRIES} frames and stretches of noise came: the MCU babbles"


def _continues(last: Entry, entry: Entry) -> bool:
    """Noise right behind noise: a text that comes byte by byte is one stretch."""
    return (
        isinstance(entry.item, Noise)
        and entry.direction == last.direction == "received"
        and entry.began - last.time < _STRETCH
        and len(last.wire) < _LONGEST_STRETCH
    )


def is_mcu_command(frame: Frame | None) -> bool:
    """A frame that the MCU sends of its own accord."""
    if frame is None:
        return False
    spec = FRAMES.get(frame.command)
    return spec is not None and not spec.is_ack and spec.sender is not Role.MODULE
