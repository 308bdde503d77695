"""An embedded cloud of the module's own, for ``gizsim module --cloud local`` and the demo."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from gizserial.m2m.http import Server
from gizserial.product import Product
from sim.cloud.app import EmbeddedCloud
from sim.cloud.config import Address, CloudConfig
from sim.cloud.show import CloudShow
from sim.show import Show


def server_of(cloud: EmbeddedCloud) -> Server:
    """Where a module on this machine reaches the cloud's HTTP API."""
    address = Address.parse(cloud.addresses["http"])
    return Server("127.0.0.1" if address.is_wildcard else address.host, address.port)


@contextlib.asynccontextmanager
async def local_cloud(product: Product | None, data: Path | None, show: Show) -> AsyncIterator[Server]:
    """Run a cloud on free ports and show what happens in it beside the serial line."""
    async with EmbeddedCloud(CloudConfig(auto_ports=True, data=data)) as cloud:
        show.said(0.0, f"cloud: HTTP {cloud.addresses['http']}, MQTT {cloud.addresses['mqtt']}")
        text = CloudShow(lambda _line: None, product_of=lambda _did: product).text
        cloud.subscribe(lambda event: show.cloud(text(event)))
        yield server_of(cloud)
