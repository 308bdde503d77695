"""Commands that users left behind in schedules, scenes and rules. They are checked when they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sim.cloud.api_errors import ApiError, Code
from sim.cloud.events import Origin
from sim.cloud.values import RawInvalid, raw_bytes

if TYPE_CHECKING:
    from sim.cloud.app_side import AppSide


def checked_command(
    side: AppSide, product_key: str, body: Mapping[str, Any], *, base64_text: bool = False
) -> dict[str, Any]:
    """What is kept of a command for a product: ``attrs``, and ``raw`` in hex.

    :param base64_text: Texts of bytes are base64 unless ``binary_coding`` says hex (§14); otherwise the
        reverse (§13).
    :raises ApiError: 9015 neither is there or raw is no text of that form, 9025 attrs that cannot be set.
    """
    kept = named_command(body, base64_text=base64_text)
    if kept["attrs"]:
        side.command_packet(product_key, kept)
    return kept


def named_command(body: Mapping[str, Any], *, base64_text: bool = False) -> dict[str, Any]:
    """What is kept of a command, before it is known whether its device can take it.

    :raises ApiError: 9015 neither attrs nor raw is there, or raw is no text of that form.
    """
    attrs, raw, coding = body.get("attrs"), body.get("raw"), body.get("binary_coding")
    if attrs:
        return {"attrs": dict(attrs), "raw": ""} | ({"binary_coding": coding} if coding else {})
    base64_text = coding == "base64" if coding else base64_text
    if not isinstance(raw, str | list) or not raw:
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
        coding = command.get("binary_coding")
        body = {"attrs": attrs, "binary_coding": coding} if attrs else {"raw": command.get("raw")}
        side.send(device, side.command_packet(device.product_key, body), Origin("scheduler", uid, appid))
    except ApiError:
        return False
    return True
