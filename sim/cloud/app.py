"""The embedded cloud: registration over HTTP, MQTT for devices and apps, one store."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from sim.cloud.app_side import AppSide
from sim.cloud.auth import CLIENT, Gate
from sim.cloud.broker import make_broker
from sim.cloud.config import Address, Advertised, CloudConfig
from sim.cloud.errors import AddressError
from sim.cloud.events import Event, Notice
from sim.cloud.http_device import DeviceApi
from sim.cloud.http_server import HttpServer, create_app
from sim.cloud.hub import Hub
from sim.cloud.mqtt_front import MqttFront
from sim.cloud.products import Products
from sim.cloud.recorder import Recorder
from sim.cloud.store import Store

if TYPE_CHECKING:
    from amqtt.broker import Broker


class EmbeddedCloud:
    """An asynchronous context manager: entering listens on every address, leaving closes everything.

    :param config: Where it listens and what it knows.
    :raises StoreError: the data directory cannot be used.
    """

    def __init__(self, config: CloudConfig | None = None) -> None:
        self.config: Final = config or CloudConfig()
        self._notices: list[str] = []
        self.store: Final = Store(self.config.data, told=self._notices.append)
        self.hub: Final = Hub(self.store)
        self.products: Final = Products(self.config.products, strict=self.config.strict_products)
        self.side: Final = AppSide(
            config=self.config, store=self.store, hub=self.hub, products=self.products, now=time.time
        )
        self.hub.subscribe(
            Recorder(
                self.store,
                self.side.history,
                product_of=self.side.product,
                tell=self.hub.tell,
                ours=CLIENT,
            )
        )
        self.addresses: dict[str, str] = {}
        """Name of the service → ``HOST:PORT`` where it really listens."""
        self._gate = Gate(self.store, adopt=self.config.adopt, told=self.hub.tell)
        self._api = DeviceApi(
            store=self.store,
            products=self.products,
            mqtt=self._mqtt_address,
            now=time.time,
            adopt=self.config.adopt,
            told=self.hub.tell,
        )
        self._mqtt: tuple[str, int] = ("", 0)
        self._http: HttpServer | None = None
        self._broker: Broker | None = None
        self._front: MqttFront | None = None

    def subscribe(self, observer: Callable[[Event], None]) -> Callable[[], None]:
        """Have a function told everything that happens; gives the function that ends it."""
        return self.hub.subscribe(observer)

    async def __aenter__(self) -> Self:
        """Listen.

        :raises AddressError: an address is in use and no other may be taken.
        """
        opened = False
        try:
            self._broker = make_broker()
            await self._broker.start()
            self._front = MqttFront(self._broker, self._gate, self.hub, pace=self.config.pace)
            self._mqtt = await self._listen_mqtt(self._front)
            await self._listen_http()
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
        if self._http is not None:
            await self._http.stop()
            self._http = None
        if self._front is not None:
            await self._front.close()
            self._front = None
        if self._broker is not None:
            await self._broker.shutdown()
            self._broker = None
        self.store.close()

    @property
    def notices(self) -> tuple[str, ...]:
        """What the store had to say while it was opened."""
        return tuple(self._notices)

    async def _listen_mqtt(self, front: MqttFront) -> tuple[str, int]:
        first: tuple[str, int] | None = None
        for number, text in enumerate(self.config.mqtt, start=1):
            address = Address.parse(text)
            try:
                host, port = await front.listen(address.host, address.port)
            except AddressError:
                if not self.config.auto_ports:
                    raise
                host, port = await front.listen(address.host, 0)
            first = first or (host, port)
            self.addresses["mqtt" if number == 1 else f"mqtt{number}"] = str(Address(host, port))
        if first is None:
            raise AddressError("at least one MQTT address is needed")
        return first

    async def _listen_http(self) -> None:
        address = Address.parse(self.config.http)
        app = create_app(self._api)
        try:
            self._http = HttpServer(app, host=address.host, port=address.port)
            await self._http.start()
        except AddressError:
            if not self.config.auto_ports:
                raise
            self._http = HttpServer(app, host=address.host, port=0)
            await self._http.start()
        host, port = self._http.address
        self.addresses = {"http": str(Address(host, port)), **self.addresses}

    def _mqtt_address(self) -> tuple[str, int]:
        """What provisioning tells; an unspecified host stands for the one under which a module reached us."""
        host, port = self._mqtt
        if self.config.advertise is not None:
            told = Advertised.parse(self.config.advertise)
            return told.host, told.port or port
        return host, port
