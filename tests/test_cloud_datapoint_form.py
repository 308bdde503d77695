"""``GET /app/datapoint`` (open-api.md §8.5)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support_apps import LAMP

from gizserial.io.products import load_product
from gizserial.product import parse_product
from sim.cloud.datapoint_form import datapoint_form

ROOT = Path(__file__).parent.parent
SAMPLES = sorted((ROOT.parent / "shared/samples").glob("*.json"))


def test_the_lamp_of_the_specification() -> None:
    form = datapoint_form(load_product(LAMP))
    assert {name: form[name] for name in ("name", "product_key", "protocolType", "packetVersion")} == {
        "name": "ci_lamp",
        "product_key": "0123456789abcdef0123456789abcdef",
        "protocolType": "standard",
        "packetVersion": "0x00000004",
    }
    (entity,) = form["entities"]
    assert (entity["id"], entity["name"], entity["display_name"]) == (0, "entity0", "CI lamp")
    assert entity["attrs"][2] == {
        "id": 2,
        "name": "temp_set",
        "display_name": "Target",
        "type": "status_writable",
        "data_type": "uint8",
        "uint_spec": {"min": 0, "max": 14, "ratio": 1, "addition": 16},
        "desc": "",
        "position": {"byte_offset": 1, "bit_offset": 0, "len": 1, "unit": "byte"},
    }
    assert form["ui"]["object"] == {"version": 4, "showEditButton": False}
    (section,) = form["ui"]["sections"]
    power, mode, temp_set, blob, temp, fault = section["elements"]
    assert power == {
        "key": "entity0.power",
        "title": "Power",
        "type": "QBooleanElement",
        "boolValue": False,
        "object": {"action": "entity0", "bind": ["entity0.power"], "perm": "W"},
    }
    assert (mode["type"], mode["items"]) == ("QRadioElement", ["制冷", "制热"])
    limits = {"min": 16, "max": 30, "step": 1}
    assert temp_set["object"]["unit_spec"] == temp_set["object"]["uint_spec"] == limits
    assert {name: temp_set[name] for name in ("type", "minimumValue", "maximumValue", "value", "bind")} == {
        "type": "QFloatElement",
        "minimumValue": 16,
        "maximumValue": 30,
        "value": 0,
        "bind": "floatValue:float",
    }
    assert (blob["type"], blob["maxLength"]) == ("QMultilineElement", 6)
    assert (temp["type"], temp["object"]["perm"]) == ("QLabelElement", "R")
    assert (fault["type"], fault["object"]["perm"]) == ("QBooleanElement", "E")


def test_a_variable_length_product_has_no_positions() -> None:
    form = datapoint_form(load_product(ROOT / "fixtures/products/var-len.json"))
    for attribute in form["entities"][0]["attrs"]:
        position = attribute["position"]
        assert (position["byte_offset"], position["bit_offset"]) == (0, 0)
        assert position["len"] > 0


def without_ui(form: dict[str, Any]) -> bytes:
    return json.dumps({name: value for name, value in form.items() if name != "ui"}).encode()


@pytest.mark.skipif(not SAMPLES, reason="the real product definitions are not beside this clone")
@pytest.mark.parametrize("sample", SAMPLES, ids=[path.name for path in SAMPLES])
def test_real_definitions_come_back(sample: Path) -> None:
    """What the form says can be compiled again, to the same product."""
    product = load_product(sample)
    assert parse_product(without_ui(datapoint_form(product)), "form") == product
