"""Commands that users left behind in schedules, scenes and rules. They are checked when they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sim.cloud.api_errors import ApiError, Code
from sim.cloud.device import Device
from sim.cloud.events import Origin
from sim.cloud.values import RawInvalid, raw_bytes

if TYPE_CHECKING:
    from sim.cloud.app_side import AppSide


def checked_command(
    side: AppSide, device: Device, body: Mapping[str, Any], *, base64_text: bool = False
) -> dict[str, Any]:
    """What is kept of a command: ``attrs``, and ``raw`` in hex.

    :param base64_text: ``raw`` is base64 in the body (§14); otherwise hex (§13).
    :raises ApiError: 9015 neither is there or raw is no text of that form, 9025 attrs that cannot be set.
    """
    attrs, raw = body.get("attrs"), body.get("raw")
    if attrs:
        side.command_packet(device, {"attrs": attrs})
        return {"attrs": dict(attrs), "raw": ""}
    if not isinstance(raw, str) or not raw:
        raise ApiError(Code.FORM_INVALID, "attrs or raw is needed")
    try:
        data = raw_bytes(raw, base64_text=base64_text)
    except RawInvalid as error:
        raise ApiError(Code.FORM_INVALID, f"raw: {error}") from error
    return {"attrs": {}, "raw": data.hex()}


def send_command(side: AppSide, uid: str, appid: str, did: str, command: Mapping[str, Any]) -> bool:
    """Send a kept command; whether it was handed to the device.

    It is not when the user is gone or has the device no more, or the device cannot be commanded now.
    """
    user = side.accounts.user(uid)
    if user is None:
        return False
    try:
        device = side.commandable(user, did)
        attrs = command.get("attrs")
        body = {"attrs": attrs} if attrs else {"raw": command.get("raw")}
        side.send(device, side.command_packet(device, body), Origin("scheduler", uid, appid))
    except ApiError:
        return False
    return True
