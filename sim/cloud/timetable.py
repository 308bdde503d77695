"""When a planned task runs, without clock or storage (open-api.md §13). Times are UTC."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Mapping
from typing import Any, Final

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
NONE: Final = "none"
DAY: Final = "day"
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME: Final = re.compile(r"[0-9]{2}:[0-9]{2}")
_DAY: Final = re.compile(r"[0-9]{1,2}")


class TimetableError(ValueError):
    """A task that cannot be planned; the message names the member."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """When a task runs."""

    time: dt.time
    repeat: str = NONE
    """``none``, ``day``, or weekdays with commas between, as it was given."""
    date: dt.date | None = None
    """Of a task that does not repeat."""
    days: tuple[int, ...] = ()
    """Days of the month, with ``day``."""
    start_date: dt.date | None = None
    end_date: dt.date | None = None
    """First and last day on which it may run."""
    enabled: bool = True

    @property
    def weekdays(self) -> frozenset[int]:
        """Days of the week, Monday is 0."""
        if self.repeat in {NONE, DAY}:
            return frozenset()
        return frozenset(WEEKDAYS.index(word) for word in _words(self.repeat))

    def runs_on(self, day: dt.date) -> bool:
        """Whether it runs on this day."""
        if not self.enabled or day < (self.start_date or day) or day > (self.end_date or day):
            return False
        if self.repeat == NONE:
            return day == self.date
        if self.repeat == DAY:
            return day.day in self.days
        return day.weekday() in self.weekdays

    def next_run(self, after: float) -> float | None:
        """The first run after a moment, both in Unix seconds; None: never again."""
        moment = dt.datetime.fromtimestamp(after, dt.UTC)
        first = max(moment.date(), self.start_date or dt.date.min)
        if self.repeat == NONE:
            days = [self.date] if self.date is not None and self.date >= first else []
        else:
            days = [first + dt.timedelta(days=number) for number in range(_horizon(first))]
        for day in days:
            run = dt.datetime.combine(day, self.time, dt.UTC)
            if run > moment and self.runs_on(day):
                return run.timestamp()
        return None

    def members(self) -> dict[str, Any]:
        """As the API shows them (§13)."""
        return {
            "date": _shown(self.date),
            "time": f"{self.time:%H:%M}",
            "repeat": self.repeat,
            "days": list(self.days),
            "start_date": _shown(self.start_date),
            "end_date": _shown(self.end_date),
            "enabled": self.enabled,
        }


def parse_timetable(body: Mapping[str, Any]) -> Timetable:
    """The timetable in a body.

    :raises TimetableError: a member is missing or not as §13 writes it.
    """
    repeat = _repeat(body.get("repeat"))
    date = _date(body, "date")
    if repeat == NONE and date is None:
        raise TimetableError("date: a task that does not repeat needs it, as YYYY-MM-DD")
    # Where they mean nothing the documentation's own example has days that there are not.
    days = _days(body.get("days")) if repeat == DAY else ()
    if repeat == DAY and not days:
        raise TimetableError("days: days of the month from 1 to 31 are needed")
    start, end = _date(body, "start_date"), _date(body, "end_date")
    if start is not None and end is not None and end < start:
        raise TimetableError("end_date: it is before start_date")
    enabled = body.get("enabled")
    if enabled is not None and not isinstance(enabled, bool):
        raise TimetableError("enabled: true or false")
    return Timetable(
        time=_time(body.get("time")),
        repeat=repeat,
        date=date,
        days=days,
        start_date=start,
        end_date=end,
        enabled=enabled is not False,
    )


def _horizon(first: dt.date) -> int:
    """Days to look ahead: the 29th of February is at most eight years away."""
    return min(8 * 366 + 1, (dt.date.max - first).days)


def _words(repeat: str) -> list[str]:
    return [word.strip().lower() for word in repeat.split(",")]


def _repeat(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 64:
        raise TimetableError("repeat: none, day, or weekdays (mon … sun) with commas between")
    words = _words(value)
    if words in ([NONE], [DAY]):
        return words[0]
    if not set(words) <= set(WEEKDAYS):
        raise TimetableError("repeat: none, day, or weekdays (mon … sun) with commas between")
    return ",".join(dict.fromkeys(words))


def _date(body: Mapping[str, Any], name: str) -> dt.date | None:
    value = body.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            return dt.date.fromisoformat(value)
        except ValueError:
            pass
    raise TimetableError(f"{name}: a date as YYYY-MM-DD is needed")


def _time(value: Any) -> dt.time:
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return dt.time.fromisoformat(value)
        except ValueError:
            pass
    raise TimetableError("time: a time as HH:MM is needed")


def _days(value: Any) -> tuple[int, ...]:
    if value is None or value == "":
        return ()
    if not isinstance(value, list) or len(value) > 31:
        raise TimetableError("days: a list of days from 1 to 31")
    found = set()
    for each in value:
        number = (
            int(each)
            if isinstance(each, str) and each.isascii() and each.isdigit() and len(each) <= 2
            else each
        )
        if type(number) is not int or not 1 <= number <= 31:
            raise TimetableError("days: a list of days from 1 to 31")
        found.add(number)
    return tuple(sorted(found))


def _shown(date: dt.date | None) -> str:
    return "" if date is None else date.isoformat()
