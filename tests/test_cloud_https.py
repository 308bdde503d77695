"""The cloud's HTTP server over TLS, with clients that verify its certificate."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from support_tls import strict_client

from sim.cloud.http_server import HttpServer
from sim.cloud.tls_accept import Handshakes
from sim.cloud.tls_identity import TlsIdentity

FAR = 5.0
"""Seconds after which a test that waits for the server has failed."""
LARGE = 3_000_000


@pytest.fixture(scope="module")
def identity() -> Iterator[TlsIdentity]:
    made = TlsIdentity.kept(None, now=time.time(), told=print)
    yield made
    made.close()


def make_app() -> FastAPI:
    app = FastAPI()

    @app.get("/status")
    async def status(request: Request) -> dict[str, str]:
        client = request.client
        return {"scheme": request.url.scheme, "client": f"{client.host}:{client.port}" if client else ""}

    @app.get("/large")
    async def large() -> Response:
        return Response(bytes(LARGE))

    @app.post("/size")
    async def size(request: Request) -> dict[str, int]:
        return {"size": len(await request.body())}

    @app.post("/refuse")
    async def refuse() -> Response:
        return Response("too much", 413, headers={"Connection": "close"})

    return app


@asynccontextmanager
async def running(identity: TlsIdentity, *, handshake_time: float = FAR) -> AsyncIterator[HttpServer]:
    server = HttpServer(make_app(), tls=identity.server_context(), handshake_time=handshake_time)
    await server.start()
    try:
        yield server
    finally:
        async with asyncio.timeout(FAR):
            await server.stop()


@pytest.fixture
async def server(identity: TlsIdentity) -> AsyncIterator[HttpServer]:
    async with running(identity) as made:
        yield made


@pytest.fixture
async def client(server: HttpServer, identity: TlsIdentity) -> AsyncIterator[httpx.AsyncClient]:
    url = f"https://localhost:{server.address[1]}"
    async with httpx.AsyncClient(
        verify=strict_client(identity.ca_pem), base_url=url, trust_env=False
    ) as made:
        yield made


async def secured(
    server: HttpServer, identity: TlsIdentity
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = strict_client(identity.ca_pem)
    return await asyncio.open_connection(*server.address, ssl=context, server_hostname="localhost")


async def test_one_connection_for_many_requests(client: httpx.AsyncClient) -> None:
    answers = [(await client.get("/status")).json() for _ in range(5)]
    assert {answer["scheme"] for answer in answers} == {"https"}
    assert len({answer["client"] for answer in answers}) == 1


async def test_many_connections_at_once(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(client.get("/status") for _ in range(20)))
    assert [answer.status_code for answer in answers] == [200] * 20


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
async def test_large_bodies_in_both_directions(client: httpx.AsyncClient, connection: str) -> None:
    headers = {"Connection": connection}
    assert len((await client.get("/large", headers=headers)).content) == LARGE
    answer = await client.post("/size", content=bytes(LARGE), headers=headers)
    assert answer.json() == {"size": LARGE}


async def test_a_client_that_reads_to_the_end(server: HttpServer, identity: TlsIdentity) -> None:
    reader, writer = await secured(server, identity)
    begun = time.monotonic()
    writer.write(b"GET /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(FAR):
        answer = await reader.read()
    assert time.monotonic() - begun < 1.5, "the connection lingers"
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()
    await writer.wait_closed()


async def test_a_request_byte_by_byte(server: HttpServer, identity: TlsIdentity) -> None:
    reader, writer = await secured(server, identity)
    for byte in b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n" * 2:
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    async with asyncio.timeout(FAR):
        for _ in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            await reader.readuntil(b"}")
    writer.close()
    await writer.wait_closed()


async def test_an_answer_before_the_whole_request(server: HttpServer, identity: TlsIdentity) -> None:
    # The client writes all that it has before it reads: a reset would take the answer away.
    reader, writer = await secured(server, identity)
    async with asyncio.timeout(FAR):
        writer.write(b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % LARGE)
        for _ in range(LARGE // 100_000):
            writer.write(bytes(100_000))
            await writer.drain()
        assert await reader.readuntil(b"too much")
    writer.close()
    await writer.wait_closed()


async def test_what_is_no_tls(server: HttpServer, client: httpx.AsyncClient) -> None:
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n")
    async with asyncio.timeout(FAR):
        assert not (await reader.read()).startswith(b"HTTP")
    writer.close()
    assert (await client.get("/status")).status_code == 200


async def test_clients_that_do_not_trust_us(server: HttpServer, client: httpx.AsyncClient) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection(
            *server.address, ssl=ssl.create_default_context(), server_hostname="localhost"
        )
    assert (await client.get("/status")).status_code == 200


async def test_a_handshake_that_takes_too_long(identity: TlsIdentity) -> None:
    async with running(identity, handshake_time=0.05) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"\x16\x03\x01")
        async with asyncio.timeout(FAR):
            assert await reader.read() == b""
        writer.close()


async def test_stops_in_the_middle_of_handshakes(identity: TlsIdentity) -> None:
    begun = time.monotonic()
    async with running(identity) as server:
        silent = [await asyncio.open_connection(*server.address) for _ in range(3)]
        idle = await secured(server, identity)
        gone = await asyncio.open_connection(*server.address)
        gone[1].write(b"\x16\x03\x01")
        gone[1].close()
        await gone[1].wait_closed()
    assert time.monotonic() - begun < FAR / 2
    for reader, writer in [*silent, idle]:
        async with asyncio.timeout(FAR):
            with suppress(ConnectionError, ssl.SSLError):  # an abort is an end too
                assert await reader.read() == b""
        writer.close()


async def test_streams_behind_the_handshake(identity: TlsIdentity) -> None:
    # As SNoti needs them: lines over TLS (snoti.md §2), the first one together with the end of the handshake.
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    loop = asyncio.get_running_loop()
    handshakes = Handshakes(
        identity.server_context(alpn=()),
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), echo),
    )
    server = await loop.create_server(handshakes.accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    def ask() -> bytes:
        context = strict_client(identity.ca_pem)
        with (
            socket.create_connection(("127.0.0.1", port), FAR) as plain,
            context.wrap_socket(plain, server_hostname="snoti.gizwits.com") as connection,
        ):
            connection.sendall(b"{}\n")
            return connection.recv(1024)

    assert await asyncio.to_thread(ask) == b"{}\n"
    server.close()
    await handshakes.stop()
    async with asyncio.timeout(FAR):
        await server.wait_closed()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl(server: HttpServer, identity: TlsIdentity) -> None:
    url = f"https://localhost:{server.address[1]}/status"
    process = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "--noproxy", "*", "--cacert", str(identity.ca_file), url, url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out.count(b'"scheme":"https"') == 2
