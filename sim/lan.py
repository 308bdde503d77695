"""The LAN side of a simulated module: UDP discovery and on-boarding, TCP sessions, web form (lan.md §7)."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import re
import socket
from collections.abc import Callable
from typing import Final, Protocol, cast

from gizserial.errors import EncodeError, TransportError
from gizserial.lan.commands import ANNOUNCE_PORT, TCP_PORT, UDP_PORT, WEB_PORT
from gizserial.lan.server import (
    Announcer,
    Broadcast,
    CloseClient,
    Facts,
    LanEffect,
    LanOptions,
    LanServer,
    LanTrace,
    RouterDataGiven,
    SendTo,
)
from sim.lan_web import WebPort

WRITE_LIMIT: Final = 256 * 1024
"""Bytes that may wait for a client that does not read, before it is closed."""
CLOSE_TIME: Final = 2.0
"""Seconds that a client has to read what was sent before its connection was closed."""

_ADDRESS: Final = re.compile(r"([0-9.]+|localhost)(?::(\d{1,5})(?::(\d{1,5})(?::(\d{1,5}))?)?)?")
_LOOPBACK_BROADCAST: Final = "127.255.255.255"
_BROADCAST: Final = "255.255.255.255"


@dataclasses.dataclass(frozen=True, slots=True)
class LanAddress:
    """Where a module is on the LAN. Port 0: any free one."""

    host: str = "127.0.0.1"
    tcp: int = TCP_PORT
    udp: int = UDP_PORT
    web: int = WEB_PORT
    announce_port: int = ANNOUNCE_PORT

    @classmethod
    def parse(cls, text: str) -> LanAddress:
        """``HOST[:TCP[:UDP[:WEB]]]``; any free TCP port means any free WEB port.

        :raises EncodeError: something else.
        """
        found = _ADDRESS.fullmatch(text)
        try:
            host = str(ipaddress.IPv4Address(found[1].replace("localhost", "127.0.0.1"))) if found else ""
        except ValueError:
            found = None
        if found is None:
            raise EncodeError(
                f"{text[:60]!r} is no LAN address; give HOST[:TCP[:UDP[:WEB]]], for example 127.0.0.2"
            )
        tcp = TCP_PORT if found[2] is None else int(found[2])
        udp = UDP_PORT if found[3] is None else int(found[3])
        web = (WEB_PORT if tcp else 0) if found[4] is None else int(found[4])
        if max(tcp, udp, web) > 0xFFFF:
            raise EncodeError(f"{text!r}: a port is a number from 0 to 65535")
        return cls(host, tcp, udp, web)

    @property
    def broadcast(self) -> str:
        """Where announcements go: a module on loopback stays there."""
        return _LOOPBACK_BROADCAST if self.host.startswith("127.") else _BROADCAST


class Clock(Protocol):
    """Monotonic seconds."""

    def now(self) -> float:
        """The time."""


class LanSide:
    """Sockets around the machines of :mod:`gizserial.lan.server`.

    :param on_effect: Told what is not the sockets' own business.
    """

    def __init__(
        self,
        facts: Facts,
        clock: Clock,
        *,
        address: LanAddress,
        options: LanOptions | None = None,
        on_effect: Callable[[LanEffect], None],
    ) -> None:
        self.address = address
        self.server: Final = LanServer(facts, options)
        self.announcer: Final = Announcer(facts, options)
        self._facts, self._clock, self._on_effect = facts, clock, on_effect
        self.web: Final = WebPort(
            address.host,
            address.web,
            on_router_data=lambda data: self._on_effect(RouterDataGiven(data)),
            say=self._trace,
        )
        self._sessions: dict[int, _Session] = {}
        self._listener: asyncio.Server | None = None
        self._udp: list[asyncio.DatagramTransport] = []
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False

    async def open(self) -> None:
        """Listen; :attr:`address` then has the real ports.

        :raises TransportError: an address that is not ours or in use.
        """
        loop = asyncio.get_running_loop()
        host = self.address.host
        try:
            self._listener = await loop.create_server(
                lambda: _Session(self), host, self.address.tcp, backlog=8
            )
            tcp = self._listener.sockets[0].getsockname()[1]
            udp = await self._open_udp(host, self.address.udp)
        except OSError as error:
            await self.close()
            raise TransportError(
                f"the LAN side cannot listen at {host}, TCP {self.address.tcp} and UDP {self.address.udp}: "
                f"{error.strerror or error}; several modules need several addresses, as --lan 127.0.0.2"
            ) from error
        self.address = dataclasses.replace(self.address, tcp=tcp, udp=udp)
        if host != "0.0.0.0":
            try:  # a socket of one address does not hear broadcasts
                await self._open_udp(self.address.broadcast, udp, shared=True)
            except OSError:
                self._trace("broadcasts are not heard on this system: discover this module by its address")

    async def _open_udp(self, host: str, port: int, *, shared: bool = False) -> int:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if shared:  # each of them gets a copy of a broadcast
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Datagrams(self), sock=sock
            )
        except OSError:
            sock.close()
            raise
        self._udp.append(transport)
        chosen: int = transport.get_extra_info("sockname")[1]
        return chosen

    async def close(self) -> None:
        """Stop listening and close every connection."""
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for session in list(self._sessions.values()):
            session.end()
        for transport in self._udp:
            transport.close()
        self._udp.clear()
        await self.web.close()
        await asyncio.sleep(0)  # transports tell their sockets in the next round of the loop

    # --- what happens

    def router(self, *, up: bool) -> None:
        """The router is joined or gone."""
        if up:
            self.announcer.router_up(self._clock.now())
        else:
            self.announcer.router_down()
        self.pump()

    def restart(self) -> None:
        """The module restarts."""
        self.server.close_all("the module restarts")
        self.announcer.restart()
        self.pump()

    def datagram(self, data: bytes, sender: tuple[str, int]) -> None:
        """A datagram came."""
        answer = self.announcer.datagram(data)
        if answer is not None and self._udp:
            self._udp[0].sendto(answer, sender)
        self.pump()

    def connected(self, session: _Session) -> int | None:
        """A client connected."""
        number = self.server.connected(self._clock.now())
        if number is not None:
            self._sessions[number] = session
        self.pump()
        return number

    def received(self, number: int, data: bytes) -> None:
        """Bytes of a client."""
        self.server.received(number, data, self._clock.now())
        self.pump()

    def lost(self, number: int) -> None:
        """A client is gone."""
        self._sessions.pop(number, None)
        self.server.lost(number)
        self.pump()

    def pump(self) -> None:
        """Do what the machines ask for, and watch for what is due next."""
        if self._busy:
            return  # called by what an effect set off: the outer call goes on
        now = self._clock.now()
        self._busy = True
        try:
            self.server.handle_timeout(now)
            self.announcer.handle_timeout(now)
            while effects := [*self.server.effects(), *self.announcer.effects()]:
                for effect in effects:
                    self._do(effect)
        finally:
            self._busy = False
        facts = self._facts()
        self.web.want(facts.soft_ap and facts.onboarding and self._listener is not None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        times = [
            time for time in (self.server.next_timeout(), self.announcer.next_timeout()) if time is not None
        ]
        if times and self._listener is not None:
            delay = max(0.0, min(times) - self._clock.now())
            self._timer = asyncio.get_running_loop().call_later(delay, self.pump)

    def _do(self, effect: LanEffect) -> None:
        if isinstance(effect, SendTo):
            session = self._sessions.get(effect.client)
            if session is not None and not session.send(effect.data):
                self._sessions.pop(effect.client, None)
                self.server.lost(effect.client)
        elif isinstance(effect, CloseClient):
            session = self._sessions.pop(effect.client, None)
            if session is not None:
                session.end()
            self._trace(f"LAN client {effect.client} closed: {effect.reason}")
        elif isinstance(effect, Broadcast):
            if self._udp:
                self._udp[0].sendto(effect.data, (self.address.broadcast, self.address.announce_port))
        else:
            self._on_effect(effect)

    def _trace(self, text: str) -> None:
        self._on_effect(LanTrace(text))


class _Session(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, side: LanSide) -> None:
        self._side = side
        self._number: int | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._number = self._side.connected(self)
        if self._number is None:
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self._number is not None:
            self._side.received(self._number, data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._number is not None:
            self._side.lost(self._number)

    def send(self, data: bytes) -> bool:
        """Send; False, and closed, when the client does not read."""
        if self._transport is None:
            return False
        if self._transport.get_write_buffer_size() > WRITE_LIMIT:
            self._transport.abort()
            self._number = None
            return False
        self._transport.write(data)
        return True

    def end(self) -> None:
        """Close when everything was sent, or soon."""
        self._number = None
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(CLOSE_TIME, self._transport.abort)
        self._transport.close()


class _Datagrams(asyncio.DatagramProtocol):
    """The UDP port."""

    def __init__(self, side: LanSide) -> None:
        self._side = side

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._side.datagram(data, addr)
