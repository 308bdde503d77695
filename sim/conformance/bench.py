"""What a case works with: exchanges of a module, values of the product, and words for what went wrong.

Cases lean on as little as they can: an exchange takes any ack of the right command, within three
transmissions, so that firmware with one fault fails the case of that fault and not all of them.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from gizserial import schemas
from gizserial.commands import FRAMES, Command
from gizserial.datapoints import Raw
from gizserial.describe import value_text
from gizserial.errors import BodyError
from gizserial.framing import BadFrame, Frame
from gizserial.p0 import P0, Meaning, P0Codec, raw_to_mcu
from gizserial.product import DataPoint, Layout, Product
from gizserial.wifi_status import WifiStatus
from sim.conformance.line import BenchLine
from sim.conformance.model import CaseFailedError, CaseSkippedError, Entry, Finding, Setting
from sim.conformance.samples import changeable, other_value
from sim.conformance.thresholds import (
    ACK,
    ACK_PATIENCE,
    ADAPTER,
    MODULE_TRIES,
    PERSON,
    QUIET,
    QUIET_PATIENCE,
    REPORT,
    SECOND_ACK,
)
from sim.conformance.words import Words

CONNECTED: Final = WifiStatus(station=True, router=True, cloud=True, rssi=7)
"""What the bench tells the MCU of its network: all is well."""
OFFLINE: Final = WifiStatus(station=True, router=True, rssi=7)
"""Router, but no cloud."""
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


class Bench:
    """The module's end of the line, moved by hand.

    :param line: Opened by the runner.
    """

    def __init__(self, line: BenchLine, setting: Setting, *, person: Person | None = None) -> None:
        self.line: Final = line
        self.setting: Final = setting
        self.product: Final[Product] = setting.product
        self.p0: Final = P0Codec(setting.product)
        self._words = Words(setting.product)
        self._values: dict[str, Raw] = {}
        self._heard = 0
        """Entries whose reports are in the values already."""
        self.beyond: dict[str, Raw] = {}
        """Values outside the definition's range that the bench wrote: seeing them again is no news."""
        self.findings: list[Finding] = []
        """Deviations that do not end the case."""
        self._person = person
        self._rests = True

    # --- words

    def fail(
        self, text: str, *, expected: str = "", got: str | Sequence[Entry] = "", entry: Entry | None = None
    ) -> CaseFailedError:
        """The deviation that ends the case; to be raised."""
        return CaseFailedError(Finding(text, expected, self._said(got), entry))

    def note(
        self, text: str, *, expected: str = "", got: str | Sequence[Entry] = "", entry: Entry | None = None
    ) -> None:
        """A deviation after which the case goes on."""
        self.findings.append(Finding(text, expected, self._said(got), entry))

    def _said(self, got: str | Sequence[Entry]) -> str:
        if isinstance(got, str):
            return got
        return "; ".join(self.say(entry) for entry in got[:6]) or "nothing"

    def say(self, entry: Entry) -> str:
        """One line for a person: what stands on the line there."""
        return self._words.say(entry)

    # --- exchanges

    def patience(self, seconds: float) -> float:
        """A wait, and the time that the product's largest frames take on the line besides."""
        return seconds + 3 * (self.product.status_size + self.product.flag_bytes + 16) * self.line.byte_time

    def status_of(self, frame: Frame) -> str:
        """The public name of a frame."""
        spec = FRAMES.get(frame.command)
        return spec.name if spec is not None else f"unknown command {frame.command:02X}"

    def command(self, command: int, payload: bytes = b"", *, sn: int | None = None, flags: int = 0) -> Frame:
        """A frame of the bench with the next number, or with ``sn``."""
        return Frame(command, self.line.next_sn() if sn is None else sn, payload, flags)

    def ack_of(self, frame: Frame, since: int, *, any_sn: bool = False) -> Entry | None:
        """The ack of a frame among what came after the mark."""
        for entry in self.line.frames(since, frame.command + 1):
            if any_sn or (entry.frame is not None and entry.frame.sn == frame.sn):
                return entry
        return None

    async def acked_within(self, frame: Frame, since: int) -> None:
        """Wait for the ack of a frame, with the usual patience."""
        await self.line.until(lambda: self.ack_of(frame, since), self.patience(ACK_PATIENCE))

    async def once(
        self, frame: Frame, *, wire: bytes | None = None, note: str = ""
    ) -> tuple[Entry, Entry | None]:
        """Send a frame once and wait for its ack with the right number. Gives both; None: it did not come."""
        since = self.line.mark()
        sent = self.line.send_wire(wire or frame.encode(), frame, note=note)
        await self.line.sent_all()
        await self.line.until(lambda: self.ack_of(frame, since), self.patience(ACK_PATIENCE))
        return sent, self.ack_of(frame, since)

    async def exchange(self, frame: Frame, *, note: str = "") -> Entry:
        """Send a frame as a module does, up to three times, and give an ack of it, with whatever number.

        :raises CaseFailedError: nothing that could be its ack came.
        """
        since = self.line.mark()
        for _ in range(MODULE_TRIES):
            self.line.send(frame, note=note)
            await self.line.sent_all()
            if await self.line.until(
                lambda: self.ack_of(frame, since, any_sn=True), self.patience(ACK_PATIENCE)
            ):
                break
        ack = self.ack_of(frame, since, any_sn=True)
        if ack is None:
            name = self.status_of(frame)
            raise self.fail(
                f"{name} (sn {frame.sn}) was sent {MODULE_TRIES} times and never acked",
                expected=f"{name}_ack ({frame.command + 1:02X}) with sn {frame.sn}",
                got=self.line.received(since),
            )
        return ack

    async def alive(self, what: str) -> None:
        """The MCU still answers a heartbeat, within a module's three transmissions.

        :raises CaseFailedError: it does not; ``what`` says after what.
        """
        frame = self.command(Command.HEARTBEAT)
        try:
            await self.exchange(frame)
        except CaseFailedError as failed:
            raise self.fail(
                f"the MCU does not answer after {what}",
                expected="heartbeat_ack within three transmissions",
                got=failed.finding.got,
            ) from None

    async def settle(self) -> bool:
        """Let the MCU come to rest, acking what it sends; False when it never rests."""
        # Whoever floods the line is not waited for again and again: that is a case of its own.
        patience = QUIET_PATIENCE if self._rests else QUIET
        self._rests = await self.line.rest(QUIET, patience)
        return self._rests

    async def push_status(self, status: WifiStatus) -> None:
        """Tell the MCU what the module believes of its network."""
        await self.exchange(self.command(Command.STATUS, schemas.WIFI_STATUS.build({"status": status.word})))

    async def restarted(self) -> None:
        """What a module does after its power-up: 01, then its status."""
        self.line.restart_sn()
        await self.exchange(self.command(Command.DEVICE_INFO))
        await self.push_status(CONNECTED)

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
            )

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

    # --- acks

    async def acked(self, frame: Frame, *, note: str = "", alone: bool = False) -> Entry:
        """Send once and require an ack: command, number, in time.

        :param alone: Wait for a second one too, which must not come.

        :raises CaseFailedError: with what came instead.
        """
        since = self.line.mark()
        sent, ack = await self.once(frame, note=note)
        name = self.status_of(frame)
        if ack is None:
            raise self._no_ack(frame, name, since)
        self._in_time(sent, ack, name)
        if not alone:
            return ack
        await self.line.listen(SECOND_ACK)
        again = [e for e in self.line.frames(since, frame.command + 1) if e.frame and e.frame.sn == frame.sn]
        if len(again) > 1:
            self.note(
                f"{name} was acked {'twice' if len(again) == 2 else f'{len(again)} times'}",
                expected="exactly one ack for each transmission",
                got=again,
                entry=again[1],
            )
        return ack

    def _no_ack(self, frame: Frame, name: str, since: int) -> CaseFailedError:
        other = self.line.frames(since, frame.command + 1)
        if other and other[0].frame is not None:
            text = f"{name} (sn {frame.sn}) was acked with sn {other[0].frame.sn}"
        else:
            acks = [
                e
                for e in self.line.frames(since)
                if e.frame and FRAMES.get(e.frame.command) and FRAMES[e.frame.command].is_ack
            ]
            bad = [e for e in self.line.received(since) if isinstance(e.item, BadFrame)]
            if acks and acks[0].frame is not None:
                text = f"{name} was answered with {self.status_of(acks[0].frame)}"
            elif bad:
                text = f"{name} was answered with something that is not a good frame"
            else:
                text = f"{name} (sn {frame.sn}) was not acked within {ACK_PATIENCE:g} s"
        return self.fail(
            text,
            expected=f"{name}_ack ({frame.command + 1:02X}) with sn {frame.sn}",
            got=self.line.received(since),
        )

    def _in_time(self, sent: Entry, ack: Entry, name: str) -> None:
        # An ack cannot overtake a frame that is on the line already.
        busy = [
            e.time for e in self.line.entries if e.direction == "received" and sent.time < e.time <= ack.began
        ]
        latency = ack.began - max([sent.time, *busy[-1:]])
        if latency > ACK + ADAPTER:
            self.note(
                f"{name} was acked after {latency * 1000:.0f} ms: the module has sent it again by then",
                expected=f"within {ACK * 1000:.0f} ms (and {ADAPTER * 1000:.0f} ms for the adapter)",
                got=[ack],
                entry=ack,
            )

    def unanswered(self, frame: Frame, since: int, why: str) -> None:
        """Require that a frame drew no ack.

        :raises CaseFailedError: it did.
        """
        ack = self.ack_of(frame, since)
        if ack is not None:
            raise self.fail(why, expected="no ack", got=[ack], entry=ack)

    async def raw_data(self, data: bytes) -> Frame:
        """A frame with raw data for the MCU, not sent."""
        return self.command(Command.P0_TO_MCU, raw_to_mcu(data))


def _hex(raw: Raw) -> str:
    return "" if isinstance(raw, bytes) else f" (raw {raw:X})"
