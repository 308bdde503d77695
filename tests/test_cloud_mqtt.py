"""The cloud's MQTT side over raw sockets: who comes in, who may say what, and how a connection ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator

import pytest
from support_cloud_mqtt import (
    NO_PAUSE,
    PASSCODE,
    PK,
    RawClient,
    app_connect,
    app_for,
    device_connect,
    mqtt_port,
    online_device,
    register,
    running_cloud,
    until,
)

from gizserial.m2m import frames, topics
from gizserial.m2m.frames import BusinessFrame
from gizserial.m2m.mqtt31 import (
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    Will,
)
from sim.cloud.app import EmbeddedCloud
from sim.cloud.auth import CLIENT, Gate
from sim.cloud.broker import make_broker
from sim.cloud.device import Device
from sim.cloud.errors import DeviceOffline, NoAnswer, UnknownDevice
from sim.cloud.events import Adopted, Answer, Event, LoginRefused, Offline, Online, Report
from sim.cloud.hub import Hub
from sim.cloud.mqtt_client import WRITE_LIMIT
from sim.cloud.mqtt_front import MqttFront
from sim.cloud.store import Store

CONNECT = (
    "104800064d514973647003c20078001653696d44696430313233343536373839414243444546"
    "001653696d44696430313233343536373839414243444546000a4142434445464748494a"
)
SUBSCRIBE_3 = "822500030020617070326465762f53696d446964303132333435363738394142434445462f2300"
REPORT = BusinessFrame(frames.REPORT, b"\x04\x01\x02\x03").encode()
READ = BusinessFrame(frames.CONTROL, b"\x02").encode()


@pytest.fixture
async def cloud() -> AsyncIterator[EmbeddedCloud]:
    async with running_cloud(pace=NO_PAUSE) as running:
        yield running


@pytest.fixture
def device(cloud: EmbeddedCloud) -> Device:
    return register(cloud)


@pytest.fixture
def events(cloud: EmbeddedCloud) -> list[Event]:
    told: list[Event] = []
    cloud.subscribe(told.append)
    return told


# --- who comes in


@pytest.mark.parametrize(("protocol", "level"), [("MQIsdp", 3), ("MQTT", 4)])
async def test_both_versions_are_let_in(
    cloud: EmbeddedCloud, device: Device, protocol: str, level: int
) -> None:
    client = await RawClient.open(cloud)
    client.send(Connect(device.did, device.did, PASSCODE.encode(), protocol=protocol, level=level))
    assert await client.expect(ConnAck) == ConnAck(0, session_present=0)
    await client.close()


async def test_the_vectors_of_the_specification(cloud: EmbeddedCloud) -> None:
    """device-cloud.md §14, vectors 1 to 6, from an adopted device."""
    did = "SimDid0123456789ABCDEF"
    cloud.store.adopt(did, "ABCDEFGHIJ", 0.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", mqtt_port(cloud))
    subscriptions = topics.module_subscriptions(did, PK)
    exchange = [
        (CONNECT, "20020000"),
        (Subscribe(1, ((subscriptions[0], 0),)).encode().hex(), "9003000100"),
        (Subscribe(2, ((subscriptions[1], 0),)).encode().hex(), "9003000200"),
        (SUBSCRIBE_3, "9003000300"),
    ]
    for sent, answer in exchange:
        writer.write(bytes.fromhex(sent))
        async with asyncio.timeout(20):
            assert (await reader.readexactly(len(answer) // 2)).hex() == answer
    assert cloud.hub.is_online(did)
    adopted = cloud.store.device(did)
    assert adopted is not None
    assert adopted.product_key == PK
    writer.close()


async def refused(cloud: EmbeddedCloud, connect: Connect) -> int:
    client = await RawClient.open(cloud)
    code = await client.login(connect)
    assert code != 0
    assert await client.closed()
    await client.close()
    return code


async def test_who_is_refused_and_with_which_code(
    cloud: EmbeddedCloud, device: Device, events: list[Event]
) -> None:
    did, good = device.did, PASSCODE.encode()
    other = register(cloud, 2, "KLMNOPQRST")
    assert await refused(cloud, Connect("", did, good)) == 2
    assert await refused(cloud, Connect("usr/App", did, good)) == 2
    assert await refused(cloud, Connect("usr#", did, good)) == 2
    assert await refused(cloud, Connect("u" * 24, did, good)) == 2
    assert await refused(cloud, Connect(CLIENT, did, good)) == 2
    assert await refused(cloud, Connect(did, did, b"WRONG")) == 4
    assert await refused(cloud, Connect(did, did, None)) == 4
    assert await refused(cloud, Connect(did)) == 4
    assert await refused(cloud, Connect(did, did, b"\xff\xfe")) == 4
    assert await refused(cloud, Connect("A" * 22, "A" * 22, good)) == 4
    assert await refused(cloud, Connect("usrApp", other.did, good)) == 4
    assert len(events) == 11
    assert all(isinstance(event, LoginRefused) for event in events)
    assert PASSCODE not in str(events)


async def test_another_mqtt_version_is_told_so(cloud: EmbeddedCloud) -> None:
    client = await RawClient.open(cloud)
    client.send_bytes(bytes.fromhex("101100044d5154540502003c00000461626364"))
    assert (await client.expect(ConnAck)).code == 1
    assert await client.closed()
    await client.close()


async def test_adopt_mode_learns_did_and_passcode() -> None:
    async with running_cloud(pace=NO_PAUSE, adopt=True) as cloud:
        events: list[Event] = []
        cloud.subscribe(events.append)
        did = "Adopted123456789ABCDEF"
        client = await RawClient.open(cloud)
        assert await client.login(Connect(did, did, b"ZYXWVUTSRQ")) == 0
        assert await client.subscribe(topics.ser2cli_noti(PK)) == b"\x00"
        assert any(isinstance(event, Adopted) for event in events)
        assert cloud.store.check_login(did, "ZYXWVUTSRQ")
        assert await refused(cloud, Connect(did, did, b"ANOTHERONE")) == 4
        assert await refused(cloud, Connect("usrApp", "B" * 22, b"ZYXWVUTSRQ")) == 4, "apps adopt nothing"
        await client.ping()
        await client.close()


async def test_a_wrong_password_disturbs_nobody(
    cloud: EmbeddedCloud, device: Device, events: list[Event]
) -> None:
    live = await online_device(cloud, device)
    assert await refused(cloud, device_connect(device, passcode="WRONG")) == 4
    control = asyncio.create_task(cloud.hub.control(device.did, b"\x01\x01"))
    message = await live.expect(Publish)
    while message.topic != topics.app2dev(device.did, CLIENT):
        message = await live.expect(Publish)
    frame = BusinessFrame.decode(message.payload)
    assert isinstance(frame, BusinessFrame)
    ack = BusinessFrame(frames.ACK, b"\x05", frame.sn)
    live.send(Publish(topics.dev2app(device.did, CLIENT), ack.encode()))
    assert await control == b"\x05"
    assert not any(isinstance(event, Offline) for event in events)
    await live.close()


async def test_the_last_connect_wins(cloud: EmbeddedCloud, device: Device, events: list[Event]) -> None:
    first = await online_device(cloud, device)
    second = await online_device(cloud, device)
    assert await first.closed()
    await first.close()
    await until(lambda: sum(isinstance(event, Online) for event in events) == 2)
    app = await app_for(cloud, device)
    second.send(Publish(topics.dev2app(device.did), REPORT))
    assert (await app.expect(Publish)).payload == REPORT
    # websocket-api.md §9.1: on line again, and never off line between.
    told = [event for event in events if isinstance(event, Online | Offline)]
    assert [isinstance(event, Online) and event.again for event in told] == [False, True]
    await second.close()
    await app.close()


@pytest.mark.parametrize("stays", [True, False], ids=["stays silent", "goes"])
async def test_a_device_is_off_line_when_who_took_over_does_not_subscribe(
    cloud: EmbeddedCloud,
    device: Device,
    events: list[Event],
    monkeypatch: pytest.MonkeyPatch,
    stays: bool,
) -> None:
    monkeypatch.setattr("sim.cloud.mqtt_client.SUBSCRIBE_TIME", 0.1)
    first = await online_device(cloud, device)
    second = await RawClient.open(cloud)
    assert await second.login(device_connect(device)) == 0
    assert cloud.hub.is_online(device.did)
    if not stays:
        await second.close()
    await until(lambda: any(isinstance(event, Offline) for event in events))
    assert not cloud.hub.is_online(device.did)
    await second.close()
    await first.close()
    assert sum(isinstance(event, Offline) for event in events) == 1


async def test_many_at_once_under_one_name_leave_exactly_one(cloud: EmbeddedCloud, device: Device) -> None:
    async def knock() -> bool:
        client = await RawClient.open(cloud)
        client.send(device_connect(device))
        answer = await client.next()
        alive = answer == ConnAck(0) and await client.silent(0.5)
        if alive:
            await client.ping()
        await client.close()
        return alive

    assert sum(await asyncio.gather(*(knock() for _ in range(12)))) == 1
    await until(lambda: not cloud.hub.online)


# --- who may say what


async def test_a_device_cannot_listen_to_another(cloud: EmbeddedCloud, device: Device) -> None:
    other = register(cloud, 2)
    client = await online_device(cloud, device)
    for topic in (
        "#",
        "app2dev/#",
        "app2dev/+/#",
        f"app2dev/{other.did}/#",
        f"ser2cli_res/{other.did}",
        f"dev2app/{other.did}",
        f"dev2app/{device.did}",
        "ser2cli_noti/" + "f" * 32,
        "$SYS/#",
        "+/+",
    ):
        client.send(Subscribe(77, ((topic, 0),)))
        while not isinstance(answer := await client.next(), SubAck):
            assert isinstance(answer, Publish), topic
        assert answer == SubAck(77, b"\x80"), topic
    await client.close()


async def test_only_the_allowed_part_of_a_subscription_is_granted(
    cloud: EmbeddedCloud, device: Device
) -> None:
    other = register(cloud, 2)
    app = await RawClient.open(cloud)
    assert await app.login(app_connect(device, "usrApp")) == 0
    codes = await app.subscribe(
        f"dev2app/{other.did}", f"dev2app/{device.did}", "#", f"dev2app/{device.did}/#", qos=1
    )
    assert codes == b"\x80\x00\x80\x00"
    await app.close()


async def test_a_forged_message_goes_nowhere_and_is_acknowledged(
    cloud: EmbeddedCloud, device: Device, events: list[Event]
) -> None:
    victim = register(cloud, 2)
    target = await online_device(cloud, victim)
    watcher = await app_for(cloud, victim)
    forger = await online_device(cloud, device)
    await forger.ping()
    for topic in (
        topics.dev2app(victim.did),
        topics.app2dev(victim.did, "usrApp"),
        topics.ser2cli_res(victim.did),
        topics.ser2cli_res(device.did),
        "$SYS/broker",
        "dev2app/#",
    ):
        forger.send(Publish(topic, REPORT))
        forger.send(Publish(topic, REPORT, qos=1, packet_id=5))
        assert await forger.expect(PubAck) == PubAck(5)
        forger.send(Publish(topic, REPORT, qos=2, packet_id=6))
        assert await forger.expect(PubRec) == PubRec(6)
        forger.send(PubRel(6))
        assert await forger.expect(PubComp) == PubComp(6)
    await forger.ping()
    assert await watcher.silent(0.2)
    assert not any(isinstance(event, Report) for event in events)
    assert (saved := cloud.store.device(victim.did)) is not None
    assert saved.last_report is None
    for client in (target, watcher, forger):
        await client.ping()
        await client.close()


async def test_an_app_speaks_under_its_own_name_only(cloud: EmbeddedCloud, device: Device) -> None:
    live = await online_device(cloud, device)
    await live.ping()
    app = await RawClient.open(cloud)
    assert await app.login(app_connect(device, "usrApp")) == 0
    app.send(Publish(topics.app2dev(device.did, "usrOther"), READ))
    app.send(Publish(topics.dev2app(device.did), REPORT))
    app.send(Publish(topics.app2dev(device.did, "usrApp"), READ))
    assert await live.expect(Publish) == Publish(topics.app2dev(device.did, "usrApp"), READ)
    assert await live.silent(0.1)
    await app.close()
    await live.close()


async def test_two_devices_and_their_apps_with_one_name_do_not_mix(cloud: EmbeddedCloud) -> None:
    pair = [register(cloud, number) for number in (1, 2)]
    lives = [await online_device(cloud, device) for device in pair]
    apps = [await app_for(cloud, device, "usrSame") for device in pair]
    for live, device in zip(lives, pair, strict=True):
        await live.ping()
        live.send(Publish(topics.dev2app(device.did), REPORT))
    for app, device in zip(apps, pair, strict=True):
        assert (await app.expect(Publish)).topic == topics.dev2app(device.did)
        assert await app.silent(0.1)
    for client in (*lives, *apps):
        await client.close()


async def test_qos_retain_and_will_of_clients(cloud: EmbeddedCloud, device: Device) -> None:
    """QoS 1 and 2 are acknowledged, delivered with QoS 0; nothing is retained; wills are ignored (§7)."""
    app = await app_for(cloud, device)
    live = await RawClient.open(cloud)
    will = Will(topics.dev2app(device.did), b"will message")
    assert await live.login(Connect(device.did, device.did, PASSCODE.encode(), will=will)) == 0
    live.send(Publish(topics.dev2app(device.did), REPORT, qos=1, packet_id=9, retain=True))
    assert await live.expect(PubAck) == PubAck(9)
    assert await app.expect(Publish) == Publish(topics.dev2app(device.did), REPORT)
    live.send(Publish(topics.dev2app(device.did), REPORT, qos=2, packet_id=10))
    assert await live.expect(PubRec) == PubRec(10)
    live.send(PubRel(10))
    assert await live.expect(PubComp) == PubComp(10)
    assert await app.expect(Publish) == Publish(topics.dev2app(device.did), REPORT)
    await live.close()
    late = await app_for(cloud, device, "usrLate")
    assert await late.silent(0.1)
    assert await app.silent(0.1)
    await late.close()
    await app.close()


async def test_an_unsubscribed_app_hears_nothing_and_counts_no_more(
    cloud: EmbeddedCloud, device: Device
) -> None:
    live = await online_device(cloud, device)

    async def told() -> int:
        message = frames.decode_control((await live.expect(Publish)).payload)
        assert isinstance(message, frames.AppCount)
        return message.count

    assert await told() == 0
    app = await app_for(cloud, device)
    assert await told() == 1
    app.send(Unsubscribe(7, (f"dev2app/{device.did}/#",)))
    assert await app.expect(UnsubAck) == UnsubAck(7)
    assert await told() == 0
    live.send(Publish(topics.dev2app(device.did), REPORT))
    assert await app.silent(0.1)
    await app.close()
    live.send(Publish("cli2ser_req", frames.encode_control(frames.AppCountRequest())))
    assert await told() == 0
    await live.close()


# --- what the hub knows


async def test_reports_are_stored_and_told(cloud: EmbeddedCloud, device: Device, events: list[Event]) -> None:
    live = await online_device(cloud, device)
    for frame in (
        BusinessFrame(frames.REPORT, b"\x04\x07"),
        BusinessFrame(frames.REPORT, b""),  # says nothing (R2)
        BusinessFrame(frames.CONTROL_ACKED, b"\x04\x08", 5),  # a report too (R10)
        BusinessFrame(frames.REPORT, b"\x06\xff\x55"),
        BusinessFrame(frames.ACK, b"", 12),
    ):
        live.send(
            Publish(
                topics.dev2app(device.did, "usrApp" if frame.command == frames.ACK else None), frame.encode()
            )
        )
    live.send(Publish(topics.dev2app(device.did), b"no frame"))
    await until(lambda: any(isinstance(event, Answer) for event in events))
    assert [event.p0 for event in events if isinstance(event, Report)] == [
        b"\x04\x07",
        b"\x04\x08",
        b"\x06\xff\x55",
    ]
    saved = cloud.store.device(device.did)
    assert saved is not None
    assert saved.last_report is not None
    assert saved.last_raw is not None
    assert (saved.last_report.data, saved.last_raw.data) == (b"\x04\x08", b"\xff\x55")
    assert cloud.hub.last_report(device.did) == saved.last_report
    await live.close()


async def test_asking_a_device_that_cannot_answer(cloud: EmbeddedCloud, device: Device) -> None:
    with pytest.raises(UnknownDevice, match="no device"):
        await cloud.hub.control("x" * 22, b"\x01")
    with pytest.raises(DeviceOffline, match="offline"):
        await cloud.hub.control(device.did, b"\x01")
    live = await online_device(cloud, device)
    with pytest.raises(NoAnswer, match="acknowledge"):
        await cloud.hub.control(device.did, b"\x01", timeout=0.05)
    with pytest.raises(NoAnswer, match="read"):
        await cloud.hub.read(device.did, timeout=0.05)
    await live.close()


async def test_a_device_without_the_notice_topic_is_on_line_too(cloud: EmbeddedCloud, device: Device) -> None:
    """G2 omits it (§7.2)."""
    live = await RawClient.open(cloud)
    assert await live.login(device_connect(device)) == 0
    await live.subscribe(topics.ser2cli_res(device.did))
    assert not cloud.hub.is_online(device.did)
    await live.subscribe(f"app2dev/{device.did}/#")
    assert cloud.hub.is_online(device.did)
    await live.close()
    await until(lambda: not cloud.hub.is_online(device.did))


# --- how a connection ends


async def test_keep_alive_is_one_and_a_half_times_what_was_announced(
    cloud: EmbeddedCloud, device: Device, events: list[Event]
) -> None:
    client = await RawClient.open(cloud)
    assert await client.login(device_connect(device, keep_alive=1)) == 0
    for topic in topics.module_subscriptions(device.did, PK):
        await client.subscribe(topic)
    await asyncio.sleep(1.0)
    await client.ping()
    since = time.monotonic()
    assert await client.closed()
    assert 1.3 < time.monotonic() - since < 3.0
    await until(lambda: any(isinstance(event, Offline) and "silent" in event.reason for event in events))
    await client.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00",
        b"\xff\xff\xff\xff\xff\xff",
        b"\x10\xff\xff\xff\xff",  # a length of five bytes
        b"\x10\xff\xff\xff\x7f",  # 256 MB
        b"\x30\x04\x00\x10ab",
        bytes(10_000),
        PingReq().encode(),
        Subscribe(1, (("#", 0),)).encode(),
    ],
)
async def test_garbage_instead_of_a_connect(cloud: EmbeddedCloud, garbage: bytes) -> None:
    client = await RawClient.open(cloud)
    client.send_bytes(garbage)
    assert await client.closed()
    await client.close()


async def test_a_connect_that_is_too_long(cloud: EmbeddedCloud) -> None:
    client = await RawClient.open(cloud)
    client.send_bytes(b"\x10\xff\xff\x01" + b"\x00\x06MQIsdp\x03\xc2\x00\x78" + b"\xff\xff" + bytes(20_000))
    assert await client.closed()
    await client.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x00",
        b"\xf0\x00",
        b"\x20\x02\x00\x00",  # what only a server sends
        b"\x30\xff\xff\xff\x7f",
        b"\x30\xff\xff\xff\xff\x01",
        b"\x30\x02\x00\x09",
        b"\x36\x07\x00\x01a\x00\x01xx",
        b"\x82\x02\x00\x01",
        b"\x80\x05\x00\x01\x00\x00\x00",
        b"\xc0\x01\x00",
        device_connect(Device(did="x", product_key="", mac="", passcode="", created=0.0)).encode(),
    ],
)
async def test_garbage_after_the_login_closes_at_once_and_disturbs_nobody(
    cloud: EmbeddedCloud, device: Device, garbage: bytes
) -> None:
    other = await online_device(cloud, register(cloud, 2))
    client = await online_device(cloud, device)
    client.send_bytes(garbage)
    assert await client.closed()
    await until(lambda: not cloud.hub.is_online(device.did))
    await other.ping()
    for each in (client, other):
        await each.close()


async def test_goodbye_and_silence_before_the_connect(cloud: EmbeddedCloud, device: Device) -> None:
    client = await online_device(cloud, device)
    client.send(Disconnect())
    assert await client.closed()
    await client.close()
    await until(lambda: not cloud.hub.is_online(device.did))


@pytest.mark.parametrize("goodbye", [True, False], ids=["goodbye", "just closed"])
async def test_what_is_said_just_before_the_end_is_delivered(
    cloud: EmbeddedCloud, device: Device, goodbye: bool
) -> None:
    # A command line client says CONNECT, PUBLISH and DISCONNECT in one go.
    module = await online_device(cloud, device)
    for number in range(10):
        client = await RawClient.open(cloud)
        frame = BusinessFrame(frames.CONTROL, bytes((5, number)))
        said = app_connect(device, "usrShell").encode()
        said += Publish(topics.app2dev(device.did, "usrShell"), frame.encode()).encode()
        client.send_bytes(said + (Disconnect().encode() if goodbye else b""))
        if not goodbye:
            await client.close()
        packet = await module.expect(Publish)
        while packet.topic.startswith("ser2cli_res"):
            packet = await module.expect(Publish)
        assert BusinessFrame.decode(packet.payload) == frame


async def test_who_does_not_say_who_it_is_is_closed() -> None:
    store = Store(None, told=print)
    hub = Hub(store)
    broker = make_broker()
    await broker.start()
    front = MqttFront(broker, Gate(store, adopt=False, told=hub.tell), hub, connect_time=0.1)
    host, port = await front.listen("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"\x10")
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()
    await front.close()
    await broker.shutdown()
    store.close()


async def test_the_rest_of_a_segment_after_the_connect_counts(cloud: EmbeddedCloud, device: Device) -> None:
    client = await RawClient.open(cloud)
    client.send_bytes(
        device_connect(device).encode() + Subscribe(1, ((f"app2dev/{device.did}/#", 0),)).encode()
    )
    assert await client.expect(ConnAck) == ConnAck(0)
    assert await client.expect(SubAck) == SubAck(1, b"\x00")
    await client.close()


async def test_bytes_one_at_a_time(cloud: EmbeddedCloud, device: Device) -> None:
    client = await RawClient.open(cloud)
    for byte in device_connect(device).encode():
        client.send_bytes(bytes([byte]))
        await asyncio.sleep(0)
    assert await client.expect(ConnAck) == ConnAck(0)
    await client.close()


async def test_an_app_that_does_not_read_is_closed_and_delays_nobody(
    cloud: EmbeddedCloud, device: Device
) -> None:
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.connect(("127.0.0.1", mqtt_port(cloud)))
    lazy.sendall(app_connect(device, "usrLazy").encode())
    lazy.sendall(Subscribe(1, ((f"dev2app/{device.did}", 0),)).encode())
    live = await online_device(cloud, device)
    app = await app_for(cloud, device)
    big = BusinessFrame(frames.REPORT, bytes([4]) + bytes(60_000)).encode()
    # The kernel's buffers come before ours: several megabytes on loopback.
    for _ in range(WRITE_LIMIT * 64 // len(big)):
        live.send(Publish(topics.dev2app(device.did), big))
        assert (await app.expect(Publish)).payload == big
    await live.ping()
    lazy.settimeout(5)
    with contextlib.suppress(ConnectionResetError):
        while lazy.recv(65536):
            pass
    lazy.close()
    for client in (live, app):
        await client.close()


async def test_a_flood_is_slowed_down_not_kept(cloud: EmbeddedCloud, device: Device) -> None:
    live = await online_device(cloud, device)
    app = await app_for(cloud, device)
    number = 3000
    packet = Publish(topics.dev2app(device.did), REPORT).encode()
    live.send_bytes(packet * number)
    most = 0
    for _ in range(number):
        assert (await app.expect(Publish)).payload == REPORT
        front = cloud._front
        assert front is not None
        most = max(most, sum(client._upstream.waiting for client in front._all))
    assert most < number * len(packet) / 2
    for client in (live, app):
        await client.close()


async def test_pings_are_answered_one_by_one(cloud: EmbeddedCloud, device: Device) -> None:
    client = await RawClient.open(cloud)
    assert await client.login(app_connect(device, "usrApp")) == 0
    for _ in range(3):
        client.send(PingReq())
        assert await client.expect(PingResp) == PingResp()
    await client.close()


async def test_the_cloud_stops_at_once_with_clients_in_it() -> None:
    async with running_cloud() as cloud:
        pair = [register(cloud, number) for number in (1, 2)]
        clients = [await online_device(cloud, device) for device in pair]
        clients.append(await app_for(cloud, pair[0]))
        clients.append(await RawClient.open(cloud))
        since = time.monotonic()
    assert time.monotonic() - since < 1.0
    for client in clients:
        assert await client.closed()
        await client.close()
