"""The OpenAPI document says what the cloud does: schemathesis asks every call for what it should not take."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance
from support_apps import APPID, app_cloud, bind, register

from sim.cloud.app import EmbeddedCloud
from sim.cloud.config import CloudConfig

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]
NOT_OF_APPS = r"^/(dev|admin)/"


def document() -> dict[str, Any]:
    cloud = EmbeddedCloud(CloudConfig())
    try:
        return cloud.application().openapi()
    finally:
        cloud.store.close()


DOCUMENT = document()
schema = schemathesis.openapi.from_dict(DOCUMENT).exclude(path_regex=NOT_OF_APPS)

Case = schemathesis.Case[Any]


class Served:
    """A cloud in a thread of its own, with a user who has a device."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(20)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        async with app_cloud() as cloud:
            user = cloud.side.accounts.anonymous(APPID, "fuzz")
            device = register(cloud)
            bind(cloud, user.uid, device)
            self.did = device.did
            self.base = f"http://{cloud.addresses['http']}"
            self.token = cloud.side.accounts.issue_token(user.uid, APPID).token
            self.app_token = cloud.side.accounts.issue_app_token(APPID).token
            self._ready.set()
            await self._stop.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    running = Served()
    yield running
    running.close()


@pytest.fixture(scope="module")
def client() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


FUZZ = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@schema.parametrize()
@FUZZ
def test_a_stranger_asks(case: Case, served: Served, client: requests.Session) -> None:
    """Whatever comes, without a good appid or token."""
    response = case.call(base_url=served.base, session=client)
    case.validate_response(response, checks=CHECKS)


@schema.parametrize()
@FUZZ
def test_a_user_asks(case: Case, served: Served, client: requests.Session) -> None:
    """Whatever comes, from a user of a registered app, about a device that he has."""
    case.headers.update(
        {
            "X-Gizwits-Application-Id": APPID,
            "X-Gizwits-User-token": served.token,
            "X-Gizwits-Application-Token": served.app_token,
        }
    )
    if "did" in (case.path_parameters or {}):
        case.path_parameters["did"] = served.did
    response = case.call(base_url=served.base, session=client)
    case.validate_response(response, checks=CHECKS)


def test_every_call_of_the_specification_is_in_it() -> None:
    """The CORE and COMMON calls of open-api.md, and the RARE ones, by section."""
    there = {
        (method.upper(), path)
        for path, methods in DOCUMENT["paths"].items()
        for method in methods
        if method in {"get", "post", "put", "patch", "delete"}
    }
    missing = [call for call in CALLS if call not in there]
    assert not missing


CALLS = [
    (method, path)
    for line in """
    POST PUT GET /app/users
    POST /app/login
    POST /app/request_token
    POST PUT /app/reset_password
    POST /app/sms_code
    POST /app/codes
    GET POST PUT /app/verify/codes
    POST /app/bind_mac
    GET POST DELETE /app/bindings
    PUT PATCH /app/bindings/{did}
    POST /app/bind_latest
    GET DELETE /app/{did}/bindings
    GET /app/device_register
    POST /app/provision
    GET /app/devices/{did}
    GET /app/devices
    GET /app/devdata/{did}/latest
    GET /app/devices/{did}/raw_data
    GET /app/datapoint
    GET /app/devdata/{did}
    GET /app/devdata
    GET /app/devdata2
    POST /app/control/{did}
    GET POST /app/group
    PUT DELETE /app/group/{id}
    GET POST DELETE /app/group/{id}/devices
    POST /app/group/{id}/control
    GET POST /app/sharing
    PUT DELETE /app/sharing/{id}
    GET POST /app/sharing/code/{code}
    PUT /app/sharing/{id}/alias
    POST /app/sharing/{did}/transfer
    GET /app/messages
    PUT /app/messages/{id}
    GET POST PUT /app/devices/{did}/scheduler
    PUT DELETE /app/devices/{did}/scheduler/{id}
    GET POST /app/scheduler
    DELETE /app/scheduler/{id}
    GET /app/scheduler/{id}/logs
    GET POST /app/common_scheduler
    PUT DELETE /app/common_scheduler/{id}
    GET POST /app/scene
    PUT POST DELETE /app/scene/{id}
    GET POST /app/scene/{id}/task
    GET /app/rules/params
    GET POST /app/rules
    PUT DELETE /app/rules/{rule_id}
    GET PUT /app/devdata/{did}/agg_data
    GET /status
    GET /errors
    POST /v1/products/{pk}/access_token
    GET /v1/products/{pk}/datapoint
    GET /v1/products/{pk}/devices
    GET /v1/products/{pk}/device_detail
    GET /v1/products/{pk}/devices/search
    POST /v1/products/{pk}/devices/{did}/control
    GET /v1/products/{pk}/devices/{did}/online
    GET /v1/products/{pk}/devices/{did}/cmd
    GET /v1/products/{pk}/devices/{did}/data
    POST DELETE /v1/products/{pk}/devices/bindings
    GET DELETE /v1/products/{pk}/subkey
    """.strip().splitlines()
    for *methods, path in [line.split()]
    for method in methods
]
