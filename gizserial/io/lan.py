"""Sockets of the LAN client: discovery, a session, and on-boarding (lan.md §3, §5, §8)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Final

from gizserial.errors import TransportError
from gizserial.io.driver import Clock, MonotonicClock
from gizserial.lan import messages
from gizserial.lan.client import ClientEffect, Close, Connect, LanClient, Send
from gizserial.lan.commands import ANNOUNCE_PORT, TCP_PORT, UDP_PORT, LanCommand
from gizserial.lan.framing import decode_datagram, encode_frame

REPEAT: Final = (0.0, 0.3, 0.6)
"""Seconds at which a discovery is sent, because UDP loses datagrams; then every 2 s."""
REPEAT_LATER: Final = 2.0
READ_SIZE: Final = 4096
MOST_FOUND: Final = 4096
"""So many devices are told by one discovery."""
_INTERFACES_MOST: Final = 64
_SIOCGIFADDR, _SIOCGIFBRDADDR = 0x8915, 0x8919


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A module that answered or announced itself."""

    address: str
    how: str
    """``reply`` (0004), ``started`` (0005) or ``onboarded`` (0019)."""
    announcement: messages.Announcement


def broadcast_targets() -> list[tuple[str, str]]:
    """Own address and broadcast address of every IPv4 interface; only the general one where unknown."""
    try:
        import fcntl
    except ImportError:  # Windows
        return [("0.0.0.0", "255.255.255.255")]
    found: list[tuple[str, str]] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:

        def ask(name: str, what: int) -> str:
            request = struct.pack("256s", name.encode()[:15])
            return socket.inet_ntoa(fcntl.ioctl(sock.fileno(), what, request)[20:24])

        for _, name in socket.if_nameindex()[:_INTERFACES_MOST]:
            with contextlib.suppress(OSError):  # an interface without an IPv4 address
                own = ask(name, _SIOCGIFADDR)
                if own.startswith("127."):
                    found.append((own, "127.255.255.255"))
                else:
                    found += [(own, ask(name, _SIOCGIFBRDADDR)), (own, "255.255.255.255")]
    return found or [("0.0.0.0", "255.255.255.255")]


class _Listener(asyncio.DatagramProtocol):
    def __init__(self, told: Callable[[bytes, str], None]) -> None:
        self._told = told

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._told(data, addr[0])

    def error_received(self, exc: Exception) -> None:
        """Nobody listens at a target: the others may."""


def _read(data: bytes, address: str) -> Found | None:
    frame = decode_datagram(data)
    if frame is None:
        return None
    if frame.command in {LanCommand.DISCOVER_REPLY, LanCommand.STARTED}:
        announcement = messages.read_announcement(frame.payload)
        how = "reply" if frame.command == LanCommand.DISCOVER_REPLY else "started"
        return None if announcement is None else Found(address, how, announcement)
    if frame.command == LanCommand.ONBOARDED:
        done = messages.read_onboarded(frame.payload)
        if done is not None:
            known = messages.Announcement(mac=done.mac, product_key=done.product_key, did=done.did)
            return Found(address, "onboarded", known)
    return None


async def _socket(
    stack: contextlib.ExitStack, host: str, port: int, told: Callable[[bytes, str], None]
) -> asyncio.DatagramTransport:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if port:  # several apps of one machine hear announcements
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Listener(told), sock=sock
        )
    except OSError:
        sock.close()
        raise
    stack.callback(transport.close)
    return transport


async def discover(
    targets: Sequence[str] = (),
    *,
    seconds: float = 3.0,
    port: int = UDP_PORT,
    announce_port: int | None = ANNOUNCE_PORT,
    broadcast: bool = True,
) -> AsyncIterator[Found]:
    """Who is there: each module once, as soon as it answers or announces itself.

    :param targets: Addresses or names that are asked directly.
    :param seconds: How long.
    :param announce_port: Where announcements are listened to; None, or in use by another: not at all.
    :param broadcast: Ask every interface too.
    :raises TransportError: a target that is no address.
    """
    loop = asyncio.get_running_loop()
    came: asyncio.Queue[Found] = asyncio.Queue(MOST_FOUND)

    def told(data: bytes, address: str) -> None:
        found = _read(data, address)
        if found is not None:
            with contextlib.suppress(asyncio.QueueFull):
                came.put_nowait(found)

    with contextlib.ExitStack() as stack:
        asked: list[tuple[asyncio.DatagramTransport, str]] = []
        if targets:
            plain = await _socket(stack, "0.0.0.0", 0, told)
            asked += [(plain, await _resolve(target)) for target in targets]
        if broadcast:
            sockets: dict[str, asyncio.DatagramTransport] = {}
            for own, everybody in broadcast_targets():
                with contextlib.suppress(OSError):
                    sockets[own] = sockets.get(own) or await _socket(stack, own, 0, told)
                    asked.append((sockets[own], everybody))
        if announce_port is not None:
            with contextlib.suppress(OSError):
                await _socket(stack, "0.0.0.0", announce_port, told)
        asking = asyncio.ensure_future(_ask(asked, port))
        seen: set[tuple[str, str]] = set()
        end = loop.time() + seconds
        try:
            while (left := end - loop.time()) > 0 and len(seen) < MOST_FOUND:
                try:
                    found = await asyncio.wait_for(came.get(), left)
                except TimeoutError:
                    break
                key = (found.announcement.mac, found.announcement.did)
                if key not in seen:
                    seen.add(key)
                    yield found
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
    await asyncio.sleep(0)


async def _ask(asked: Iterable[tuple[asyncio.DatagramTransport, str]], port: int) -> None:
    wire = encode_frame(LanCommand.DISCOVER)
    asked = tuple(asked)
    number, at = 0, 0.0
    while True:
        for transport, target in asked:
            transport.sendto(wire, (target, port))
        number += 1
        following = REPEAT[number] if number < len(REPEAT) else at + REPEAT_LATER
        await asyncio.sleep(following - at)
        at = following


async def _resolve(target: str) -> str:
    try:
        rows = await asyncio.get_running_loop().getaddrinfo(
            target, None, family=socket.AF_INET, type=socket.SOCK_DGRAM
        )
    except (OSError, UnicodeError) as error:
        raise TransportError(f"{target[:80]!r} is no address that this machine knows") from error
    return str(rows[0][4][0])


async def onboard(
    data: messages.RouterData,
    targets: Sequence[str],
    *,
    seconds: float = 10.0,
    port: int = UDP_PORT,
) -> str | None:
    """Give router data to a module in SoftAP mode (0001); the address that acknowledged, None: nobody.

    :raises TransportError: a target that is no address.
    :raises ValueOutOfRange: an SSID or password that is too long.
    """
    wire = encode_frame(LanCommand.ONBOARD, data.body())
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def told(answer: bytes, address: str) -> None:
        frame = decode_datagram(answer)
        if frame is not None and frame.command == LanCommand.ONBOARD_ACK and not done.done():
            done.set_result(address)

    with contextlib.ExitStack() as stack:
        transport = await _socket(stack, "0.0.0.0", 0, told)
        addresses = [await _resolve(target) for target in targets]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not done.done():
                    for address in addresses:
                        transport.sendto(wire, (address, port))
                    await asyncio.wait([done], timeout=1.0)
    return done.result() if done.done() and not done.cancelled() else None


class LanSession:
    """Drives a :class:`~gizserial.lan.client.LanClient` over a real connection, until cancelled.

    :param on_effect: Told what is not the connection's business.
    """

    def __init__(
        self,
        client: LanClient,
        host: str,
        port: int = TCP_PORT,
        *,
        on_effect: Callable[[ClientEffect], None],
        clock: Clock | None = None,
    ) -> None:
        self.client: Final = client
        self._host, self._port = host, port
        self._on_effect = on_effect
        self._clock = clock or MonotonicClock()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._ended: list[asyncio.Task[None]] = []

    def now(self) -> float:
        """The time to give to the client's methods."""
        return self._clock.now()

    async def run(self) -> None:
        """Work until cancelled."""
        self.client.start(self.now())
        try:
            while True:
                self._wake.clear()
                self._flush()
                due = self.client.next_timeout()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if due is None else max(0.0, due - self.now())):
                        await self._wake.wait()
                self.client.handle_timeout(self.now())
        finally:
            self._drop()
            await asyncio.gather(*self._ended, return_exceptions=True)

    def pump(self) -> None:
        """Do what the client asks for; call it after its methods."""
        self._flush()
        self._wake.set()

    def _flush(self) -> None:
        while effects := self.client.effects():
            for effect in effects:
                self._do(effect)

    def _do(self, effect: ClientEffect) -> None:
        if isinstance(effect, Connect):
            self._drop()
            self._task = asyncio.create_task(self._connection())
        elif isinstance(effect, Send):
            if self._writer is not None:
                self._writer.write(effect.data)
        elif isinstance(effect, Close):
            self._drop()
        else:
            self._on_effect(effect)

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._task is not None:
            self._task.cancel()
            self._ended = [task for task in self._ended if not task.done()] + [self._task]
            self._task = None

    async def _connection(self) -> None:
        try:
            reader, writer = await asyncio.open_connection(self._host, self._port)
        except (OSError, UnicodeError, OverflowError) as error:
            self._lost(_reason(error))
            return
        self._writer = writer
        try:
            self.client.connected(self.now())
            self.pump()
            while data := await reader.read(READ_SIZE):
                self.client.data(data, self.now())
                self.pump()
        except OSError as error:
            self._lost(_reason(error))
        else:
            self._lost("the module closed the connection")
        finally:
            writer.close()

    def _lost(self, reason: str) -> None:
        self.client.closed(reason, self.now())
        self.pump()


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused; is it a module, and is the port right?"
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror):
        return error.strerror or str(error) or "no answer in time"
    return "this machine knows no such address"
