"""Clients of the WebSocket API in tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from support_apps import APPID, RawDevice, app_cloud, bind, raw_device
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from sim.cloud.accounts import User
from sim.cloud.app import EmbeddedCloud

LAMP: Final = Path(__file__).parent.parent / "fixtures/products/websocket-lamp.json"
PATIENCE: Final = 20.0
"""Seconds after which a test that waits for a message has failed."""


def user_of(cloud: EmbeddedCloud, name: str = "phone1") -> tuple[User, str]:
    """A user and a token of his."""
    user = cloud.side.accounts.anonymous(APPID, name)
    return user, cloud.side.accounts.issue_token(user.uid, APPID).token


def login_message(user: User, granted: str, /, **members: Any) -> dict[str, Any]:
    """A ``login_req``; a member that is None is left out."""
    data = {"appid": APPID, "uid": user.uid, "token": granted, "p0_type": "attrs_v4", **members}
    return {"cmd": "login_req", "data": {name: value for name, value in data.items() if value is not None}}


class AppSocket:
    """One connection of an app."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, message: Any) -> None:
        """Send an object, or text or bytes as they are."""
        await self.connection.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def text(self, patience: float = PATIENCE) -> str:
        """The next message as it was sent."""
        async with asyncio.timeout(patience):
            text = await self.connection.recv()
        assert isinstance(text, str)
        return text

    async def messages(self) -> AsyncIterator[str]:
        """Every message until the socket is closed."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                yield await self.text()

    async def next(self) -> Any:
        """The next message."""
        return json.loads(await self.text())

    async def ask(self, message: Any) -> Any:
        """Send a message and give the next one that comes."""
        await self.send(message)
        return await self.next()

    async def login(self, user: User, token: str, **members: Any) -> None:
        assert await self.ask(login_message(user, token, **members)) == {
            "cmd": "login_res",
            "data": {"success": True},
        }

    async def silent(self) -> bool:
        """Nothing else was sent to it so far."""
        return bool((await self.ask({"cmd": "ping"}))["cmd"] == "pong")

    async def closed(self) -> int | None:
        """The close code, after reading on until the server closes."""
        async with asyncio.timeout(PATIENCE):
            await self.connection.wait_closed()
        return self.connection.close_code


def url_of(cloud: EmbeddedCloud, path: str = "/ws/app/v1") -> str:
    return f"ws://{cloud.addresses['ws']}{path}"


@contextlib.asynccontextmanager
async def app_socket(
    cloud: EmbeddedCloud, *, url: str | None = None, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[AppSocket]:
    async with connect(url or url_of(cloud), ssl=tls, proxy=None, **options) as connection:
        yield AppSocket(connection)


@contextlib.asynccontextmanager
async def logged_in(cloud: EmbeddedCloud, user: User, token: str, **members: Any) -> AsyncIterator[AppSocket]:
    async with app_socket(cloud) as socket:
        await socket.login(user, token, **members)
        yield socket


@contextlib.asynccontextmanager
async def websocket_cloud(product: Path = LAMP, **options: Any) -> AsyncIterator[EmbeddedCloud]:
    async with app_cloud(product, ws="127.0.0.1:0", **options) as cloud:
        yield cloud


@contextlib.asynccontextmanager
async def bound_device(
    cloud: EmbeddedCloud, *users: User, mac: str = "5ccf7f0a1b2c"
) -> AsyncIterator[RawDevice]:
    """A device that is on line, and that these users have."""
    async with raw_device(cloud, mac) as device:
        for user in users:
            bind(cloud, user.uid, device.device)
        yield device
