from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from strategies_product import products

from gizserial.layout import (
    Access,
    BitSection,
    DataType,
    Item,
    Layout,
    Place,
    computed,
    enum_width,
    flag_bytes,
    sections,
)
from gizserial.product import Product, parse_product

W, R, A, F = Access.WRITABLE, Access.READONLY, Access.ALERT, Access.FAULT


@pytest.mark.parametrize(
    ("values", "bits"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4), (256, 8), (257, 9)]
)
def test_an_enum_takes_the_bits_that_its_values_need(values: int, bits: int) -> None:
    """serial.md §5.2; one value: R28."""
    assert enum_width(values) == bits


@pytest.mark.parametrize(
    ("ids", "size"), [([], 0), ([0], 1), ([7], 1), ([8], 2), ([0, 1, 17], 3), (range(64), 8)]
)
def test_the_flag_bit_is_the_id(ids: list[int], size: int) -> None:
    """serial.md §5.4, R30."""
    assert flag_bytes(ids) == size


def test_pet_house_of_the_specification() -> None:
    """serial.md §8.1."""
    bit, u8 = (DataType.BOOL, 1, 0), (DataType.UINT8, 0, 1)
    kinds = [(W, *bit), (W, DataType.ENUM, 2, 0), *[(W, *u8)] * 4, (R, *bit), (R, *u8), (R, *u8)]
    kinds += [(A, *bit)] * 2 + [(F, *bit)] * 4
    items = [Item(number, *kind) for number, kind in enumerate(kinds)]
    places = computed(items)
    expected = [(0, 0), (0, 1), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0)]
    expected += [(8, 0), (8, 1), (9, 0), (9, 1), (9, 2), (9, 3)]
    assert [places[number] for number in range(15)] == [Place(*place) for place in expected]
    assert sections((item, places[item.id]) for item in items) == (
        BitSection(W, 0, 1),
        BitSection(R, 5, 1),
        BitSection(A, 8, 1),
        BitSection(F, 9, 1),
    )


def test_bit_section_over_two_bytes() -> None:
    """serial.md §8.2: Linkage straddles, its low bit is in the second byte."""
    widths = [1, 1, 1, 1, 1, 2, 2, 3]
    items = [Item(n, W, DataType.BOOL if w == 1 else DataType.ENUM, w, 0) for n, w in enumerate(widths)]
    items.append(Item(8, W, DataType.UINT8, 0, 1))
    places = computed(items)
    assert [places[n].bit_offset for n in range(8)] == [0, 1, 2, 3, 4, 5, 7, 9]
    assert {places[n].byte_offset for n in range(8)} == {0}
    assert places[8] == Place(2, 0)
    (section,) = sections((item, places[item.id]) for item in items)
    assert section == BitSection(W, 0, 2)
    assert (section.byte_of(7), section.byte_of(8), section.byte_of(9)) == (1, 0, 0)
    assert section.end == 2


def test_an_empty_group_takes_no_byte() -> None:
    items = [Item(0, F, DataType.BOOL, 1, 0), Item(1, R, DataType.UINT16, 0, 2)]
    assert computed(items) == {1: Place(0, 0), 0: Place(2, 0)}
    assert computed([]) == {}


REAL = {"2d3d954d", "490eda68", "54114ccd", "6f3074fe", "de9e8d18", "e1e1c010", "capture"}


def test_computed_layout_is_that_of_real_exports(samples: Path) -> None:
    """serial.md §7.4; 6f3074fe with its own width of the enum."""
    checked = set()
    for file in samples.glob("*.json"):
        product = parse_product(file.read_bytes(), file.name)
        start = file.name.partition("-")[0]
        if product.layout is Layout.FIXED and start in REAL:
            places = computed(Item(p.id, p.access, p.data_type, p.width, p.size) for p in product.points)
            attrs = json.loads(file.read_bytes().decode("utf-8-sig"))["entities"][0]["attrs"]
            for attr in attrs:
                position = attr["position"]
                assert places[attr["id"]] == Place(position["byte_offset"], position["bit_offset"])
            checked.add(start)
    assert checked == REAL


@given(products(Layout.FIXED))
def test_every_bit_of_the_status_has_at_most_one_owner(product: Product) -> None:
    taken: set[tuple[int, int]] = set()
    for point in product.points:
        section = product.section(point.access)
        if point.is_bits:
            assert section is not None
            assert point.byte_offset == section.base
            bits = range(point.bit_offset, point.bit_offset + point.width)
            cells = {(section.byte_of(bit), bit % 8) for bit in bits}
        else:
            at = point.byte_offset
            cells = {(byte, bit) for byte in range(at, at + point.size) for bit in range(8)}
        assert not cells & taken
        assert all(0 <= byte < product.status_size for byte, _ in cells)
        if point.writable:
            assert all(byte < product.writable_size for byte, _ in cells)
        taken |= cells
