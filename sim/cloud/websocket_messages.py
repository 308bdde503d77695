r"""Messages of the WebSocket API: what comes in, taken apart, and what goes out (websocket-api.md §3).

Everything that leaves is ASCII: other characters are ``\u`` escapes (§2).
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from sim.cloud.device import Device

MAX_MESSAGE: Final = 256 * 1024
"""Bytes of a message that is accepted (§1)."""
MAX_SN: Final = 2**31 - 1
"""Largest ``req_sn`` (§7.4)."""
HEARTBEAT: Final = 180.0
"""Seconds: the interval without ``heartbeat_interval``, and the largest that counts (§10)."""
_MAX_NAME: Final = 64


class Fault(enum.IntEnum):
    """``error_code`` (§11)."""

    FORMAT = 1001
    LOGIN_FAILED = 1002
    NOT_LOGGED_IN = 1003
    UNKNOWN_COMMAND = 1004
    NOT_BOUND = 1005
    OFFLINE = 1006
    ATTRS = 1007
    RAW = 1008
    SESSION_LOST = 1009
    P0_TYPE = 1010
    NO_HEARTBEAT = 1011
    DEVICE_DATA = 1012
    SEND_FAILED = 1013


_TEXTS: Final = {
    Fault.FORMAT: "Invalid message format!",
    Fault.LOGIN_FAILED: "Login failed!",
    Fault.NOT_LOGGED_IN: "Websocket client not login!",
    Fault.UNKNOWN_COMMAND: "Unknown command!",
    Fault.NOT_BOUND: "Device is not bound!",
    Fault.OFFLINE: "Device is offline!",
    Fault.ATTRS: "Invalid attrs: {}!",
    Fault.RAW: "Invalid raw data!",
    Fault.SESSION_LOST: "M2M socket has closed, please login again!",
    Fault.P0_TYPE: "Command not allowed for this p0_type!",
    Fault.NO_HEARTBEAT: "No heartbeat!",
    Fault.DEVICE_DATA: "Invalid device data!",
    Fault.SEND_FAILED: "Send command failed!",
}


# --- what comes in


def parse(message: str | bytes) -> dict[str, Any] | None:
    """The object in a message whose ``cmd`` is a text; None when it is nothing of the kind (1001).

    A binary frame holds UTF-8 as a text frame does.
    """
    try:
        text = message if isinstance(message, str) else message.decode()
        found = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):  # no UTF-8, no JSON, a number of thousands of digits, too deep
        return None
    if not isinstance(found, dict) or not isinstance(found.get("cmd"), str):
        return None
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def heartbeat_of(value: Any) -> float:
    """Seconds that ``heartbeat_interval`` stands for: a number or its text, 180 for all else (§5.1)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return HEARTBEAT
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return HEARTBEAT
    return min(seconds, HEARTBEAT) if math.isfinite(seconds) and seconds > 0 else HEARTBEAT


def patience(heartbeat: float) -> float:
    """Seconds without activity after which a session is dead (§10)."""
    return max(1.5 * heartbeat + 10, 40.0)


def truth_of(value: Any, *, default: bool) -> bool:
    """A bool as clients write it; anything that is none stands for the default."""
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.lower(), default)
    return bool(value) if isinstance(value, bool | int) else default


# --- what goes out


def encode(message: Mapping[str, Any]) -> str:
    """A message as it is sent."""
    return json.dumps(message, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


LOGIN_DONE: Final = encode({"cmd": "login_res", "data": {"success": True}})
PONG: Final = encode({"cmd": "pong"})


def message_of(fault: Fault, name: str = "") -> str:
    """``msg`` of a fault, in ASCII; ``name`` is the data point that it is about."""
    shown = name.encode("ascii", "backslashreplace").decode("ascii")
    return _TEXTS[fault].format(shown if len(shown) <= _MAX_NAME else f"{shown[:_MAX_NAME]}...")


def invalid(fault: Fault, name: str = "") -> str:
    """``s2c_invalid_msg``."""
    return encode(
        {"cmd": "s2c_invalid_msg", "data": {"error_code": int(fault), "msg": message_of(fault, name)}}
    )


def login_failed() -> str:
    """``login_res`` of a login that is refused."""
    fault = Fault.LOGIN_FAILED
    data = {"success": False, "error_code": int(fault), "msg": message_of(fault)}
    return encode({"cmd": "login_res", "data": data})


def subscribed(success: list[str], failed: list[str]) -> str:
    """``subscribe_res``: both lists are always there (§6)."""
    fault = Fault.NOT_BOUND
    return encode(
        {
            "cmd": "subscribe_res",
            "data": {
                "success": [{"did": did, "error_code": 0, "msg": "ok"} for did in success],
                "failed": [
                    {"did": did, "error_code": int(fault), "msg": message_of(fault)} for did in failed
                ],
            },
        }
    )


def noti(did: str, attrs: Mapping[str, Any], *, req_sn: int | None = None, res_sn: int | None = None) -> str:
    """``s2c_noti``.

    :param req_sn: Of a report that wants a ``c2s_ack``.
    :param res_sn: ``req_sn`` of the command that it answers.
    """
    head: dict[str, Any] = {"cmd": "s2c_noti"}
    if res_sn is not None:
        head["res_sn"] = res_sn
    elif req_sn is not None:
        head["req_sn"] = req_sn
    return encode({**head, "data": {"did": did, "attrs": attrs}})


def raw(did: str, packet: bytes) -> str:
    """``s2c_raw``."""
    return encode({"cmd": "s2c_raw", "data": {"did": did, "raw": list(packet)}})


def ack(did: str, res_sn: int) -> str:
    """``s2c_ack``."""
    return encode({"cmd": "s2c_ack", "res_sn": res_sn, "did": did})


def online_status(device: Device, *, online: bool) -> str:
    """``s2c_online_status``."""
    data = {"did": device.did, "passcode": device.passcode, "mac": device.mac, "online": online}
    return encode({"cmd": "s2c_online_status", "data": data})


def binding_changed(did: str, *, bind: bool) -> str:
    """``s2c_binding_changed``."""
    return encode({"cmd": "s2c_binding_changed", "data": {"did": did, "bind": bind}})
