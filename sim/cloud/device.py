"""What a cloud knows about a device (device-cloud.md §12.4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True)
class Versions:
    """Hardware and software version of a module or an MCU, as it reported them."""

    hard: str
    soft: str


@dataclasses.dataclass(frozen=True, slots=True)
class LastData:
    """Bytes and when they came, in Unix seconds."""

    data: bytes
    time: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device as it was when it was asked for. Times are Unix seconds."""

    did: str
    """22 letters and digits."""
    product_key: str
    """Empty for an adopted device whose product is not known yet."""
    mac: str
    """As it was registered, compared without regard to case; empty for an adopted device."""
    passcode: str = dataclasses.field(repr=False)
    previous_passcode: str | None = dataclasses.field(default=None, repr=False)
    """The one before the last change; a DELETE after a reset still carries it."""
    random_code: str | None = dataclasses.field(default=None, repr=False)
    """By which an app finds the device after on-boarding (§5.4)."""
    resets: int = 0
    """How often its bindings were to be dropped. A binding made under a smaller number is no more."""
    disabled: bool = False
    """Taken out of use by the administrator: its users can neither see nor control it."""
    module_versions: Versions | None = None
    mcu_versions: Versions | None = None
    created: float
    last_seen: float | None = None
    last_online: float | None = None
    last_address: str | None = None
    last_report: LastData | None = None
    """The last P0 report: action byte and body."""
    last_raw: LastData | None = None
    changed: float | None = None
    """When it last reported, came on line or went off line."""
    state: Mapping[str, int | bytes] = dataclasses.field(default_factory=dict)
    """Raw value of every data point that it has ever reported."""
