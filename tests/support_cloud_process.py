"""A cloud in a process of its own, which a test may kill: ``python support_cloud_process.py DATA``."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from gizserial.io.products import load_product
from sim.cloud.app import EmbeddedCloud
from sim.cloud.config import CloudConfig
from sim.cloud.products import CloudProduct

LAMP = Path(__file__).parent.parent / "fixtures/products/ci-lamp.json"


async def main() -> None:
    lamp = load_product(LAMP)
    config = CloudConfig(
        http="127.0.0.1:0",
        mqtt=("127.0.0.1:0",),
        data=Path(sys.argv[1]),
        products=(CloudProduct(product_key=lamp.product_key, product=lamp),),
        accept_any_appid=True,
    )
    async with EmbeddedCloud(config) as cloud:
        for notice in cloud.notices:
            sys.stderr.write(f"{notice}\n")
        sys.stdout.write(json.dumps(cloud.addresses) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
