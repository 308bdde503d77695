"""Clouds in processes of their own, which a test may kill: a line of input is a data directory to serve.

They are forked from this process, one after the other: to import the cloud takes longer than what a test
does with it. Each tells its pid, its address and the notices of its start, or ``null`` when it ended by
itself. After the next line it is buried; until then the pid is its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from gizserial.io.products import load_product
from sim.cloud.app import EmbeddedCloud
from sim.cloud.config import CloudConfig
from sim.cloud.products import CloudProduct

LAMP = load_product(Path(__file__).parent.parent / "fixtures/products/ci-lamp.json")


def main() -> None:
    asyncio.run(warm())
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(serve(Path(line.removesuffix("\n"))))
            finally:
                tell(None)
        sys.stdin.readline()
        os.waitpid(child, 0)


async def warm() -> None:
    """What is made once in a process is made before the forks."""
    async with EmbeddedCloud(CloudConfig(http="127.0.0.1:0", mqtt=("127.0.0.1:0",))):
        pass


async def serve(data: Path) -> None:
    config = CloudConfig(
        http="127.0.0.1:0",
        mqtt=("127.0.0.1:0",),
        data=data,
        products=(CloudProduct(product_key=LAMP.product_key, product=LAMP),),
        accept_any_appid=True,
    )
    async with EmbeddedCloud(config) as cloud:
        tell({"pid": os.getpid(), "http": cloud.addresses["http"], "notices": cloud.notices})
        await asyncio.Event().wait()


def tell(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
