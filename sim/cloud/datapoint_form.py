"""A product's definition as ``GET /app/datapoint`` gives it: data points and a form (open-api.md §8.5)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from gizserial.product import Access, DataPoint, DataType, Layout, Product, to_definition

_PERMISSIONS: Final = {Access.WRITABLE: "W", Access.READONLY: "R", Access.ALERT: "N", Access.FAULT: "E"}


def datapoint_form(product: Product) -> dict[str, Any]:
    """The definition with ``ui``; a variable-length product has every position 0."""
    definition: dict[str, Any] = to_definition(product)
    if product.layout is Layout.VARIABLE:
        for attribute in definition["entities"][0]["attrs"]:
            attribute["position"] |= {"byte_offset": 0, "bit_offset": 0}
    definition["ui"] = {
        "object": {"version": 4, "showEditButton": False},
        "sections": [{"elements": [_element(point) for point in product.points]}],
    }
    return definition


def _element(point: DataPoint) -> dict[str, Any]:
    key = f"entity0.{point.name}"
    thing: dict[str, Any] = {"action": "entity0", "bind": [key], "perm": _PERMISSIONS[point.access]}
    element: dict[str, Any] = {"key": key, "title": point.display_name or point.name, "object": thing}
    if point.data_type is DataType.BINARY:
        return element | {"type": "QMultilineElement", "maxLength": 2 * point.size}
    if point.data_type is DataType.BOOL and point.access is not Access.READONLY:
        return element | {"type": "QBooleanElement", "boolValue": False}
    if not point.writable:
        return element | {"type": "QLabelElement"}
    if point.data_type is DataType.ENUM:
        return element | {"type": "QRadioElement", "items": list(point.texts)}
    return element | _number(point, thing)


def _number(point: DataPoint, thing: dict[str, Any]) -> dict[str, Any]:
    """A number that can be set; the documentation calls its limits by two names."""
    scale = point.scale
    if scale is None:
        return {"type": "QLabelElement"}
    low, high = (_json(end) for end in scale.real_range)
    limits = {"min": low, "max": high, "step": _json(abs(scale.ratio))}
    thing |= {"unit_spec": limits, "uint_spec": limits}
    return {
        "type": "QFloatElement",
        "minimumValue": low,
        "maximumValue": high,
        "value": 0,
        "bind": "floatValue:float",
    }


def _json(number: Decimal) -> int | float:
    return int(number) if number == number.to_integral_value() else float(number)
