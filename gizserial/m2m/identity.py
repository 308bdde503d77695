"""Who a module is towards the cloud, and what the events of its life make of that (device-cloud.md §3)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Final, Literal

from gizserial.errors import ValueOutOfRange

DID_LENGTH: Final = 22
PASSCODE_LENGTH: Final = 10

Entropy = Callable[[int], bytes]
"""Gives that many random bytes: ``os.urandom``, or a seeded source in tests and scenarios."""

Generation = Literal["g1", "g2", "g3"]

_MAC: Final = re.compile(r"[0-9A-Za-z]{6,32}")


def new_passcode(entropy: Entropy) -> str:
    """Ten letters A–Y, as [V4] draws them."""
    return "".join(chr(65 + byte % 25) for byte in entropy(PASSCODE_LENGTH))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a module keeps over a restart. Each method gives a new one, to be stored before going on.

    :param mac: 12 upper-case hex digits, or the IMEI of a cellular module.
    :raises ValueOutOfRange: when the mac has another form.
    """

    mac: str
    product_key: str = ""
    """Empty until the MCU told it."""
    did: str = ""
    """22 letters and digits, given by the cloud; empty while not registered."""
    passcode: str = dataclasses.field(default="", repr=False)
    old_did: str = ""
    """Registration that the cloud has not yet been able to forget."""
    old_passcode: str = dataclasses.field(default="", repr=False)
    old_product_key: str = ""
    generation: Generation | None = None
    """How the did was registered; provisioning speaks the same."""
    reset_pending: bool = False
    """The next registration is the first after a reset: G2 and G3 tell the cloud to drop the bindings."""
    soft_version: str = ""
    """Firmware version last named by the cloud; the LAN discovery of [V4] shows it."""

    def __post_init__(self) -> None:
        if not _MAC.fullmatch(self.mac) or self.mac != self.mac.upper():
            raise ValueOutOfRange("mac", self.mac, "6 to 32 letters (upper-case) and digits, no separators")

    def booted(self, entropy: Entropy) -> Identity:
        """After a start: a did that is not 22 characters long is forgotten, such a passcode drawn anew."""
        registered = len(self.did) == DID_LENGTH and self.did.isascii() and self.did.isalnum()
        sound = len(self.passcode) == PASSCODE_LENGTH and self.passcode.isascii()
        return dataclasses.replace(
            self,
            did=self.did if registered else "",
            generation=self.generation if registered else None,
            passcode=self.passcode if sound else new_passcode(entropy),
        )

    def with_product(self, product_key: str, entropy: Entropy) -> Identity:
        """The MCU named its product: another one than before is a new device with a new passcode."""
        if product_key == self.product_key:
            return self
        return dataclasses.replace(self._forgotten(entropy), product_key=product_key, soft_version="")

    def reset(self, entropy: Entropy) -> Identity:
        """After a reset by the MCU or to factory settings."""
        return dataclasses.replace(self._forgotten(entropy), reset_pending=True)

    def registered(self, did: str, generation: Generation) -> Identity:
        """The cloud gave a did."""
        return dataclasses.replace(self, did=did, generation=generation, reset_pending=False)

    def unregistered(self) -> Identity:
        """The cloud does not know the did: register again, with the same passcode."""
        return dataclasses.replace(self, did="", generation=None)

    def old_forgotten(self) -> Identity:
        """The cloud confirmed the DELETE."""
        return dataclasses.replace(self, old_did="", old_passcode="", old_product_key="")

    def with_soft_version(self, soft_version: str) -> Identity:
        """The cloud named a module firmware, which need not be ours."""
        return dataclasses.replace(self, soft_version=soft_version)

    def _forgotten(self, entropy: Entropy) -> Identity:
        # Without a did there is nothing to unregister: an older registration keeps waiting for its DELETE. So
        # it does in G3, where there is no DELETE: the next registration drops the bindings.
        old = (self.old_did, self.old_passcode, self.old_product_key)
        if self.did and self.generation != "g3":
            old = (self.did, self.passcode, self.product_key)
        return dataclasses.replace(
            self,
            did="",
            generation=None,
            passcode=new_passcode(entropy),
            old_did=old[0],
            old_passcode=old[1],
            old_product_key=old[2],
        )
