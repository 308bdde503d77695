"""Firmware on its way through a simulated module: from the cloud's file to the MCU (serial.md §6.7)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Final

from gizserial import schemas
from gizserial.commands import Command
from gizserial.endpoint import QueueFullError
from gizserial.errors import BodyError, EncodeError, ValueOutOfRange
from gizserial.events import (
    Event,
    FileAnnounced,
    FileReady,
    FileReceived,
    LateStopReceived,
    ModuleAsked,
    Outcome,
    TransferEnded,
    TransferEvent,
    TransferProgress,
)
from gizserial.image import Image, ImageError
from gizserial.m2m.effects import Effect, FirmwareFailed, FirmwareFetched, FirmwareOffer, Rejected
from gizserial.m2m.firmware import Firmware
from gizserial.m2m.http import MODULE_FIRMWARE, Purpose
from gizserial.m2m.http_jobs import Query
from gizserial.m2m.requests import Versions
from gizserial.m2m.session import CloudSession
from gizserial.module import ModuleRole

STEPS: Final = 10
"""How often progress is told in all."""
CHECK, CHECK_RESULT, FETCH, FETCH_RESULT = 1, 2, 3, 4
"""Sub types of 23 and 25 (§4.15)."""
_WORD: Final = re.compile(r"[!-%'-~]{1,32}")
"""What may stand in the query of an address."""
RESTART: Final = 0.1
"""Seconds from new firmware of the module itself to its restart."""
RESTART_AFTER_FILE: Final = 5.0
"""The same when the MCU has just got its own: it restarts first, or it would name its old version again."""


class FirmwareSide:
    """Hands what the session fetched to the MCU, and tells each step.

    A failure ends it: the next attempt is the next check's (device-cloud.md §4.4).

    :param say: Takes what happens, for people.
    """

    def __init__(self, role: ModuleRole, *, say: Callable[[str], None]) -> None:
        self._role, self._say = role, say
        self._step = 0
        self._query: Query | None = None
        """What the MCU has asked for, until it is answered."""
        self._only_other = False
        self._url: str | None = None
        """The file that the MCU wants."""
        self._held: Firmware | None = None
        """New firmware of the module itself, while a file goes to the MCU."""

    def restarted(self) -> None:
        """The module restarts: what the MCU asked for is forgotten."""
        self._query = self._url = self._held = None

    # --- from the cloud

    def effect(self, effect: Effect, session: CloudSession, now: float) -> bool:
        """Do what an effect means for firmware; gives whether it means something."""
        if isinstance(effect, FirmwareOffer) and effect.asked:
            self._answer_query(effect, now)
        elif isinstance(effect, Rejected):
            if effect.purpose is Purpose.LATEST:
                self._answer_query(None, now)
            return False
        elif isinstance(effect, FirmwareOffer):
            than = "" if effect.newer else ", which does not sort after the present version"
            self._say(f"the cloud offers {_of(effect.firmware_type)} firmware {effect.soft_version}{than}")
        elif isinstance(effect, FirmwareFailed):
            whose = _of(effect.firmware_type)
            self._say(f"{whose} firmware {effect.soft_version} cannot be had: {effect.reason}")
            self._answer_fetch(effect.url, now, ok=False)
        elif isinstance(effect, FirmwareFetched):
            self._answer_fetch(effect.firmware.url, now, ok=True)
            if effect.firmware.firmware_type == MODULE_FIRMWARE:
                self._update_module(effect.firmware, session, now)
            else:
                self._offer(effect.firmware, now)
        else:
            return False
        return True

    def _update_module(
        self, firmware: Firmware, session: CloudSession, now: float, *, delay: float = RESTART
    ) -> None:
        if self._role.sending_file:
            self._held = firmware
            self._say(f"module firmware {firmware.soft_version} waits until the MCU has its own")
            return
        self._held = None
        # 020e names no version, and a foreign server may not either: then it is taken for the same.
        self._role.soft_ver = firmware.soft_version or self._role.soft_ver
        session.module_updated(Versions(self._role.options.hard_ver, self._role.soft_ver))
        self._role.reboot(f"new module firmware {firmware.soft_version}", now=now, delay=delay)

    def _offer(self, firmware: Firmware, now: float) -> None:
        try:
            image = Image(firmware.data, firmware.hex, firmware.soft_version, firmware.md5)
            self._role.offer_file(image, now=now, token=firmware)
        except (QueueFullError, ImageError) as error:
            self._say(f"firmware {firmware.soft_version} cannot be offered to the MCU: {error}")
            return
        self._step = 0
        kind = "HEX" if firmware.hex else "BIN"
        self._say(f"firmware {firmware.soft_version} is announced to the MCU: {image.size} bytes, {kind}")

    # --- from the MCU

    def asked(self, event: ModuleAsked, session: CloudSession | None, now: float) -> bool:
        """Do what the MCU asks for with 23 (§4.15): is there firmware, or fetch a file. 25 answers later."""
        fields = event.fields
        if event.name != "transaction":
            return False
        if fields.get("sub") == CHECK:
            self._query = Query(fields["product_key"], fields["hard_ver"], fields["soft_ver"])
            self._only_other = bool(fields["check_flag"])
            self._say(f"the MCU asks for firmware of product {self._query.product_key[:8]}…")
            sound = all(_WORD.fullmatch(text) for text in dataclasses.astuple(self._query))
            if not sound or session is None or not session.query_firmware(now, self._query):
                self._answer_query(None, now)
        elif fields.get("sub") == FETCH:
            self._url = url = fields["url"]
            self._say(f"the MCU wants the file {url}")
            if session is None or not session.fetch_firmware(url, now):
                self._answer_fetch(url, now, ok=False)
        else:
            return False
        return True

    def _answer_query(self, offer: FirmwareOffer | None, now: float) -> None:
        """25, sub 2. With the check flag a version that differs is news, without it every version is."""
        query, self._query = self._query, None
        if query is None:
            return
        if offer is None or (self._only_other and offer.soft_version[:8] == query.soft_version[:8]):
            self._result({"sub": CHECK_RESULT}, now)
        else:
            self._result({"sub": CHECK_RESULT, "soft_ver": offer.soft_version[:8], "url": offer.url}, now)

    def _answer_fetch(self, url: str, now: float, *, ok: bool) -> None:
        """25, sub 4: 0 is success."""
        if self._url == url:
            self._url = None
            self._result({"sub": FETCH_RESULT, "result": int(not ok)}, now)

    def _result(self, fields: dict[str, object], now: float) -> None:
        try:
            self._role.send(Command.TRANSACTION_RESULT, schemas.TRANSACTION_RESULT.build(fields), now=now)
        except (QueueFullError, EncodeError, BodyError) as error:
            self._say(f"the MCU cannot be told the result (25): {error}")

    def event(self, event: Event, session: CloudSession | None, now: float) -> bool:
        """Tell how a transfer goes, hand on a file of the MCU; gives whether the event is of one."""
        if not isinstance(event, TransferEvent):
            return False
        if isinstance(event, FileReady):
            what = (
                f"{event.count} lines of HEX"
                if event.hex
                else f"{event.count} pieces of {event.piece_size} bytes"
            )
            self._say(f"the MCU wants the firmware: {what}")
        elif isinstance(event, TransferProgress):
            self._progress(event)
        elif isinstance(event, TransferEnded) and isinstance(event.token, Firmware):
            self._ended(event, event.token.soft_version)
            if self._held is not None and session is not None:
                complete = event.outcome is Outcome.COMPLETE
                delay = RESTART_AFTER_FILE if complete else RESTART
                self._update_module(self._held, session, now, delay=delay)
        elif isinstance(event, LateStopReceived):
            self._say("the MCU sent 27 with no file under way: it refuses the one that it got")
        elif isinstance(event, FileAnnounced):
            declined = f", which is not taken: {event.declined}" if event.declined else ""
            self._say(f"the MCU announces a file of {event.size} bytes{declined}")
        elif isinstance(event, FileReceived):
            self._say(f"the file of the MCU is here: {len(event.data)} bytes, MD5 {event.md5}")
            self._upload(event.data, session, now)
        elif isinstance(event, TransferEnded) and event.outcome is not Outcome.COMPLETE:
            self._say(f"the file of the MCU ended ({event.outcome.value}): {event.detail}")
        return True

    def _upload(self, data: bytes, session: CloudSession | None, now: float) -> None:
        """One 0091 with the whole file in place of a P0 (device-cloud.md §8.4); dropped without a cloud.

        GAgent begins to publish with the first piece and fills up with garbage when the transfer breaks off;
        here the file is whole and checked before it leaves.
        """
        try:
            published = session is not None and session.publish_report(data, now)
        except ValueOutOfRange as error:
            self._say(f"the file of the MCU cannot be published: {error}")
            return
        self._say(
            "the file of the MCU is published"
            if published
            else "the file of the MCU is dropped: there is no cloud connection"
        )

    def _progress(self, event: TransferProgress) -> None:
        step = event.number * STEPS // event.count if event.count else 0
        if step > self._step:
            self._step = step
            self._say(f"firmware: piece {event.number} of {event.count}")

    def _ended(self, event: TransferEnded, version: str) -> None:
        if event.outcome is Outcome.COMPLETE:
            self._say(f"the MCU has firmware {version}; its next start tells whether it took it")
        else:
            self._say(f"the MCU has no new firmware ({event.outcome.value}): {event.detail}")


def _of(firmware_type: int) -> str:
    return "module" if firmware_type == MODULE_FIRMWARE else "MCU"
