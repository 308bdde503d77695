"""SIGKILL during writes, again and again: the database opens, and what was acknowledged is there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

PK = "0123456789abcdef0123456789abcdef"
PASSCODE = "ABCDEFGHIJ"
APP = {"X-Gizwits-Application-Id": "a1b2c3d4e5f60718293a4b5c6d7e8f90"}
KILLS = 10
"""In each of the five runs: 50 in all."""


class Clouds:
    """Starts clouds, one after the other, each in a process of its own."""

    def __init__(self, starter: subprocess.Popen[str]) -> None:
        assert starter.stdin is not None
        assert starter.stdout is not None
        self._ask, self._told = starter.stdin, starter.stdout

    @contextlib.contextmanager
    def served(self, data: Path) -> Iterator[tuple[str, Callable[[], None]]]:
        """A cloud: its address, and what kills it. In the end it is killed at any rate."""
        self._say(str(data))
        started = json.loads(self._told.readline())
        assert started is not None, "the cloud did not start"
        kill = partial(os.kill, started["pid"], signal.SIGKILL)
        try:
            assert not any("damaged" in notice for notice in started["notices"]), started
            yield f"http://{started['http']}", kill
        finally:
            kill()
            self._say("")

    def _say(self, line: str) -> None:
        self._ask.write(f"{line}\n")
        self._ask.flush()


@pytest.fixture(scope="module")
def clouds() -> Iterator[Clouds]:
    command = [sys.executable, str(Path(__file__).parent / "support_cloud_process.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        yield Clouds(starter)


class Acknowledged:
    """What the cloud said it has done."""

    def __init__(self) -> None:
        self.users: dict[str, str] = {}
        """Name → uid; the password is the name."""
        self.tokens: dict[str, str] = {}
        self.dids: dict[str, str] = {}
        self.remarks: dict[tuple[str, str], str] = {}
        """(uid, did) → the last remark that was acknowledged."""
        self.attempted: dict[tuple[str, str], set[str]] = {}
        """Remarks that may have been stored, although nobody heard so."""
        self.unbound: set[tuple[str, str]] = set()

    def write(self, client: httpx.Client, number: int) -> None:
        """One user with one device: five writes, each remembered when it is acknowledged."""
        name, mac = f"user-{number}", f"{number:012x}"
        form = f"passcode={PASSCODE}&mac={mac}&product_key={PK}"
        self.dids[mac] = client.post("/dev/devices", content=form).text.removeprefix("did=").strip()
        granted = ok(client.post("/app/users", json={"username": name, "password": name}), 201)
        self.users[name], self.tokens[name] = granted["uid"], granted["token"]
        key = granted["uid"], self.dids[mac]
        headers = {"X-Gizwits-User-token": granted["token"]}
        listed = {"devices": [{"did": key[1], "passcode": PASSCODE, "remark": "first"}]}
        assert ok(client.post("/app/bindings", json=listed, headers=headers))["success"] == [key[1]]
        self.remarks[key] = "first"
        self.attempted[key] = {"second"}
        ok(client.put(f"/app/bindings/{key[1]}", json={"remark": "second"}, headers=headers))
        self.remarks[key] = "second"
        if number % 3 == 0:
            self.unbound.add(key)
            self.attempted[key].add("unbound")
            ok(client.request("DELETE", "/app/bindings", json=listed, headers=headers))
            del self.remarks[key]

    def check(self, client: httpx.Client) -> None:
        """Everything that was acknowledged is there."""
        for name, uid in self.users.items():
            headers = {"X-Gizwits-User-token": self.tokens[name]}
            devices = {
                record["did"]: record["remark"]
                for record in ok(client.get("/app/bindings", headers=headers))["devices"]
            }
            for key, remark in self.remarks.items():
                if key[0] == uid and "unbound" not in self.attempted[key]:
                    assert devices[key[1]] in {remark, *self.attempted[key]}
            for key in self.unbound - self.remarks.keys():
                assert key[0] != uid or key[1] not in devices
        for mac, did in self.dids.items():
            query = {"product_key": PK, "mac": mac}
            assert ok(client.get("/app/devices", params=query))["did"] == did

    def check_passwords(self, client: httpx.Client) -> None:
        """Users can log in again (their passwords take a while to check: the last ones only)."""
        for name, uid in list(self.users.items())[-5:]:
            assert ok(client.post("/app/login", json={"username": name, "password": name}))["uid"] == uid


def ok(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_what_was_acknowledged_survives(seed: int, tmp_path: Path, clouds: Clouds) -> None:
    random = Random(seed)
    known, number = Acknowledged(), seed * 1000
    for _ in range(KILLS):
        with (
            clouds.served(tmp_path) as (base, kill),
            httpx.Client(timeout=30, base_url=base, headers=APP) as client,
        ):
            known.check(client)
            # The clock starts after a first round: a slow machine too has acknowledged something.
            number += 1
            known.write(client, number)
            killer = threading.Timer(random.uniform(0.01, 0.25), kill)
            killer.start()
            with contextlib.suppress(httpx.TransportError):
                while True:
                    number += 1
                    known.write(client, number)
            killer.join()
    with clouds.served(tmp_path) as (base, _), httpx.Client(timeout=30, base_url=base, headers=APP) as client:
        known.check(client)
        known.check_passwords(client)
        assert known.remarks
