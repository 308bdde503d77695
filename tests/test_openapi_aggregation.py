"""Aggregation (open-api.md §16)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_apps import app_cloud, bind, person, register

from sim.cloud.aggregate import UNITS, Aggregator, Buckets, Unit


def at(text: str) -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()


def aggregate(
    reports: Iterable[tuple[float, Mapping[str, float]]], aggregator: Aggregator, unit: Unit
) -> list[tuple[float, dict[str, int | float]]]:
    buckets = Buckets(aggregator, unit)
    for when, numbers in reports:
        buckets.add(when, numbers)
    return buckets.results()


REPORTS = [
    (at("2023-11-13T00:10:00"), {"temp": 20}),  # a Monday
    (at("2023-11-13T00:50:00"), {"temp": 23}),
    (at("2023-11-13T01:00:00"), {"temp": 30}),
    (at("2023-11-19T23:59:59"), {"temp": 10}),  # the Sunday of the same week
    (at("2023-12-01T00:00:00"), {"temp": 5}),
]


@pytest.mark.parametrize(
    ("unit", "begins"),
    [
        ("HOURS", ["2023-11-13T00", "2023-11-13T01", "2023-11-19T23", "2023-12-01T00"]),
        ("DAYS", ["2023-11-13T00", "2023-11-19T00", "2023-12-01T00"]),
        ("WEEKS", ["2023-11-13T00", "2023-11-27T00"]),
        ("MONTHS", ["2023-11-01T00", "2023-12-01T00"]),
    ],
)
def test_buckets_are_utc_and_weeks_begin_on_monday(unit: Unit, begins: list[str]) -> None:
    assert [begin for begin, _ in aggregate(REPORTS, "sum", unit)] == [at(begin) for begin in begins]


def test_the_four_aggregators() -> None:
    first = {name: aggregate(REPORTS, name, "HOURS")[0][1]["temp"] for name in ("sum", "avg", "max", "min")}
    assert first == {"sum": 43, "avg": 21.5, "max": 23, "min": 20}


def test_sums_are_exact() -> None:
    assert aggregate([(0.0, {"x": 0.1}), (1.0, {"x": 0.2})], "sum", "DAYS") == [(0.0, {"x": 0.3})]


@given(st.lists(st.tuples(st.floats(0, 2e9), st.integers(-1000, 1000)), max_size=30), st.sampled_from(UNITS))
def test_nothing_is_lost(values: list[tuple[float, int]], unit: Unit) -> None:
    found = aggregate([(when, {"x": value}) for when, value in values], "sum", unit)
    assert sum(numbers["x"] for _, numbers in found) == sum(value for _, value in values)
    assert [begin for begin, _ in found] == sorted({begin for begin, _ in found})


async def test_the_call() -> None:
    now = at("2023-11-14T12:30:00")
    async with app_cloud(now=lambda: now) as cloud, person(cloud) as user:
        device = register(cloud)
        path = f"/app/devdata/{device.did}/agg_data"
        query: dict[str, Any] = {
            "start_ts": int((now - 86400) * 1000),
            "attrs": "temp,temp_set",
            "aggregator": "AVG",
            "unit": "days",
        }
        await user.refused(9017, "GET", path, status=401, **query)
        bind(cloud, user.uid, device)
        for hour, temp in ((1, 20), (2, 21)):
            cloud.side.history.data(device.did, at(f"2023-11-14T0{hour}:00:00"), {"temp": temp, "power": 1})
        for method in ("GET", "PUT"):
            shown = await user.ok(method, path, **query)
            assert shown == {
                "query": {
                    "aggregator": "avg",
                    "start_ts": query["start_ts"],
                    "end_ts": int(now * 1000),
                    "attrs": "temp,temp_set",
                    "unit": "DAYS",
                },
                "data": [
                    {
                        "datetime": "2023-11-14T00:00:00Z",
                        "datatime": "2023-11-14T00:00:00Z",
                        "uid": user.uid,
                        "product_key": device.product_key,
                        "attrs": {"temp": 20.5},
                    }
                ],
            }
        for bad in ("power", "mode", "blob", "none", ""):
            await user.refused(9025, "GET", path, status=400, **{**query, "attrs": bad})
        await user.refused(9015, "GET", path, status=400, **{**query, "unit": "YEARS"})
