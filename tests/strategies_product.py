"""Any valid product, of either layout: scales, enums of every width, holes in ids."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal

from hypothesis import strategies as st

from gizserial.layout import (
    UINT_SIZES,
    Access,
    DataType,
    Item,
    Layout,
    computed,
    enum_width,
    wire_order,
)
from gizserial.product import DataPoint, Product, Scale, to_definition

names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,11}", fullmatch=True)
product_keys = st.text("0123456789abcdef", min_size=32, max_size=32)
labels = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@st.composite
def decimals(draw: st.DrawFn, *, zero: bool) -> Decimal:
    """A number as definitions have them: few digits, either sign."""
    whole = draw(st.integers(-3000, 3000).filter(lambda number: zero or number != 0))
    return Decimal(whole).scaleb(-draw(st.integers(0, 3)))


@st.composite
def scales(draw: st.DrawFn, size: int | None = None) -> Scale:
    """A scale for a number of so many bytes."""
    type_max = 256 ** (size or draw(st.sampled_from([1, 2, 4]))) - 1
    low, high = sorted((draw(st.integers(0, type_max)), draw(st.integers(0, type_max))))
    plain = draw(st.booleans())
    return Scale(
        ratio=Decimal(1) if plain else draw(decimals(zero=False)),
        addition=Decimal(0) if plain else draw(decimals(zero=True)),
        raw_min=low,
        raw_max=high,
        type_max=type_max,
    )


@st.composite
def products(
    draw: st.DrawFn, layout: Layout | None = None, max_points: int = 24, *, plain: bool = False
) -> Product:
    """A product whose definition has no errors.

    :param plain: Only what needs no positions: no binaries, no enum wider than needed, no holes in ids.
    """
    layout = layout or draw(st.sampled_from(Layout))
    accesses = st.sampled_from(Access)
    types = st.sampled_from([t for t in DataType if not (plain and t is DataType.BINARY)])
    drawn = draw(st.lists(st.tuples(accesses, types), max_size=max_points))
    kinds = [
        (access, DataType.BOOL if access in {Access.ALERT, Access.FAULT} else data_type)
        for access, data_type in drawn
    ]
    kinds.sort(key=lambda kind: wire_order(Item(0, kind[0], kind[1], 0, 0), layout))
    unique = draw(st.lists(names, unique=True, min_size=len(kinds), max_size=len(kinds)))
    points = [
        draw(_points(number, name, kind, wide=layout is Layout.FIXED and not plain))
        for number, (name, kind) in enumerate(zip(unique, kinds, strict=True))
    ]
    if layout is Layout.FIXED:
        places = computed(Item(p.id, p.access, p.data_type, p.width, p.size) for p in points)
        points = [dataclasses.replace(point, **dataclasses.asdict(places[point.id])) for point in points]
    kept = draw(st.lists(st.booleans(), min_size=len(points), max_size=len(points)))
    if not plain and draw(st.booleans()):
        points = [point for point, keep in zip(points, kept, strict=True) if keep]
    return Product(name=draw(labels), product_key=draw(product_keys), layout=layout, points=tuple(points))


@st.composite
def _points(
    draw: st.DrawFn, number: int, name: str, kind: tuple[Access, DataType], *, wide: bool
) -> DataPoint:
    access, data_type = kind
    texts: tuple[str, ...] = ()
    scale = None
    width = size = 0
    if data_type is DataType.BOOL:
        width = 1
    elif data_type is DataType.ENUM:
        texts = tuple(draw(st.lists(labels, min_size=1, max_size=20)))
        # A wider len than needed is found in real standard exports (serial.md §7.3).
        width = enum_width(len(texts)) + (draw(st.integers(0, 3)) if wide else 0)
    elif data_type is DataType.BINARY:
        size = draw(st.integers(1, 12))
    else:
        size = UINT_SIZES[data_type]
        scale = draw(scales(size))
    return DataPoint(
        id=number,
        name=name,
        display_name=draw(labels),
        desc=draw(labels),
        data_type=data_type,
        access=access,
        texts=texts,
        scale=scale,
        width=width,
        size=size,
    )


def raws(point: DataPoint, *, allowed: bool = True) -> st.SearchStrategy[int | bytes]:
    """Raw values of a point: those that the definition allows, or all that fit on the wire."""
    if point.data_type is DataType.BINARY:
        return st.binary(min_size=point.size, max_size=point.size)
    if not allowed:
        return st.integers(0, point.raw_limit)
    if point.scale is not None:
        return st.integers(point.scale.raw_min, point.scale.raw_max)
    return st.integers(0, len(point.texts) - 1 if point.texts else 1)


def raw_values(
    product: Product, *, allowed: bool = True, writable: bool = False
) -> st.SearchStrategy[dict[str, int | bytes]]:
    """Name → raw value of some of the points."""
    points = product.writable if writable else product.points
    return st.fixed_dictionaries({}, optional={p.name: raws(p, allowed=allowed) for p in points})


def definition_bytes(product: Product) -> bytes:
    """The definition file of a product."""
    return json.dumps(to_definition(product), ensure_ascii=False).encode()
