"""The cloud against a raw socket that reads as the vendor's firmware does (observed.md).

One ``recv`` of 1024 bytes per step, of which the first packet is executed and the rest lost; deaf until
1.2 s after the last SUBACK; not reading while its MCU acks. Nothing here is tuned to our own module.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import aiomqtt
import pytest
from support_cloud_mqtt import (
    PASSCODE,
    FieldModule,
    RawClient,
    device_connect,
    mqtt_port,
    register,
    running_cloud,
    until,
)

from gizserial.m2m import frames, topics
from gizserial.m2m.frames import BusinessFrame
from gizserial.m2m.mqtt31 import ConnAck
from sim.cloud.app import EmbeddedCloud
from sim.cloud.events import Dropped, Offline, Online


@pytest.fixture
async def cloud() -> AsyncIterator[EmbeddedCloud]:
    async with running_cloud() as running:
        yield running


@contextlib.asynccontextmanager
async def alive(cloud: EmbeddedCloud, modules: Sequence[FieldModule]) -> AsyncIterator[None]:
    """Modules that are on line for as long as the block runs."""
    tasks = [asyncio.create_task(module.run(cloud)) for module in modules]
    try:
        for module in modules:
            await asyncio.wait_for(module.subscribed.wait(), 5)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def burst(cloud: EmbeddedCloud, module: FieldModule, number: int, client: str) -> list[int]:
    """Send so many controls at once as an app; the sns that were acknowledged, in the order of their 0094."""
    did = module.device.did
    acked: list[int] = []
    async with aiomqtt.Client(
        "127.0.0.1", mqtt_port(cloud), identifier=client, username=did, password=PASSCODE
    ) as app:
        await app.subscribe(f"dev2app/{did}/{client}")
        for sn in range(1, number + 1):
            frame = BusinessFrame(frames.CONTROL_ACKED, b"\x01" + sn.to_bytes(2, "big"), sn)
            await app.publish(topics.app2dev(did, client), frame.encode())
        async with asyncio.timeout(15):
            async for message in app.messages:
                assert isinstance(message.payload, bytes)
                frame_back = BusinessFrame.decode(message.payload)
                assert isinstance(frame_back, BusinessFrame)
                assert frame_back.command == frames.ACK
                assert frame_back.sn is not None
                acked.append(frame_back.sn)
                if len(acked) == number:
                    break
    return acked


async def test_200_controls_of_200_sent_in_bursts_are_executed(cloud: EmbeddedCloud) -> None:
    dropped: list[Dropped] = []
    cloud.subscribe(lambda event: dropped.append(event) if isinstance(event, Dropped) else None)
    # Half of them ping soon after they subscribed, half never do.
    modules = [FieldModule(register(cloud, number), tick=0.4 if number % 2 else None) for number in range(4)]
    async with alive(cloud, modules):
        acked = await asyncio.gather(
            *(burst(cloud, module, 50, f"usrApp{index}") for index, module in enumerate(modules))
        )
    wanted = [b"\x01" + sn.to_bytes(2, "big") for sn in range(1, 51)]
    for module, sns in zip(modules, acked, strict=True):
        assert module.executed == wanted
        assert module.lost == []
        assert sns == list(range(1, 51))
    assert dropped == []


async def test_two_apps_and_the_cloud_at_once(cloud: EmbeddedCloud) -> None:
    module = FieldModule(register(cloud), tick=0.1)
    async with alive(cloud, [module]):
        results = await asyncio.gather(
            burst(cloud, module, 10, "usrOne"),
            burst(cloud, module, 10, "usrTwo"),
            *(cloud.hub.control(module.device.did, bytes([1, number])) for number in range(10)),
        )
    assert results == [list(range(1, 11)), list(range(1, 11)), *[b""] * 10]
    assert len(module.executed) == 30
    assert module.lost == []


async def test_a_control_sent_before_the_module_hears_is_not_lost(cloud: EmbeddedCloud) -> None:
    module = FieldModule(register(cloud), busy=0.0)
    async with alive(cloud, [module]):
        await until(lambda: cloud.hub.is_online(module.device.did))
        assert await cloud.hub.control(module.device.did, b"\x01\x01\x01") == b""
    assert module.executed == [b"\x01\x01\x01"]
    assert module.lost == []


async def test_the_module_is_told_how_many_apps_there_are(cloud: EmbeddedCloud) -> None:
    module = FieldModule(register(cloud), tick=0.05)

    async with alive(cloud, [module]):
        await until(lambda: module.counts == [0])
        await burst(cloud, module, 1, "usrApp")
        await until(lambda: len(module.counts) == 3)
    assert module.counts == [0, 1, 0]
    assert module.lost == []


async def test_a_read_gets_the_status_that_follows(cloud: EmbeddedCloud) -> None:
    device = register(cloud)
    module = FieldModule(device, busy=0.0, tick=0.05)
    async with alive(cloud, [module]):
        await until(lambda: cloud.hub.is_online(device.did))
        reading = asyncio.create_task(cloud.hub.read(device.did, timeout=3))
        await until(lambda: module.executed == [b"\x02"])
        report = BusinessFrame(frames.REPORT, b"\x03\x01")
        await module.publish(topics.dev2app(device.did), report)
        assert await reading == b"\x03\x01"


async def test_a_wrong_passcode_leaves_the_live_device_alone(cloud: EmbeddedCloud) -> None:
    events: list[object] = []
    cloud.subscribe(events.append)
    module = FieldModule(register(cloud), tick=0.05)
    async with alive(cloud, [module]):
        assert await cloud.hub.control(module.device.did, b"\x01\x01") == b""
        for _ in range(20):
            intruder = await RawClient.open(cloud)
            intruder.send(device_connect(module.device, passcode="WRONGWRONG"))
            assert await intruder.expect(ConnAck) == ConnAck(4)
            assert await intruder.closed()
            await intruder.close()
        assert cloud.hub.is_online(module.device.did)
        assert await cloud.hub.control(module.device.did, b"\x01\x02") == b""
        assert await burst(cloud, module, 3, "usrApp") == [1, 2, 3]
        assert not any(isinstance(event, Offline) for event in events)
    assert sum(isinstance(event, Online) for event in events) == 1
    assert module.lost == []
