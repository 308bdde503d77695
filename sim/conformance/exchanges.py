"""Exchanges of a module with the MCU, without its values: send, wait for the ack, and say what went wrong.

Cases lean on as little as they can: an exchange takes any ack of the right command, within three
transmissions, so that firmware with one fault fails the case of that fault and not all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gizserial import schemas
from gizserial.commands import FRAMES, Command
from gizserial.framing import BadFrame, Frame
from gizserial.product import Product
from gizserial.wifi_status import WifiStatus
from sim.conformance.line import BenchLine
from sim.conformance.model import CaseFailedError, Entry, Finding, Setting
from sim.conformance.thresholds import (
    ACK,
    ACK_PATIENCE,
    ADAPTER,
    MODULE_TRIES,
    QUIET,
    QUIET_PATIENCE,
    SECOND_ACK,
)
from sim.conformance.words import Words

CONNECTED: Final = WifiStatus(station=True, router=True, cloud=True, rssi=7)
"""What the bench tells the MCU of its network: all is well."""
OFFLINE: Final = WifiStatus(station=True, router=True, rssi=7)
"""Router, but no cloud."""


class Exchanges:
    """The module's end of the line, moved by hand.

    :param line: Opened by the runner.
    """

    def __init__(self, line: BenchLine, setting: Setting) -> None:
        self.line: Final = line
        self.setting: Final = setting
        self.product: Final[Product] = setting.product
        self.findings: list[Finding] = []
        """Deviations that do not end the case."""
        self._words = Words(setting.product)
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
            raise self._no_ack(frame, since, f"was sent {MODULE_TRIES} times and never acked")
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
            raise self._no_ack(frame, since, f"was not acked within {ACK_PATIENCE:g} s")
        self._in_time(sent, ack, f"{name} ({note})" if note else name)
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

    def _no_ack(self, frame: Frame, since: int, otherwise: str) -> CaseFailedError:
        """The deviation that a command drew no ack; says what came instead, or ``otherwise``."""
        name = self.status_of(frame)
        return self.fail(
            f"{name} (sn {frame.sn}) {self._instead(frame, since) or otherwise}",
            expected=f"{name}_ack ({frame.command + 1:02X}) with sn {frame.sn}",
            got=self.line.received(since),
        )

    def _instead(self, frame: Frame, since: int) -> str:
        """What came instead of an ack, if that tells something."""
        other = self.line.frames(since, frame.command + 1)
        if other and other[0].frame is not None:
            return f"was acked with sn {other[0].frame.sn}"
        notices = [
            e.frame
            for e in self.line.frames(since, Command.ILLEGAL_FRAME_FROM_MCU)
            if e.frame is not None and e.frame.sn == frame.sn
        ]
        if notices:
            return f"was called illegal, code {notices[0].payload[:1].hex() or 'missing'}, and not acked"
        if any(isinstance(e.item, BadFrame) for e in self.line.received(since)):
            return "was answered with something that is not a good frame"
        acks = [e.frame for e in self.line.frames(since) if e.frame is not None and _is_ack(e.frame)]
        return f"was answered with {self.status_of(acks[0])}" if acks else ""

    def _in_time(self, sent: Entry, ack: Entry, name: str) -> None:
        entries, free = self.line.entries, sent.time
        for entry in entries[entries.index(sent) + 1 : entries.index(ack)]:
            free = freed(free, entry)
        latency = ack.began - free
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


def freed(free: float, entry: Entry) -> float:
    """When the MCU could send an ack, if it could at ``free`` and then sent this.

    An ack cannot overtake a frame that is on the line; a frame that itself began too late is no excuse.
    """
    in_time = entry.direction == "received" and entry.began <= free + ACK + ADAPTER
    return max(free, entry.time) if in_time else free


def _is_ack(frame: Frame) -> bool:
    spec = FRAMES.get(frame.command)
    return spec is not None and spec.is_ack
