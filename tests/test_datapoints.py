"""The schemas that a product definition becomes, and the fast reader compiled from the same places."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies_product import products, raw_values

from gizserial.datapoints import DataPoints, with_values
from gizserial.errors import ValueOutOfRange
from gizserial.io.products import load_product
from gizserial.product import Product


@pytest.fixture(scope="module")
def pet() -> Product:
    return load_product(Path(__file__).parent.parent / "fixtures" / "products" / "pet-house.json")


STATUS = bytes.fromhex("07c800000701263c010a")  # the report of serial.md §8.1


def test_the_schema_with_real_values(pet: Product) -> None:  # serial.md §8.1, §8.4
    schema = with_values(DataPoints(pet).dev_status)
    values = schema.parse(STATUS)
    assert values["LED_OnOff"] is True
    assert values["LED_Color"] == "粉色"
    assert values["Motor_Speed"] == 2
    assert values["Temperature"] == 25
    assert values["Fault_Motor"] is True
    assert schema.build(values) == STATUS


def test_the_schema_scales_in_decimal() -> None:  # serial.md §8.4: truncation would give 552
    product = load_product(Path(__file__).parent.parent / "fixtures" / "products" / "var-len.json")
    block = DataPoints(product).flagged(1 << product.point("Temp").id)
    schema = with_values(block)
    assert schema.build({"Temp": "25.3"}) == bytes.fromhex("0229")
    assert schema.parse(bytes.fromhex("0229")) == {"Temp": Decimal("25.3")}
    with pytest.raises(ValueOutOfRange):
        schema.build({"Temp": "50.1"})


def test_the_schema_refuses_what_the_definition_does_not_allow(pet: Product) -> None:
    schema = with_values(DataPoints(pet).dev_status)
    values = dict(schema.parse(STATUS))
    for name, value in (("LED_R", 255), ("LED_Color", "no such colour"), ("Motor_Speed", 6)):
        with pytest.raises(ValueOutOfRange):
            schema.build(values | {name: value})


@given(st.data())
def test_the_fast_reader_reads_what_the_schema_reads(data: st.DataObject) -> None:
    product = data.draw(products())
    points = DataPoints(product)
    flags = data.draw(st.integers(0, (1 << 8 * points.flag_bytes) - 1)) if points.flag_bytes else 0
    blocks = [points.dev_status, points.writable]
    if product.layout.value == "var_len":
        blocks.append(points.flagged(flags & points.known_flags))
    for block in blocks:
        body = data.draw(st.binary(min_size=block.size, max_size=block.size))
        assert dict(block.schema.parse(body)) == block.parse(body, "body")


@given(st.data())
def test_real_values_build_the_bytes_of_their_raw_ones(data: st.DataObject) -> None:
    product = data.draw(products())
    block = DataPoints(product).dev_status
    raw = data.draw(raw_values(product))
    if len(raw) == len(product.points):
        schema = with_values(block)
        values = {name: product.point(name).value(value) for name, value in raw.items()}
        body = block.build(raw)
        assert schema.parse(body) == values
        if all(len(set(point.texts)) == len(point.texts) for point in product.points):
            assert schema.build(values) == body  # equal texts of an enum cannot be told apart
