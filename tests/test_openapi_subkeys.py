"""Subkeys of SNoti over HTTP (snoti.md §7)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from support_apps import app_cloud
from test_snoti_vectors import AUTH, ODD, PK, listener, products

from sim.cloud.app import EmbeddedCloud

PATH = f"/v1/products/{PK}/subkey"
BASIC = (AUTH["auth_id"], AUTH["auth_secret"])


@pytest.fixture
async def cloud() -> AsyncIterator[EmbeddedCloud]:
    async with app_cloud(products=products(), snoti="127.0.0.1:0") as running:
        yield running


@pytest.fixture
async def http(cloud: EmbeddedCloud) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30, base_url=f"http://{cloud.addresses['http']}") as client:
        yield client


async def test_subkeys_are_listed_and_deleted(cloud: EmbeddedCloud, http: httpx.AsyncClient) -> None:
    assert (await http.get(PATH, auth=BASIC)).json() == {"subkeys": []}
    async with listener(cloud), listener(cloud, subkey="second"):
        assert (await http.get(PATH, auth=BASIC)).json() == {"subkeys": ["ci_runner_1", "second"]}
    deleted = await http.delete(PATH, params={"subkey": "ci_runner_1"}, auth=BASIC)
    assert (deleted.status_code, deleted.json()) == (200, {})
    assert (await http.get(PATH, auth=BASIC)).json() == {"subkeys": ["second"]}
    # Of another product there are others.
    other = await http.get(f"/v1/products/{ODD}/subkey", auth=(ODD, ODD))
    assert other.json() == {"subkeys": []}


async def test_deleting_makes_room_for_another(cloud: EmbeddedCloud, http: httpx.AsyncClient) -> None:
    for number in range(5):
        async with listener(cloud, subkey=f"s{number}"):
            pass
    await http.delete(PATH, params={"subkey": "s0"}, auth=BASIC)
    async with listener(cloud, subkey="another"):
        pass


async def test_deleting_twice_is_fine(http: httpx.AsyncClient) -> None:
    gone = await http.delete(PATH, params={"subkey": "never"}, auth=BASIC)
    assert (gone.status_code, gone.json()) == (200, {})


@pytest.mark.parametrize(
    "header",
    [b"", b"Basic", b"Basic x", b"Basic eA==", b"Basic OnNlY3JldA==", b"token abc", b"Basic \xff"],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_without_the_credentials(http: httpx.AsyncClient, method: str, header: bytes) -> None:
    refused = await http.request(method, PATH, params={"subkey": "x"}, headers={b"Authorization": header})
    assert (refused.status_code, refused.json()["error_code"]) == (401, 5009)
    assert AUTH["auth_secret"] not in refused.text


async def test_credentials_are_of_one_product(http: httpx.AsyncClient) -> None:
    assert (await http.get(PATH, auth=(ODD, ODD))).status_code == 401
    unknown = await http.get("/v1/products/unknown/subkey", auth=BASIC)
    assert (unknown.status_code, unknown.json()["error_code"]) == (404, 5015)


async def test_a_subkey_is_needed(http: httpx.AsyncClient) -> None:
    for params in ({}, {"subkey": ""}, {"subkey": "x" * 33}):
        refused = await http.delete(PATH, params=params, auth=BASIC)
        assert (refused.status_code, refused.json()["error_code"]) == (400, 5002)
