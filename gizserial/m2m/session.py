"""A module's life with its cloud, without I/O and clock (device-cloud.md §3, §4.6, §7.4, §8.1, §10).

::

    router up --> did? --no--> REGISTER --did--> PROVISION --> MQTT (MqttLink), and in parallel
                     `-----yes--------------------^            check module, check MCU, forget the old did
    every hour: TIME (the provisioning again);  0211: check that firmware;  10 failures in a row: PROVISION

The driver calls the inputs with the time, does what :meth:`CloudSession.effects` lists, in order, and
calls :meth:`CloudSession.handle_timeout` when :meth:`CloudSession.next_timeout` is due. It never gives up.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gizserial.m2m import frames, http, topics
from gizserial.m2m.apps import Apps
from gizserial.m2m.downloads import Downloads, Wanted
from gizserial.m2m.effects import (
    ClockSet,
    Effect,
    FirmwareCheck,
    LoginRefused,
    P0Received,
    RebootAdvised,
    Trace,
)
from gizserial.m2m.http import MCU_FIRMWARE, MODULE_FIRMWARE, HttpRequest, Purpose, Server
from gizserial.m2m.http_jobs import REBOOT_AFTER, HttpJobs, Job, Query
from gizserial.m2m.identity import Entropy, Identity
from gizserial.m2m.mqtt31 import Publish
from gizserial.m2m.mqtt_firmware import Asking, MqttFirmware
from gizserial.m2m.mqtt_link import REBOOT_DELAY, LinkState, MqttLink
from gizserial.m2m.registration import Registration, WhenRefused
from gizserial.m2m.requests import DEFAULT_VERSIONS, Requests, Versions, WantedGeneration

TIME_INTERVAL: Final = 3600.0
"""Seconds between two time synchronisations."""
PROVISION_AFTER: Final = 10
"""So many failed connections in a row lead to a new provisioning."""

_PRODUCT_KEY: Final = re.compile(r"[0-9a-zA-Z]{32}")
_BAD_LOGIN: Final = frozenset({4, 5})
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class CloudSession:
    """What a module is for its cloud.

    :param identity: As it was stored, or a new one.
    :param server: The HTTP API.
    :param entropy: Source of random bytes, for passcodes.
    :param product_secret: 32 hex digits when the product has one; also given by :meth:`product`.
    :param generation: ``g1`` registers plain, ``g2`` encrypted, ``g3`` signed. ``auto``: G2 when there is a
        usable secret, G1 otherwise; a refused registration is then tried in the other generation, because
        clouds that do not know the secret understand G1 only, and products with encryption enabled refuse it
        (9045). G2 and G3 that are demanded wait for a secret.
    :param when_refused: What follows when the cloud does not know did or passcode.
    :param download: Which offered firmware is fetched: what is newer as [V4] compares (``strcmp``), any other
        than the present version, or none.
    :param asking: How it asks for firmware: over HTTP (G1, G2), or by MQTT as G3 or G0 do.
    :param keep_alive: MQTT keep-alive in seconds.
    """

    def __init__(
        self,
        identity: Identity,
        server: Server,
        *,
        entropy: Entropy,
        module: Versions = DEFAULT_VERSIONS,
        mcu: Versions = DEFAULT_VERSIONS,
        product_secret: str | None = None,
        generation: WantedGeneration = "auto",
        when_refused: WhenRefused = "auto",
        download: Wanted = "newer",
        asking: Asking = "http",
        keep_alive: int = 120,
    ) -> None:
        self._out: list[Effect] = []
        self._entropy = entropy
        self._requests = Requests(server, wanted=generation, entropy=entropy, module=module, mcu=mcu)
        self._jobs = HttpJobs()
        self._registration = Registration(self._out, identity, self._requests, self._jobs, when_refused)
        self._link = MqttLink(self._out, self._link_failed, keep_alive=keep_alive)
        self._apps = Apps(self._out, self._link.publish)
        self._firmware = MqttFirmware(asking, self._requests, self._link.publish)
        self._downloads = Downloads(self._out, self._jobs, download, self._firmware.progress)
        self._in_flight: HttpRequest | None = None
        self._started = self._router = False
        self._checks_due: set[int] = set()
        self._unregister_due = False
        self._time_due: float | None = None
        self._reboot_due: float | None = None
        self._reboot_told = False
        if product_secret is not None:
            self._use_secret(product_secret)

    # --- what it is

    @property
    def identity(self) -> Identity:
        """The identity as it is now; the last :class:`IdentityChanged` has the same."""
        return self._registration.identity

    @property
    def connected(self) -> bool:
        """Whether P0 can pass: status bit 5 of the MCU."""
        return self._link.running

    @property
    def app_count(self) -> int:
        """How many apps the cloud says are connected."""
        return self._apps.count

    @property
    def downloading(self) -> bool:
        """A firmware file is on its way."""
        return self._downloads.running

    @property
    def phase(self) -> str:
        """What goes on, in a few words."""
        if not self._started:
            return "stopped"
        if not self.identity.product_key:
            return "waiting for the product key"
        if not self._requests.ready:
            return "waiting for the product secret"
        if not self._router:
            return "no router"
        if not self._link.running and self._jobs.current is not None:
            return self._jobs.current.purpose.value
        return self._link.state.value

    def effects(self) -> list[Effect]:
        """What is to be done and told since the last call, in order."""
        out = self._out.copy()
        self._out.clear()
        return out

    # --- inputs

    def start(self, now: float) -> None:
        """The module boots. The router counts as away until :meth:`router_up`."""
        self.stop(now)
        self._registration.change(self.identity.booted(self._entropy))
        self._started = True
        self._boot(now)

    def stop(self, now: float, reason: str = "the module stopped") -> None:  # noqa: ARG002 (as all inputs)
        """The module is switched off or restarts: close everything, keep the identity."""
        self._close(reason)
        self._started = self._router = False

    def onboarded(self, ssid: str, password: str) -> None:
        """The module was given a router: an app may look for it by the random code of these two (§5.4)."""
        self._requests.onboarding = (ssid, password)

    def router_up(self, now: float) -> None:
        """The module has a router."""
        if not self._router:
            self._router = True
            self._begin(now)

    def router_down(self, now: float) -> None:  # noqa: ARG002 (as all inputs)
        """The router is gone: no traffic until it is back."""
        if self._router:
            self._router = False
            self._close("the router is gone")

    def product(
        self, product_key: str, now: float, *, product_secret: str | None = None, mcu: Versions | None = None
    ) -> None:
        """The MCU told who it is. Another product key than before is a new device (§3)."""
        self._requests.mcu = mcu or self._requests.mcu
        if not _PRODUCT_KEY.fullmatch(product_key):
            self._trace(f"the MCU's product key has {len(product_key)} characters instead of 32: ignored")
            return
        waited = not self._requests.ready
        if product_secret is not None:
            self._use_secret(product_secret)
        changed = self.identity.with_product(product_key, self._entropy)
        if changed == self.identity:
            if waited:
                self._begin(now)
            return
        self._close("the product changed")
        self._registration.change(changed)
        if self._started:
            self._boot(now)

    def reset(self, now: float) -> None:  # noqa: ARG002 (as all inputs)
        """Reset by the MCU or to factory settings: unregister at once, then stop until :meth:`start`.

        [V4] reboots 2 s later; the DELETE is repeated after that, because its answer is not awaited here.
        """
        reachable = self._router and self._started
        if self._registration.generation == "g3":
            self._link.publish(topics.CLI2SER_REQ, frames.encode_control(frames.DeviceReset()))
        self._close("the module was reset")
        self._registration.change(self.identity.reset(self._entropy))
        if reachable and self.identity.old_did:
            request = self._requests.unregister(self.identity)
            self._out.append(dataclasses.replace(request, awaited=False))
        self._started = self._router = False

    def http_answer(
        self,
        status: int,
        body: bytes,
        now: float,
        request: HttpRequest | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> None:
        """An answer has arrived. Give ``request`` to have answers of abandoned requests ignored.

        :param headers: By lower-case name; needed for downloads.
        """
        job = self._jobs.current
        if job is None or (request is not None and request is not self._in_flight):
            return
        if job.purpose is Purpose.DOWNLOAD:
            self._downloads.answered(job, status, headers, body)
            self._pump(now)
            return
        handler = {
            Purpose.REGISTER: self._registered,
            Purpose.PROVISION: self._provisioned,
            Purpose.TIME: self._provisioned,
            Purpose.OTA_CHECK: self._checked,
            Purpose.LATEST: self._checked,
            Purpose.UNREGISTER: self._unregistered,
        }[job.purpose]
        if status == 200 or (job.purpose is Purpose.REGISTER and 200 <= status < 300):
            self._reboot_due = now + REBOOT_AFTER
        handler(job, status, body, now)
        self._pump(now)

    def http_failed(
        self, now: float, reason: str = "no connection", request: HttpRequest | None = None
    ) -> None:
        """The request could not be sent or was not answered. It is repeated at its time-out, not before.

        A download is not repeated at all. Give ``request`` to have failures of abandoned ones ignored.
        """
        job = self._jobs.current
        if job is None or (request is not None and request is not self._in_flight):
            return
        if job.purpose is Purpose.DOWNLOAD:
            self._downloads.failed(job, reason)
            self._pump(now)
        else:
            self._trace(f"{job.purpose.value} failed: {reason}")

    def mqtt_connected(self, now: float) -> None:
        """The connection of the last :class:`OpenMqtt` is there."""
        self._link.connected(now)

    def mqtt_data(self, data: bytes, now: float) -> None:
        """Bytes of the MQTT server, in chunks of any size."""
        for message in self._link.data(data, now):
            self._message(message, now)
        self._after_link(now)

    def mqtt_lost(self, now: float, reason: str = "the connection was lost") -> None:
        """The MQTT connection is gone, or could not be made."""
        self._link.lost(now, reason)
        self._after_link(now)

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is due; None while nothing is waiting."""
        if not (self._started and self._router):
            return None
        times = (
            self._jobs.next_timeout(),
            self._link.next_timeout(),
            self._time_due,
            self._reboot_due,
            self._apps.next_timeout(),
        )
        return min((time for time in times if time is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """Do what is due. Calling it early does nothing."""
        if not (self._started and self._router):
            return
        self._link.handle_timeout(now)
        self._after_link(now)
        self._downloads.handle_timeout(now)
        again = self._jobs.repeat(now, may_provision=bool(self.identity.did))
        if again is not None:
            self._registration.repeated()
            self._trace(f"{again.purpose.value}: not answered as wanted, sent again")
            self._send(again)
        if self._time_due is not None and now >= self._time_due:
            self._time_due = now + TIME_INTERVAL
            self._jobs.add(Job(Purpose.TIME))
        if self._reboot_due is not None and now >= self._reboot_due:
            self._reboot_due = now + REBOOT_AFTER
            self._out.append(RebootAdvised("2 h without a successful HTTP request"))
        self._apps.handle_timeout(now)
        self._pump(now)

    # --- P0, for the bridge

    def publish_report(self, p0: bytes, now: float) -> bool:  # noqa: ARG002 (as all inputs)
        """Publish a report of the MCU as 0091 to everybody; False, and dropped, when not connected (§8.2).

        :raises ValueOutOfRange: when the frame would be longer than 65 535 bytes.
        """
        return self.connected and self._apps.report(self.identity.did, p0)

    def answer(self, request: P0Received, p0: bytes, now: float) -> bool:
        """The MCU acknowledged with this P0: 0094 to the app of a 0093, 0091 to all for a 0090 (§8.1).

        False, and dropped, when the request is over: answered before, timed out, or of a lost connection.
        """
        return self._apps.answer(self.identity.did, request, p0, now)

    def no_answer(self, request: P0Received, now: float) -> None:
        """The MCU was silent, or a LAN client got the answer: nothing is published (§8.1, R12)."""
        self._apps.no_answer(request, now)

    def module_updated(self, versions: Versions) -> None:
        """The module has new firmware of its own: the next checks say so."""
        self._requests.module = versions

    def query_firmware(self, now: float, query: Query | None = None) -> bool:
        """The MCU asked for newest firmware (serial 23, sub 1): an offer or a rejection follows.

        False, and nothing follows, without a router.
        """
        if not (self._started and self._router):
            return False
        self._jobs.add(Job(Purpose.LATEST, MCU_FIRMWARE, query=query))
        self._pump(now)
        return True

    def fetch_firmware(self, url: str, now: float) -> bool:
        """The MCU asked for a file (serial 23, sub 3): it, or a failure, follows. False as above."""
        if not (self._started and self._router):
            return False
        self._downloads.start(http.Offer("", url), MCU_FIRMWARE)
        self._pump(now)
        return True

    # --- inside: start and HTTP

    def _trace(self, text: str) -> None:
        self._out.append(Trace(text))

    def _use_secret(self, product_secret: str) -> None:
        unused = self._requests.use_secret(product_secret)
        if unused is not None:
            how = "registering without encryption (G1)" if self._requests.ready else "not registering"
            self._trace(f"{how}: {unused}")

    def _close(self, reason: str) -> None:
        self._link.stop(reason)
        self._jobs.clear()
        self._in_flight, self._time_due, self._reboot_due = None, None, None
        self._registration.closed()
        self._apps.gone()

    def _boot(self, now: float) -> None:
        self._checks_due = set(self._firmware.checked)
        self._unregister_due = bool(self.identity.old_did)
        self._begin(now)

    def _begin(self, now: float) -> None:
        if not (self._started and self._router and self.identity.product_key):
            return
        if not self._requests.ready:
            self._trace("not registering: the generation that is demanded needs a product secret")
            return
        self._reboot_due, self._reboot_told = now + REBOOT_AFTER, False
        self._registration.begin()
        if self.identity.did and self._link.address is not None:
            self._start_link(now)  # a router that was away for a moment: the server is known already
        self._pump(now)

    def _pump(self, now: float) -> None:
        if self._started and self._router:
            job = self._jobs.next(now)
            if job is not None:
                self._send(job)

    def _send(self, job: Job) -> None:
        self._in_flight = self._requests.make(job, self.identity)
        self._out.append(self._in_flight)

    def _registered(self, job: Job, status: int, body: bytes, now: float) -> None:
        before = self.identity.did
        server = self._registration.registered(job, status, body)
        # A link held after a refusal keeps its back-off: a cloud refusing what it registers is not hammered.
        if self.identity.did != before and self._link.state is not LinkState.IDLE:
            self._link.stop("registered anew")
        if server is not None:
            self._connect_to(server, now)

    def _provisioned(self, job: Job, status: int, body: bytes, now: float) -> None:
        found = self._registration.provisioned(job, status, body)
        if found is None:
            if not self.identity.did:
                self._link.stop("the cloud does not know this device")
                self._apps.gone()
        else:
            self._connect_to(found, now)

    def _connect_to(self, found: http.Provision, now: float) -> None:
        if found.server_ts is not None:
            self._out.append(ClockSet(found.server_ts))
        self._time_due = now + TIME_INTERVAL
        self._link.set_address(found.host, found.port)
        self._start_link(now)
        for kind in sorted(self._checks_due):
            self._jobs.add(Job(Purpose.OTA_CHECK, kind))
        if self._unregister_due:
            self._jobs.add(Job(Purpose.UNREGISTER))

    def _checked(self, job: Job, status: int, body: bytes, now: float) -> None:  # noqa: ARG002 (one signature)
        self._jobs.done()
        self._checks_due.discard(job.kind)
        offer = http.parse_offer(body) if status == 200 else None
        if offer is None:
            self._registration.reject(job, status, body, "no firmware is offered")
            return
        if job.kind == MODULE_FIRMWARE:
            self._registration.change(self.identity.with_soft_version(offer.soft_version))
        self._downloads.offered(offer, job, self._requests.versions(job.kind).soft)

    def _unregistered(self, job: Job, status: int, body: bytes, now: float) -> None:  # noqa: ARG002 (one signature)
        self._unregister_due = False
        self._registration.unregistered(job, status, body)

    # --- inside: MQTT

    def _start_link(self, now: float) -> None:
        me = self.identity
        subscriptions = topics.module_subscriptions(me.did, me.product_key)
        # G2 and later omit the product-wide notices (§7.2).
        self._link.set_login(
            lambda: self._requests.login(self.identity),
            subscriptions[0 if self._registration.generation == "g1" else 1 :],
        )
        self._link.start(now)

    def _link_failed(self, code: int | None, now: float) -> None:  # noqa: ARG002 (one signature)
        if code is not None:
            self._out.append(LoginRefused(code))
        if self._link.next_delay > REBOOT_DELAY and not self._reboot_told:
            self._reboot_told = True
            self._out.append(RebootAdvised("no MQTT session for about two hours"))
        if code in _BAD_LOGIN and self._registration.again_after_bad_login:
            self._link.hold()
            self._jobs.add(Job(Purpose.REGISTER), first=True)
        elif self._link.failed_connects % PROVISION_AFTER == 0:
            self._jobs.add(Job(Purpose.PROVISION), first=True)

    def _after_link(self, now: float) -> None:
        if self._link.running:
            self._reboot_told = False
        else:
            self._apps.gone()
        self._firmware.link_is(self.identity, online=self._link.running)
        self._pump(now)

    def _message(self, message: Publish, now: float) -> None:
        topic = topics.parse_topic(message.topic)
        if topic is None:
            self._trace("ignored a message on a topic that is none of ours")
        elif topic.kind is topics.TopicKind.APP2DEV and topic.did == self.identity.did:
            self._apps.received(topic.client or "", message.payload, now)
        elif topic.kind is topics.TopicKind.SER2CLI_RES and topic.did == self.identity.did:
            self._control(message.payload)
        else:
            self._trace(f"ignored a message on {topic.kind.value}")

    def _control(self, payload: bytes) -> None:
        message = frames.decode_control(payload)
        match message:
            case frames.AppCount(count):
                self._apps.counted(count)
            case frames.CheckFirmware(type=kind) if kind in self._firmware.checked:
                self._checks_due.add(kind)
                self._out.append(FirmwareCheck(kind))
                self._jobs.add(Job(Purpose.OTA_CHECK, kind))
            case frames.BadMessage(reason=reason):
                self._trace(f"ignored a control message: {reason}")
            case _ if (found := self._firmware.offered(message)) is not None:
                present = self._requests.versions(found[0]).soft
                self._downloads.offered(found[1], Job(Purpose.OTA_CHECK, found[0]), present)
            case _ if self._firmware.nothing_new(message):
                self._trace("the cloud has no new firmware")
            case _:
                self._trace(f"ignored control message {payload[4:6].hex()}")
