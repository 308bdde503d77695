"""Understands what devices say, keeps it, and only then tells the interfaces.

So the state that ``latest`` shows is never older than what was pushed (websocket-api.md §12).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gizserial.errors import BodyError
from gizserial.p0 import Action
from gizserial.product import Layout, Product
from sim.cloud.auth import CLIENT
from sim.cloud.events import (
    Answer,
    BadReported,
    DataReported,
    Event,
    Offline,
    Online,
    Origin,
    RawReported,
    Report,
    Request,
)
from sim.cloud.heartbeat import Heartbeat
from sim.cloud.history import History, Kind
from sim.cloud.hub import Hub
from sim.cloud.values import Codecs, is_readable

_DATA: Final = frozenset({Action.READ_REPLY, Action.REPORT, Action.VAR_READ_REPLY, Action.VAR_REPORT})


class Recorder:
    """An observer of the hub that stores, decodes, and tells the decoded.

    :param product_of: The definition of a device's product, by product key; None where there is none.
    """

    def __init__(
        self,
        hub: Hub,
        history: History,
        *,
        product_of: Callable[[str], Product | None],
    ) -> None:
        self._hub, self._store, self._history = hub, hub.store, history
        self._product_of = product_of
        self._codecs = Codecs()

    def __call__(self, event: Event) -> None:
        """Keep one event, and tell what it means."""
        if isinstance(event, Report):
            self._packet(event, "dev2app", event.packet)
            if event.p0[0] == Action.RAW_FROM_MCU:
                self._hub.keep(lambda: self._store.save_raw(event.did, event.p0[1:], event.at))
            else:
                self._hub.keep(lambda: self._store.save_report(event.did, event.p0, event.at))
            self._understand(event.did, event.at, event.p0, event.packet, sn=event.sn)
        elif isinstance(event, Answer):
            self._packet(event, "dev2app", event.packet)
            if event.p0:
                answers = event.sn if event.client == CLIENT else None
                if event.p0[0] in _DATA:  # a report too, for all who look at the last one
                    self._hub.keep(lambda: self._store.save_report(event.did, event.p0, event.at))
                self._understand(event.did, event.at, event.p0, event.packet, answers=answers)
        elif isinstance(event, Request):
            self._packet(event, "app2dev", event.packet, origin=event.origin)
        elif isinstance(event, Online):
            kind: Kind = "dev_re_online" if event.again else "dev_online"
            self._packet(event, kind, keep_alive=event.keep_alive)
        elif isinstance(event, Offline):
            self._packet(event, "dev_offline", reason=event.reason, heartbeat=event.heartbeat)

    def _packet(
        self,
        event: Report | Answer | Request | Online | Offline,
        kind: Kind,
        payload: bytes | None = None,
        *,
        origin: Origin | None = None,
        reason: str | None = None,
        keep_alive: int | None = None,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        device = self._store.device(event.did)
        address = None if device is None else device.last_address
        self._hub.keep(
            lambda: self._history.packet(
                event.did,
                kind,
                event.at,
                ip=address,
                payload=payload,
                origin=origin,
                reason=reason,
                keep_alive=keep_alive,
                heartbeat=heartbeat,
            ),
        )

    def _understand(
        self,
        did: str,
        at: float,
        p0: bytes,
        packet: bytes,
        *,
        sn: int | None = None,
        answers: int | None = None,
    ) -> None:
        device = self._store.device(did)
        product = self._product_of(device.product_key) if device is not None else None
        if device is None or product is None or p0[0] not in _DATA:
            self._hub.tell(RawReported(at=at, did=did, p0=p0, packet=packet, sn=sn, answers=answers))
            return
        raw, reason = self._decode(product, p0)
        if raw is None:
            self._hub.tell(BadReported(at=at, did=did, packet=packet, reason=reason))
            return
        before = device.state
        self._hub.keep(lambda: self._store.save_state(did, {**before, **raw}))
        self._hub.keep(lambda: self._history.data(did, at, raw))
        if raw:
            self._hub.tell(
                DataReported(
                    at=at, did=did, raw=raw, before=before, p0=p0, packet=packet, sn=sn, answers=answers
                )
            )

    def _decode(self, product: Product, p0: bytes) -> tuple[dict[str, int | bytes] | None, str]:
        try:
            parsed = self._codecs.of(product).parse(p0)
        except BodyError as error:
            return None, str(error)
        if parsed.raw is None:
            return None, "; ".join(parsed.warnings) or "it holds no data points"
        if product.layout is Layout.FIXED and parsed.warnings:
            return None, "; ".join(parsed.warnings)  # a status of another length is another product's
        if not is_readable(product, parsed.raw):
            return None, "an enum index is out of range"
        return parsed.raw, ""
