"""What a module does with an offer of firmware: fetch it once, check it, hand it on (device-cloud.md §4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal

from gizserial.errors import ValueOutOfRange
from gizserial.m2m.effects import Effect, FirmwareFailed, FirmwareFetched, FirmwareOffer, Trace
from gizserial.m2m.firmware import DOWNLOAD_TIME, Firmware, download, parse_firmware
from gizserial.m2m.http import Offer, Purpose
from gizserial.m2m.http_jobs import HttpJobs, Job

Wanted = Literal["newer", "other", "never"]
"""Which firmware is fetched: what is newer as [V4] compares (``strcmp``), any other than what runs, none."""


class Downloads:
    """Makes jobs of offers and effects of their answers.

    :param out: Takes the effects.
    :param tell: Takes how far a file is: percent, kind of firmware, offer, and a word.
    """

    def __init__(
        self,
        out: list[Effect],
        jobs: HttpJobs,
        wanted: Wanted,
        tell: Callable[[int, int, Offer, str], None],
    ) -> None:
        self._out, self._jobs, self._wanted, self._tell = out, jobs, wanted, tell

    @property
    def running(self) -> bool:
        """A file is on its way."""
        return self._jobs.current is not None and self._jobs.current.purpose is Purpose.DOWNLOAD

    def offered(self, offer: Offer, job: Job, present: str) -> None:
        """The cloud has firmware. What the MCU only asked about is not fetched; what names no version is.

        :param present: The version that runs.
        """
        newer = present < offer.soft_version
        asked = job.purpose is Purpose.LATEST
        self._out.append(FirmwareOffer(job.kind, offer.soft_version, offer.url, newer, asked))
        wanted: Final = {
            "newer": newer or not offer.soft_version,
            "other": present != offer.soft_version,
            "never": False,
        }
        if wanted[self._wanted] and not asked:
            self.start(offer, job.kind)

    def start(self, offer: Offer, kind: int) -> None:
        """Fetch a file before anything else is asked."""
        try:
            download(offer, kind)
        except ValueOutOfRange as error:
            self._out.append(FirmwareFailed(kind, offer.soft_version, str(error), offer.url))
            return
        self._out.append(Trace(f"firmware {offer.soft_version} is downloaded from {offer.url}"))
        self._jobs.add(Job(Purpose.DOWNLOAD, kind, offer), first=True)
        self._tell(0, kind, offer, "downloading")

    def answered(self, job: Job, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """The file, or something else, has come."""
        self._jobs.done()
        found = "" if job.offer is None else parse_firmware(job.offer, job.kind, status, headers, body)
        if isinstance(found, Firmware):
            self._out.append(Trace(f"firmware {found.soft_version}: {len(body)} bytes, their MD5 is right"))
            self._out.append(FirmwareFetched(found))
            if job.offer is not None:
                self._tell(100, job.kind, job.offer, "downloaded")
        else:
            self.failed(job, found)

    def failed(self, job: Job, reason: str) -> None:
        """It will not be tried again before the next check."""
        self._jobs.give_up()
        if job.offer is not None:
            self._out.append(FirmwareFailed(job.kind, job.offer.soft_version, reason, job.offer.url))
            self._tell(0, job.kind, job.offer, "failed")

    def handle_timeout(self, now: float) -> None:
        """Give up what takes too long."""
        late = self._jobs.expired(now)
        if late is not None:
            self.failed(late, f"the file did not come within {DOWNLOAD_TIME:g} s")
