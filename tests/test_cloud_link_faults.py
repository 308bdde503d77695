"""Faults between a module and its cloud: cut, slow and refused connections, HTTP and MQTT."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gizserial.m2m.effects import CloudConnected, CloudLost, Effect
from gizserial.m2m.identity import Identity
from gizserial.m2m.requests import Versions
from gizserial.m2m.session import CloudSession
from sim.clock import LoopClock, run_virtual
from sim.cloud.app import EmbeddedCloud
from sim.cloud.config import CloudConfig
from sim.cloud_faults import CloudFault, CloudFaults
from sim.cloud_link import CloudLink
from sim.faults import FaultError
from sim.local_cloud import server_of

KEY = "41fbbdbe2bfc9376d75f99b3b0ff92bf"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cutt", "there is no cloud fault 'cutt'"),
        ("cut", "a cut happens at one time; write cut@30s"),
        ("cut@1s..2s", "a cut happens at one time"),
        ("refuse:1", "write refuse"),
        ("slow", "write slow:200ms"),
        ("slow:x", "'x' is no time"),
        ("refuse@ftp", "after @ stands http, mqtt or a time"),
        ("refuse@http@mqtt", "each once"),
    ],
)
def test_what_is_written_wrongly_is_one_clear_sentence(text: str, says: str) -> None:
    with pytest.raises(FaultError, match=says):
        CloudFault.parse(text)


def test_slow_and_refused_at_their_times() -> None:
    async def main() -> None:
        faults = CloudFaults(["slow:2s@mqtt", "refuse@http@5s..7s"], seed=1)
        cuts: list[str] = []
        faults.start(cuts.append)
        loop = asyncio.get_running_loop()
        before = loop.time()
        await faults.reach("mqtt")
        assert loop.time() - before == pytest.approx(2)
        await faults.reach("http")
        await asyncio.sleep(3.5)
        with pytest.raises(ConnectionRefusedError):
            await faults.reach("http")
        faults.add("cut@6s@mqtt")
        await asyncio.sleep(3)
        assert cuts == ["mqtt"]
        await faults.reach("http")
        faults.clear()
        assert faults.delay("mqtt") == 0
        faults.stop()

    run_virtual(main())


class Device:
    """A module's side of the cloud, with what it was told."""

    def __init__(self, cloud: EmbeddedCloud, faults: CloudFaults) -> None:
        self.seen: list[Effect] = []
        self._changed = asyncio.Event()
        entropy = bytes(range(64)).__getitem__
        self.session = CloudSession(
            Identity(mac="0123456789AB"),
            server_of(cloud),
            entropy=lambda size: entropy(slice(size)),
            module=Versions("00ESP826", "04020035"),
        )
        clock = LoopClock()
        self.link = CloudLink(
            self.session, clock, store=lambda _identity: None, on_effect=self._told, faults=faults
        )
        now = clock.now()
        self.session.start(now)
        self.session.product(KEY, now, product_secret=None, mcu=Versions("00000001", "00000001"))
        self.session.router_up(now)

    def _told(self, effect: Effect) -> None:
        self.seen.append(effect)
        self._changed.set()

    async def until(self, kind: type[Effect], times: int) -> None:
        async with asyncio.timeout(20):
            while sum(isinstance(effect, kind) for effect in self.seen) < times:
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
async def cloud() -> AsyncIterator[EmbeddedCloud]:
    async with EmbeddedCloud(CloudConfig(auto_ports=True)) as running:
        yield running


async def test_a_cut_is_a_lost_session_and_the_module_comes_back(cloud: EmbeddedCloud) -> None:
    faults = CloudFaults(["slow:1ms..5ms"])
    device = Device(cloud, faults)
    task = asyncio.create_task(device.link.run())
    try:
        await device.until(CloudConnected, 1)
        faults.cut()
        await device.until(CloudLost, 1)
        assert "cut" in next(effect.reason for effect in device.seen if isinstance(effect, CloudLost))
        await device.until(CloudConnected, 2)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_refused_connection_is_never_made(cloud: EmbeddedCloud) -> None:
    faults = CloudFaults(["refuse@mqtt"])
    device = Device(cloud, faults)
    task = asyncio.create_task(device.link.run())
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await device.until(CloudConnected, 1)
        assert device.session.identity.did  # registration over HTTP is not refused
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
