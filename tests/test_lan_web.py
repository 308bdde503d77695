"""The web form of SoftAP (lan.md §5): what is answered to which bytes, and the port that comes and goes."""

from __future__ import annotations

import asyncio

import pytest
from support_cloud_mqtt import until

from gizserial.lan import web
from gizserial.lan.messages import RouterData
from sim.lan_web import WebPort

PATIENCE = 20.0


def get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: 10.10.100.254\r\n\r\n".encode()


def test_the_form() -> None:
    answer = web.answer(get("/"))
    assert answer is not None
    assert answer.router is None
    head, _, page = answer.data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"Content-Length: {len(page)}".encode() in head
    for word in (b'action="/web_config.cgi"', b'method="get"', b'name="ssid"', b'name="pass"'):
        assert word in page


@pytest.mark.parametrize(
    ("query", "router"),
    [
        ("ssid=home&pass=12345678", RouterData("home", "12345678")),
        ("ssid=home&pass=", RouterData("home", "")),
        ("ssid=my%20home+x&pass=a%26b", RouterData("my%20home+x", "a%26b")),  # nothing is decoded ([V4])
        ("ssid=家&pass=a=b", RouterData("家", "a=b")),
        (f"ssid={'s' * 32}&pass={'p' * 32}", RouterData("s" * 32, "p" * 32)),
        (f"ssid={'s' * 33}&pass=x", None),
        (f"ssid=home&pass={'p' * 33}", None),
        ("ssid=&pass=x", None),
        ("pass=x", None),
        ("", None),
    ],
)
def test_what_is_stored(query: str, router: RouterData | None) -> None:
    answer = web.answer(get(f"/web_config.cgi?{query}"))
    assert answer is not None
    assert answer.router == router
    assert answer.data.startswith(b"HTTP/1.1 200 " if router else b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/favicon.ico"), 404),
        (b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 501),
        (b"\xff\xfe\r\n\r\n", 501),
        (b"x" * (web.MAX_HEAD + 1), 431),
    ],
)
def test_what_is_no_request_for_the_form(request_: bytes, status: int) -> None:
    answer = web.answer(request_)
    assert answer is not None
    assert answer.data.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.router is None


def test_a_request_may_come_in_pieces() -> None:
    whole = get("/web_config.cgi?ssid=home&pass=12345678")
    assert all(web.answer(whole[:end]) is None for end in range(len(whole)))


async def test_the_port_is_there_while_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "LEAVE_TIME", 0.0)
    given: list[RouterData] = []
    said: list[str] = []
    port = WebPort("127.0.0.1", 0, on_router_data=given.append, say=said.append)
    port.want(True)
    await until(lambda: port.address is not None)
    assert port.address is not None
    reader, writer = await asyncio.open_connection(*port.address)
    writer.write(get("/web_config.cgi?ssid=home&pass=12345678"))
    async with asyncio.timeout(PATIENCE):
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
    await until(lambda: given == [RouterData("home", "12345678")])
    assert said == [f"web form at http://127.0.0.1:{port.address[1]}/"]
    writer.close()
    await writer.wait_closed()
    port.want(False)
    await until(lambda: port.address is None)
    await port.close()


async def test_a_port_that_cannot_be_had_is_told() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    said: list[str] = []
    taken = server.sockets[0].getsockname()[1]
    port = WebPort("127.0.0.1", taken, on_router_data=lambda _: None, say=said.append)
    port.want(True)
    await until(lambda: bool(said))
    assert "--lan HOST:TCP:UDP:WEB" in said[0]
    assert str(taken) in said[0]
    await port.close()
    server.close()
    await server.wait_closed()
