"""What the two ends of a serial line tell their driver. Every event is a fact, in the order it happened."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

from gizserial.framing import BadFrame, Frame, Noise


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A frame that wants an ack, and who wanted it sent. Each is equal to itself only."""

    frame: Frame
    token: object = None
    """Whatever the sender gave along, to know the answer by."""
    least: int = 0
    """An ack with fewer bytes of payload does not count."""
    wait: float | None = None
    """Seconds to wait for this ack; None: as for others."""
    tries: int | None = None
    """Transmissions in all; None: as for others."""


# --- the line (both roles)


@dataclasses.dataclass(frozen=True, slots=True)
class LineEvent:
    """Base of what an endpoint tells, whichever role it has."""


@dataclasses.dataclass(frozen=True, slots=True)
class FrameReceived(LineEvent):
    """A good frame came. What follows from it comes in events of its own."""

    frame: Frame


@dataclasses.dataclass(frozen=True, slots=True)
class FrameSent(LineEvent):
    """A frame left."""

    frame: Frame
    attempt: int = 1
    """1 for the first transmission; a repetition is the same frame with the same sn."""


@dataclasses.dataclass(frozen=True, slots=True)
class BadFrameReceived(LineEvent):
    """Bytes that began as a frame but are not a good one."""

    bad: BadFrame


@dataclasses.dataclass(frozen=True, slots=True)
class NoiseReceived(LineEvent):
    """Bytes outside any frame."""

    noise: Noise


@dataclasses.dataclass(frozen=True, slots=True)
class CommandReceived(LineEvent):
    """The peer asks for something; the role answers it."""

    frame: Frame


@dataclasses.dataclass(frozen=True, slots=True)
class UnknownReceived(LineEvent):
    """A good frame that means nothing here: an unknown command, or one of the wrong direction."""

    frame: Frame


@dataclasses.dataclass(frozen=True, slots=True)
class DuplicateReceived(LineEvent):
    """The command before, once more: its ack got lost. It is acked again and not carried out."""

    frame: Frame


@dataclasses.dataclass(frozen=True, slots=True)
class StrayAckReceived(LineEvent):
    """An ack that nothing waits for: late, or with another sn."""

    frame: Frame


@dataclasses.dataclass(frozen=True, slots=True)
class NoticeReceived(LineEvent):
    """The peer says that a frame of ours was illegal. It is not an ack (serial.md R4)."""

    frame: Frame
    code: int | None
    """1 checksum, 2 unknown command, 3 other, 4 file type; None when the notice has no body."""


@dataclasses.dataclass(frozen=True, slots=True)
class RequestAcked(LineEvent):
    """A request of ours was acknowledged."""

    request: Request
    ack: Frame


@dataclasses.dataclass(frozen=True, slots=True)
class RequestFailed(LineEvent):
    """A request of ours was not acknowledged after all its transmissions, or was given up before."""

    request: Request
    reason: str


# --- the module


@dataclasses.dataclass(frozen=True, slots=True)
class ModuleEvent:
    """Base of what only the module role tells."""


@dataclasses.dataclass(frozen=True, slots=True)
class Booted(ModuleEvent):
    """The module starts and asks the MCU who it is."""


@dataclasses.dataclass(frozen=True, slots=True)
class HandshakeFailed(ModuleEvent):
    """The MCU did not answer one attempt, or not usably."""

    attempt: int
    of: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class HandshakeDone(ModuleEvent):
    """The MCU said who it is."""

    info: DeviceInfo
    key_changed: bool
    """It names another product key than the one before: a new device for the cloud."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rebooting(ModuleEvent):
    """The module restarts."""

    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class StatusChanged(ModuleEvent):
    """The status word was pushed to the MCU."""

    word: int


@dataclasses.dataclass(frozen=True, slots=True)
class ReportReceived(ModuleEvent):
    """P0 from the MCU, acked already."""

    p0: bytes
    did: str | None = None
    """Sub-device of an old central-control gateway."""


@dataclasses.dataclass(frozen=True, slots=True)
class P0Acked(ModuleEvent):
    """The MCU acked a P0 that was relayed to it."""

    token: object
    p0: bytes
    """Empty, except for a read."""


@dataclasses.dataclass(frozen=True, slots=True)
class P0Failed(ModuleEvent):
    """The MCU did not ack a P0 that was relayed to it."""

    token: object
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class ProvisioningStarted(ModuleEvent):
    """The module waits for a router's name and password."""

    mode: str
    """``softap`` or ``airlink``."""


@dataclasses.dataclass(frozen=True, slots=True)
class ProvisioningEnded(ModuleEvent):
    """Nobody gave router data in time."""


@dataclasses.dataclass(frozen=True, slots=True)
class AccessPointGiven(ModuleEvent):
    """Router data are there; the network is to be joined."""

    ssid: str
    password: str = dataclasses.field(repr=False)
    bssid: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class ResetRequested(ModuleEvent):
    """The MCU had the module reset: router, did and bindings are to be forgotten. It reboots by itself."""


@dataclasses.dataclass(frozen=True, slots=True)
class RestartRequested(ModuleEvent):
    """The MCU had the module restarted; nothing is forgotten."""


@dataclasses.dataclass(frozen=True, slots=True)
class BindWindowOpened(ModuleEvent):
    """New users may bind for so many seconds; 0: always."""

    seconds: int


@dataclasses.dataclass(frozen=True, slots=True)
class ProductionTestStarted(ModuleEvent):
    """The module looks for the test access points."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModuleAsked(ModuleEvent):
    """The MCU asked for something that is answered here (time, module information) or elsewhere."""

    name: str
    """The frame's public name."""
    fields: dict[str, Any]


# --- the MCU


@dataclasses.dataclass(frozen=True, slots=True)
class McuEvent:
    """Base of what only the MCU role tells."""


@dataclasses.dataclass(frozen=True, slots=True)
class ControlApplied(McuEvent):
    """A control changed, or confirmed, these points."""

    raw: dict[str, int | bytes]
    ignored: tuple[str, ...] = ()
    """Flagged points that were not taken: not writable, or an enum index out of range."""


@dataclasses.dataclass(frozen=True, slots=True)
class ReadAnswered(McuEvent):
    """A read was answered with these points."""

    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Reported(McuEvent):
    """A report was queued; the stored copy counts from now on (serial.md §6.6)."""

    names: tuple[str, ...]
    why: str
    """``control``, ``change`` or ``periodic``."""


@dataclasses.dataclass(frozen=True, slots=True)
class RawDataReceived(McuEvent):
    """Opaque bytes for the MCU's application."""

    data: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class WifiStatusReceived(McuEvent):
    """The module pushed its status word."""

    word: int
    changed: tuple[str, ...]
    """Names of the bits that differ from the word before; ``rssi`` for the level."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModuleAnswered(McuEvent):
    """The module answered a request that has a body: network time or module information."""

    name: str
    """The ack's public name."""
    fields: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class McuRestarting(McuEvent):
    """The module had the MCU restarted."""


# --- files (both roles; serial.md §4.13)


class Outcome(enum.Enum):
    """How a transfer ended."""

    COMPLETE = "complete"
    """The sender: every piece was acked. The receiver: the file is here, size and MD5 are right."""
    REFUSED = "refused"
    """The receiver did not want the file, or wanted it in a way that the sender cannot."""
    STOPPED_BY_PEER = "stopped by peer"
    """1F from the sender, 27 from the receiver."""
    STOPPED = "stopped"
    """Stopped from here, as the user wanted."""
    FAILED = "failed"
    """No acks, silence, wrong pieces, a bad file, a line that went down, a restart."""


@dataclasses.dataclass(frozen=True, slots=True)
class TransferEvent:
    """Base of what is told of files. Those with a token are told by who sends the file."""


@dataclasses.dataclass(frozen=True, slots=True)
class FileOffered(TransferEvent):
    """The peer acked the announcement (19); whether it wants the file is not known yet."""

    size: int
    md5: str
    token: object = None


@dataclasses.dataclass(frozen=True, slots=True)
class FileReady(TransferEvent):
    """The peer wants the file (1B); pieces go out from here on."""

    piece_size: int
    """0 when lines of HEX travel."""
    count: int
    """Pieces that there are."""
    hex: bool
    token: object = None


@dataclasses.dataclass(frozen=True, slots=True)
class TransferProgress(TransferEvent):
    """The peer stored one more piece (1E)."""

    number: int
    count: int
    token: object = None


@dataclasses.dataclass(frozen=True, slots=True)
class FileAnnounced(TransferEvent):
    """The peer has a file for us (19)."""

    size: int
    md5: str
    declined: str = ""
    """Why it is not wanted: nothing follows then."""


@dataclasses.dataclass(frozen=True, slots=True)
class PieceReceived(TransferEvent):
    """One more piece of the file is here; its ack leaves afterwards."""

    number: int
    count: int
    """0 for lines of HEX."""
    offset: int
    data: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class FileReceived(TransferEvent):
    """The whole file is here; size and MD5 are as announced. The end of the transfer is told first."""

    data: bytes = dataclasses.field(repr=False)
    md5: str
    hex: bool


@dataclasses.dataclass(frozen=True, slots=True)
class TransferEnded(TransferEvent):
    """A transfer is over; told once for each."""

    outcome: Outcome
    detail: str
    """One sentence for people; empty when there is nothing to add."""
    sending: bool
    """It was the file of ours."""
    token: object = None


@dataclasses.dataclass(frozen=True, slots=True)
class LateStopReceived(TransferEvent):
    """The peer stops what is over already. A receiver says so that the file it got is a bad one."""

    sending: bool
    """It was the file of ours."""


# --- what the MCU says of itself


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """Answer to 01 (serial.md §4.1). Optional parts that are not there are None."""

    protocol_ver: str
    p0_ver: str
    hard_ver: str
    soft_ver: str
    product_key: str
    bind_time: int
    """Seconds after start during which a new user may bind; 0: always."""
    dev_attr: bytes | None = None
    product_secret: str | None = dataclasses.field(default=None, repr=False)
    data: dict[str, str] = dataclasses.field(default_factory=dict)


Event = LineEvent | ModuleEvent | McuEvent | TransferEvent
