"""HTTP of the cloud as modules meet it: one ``recv`` of 1024 bytes per answer, over real sockets."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from gizserial.errors import ValueOutOfRange
from gizserial.m2m import http as module
from gizserial.m2m.http_cloud import error_answer, text_answer
from gizserial.m2m.secure import CipherError, decrypt_hex, encrypt_hex
from sim.cloud.device import Versions
from sim.cloud.errors import AddressError, StoreError
from sim.cloud.events import Event, Provisioned, Registered, Unregistered, VersionReported
from sim.cloud.http_device import DeviceApi
from sim.cloud.http_server import HoldStart, HttpServer, create_app
from sim.cloud.products import CloudProduct, Products
from sim.cloud.store import Store

DID = "SimDid0123456789ABCDEF"
PK = "0123456789abcdef" * 2
SECRET = "00112233445566778899aabbccddeeff"
MAC = "00163E002CAC"
PASSCODE = "ABCDEFGHIJ"
NOW = 1_760_000_000
FAR = 5.0
"""Seconds after which a test that waits for the server has failed."""

SERVER = module.Server("api.gizwits.com")
REGISTER = module.register(SERVER, mac=MAC, passcode=PASSCODE, product_key=PK)


@dataclasses.dataclass
class Bench:
    """A running server and what it works on."""

    server: HttpServer
    store: Store
    products: Products
    told: list[Event]

    async def ask(self, raw: bytes | module.HttpRequest) -> bytes:
        """Send a request as a module does; the answer is what its one ``recv`` gives, then the end."""
        raw = raw if isinstance(raw, bytes) else raw.raw
        return await asyncio.to_thread(one_recv, self.server.address, raw)

    async def error(self, raw: bytes | module.HttpRequest) -> tuple[int, int]:
        """Status and error code of an answer that has the form of §4.7."""
        answer = await self.ask(raw)
        head, _, body = answer.partition(b"\r\n\r\n")
        fields = json.loads(body)
        assert fields.keys() == {"error_message", "error_code", "detail_message"}
        assert b"\r\nContent-Length: %d\r\n" % len(body) in head
        assert head.endswith(b"\r\nConnection: close")
        return int(head.split(b" ")[1]), fields["error_code"]


def one_recv(address: tuple[str, int], raw: bytes, *, ends: bool = True) -> bytes:
    with socket.create_connection(address, FAR) as connection:
        connection.settimeout(FAR)
        connection.sendall(raw)
        # A module is slower than the server: what has not come by now is what it would lose.
        answer = connection.recv(1024)
        if ends:
            assert connection.recv(1024) == b"", "the answer came in pieces"
    return answer


Start = Callable[..., Any]


@asynccontextmanager
async def running(
    *,
    data: Path | None = None,
    request_time: float = 10.0,
    draw: Callable[[], str] | None = None,
    **options: Any,
) -> AsyncIterator[Bench]:
    products = options.pop("products", Products())
    told: list[Event] = []
    store = Store(data, told=lambda _sentence: None, **({"draw": draw} if draw else {}))
    options.setdefault("mqtt", lambda: ("m2m.local", 1883))
    api = DeviceApi(store=store, products=products, now=lambda: float(NOW), told=told.append, **options)
    server = HttpServer(create_app(api), request_time=request_time)
    await server.start()
    try:
        yield Bench(server, store, products, told)
    finally:
        await server.stop()
        store.close()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running(draw=lambda: DID) as made:
        yield made


@pytest.fixture
async def secure() -> AsyncIterator[Bench]:
    products = Products([CloudProduct(product_key=PK, secret=SECRET)])
    async with running(draw=lambda: DID, products=products) as made:
        yield made


def chunk(answer: bytes) -> bytes:
    """The body of an answer with exactly one chunk."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nTransfer-Encoding: chunked" in head
    size, _, rest = body.partition(b"\r\n")
    assert rest[int(size, 16) :] == b"\r\n0\r\n\r\n"
    return rest[: int(size, 16)]


# --- G1


async def test_the_vectors_of_g1(bench: Bench, vectors: Callable[[str], Any]) -> None:
    texts = {row["id"]: row["text"].encode() for row in vectors("device_cloud.json")["http"]}
    assert await bench.ask(texts["H1"]) == texts["H2"]
    # H3 names another log server than we do; its form is the same.
    body = f"host=m2m.local&port=1883&server_ts={NOW}&log_host=m2m.local&log_port=1884&biz_log=0&sys_log=0"
    answer = await bench.ask(module.provision(SERVER, DID))
    assert answer == texts["H3"].replace(chunk(texts["H3"]), body.encode()).replace(b"61\r\n", b"62\r\n")
    for kind in (1, 2):
        request = module.ota_check(
            SERVER,
            DID,
            passcode=PASSCODE,
            firmware_type=kind,
            hard_version=f"hard{kind}",
            soft_version=f"soft{kind}",
        )
        assert await bench.ask(request) == texts["H5"]
    request = module.latest(SERVER, hard_version="hard", soft_version="soft", product_key=PK)
    assert await bench.ask(request) == texts["H5"]
    delete = module.unregister(SERVER, did=DID, passcode=PASSCODE)
    assert delete.raw.endswith(texts["H6"])
    assert await bench.ask(delete) == text_answer(200, "ok")

    device = bench.store.device(DID)
    assert device is not None
    assert device.module_versions == Versions("hard1", "soft1")
    assert device.mcu_versions == Versions("hard2", "soft2")
    assert (device.resets, device.last_address) == (1, "127.0.0.1")
    assert bench.told == [
        Registered(at=NOW, did=DID, mac=MAC, product_key=PK, new=True, is_reset=False, secure=False),
        Provisioned(at=NOW, did=DID, host="m2m.local", port=1883),
        VersionReported(at=NOW, did=DID, firmware_type=1, hard_version="hard1", soft_version="soft1"),
        VersionReported(at=NOW, did=DID, firmware_type=2, hard_version="hard2", soft_version="soft2"),
        Unregistered(at=NOW, did=DID),
    ]
    assert PASSCODE not in repr(bench.told)


async def test_registers_20_times_of_20() -> None:
    async with running() as bench:
        dids = set()
        for _ in range(20):
            answer = await bench.ask(REGISTER)
            assert answer.startswith(b"HTTP/1.1 201 Created\r\n")
            # As [V4] does: the first place in the whole answer, 24 bytes, cut at 22.
            start = answer.index(b"did=") + 4
            assert len(answer) >= start + 24
            dids.add(answer[start : start + 22].decode())
        assert len(dids) == 1
        assert len(bench.store.devices()) == 1


async def test_many_modules_at_once() -> None:
    async with running() as bench:
        requests = [
            module.register(SERVER, mac=f"{mac:012X}", passcode=PASSCODE, product_key=PK) for mac in range(40)
        ]
        answers = await asyncio.gather(*map(bench.ask, requests))
        assert len({chunk(answer) for answer in answers}) == 40


async def test_a_byte_at_a_time(bench: Bench) -> None:
    reader, writer = await asyncio.open_connection(*bench.server.address)
    for byte in REGISTER.raw:
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    assert await asyncio.wait_for(reader.read(1024), FAR) == text_answer(201, f"did={DID}")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    "head",
    [
        "POST /dev/devices HTTP/1.1\r\nHost:x\r\nContent-Length:{0}\r\n\r\n",
        "POST /dev/devices HTTP/1.1\r\nhost: x\r\ncontent-length: {0}\r\nContent-Type: text/x\r\n\r\n",
        "POST /dev/devices HTTP/1.1\r\nHost: x\r\nContent-Length: {0}\r\nContent-Type: a/b; c=\xe9\r\n\r\n",
        "POST /dev/devices HTTP/1.1\r\nHost: x\r\nContent-Length: {0}\r\nConnection: close\r\n\r\n",
        "POST /dev/devices HTTP/1.1\r\nHost: x\r\nContent-Length: {0}\r\nConnection: keep-alive\r\n\r\n",
    ],
)
async def test_heads_of_odd_modules(bench: Bench, head: str) -> None:
    body = f"passcode={PASSCODE}&mac={MAC.lower()}&product_key={PK}&extra=1"
    answer = await bench.ask((head.format(len(body)) + body).encode("latin-1"))
    assert chunk(answer) == f"did={DID}".encode()
    assert bench.store.by_mac(PK, MAC) is not None


async def test_no_header_is_taken_for_a_member(bench: Bench) -> None:
    for request in (REGISTER, module.provision(SERVER, DID)):
        head = (await bench.ask(request)).partition(b"\r\n\r\n")[0]
        for member in (
            b"did=",
            b"host=",
            b"port=",
            b"server_ts=",
            b"soft_ver=",
            b"download_url=",
            b"3rd_cloud=",
        ):
            assert member not in head


async def test_errors_of_g1(bench: Bench) -> None:
    def post(body: str, target: str = "/dev/devices", method: str = "POST") -> bytes:
        return f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    good = {"passcode": PASSCODE, "mac": MAC, "product_key": PK}
    for name, code in (("passcode", 9015), ("mac", 9015), ("product_key", 9002)):
        for value in ("", "\x01", "x" * 40):
            form = "&".join(f"{key}={value if key == name else text}" for key, text in good.items())
            assert await bench.error(post(form)) == (400, code), (name, value)
    assert await bench.error(post("")) == (400, 9002)
    assert bench.store.devices() == []

    assert await bench.error(module.provision(SERVER, DID)) == (404, 9014)
    assert await bench.error(module.unregister(SERVER, did=DID, passcode=PASSCODE)) == (404, 9014)
    check = "/dev/ota/v4.1/update_and_check/"
    form = f"passcode={PASSCODE}&type=1&hard_version=a&soft_version=b"
    assert await bench.error(post(form, check + DID)) == (404, 9014)
    await bench.ask(REGISTER)
    assert await bench.error(post(form.replace("A", "B"), check + DID)) == (400, 9016)
    assert await bench.error(post(form.replace("type=1", "type=3"), check + DID)) == (400, 9015)
    assert await bench.error(module.unregister(SERVER, did=DID, passcode="wrong")) == (400, 9016)
    assert await bench.error(post("did=", method="DELETE")) == (400, 9015)
    device = bench.store.device(DID)
    assert device is not None
    assert (device.module_versions, device.resets) == (None, 0)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"GET /dev/jd/product/%b HTTP/1.1\r\nHost: x\r\n\r\n" % PK.encode(), (404, 9999)),
        (b"GET /dev/jd/%b HTTP/1.1\r\nHost: x\r\n\r\n" % DID.encode(), (404, 9999)),
        (b"PUT /dev/devices HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", (404, 9999)),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", (404, 9999)),
        (b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n", (404, 9999)),
        (b"POST /openapi.json HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", (405, 9999)),
        (b"GET /dev/devices/ HTTP/1.1\r\nHost: x\r\n\r\n", (404, 9999)),
        (b"GET /dev/devices/%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n", (404, 9014)),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (400, 9015)),
        (b"GET /dev/devices HTTP/1.1\r\nX: " + b"x" * 20_000, (400, 9015)),
        (b"POST /dev/devices HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n", (413, 9015)),
        (
            b"POST /dev/devices HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n" + b"x" * 500_000,
            (413, 9015),
        ),
        (
            b"POST /dev/devices HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"8000\r\n%b\r\n" % (b"x" * 0x8000) * 3,
            (413, 9015),
        ),
        (
            b"POST /dev/devices HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\n\r\n" + b"x" * 65_536,
            (400, 9015),
        ),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, bytes) else "",
)
async def test_what_is_no_call_of_ours(bench: Bench, raw: bytes, expected: tuple[int, int]) -> None:
    assert await bench.error(raw) == expected
    # Whatever it was, the next module is served.
    assert chunk(await bench.ask(REGISTER)) == f"did={DID}".encode()


async def test_the_address_that_is_told() -> None:
    for host in ("0.0.0.0", "::", ""):
        async with running(mqtt=lambda host=host: (host, 1884)) as bench:
            did = bench.store.register(PK, MAC, PASSCODE, is_reset=False, now=1.0).did
            answer = await bench.ask(module.provision(SERVER, did))
            assert module.parse_provision(chunk(answer)) == module.Provision("127.0.0.1", 1884, NOW)
    async with running(mqtt=lambda: ("no host at all", 1884)) as bench:
        did = bench.store.register(PK, MAC, PASSCODE, is_reset=False, now=1.0).did
        assert await bench.error(module.provision(SERVER, did)) == (500, 9008)


async def test_modules_of_another_cloud_are_adopted() -> None:
    async with running(adopt=True) as bench:
        answer = await bench.ask(module.provision(SERVER, DID))
        assert module.parse_provision(chunk(answer)) is not None
        request = module.ota_check(
            SERVER, DID, passcode=PASSCODE, firmware_type=1, hard_version="a", soft_version="b"
        )
        assert await bench.error(request) == (404, 9500)
        assert await bench.error(module.provision(SERVER, DID[:-1])) == (404, 9014)
        assert bench.store.devices() == []


async def test_delete_with_the_old_passcode_after_a_reset(bench: Bench) -> None:
    await bench.ask(REGISTER)
    await bench.ask(module.register(SERVER, mac=MAC, passcode="KLMNOPQRST", product_key=PK))
    assert await bench.ask(module.unregister(SERVER, did=DID, passcode=PASSCODE)) == text_answer(200, "ok")
    assert bench.store.check_login(DID, "KLMNOPQRST")
    assert bench.told[-1] == Unregistered(at=NOW, did=DID)
    assert [event.new for event in bench.told if isinstance(event, Registered)] == [True, False]


async def test_a_restart_keeps_the_did(tmp_path: Path) -> None:
    answers = set()
    for _ in range(2):
        async with running(data=tmp_path) as bench:
            answers.add(await bench.ask(REGISTER))
            (device,) = bench.store.devices()
            assert bench.store.check_login(device.did, PASSCODE)
    assert len(answers) == 1


async def test_what_is_not_stored_is_not_acknowledged(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise StoreError("/private/place cannot be written: the disk is full")

    monkeypatch.setattr(bench.store, "register", full)
    assert await bench.error(REGISTER) == (500, 9008)
    assert b"private" not in await bench.ask(REGISTER)


# --- products and G2


async def test_strict_products() -> None:
    async with running(products=Products([CloudProduct(product_key=PK)], strict=True)) as bench:
        assert (await bench.ask(REGISTER)).startswith(b"HTTP/1.1 201 ")
        other = module.register(SERVER, mac=MAC, passcode=PASSCODE, product_key="f" * 32)
        assert await bench.error(other) == (400, 9002)


async def test_plain_registration_of_a_product_with_a_secret() -> None:
    plain = CloudProduct(product_key=PK, secret=SECRET)
    async with running(products=Products([plain])) as bench:
        assert (await bench.ask(REGISTER)).startswith(b"HTTP/1.1 201 ")
    for products in (
        Products([plain], require_secure=True),
        Products([dataclasses.replace(plain, encrypted=True)]),
    ):
        async with running(products=products) as bench:
            assert await bench.error(REGISTER) == (400, 9045)
            assert bench.store.devices() == []


def test_products() -> None:
    product = CloudProduct(product_key=PK.upper(), secret=SECRET)
    products = Products([product])
    assert products.get(PK) is products.get(PK.upper()) is product
    assert list(products) == [product]
    assert SECRET not in repr(product)
    with pytest.raises(ValueOutOfRange, match="no other product"):
        products.add(product)
    assert CloudProduct(product_key="Of_any_form").product_key == "Of_any_form"
    for bad in ("", "pet house", "a/b", "x" * 65):
        with pytest.raises(ValueOutOfRange, match="32 hexadecimal digits, or another word"):
            CloudProduct(product_key=bad)
    with pytest.raises(CipherError):
        CloudProduct(product_key=PK, secret="short")


async def test_the_vectors_of_g2(secure: Bench, vectors: Callable[[str], Any]) -> None:
    rows = {row["id"]: row["hex"] for row in vectors("device_cloud.json")["secure"]}
    data = "data=" + rows["G2-register"]
    head = f"POST /dev/{PK}/device HTTP/1.1\r\nHost:api.gizwits.com\r\nContent-Length:{len(data)}\r\n\r\n"
    for body in (data, "data=" + rows["G2-register"].upper()):
        assert await secure.ask((head + body).encode()) == text_answer(201, rows["G2-answer"])
    query = f"GET /dev/{PK}/device?did={rows['G2-did']}&tls=0 HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = chunk(await secure.ask(query.encode())).decode()
    assert answer == encrypt_hex(SECRET, decrypt_hex(SECRET, answer))
    assert decrypt_hex(SECRET, answer) == decrypt_hex(SECRET, rows["G2-provision"]).replace(
        "10.0.0.1", "m2m.local"
    )
    assert [event.secure for event in secure.told if isinstance(event, Registered)] == [True, True]


@pytest.mark.parametrize(
    "form",
    [
        f"mac={MAC}&passcode={PASSCODE}&auth_key=1&extra=",
        f"mac={MAC}&passcode={PASSCODE}&type=gateway&parent_did=&is_reset=1&random_code={'a' * 32}&v=5",
    ],
)
async def test_forms_of_g2(secure: Bench, form: str) -> None:
    body = f"data={encrypt_hex(SECRET, form)}"
    request = f"POST /dev/{PK}/device HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    assert module.parse_did(chunk(await secure.ask(request.encode())), SECRET) == DID
    device = secure.store.device(DID)
    assert device is not None
    reset = "is_reset=1" in form
    assert (device.resets, device.random_code) == ((1, "a" * 32) if reset else (0, None))


def g2(**changes: Any) -> module.HttpRequest:
    fields = {"mac": MAC, "passcode": PASSCODE, "product_key": PK, "product_secret": SECRET}
    return module.register_secure(SERVER, **(fields | changes))


async def test_three_forms_of_delete_in_g2(secure: Bench) -> None:
    await secure.ask(g2())
    in_query = f"DELETE /dev/{PK}/device?did={encrypt_hex(SECRET, DID)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    plain_body = f"did={DID}&passcode={PASSCODE}"
    plain = (
        f"DELETE /dev/{PK}/device HTTP/1.1\r\nHost: x\r\n"
        f"Content-Length: {len(plain_body)}\r\n\r\n{plain_body}"
    ).encode()
    encrypted = module.unregister_secure(
        SERVER, did=DID, passcode=PASSCODE, product_key=PK, product_secret=SECRET
    )
    requests: list[bytes | module.HttpRequest] = [encrypted, plain, in_query]
    requests.append(module.unregister(SERVER, did=DID, passcode=PASSCODE))
    for number, request in enumerate(requests):
        assert await secure.ask(request) == text_answer(200, "ok")
        device = secure.store.device(DID)
        assert device is not None
        assert device.resets == number + 1


async def test_errors_of_g2(secure: Bench) -> None:
    other = "f" * 32
    assert await secure.error(g2(product_key=other)) == (400, 9002)
    assert await secure.error(g2(product_secret=other)) == (400, 9015)
    assert await secure.error(g2(passcode="")) == (400, 9015)
    assert secure.store.devices() == []
    unknown = module.provision_secure(SERVER, DID, PK, SECRET)
    assert await secure.error(unknown) == (404, 9014)
    await secure.ask(g2())
    assert await secure.error(module.provision_secure(SERVER, DID, PK, other)) == (400, 9015)
    # A did in the query proves something only when it is encrypted.
    bare = f"DELETE /dev/{PK}/device?did={DID} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    assert await secure.error(bare) == (400, 9015)
    fields = {"did": DID, "product_key": PK, "product_secret": SECRET}
    assert await secure.error(module.unregister_secure(SERVER, passcode="wrong", **fields)) == (400, 9016)
    # The secret of one product proves nothing about the devices of another.
    secure.products.add(CloudProduct(product_key=other, secret=other))
    fields |= {"product_key": other, "product_secret": other}
    assert await secure.error(module.unregister_secure(SERVER, passcode=PASSCODE, **fields)) == (404, 9014)
    assert await secure.error(module.provision_secure(SERVER, DID, other, other)) == (404, 9014)
    device = secure.store.device(DID)
    assert device is not None
    assert device.resets == 0


# --- the server


async def silent(server: HttpServer, raw: bytes) -> bytes:
    """What a client gets that sends this and then nothing more, until the server closes."""
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(raw)
    answer = await asyncio.wait_for(reader.read(), FAR)
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    "raw", [b"", b"POST /dev/dev", REGISTER.raw[:-1]], ids=["nothing", "half a head", "half a body"]
)
async def test_a_slow_client_is_closed(raw: bytes) -> None:
    async with running(request_time=0.05) as bench:
        assert await silent(bench.server, raw) == b""
        assert bench.store.devices() == []
        assert await bench.ask(REGISTER)


async def test_a_slow_second_request_is_closed_too() -> None:
    async with running(request_time=0.05) as bench:
        first = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        answer = await silent(bench.server, first + b"POST /dev/dev")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_client_that_leaves_early(bench: Bench) -> None:
    for raw in (b"", b"POST /dev/dev", REGISTER.raw[:-1], REGISTER.raw):
        _, writer = await asyncio.open_connection(*bench.server.address)
        writer.write(raw)
        await writer.drain()
        writer.transport.abort()
    assert chunk(await bench.ask(REGISTER)) == f"did={DID}".encode()


async def test_stops_without_waiting_for_idle_connections(bench: Bench) -> None:
    writers = []
    for raw in (b"", b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n", REGISTER.raw, REGISTER.raw[:-1]):
        reader, writer = await asyncio.open_connection(*bench.server.address)
        writer.write(raw)
        if raw.endswith(b"\r\n\r\n") or raw is REGISTER.raw:
            await reader.read(64)
        writers.append(writer)
    address = bench.server.address
    started = time.monotonic()
    await bench.server.stop()
    assert time.monotonic() - started < 3.0
    await bench.server.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)
    with pytest.raises(RuntimeError, match="not started"):
        _ = bench.server.address
    for writer in writers:
        writer.transport.abort()


async def test_a_port_in_use(bench: Bench) -> None:
    port = bench.server.address[1]
    second = HttpServer(
        create_app(DeviceApi(store=bench.store, products=Products(), mqtt=lambda: ("", 1), now=lambda: 0)),
        port=port,
    )
    with pytest.raises(
        AddressError, match=rf"port {port} of 127\.0\.0\.1 is in use.*--http 127\.0\.0\.1:PORT"
    ):
        await second.start()
    await second.stop()


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("127.0.0.1", 70_000), ("a..b", 0)])
async def test_an_address_that_is_not_ours(bench: Bench, host: str, port: int) -> None:
    server = HttpServer(lambda *_: None, host=host, port=port)  # type: ignore[arg-type] # never called
    with pytest.raises(AddressError, match=r"cannot listen on .*--http"):
        await server.start()


# --- an application that is not kind to modules


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[tuple[str, int]]:
    server = HttpServer(app)
    await server.start()
    try:
        yield server.address
    finally:
        await server.stop()


def pieces(*bodies: bytes) -> Any:
    """An application that turns the loop between the pieces of its answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        headers = [(b"connection", b"close"), (b"Firmware-MD5", b"00"), (b"x-odd", b"A-b: c")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, body in enumerate(bodies, 1):
            await asyncio.sleep(0.02)
            await send({"type": "http.response.body", "body": body, "more_body": number < len(bodies)})

    return app


async def test_an_answer_in_pieces_leaves_in_one() -> None:
    async with serving(pieces(b"host=", b"x", b"")) as address:
        raw = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        answer = await asyncio.to_thread(one_recv, address, raw)
    assert answer == (
        b"HTTP/1.1 200 OK\r\nFirmware-MD5: 00\r\nX-Odd: A-b: c\r\nTransfer-Encoding: chunked\r\n"
        b"Connection: close\r\n\r\n6\r\nhost=x\r\n0\r\n\r\n"
    )


async def test_a_long_answer_is_not_held() -> None:
    size = 300_000
    async with serving(pieces(b"a" * size, b"b" * size)) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), FAR)
        writer.close()
        await writer.wait_closed()
    assert answer.endswith(b"\r\n\r\n" + b"a" * size + b"b" * size)


async def test_hold_start_lets_other_things_pass() -> None:
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        await send({"type": "x", "of": scope["type"]})
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200})

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    for kind in ("websocket", "http"):
        await HoldStart(app)({"type": kind}, receive, send)
    assert [message["type"] for message in sent] == ["x", "x", "http.response.start"]


def test_the_error_of_a_form_has_the_form_of_the_codec() -> None:
    error = module.ErrorAnswer(9016, "did or passcode invalid")
    assert b"Content-Length: " in error_answer(error)
