"""What must not reach devices: a store that fails, a reader of our output that has gone, a greedy app."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest
from support_cloud_mqtt import (
    NO_PAUSE,
    PASSCODE,
    PK,
    RawClient,
    app_connect,
    online_device,
    register,
    running_cloud,
    until,
)

from gizserial.m2m import frames, http, topics
from gizserial.m2m.frames import BusinessFrame
from gizserial.m2m.mqtt31 import Publish
from sim.cloud.errors import StoreError
from sim.cloud.events import Event, Notice, Offline, Report
from sim.cloud.mqtt_client import MAX_FILTERS


async def test_a_full_disk_is_told_once_and_ends_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_values: object, **_named: object) -> None:
        raise StoreError("cloud.sqlite3 cannot be written: the disk is full")

    events: list[Event] = []
    async with running_cloud(pace=NO_PAUSE) as cloud:
        device = register(cloud)
        client = await online_device(cloud, device)
        cloud.subscribe(events.append)
        for name in ("save_report", "save_raw", "touch"):
            monkeypatch.setattr(cloud.store, name, full)
        report = BusinessFrame(frames.REPORT, b"\x04\x01").encode()
        for _ in range(3):
            client.send(Publish(topics.dev2app(device.did), report))
        await client.ping()
        assert len([event for event in events if isinstance(event, Report)]) == 3
        assert len([event for event in events if isinstance(event, Notice)]) == 1
        assert cloud.hub.is_online(device.did)
        await client.close()
        await until(lambda: not cloud.hub.is_online(device.did))
        assert isinstance(events[-1], Offline)
        await (await online_device(cloud, device)).close()


async def test_one_client_has_so_many_subscriptions_and_no_more() -> None:
    async with running_cloud(pace=NO_PAUSE) as cloud:
        device = register(cloud)
        app = await RawClient.open(cloud)
        assert await app.login(app_connect(device, "usrApp")) == 0
        filters = [f"dev2app/{device.did}/x{number}" for number in range(MAX_FILTERS + 3)]
        assert await app.subscribe(*filters) == bytes(MAX_FILTERS) + b"\x80" * 3
        assert await app.subscribe(filters[0]) == b"\x00"  # one that it has already
        await app.close()


def test_devices_register_when_nobody_reads_the_output_any_more() -> None:
    command = [sys.executable, "-c", "from sim.cli import main; main()", "cloud"]
    arguments = ["--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as cloud:
        try:
            assert cloud.stdout is not None
            assert cloud.stderr is not None
            addresses = json.loads(cloud.stdout.readline().removeprefix("ready "))
            cloud.stdout.close()
            host, _, port = addresses["http"].rpartition(":")
            server = http.Server(host, int(port))
            request = http.register(server, mac="00163E002CAC", passcode=PASSCODE, product_key=PK)
            dids = {http.parse_did(_ask(request)) for _ in range(3)}
            assert len(dids) == 1
            assert None not in dids
        finally:
            cloud.terminate()
        cloud.wait(10)
        told = cloud.stderr.read().splitlines()
        assert all(line.startswith("gizsim cloud: ") for line in told), told


def _ask(request: http.HttpRequest) -> bytes:
    with socket.create_connection((request.server.host, request.server.port), timeout=5) as sock:
        sock.sendall(request.raw)
        return sock.recv(1024)
