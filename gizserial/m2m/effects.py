"""What a cloud session asks its driver to do, and what it tells it.

The first group is to be done in order. :class:`gizserial.m2m.http.HttpRequest` belongs to it too: open a new
connection (closing the one before), send ``raw``, give the answer back.
"""

from __future__ import annotations

import dataclasses

from gizserial.m2m.firmware import Firmware
from gizserial.m2m.http import HttpRequest, Purpose
from gizserial.m2m.identity import Identity


@dataclasses.dataclass(frozen=True, slots=True)
class OpenMqtt:
    """Connect, then report ``mqtt_connected`` or ``mqtt_lost``. Resolving the name is part of it."""

    host: str
    port: int


@dataclasses.dataclass(frozen=True, slots=True)
class SendMqtt:
    """Send this one packet in one piece. There is no packet that may be joined with another."""

    data: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class CloseMqtt:
    """Close the connection; nothing of it is to be reported any more."""

    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class IdentityChanged:
    """Store this durably *before* doing what comes after it."""

    identity: Identity


@dataclasses.dataclass(frozen=True, slots=True)
class CloudConnected:
    """The last subscription is acknowledged: status bit 5 of the MCU."""


@dataclasses.dataclass(frozen=True, slots=True)
class CloudLost:
    """The session ended."""

    reason: str


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class P0Received:
    """An app speaks to the MCU. Answer it with ``answer`` or ``no_answer``: the next one waits for that.

    Each is equal to itself only, because an app may ask the same twice.
    """

    client: str
    command: int
    """0090, or 0093 which wants an acknowledgement."""
    sn: int | None
    payload: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class AppCount:
    """How many apps are connected to this device through the cloud: status bit 11 of the MCU when not 0."""

    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class FirmwareCheck:
    """The cloud asked to check for firmware; the session does it. 1 module, 2 MCU."""

    firmware_type: int


@dataclasses.dataclass(frozen=True, slots=True)
class FirmwareOffer:
    """The cloud has firmware. ``newer`` is how [V4] decides: the version text sorts after the present one.

    What is newer is downloaded unless the MCU has only asked; then :class:`FirmwareFetched` or
    :class:`FirmwareFailed` follows.
    """

    firmware_type: int
    soft_version: str
    url: str
    newer: bool
    asked: bool = False
    """The MCU wanted to know; it decides what follows."""


@dataclasses.dataclass(frozen=True, slots=True)
class FirmwareFetched:
    """The offered file is here, whole and with the MD5 that was announced."""

    firmware: Firmware


@dataclasses.dataclass(frozen=True, slots=True)
class FirmwareFailed:
    """The offered file could not be had. Nothing is tried again before the next check (§4.4)."""

    firmware_type: int
    soft_version: str
    reason: str
    url: str


@dataclasses.dataclass(frozen=True, slots=True)
class ClockSet:
    """The time, UTC in seconds; the cloud's provisioning is its only source (§9.7)."""

    server_ts: int


@dataclasses.dataclass(frozen=True, slots=True)
class Rejected:
    """The cloud answered, but not what was asked for; the session goes on by its own rules."""

    purpose: Purpose
    status: int
    code: int | None
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class LoginRefused:
    """CONNACK with this code; 4 and 5 mean did or passcode."""

    code: int


@dataclasses.dataclass(frozen=True, slots=True)
class RebootAdvised:
    """Field firmware would reboot now. The session itself never gives up."""

    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Trace:
    """One line about what happens, for a log. Holds no secrets."""

    text: str


Effect = (
    HttpRequest
    | OpenMqtt
    | SendMqtt
    | CloseMqtt
    | IdentityChanged
    | CloudConnected
    | CloudLost
    | P0Received
    | AppCount
    | FirmwareCheck
    | FirmwareOffer
    | FirmwareFetched
    | FirmwareFailed
    | ClockSet
    | Rejected
    | LoginRefused
    | RebootAdvised
    | Trace
)
