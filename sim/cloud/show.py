"""The cloud's events as a person or a script reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from gizserial.codec import Codec
from gizserial.describe import json_line, json_value, value_text
from gizserial.errors import BodyError
from gizserial.product import Product
from sim.cloud.events import (
    Answer,
    AppOffline,
    AppOnline,
    Dropped,
    Event,
    FirmwareProgress,
    FirmwareStep,
    LoginRefused,
    ModuleLog,
    Notice,
    Offline,
    Online,
    Provisioned,
    Registered,
    Report,
    Request,
    Unregistered,
)

_SHORT: Final = 8
_STEPS: Final = {
    "waiting": "waits until the device is on line",
    "told": "the device was told to check",
    "offered": "offered",
    "downloaded": "sent to the module",
    "done": "is what the device runs now",
    "withdrawn": "is offered no more",
}


class CloudShow:
    """Turns events into lines.

    :param product_of: The definition of a device's product, by did; None where there is none.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        as_json: bool = False,
        product_of: Callable[[str], Product | None] = lambda _did: None,
    ) -> None:
        self._write, self._as_json, self._product_of = write, as_json, product_of
        self._codecs: dict[int, Codec] = {}

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if self._as_json:
            members = {"kind": type(event).__name__, **dataclasses.asdict(event)}
            self._write(json_line(json_value(members)))
            return
        text = self.text(event)
        if text:
            when = datetime.fromtimestamp(event.at).astimezone().strftime("%H:%M:%S.%f")[:-3]
            self._write(f"{when}  {text}")

    def text(self, event: Event) -> str:
        """One line; empty for what is of no interest to a person."""
        if isinstance(event, Registered):
            new = "a new device" if event.new else "a known device"
            return f"{event.did} registered: {new}, MAC {event.mac}, product {event.product_key[:_SHORT]}…"
        if isinstance(event, Provisioned):
            return f"{event.did} provisioned: MQTT at {event.host}:{event.port}"
        if isinstance(event, Unregistered):
            return f"{event.did} was reset"
        if isinstance(event, FirmwareStep):
            kind = "module" if event.firmware_type == 1 else "MCU"
            return f"{event.did} {kind} firmware {event.soft_version}: {_STEPS[event.state]}"
        if isinstance(event, FirmwareProgress):
            return f"{event.did} firmware {event.versions}: {event.progress} %, {event.text}"
        if isinstance(event, Online):
            return f"{event.did} on line"
        if isinstance(event, Offline):
            return f"{event.did} off line: {event.reason}"
        if isinstance(event, LoginRefused):
            return f"login of {event.client_id!r} refused ({event.code}): {event.reason}"
        if isinstance(event, AppOnline):
            return f"{event.did}: app {event.client} on line"
        if isinstance(event, AppOffline):
            return f"{event.did}: app {event.client} off line"
        if isinstance(event, Request):
            return f"{event.did} ← {event.client}: {self._p0(event.did, event.p0)}"
        if isinstance(event, Answer):
            return f"{event.did} → {event.client}: acknowledged{self._tail(event)}"
        if isinstance(event, Report):
            return f"{event.did} → all: {self._p0(event.did, event.p0)}"
        if isinstance(event, ModuleLog):
            return f"{event.did} log: {event.text}"
        if isinstance(event, Dropped):
            return f"{event.did}: dropped {event.reason}"
        if isinstance(event, Notice):
            return event.text
        return ""

    def _tail(self, event: Answer) -> str:
        return f" with {self._p0(event.did, event.p0)}" if event.p0 else ""

    def _p0(self, did: str, p0: bytes) -> str:
        product = self._product_of(did)
        codec = self._codecs.setdefault(id(product), Codec(product))
        try:
            parsed = codec.p0.parse(p0)
        except BodyError as error:
            return f"{p0.hex()} ({error})"
        if parsed.meaning is None:
            return p0.hex() or "empty"
        parts: list[Any] = [parsed.meaning.value]
        if parsed.raw is not None and product is not None:
            points = product.by_name
            parts += [f"{name}={value_text(points[name].value(raw))}" for name, raw in parsed.raw.items()]
        elif parsed.data is not None:
            parts.append(parsed.data.hex())
        elif parsed.points:
            parts.append(", ".join(parsed.points))
        elif len(p0) > 1:
            parts.append(p0[1:].hex())
        return " ".join(parts)
