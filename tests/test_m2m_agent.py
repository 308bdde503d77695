"""G3: registration and login with signatures (device-cloud.md §6), at the module, at the cloud, and both."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from support_cloud_mqtt import NO_PAUSE, PK, RawClient, mqtt_port
from support_io import eventually
from support_m2m import DID, MAC, SECRET, Bench, Cloud, entropy, error, new_identity

from gizserial.errors import ValueOutOfRange
from gizserial.io.driver import MonotonicClock
from gizserial.m2m import agent
from gizserial.m2m.effects import ClockSet
from gizserial.m2m.http import HttpRequest, Provision, Purpose, Server
from gizserial.m2m.identity import Identity
from gizserial.m2m.mqtt31 import Connect
from gizserial.m2m.session import CloudSession
from sim.cloud.app import EmbeddedCloud
from sim.cloud.config import CloudConfig
from sim.cloud.products import CloudProduct
from sim.cloud_link import CloudLink

NONCE = "ABCDEFGHIJ"
"""What the entropy of the tests gives."""
SIGNER = agent.Signer(PK, MAC, SECRET)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_signatures_of_the_specification(vectors: Callable[[str], Any]) -> None:
    row = vectors("device_cloud.json")["signature"]
    signer = agent.Signer(PK, row["mac"].upper(), row["auth_key"])
    assert signer.token(row["nonce"]) == row["token"]
    assert signer.etag(row["nonce"], row["body"]) == row["etag"]
    assert signer.verifies(row["nonce"], row["token"].upper())
    assert not signer.verifies("QWERTYUIOX", row["token"])
    headers = {"x-sign-method": "sha256", "x-sign-nonce": row["nonce"], "x-sign-token": row["token"]}
    headers["x-sign-etag"] = row["etag"]
    assert agent.refusal(headers, signer, row["body"].encode()) is None
    form = agent.parse_network_form(row["body"].encode(), signer, "ABCDEFGHIJ")
    assert dataclasses.astuple(form) == (row["mac"].upper(), "ABCDEFGHIJ", PK, True, row["body"][23:55])


@pytest.mark.parametrize(
    ("body", "network"),
    [
        ("address=a.b&port=1883", agent.Network(Provision("a.b", 1883, None), None)),
        (
            f"address=1.2.3.4&port=8&device_id={DID}&restart_time=5&tz_offset=28800",
            agent.Network(Provision("1.2.3.4", 8, None), DID),
        ),
        (f"device_id={DID}&port=1883&address=a.b\r\n", agent.Network(Provision("a.b", 1883, None), DID)),
        ("address=a.b&port=1883&device_id=short", agent.Network(Provision("a.b", 1883, None), None)),
        ("address=a.b", None),
        ("port=1883", None),
        ("address=a b&port=1883", None),
        ("address=a.b&port=65536", None),
        ("address=a.b&port=\u0663", None),
        ("", None),
    ],
)
def test_answers_as_a_module_reads_them(body: str, network: agent.Network | None) -> None:
    assert agent.parse_network(body.encode()) == network


def test_a_cloud_makes_no_address_that_is_none() -> None:
    with pytest.raises(ValueOutOfRange, match="address"):
        agent.network_answer("a b", 1883)
    with pytest.raises(ValueOutOfRange, match="port"):
        agent.network_answer("a.b", 0)


# --- the module


def g3_cloud() -> Cloud:
    cloud = Cloud()
    cloud.answers[Purpose.REGISTER] = 200, agent.network_answer("m2m.local", 1883, DID).encode()
    again = 200, agent.network_answer("m2m.local", 1883).encode()
    cloud.answers[Purpose.PROVISION] = cloud.answers[Purpose.TIME] = again
    return cloud


def g3(identity: Identity | None = None) -> Bench:
    session = CloudSession(
        identity or new_identity(),
        Server("agent.local"),
        entropy=entropy,
        product_secret=SECRET,
        generation="g3",
        asking="g3",
    )
    bench = Bench(session, g3_cloud())
    bench.boot()
    return bench


def published(bench: Bench) -> list[bytes]:
    return [message.payload for message in bench.cloud.published]


def test_one_request_registers_and_provisions_and_the_login_is_signed() -> None:
    bench = g3()
    assert bench.online
    assert bench.requests == [Purpose.REGISTER], "no provisioning after it, no check over HTTP"
    body = "is_reset=0&lan_proto_ver=v5.0"
    (request,) = bench.all(HttpRequest)
    head = (
        f"POST /v2/products/{PK}/devices/{MAC.lower()}/network HTTP/1.1\r\nHost: agent.local\r\n"
        f"X-Sign-Method: sha256\r\nX-Sign-Nonce: {NONCE}\r\n"
        f"X-Sign-Token: {sha256(f'{PK},{MAC.lower()},{SECRET},{NONCE}')}\r\n"
        f"X-Trace-Id: {bytes(range(16)).hex()}\r\n"
        f"X-Sign-ETag: {sha256(f'{SECRET},{NONCE},{body}')}\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    assert request.raw == (head + body).encode()
    assert bench.session.identity == dataclasses.replace(new_identity(), did=DID, generation="g3")
    (connect,) = bench.cloud.connects
    assert connect == Connect(
        DID,
        f"{DID}|signmethod=sha256,signnonce={NONCE}",
        SIGNER.token(NONCE).encode(),
        protocol="MQTT",
        level=4,
    )
    assert bench.cloud.subscriptions == [f"ser2cli_res/{DID}", f"app2dev/{DID}/#"]
    assert not bench.all(ClockSet), "no answer of G3 tells the time"


def test_a_later_boot_asks_for_the_address() -> None:
    bench = g3(dataclasses.replace(new_identity(did=DID), generation="g3"))
    assert bench.online
    (request,) = bench.all(HttpRequest)
    assert request.raw.startswith(f"GET /v2/devices/{DID}/bootstrap HTTP/1.1\r\n".encode())
    assert b"ETag" not in request.raw


def test_a_reset_says_so_by_mqtt_and_in_the_next_registration() -> None:
    """§9.2: 021e. There is no DELETE, so no old did is kept."""
    bench = g3()
    bench.session.reset(bench.now)
    bench.settle()
    assert published(bench)[-1] == bytes.fromhex("00000003021e0000")
    assert bench.session.identity.old_did == ""
    bench.boot()
    assert bench.requests == [Purpose.REGISTER] * 2
    assert bench.all(HttpRequest)[1].raw.endswith(b"\r\n\r\nis_reset=1&lan_proto_ver=v5.0")


def test_the_body_after_on_boarding(vectors: Callable[[str], Any]) -> None:
    """That of the vector, but for the user, who is not known here."""
    row = vectors("device_cloud.json")["random_code"]
    bench = g3()
    bench.session.reset(bench.now)
    bench.session.onboarded(row["ssid"], row["password"])
    bench.settle()
    bench.boot()
    (_, request) = bench.all(HttpRequest)
    assert request.raw.partition(b"\r\n\r\n")[2] == BODY.removesuffix("&user_id=u1").encode()


def test_a_cloud_that_forgot_the_device_gets_a_new_registration() -> None:
    bench = g3(dataclasses.replace(new_identity(did="F" * 22), generation="g3"))
    bench.session.stop(0.0)
    bench.cloud.answers[Purpose.PROVISION] = error(9014, 404)
    bench.boot()
    assert bench.requests[-2:] == [Purpose.PROVISION, Purpose.REGISTER]
    assert bench.session.identity.did == DID
    assert bench.online


# --- both


@pytest.fixture
async def cloud() -> AsyncIterator[EmbeddedCloud]:
    config = CloudConfig(
        http="127.0.0.1:0",
        mqtt=("127.0.0.1:0",),
        pace=NO_PAUSE,
        products=(CloudProduct(product_key=PK, secret=SECRET),),
    )
    async with EmbeddedCloud(config) as running:
        yield running
        for client in list(RawClient.left_open):
            await client.close()


async def play(cloud: EmbeddedCloud, identity: Identity) -> Identity:
    """A module comes on line; its identity then."""
    host, _, port = cloud.addresses["http"].rpartition(":")
    clock = MonotonicClock()
    session = CloudSession(
        identity, Server(host, int(port)), entropy=entropy, product_secret=SECRET, generation="g3"
    )
    link = CloudLink(session, clock, store=lambda _identity: None, on_effect=lambda _effect: None)
    session.start(clock.now())
    session.router_up(clock.now())
    running = asyncio.create_task(link.run())
    try:
        await eventually(lambda: session.connected or running.done())
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return session.identity


async def test_module_and_cloud_agree(cloud: EmbeddedCloud) -> None:
    first = await play(cloud, new_identity())
    device = cloud.store.device(first.did)
    assert device is not None
    assert (device.mac.upper(), device.product_key, device.resets) == (MAC, PK, 0)
    assert await play(cloud, first) == first, "bootstrap"
    after = await play(cloud, first.reset(entropy))
    assert after.did == first.did
    device = cloud.store.device(first.did)
    assert device is not None
    assert device.resets == 1


def signed(body: str | None = None, **changes: str) -> dict[str, str]:
    headers = {"X-Sign-Method": "sha256", "X-Sign-Nonce": NONCE, "X-Sign-Token": SIGNER.token(NONCE)}
    if body is not None:
        headers["X-Sign-ETag"] = SIGNER.etag(NONCE, body)
    return headers | {name.replace("_", "-"): value for name, value in changes.items()}


BY_MAC = f"/v2/products/{PK}/devices/{MAC.lower()}/network"
BODY = "is_reset=1&random_code=b2fb9ea4ae709759b0da5c0fb735a5d4&lan_proto_ver=v5.0&user_id=u1"


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        (BY_MAC, {}, 9015),
        (BY_MAC, signed(BODY, X_Sign_Method="md5"), 9015),
        (BY_MAC, signed(BODY, X_Sign_Token="0" * 64), 9016),
        (BY_MAC, signed(BODY + "x"), 9016),
        (BY_MAC, signed(), 9016),
        (BY_MAC.replace(MAC.lower(), "00163e002cad"), signed(BODY), 9016),
        (BY_MAC.replace(PK, "f" * 32), signed(BODY), 9002),
        (f"/v2/devices/{DID}/network", signed(BODY), 9014),
        ("/v2/anything", signed(BODY), 9999),
    ],
)
async def test_what_is_not_signed_so_is_refused(
    cloud: EmbeddedCloud, path: str, headers: dict[str, str], code: int
) -> None:
    async with httpx.AsyncClient(base_url=f"http://{cloud.addresses['http']}") as client:
        answer = await client.post(path, content=BODY, headers=headers)
    assert answer.status_code >= 400
    assert answer.json()["error_code"] == code
    assert cloud.store.devices() == []


async def test_a_stranger_of_g3(cloud: EmbeddedCloud) -> None:
    """Requests written by hand: both ways to on-board, bootstrap, both ways to log in (§6)."""
    async with httpx.AsyncClient(base_url=f"http://{cloud.addresses['http']}") as client:
        answer = await client.post(BY_MAC, content=BODY, headers=signed(BODY))
        (device,) = cloud.store.devices()
        where = f"address=127.0.0.1&port={mqtt_port(cloud)}"
        assert (answer.status_code, answer.text) == (200, f"{where}&device_id={device.did}")
        assert device.random_code == BODY[23:55]
        by_did = f"/v2/devices/{device.did}"
        answer = await client.post(f"{by_did}/network", content=BODY, headers=signed(BODY))
        assert (answer.status_code, answer.text) == (200, f"{where}&device_id={device.did}")
        answer = await client.get(f"{by_did}/bootstrap", headers=signed())
        assert (answer.status_code, answer.text) == (200, where)
        answer = await client.get(f"{by_did}/bootstrap", headers=signed(X_Sign_Token="0" * 64))
        assert answer.json()["error_code"] == 9016
    name, token = agent.login_name(device.did, NONCE), SIGNER.token(NONCE).encode()
    for ids, password, code in (
        ((device.did, name), token, 0),
        ((name, device.did), token, 0),
        ((device.did, name), b"0" * 64, 4),
        ((device.did, name), b"\xff", 4),
        ((DID, agent.login_name(DID, NONCE)), token, 4),
        ((device.did, device.did), token, 4),
    ):
        mqtt = await RawClient.open(cloud)
        connect = Connect(*ids, password, protocol="MQTT", level=4)
        assert await mqtt.login(connect) == code, ids
        await mqtt.close()
