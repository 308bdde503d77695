"""What modules ask about firmware: is there any, and the file itself (device-cloud.md §4.3, §4.4, §12.2)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Final

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from gizserial.m2m import http_cloud
from gizserial.m2m.http import DEFAULT_PORT, ErrorAnswer, Server
from gizserial.m2m.http_cloud import ErrorCode
from sim.cloud.device import Device
from sim.cloud.events import Event, FirmwareStep
from sim.cloud.firmware import Fault, FirmwareImage, Firmwares, Push

NOTHING: Final = ErrorAnswer(ErrorCode.NO_PUSH_RULE, "Don't have a push rule id on device", 404)
UPGRADED: Final = ErrorAnswer(
    ErrorCode.ALREADY_UPGRADED, "push rule not in effect or device already upgrade", 404
)
NO_FILE: Final = ErrorAnswer(ErrorCode.FIRMWARE_NOT_FOUND, "firmware not found!", 404)
CUT: Final = "http.response.cut"
"""A message of ours to the server: end the connection here, as a fault."""
PATH: Final = "/dev/ota/v4.1/download"
PATH_G0: Final = "/dev/ota/download"
"""What G0 modules look for in an address (§9.1)."""
_PORT: Final = re.compile(r"[0-9]{1,5}")
_MD5_OF_NOTHING: Final = "d41d8cd98f00b204e9800998ecf8427e"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirmwareApi:
    """What the calls need."""

    firmwares: Firmwares
    host: Callable[[], str]
    """Host for the address of a download; empty for the one at which the module reached this server."""
    port: Callable[[], int]
    """Port of this server."""
    now: Callable[[], float]
    told: Callable[[Event], None] = lambda _event: None

    def check(self, request: Request, device: Device, firmware_type: int, soft: str) -> str | ErrorAnswer:
        """A module has reported a version: the offer, or why there is none."""
        found = self.firmwares.checked(device.did, device.product_key, firmware_type, soft, self.now())
        if found is None:
            return NOTHING
        push, new = found
        if new:
            self.tell(push)
        if push.state == "done":
            return UPGRADED
        return http_cloud.offer_answer(push.soft_version, self._url(request, push.token))

    def latest(self, request: Request) -> str | ErrorAnswer:
        """An MCU wants to know the newest version of its product; one that it has already is none."""
        form = http_cloud.parse_form(request.url.query)
        kind = {"1": 1, "2": 2}.get(form.get("type", ""), 0)
        image = self.firmwares.latest(form.get("product_key", "").lower(), kind)
        if image is None:
            return NOTHING
        if image.soft_version == form.get("soft_version"):
            return UPGRADED
        return http_cloud.offer_answer(image.soft_version, self._url(request, image.id))

    def download(self, request: Request) -> Response | ErrorAnswer:
        """The file, by the token of a push or the id of an image."""
        number = request.path_params["id"]
        push = self.firmwares.by_token(number)
        if push is not None and push.state == "withdrawn":
            return NO_FILE
        image = self.firmwares.image(number if push is None else push.firmware)
        content = b"" if image is None else self.firmwares.content(image)
        if image is None or not content:
            return NO_FILE
        fault = self.firmwares.faults.popleft() if self.firmwares.faults else None
        return FirmwareAnswer(image, content, fault, lambda: self._sent(push))

    def _sent(self, push: Push | None) -> None:
        if push is not None and push.state != "done":
            self.tell(self.firmwares.moved(push, "downloaded", self.now()))

    def tell(self, push: Push) -> None:
        """Tell how far a push is."""
        self.told(step(push, self.now()))

    def _url(self, request: Request, number: str) -> str:
        host = self.host()
        if not host:
            here = request.scope.get("server")
            host = here[0] if here else "127.0.0.1"
        return f"http://{Server(host, _port_seen(request, self.port())).authority}{PATH}/{number}"


def _port_seen(request: Request, own: int) -> int:
    """The port at which the module believes us to be.

    Field modules know port 80 only and would not survive another one in an address: who comes with a Host
    that names no port gets none, even if port 80 was led on to another one.
    """
    host = request.headers.get("host")
    if host is None or request.url.scheme != "http":
        return own
    text = host.rpartition(":")[2] if ":" in host.rpartition("]")[2] else ""
    return int(text) if _PORT.fullmatch(text) and 0 < int(text) < 65536 else DEFAULT_PORT


def step(push: Push, now: float) -> FirmwareStep:
    """A push as an event."""
    return FirmwareStep(
        at=now, did=push.did, firmware_type=push.type, soft_version=push.soft_version, state=push.state
    )


class FirmwareAnswer(Response):
    """A file with the header lines that modules search for, in their exact case (§4.4).

    :param sent: Called when all of it was handed to the connection.
    """

    def __init__(
        self, image: FirmwareImage, content: bytes, fault: Fault | None, sent: Callable[[], None]
    ) -> None:
        super().__init__(content)
        md5 = _MD5_OF_NOTHING if fault == "md5" else image.md5
        lines = (
            ("Content-Type", "application/octet-stream"),
            ("Content-Length", str(len(content))),
            ("Firmware-MD5", md5),
            ("Soft-Version", image.soft_version),
            ("Content-Disposition", f'attachment; filename="{image.name}"'),
            ("Connection", "close"),
        )
        self.raw_headers = [(name.encode(), value.encode()) for name, value in lines]
        self._cut, self._sent = fault == "cut", sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if not self._cut:
            await super().__call__(scope, receive, send)
            self._sent()
            return
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await send({"type": CUT})
