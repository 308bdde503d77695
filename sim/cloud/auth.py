"""Who may log in at the MQTT server, and as what (device-cloud.md §7.1, §12.3).

A module's client id and user name are its did; in G3 the user name carries a nonce too, and the password is
a signature. An app's client id is its own, its user name the did of the device that it speaks to; the
passcode is the password of both, because who knows it has bound the device. The documents do not say how
apps log in: this is a ruling of ours (docs/design.md).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Final, Literal

from gizserial.m2m import agent
from gizserial.m2m.mqtt31 import Connect, ConnectCode
from gizserial.m2m.topics import MAX_CLIENT, Identity, Party
from sim.cloud.events import Adopted, Event
from sim.cloud.store import Store

CLIENT: Final = "gizsim-cloud"
"""Client part of the topics of the cloud's own requests."""
MAX_DEVICE_CLIENT: Final = 64
"""Longest client id of a device that is looked at, in characters."""


@dataclasses.dataclass(frozen=True, slots=True)
class Login:
    """A client that was let in."""

    client_id: str
    did: str
    """The device that it is, or that it speaks to."""
    identity: Identity

    @property
    def party(self) -> Literal["device", "app"]:
        """What it is."""
        return "device" if self.identity.party is Party.DEVICE else "app"


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """A client that was not."""

    code: ConnectCode
    reason: str


class Gate:
    """Checks CONNECT packets before any broker sees them.

    :param adopt: Let in unknown dids and remember them.
    :param secret_of: Product key → product secret, with which modules of G3 sign.
    """

    def __init__(
        self,
        store: Store,
        *,
        adopt: bool,
        told: Callable[[Event], None],
        secret_of: Callable[[str], str | None] = lambda _product_key: None,
    ) -> None:
        self._store, self._adopt, self._told, self._secret_of = store, adopt, told, secret_of

    def check(self, connect: Connect) -> Login | Refusal:
        """Who this is, or why it may not come in."""
        client = connect.client_id
        if not client or len(client) > MAX_DEVICE_CLIENT or any(char in client for char in "+#/\0"):
            return Refusal(ConnectCode.BAD_CLIENT_ID, "the client id is empty or cannot be part of a topic")
        did = connect.user or ""
        # One series of clients swaps user name and client id (§6).
        signed = agent.parse_login_name(did) or agent.parse_login_name(client)
        if signed is not None:
            return self._check_signed(*signed, connect.password or b"")
        try:
            passcode = (connect.password or b"").decode("ascii")
        except UnicodeDecodeError:
            return Refusal(ConnectCode.BAD_CREDENTIALS, "the passcode is not text")
        if not did or not passcode:
            return Refusal(ConnectCode.BAD_CREDENTIALS, "did or passcode is missing")
        device = self._store.device(did)
        if device is None:
            if not self._adopt or client != did or len(did) > MAX_CLIENT or not did.isalnum():
                return Refusal(ConnectCode.BAD_CREDENTIALS, "no device with this did has registered here")
            device = self._store.adopt(did, passcode, time.time())
            self._told(Adopted(at=time.time(), did=did))
        if not self._store.check_login(did, passcode):
            return Refusal(ConnectCode.BAD_CREDENTIALS, "the passcode is wrong")
        if client == did:
            return Login(client, did, _device_identity(did, device.product_key))
        if client == CLIENT:
            return Refusal(ConnectCode.BAD_CLIENT_ID, "this client id is the cloud's own")
        if len(client) > MAX_CLIENT:
            return Refusal(
                ConnectCode.BAD_CLIENT_ID, f"the client id of an app has at most {MAX_CLIENT} characters"
            )
        return Login(client, did, Identity.app(client, [did]))

    def _check_signed(self, did: str, nonce: str, token: bytes) -> Login | Refusal:
        """A module of G3: the password is its token over the nonce."""
        device = self._store.device(did)
        secret = self._secret_of(device.product_key) if device is not None else None
        if device is None or secret is None:
            return Refusal(
                ConnectCode.BAD_CREDENTIALS, "no device with this did has registered with a secret"
            )
        signer = agent.Signer(device.product_key, device.mac, secret)
        if not signer.verifies(nonce, token.decode("ascii", "replace")):
            return Refusal(ConnectCode.BAD_CREDENTIALS, "the signature is wrong")
        return Login(did, did, _device_identity(did, device.product_key))


def _device_identity(did: str, product_key: str) -> Identity:
    """An adopted device names its product with its first subscription; until then any is good."""
    if product_key:
        return Identity.device(did, product_key)
    return Identity(Party.DEVICE, dids=frozenset({did}))
