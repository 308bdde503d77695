"""An embedded cloud for tests, asked as an app asks it: ``gizwits_cloud``."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from gizserial.describe import json_value
from gizserial.m2m.http import Server
from gizserial.product import Product
from sim.pytest_plugin.stage import Entered, Stage
from sim.pytest_plugin.station import TIMEOUT, NotSeenError, Wanted, merged

if TYPE_CHECKING:
    from sim.cloud.app import EmbeddedCloud

NEEDED: Final = ("amqtt", "cryptography", "fastapi", "h11", "uvicorn", "websockets", "yaml")
"""Modules of the extra."""
APPID: Final = "0" * 31 + "1"
USERNAME: Final = "test@example.com"
PASSWORD: Final = "test"  # noqa: S105 - a user in memory
POLL: Final = 0.02
"""Seconds between two looks at what the cloud has."""


def missing() -> str:
    """Why there can be no cloud; empty when there can."""
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if not absent:
        return ""
    return (
        f"gizwits_cloud needs the extra 'cloud' ({', '.join(absent)} missing): pip install 'gizserial[cloud]'"
    )


@dataclasses.dataclass(frozen=True, slots=True)
class CloudUser:
    """Somebody who is logged in."""

    uid: str
    token: str = dataclasses.field(repr=False)


class CloudRefusedError(AssertionError):
    """The cloud refused a call; the sentence has its code."""


class TestCloud:
    """A running cloud that knows the product.

    :ivar app: The cloud itself, for what no helper does; only its loop may touch it.
    """

    __test__ = False

    def __init__(self, stage: Stage, product: Product) -> None:
        self.product: Final = product
        self._stage = stage
        self._users: dict[str, CloudUser] = {}
        self._entered: Entered[Any] | None = None
        self.did_of_module: Callable[[], str] = lambda: ""

    def open(self) -> None:
        """Start it."""
        self.app = self._stage.call(self._made())
        self._entered = self._stage.enter(self.app)

    async def _made(self) -> EmbeddedCloud:
        """In the loop, because its database belongs to the thread that opens it."""
        from sim.cloud.app import EmbeddedCloud
        from sim.cloud.config import AppConfig, CloudConfig
        from sim.cloud.products import CloudProduct

        product = self.product
        return EmbeddedCloud(
            CloudConfig(
                auto_ports=True,
                http="127.0.0.1:0",
                mqtt=("127.0.0.1:0",),
                products=(CloudProduct(product_key=product.product_key, product=product),),
                apps=(AppConfig(appid=APPID, appsecret="0" * 32),),
            )
        )

    def close(self) -> None:
        """Stop it."""
        if self._entered is not None:
            self._entered.leave()
            self._entered = None

    @property
    def server(self) -> Server:
        """Where a module reaches it."""
        from sim.local_cloud import server_of

        return server_of(self.app)

    @property
    def url(self) -> str:
        """Base of the Open API."""
        return f"http://{self.app.addresses['http']}"

    # --- users and devices

    def user(self, name: str = USERNAME, password: str = PASSWORD) -> CloudUser:
        """A user who is logged in; he is made when he is new."""
        if name not in self._users:
            made = self.call("POST", "/app/users", {"username": name, "password": password})
            self._users[name] = CloudUser(made["uid"], made["token"])
        return self._users[name]

    @property
    def did(self) -> str:
        """The device id of the test's module; empty before it has registered."""
        return self.did_of_module()

    def wait_online(self, *, timeout: float = TIMEOUT) -> str:
        """Wait until the test's module is on line, and give its did.

        :raises NotSeenError: it does not come.
        """
        __tracebackhide__ = True
        ends = time.monotonic() + timeout
        while not (self.did and self._is_online(self.did)):
            if time.monotonic() > ends:
                raise NotSeenError(f"the device did not come on line within {timeout:g} s")
            time.sleep(POLL)
        return self.did

    def _is_online(self, did: str) -> bool:
        async def work() -> bool:
            return self.app.hub.is_online(did)

        return self._stage.call(work())

    def bind(self, user: CloudUser | None = None, *, timeout: float = TIMEOUT) -> str:
        """Wait for the device, bind it to a user, and give its did."""
        __tracebackhide__ = True
        did = self.wait_online(timeout=timeout)
        user = user or self.user()

        async def work() -> None:
            side = self.app.side
            side.bind(user.uid, side.device(did), APPID)

        self._stage.call(work())
        return did

    def _bound(self, user: CloudUser) -> str:
        did = self.did
        if did not in {device["did"] for device in self.call("GET", "/app/bindings", user=user)["devices"]}:
            return self.bind(user)
        return did

    # --- data points

    def control(self, values: Wanted = None, /, *, user: CloudUser | None = None, **more: object) -> None:
        """Set values through the Open API, as a bound user; the device is bound when it is not yet.

        :raises CloudRefusedError: the cloud refuses it.
        """
        __tracebackhide__ = True
        who = user or self.user()
        attrs = {name: json_value(value) for name, value in merged(values, more).items()}
        self.call("POST", f"/app/control/{self._bound(who)}", {"attrs": attrs}, user=who)

    def latest(self, *, user: CloudUser | None = None) -> dict[str, Any]:
        """The values that the cloud knows, as the Open API shows them."""
        __tracebackhide__ = True
        who = user or self.user()
        attr: dict[str, Any] = self.call("GET", f"/app/devdata/{self._bound(who)}/latest", user=who)["attr"]
        return attr

    def wait_latest(
        self, values: Wanted = None, /, *, timeout: float = TIMEOUT, **more: object
    ) -> dict[str, Any]:
        """Wait until the cloud knows these values, and give all that it knows.

        :raises NotSeenError: it did not come to know them.
        """
        __tracebackhide__ = True
        wanted = {name: json_value(value) for name, value in merged(values, more).items()}
        ends = time.monotonic() + timeout
        while True:
            known = self.latest()
            if all(known.get(name) == value for name, value in wanted.items()):
                return known
            if time.monotonic() > ends:
                had = {name: known.get(name) for name in wanted}
                raise NotSeenError(f"the cloud has {had}, not {wanted}, after {timeout:g} s")
            time.sleep(POLL)

    def call(
        self, method: str, path: str, body: object = None, *, user: CloudUser | None = None
    ) -> dict[str, Any]:
        """One call of the Open API.

        :raises CloudRefusedError: the cloud refuses it.
        """
        __tracebackhide__ = True
        headers = {"X-Gizwits-Application-Id": APPID, "Content-Type": "application/json"}
        if user is not None:
            headers["X-Gizwits-User-token"] = user.token
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)  # noqa: S310 - our own
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with contextlib.closing(opener.open(request, timeout=TIMEOUT)) as answer:
                result: dict[str, Any] = json.load(answer)
                return result
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(4096).decode("utf-8", "replace")
            refusal = f"{method} {path}: the cloud answers {error.code} {said}"
        raise CloudRefusedError(refusal)
