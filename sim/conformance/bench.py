"""What a case works with: exchanges of a module, and the values of the product's data points."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from gizserial.commands import FRAMES, Command
from gizserial.datapoints import Raw
from gizserial.describe import value_text
from gizserial.errors import BodyError
from gizserial.framing import Frame
from gizserial.p0 import P0, Meaning, P0Codec, raw_to_mcu
from gizserial.product import DataPoint, Layout
from sim.conformance.exchanges import Exchanges
from sim.conformance.line import BenchLine
from sim.conformance.model import CaseFailedError, CaseSkippedError, Entry, Setting
from sim.conformance.samples import changeable, other_value
from sim.conformance.thresholds import (
    PERSON,
    REPORT,
)

_SDK_ROOM: Final = 20
"""The buffer of generated code: status size, flags and so many bytes (observed on the vendor's SDK)."""


_SHOWN: Final = 8
"""Values that one sentence names."""


class Press(enum.Enum):
    """What a person at the bench can be asked to do."""

    SOFT_AP = "start SoftAP provisioning on the device (usually a long press of its button)"
    AIRLINK = "start AirLink provisioning on the device (usually another press of its button)"
    RESET = "reset the module from the device (forgets the router)"
    CHANGE = "change one value on the device itself (turn a knob, press a key)"


class Person(Protocol):
    """Whoever sits at the bench."""

    async def press(self, what: Press) -> bool:
        """Ask for it. Returns at once when it was understood; False: it cannot or will not be done."""


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """A report of the MCU."""

    entry: Entry
    p0: P0
    problem: str = ""
    """Why it could not be read."""

    @property
    def raw(self) -> Mapping[str, Raw]:
        """The raw values that it carries."""
        return self.p0.raw or {}


class Bench(Exchanges):
    """The bench of a product: exchanges, and the values of its data points.

    :param line: Opened by the runner.
    """

    def __init__(self, line: BenchLine, setting: Setting, *, person: Person | None = None) -> None:
        super().__init__(line, setting)
        self.p0: Final = P0Codec(setting.product)
        self._values: dict[str, Raw] = {}
        self._heard = 0
        """Entries whose reports are in the values already."""
        self.beyond: dict[str, Raw] = {}
        """Values outside the definition's range that the bench wrote: seeing them again is no news."""
        self._person = person
        self.links: dict[str, frozenset[str]] = {}
        """Points that the product itself moves with another one, as far as the run found out."""
        self.asked: list[float] = []
        """When somebody was asked to press a button."""

    # --- values

    @property
    def values(self) -> dict[str, Raw]:
        """Raw values as the MCU told them last, by a report or in the answer to a read."""
        heard, self._heard = self._heard, self.line.mark()
        self._values.update(self.reported(heard))
        return self._values

    def others(self, *points: DataPoint) -> dict[str, Raw]:
        """For each of these points a value that it does not have now."""
        values = self.values
        return {point.name: other_value(point, values.get(point.name)) for point in points}

    def changed(self, before: Mapping[str, Raw], now: Mapping[str, Raw], *but: str) -> list[str]:
        """Writable points, but for the named ones, that have another value than before."""
        return [
            p.name
            for p in self.writable
            if p.name not in but
            and p.name in before
            and p.name in now
            and not self.same(p.name, before[p.name], now[p.name])
        ]

    def require_unchanged(
        self, before: Mapping[str, Raw], now: Mapping[str, Raw], text: str, *but: str
    ) -> None:
        """Require that no writable point, but for the named ones, has another value than before.

        :raises CaseFailedError: one has; ``text`` says after what.
        """
        changed = self.changed(before, now, *but)
        if changed:
            raise self.fail(text, expected=self.shown(changed, before), got=self.shown(changed, now))

    @property
    def writable(self) -> list[DataPoint]:
        """The points that may be written here."""
        return [point for point in self.product.writable if point.name not in self.setting.leave]

    @property
    def point(self) -> DataPoint:
        """The first point that can be changed here; for cases that need one (``WRITABLE``)."""
        return next(point for point in self.writable if changeable(point))

    def room(self, payload: int) -> bool:
        """Whether a frame with so much payload fits the buffer of generated code."""
        if self.setting.large:
            return True
        product = self.product
        return payload + 9 <= product.status_size + product.flag_bytes + _SDK_ROOM

    def reports(self, since: int = 0) -> list[Report]:
        """Reports after the mark, in order; unreadable ones too."""
        found = []
        for entry in self.line.frames(since, Command.P0_FROM_MCU):
            report = self._report(entry)
            if report.problem or report.p0.meaning is Meaning.REPORT:
                found.append(report)
        return found

    def _report(self, entry: Entry) -> Report:
        frame = entry.frame
        try:
            return Report(entry, self.p0.parse(frame.payload if frame else b"", Command.P0_FROM_MCU))
        except BodyError as error:
            return Report(entry, P0(), str(error))

    def reported(self, since: int) -> dict[str, Raw]:
        """Values that reports brought after the mark, the latest of each."""
        merged: dict[str, Raw] = {}
        for report in self.reports(since):
            merged.update(report.raw)
        return merged

    def read_frame(self, names: Iterable[str] = ()) -> Frame:
        """A read of all points, or of the named ones; in variable length every flag is set.

        Generated code answers a read without any flag with no flag, and so with no value (observed).
        """
        if self.product.layout is Layout.VARIABLE:
            names = tuple(names) or [point.name for point in self.product.points]
        return self.command(Command.P0_TO_MCU, self.p0.read(names))

    async def read(self, names: Iterable[str] = ()) -> dict[str, Raw]:
        """Ask for values, all or (variable length) the named ones.

        :raises CaseFailedError: no answer, or one that cannot be read.
        """
        frame = self.read_frame(names)
        ack = await self.exchange(frame)
        payload = ack.frame.payload if ack.frame is not None else b""
        try:
            p0 = self.p0.parse(payload, Command.P0_TO_MCU + 1)
        except BodyError as error:
            raise self.fail(f"the answer to a read is unreadable: {error}", got=[ack], entry=ack) from None
        if p0.meaning is not Meaning.READ_REPLY or p0.raw is None:
            raise self.fail(
                "a read was not answered with values",
                expected="an ack with action 03 (variable length: 13) and the values",
                got=[ack],
                entry=ack,
            )
        self.values.update(p0.raw)
        return dict(p0.raw)

    async def control(self, raw: Mapping[str, Raw]) -> Entry:
        """Send a control of raw values; gives its ack.

        :raises CaseFailedError: it was never acked.
        """
        return await self.exchange(self.command(Command.P0_TO_MCU, self.p0.control(raw)))

    async def control_and_rest(self, raw: Mapping[str, Raw], *, payload: bytes = b"", note: str = "") -> int:
        """Send a control and let the MCU carry it out and report it; gives the mark before it.

        :param payload: What is sent instead of a plain control of these values.
        :raises CaseFailedError: it was never acked.
        """
        since = self.line.mark()
        frame = self.command(Command.P0_TO_MCU, payload or self.p0.control(raw))
        await self.exchange(frame, note=note)
        await self.told_within(raw, since)
        await self.settle()
        return since

    async def report_within(self, since: int) -> None:
        """Wait for a report after the mark, with the usual patience."""
        await self.line.until(lambda: self.reports(since), self.patience(REPORT))

    async def told_within(self, raw: Mapping[str, Raw], since: int) -> None:
        """Wait until reports after the mark have said these values, with the usual patience."""
        await self.line.until(lambda: self.has(raw, since), self.patience(REPORT))

    async def learn(self, raw: Mapping[str, Raw], since: int) -> dict[str, Raw]:
        """What the named points are after a control: from its report, else by a read.

        :param since: The mark before the control.
        """
        await self.told_within(raw, since)
        got = self.reported(since)
        if not self.has(raw, since):
            got = await self.read()
        self.values.update(got)
        return {name: got[name] for name in raw if name in got}

    def has(self, raw: Mapping[str, Raw], since: int) -> bool:
        """The latest report says of all points what was wanted, or the line says nothing of them yet."""
        got = self.reported(since)
        return all(name in got and self.same(name, raw[name], got[name]) for name in raw)

    def same(self, name: str, wanted: Raw, got: Raw) -> bool:
        """Whether a value came back as it was written.

        Generated code computes in C float and truncates: with a ratio or an addition a value may come back
        one step lower (observed on the vendor's SDK).
        """
        if wanted == got:
            return True
        scale = self.product.point(name).scale
        plain = scale is None or (scale.ratio == 1 and scale.addition == 0)
        return not plain and isinstance(wanted, int) and isinstance(got, int) and got == wanted - 1

    async def set_and_check(self, raw: Mapping[str, Raw], what: str = "", *, read_back: bool = False) -> None:
        """Control the points and require that they took the values.

        :param read_back: Believe a read only, and not the report.
        :raises CaseFailedError: they did not.
        """
        since = self.line.mark()
        await self.control(raw)
        got = await self.learn(raw, since)
        if read_back:
            read = await self.read()
            got = {name: read[name] for name in raw if name in read}
        self.require_taken(raw, got, what or "a control")

    def require_taken(self, raw: Mapping[str, Raw], got: Mapping[str, Raw], what: str) -> None:
        """Require that the points have the values that a control gave them.

        :raises CaseFailedError: one has not.
        """
        wrong = [name for name in raw if name not in got or not self.same(name, raw[name], got[name])]
        if wrong:
            raise self.fail(
                f"{what} was acked, but {self.shown(wrong, raw)} did not arrive",
                expected=self.shown(raw, raw),
                got=self.shown([name for name in wrong if name in got], got) or "no value",
                entry=self._last_told() if any(name in got for name in wrong) else None,
            )

    def _last_told(self) -> Entry | None:
        """The last frame with values: a report, or the answer to a read."""
        told = (Command.P0_FROM_MCU, Command.P0_TO_MCU + 1)
        frames = reversed(self.line.frames())
        return next((e for e in frames if e.frame and e.frame.command in told and e.frame.payload), None)

    def shown(self, names: Iterable[str], raw: Mapping[str, Raw]) -> str:
        """Values for a person, with their raw wire values."""
        told = [
            f"{name} = {value_text(self.product.point(name).value(raw[name]))}{_hex(raw[name])}"
            for name in names
        ]
        more = [f"{len(told) - _SHOWN} more"] if len(told) > _SHOWN else []
        return ", ".join([*told[:_SHOWN], *more])

    async def change(self) -> None:
        """Give every point that may be written another value than it has, so that forgetting shows."""
        if self.writable:
            await self.control_and_rest(self.others(*self.writable))

    async def first_values(self) -> None:
        """Learn all values; by a read, else from what was reported.

        :raises CaseFailedError: neither brings them.
        """
        if not self.product.points:
            return
        try:
            await self.read()
        except CaseFailedError:
            if any(point.name not in self.values for point in self.product.writable):
                raise

    async def put_back(self, raw: Mapping[str, Raw]) -> str:
        """Write values that differ from these; gives what could not be put back, or nothing."""
        wanted = {point.name: raw[point.name] for point in self.writable if point.name in raw}
        since = self.line.mark()
        for _ in range(2):
            try:
                now = await self.read()
            except CaseFailedError:
                now = dict(self.values)
            wrong = {
                name: value
                for name, value in wanted.items()
                if name not in now or not self.same(name, value, now[name])
            }
            if not wrong:
                return ""
            try:
                await self.control(wrong)
            except CaseFailedError as failed:
                return f"{', '.join(wrong)}: {failed.finding.text}"
            # A report that comes late would be taken for one of the next case.
            await self.told_within(wrong, since)
            await self.settle()
        now = self.reported(since)
        wrong = {
            name: value
            for name, value in wanted.items()
            if name in now and not self.same(name, value, now[name])
        }
        return f"these values could not be put back: {self.shown(wrong, wrong)}" if wrong else ""

    # --- people

    async def press(self, what: Press) -> None:
        """Have a person do something, and give him time for it.

        :raises CaseSkippedError: nobody does it.
        """
        self.asked.append(self.line.now())
        if self._person is None or not await self._person.press(what):
            raise CaseSkippedError("nobody did what was asked for")

    async def pressed(self, what: Press, command: Command) -> Entry:
        """Have a person do something that makes the MCU send a command; gives the command.

        :raises CaseSkippedError: nothing came in time.
        """
        since = self.line.mark()
        await self.press(what)
        if not await self.line.until(lambda: self.line.frames(since, command), PERSON):
            raise CaseSkippedError(f"no {FRAMES[command].name} came within {PERSON:.0f} s")
        return self.line.frames(since, command)[0]

    async def raw_data(self, data: bytes) -> Frame:
        """A frame with raw data for the MCU, not sent."""
        return self.command(Command.P0_TO_MCU, raw_to_mcu(data))


def _hex(raw: Raw) -> str:
    return "" if isinstance(raw, bytes) else f" (raw {raw:X})"
