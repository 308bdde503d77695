"""Sharing and the messages about it (open-api.md §11, §12)."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support_apps import APPID, MAC, Person, app_cloud, person, register
from support_cloud_mqtt import until

from sim.cloud.app import EmbeddedCloud
from sim.cloud.device import Device
from sim.cloud.events import Bound, Event, Unbound

DAY = 86400.0


@dataclasses.dataclass
class Bench:
    """An owner with a device, a guest, and the clock."""

    cloud: EmbeddedCloud
    device: Device
    owner: Person
    guest: Person
    now: float
    told: list[Event]

    def offer(self, **members: Any) -> dict[str, Any]:
        return {"type": 0, "did": self.device.did, "uid": self.guest.uid, **members}

    async def offered(self, **members: Any) -> int:
        answer = await self.owner.ok("POST", "/app/sharing", self.offer(**members), status=201)
        assert answer["qr_content"] is None
        return int(answer["id"])

    async def code(self, **members: Any) -> str:
        answer = await self.owner.ok("POST", "/app/sharing", self.offer(type=1, **members), status=201)
        assert answer["id"] is None
        prefix, code = answer["qr_content"].split("&code=")
        assert (prefix, len(code)) == ("type=share", 32)
        return str(code)

    def happened(self) -> list[type[Event]]:
        return [type(event) for event in self.told]

    async def roles(self) -> list[str]:
        return [binding.role for binding in self.cloud.side.bindings.of_device(self.device.did)]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    moment = [1_700_000_000.0]
    async with (
        app_cloud(now=lambda: moment[0], token_time=30 * DAY) as cloud,
        person(cloud, "owner") as owner,
        person(cloud, "guest") as guest,
    ):
        device = register(cloud, MAC)
        cloud.side.bindings.bind(owner.uid, device, APPID)
        cloud.side.accounts.update(guest.uid, username="guest-name")
        told: list[Event] = []
        cloud.subscribe(told.append)

        class Clocked(Bench):
            def __setattr__(self, name: str, value: Any) -> None:
                if name == "now":
                    moment[0] = value
                object.__setattr__(self, name, value)

        yield Clocked(cloud, device, owner, guest, moment[0], told)


async def test_a_device_is_shared(bench: Bench) -> None:
    number = await bench.offered()
    assert await bench.roles() == ["owner"]  # the first sharing makes a special user owner
    (sent,) = (await bench.owner.ok("GET", "/app/sharing", sharing_type=0))["objects"]
    assert set(sent) == {
        "id",
        "type",
        "uid",
        "user_alias",
        "username",
        "email",
        "phone",
        "did",
        "product_name",
        "dev_alias",
        "status",
        "created_at",
        "updated_at",
        "expired_at",
    }
    assert (sent["id"], sent["status"], sent["username"]) == (number, 0, "gue****ame")
    assert sent["expired_at"] == "2023-11-15T22:13:20Z"
    received = await bench.guest.ok("GET", "/app/sharing", sharing_type=1)
    assert received["objects"][0]["uid"] == bench.owner.uid
    assert received["meta"] == {"total": 1, "limit": 20, "skip": 0, "previous": None, "next": None}


async def test_accepting_and_cancelling(bench: Bench) -> None:
    number = await bench.offered()
    assert await accept(bench, number) == {"id": number}
    assert await bench.roles() == ["owner", "guest"]
    assert bench.happened() == [Bound]
    (record,) = (await bench.guest.ok("GET", "/app/bindings"))["devices"]
    assert record["role"] == "guest"
    await bench.guest.refused(9081, "POST", "/app/sharing", bench.offer(uid=bench.owner.uid), status=400)
    await bench.guest.refused(9093, "DELETE", f"/app/sharing/{number}", status=403)
    assert await bench.owner.ok("DELETE", f"/app/sharing/{number}") == {"id": number}
    assert await bench.guest.ok("GET", "/app/bindings") == {"devices": []}
    assert bench.happened() == [Bound, Unbound]
    await bench.owner.refused(9094, "DELETE", f"/app/sharing/{number}", status=400)
    await bench.owner.refused(9084, "DELETE", "/app/sharing/999", status=404)
    await bench.owner.refused(9084, "DELETE", "/app/sharing/none", status=404)


async def accept(bench: Bench, number: int, status: int = 1) -> Any:
    answer = await bench.guest.http.put(f"/app/sharing/{number}", params={"status": status})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def put(one: Person, path: str, **query: Any) -> int:
    answer = await one.http.put(path, params=query)
    return int(answer.json().get("error_code", 0))


async def test_who_may_not_share(bench: Bench) -> None:
    await bench.owner.refused(9080, "POST", "/app/sharing", bench.offer(uid=bench.owner.uid), status=400)
    await bench.owner.refused(9082, "POST", "/app/sharing", bench.offer(uid="nobody"), status=404)
    await bench.guest.refused(9017, "POST", "/app/sharing", bench.offer(uid=bench.owner.uid), status=401)
    await bench.owner.refused(9014, "POST", "/app/sharing", bench.offer(did="none"), status=404)
    for bad in ({"uid": None}, {"type": 2}, {"duration": 0}, {"duration": 1441}):
        await bench.owner.refused(9015, "POST", "/app/sharing", bench.offer(**bad), status=400)
    await bench.offered()
    await bench.owner.refused(9087, "POST", "/app/sharing", bench.offer(), status=400)
    bench.cloud.side.bindings.bind(bench.guest.uid, bench.device, APPID, role="guest")
    await bench.owner.refused(9083, "POST", "/app/sharing", bench.offer(), status=400)


async def test_normal_users_become_guests(bench: Bench) -> None:
    async with person(bench.cloud, "third") as third:
        bench.cloud.side.bindings.bind(third.uid, bench.device, APPID)
        assert await bench.roles() == ["special", "normal"]
        await third.refused(9081, "POST", "/app/sharing", bench.offer(), status=400)
        await bench.offered()
        assert await bench.roles() == ["owner", "guest"]


async def test_refusing(bench: Bench) -> None:
    number = await bench.offered(uid=None, username="guest-name")
    assert await accept(bench, number, 2) == {"id": number}
    assert await bench.roles() == ["owner"]
    assert await put(bench.guest, f"/app/sharing/{number}", status=1) == 9089
    assert (await bench.owner.ok("GET", "/app/sharing", sharing_type=0))["objects"][0]["status"] == 2


async def test_offers_that_cannot_be_accepted(bench: Bench) -> None:
    number = await bench.offered()
    async with person(bench.cloud, "third") as third:
        assert await put(third, f"/app/sharing/{number}", status=1) == 9101
    assert await put(bench.guest, "/app/sharing/77", status=1) == 9084
    assert await put(bench.guest, f"/app/sharing/{number}") == 9015
    bench.now += DAY + 1
    assert await put(bench.guest, f"/app/sharing/{number}", status=1) == 9088
    await bench.offered()  # an expired offer is pending no more


async def test_a_qr_code(bench: Bench) -> None:
    code = await bench.code()
    path = f"/app/sharing/code/{code}"
    assert await bench.guest.ok("GET", path) == {
        "owner": None,
        "product_name": "ci_lamp",
        "dev_alias": "",
        "expired_at": "2023-11-14T22:28:20Z",
    }
    await bench.owner.refused(9096, "GET", path, status=403)
    await bench.owner.refused(9096, "POST", path, status=403)
    for method in ("GET", "POST"):
        await bench.guest.refused(9084, method, "/app/sharing/code/none", status=404)
    assert await bench.guest.ok("POST", path) == {}
    assert await bench.roles() == ["owner", "guest"]
    await bench.guest.refused(9089, "POST", path, status=400)
    late = await bench.code()
    bench.now += 15 * 60 + 1
    for method in ("GET", "POST"):
        await bench.guest.refused(9088, method, f"/app/sharing/code/{late}", status=400)


async def test_a_guest_for_an_hour(bench: Bench) -> None:
    number = await bench.offered(duration=60)
    bench.now += 1000  # the hour begins with the acceptance
    await accept(bench, number)
    bench.now += 3599
    assert bench.cloud.side.bindings.expire() == bench.now + 1
    assert await bench.roles() == ["owner", "guest"]
    bench.now += 2
    bench.cloud.side.bindings.expire()
    assert await bench.roles() == ["owner"]


async def test_the_hour_of_a_guest_ends_by_itself(bench: Bench) -> None:
    """The cloud's own task notices, in real time."""
    ends = bench.now + 0.05
    bench.cloud.side.bindings.bind(bench.guest.uid, bench.device, APPID, role="guest", ends=ends)
    bench.now = ends
    await until(lambda: bench.cloud.side.bindings.get(bench.guest.uid, bench.device.did) is None)


async def test_alias_and_transfer(bench: Bench) -> None:
    number = await bench.offered()
    await accept(bench, number)
    for one in (bench.owner, bench.guest):
        assert await put(one, f"/app/sharing/{number}/alias", user_alias="奶奶") == 0
    (sent,) = (await bench.owner.ok("GET", "/app/sharing", sharing_type=0))["objects"]
    assert sent["user_alias"] == "奶奶"
    path = f"/app/sharing/{bench.device.did}/transfer"
    async with person(bench.cloud, "third") as third:
        assert await put(third, f"/app/sharing/{number}/alias", user_alias="x") == 9100
        await bench.owner.refused(9082, "POST", path, uid=third.uid, status=404)
    await bench.guest.refused(9093, "POST", path, uid=bench.owner.uid, status=403)
    assert await bench.owner.ok("POST", path, uid=bench.guest.uid) == {}
    assert await bench.roles() == ["owner"]
    assert await bench.owner.ok("GET", "/app/bindings") == {"devices": []}
    (record,) = (await bench.guest.ok("GET", "/app/bindings"))["devices"]
    assert record["role"] == "owner"


async def test_messages(bench: Bench) -> None:
    number = await bench.offered()
    await accept(bench, number)
    await bench.owner.ok("DELETE", f"/app/sharing/{number}")
    for one in (bench.owner, bench.guest):
        page = await one.ok("GET", "/app/messages", type=1)
        events = [message["content"]["event"] for message in page["objects"]]
        assert events == ["cancelled", "accepted", "offered"]
        assert set(page["objects"][0]) == {"id", "type", "status", "content", "created_at", "updated_at"}
    first = page["objects"][0]["id"]
    assert await put(bench.guest, f"/app/messages/{first}", status=1) == 0
    assert (await bench.guest.ok("GET", "/app/messages"))["objects"][0]["status"] == 1
    assert await put(bench.owner, f"/app/messages/{first}", status=1) == 9101
    assert await put(bench.guest, "/app/messages/none", status=1) == 9085
    assert await put(bench.guest, f"/app/messages/{first}", status=3) == 9015
    assert await put(bench.guest, f"/app/messages/{first}", status=2) == 0
    assert await put(bench.guest, f"/app/messages/{first}", status=1) == 9098
    page = await bench.guest.ok("GET", "/app/messages", limit=1)
    assert page["meta"] == {
        "total": 2,
        "limit": 1,
        "skip": 0,
        "previous": None,
        "next": "/app/messages?limit=1&skip=1",
    }


async def test_after_a_transfer_the_old_owner_has_no_say(bench: Bench) -> None:
    number = await bench.offered(duration=60)
    await accept(bench, number)
    path = f"/app/sharing/{bench.device.did}/transfer"
    await bench.owner.ok("POST", path, uid=bench.guest.uid)
    await bench.owner.ok("DELETE", f"/app/sharing/{number}")
    assert await bench.roles() == ["owner"]
    bench.now += 3601  # the hour of the guest is not the owner's
    bench.cloud.side.bindings.expire()
    assert await bench.roles() == ["owner"]


async def test_what_was_offered_ends_with_the_owner(bench: Bench) -> None:
    code, number = await bench.code(), await bench.offered()
    await bench.owner.ok("DELETE", "/app/bindings", {"devices": [{"did": bench.device.did}]})
    await bench.guest.refused(9089, "POST", f"/app/sharing/code/{code}", status=400)
    assert await put(bench.guest, f"/app/sharing/{number}", status=1) == 9089
    assert await bench.roles() == []


async def test_what_was_offered_ends_with_a_reset(bench: Bench) -> None:
    code = await bench.code()
    form = f"did={bench.device.did}&passcode={bench.device.passcode}"
    await bench.owner.http.request("DELETE", "/dev/devices", content=form)
    await bench.guest.refused(9089, "POST", f"/app/sharing/code/{code}", status=400)
    assert await bench.roles() == []


async def test_an_offer_to_somebody_who_has_it(bench: Bench) -> None:
    number, code = await bench.offered(), await bench.code()
    await bench.guest.ok("POST", f"/app/sharing/code/{code}")
    assert await put(bench.guest, f"/app/sharing/{number}", status=1) == 9083


async def test_the_end_of_a_guest_is_told_to_both(bench: Bench) -> None:
    await accept(bench, await bench.offered(duration=1))
    bench.now += 61
    bench.cloud.side.bindings.expire()
    for one in (bench.owner, bench.guest):
        newest = (await one.ok("GET", "/app/messages"))["objects"][0]
        assert newest["content"]["event"] == "ended"
    await bench.guest.refused(9015, "GET", "/app/messages", type=10**30)


async def test_a_void_binding_that_ends_is_removed(bench: Bench) -> None:
    """As a crash between a reset and its consequences leaves it."""
    await accept(bench, await bench.offered(duration=1))
    store = bench.cloud.store
    store.unregister(bench.device.did, None)
    bench.now += 61
    assert bench.cloud.side.bindings.expire() is None
    assert store.database.one("SELECT count(*) FROM binding WHERE ends IS NOT NULL") == (0,)
