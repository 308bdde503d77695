"""One end of the line as a plain test uses it: helpers that wait, and fail with a sentence.

Every helper may be called from any thread. What arrives is kept until a helper takes it, so that nothing is
missed between two lines of a test; a helper takes everything up to what it waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, TypeVar

from gizserial.codec import Codec, Message
from gizserial.commands import FRAMES, Role
from gizserial.datapoints import Raw
from gizserial.describe import value_text
from gizserial.errors import UnknownName
from gizserial.events import Event, FrameReceived, RequestAcked, RequestFailed
from gizserial.io.base import Back, LineEvent, Lost, Transport
from gizserial.io.driver import Driver, Machine
from gizserial.product import Product
from sim.clock import LoopClock
from sim.pytest_plugin.stage import Stage

TIMEOUT: Final = 10.0
"""Seconds that helpers wait: more than the 6 s between reports of read-only numbers (serial.md §6.6)."""
ACK_TIMEOUT: Final = 5.0
"""Seconds for what has an ack, however many transmissions the options say."""
INBOX: Final = 4096
"""Things of one kind that are kept until a helper takes them; older ones are forgotten."""

T = TypeVar("T")
Wanted = Mapping[str, object] | None
Matcher = Callable[[Raw], bool]
FRAME_NAMES: Final = frozenset(spec.name for spec in FRAMES.values())


class NotSeenError(AssertionError):
    """What a test waited for did not happen."""


class Inbox(deque[Any]):
    """Things of one kind that nobody has taken yet."""

    def __init__(self) -> None:
        super().__init__(maxlen=INBOX)


@dataclasses.dataclass(frozen=True, slots=True)
class RawData:
    """Opaque bytes that came."""

    data: bytes


class Station:
    """What both ends have in common.

    :param stage: The loop in which the role is driven.
    :param role: Who this end is.
    """

    peer_name: str

    def __init__(self, stage: Stage, role: Role, product: Product) -> None:
        self.product: Final = product
        self.stage: Final = stage
        self.frames: Final = Inbox()
        self.values_seen: Final = Inbox()
        self.raw_data: Final = Inbox()
        self.endings: Final = Inbox()
        self._role = role
        self._codec = Codec(product)
        self._changed = asyncio.Event()
        self._lost = "it was never up"

    # --- being driven

    @contextlib.asynccontextmanager
    async def driven(self, machine: Machine[Event], transport: Transport) -> AsyncIterator[None]:
        """Drive the role on a transport."""
        self.driver: Driver[Event] = Driver(
            machine, transport, on_event=self.happened, on_line=self.line_changed, clock=LoopClock()
        )
        async with self.driver:
            yield

    def happened(self, event: Event) -> None:
        """Sort an event into what the helpers take from."""
        if isinstance(event, FrameReceived):
            self.frames.append(self._codec.decode(event.frame, self._role.peer.direction))
        elif isinstance(event, RequestAcked | RequestFailed):
            self.endings.append(event)
        else:
            self.sort(event)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def sort(self, event: Event) -> None:
        """Sort an event of one role only."""
        raise NotImplementedError

    def line_changed(self, event: LineEvent) -> None:
        """Keep why the line is down, for the sentences."""
        if isinstance(event, Back):
            self._lost = ""
        elif isinstance(event, Lost):
            self._lost = event.reason

    def now(self) -> float:
        """The time to give to the role; for use in the loop only."""
        return self.driver.now()

    # --- for helpers

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop; what was not seen is raised without the loop's own frames."""
        __tracebackhide__ = True
        try:
            return self.stage.call(work)
        except NotSeenError as error:
            sentence = str(error)
        raise NotSeenError(sentence)

    def at_once(self, function: Callable[[], T]) -> T:
        """Call a function in the loop and send what it queued."""
        __tracebackhide__ = True

        async def work() -> T:
            result = function()
            self.driver.wake()
            return result

        return self.do(work())

    async def take(
        self,
        inbox: Inbox,
        wanted: Callable[[Any], T | None],
        patience: float,
        sentence: Callable[[list[Any]], str],
    ) -> T:
        """Take from an inbox up to what is wanted.

        :param sentence: Makes the failure's sentence of what came instead.
        """
        ends = asyncio.get_running_loop().time() + patience
        others: list[Any] = []
        while True:
            changed = self._changed
            while inbox:
                item = inbox.popleft()
                found = wanted(item)
                if found is not None:
                    return found
                others.append(item)
            try:
                async with asyncio.timeout_at(ends):
                    await changed.wait()
            except TimeoutError:
                down = f" (the line is down: {self._lost})" if self._lost else ""
                raise NotSeenError(f"{sentence(others)} within {patience:g} s{down}") from None

    async def acked(self, command: int, what: str, patience: float = ACK_TIMEOUT) -> Message:
        """Wait until a command of ours has ended with its ack."""

        def ended(event: RequestAcked | RequestFailed) -> RequestAcked | RequestFailed | None:
            return event if event.request.frame.command == command else None

        def sentence(_: list[object]) -> str:
            return f"no ack of {what}"

        event: RequestAcked | RequestFailed = await self.take(self.endings, ended, patience, sentence)
        if isinstance(event, RequestFailed):
            raise NotSeenError(f"{what} was not acked by the {self.peer_name}: {event.reason}")
        return self._codec.decode(event.ack, self._role.peer.direction)

    def matchers(self, values: Mapping[str, object]) -> dict[str, Matcher]:
        """What each value has to be: a value of the definition, or a function of the real value.

        :raises EncodeError: an unknown name, or a value that the definition does not allow.
        """
        return {name: self._matcher(name, value) for name, value in values.items()}

    def _matcher(self, name: str, value: object) -> Matcher:
        point = self.product.point(name)
        if callable(value):
            return lambda raw: bool(value(point.value(raw)))
        wanted = point.raw(value)
        return lambda raw: raw == wanted

    def real(self, raw: Mapping[str, Raw]) -> dict[str, Any]:
        """Raw values as real ones."""
        return {name: self.product.point(name).value(value) for name, value in raw.items()}

    async def take_values(self, what: str, values: Mapping[str, object], patience: float) -> dict[str, Any]:
        """Take reports (or controls) up to one that has all the values."""
        wanted = self.matchers(values)

        def has_all(raw: Mapping[str, Raw]) -> Mapping[str, Raw] | None:
            return raw if all(name in raw and fits(raw[name]) for name, fits in wanted.items()) else None

        def sentence(others: list[Mapping[str, Raw]]) -> str:
            if not others:
                return f"no {what}{_with(values)}, and none at all,"
            last = _with(self.real({n: v for n, v in others[-1].items() if n in wanted} or others[-1]))
            return f"no {what}{_with(values)} among {len(others)}, the last one{last},"

        return self.real(await self.take(self.values_seen, has_all, patience, sentence))

    # --- helpers of both ends

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.stage.wait(seconds)

    def write(self, data: bytes) -> None:
        """Put any bytes on the line: noise, half a frame, a damaged one."""

        async def work() -> None:
            self.driver.transport.write(data)

        self.do(work())

    def forget(self) -> None:
        """What has arrived so far does not count any more."""

        async def empty() -> None:
            for inbox in (self.frames, self.values_seen, self.raw_data):
                inbox.clear()

        self.do(empty())

    def expect(self, *names: str, timeout: float = TIMEOUT) -> dict[str, Any]:
        """Wait for frames of the peer, in this order, others may come between; gives the last one's fields.

        :param names: Public names: ``p0_from_mcu``, ``heartbeat``, ``reset_module``, ``status_ack``, …
        :raises UnknownName: no frame has this name.
        :raises NotSeenError: one did not come.
        """
        __tracebackhide__ = True
        for name in names:
            if name not in FRAME_NAMES:
                raise UnknownName("frame", name, sorted(FRAME_NAMES))
        return self.do(self._expect(names, timeout))

    async def _expect(self, names: Iterable[str], patience: float) -> dict[str, Any]:
        message: Message | None = None
        for name in names:
            message = await self._frame(name, patience)
        return {**(message.fields or {}), **(message.attrs or {})} if message is not None else {}

    async def _frame(self, name: str, patience: float) -> Message:
        def named(message: Message) -> Message | None:
            return message if message.name == name else None

        def sentence(others: list[Message]) -> str:
            return f"no {name} from the {self.peer_name}, but {_named(others)},"

        message: Message = await self.take(self.frames, named, patience, sentence)
        return message

    def expect_none(self, *names: str, seconds: float) -> None:
        """Let time pass, in which the peer must send none of these frames; without names: nothing at all.

        :raises NotSeenError: it sent one.
        """
        __tracebackhide__ = True
        self.do(self._expect_none(frozenset(names), seconds))

    async def _expect_none(self, names: frozenset[str], seconds: float) -> None:
        self.frames.clear()
        await asyncio.sleep(seconds)
        seen = [message for message in self.frames if not names or message.name in names]
        if seen:
            raise NotSeenError(f"the {self.peer_name} sent {_named(seen)} within {seconds:g} s")

    def wait_raw(self, *, timeout: float = TIMEOUT) -> bytes:
        """Wait for opaque bytes of the peer."""
        __tracebackhide__ = True
        data: RawData = self.do(self.take(self.raw_data, lambda item: item, timeout, lambda _: "no raw data"))
        return data.data


def merged(values: Wanted, more: Mapping[str, object]) -> dict[str, object]:
    """Values by position and by keyword; by position for names that are parameters too."""
    return {**(values or {}), **more}


def _with(values: Mapping[str, object]) -> str:
    words = (f"{n}={'…' if callable(v) else value_text(v)}" for n, v in values.items())
    return f" with {' '.join(words)}" if values else ""


def _named(messages: list[Message]) -> str:
    if not messages:
        return "nothing at all"
    names = [message.name for message in messages]
    return ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names))
