"""The embedded cloud as a whole: its addresses, what it tells devices, and its end."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import httpx
import pytest
from support_cloud_mqtt import PASSCODE, PK, RawClient, online_device, register

from sim.cloud.app import EmbeddedCloud
from sim.cloud.config import CloudConfig
from sim.cloud.errors import AddressError
from sim.cloud.events import Event, Online

FREE = "127.0.0.1:0"


async def provisioned(cloud: EmbeddedCloud, host: str = "127.0.0.1") -> tuple[str, str]:
    """Host and port that a device is told when it asks through this address."""
    port = cloud.addresses["http"].rpartition(":")[2]
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        form = {"passcode": PASSCODE, "mac": "00163E002CAC", "product_key": PK}
        answer = await client.post(f"http://{host}:{port}/dev/devices", data=form)
        did = answer.text.strip().removeprefix("did=")
        answer = await client.get(f"http://{host}:{port}/dev/devices/{did}?did={did}")
    pairs = dict(pair.split("=", 1) for pair in answer.text.strip().split("&"))
    return pairs["host"], pairs["port"]


def test_the_default_is_this_machine_only() -> None:
    config = CloudConfig()
    assert (config.http, config.mqtt) == ("127.0.0.1:8080", ("127.0.0.1:1883",))


async def test_a_device_is_told_the_address_under_which_it_came() -> None:
    async with EmbeddedCloud(CloudConfig(http="0.0.0.0:0", mqtt=("0.0.0.0:0",))) as cloud:
        port = cloud.addresses["mqtt"].rpartition(":")[2]
        assert await provisioned(cloud) == ("127.0.0.1", port)


@pytest.mark.parametrize(("told", "port"), [("m2m.example.com", None), ("10.0.0.7:18830", "18830")])
async def test_or_what_the_user_says(told: str, port: str | None) -> None:
    async with EmbeddedCloud(CloudConfig(http=FREE, mqtt=(FREE,), advertise=told)) as cloud:
        own = cloud.addresses["mqtt"].rpartition(":")[2]
        assert await provisioned(cloud) == (told.partition(":")[0], port or own)


async def test_several_mqtt_addresses_serve_one_broker() -> None:
    async with EmbeddedCloud(CloudConfig(http=FREE, mqtt=(FREE, FREE))) as cloud:
        assert set(cloud.addresses) == {"http", "mqtt", "mqtt2"}
        host, _, port = cloud.addresses["mqtt2"].rpartition(":")
        assert int(port) != int(cloud.addresses["mqtt"].rpartition(":")[2])
        with socket.create_connection((host, int(port)), timeout=5):
            pass


async def test_taken_ports_are_an_error_or_are_replaced() -> None:
    with socket.socket() as http, socket.socket() as mqtt:
        for sock in (http, mqtt):
            sock.bind(("127.0.0.1", 0))
            sock.listen()
        taken = [f"127.0.0.1:{sock.getsockname()[1]}" for sock in (http, mqtt)]
        for config in (
            CloudConfig(http=taken[0], mqtt=(FREE,)),
            CloudConfig(http=FREE, mqtt=(taken[1],)),
        ):
            with pytest.raises(AddressError, match="in use"):
                async with EmbeddedCloud(config):
                    pytest.fail("it must not start")
        async with EmbeddedCloud(CloudConfig(http=taken[0], mqtt=(taken[1],), auto_ports=True)) as cloud:
            assert cloud.addresses["http"] != taken[0]
            assert cloud.addresses["mqtt"] != taken[1]


async def test_data_is_there_again_and_the_end_is_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = CloudConfig(http=FREE, mqtt=(FREE,), data=tmp_path)
    events: list[Event] = []
    async with EmbeddedCloud(config) as cloud:
        end = cloud.subscribe(events.append)
        device = register(cloud)
        await online_device(cloud, device)
        end()
        await cloud.close()
        await cloud.close()
    for client in list(RawClient.left_open):
        await client.close()
    async with EmbeddedCloud(config) as cloud:
        assert (known := cloud.store.device(device.did)) is not None
        assert known.last_online is not None
    assert [type(event) for event in events] == [Online]
    assert [record.getMessage() for record in caplog.records if record.name.startswith("amqtt")] == []
