"""The embedded cloud: registration over HTTP, MQTT for devices and apps, one store."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from sim.cloud.app_side import AppSide
from sim.cloud.auth import Gate
from sim.cloud.broker import make_broker
from sim.cloud.config import Address, Advertised, CloudConfig
from sim.cloud.errors import AddressError
from sim.cloud.events import Event, Notice
from sim.cloud.housekeeping import Housekeeping
from sim.cloud.http_device import DeviceApi
from sim.cloud.http_firmware import FirmwareApi
from sim.cloud.http_server import HttpServer, create_app
from sim.cloud.hub import Hub
from sim.cloud.mqtt_front import MqttFront
from sim.cloud.openapi.application import add_open_api
from sim.cloud.openapi.middleware import AppPaths
from sim.cloud.openapi.subkeys import subkey_calls
from sim.cloud.products import Products
from sim.cloud.recorder import Recorder
from sim.cloud.rules import RuleEngine
from sim.cloud.setup import Generated, Setup
from sim.cloud.snoti import SnotiServer
from sim.cloud.store import Store
from sim.cloud.tls_identity import HTTP, TlsIdentity
from sim.cloud.websocket import WebSocketServer
from sim.cloud.websocket_hub import WebSocketHub

if TYPE_CHECKING:
    from amqtt.broker import Broker
    from fastapi import FastAPI
    from starlette.types import ASGIApp


Listen = Callable[[str, int, ssl.SSLContext | None], Awaitable[tuple[str, int]]]
"""Opens a service: host, port (0: any free one) and TLS; gives the real address (:raises AddressError:)."""


class EmbeddedCloud:
    """An asynchronous context manager: entering listens on every address, leaving closes everything.

    :param config: Where it listens and what it knows.
    :param now: Unix seconds, for tokens, codes, schedulers and the signature of apps.
    :raises StoreError: the data directory cannot be used.
    """

    def __init__(self, config: CloudConfig | None = None, *, now: Callable[[], float] = time.time) -> None:
        self.config: Final = config or CloudConfig()
        self._notices: list[str] = []
        self.store: Final = Store(self.config.data, told=self._notices.append)
        self.hub: Final = Hub(self.store)
        self._setup = Setup(self.store.database)
        products = self._setup.products(self.config.products)
        self.products: Final = Products(products, strict=self.config.strict_products)
        self.side: Final = AppSide(
            config=self.config, store=self.store, hub=self.hub, products=self.products, now=now
        )
        self.hub.subscribe(Recorder(self.hub, self.side.history, product_of=self.side.product))
        self.addresses: dict[str, str] = {}
        """Name of the service → ``HOST:PORT`` where it really listens."""
        self._gate = Gate(self.store, adopt=self.config.adopt, told=self.hub.tell, secret_of=self._secret_of)
        firmware = FirmwareApi(
            firmwares=self.side.firmwares,
            host=lambda: self.side.endpoints.host,
            port=lambda: self.side.endpoints.http,
            now=now,
            told=self.hub.tell,
        )
        self._api = DeviceApi(
            store=self.store,
            products=self.products,
            mqtt=self._mqtt_address,
            now=now,
            firmware=firmware,
            adopt=self.config.adopt,
            told=self.hub.tell,
        )
        self._mqtt: tuple[str, int] = ("", 0)
        self._http: list[HttpServer] = []
        self._broker: Broker | None = None
        self._front: MqttFront | None = None
        self.sockets: Final = WebSocketHub(self.side, clock=time.monotonic)
        """Sessions of the WebSocket API."""
        self.side.lose_sessions = self.sockets.lose
        self._websocket = WebSocketServer(self.sockets, clock=time.monotonic)
        self._snoti = SnotiServer(self.side, clock=time.monotonic)
        self._tasks: list[asyncio.Task[None]] = []
        self._rules: RuleEngine | None = None
        self.tls: TlsIdentity | None = None
        """Certificate of the TLS services, when there are any."""

    def _secret_of(self, product_key: str) -> str | None:
        product = self.products.get(product_key)
        return None if product is None else product.secret

    def subscribe(self, observer: Callable[[Event], None]) -> Callable[[], None]:
        """Have a function told everything that happens; gives the function that ends it."""
        return self.hub.subscribe(observer)

    async def __aenter__(self) -> Self:
        """Listen.

        :raises AddressError: an address is in use and no other may be taken.
        """
        opened = False
        try:
            self._setup.apply(self.config, self.side)
            await self._listen()
            house = Housekeeping(self.side, renew=self._renew)
            self._tasks.append(asyncio.create_task(house.run()))
            self._tasks.append(asyncio.create_task(self.side.scheduling.run()))
            self._rules = RuleEngine(self.side)
            opened = True
        finally:
            if not opened:
                await self.close()
        for text in self._notices:
            self.hub.tell(Notice(at=time.time(), text=text))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        await self.close()

    async def close(self) -> None:
        """End all connections, then the broker, then the store. Safe to call twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._rules is not None:
            await self._rules.close()
            self._rules = None
        for server in self._http:
            await server.stop()
        self._http.clear()
        await self._websocket.close()
        await self._snoti.close()
        if self._front is not None:
            await self._front.close()
            self._front = None
        if self._broker is not None:
            await self._broker.shutdown()
            self._broker = None
        if self.tls is not None:
            self.tls.close()
            self.tls = None
        self.store.close()

    @property
    def notices(self) -> tuple[str, ...]:
        """What the store had to say while it was opened."""
        return tuple(self._notices)

    @property
    def generated(self) -> tuple[Generated, ...]:
        """Ids, keys and secrets that were made up at this start, with the secrets."""
        return tuple(self._setup.generated)

    # --- listening

    async def _listen(self) -> None:
        """Open every service of the configuration."""
        config = self.config
        self._broker = make_broker()
        await self._broker.start()
        self._front = front = MqttFront(self._broker, self._gate, self.hub, pace=config.pace)
        served = AppPaths(self.application())
        await self._open("http", config.http, partial(self._serve_http, served, "--http"))
        await self._open("https", config.https, partial(self._serve_http, served, "--https"), tls=True)
        for number, text in enumerate(config.mqtt, start=1):
            await self._open("mqtt" if number == 1 else f"mqtt{number}", text, front.listen)
        await self._open("mqtts", config.mqtts, front.listen, tls=True, alpn=())
        await self._open("ws", config.ws, self._websocket.listen)
        await self._open("wss", config.wss, self._websocket.listen, tls=True)
        await self._open("snoti", config.snoti, self._snoti.listen, tls=True, alpn=())
        first = Address.parse(self.addresses["mqtt"])
        self._mqtt = first.host, first.port
        self._tell_endpoints()

    def application(self) -> FastAPI:
        """Every HTTP call of modules and apps, with its OpenAPI document."""
        app = create_app(self._api)
        add_open_api(app, self.side)
        app.include_router(subkey_calls(self.side, self._snoti.queues).router)
        return app

    async def _open(
        self, name: str, text: str | None, listen: Listen, *, tls: bool = False, alpn: Sequence[str] = HTTP
    ) -> None:
        """Open one service; where its address is in use and it may, on any free port."""
        if text is None:
            return
        address = Address.parse(text)
        context = self._identity().server_context(alpn=alpn) if tls else None
        try:
            host, port = await listen(address.host, address.port, context)
        except AddressError:
            if not self.config.auto_ports and name not in self.config.optional:
                raise
            host, port = await listen(address.host, 0, context)
            if not self.config.auto_ports:
                self._notices.append(f"{text} is in use: {name} listens on {Address(host, port)}")
        self.addresses[name] = str(Address(host, port))

    async def _serve_http(
        self, app: ASGIApp, option: str, host: str, port: int, context: ssl.SSLContext | None
    ) -> tuple[str, int]:
        server = HttpServer(app, host=host, port=port, option=option, tls=context)
        await server.start()
        self._http.append(server)
        return server.address

    def _identity(self) -> TlsIdentity:
        """The certificate, made when the first service needs it."""
        if self.tls is None:
            config, now = self.config, time.time()
            if config.cert is not None:
                self.tls = TlsIdentity.own(config.cert, config.key, now=now, told=self._notices.append)
            else:
                texts = (config.https, config.wss, config.mqtts, config.snoti)
                hosts = [Address.parse(text).host for text in texts if text is not None]
                told = [Advertised.parse(config.advertise).host] if config.advertise is not None else []
                self.tls = TlsIdentity.kept(
                    config.data, hosts=(*hosts, *told, *config.names), now=now, told=self._notices.append
                )
        return self.tls

    def _renew(self, now: float) -> None:
        if self.tls is not None:
            self.tls.renew(now)

    def _tell_endpoints(self) -> None:
        """What device records tell apps of where the services are."""
        ends = self.side.endpoints
        for name in ("http", "https", "ws", "wss", "mqtt", "mqtts"):
            if name in self.addresses:
                setattr(ends, name, Address.parse(self.addresses[name]).port)
        here = Address.parse(self.addresses["http"])
        if self.config.advertise is not None:
            ends.host = Advertised.parse(self.config.advertise).host
        else:
            ends.host = "" if here.is_wildcard else here.host

    def _mqtt_address(self) -> tuple[str, int]:
        """What provisioning tells; an unspecified host stands for the one under which a module reached us."""
        host, port = self._mqtt
        if self.config.advertise is not None:
            told = Advertised.parse(self.config.advertise)
            return told.host, told.port or port
        return host, port
