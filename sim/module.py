"""A simulated Wi-Fi module: the role on a port, its network, and the bridge to a cloud."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gizserial.commands import Role
from gizserial.endpoint import QueueFullError
from gizserial.errors import EncodeError
from gizserial.events import (
    AccessPointGiven,
    BindWindowOpened,
    Booted,
    Event,
    HandshakeDone,
    HandshakeFailed,
    ModuleAsked,
    P0Acked,
    P0Failed,
    ProductionTestStarted,
    ProvisioningEnded,
    ProvisioningStarted,
    Rebooting,
    ReportReceived,
    RequestFailed,
    ResetRequested,
    RestartRequested,
)
from gizserial.io.base import Back, LineEvent, Lost, Notice, Overflow, Transport
from gizserial.io.driver import Clock, Driver, MonotonicClock
from gizserial.lan.server import (
    AskMcu,
    ClientCount,
    LanEffect,
    LanFacts,
    LanOptions,
    LanTrace,
    LeaveTest,
    RouterDataGiven,
)
from gizserial.m2m.effects import (
    AppCount,
    ClockSet,
    CloudConnected,
    CloudLost,
    Effect,
    IdentityChanged,
    LoginRefused,
    P0Received,
    Rejected,
    Trace,
)
from gizserial.m2m.http import Server
from gizserial.m2m.identity import Identity
from gizserial.m2m.requests import Versions
from gizserial.m2m.session import CloudSession
from gizserial.module import ModuleRole, Phase
from gizserial.module_options import ModuleOptions
from gizserial.p0 import P0Codec
from gizserial.product import Product
from sim.lan import LanAddress, LanSide
from sim.lan_facts import lan_facts
from sim.lifetime import first_to_end
from sim.module_firmware import FirmwareSide
from sim.network import Network, Surroundings
from sim.show import Show
from sim.state import StateFile

if TYPE_CHECKING:
    from sim.cloud_faults import CloudFaults
    from sim.cloud_link import CloudLink

_NO_SECRET: Final = "0" * 32
"""What an MCU without a product secret sends in its place."""


@dataclasses.dataclass(frozen=True, slots=True)
class LocalRequest:
    """A P0 of ours, typed at the prompt."""

    what: str


class ModuleSimulator:
    """Plays the module until stopped.

    :param product: Decodes data points; without it they pass through all the same.
    :param server: HTTP API of the cloud; None: no cloud.
    :param state_dir: Where the identity is kept; None: a new device each time.
    :param lan: Where apps of the LAN reach it; None: not at all, as a cellular module.
    :param clock: The time; the real one unless it is given.
    :param cloud_faults: What is wrong with its connections to the cloud.
    """

    def __init__(
        self,
        transport: Transport,
        show: Show,
        *,
        mac: str,
        options: ModuleOptions | None = None,
        product: Product | None = None,
        server: Server | None = None,
        state_dir: Path | None = None,
        network: Network | None = None,
        lan: LanAddress | None = None,
        lan_options: LanOptions | None = None,
        clock: Clock | None = None,
        cloud_faults: CloudFaults | None = None,
    ) -> None:
        self.show = show
        self.product = product
        self.p0: Final = P0Codec(product)
        self._clock = clock or MonotonicClock()
        self._cloud_faults = cloud_faults
        self.role: Final = ModuleRole(options, mac=mac)
        self.driver: Final = Driver(
            self.role, transport, on_event=self._event, on_line=self._line, clock=self._clock
        )
        show.now = self.driver.now
        self.around: Final = Surroundings(
            network or Network(),
            self.role,
            lan=lan is not None,
            now=self.driver.now,
            done=self.driver.wake,
            router_changed=self._router_changed,
        )
        self._firmware = FirmwareSide(self.role, say=self._say)
        self._state = StateFile(state_dir, mac, told=self._say) if state_dir is not None else None
        self.session: CloudSession | None = None
        self._told_did = ""
        self._link: CloudLink | None = None
        self._cloud_apps = 0
        self._server = server
        self._identity = (self._state.load() if self._state is not None else None) or Identity(mac=mac)
        if server is not None:
            self._use_cloud(server, self._identity)
        elif lan is not None:
            self._identity = self._identity.booted(os.urandom)
            self._store(self._identity)
        self.lan: Final = (
            LanSide(
                self._lan_facts, self._clock, address=lan, options=lan_options, on_effect=self._lan_effect
            )
            if lan is not None
            else None
        )

    def _use_cloud(self, server: Server, identity: Identity) -> None:
        from sim.cloud_link import CloudLink

        self._told_did = identity.did
        options = self.role.options
        self.session = CloudSession(
            identity,
            server,
            entropy=os.urandom,
            module=Versions(options.hard_ver, options.soft_ver),
            download=options.ota_fetch,
            generation=options.generation,
            asking="g3" if options.generation == "g3" else options.ota_asks_by,
        )
        self._link = CloudLink(
            self.session,
            self._clock,
            store=self._store,
            on_effect=self._effect,
            faults=self._cloud_faults,
        )

    async def run(self, opened: asyncio.Event | None = None) -> None:
        """Open the port, tell that it is open, play until cancelled.

        :param opened: Set when the port is open.
        :raises TransportError: the port cannot be opened.
        """
        if self.lan is not None:
            await self.lan.open()
        try:
            async with self.driver:
                self.show.ready(**self._addresses())
                if opened is not None:
                    opened.set()
                if self._link is not None:
                    await first_to_end(self.driver.wait(), self._link.run())
                else:
                    await self.driver.wait()
        finally:
            if self.lan is not None:
                await self.lan.close()

    def _addresses(self) -> dict[str, str]:
        transport = self.driver.transport
        addresses = {"port": transport.other_end or transport.name}
        if self.lan is not None:
            at = self.lan.address
            addresses |= {"lan": f"{at.host}:{at.tcp}", "lan_udp": f"{at.host}:{at.udp}"}
        return addresses

    def stop(self) -> None:
        """Nothing more is to happen."""
        self.around.cancel()
        self.driver.stop()

    @property
    def has_cloud(self) -> bool:
        """It bridges to a cloud."""
        return self.session is not None

    # --- what a person asks for

    def send_p0(self, p0: bytes, what: str) -> None:
        """Send a P0 of our own.

        :raises QueueFullError: the MCU does not answer, or too many wait.
        """
        self.role.send_p0(p0, now=self.driver.now(), token=LocalRequest(what))
        self.driver.wake()

    # --- the serial line

    def _line(self, event: LineEvent) -> None:
        if isinstance(event, Back):
            self._say("the line is up")
        elif isinstance(event, Lost):
            self._say(f"the line is down: {event.reason}")
            self.around.cancel()
        elif isinstance(event, Overflow):
            self._say(f"the MCU does not read: {event.dropped} bytes were dropped")
        elif isinstance(event, Notice):
            self._say(event.text)

    def _event(self, event: Event) -> None:
        now = self.driver.now()
        if self.show.line_event(event, now):
            return
        if isinstance(event, ReportReceived):
            self._reported(event, now)
        elif isinstance(event, P0Acked | P0Failed):
            self._answered(event, now)
        elif isinstance(event, HandshakeDone):
            self._met(event, now)
        elif isinstance(event, ResetRequested):
            self._reset(now)
        elif isinstance(event, Rebooting):
            self._rebooting(event, now)
        elif isinstance(event, Booted):
            if self.session is not None:
                self.session.start(now)
        elif isinstance(event, ProvisioningStarted):
            self._say(f"provisioning ({event.mode}): waiting for router data")
            self.around.provisioning()
        elif isinstance(event, ProductionTestStarted):
            self._say("production test started: router and cloud are left until the module restarts")
            self.around.lose_router()
        elif isinstance(event, AccessPointGiven):
            self._say(f"router data given: {event.ssid}")
            if self.session is not None:
                self.session.onboarded(event.ssid, event.password)
            if self.lan is not None:
                self.lan.announcer.configured()
            self.around.join()
        elif not self._firmware.event(event, self.session, now):
            self._told(event)
        if self.lan is not None:
            self.lan.pump()
        self._wake_link()

    def _reported(self, event: ReportReceived, now: float) -> None:
        if self.session is not None and self.session.downloading and self.role.options.ota_drops_reports:
            self._say("a report was dropped: firmware is downloaded")
        elif self.session is not None:
            self.session.publish_report(event.p0, now)
        if self.lan is not None:
            self.lan.server.report(event.p0)

    def _reset(self, now: float) -> None:
        self._say("reset by the MCU: router, did and bindings are forgotten")
        if self.session is not None:
            self.session.reset(now)
        else:
            self._identity = self._identity.reset(os.urandom)
            self._store(self._identity)
        self.around.forget()

    def _rebooting(self, event: Rebooting, now: float) -> None:
        self._say(f"the module reboots: {event.reason}")
        self._firmware.restarted()
        self.around.cancel()
        self.role.set_router(False, now=now)
        self._cloud_apps = 0
        self.role.set_apps(0, now=now)
        if self.lan is not None:
            self.lan.restart()
        if self.session is not None:
            self.session.stop(now, "the module reboots")

    def _told(self, event: Event) -> None:
        if isinstance(event, HandshakeFailed):
            self._say(f"the MCU did not say who it is ({event.attempt} of {event.of}): {event.reason}")
        elif isinstance(event, ProvisioningEnded):
            self._say("provisioning ended: nobody gave router data")
        elif isinstance(event, BindWindowOpened):
            self._say(
                f"bind window open for {event.seconds} s" if event.seconds else "binding is always open"
            )
        elif isinstance(event, RestartRequested):
            self._say("restart asked for by the MCU")
        elif isinstance(event, ModuleAsked):
            if self._firmware.asked(event, self.session, self.driver.now()):
                return
            self._say(f"the MCU asked: {event.name}")
        elif isinstance(event, RequestFailed):
            self._say(f"no ack from the MCU: {event.reason}")

    def _met(self, event: HandshakeDone, now: float) -> None:
        info = event.info
        self._say(
            f"the MCU is product {info.product_key[:8]}…, hardware {info.hard_ver}, software {info.soft_ver}"
        )
        if self.product is not None and self.product.product_key != info.product_key:
            self._say("its product key is not that of the definition given with -p: values may be wrong")
        if self.session is not None:
            secret = info.product_secret if info.product_secret not in {None, "", _NO_SECRET} else None
            self.session.product(
                info.product_key, now, product_secret=secret, mcu=Versions(info.hard_ver, info.soft_ver)
            )
        self.around.booted()

    def _answered(self, event: P0Acked | P0Failed, now: float) -> None:
        token = event.token
        if isinstance(token, P0Received) and self.session is not None:
            if isinstance(event, P0Acked):
                self.session.answer(token, event.p0, now)
            else:
                self.session.no_answer(token, now)
        elif isinstance(token, AskMcu) and self.lan is not None:
            if isinstance(event, P0Acked):
                self.lan.server.answer(token, event.p0)
            else:
                self.lan.server.no_answer(token)
        elif isinstance(token, LocalRequest) and isinstance(event, P0Failed):
            self._say(f"{token.what}: {event.reason}")

    # --- the cloud

    def _router_changed(self, up: bool) -> None:
        if self.lan is not None:
            self.lan.router(up=up)
            if up:
                self._count_apps()  # the counters were cleared with the router, the sockets stayed open
        if self.session is not None:
            now = self.driver.now()
            if up:
                self.session.router_up(now)
            else:
                self.session.router_down(now)
            if self._link is not None:
                self._link.wake()  # it does the rest: a timer has nobody to tell an error to

    def _store(self, identity: Identity) -> None:
        if self._state is not None:
            self._state.store(identity)

    def _effect(self, effect: Effect) -> None:
        now = self.driver.now()
        if isinstance(effect, P0Received):
            self._relay(effect, now)
        elif isinstance(effect, CloudConnected):
            self._say("cloud connected")
            self.role.set_cloud(True, now=now)
        elif isinstance(effect, CloudLost):
            self._say(f"cloud lost: {effect.reason}")
            self.role.set_cloud(False, now=now)
        elif isinstance(effect, ClockSet):
            self.role.set_time(effect.server_ts, now=now)
        elif isinstance(effect, AppCount):
            self._cloud_apps = effect.count
            self._count_apps()
        elif isinstance(effect, IdentityChanged):
            if effect.identity.did and effect.identity.did != self._told_did:
                self._say(f"registered: did {effect.identity.did}", did=effect.identity.did)
            self._told_did = effect.identity.did
        elif isinstance(effect, Rejected):
            if self.session is not None:
                self._firmware.effect(effect, self.session, now)
            if effect.code is not None and effect.code not in {9500, 9502}:
                self._say(f"the cloud refused {effect.purpose.value}: {effect.code} {effect.message}")
        elif isinstance(effect, LoginRefused):
            self._say(f"the cloud refused the login (CONNACK {effect.code})")
        elif isinstance(effect, Trace):
            self._say(effect.text)
        elif self.session is not None:
            self._firmware.effect(effect, self.session, now)
        self.driver.wake()

    def _relay(self, request: P0Received, now: float) -> None:
        try:
            self.role.send_p0(request.payload, now=now, token=request)
        except (QueueFullError, EncodeError) as error:
            self._say(f"a control of {request.client} was dropped: {error}")
            if self.session is not None:
                self.session.no_answer(request, now)

    # --- the LAN

    def _lan_facts(self) -> LanFacts:
        identity = self.session.identity if self.session is not None else self._identity
        return lan_facts(self.role, identity, self._server, self.around.network)

    def _lan_effect(self, effect: LanEffect) -> None:
        now = self.driver.now()
        if isinstance(effect, AskMcu):
            try:
                self.role.send_p0(effect.p0, now=now, token=effect)
            except (QueueFullError, EncodeError) as error:
                self._say(f"a control of LAN client {effect.client} was dropped: {error}")
                if self.lan is not None:
                    self.lan.server.no_answer(effect)
        elif isinstance(effect, ClientCount):
            self._count_apps()
        elif isinstance(effect, RouterDataGiven):
            self.role.give_access_point(effect.data.ssid, effect.data.password, now=now)
        elif isinstance(effect, LeaveTest):
            if self.role.status.test:
                self.around.lose_router()
                self.role.reboot("the production test was left", now=now)
        elif isinstance(effect, LanTrace):
            self._say(effect.text)
        self.driver.wake()

    def _count_apps(self) -> None:
        """Status bit 11 counts apps of the LAN and of the cloud together."""
        on_lan = self.lan.server.logged_in if self.lan is not None else 0
        self.role.set_apps(on_lan + self._cloud_apps, now=self.driver.now())

    def _wake_link(self) -> None:
        if self._link is not None:
            self._link.pump()
            self._link.wake()

    def _say(self, text: str, **facts: str) -> None:
        self.show.said(self.driver.now(), text, **facts)

    def know_time(self) -> None:
        """Take the time of this machine for the network's."""
        self.role.set_time(time.time(), now=self.driver.now())

    @property
    def running(self) -> bool:
        """The MCU has answered the handshake."""
        return self.role.phase is Phase.RUN


def module_show(product: Product | None, *, as_json: bool, quiet: bool) -> Show:
    """What a module shows."""
    return Show(Role.MODULE, product, as_json=as_json, quiet=quiet)
