"""One HTTP request after the other, repeated until it is answered (device-cloud.md §4.6).

Only order and times are decided here; what a request looks like and what its answer means is the session's.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Final

from gizserial.m2m.firmware import DOWNLOAD_TIME
from gizserial.m2m.http import Offer, Purpose

FIRST_TIMEOUT: Final = 5.0
"""Seconds to wait for an answer before the same request is sent again."""
TIMEOUT_STEP: Final = 10.0
"""Each repeat waits this much longer: 5, 15, 25 …"""
TIMEOUT_CAP: Final = 600.0
FORCE_PROVISION: Final = 10
"""After this many time-outs in a row the address of the cloud is asked for again."""
REBOOT_AFTER: Final = 7200.0
"""[V4] reboots after this many seconds without an HTTP success; here it is an event."""


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """Whose newest firmware an MCU asks for (serial 23)."""

    product_key: str
    hard_version: str
    soft_version: str


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """Something to be asked; ``kind`` is the firmware type of a check or download."""

    purpose: Purpose
    kind: int = 0
    offer: Offer | None = None
    """What is downloaded. A download that fails is not repeated (§4.4)."""
    query: Query | None = None
    """What the MCU asks for; None: what it is itself."""


class HttpJobs:
    """A queue of jobs, of which one is in flight."""

    def __init__(self) -> None:
        self._queue: deque[Job] = deque()
        self._timeout = FIRST_TIMEOUT
        self._deadline: float | None = None
        self._misses = 0
        self.current: Job | None = None

    def add(self, job: Job, *, first: bool = False) -> None:
        """Queue a job unless it is waiting already; ``first`` puts it before the others."""
        if job == self.current:
            return
        if job in self._queue:
            if not first:
                return
            self._queue.remove(job)
        if first:
            self._queue.appendleft(job)
        else:
            self._queue.append(job)

    def clear(self) -> None:
        """Forget everything, also how long the last answers took."""
        self._queue.clear()
        self.done()

    def next(self, now: float) -> Job | None:
        """The job to send now, or None while one is in flight or none is waiting."""
        if self.current is not None or not self._queue:
            return None
        self.current = self._queue.popleft()
        self._deadline = now + (DOWNLOAD_TIME if self.current.purpose is Purpose.DOWNLOAD else self._timeout)
        return self.current

    def done(self) -> None:
        """The job in flight got a usable answer."""
        self.current, self._deadline = None, None
        self._timeout, self._misses = FIRST_TIMEOUT, 0

    def give_up(self) -> None:
        """The job in flight will not be repeated."""
        self.current, self._deadline = None, None

    def next_timeout(self) -> float | None:
        """When the job in flight is due to be repeated."""
        return self._deadline

    def expired(self, now: float) -> Job | None:
        """The download in flight when its time is over; it is given up."""
        job = self.current
        if (
            job is None
            or job.purpose is not Purpose.DOWNLOAD
            or self._deadline is None
            or now < self._deadline
        ):
            return None
        self.give_up()
        return job

    def repeat(self, now: float, *, may_provision: bool) -> Job | None:
        """The job to send again when its time is over; after ten misses it may be a provisioning."""
        if self.current is None or self._deadline is None or now < self._deadline:
            return None
        if self.current.purpose is Purpose.DOWNLOAD:
            return None
        self._misses += 1
        self._timeout = min(self._timeout + TIMEOUT_STEP, TIMEOUT_CAP)
        self._deadline = now + self._timeout
        forced = self._misses % FORCE_PROVISION == 0 and may_provision
        if forced and self.current.purpose not in {Purpose.PROVISION, Purpose.TIME, Purpose.REGISTER}:
            self._queue.appendleft(self.current)
            self.current = Job(Purpose.PROVISION)
        return self.current
