from __future__ import annotations

import decimal
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies_product import definition_bytes, products, scales

from gizserial.errors import ProductError, UnknownName, ValueOutOfRange
from gizserial.io.products import ProductFileError, load_product
from gizserial.product import Access, BitSection, DataPoint, DataType, Layout, Product, Scale, parse_product
from gizserial.scale import number_text

TEMP = Scale(ratio=Decimal("0.1"), addition=Decimal(-30), raw_min=0, raw_max=800, type_max=0xFFFF)


@pytest.fixture
def pet(fixtures: Path) -> Product:
    return load_product(fixtures / "products" / "pet-house.json")


@pytest.mark.parametrize(
    ("real", "raw"),
    [
        (-30, 0),
        (-29.9, 1),
        (0, 300),
        (25.3, 553),
        (50, 800),
        ("25.3", 553),
        (Decimal("25.30"), 553),
        ("5e1", 800),
    ],
)
def test_scaling_examples_of_the_specification(real: Any, raw: int) -> None:
    """serial.md §8.4."""
    assert TEMP.raw(real, name="Temp") == raw


@pytest.mark.parametrize(
    ("real", "raw"), [("25.34", 553), ("25.349999999999999999999", 553), ("25.35", 554), ("-29.95", 1)]
)
def test_halves_are_rounded_up(real: str, raw: int) -> None:
    """serial.md §5.6, R21."""
    assert TEMP.raw(real, name="Temp") == raw


@pytest.mark.parametrize(
    "real",
    [
        50.1,
        "50.05",
        "-30.05",
        -31,
        "nan",
        "inf",
        "-Infinity",
        float("nan"),
        float("inf"),
        Decimal("sNaN"),
        Decimal("1e999999999"),
        "1e999999999",
        "1e99999999999999999999",
        "1" * 100_000,
        10**100_000,
        1e308,
        "",
        "-",
        "0x10",
        "1_0",
        "１",
        "1,5",
        True,
        None,
        b"1",
        [1],
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.timeout(10)
def test_what_is_no_number_or_out_of_range_is_refused_at_once(real: Any) -> None:
    with pytest.raises(ValueOutOfRange, match=r"^Temp: .* from -30 to 50 in steps of 0.1$") as caught:
        TEMP.raw(real, name="Temp")
    assert len(str(caught.value)) < 200


def test_a_range_that_starts_above_zero_and_a_type_that_is_smaller() -> None:
    scale = Scale(raw_min=16, raw_max=300, type_max=255)
    assert [scale.in_range(raw) for raw in (15, 16, 255, 256, 300)] == [False, True, True, False, False]
    with pytest.raises(ValueOutOfRange):
        scale.raw(256, name="x")


def test_a_negative_ratio_turns_the_range_round() -> None:
    scale = Scale(ratio=Decimal("-0.5"), addition=Decimal(10), raw_min=0, raw_max=20, type_max=255)
    assert scale.real_range == (Decimal(0), Decimal(10))
    assert [scale.raw(real, name="x") for real in (10, "9.75", 0)] == [0, 1, 20]
    with pytest.raises(ValueOutOfRange, match="from 0 to 10"):
        scale.raw("10.25", name="x")


@pytest.mark.parametrize("ratio", ["0", "nan", "inf", "1e500", "1e-500"])
def test_a_ratio_that_cannot_be_is_refused(ratio: str) -> None:
    with pytest.raises(ValueError, match="ratio"):
        Scale(ratio=Decimal(ratio), raw_max=1, type_max=1)


def test_long_decimals_are_exact_whatever_the_context() -> None:
    ratio = Decimal("0." + "3" * 80)
    scale = Scale(ratio=ratio, addition=Decimal(10) ** 60, raw_min=0, raw_max=0xFFFFFFFF, type_max=0xFFFFFFFF)
    with decimal.localcontext(prec=3):
        real = scale.real(0xFFFFFFFF)
        assert scale.raw(real, name="x") == 0xFFFFFFFF
    assert real == Decimal(10**140 + 0xFFFFFFFF * int("3" * 80)).scaleb(-80, decimal.Context(prec=300))


@given(st.data())
def test_every_raw_value_comes_back_through_its_real_value(data: st.DataObject) -> None:
    scale = data.draw(scales())
    raw = data.draw(st.integers(scale.raw_min, scale.raw_max))
    real = scale.real(raw)
    assert real == raw * scale.ratio + scale.addition
    assert scale.raw(real, name="x") == raw
    assert scale.raw(str(real), name="x") == raw
    assert scale.raw(number_text(real), name="x") == raw


@given(st.data())
def test_every_raw_value_out_of_range_is_refused(data: st.DataObject) -> None:
    scale = data.draw(scales())
    raw = data.draw(st.integers(-1000, scale.type_max + 1000).filter(lambda raw: not scale.in_range(raw)))
    with pytest.raises(ValueOutOfRange):
        scale.raw(scale.real(raw), name="x")


@given(scales(), st.decimals(-5000, 5000, places=5))
def test_rounding_agrees_with_the_decimal_module(scale: Scale, real: Decimal) -> None:
    with decimal.localcontext(prec=60):
        expected = int(((real - scale.addition) / scale.ratio).to_integral_value(decimal.ROUND_HALF_UP))
    if scale.in_range(expected):
        assert scale.raw(real, name="x") == expected
    else:
        with pytest.raises(ValueOutOfRange):
            scale.raw(real, name="x")


@given(st.data())
def test_every_value_of_every_point_comes_back(data: st.DataObject) -> None:
    product = data.draw(products(max_points=6))
    for point in product.points:
        raw: int | bytes
        if point.data_type is DataType.BINARY:
            raw = data.draw(st.binary(min_size=point.size, max_size=point.size))
        elif point.scale is not None:
            raw = data.draw(st.integers(point.scale.raw_min, point.scale.raw_max))
        elif point.data_type is DataType.ENUM:
            raw = data.draw(st.integers(0, len(point.texts) - 1))
            value = point.value(raw)
            assert point.raw(value) == point.texts.index(point.texts[raw])
            assert point.raw(raw) == raw
            continue
        else:
            raw = data.draw(st.integers(0, 1))
        assert point.raw(point.value(raw)) == raw
        assert point.warnings(raw) == []


@given(st.data())
def test_every_wire_value_has_a_meaning(data: st.DataObject) -> None:
    product = data.draw(products(max_points=6))
    for point in product.points:
        if point.data_type is not DataType.BINARY:
            raw = data.draw(st.integers(0, point.raw_limit))
            point.value(raw)
            for warning in point.warnings(raw):
                assert warning.startswith(f"{point.name}: ")


def test_values_of_the_pet_house(pet: Product) -> None:
    """The words of cli.md §6."""
    color, motor, led = pet.point("LED_Color"), pet.point("Motor_Speed"), pet.point("LED_OnOff")
    assert (color.raw("粉色"), color.raw("3"), color.raw(3), color.value(3), color.value(4)) == (
        3,
        3,
        3,
        "粉色",
        4,
    )
    assert (motor.raw("-3"), motor.raw(2), motor.value(7)) == (2, 7, 2)
    assert isinstance(motor.value(7), int)
    assert [led.raw(value) for value in (True, False, 1, 0, "true", "False", "1", "0")] == [
        1,
        0,
        1,
        0,
        1,
        0,
        1,
        0,
    ]
    assert (led.value(1), led.value(0)) == (True, False)
    assert motor.warnings(11) == ["Motor_Speed: 6 (raw 11) is out of the definition's range -5 to 5"]
    assert motor.warnings(10) == []


def test_enum_texts_that_are_numbers_or_equal() -> None:
    """cli.md §6: a text that is a number wins, of equal texts the first."""
    point = DataPoint(
        id=0, name="E", data_type=DataType.ENUM, access=Access.WRITABLE, texts=("2", " a", "a", "a"), width=2
    )
    assert [point.raw(value) for value in ("2", " a", "a", "3", 2)] == [0, 1, 2, 3, 2]
    for wrong in ("b", "4", "-1", 4, -1, True, 1.0, None, "²", "٣", "9" * 5000, 10**5000):
        with pytest.raises(ValueOutOfRange):
            point.raw(wrong)
    (warning,) = DataPoint(
        id=0, name="E", data_type=DataType.ENUM, access=Access.WRITABLE, texts=("a",), width=3
    ).warnings(5)
    assert "enum index out of range" in warning


def test_binary_is_filled_and_never_cut() -> None:
    tag = DataPoint(id=0, name="Tag", data_type=DataType.BINARY, access=Access.WRITABLE, size=3)
    assert tag.raw("01 fF") == tag.raw(b"\x01\xff") == tag.raw(memoryview(b"\x01\xff")) == b"\x01\xff\x00"
    assert tag.raw("") == bytes(3)
    assert (tag.value(b"\x01\x00\x00"), tag.warnings(b"\x01\x00\x00")) == (b"\x01\x00\x00", [])
    for wrong in ("01020304", bytes(4), "0", "xx", 5, None):
        with pytest.raises(ValueOutOfRange, match=r"^Tag: "):
            tag.raw(wrong)


def test_bool_takes_nothing_else() -> None:
    point = DataPoint(id=0, name="B", data_type=DataType.BOOL, access=Access.WRITABLE, width=1)
    for wrong in (2, -1, "yes", "", 1.0, None, b"\x01"):
        with pytest.raises(ValueOutOfRange, match="true, false, 1 or 0"):
            point.raw(wrong)


def test_largest_raw_values(fixtures: Path) -> None:
    product = load_product(fixtures / "products" / "var-len.json")
    limits = {point.name: point.raw_limit for point in product.points}
    assert limits["Switch"] == 1
    assert limits["Mode"] == 7
    assert (limits["Bright"], limits["Temp"], limits["Energy"]) == (0xFF, 0xFFFF, 0xFFFFFFFF)


def test_sizes_of_the_pet_house(pet: Product) -> None:
    """serial.md §8.1."""
    assert (pet.flag_bytes, pet.writable_size, pet.status_size) == (1, 5, 10)
    assert [point.name for point in pet.writable] == [
        "LED_OnOff",
        "LED_Color",
        "LED_R",
        "LED_G",
        "LED_B",
        "Motor_Speed",
    ]
    assert pet.sections == (
        BitSection(Access.WRITABLE, 0, 1),
        BitSection(Access.READONLY, 5, 1),
        BitSection(Access.ALERT, 8, 1),
        BitSection(Access.FAULT, 9, 1),
    )
    assert pet.layout is Layout.FIXED
    assert pet.by_name["Humidity"] is pet.point("Humidity")
    assert pet.section(Access.FAULT) == BitSection(Access.FAULT, 9, 1)


def test_sizes_of_the_wave_pump(fixtures: Path) -> None:
    """serial.md §8.2: twelve bits in two bytes."""
    pump = load_product(fixtures / "products" / "wide-bits.json")
    assert pump.sections[0] == BitSection(Access.WRITABLE, 0, 2)
    assert (pump.flag_bytes, pump.writable_size, pump.status_size) == (2, 16, 17)
    assert [pump.point(name).bit_offset for name in ("Mode", "Linkage", "AutoMode")] == [5, 7, 9]


def test_sizes_of_product_v(fixtures: Path) -> None:
    """serial.md §8.3: flags over all points; 9 bits and 10 bytes with everything flagged."""
    product = load_product(fixtures / "products" / "var-len.json")
    assert (product.layout, product.flag_bytes, product.sections) == (Layout.VARIABLE, 2, ())
    assert [point.width for point in product.points[:6]] == [1, 1, 1, 1, 3, 2]
    assert product.status_size == 12
    temp = product.point("Temp")
    assert (temp.value(553), temp.raw("25.3")) == (Decimal("25.3"), 553)


def test_holes_keep_flags_and_positions(fixtures: Path) -> None:
    """serial.md §7.3, R30: the list is not in id order, ids 1, 2 and 7 are gone."""
    product = load_product(fixtures / "products" / "holes.json")
    assert [point.id for point in product.points] == [0, 3, 4, 5, 6, 8, 9, 10, 11, 12]
    assert product.flag_bytes == 2
    assert product.sections[0] == BitSection(Access.WRITABLE, 0, 2)
    assert product.point("Sense").bit_offset == 6
    assert (product.writable_size, product.status_size) == (6, 11)


def test_an_unknown_name_says_which_exist(pet: Product) -> None:
    with pytest.raises(UnknownName, match=r"there is no data point 'LED'; known are: LED_OnOff, LED_Color"):
        pet.point("LED")


def test_a_product_without_points_has_raw_data_only() -> None:
    for layout in Layout:
        product = Product(name="raw", product_key="0" * 32, layout=layout, points=())
        assert (product.flag_bytes, product.status_size, product.writable_size) == (0, 0, 0)
        assert parse_product(definition_bytes(product), "x") == product


def test_the_key_is_not_in_the_repr(pet: Product) -> None:
    assert pet.product_key not in repr(pet)


@given(products(), st.randoms(use_true_random=False))
def test_a_definition_gives_the_product_again_in_any_order(product: Product, rng: random.Random) -> None:
    again = parse_product(definition_bytes(product), "x")
    assert again == product
    assert hash(again) == hash(product)
    shuffled = list(product.points)
    rng.shuffle(shuffled)
    assert (
        Product(
            name=product.name,
            product_key=product.product_key,
            layout=product.layout,
            points=tuple(shuffled),
        )
        == product
    )


@given(products(Layout.FIXED, plain=True))
def test_without_positions_they_are_computed(product: Product) -> None:
    """serial.md §7.3."""
    document = json.loads(definition_bytes(product))
    for attr in document["entities"][0]["attrs"]:
        del attr["position"]
    assert parse_product(json.dumps(document).encode(), "x") == product


def test_an_error_carries_every_finding(fixtures: Path) -> None:
    file = fixtures / "products" / "broken" / "ratio-zero.json"
    with pytest.raises(
        ProductError, match=r"ratio-zero.json: \$.entities\[0\].attrs\[4\].uint_spec.ratio"
    ) as caught:
        load_product(file)
    assert [finding.severity for finding in caught.value.findings] == ["error"]


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProductFileError, match="no such file"):
        load_product(tmp_path / "none.json")
    with pytest.raises(ProductFileError, match="it is a directory"):
        load_product(tmp_path)
    with pytest.raises(ProductFileError, match="cannot be a file name"):
        load_product("a\0b")
    monkeypatch.setattr("gizserial.io.products.MAX_SIZE", 1 << 20)
    (tmp_path / "big.json").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(ProductFileError, match="more than 1 MiB"):
        load_product(tmp_path / "big.json")

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ProductFileError, match="permission denied"):
        load_product(tmp_path / "big.json")


def test_real_products_have_the_sizes_that_were_captured(samples: Path) -> None:
    """serial.md §8.2, §8.5, §9.6."""
    sizes = {}
    for file in samples.glob("*.json"):
        product = load_product(file)
        sizes[file.name.partition("-")[0]] = (product.flag_bytes, product.writable_size, product.status_size)
    assert sizes["54114ccd"] == (8, 400, 401)
    assert sizes["2d3d954d"] == (0, 0, 9)
    assert sizes["763434ad"] == (2, 12, 17)
    assert sizes["cd01d1f3"][::2] == (6, 1042)
    assert len(sizes) == 11
