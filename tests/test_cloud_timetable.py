"""When planned tasks run (open-api.md §13): all times UTC, exact to the minute."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.cloud.timetable import WEEKDAYS, Timetable, TimetableError, parse_timetable


def at(text: str) -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()


def plan(**members: Any) -> Timetable:
    return parse_timetable({"time": "08:30", "repeat": "none", **members})


@pytest.mark.parametrize(
    ("members", "after", "run"),
    [
        ({"date": "2023-11-14"}, "2023-11-01T00:00", "2023-11-14T08:30"),
        ({"date": "2023-11-14"}, "2023-11-14T08:29:59", "2023-11-14T08:30"),
        ({"date": "2023-11-14"}, "2023-11-14T08:30", None),
        ({"date": "2023-11-14", "days": [0]}, "2023-11-14T00:00", "2023-11-14T08:30"),
        ({"repeat": "mon,wed"}, "2023-11-14T00:00", "2023-11-15T08:30"),  # a Tuesday
        ({"repeat": "mon"}, "2023-11-13T08:30", "2023-11-20T08:30"),
        ({"repeat": "day", "days": [31]}, "2023-11-01T00:00", "2023-12-31T08:30"),
        ({"repeat": "day", "days": ["1", 15]}, "2023-11-15T08:30", "2023-12-01T08:30"),
        ({"repeat": "day", "days": [29], "start_date": "2023-02-01"}, "2023-02-01T00:00", "2023-03-29T08:30"),
        ({"repeat": "sun", "end_date": "2023-11-19"}, "2023-11-14T00:00", "2023-11-19T08:30"),
        ({"repeat": "sun", "end_date": "2023-11-18"}, "2023-11-14T00:00", None),
        ({"repeat": "sun", "start_date": "2024-01-01"}, "2023-11-14T00:00", "2024-01-07T08:30"),
        ({"repeat": "sun", "enabled": False}, "2023-11-14T00:00", None),
    ],
)
def test_runs(members: dict[str, Any], after: str, run: str | None) -> None:
    assert plan(**members).next_run(at(after)) == (None if run is None else at(run))


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"date": "2023-02-30"},
        {"date": "14.11.2023"},
        {"date": "2023-11-14", "time": "24:00"},
        {"date": "2023-11-14", "time": "8:30"},
        {"date": "2023-11-14", "time": None},
        {"repeat": None},
        {"repeat": "monday"},
        {"repeat": "mon,none"},
        {"repeat": "day"},
        {"repeat": "day", "days": [0]},
        {"repeat": "day", "days": [32]},
        {"repeat": "day", "days": [True]},
        {"repeat": "day", "days": ["9" * 5000]},
        {"repeat": "mon" + " " * 61 + ",bogus"},
        {"repeat": "mon", "enabled": []},
        {"repeat": "mon", "enabled": 0},
        {"repeat": "day", "days": "1"},
        {"repeat": "mon", "start_date": "2024-01-02", "end_date": "2024-01-01"},
        {"repeat": "mon", "enabled": "yes"},
    ],
)
def test_what_cannot_be_planned(members: dict[str, Any]) -> None:
    with pytest.raises(TimetableError, match=r"^[a-z_]+: "):
        plan(**members)


def test_members_come_back() -> None:
    body = {
        "date": "",
        "time": "08:30",
        "repeat": "mon,sun",
        "days": [],
        "start_date": "2023-11-01",
        "end_date": "",
        "enabled": False,
    }
    assert parse_timetable(body).members() == body


DATES = st.dates(dt.date(2023, 1, 1), dt.date(2024, 12, 31))
PLANS = st.builds(
    Timetable,
    time=st.times().map(lambda time: time.replace(second=0, microsecond=0)),
    repeat=st.one_of(
        st.sampled_from(["none", "day"]),
        st.lists(st.sampled_from(WEEKDAYS), min_size=1, unique=True).map(",".join),
    ),
    date=DATES,
    days=st.lists(st.integers(1, 31), min_size=1, max_size=3).map(tuple),
    start_date=st.none() | DATES,
    end_date=st.none() | DATES,
)


@given(PLANS, st.floats(at("2023-01-01T00:00"), at("2024-12-31T00:00")))
def test_the_next_run_is_the_first_day_that_fits(plan: Timetable, after: float) -> None:
    now = dt.datetime.fromtimestamp(after, dt.UTC)
    expected = next(
        (
            run.timestamp()
            for number in range(800)
            if plan.runs_on(day := now.date() + dt.timedelta(days=number))
            and (run := dt.datetime.combine(day, plan.time, dt.UTC)).timestamp() > after
        ),
        None,
    )
    assert plan.next_run(after) == expected
