"""The page that shows every call of the cloud."""

from __future__ import annotations

import re

from support_apps import app_cloud, visitor


async def test_the_page_needs_no_other_host() -> None:
    async with app_cloud() as cloud, visitor(cloud) as client:
        answer = await client.get("/docs")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert not re.search(r"https?://|//cdn", answer.text)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "connect-src 'self'" in policy
        assert (await client.get("/openapi.json")).json()["paths"]["/app/login"]["post"]["tags"] == ["Users"]


async def test_the_address_alone_leads_to_it() -> None:
    async with app_cloud() as cloud, visitor(cloud) as client:
        answer = await client.get("/")
        assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
