"""Which request a module sends for a job: generation, product secret and versions in one place."""

from __future__ import annotations

import dataclasses
from typing import Final, Literal

from gizserial.m2m import agent, firmware, http
from gizserial.m2m.http import MODULE_FIRMWARE, HttpRequest, Purpose, Server
from gizserial.m2m.http_jobs import Job, Query
from gizserial.m2m.identity import Entropy, Generation, Identity
from gizserial.m2m.mqtt31 import PROTOCOL_311, Connect
from gizserial.m2m.secure import CipherError, check_secret, random_code


@dataclasses.dataclass(frozen=True, slots=True)
class Versions:
    """Hardware and software version, 8 characters each."""

    hard: str = "00000001"
    soft: str = "00000001"


DEFAULT_VERSIONS: Final = Versions()

WantedGeneration = Literal["auto", "g1", "g2", "g3"]
"""``auto`` takes G2 when there is a usable secret, G1 otherwise; G2 and G3 demanded wait for the secret."""


class Requests:
    """Makes the requests of one module and remembers which generation it speaks.

    :param entropy: Source of nonces.
    """

    def __init__(
        self, server: Server, *, wanted: WantedGeneration, entropy: Entropy, module: Versions, mcu: Versions
    ) -> None:
        self.server, self.module, self.mcu = server, module, mcu
        self._wanted, self._entropy = wanted, entropy
        self._secret: str | None = None
        self.onboarding: tuple[str, str] | None = None
        """Name and password of the router that the module was given since its last registration."""
        self.registering: Generation = "g1"
        """How the next registration is made."""

    def use_secret(self, product_secret: str) -> str | None:
        """Take the product's secret; returns why it cannot be used, if so."""
        self._secret, self.registering = None, "g1"
        if self._wanted == "g1":
            return None
        try:
            check_secret(product_secret)
        except CipherError as error:
            return str(error)
        self._secret, self.registering = product_secret, "g3" if self._wanted == "g3" else "g2"
        return None

    @property
    def ready(self) -> bool:
        """Whether requests can be made: a generation that is demanded may need a secret."""
        return self._secret is not None or self._wanted in {"auto", "g1"}

    @property
    def may_change(self) -> bool:
        """Whether a refused registration may be tried in the other generation."""
        return self._wanted == "auto" and self._secret is not None

    def change(self) -> None:
        """Register in the other generation next time."""
        self.registering = "g1" if self.registering == "g2" else "g2"

    def generation(self, me: Identity) -> Generation:
        """How to speak about the present registration; a secret that went away leaves G1."""
        return (me.generation or self.registering) if self._secret is not None else "g1"

    def registration_secret(self) -> str | None:
        """What the answer to a registration is decrypted with."""
        return self._secret if self.registering == "g2" else None

    def secret(self, me: Identity) -> str | None:
        """What answers about the present registration are decrypted with."""
        return self._secret if self.generation(me) == "g2" else None

    def versions(self, firmware_type: int) -> Versions:
        """What runs at present."""
        return self.module if firmware_type == MODULE_FIRMWARE else self.mcu

    def make(self, job: Job, me: Identity) -> HttpRequest:
        """The request of a job."""
        match job.purpose:
            case Purpose.REGISTER:
                return self._register(me)
            case Purpose.PROVISION | Purpose.TIME:
                if self.generation(me) == "g3":
                    return agent.bootstrap(self.server, me.did, self._signer(me), self._entropy, job.purpose)
                secret = self.secret(me)
                if secret is None:
                    return http.provision(self.server, me.did, purpose=job.purpose)
                return http.provision_secure(self.server, me.did, me.product_key, secret, purpose=job.purpose)
            case Purpose.UNREGISTER:
                return self.unregister(me)
            case Purpose.LATEST:
                versions = self.versions(job.kind)
                query = job.query or Query(me.product_key, versions.hard, versions.soft)
                return http.latest(
                    self.server,
                    hard_version=query.hard_version,
                    soft_version=query.soft_version,
                    product_key=query.product_key,
                )
            case Purpose.DOWNLOAD if job.offer is not None:
                return firmware.download(job.offer, job.kind)
            case Purpose.OTA_CHECK | Purpose.DOWNLOAD:
                versions = self.versions(job.kind)
                return http.ota_check(
                    self.server,
                    me.did,
                    passcode=me.passcode,
                    firmware_type=job.kind,
                    hard_version=versions.hard,
                    soft_version=versions.soft,
                )

    def unregister(self, me: Identity) -> HttpRequest:
        """The DELETE of the old did."""
        secret = self.secret(me)
        # The secret is the present product's: an old did of another one can only be given up plainly (R4).
        if secret is None or me.old_product_key != me.product_key:
            return http.unregister(self.server, did=me.old_did, passcode=me.old_passcode)
        return http.unregister_secure(
            self.server,
            did=me.old_did,
            passcode=me.old_passcode,
            product_key=me.product_key,
            product_secret=secret,
        )

    def login(self, me: Identity) -> Connect:
        """The CONNECT of this device; G3 signs each one anew."""
        if self.generation(me) != "g3":
            return Connect(me.did, me.did, me.passcode.encode())
        nonce = agent.new_nonce(self._entropy)
        protocol, level = PROTOCOL_311
        token = self._signer(me).token(nonce).encode()
        return Connect(me.did, agent.login_name(me.did, nonce), token, protocol=protocol, level=level)

    def _signer(self, me: Identity) -> agent.Signer:
        return agent.Signer(me.product_key, me.mac, self._secret or "")

    def _register(self, me: Identity) -> HttpRequest:
        if self.registering == "g1" or self._secret is None:
            return http.register(self.server, mac=me.mac, passcode=me.passcode, product_key=me.product_key)
        code = random_code(me.product_key, *self.onboarding) if self.onboarding is not None else None
        if self.registering == "g3":
            return agent.network(
                self.server, self._signer(me), self._entropy, is_reset=me.reset_pending, random_code=code
            )
        return http.register_secure(
            self.server,
            mac=me.mac,
            passcode=me.passcode,
            product_key=me.product_key,
            product_secret=self._secret,
            is_reset=me.reset_pending,
            random_code=code,
        )
