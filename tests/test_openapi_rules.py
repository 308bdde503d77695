"""Linkage rules (open-api.md §15)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support_apps import LAMP, Person, RawDevice, app_cloud, bind, person, raw_device
from support_cloud_mqtt import until

from gizserial.io.products import load_product
from sim.cloud.app import EmbeddedCloud
from sim.cloud.linkage import Rule, holds, params, starts

OFF = bytes.fromhex("000000030a00009001010000000000")
HOT = {"temp": 60}


@pytest.fixture
async def cloud() -> AsyncIterator[EmbeddedCloud]:
    async with app_cloud() as running:
        yield running


@pytest.fixture
async def device(cloud: EmbeddedCloud) -> AsyncIterator[RawDevice]:
    async with raw_device(cloud) as online:
        yield online


@pytest.fixture
async def user(cloud: EmbeddedCloud, device: RawDevice) -> AsyncIterator[Person]:
    async with person(cloud) as somebody:
        bind(cloud, somebody.uid, device.device)
        yield somebody


def rule(did: str, **change: Any) -> dict[str, Any]:
    return {
        "name": "too hot",
        "did": did,
        "event": "data",
        "input": [{"did": did, "prefix": "lamp", "product_key": ""}],
        "condition": [[{"left": "lamp.temp", "opt": ">", "right": "50"}]],
        "output": [[{"type": "devctrl", "did": did, "attrs": {"power": False}}]],
        **change,
    }


async def test_a_rule_is_carried_out(cloud: EmbeddedCloud, device: RawDevice, user: Person) -> None:
    did = device.device.did
    number = (await user.ok("POST", "/app/rules", rule(did, interval=3600), status=201))["rule_id"]
    assert isinstance(number, int)
    device.report(temp=20)
    await until(lambda: cloud.side.device(did).state.get("temp") == 20)
    assert await device.silent()
    device.report(temp=60)
    assert await device.received() == OFF
    device.report(temp=61)  # within the interval
    await until(lambda: cloud.side.device(did).state.get("temp") == 61)
    assert await device.silent()


async def test_faults_start_rules(cloud: EmbeddedCloud, device: RawDevice, user: Person) -> None:
    did = device.device.did
    body = rule(did, event="fault", event_attr={"attr_name": "fault_heat", "value": 1}, condition=[])
    await user.ok("POST", "/app/rules", body, status=201)
    device.report(fault_heat=False)
    device.report(fault_heat=True)
    assert await device.received() == OFF
    device.report(fault_heat=True)
    device.report(fault_heat=False)
    await until(lambda: cloud.side.device(did).state.get("fault_heat") == 0)
    assert await device.silent()


async def test_coming_on_line_starts_rules(cloud: EmbeddedCloud, user: Person, device: RawDevice) -> None:
    did = device.device.did
    await user.ok("POST", "/app/rules", rule(did, event="online", condition=[]), status=201)
    await device.client.close()
    await until(lambda: not cloud.hub.is_online(did))
    async with raw_device(cloud) as again:
        assert await again.received() == OFF


async def test_outputs_stop_at_the_first_failure(
    cloud: EmbeddedCloud, device: RawDevice, user: Person
) -> None:
    did = device.device.did
    other = cloud.store.register(device.device.product_key, "00", "ABCDEFGHIJ", is_reset=False, now=1.0)
    bind(cloud, user.uid, other)
    good = {"type": "devctrl", "did": did, "attrs": {"power": False}}
    bad = {"type": "devctrl", "did": other.did, "raw": [1, 2]}
    pause = {"type": "delay", "delay": 0}
    await user.ok("POST", "/app/rules", rule(did, output=[[bad, good], [pause, good]]), status=201)
    device.report(**HOT)
    assert await device.received() == OFF
    assert await device.silent()


async def test_rules_come_and_go(cloud: EmbeddedCloud, device: RawDevice, user: Person) -> None:
    did = device.device.did
    number = (await user.ok("POST", "/app/rules", rule(did), status=201))["rule_id"]
    (shown,) = (await user.ok("GET", "/app/rules"))["rules"]
    assert (shown["rule_id"], shown["name"], shown["event"]) == (number, "too hot", "data")
    assert await user.ok("PUT", f"/app/rules/{number}", rule(did, name="x")) == {"rule_id": number}
    assert (await user.ok("GET", "/app/rules"))["rules"][0]["name"] == "x"
    async with person(cloud, "other") as other:
        assert await other.ok("GET", "/app/rules") == {"rules": []}
        assert (await other("DELETE", f"/app/rules/{number}")).status_code == 404
        await other.refused(9017, "POST", "/app/rules", rule(did), status=401)
    assert await user.ok("DELETE", f"/app/rules/{number}") == {"rule_id": number}
    assert (await user("DELETE", f"/app/rules/{number}")).status_code == 404
    infinite = [[{"left": float("inf"), "opt": "==", "right": 1}]]
    answer = await user.http.post(
        "/app/rules", content=json.dumps(rule(did, condition=infinite)).replace("Infinity", "1e999")
    )
    assert answer.json()["error_code"] == 9015
    for bad in ({"event": "never"}, {"output": [[{"type": "x"}]]}, {"condition": [[{"left": 1}]]}):
        await user.refused(9015, "POST", "/app/rules", rule(did, **bad), status=400)
    wrong = [[{"type": "devctrl", "did": did, "attrs": {"temp": 1}}]]
    await user.refused(9025, "POST", "/app/rules", rule(did, output=wrong), status=400)


@pytest.mark.parametrize("nothing", [None, {}, []])
async def test_an_event_about_nothing_in_particular(user: Person, device: RawDevice, nothing: Any) -> None:
    did = device.device.did
    await user.ok("POST", "/app/rules", rule(did, event_attr=nothing), status=201)
    (shown,) = (await user.ok("GET", "/app/rules"))["rules"]
    assert shown["event_attr"] is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"input": []}, 9015),  # nothing is called "lamp"
        ({"condition": [[{"left": 1, "opt": "==", "right": "other.temp"}]]}, 9015),
        ({"condition": [[{"left": "lamp.tepm", "opt": ">", "right": 50}]]}, 9025),
        ({"event_attr": {"attr_name": "tepm", "value": 1}}, 9025),
        ({"event_attr": {"value": 1}}, 9015),
    ],
)
async def test_a_rule_that_could_never_hold_is_refused(
    user: Person, device: RawDevice, change: dict[str, Any], code: int
) -> None:
    """An operand is ``prefix.point`` or a literal (§15); points are checked as those of outputs are."""
    await user.refused(code, "POST", "/app/rules", rule(device.device.did, **change), status=400)
    assert await user.ok("GET", "/app/rules") == {"rules": []}


async def test_params(user: Person) -> None:
    key = "0123456789abcdef0123456789abcdef"
    shown = await user.ok("GET", "/app/rules/params", product_key=key)
    assert shown[key][:3] == [
        {"name": "power", "display_name": "Power", "type": "bool", "enum": []},
        {"name": "mode", "display_name": "Mode", "type": "enum", "enum": ["制冷", "制热"]},
        {"name": "temp_set", "display_name": "Target", "type": "int", "enum": []},
    ]
    assert await user.ok("GET", "/app/rules/params", product_key="none") == {}
    assert await user.ok("GET", "/app/rules/params") == shown


VALUES = {"a": {"temp": 20, "mode": "制冷", "power": 1, "blob": "ff00"}}


@pytest.mark.parametrize(
    ("left", "opt", "right", "true"),
    [
        ("a.temp", ">", 19, True),
        ("a.temp", ">", "20", False),
        ("a.temp", ">=", "20", True),
        ("a.temp", "<", 20.5, True),
        ("a.temp", "<=", 19, False),
        ("a.temp", "==", "20", True),
        ("a.temp", "==", "'20'", False),  # '20' is a text
        ("a.temp", "!=", "'20'", True),
        ("a.mode", "==", "'制冷'", True),
        ("a.mode", "==", "制冷", True),
        ("a.power", "==", True, True),
        ("a.none", "==", 0, False),
        ("a.none", "!=", 0, False),
        ("b.temp", "==", 20, False),
        ("b.temp", "!=", 20, False),
        ("a.none", "!=", "'x'", False),
        ("'b.temp'", "==", "'b.temp'", True),
        ("a.blob", "==", "0xFF00", True),
        (1, "==", "1", True),
    ],
)
def test_conditions(left: Any, opt: str, right: Any, true: bool) -> None:
    written = Rule.model_validate(rule("x", condition=[[{"left": left, "opt": opt, "right": right}]]))
    assert holds(written, VALUES) is true


def test_or_of_ands() -> None:
    yes, no = ({"left": 1, "opt": "==", "right": right} for right in (1, 2))
    for condition, true in (
        ([], True),
        ([[]], True),
        ([[yes, no]], False),
        ([[yes, no], [yes]], True),
        ([[no], [no]], False),
    ):
        assert holds(Rule.model_validate(rule("x", condition=condition)), {}) is true


def test_which_reports_start_a_rule() -> None:
    lamp = load_product(LAMP)
    about = {"attr_name": "power", "value": True}
    data = Rule.model_validate(rule("x", event_attr=about))
    assert starts(data, lamp, {}, {"power": 1})
    assert not starts(data, lamp, {}, {"power": 0})
    assert not starts(data, lamp, {}, {"temp": 1})
    fault = Rule.model_validate(rule("x", event="fault"))
    assert starts(fault, lamp, {}, {"fault_heat": 1})
    assert not starts(fault, lamp, {"fault_heat": 1}, {"fault_heat": 1})
    assert not starts(fault, lamp, {"fault_heat": 1}, {"fault_heat": 0})
    assert not starts(Rule.model_validate(rule("x", event="alert")), lamp, {}, {"fault_heat": 1})
    assert [each["name"] for each in params(lamp)] == [point.name for point in lamp.points]
