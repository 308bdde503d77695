"""Who a module is for its cloud, and what the answers to REGISTER, PROVISION and UNREGISTER make of that.

::

    no did --REGISTER--> did --PROVISION--> address of the MQTT server; in G3 REGISTER gives both
       ^ refused: the other generation        | the cloud does not know it (9014, 9016)
       '--------------------------------------'
"""

from __future__ import annotations

from typing import Final, Literal

from gizserial.m2m import agent, http
from gizserial.m2m.effects import Effect, IdentityChanged, Rejected, Trace
from gizserial.m2m.http import Provision, Purpose
from gizserial.m2m.http_cloud import ErrorCode
from gizserial.m2m.http_jobs import HttpJobs, Job
from gizserial.m2m.identity import Generation, Identity
from gizserial.m2m.requests import Requests
from gizserial.m2m.secure import CipherError

WhenRefused = Literal["auto", "retry", "register"]
"""What follows when the cloud does not know did or passcode (device-cloud.md §3).

``retry`` is [V4]: go on trying. ``register``: register again at once. ``auto``: CONNACK 4 or 5 registers
again in G2 and G3 and retries in G1; a provisioning answered with 9014 or 9016 registers again in all.
"""

_UNKNOWN_DEVICE: Final = frozenset({ErrorCode.DEVICE_NOT_FOUND, ErrorCode.CREDENTIALS_INVALID})


class Registration:
    """Keeps the identity of one session and decides which registration comes next.

    :param out: Takes the effects.
    :param jobs: Takes what is to be asked next, and is told what has been answered.
    """

    def __init__(
        self,
        out: list[Effect],
        identity: Identity,
        requests: Requests,
        jobs: HttpJobs,
        when_refused: WhenRefused,
    ) -> None:
        self._out, self._requests, self._jobs = out, requests, jobs
        self._when_refused = when_refused
        self._refused: set[Generation] = set()
        self._just_registered = self._forgotten = False
        self.identity = identity
        """As it is now; the last :class:`IdentityChanged` has the same."""

    @property
    def generation(self) -> Generation:
        """Of the present registration."""
        return self._requests.generation(self.identity)

    @property
    def again_after_bad_login(self) -> bool:
        """Whether a refused login leads to another registration."""
        return self._when_refused == "register" or (self._when_refused == "auto" and self.generation != "g1")

    def change(self, identity: Identity) -> None:
        """The identity is another from now on."""
        if identity != self.identity:
            self.identity = identity
            self._out.append(IdentityChanged(identity))

    def begin(self) -> None:
        """Ask for a did, or with one for the address of the MQTT server."""
        self._jobs.add(Job(Purpose.PROVISION if self.identity.did else Purpose.REGISTER), first=True)

    def closed(self) -> None:
        """Everything is given up: the next registration may be made in either generation."""
        self._refused.clear()

    def repeated(self) -> None:
        """Time has passed since the registration: a device unknown now may be registered again."""
        self._just_registered = False

    def registered(self, job: Job, status: int, body: bytes) -> Provision | None:
        """An answer to REGISTER. One of G3 may name the MQTT server; after all others PROVISION follows."""
        generation = self._requests.registering
        did, server = None, None
        reason = "the answer holds no did of 22 characters"
        if 200 <= status < 300 and generation == "g3":
            network = agent.parse_network(body)
            if network is not None:
                did, server = network.did, network.server
        elif 200 <= status < 300:
            try:
                did = http.parse_did(body, self._requests.registration_secret())
            except CipherError as error:
                reason = str(error)
        if did is None:
            self.reject(job, status, body, reason)
            self._refused.add(generation)
            self._other_generation(job)
            return None
        self._refused.clear()
        self._requests.onboarding = None
        self._just_registered = True
        self.change(self.identity.registered(did, generation))
        if server is not None:
            return self._found(server)
        if self._forgotten:
            self._jobs.give_up()  # no success before it is provisioned: the time-outs go on growing
        else:
            self._jobs.done()
        self._jobs.add(Job(Purpose.PROVISION), first=True)
        return None

    def provisioned(self, job: Job, status: int, body: bytes) -> Provision | None:
        """An answer to PROVISION or TIME. None: the session has no did any more, or the job is repeated."""
        found = None
        reason = "the answer does not name an MQTT server"
        if status == 200 and self.generation == "g3":
            network = agent.parse_network(body)
            found = network.server if network is not None else None
        elif status == 200:
            try:
                found = http.parse_provision(body, self._requests.secret(self.identity))
            except CipherError as error:
                reason = str(error)
        if found is None:
            code = self.reject(job, status, body, reason)
            unknown = code in _UNKNOWN_DEVICE or (self.generation == "g2" and 400 <= status < 500)
            # Not twice in a row: a cloud that forgets what it registers would be asked without a pause.
            if unknown and self._when_refused != "retry" and not self._just_registered:
                self._forgotten = True
                self.change(self.identity.unregistered())
                self._jobs.give_up()
                self.begin()
            return None
        return self._found(found)

    def _found(self, server: Provision) -> Provision:
        self._just_registered = self._forgotten = False
        self._jobs.done()
        return server

    def unregistered(self, job: Job, status: int, body: bytes) -> None:
        """An answer to UNREGISTER: the old did is forgotten, or kept until the next boot (§4.5)."""
        if status == 200:
            self._jobs.done()
            self.change(self.identity.old_forgotten())
        else:
            self._jobs.give_up()
            self.reject(job, status, body, "the old did is kept until the next start")

    def reject(self, job: Job, status: int, body: bytes, otherwise: str) -> int | None:
        """Tell that an answer is not what was asked for; gives the error code when it has one.

        :param otherwise: What to say of an answer without an error.
        """
        error = http.parse_error(status, body)
        code, message = (error.code, error.message) if error else (None, otherwise)
        self._out.append(Rejected(job.purpose, status, code, message))
        return code

    def _other_generation(self, job: Job) -> None:
        if not self._requests.may_change:
            return
        self._requests.change()
        self._out.append(Trace(f"the next registration is tried as {self._requests.registering.upper()}"))
        if self._requests.registering in self._refused:
            self._refused.clear()  # both refused: from here at the pace of the time-outs
        else:
            self._jobs.give_up()
            self._jobs.add(job, first=True)
