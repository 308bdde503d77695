"""What the embedded cloud tells those who watch it.

Each event is a frozen dataclass; ``at`` is UTC in seconds. Nothing in it is secret: passcodes and product
secrets never leave the store.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal, TypeAlias

from sim.cloud.heartbeat import Heartbeat


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    at: float


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """Who sent something to a device (open-api.md §8.4, snoti.md §6)."""

    source: Literal["client", "open_api", "scheduler", "enterprise_api", "noti", "d3", "cloud"]
    """``client`` is the WebSocket API or MQTT, ``cloud`` this program itself."""
    uid: str | None = None
    appid: str | None = None
    enterprise_id: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Registered(_Event):
    """A device got its did; ``new`` when it is the first time for this mac and product."""

    did: str
    mac: str
    product_key: str
    new: bool
    is_reset: bool
    """First registration after a reset: its bindings are void."""
    secure: bool
    """With the product secret (G2, G3)."""
    random_code: str | None = None
    """By which an app finds the device it has just brought on line (device-cloud.md §5.4)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Adopted(_Event):
    """An unknown device logged in and was taken over with its did and passcode."""

    did: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned(_Event):
    """A device asked where the MQTT server is, and what time it is."""

    did: str
    host: str
    port: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VersionReported(_Event):
    """A device named its versions while it asked for firmware."""

    did: str
    firmware_type: int
    """1 module, 2 MCU."""
    hard_version: str
    soft_version: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareStep(_Event):
    """Firmware that was pushed to a device has come one step further."""

    did: str
    firmware_type: int
    """1 module, 2 MCU."""
    soft_version: str
    state: Literal["waiting", "told", "offered", "downloaded", "done", "withdrawn"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareProgress(_Event):
    """A G3 module says how far it is with new firmware (022c)."""

    did: str
    progress: int
    """Percent."""
    versions: str
    """``hardware,software``."""
    text: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Unregistered(_Event):
    """A device was reset: whoever had bound it has it no more. Its did stays its own."""

    did: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Online(_Event):
    """A device has an MQTT session with all its subscriptions."""

    did: str
    again: bool = False
    """It came back before its old session was found to be dead: nobody was told that it was off line."""
    address: str = ""
    """Where it is."""
    keep_alive: int = 0
    """What its CONNECT announced, in seconds; 0: none."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Offline(_Event):
    """The session of a device that was online has ended."""

    did: str
    reason: str
    heartbeat: Heartbeat | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoginRefused(_Event):
    """A CONNECT was refused with ``code``."""

    client_id: str
    code: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AppOnline(_Event):
    """An app has an MQTT session for this device."""

    did: str
    client: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AppOffline(_Event):
    """An app's session has ended."""

    did: str
    client: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request(_Event):
    """A 0090, 0093 or 0094 has just been sent to the device."""

    did: str
    client: str
    command: int
    sn: int | None
    p0: bytes
    packet: bytes = b""
    """The whole business frame."""
    origin: Origin = Origin("client")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer(_Event):
    """A device acknowledged a 0093 (0094)."""

    did: str
    client: str
    sn: int
    p0: bytes
    packet: bytes = b""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Report(_Event):
    """P0 of a device for everybody: a report, the answer to a read, or raw data (0091)."""

    did: str
    p0: bytes
    packet: bytes = b""
    sn: int | None = None
    """Of a report that wants an acknowledgement (0093)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DataReported(_Event):
    """Data points of a device, decoded and stored: of a report, or of an answer."""

    did: str
    raw: Mapping[str, int | bytes]
    """Raw value of each point in it; never empty."""
    before: Mapping[str, int | bytes]
    """Every point that was known before."""
    p0: bytes
    packet: bytes
    sn: int | None = None
    """Of a report that wants an acknowledgement (0093)."""
    answers: int | None = None
    """The sn of the cloud's request that it answers (0094)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RawReported(_Event):
    """P0 of a device that holds no data points: raw data, central control, or the product has none."""

    did: str
    p0: bytes
    packet: bytes
    sn: int | None = None
    answers: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BadReported(_Event):
    """P0 with the action of data points that cannot be decoded."""

    did: str
    packet: bytes
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bound(_Event):
    """A user has a device now."""

    did: str
    uid: str
    appid: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Unbound(_Event):
    """A user has a device no more."""

    did: str
    uid: str
    appid: str
    role: str = ""
    """What he was."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionChanged(_Event):
    """The data points of a product are others now."""

    product_key: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TokensRevoked(_Event):
    """Tokens of a user that are good no more."""

    uid: str
    keep: str | None = None
    """Hash of the one that stays."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModuleLog(_Event):
    """A line that a module wrote into its log in the cloud (G3)."""

    did: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dropped(_Event):
    """A message that was not passed on, and why."""

    did: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Notice(_Event):
    """One sentence for the user."""

    text: str


Event: TypeAlias = (
    Registered
    | Adopted
    | Provisioned
    | VersionReported
    | FirmwareStep
    | FirmwareProgress
    | Unregistered
    | Online
    | Offline
    | LoginRefused
    | AppOnline
    | AppOffline
    | Request
    | Answer
    | Report
    | DataReported
    | RawReported
    | BadReported
    | Bound
    | Unbound
    | DefinitionChanged
    | TokensRevoked
    | ModuleLog
    | Dropped
    | Notice
)
