"""Aggregated data (open-api.md §16)."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pydantic

from gizserial.product import DataType, Product
from sim.cloud.aggregate import AGGREGATORS, UNITS, Buckets
from sim.cloud.api_errors import ApiError, Code
from sim.cloud.app_side import AppSide
from sim.cloud.openapi.calls import Call, Calls, Form
from sim.cloud.openapi.records import moment
from sim.cloud.values import http_values

MAX_ATTRS = 100
"""Data points in one request."""


class Aggregated(Form):
    """Query of ``…/agg_data``: times are Unix milliseconds, ``attrs`` are names with commas between."""

    start_ts: int = pydantic.Field(ge=0, le=2**53)
    end_ts: int | None = pydantic.Field(default=None, ge=0, le=2**53)
    attrs: str
    aggregator: Literal["sum", "avg", "max", "min"]
    unit: Literal["HOURS", "DAYS", "WEEKS", "MONTHS"]

    @pydantic.field_validator("aggregator", "unit", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        known = {name.lower(): name for name in (*AGGREGATORS, *UNITS)}
        return known.get(value.lower(), value) if isinstance(value, str) else value


def aggregation_calls(side: AppSide) -> Calls:
    """The call of §16; its heading in the document says PUT."""
    calls = Calls(side, "Devices")
    calls.add(
        "GET PUT",
        "/app/devdata/{did}/agg_data",
        aggregated,
        query=Aggregated,
        errors=(Code.DEVICE_NOT_FOUND, Code.NOT_BOUND, Code.ATTR_INVALID),
    )
    return calls


async def aggregated(call: Call) -> Any:
    """Sum, average, maximum or minimum of numbers, by hour, day, week or month (UTC)."""
    device, _ = call.side.bound(call.user, call.path("did"))
    query = call.query(Aggregated)
    product = call.side.product(device.product_key)
    names = [name.strip() for name in query.attrs.split(",", MAX_ATTRS) if name.strip()]
    if product is None or not names or not all(_is_number(product, name) for name in names):
        raise ApiError(Code.ATTR_INVALID, "attrs: names of numeric data points")
    end = call.side.now() if query.end_ts is None else query.end_ts / 1000
    buckets = Buckets(query.aggregator, query.unit)
    for reports in call.side.history.chunks(device.did, after=query.start_ts / 1000, until=end):
        for at, raw in reports:
            wanted = {name: raw[name] for name in names if name in raw}
            buckets.add(at, http_values(product, wanted))
        await asyncio.sleep(0)
    return {
        "query": {
            "aggregator": query.aggregator,
            "start_ts": query.start_ts,
            "end_ts": int(end * 1000),
            "attrs": query.attrs,
            "unit": query.unit,
        },
        "data": [
            {
                "datetime": moment(begin),
                "datatime": moment(begin),  # as the documentation misprints it
                "uid": call.user.uid,
                "product_key": device.product_key,
                "attrs": attrs,
            }
            for begin, attrs in buckets.results()
        ],
    }


def _is_number(product: Product, name: str) -> bool:
    point = product.by_name.get(name)
    return point is not None and point.data_type not in {DataType.BOOL, DataType.ENUM, DataType.BINARY}
