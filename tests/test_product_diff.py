from __future__ import annotations

import dataclasses
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from strategies_product import products

from gizserial.io.products import load_product
from gizserial.layout import Item, Layout, computed
from gizserial.product import Access, DataPoint, DataType, Product, parse_product
from gizserial.product_diff import Change, Effect, diff, worst

FINE, CHECK, BREAKS = Effect.NONE, Effect.CHECK, Effect.BREAKS


@pytest.fixture
def pet(fixtures: Path) -> Product:
    return load_product(fixtures / "products" / "pet-house.json")


@pytest.fixture
def box(fixtures: Path) -> Product:
    return load_product(fixtures / "products" / "var-len.json")


def edited(product: Product, name: str, /, **changes: Any) -> Product:
    """The product with one point changed, nothing moved."""
    points = tuple(
        dataclasses.replace(point, **changes) if point.name == name else point for point in product.points
    )
    return dataclasses.replace(product, points=points)


def renumbered(product: Product, points: list[DataPoint]) -> Product:
    """The product with these points, numbered and placed as the cloud does."""
    numbered = [dataclasses.replace(point, id=number) for number, point in enumerate(points)]
    if product.layout is Layout.FIXED:
        places = computed(Item(p.id, p.access, p.data_type, p.width, p.size) for p in numbered)
        numbered = [dataclasses.replace(p, **dataclasses.asdict(places[p.id])) for p in numbered]
    return dataclasses.replace(product, points=tuple(numbered))


def summary(changes: list[Change]) -> list[tuple[str | None, str, bool, Effect, Effect]]:
    return [(c.point, c.kind, c.wire, c.firmware, c.apps) for c in changes]


@given(products())
def test_nothing_changed(product: Product) -> None:
    assert diff(product, product) == []


@given(products(), products())
def test_any_two_products_can_be_compared(old: Product, new: Product) -> None:
    for change in diff(old, new):
        assert change.reason
        assert change.old or change.new
        assert change.old != change.new


def test_a_byte_inserted_in_the_middle_moves_all_that_follows(pet: Product) -> None:
    white = dataclasses.replace(pet.point("LED_B"), name="LED_W")
    points = [*pet.points[:5], white, *pet.points[5:]]
    changes = diff(pet, renumbered(pet, points))
    found = summary(changes)
    assert (None, "control_size", True, BREAKS, CHECK) in found
    assert (None, "status_size", True, BREAKS, CHECK) in found
    assert ("Motor_Speed", "flag", True, BREAKS, CHECK) in found
    assert ("Motor_Speed", "position", True, BREAKS, CHECK) in found
    assert ("LED_W", "added", True, CHECK, FINE) in found
    assert not [change for change in changes if change.point in {"LED_OnOff", "LED_R", "LED_G", "LED_B"}]
    (moved,) = [change for change in changes if change.point == "Humidity"]
    assert (moved.kind, moved.old, moved.new) == ("position", "byte 7", "byte 8")


def test_a_bit_section_that_grows_moves_its_bits_though_the_file_says_the_same(pet: Product) -> None:
    """Bit 0 of a section is in its last byte (serial.md §5.4)."""
    wide = edited(pet, "LED_Color", width=8)
    changes = {change.kind: change for change in diff(pet, wide) if change.point == "LED_OnOff"}
    assert (changes["position"].old, changes["position"].new) == ("byte 0 bit 0", "byte 1 bit 0")


def test_a_ninth_flag_shifts_every_frame_of_a_var_len_product(box: Product) -> None:
    points = [*box.points, *(dataclasses.replace(box.point("Tag"), name=f"Tag{n}") for n in range(7))]
    changes = diff(box, renumbered(box, points))
    assert summary(changes)[0] == (None, "flags", True, BREAKS, CHECK)
    assert {change.kind for change in changes[1:]} == {"added"}


ONE_POINT: list[tuple[str, dict[str, Any], tuple[str, bool, Effect, Effect]]] = [
    ("Motor_Speed", {"name": "Fan"}, ("renamed", False, FINE, BREAKS)),
    ("LED_Color", {"texts": ("自定义", "黄色", "紫色", "红色")}, ("texts", False, CHECK, BREAKS)),
    ("LED_Color", {"texts": ("黄色", "自定义", "紫色", "粉色")}, ("texts", True, BREAKS, BREAKS)),
    ("LED_Color", {"texts": ("自定义", "黄色", "紫色")}, ("texts", False, CHECK, BREAKS)),
]


@pytest.mark.parametrize(("name", "changes", "expected"), ONE_POINT)
def test_changes_of_one_point(
    pet: Product, name: str, changes: dict[str, Any], expected: tuple[str, bool, Effect, Effect]
) -> None:
    assert summary(diff(pet, edited(pet, name, **changes))) == [(name, *expected)]


def test_a_text_at_the_end_is_for_firmware_to_check(box: Product) -> None:
    new = edited(box, "Mode", texts=(*box.point("Mode").texts, "boost"))
    assert summary(diff(box, new)) == [("Mode", "texts", False, CHECK, FINE)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"ratio": Decimal("0.5")}, ("scale", True, BREAKS, CHECK)),
        ({"addition": Decimal(0)}, ("scale", True, BREAKS, CHECK)),
        ({"raw_max": 900}, ("range", False, CHECK, FINE)),
        ({"raw_max": 700}, ("range", False, CHECK, CHECK)),
    ],
)
def test_scales_and_ranges(
    box: Product, change: dict[str, Any], expected: tuple[str, bool, Effect, Effect]
) -> None:
    scale = box.point("Temp").scale
    assert scale is not None
    new = edited(box, "Temp", scale=dataclasses.replace(scale, **change))
    assert summary(diff(box, new)) == [("Temp", *expected)]


@pytest.mark.parametrize(
    ("name", "access", "firmware", "apps"),
    [
        ("Bright", Access.READONLY, CHECK, BREAKS),
        ("Temp", Access.WRITABLE, BREAKS, FINE),
        ("Alarm", Access.FAULT, FINE, CHECK),
    ],
)
def test_who_may_change_it(box: Product, name: str, access: Access, firmware: Effect, apps: Effect) -> None:
    assert summary(diff(box, edited(box, name, access=access))) == [(name, "access", False, firmware, apps)]


def test_another_type(box: Product) -> None:
    wider = edited(box, "Bright", data_type=DataType.UINT16, size=2)
    assert summary(diff(box, wider)) == [("Bright", "type", True, BREAKS, CHECK)]
    number = edited(box, "Tag", data_type=DataType.BOOL, size=0, width=1)
    assert summary(diff(box, number)) == [("Tag", "type", True, BREAKS, BREAKS)]


def test_a_point_removed(pet: Product, box: Product) -> None:
    without = dataclasses.replace(box, points=box.points[:-1])
    assert summary(diff(box, without)) == [("Tag", "removed", True, BREAKS, BREAKS)]
    hole = dataclasses.replace(pet, points=tuple(p for p in pet.points if p.name != "LED_G"))
    assert summary(diff(pet, hole)) == [("LED_G", "removed", False, FINE, BREAKS)]


def test_another_product_and_another_layout(pet: Product, box: Product) -> None:
    found = summary(diff(pet, box))
    assert found[:2] == [
        (None, "product_key", False, BREAKS, BREAKS),
        (None, "layout", True, BREAKS, CHECK),
    ]
    key = diff(pet, box)[0]
    assert pet.product_key not in key.old
    assert key.old == pet.product_key[:8] + "…"


def test_the_worst_effect() -> None:
    assert worst([]) is FINE
    assert worst([FINE, BREAKS, CHECK]) is BREAKS
    assert worst([CHECK, FINE]) is CHECK


def test_real_products_that_are_the_same_on_the_wire(samples: Path, pet: Product) -> None:
    real = parse_product((samples / "capture-pet-product.json").read_bytes(), "x")
    assert {change.kind for change in diff(real, pet)} == {"product_key"}


def test_order_in_the_file_does_not_matter(fixtures: Path) -> None:
    data = (fixtures / "products" / "pet-house.json").read_bytes()
    document = json.loads(data)
    document["entities"][0]["attrs"].reverse()
    shuffled = json.dumps(document).encode()
    assert diff(parse_product(data, "x"), parse_product(shuffled, "x")) == []
