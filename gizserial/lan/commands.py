"""Every LAN command: who sends it, over what, and whether it needs a login (lan.md §2)."""

from __future__ import annotations

import dataclasses
import enum
from types import MappingProxyType
from typing import Final

UDP_PORT: Final = 12414
"""A module listens here for discovery and on-boarding."""
ANNOUNCE_PORT: Final = 2415
"""Apps listen here for the announcements 0005 and 0019."""
TCP_PORT: Final = 12416
"""A module listens here for sessions."""

WEB_PORT: Final = 80
"""A module in SoftAP mode has a web form here."""


class Carrier(enum.Enum):
    """What a command travels in."""

    UDP = "UDP"
    BROADCAST = "UDP broadcast"
    TCP = "TCP"


class Side(enum.Enum):
    """Who sends a command."""

    APP = "app"
    MODULE = "module"


class LanCommand(enum.IntEnum):
    """Numbers of the commands."""

    ONBOARD = 0x0001
    ONBOARD_ACK = 0x0002
    DISCOVER = 0x0003
    DISCOVER_REPLY = 0x0004
    STARTED = 0x0005
    PASSCODE = 0x0006
    PASSCODE_REPLY = 0x0007
    LOGIN = 0x0008
    LOGIN_REPLY = 0x0009
    WIFI_VERSION = 0x000A
    WIFI_VERSION_REPLY = 0x000B
    HOTSPOTS = 0x000C
    HOTSPOTS_REPLY = 0x000D
    SERIAL_SETTINGS = 0x000E
    SERIAL_SETTINGS_REPLY = 0x000F
    LOG_SWITCH = 0x0010
    LOG_DATA = 0x0011
    RESERVED = 0x0012
    INFO = 0x0013
    INFO_REPLY = 0x0014
    HEARTBEAT = 0x0015
    HEARTBEAT_REPLY = 0x0016
    LEAVE_TEST = 0x0017
    LEAVE_TEST_REPLY = 0x0018
    ONBOARDED = 0x0019
    APP_001B = 0x001B
    MODULE_0062 = 0x0062
    CONTROL = 0x0090
    REPORT = 0x0091
    CONTROL_ACKED = 0x0093
    ACK = 0x0094


@dataclasses.dataclass(frozen=True, slots=True)
class LanSpec:
    """One row of the table."""

    command: LanCommand
    carrier: Carrier
    sender: Side
    meaning: str
    login: bool = False
    """Before a login the connection is closed without an answer."""
    answer: LanCommand | None = None

    @property
    def name(self) -> str:
        """Lower case, as commands are named elsewhere."""
        return self.command.name.lower()


_C, _UDP, _CAST, _TCP, _APP, _MODULE = (
    LanCommand,
    Carrier.UDP,
    Carrier.BROADCAST,
    Carrier.TCP,
    Side.APP,
    Side.MODULE,
)

COMMANDS: Final = MappingProxyType(
    {
        int(spec.command): spec
        for spec in (
            LanSpec(_C.ONBOARD, _UDP, _APP, "router data, in SoftAP mode", answer=_C.ONBOARD_ACK),
            LanSpec(_C.ONBOARD_ACK, _UDP, _MODULE, "router data arrived"),
            LanSpec(_C.DISCOVER, _UDP, _APP, "who is there?", answer=_C.DISCOVER_REPLY),
            LanSpec(_C.DISCOVER_REPLY, _UDP, _MODULE, "who answers a discovery"),
            LanSpec(_C.STARTED, _CAST, _MODULE, "announcement after the start"),
            LanSpec(_C.PASSCODE, _TCP, _APP, "get the passcode (bind)", answer=_C.PASSCODE_REPLY),
            LanSpec(_C.PASSCODE_REPLY, _TCP, _MODULE, "passcode, or a refusal"),
            LanSpec(_C.LOGIN, _TCP, _APP, "login", answer=_C.LOGIN_REPLY),
            LanSpec(_C.LOGIN_REPLY, _TCP, _MODULE, "result of the login"),
            LanSpec(_C.WIFI_VERSION, _TCP, _APP, "Wi-Fi firmware version (old)", login=True),
            LanSpec(_C.WIFI_VERSION_REPLY, _TCP, _MODULE, "Wi-Fi firmware version (old)"),
            LanSpec(_C.HOTSPOTS, _TCP, _APP, "which routers are there?", answer=_C.HOTSPOTS_REPLY),
            LanSpec(_C.HOTSPOTS_REPLY, _TCP, _MODULE, "routers in reach"),
            LanSpec(_C.SERIAL_SETTINGS, _TCP, _APP, "serial settings (old)", login=True),
            LanSpec(_C.SERIAL_SETTINGS_REPLY, _TCP, _MODULE, "serial settings (old)"),
            LanSpec(_C.LOG_SWITCH, _TCP, _APP, "log switch", login=True),
            LanSpec(_C.LOG_DATA, _TCP, _MODULE, "log data"),
            LanSpec(_C.RESERVED, _TCP, _MODULE, "reserved"),
            LanSpec(_C.INFO, _TCP, _APP, "module information", answer=_C.INFO_REPLY),
            LanSpec(_C.INFO_REPLY, _TCP, _MODULE, "module information"),
            LanSpec(_C.HEARTBEAT, _TCP, _APP, "heartbeat", login=True, answer=_C.HEARTBEAT_REPLY),
            LanSpec(_C.HEARTBEAT_REPLY, _TCP, _MODULE, "heartbeat"),
            LanSpec(_C.LEAVE_TEST, _TCP, _APP, "leave the production test", answer=_C.LEAVE_TEST_REPLY),
            LanSpec(_C.LEAVE_TEST_REPLY, _TCP, _MODULE, "the production test is left"),
            LanSpec(_C.ONBOARDED, _CAST, _MODULE, "announcement after on-boarding"),
            LanSpec(_C.APP_001B, _UDP, _APP, "unknown, sent by the official app"),
            LanSpec(_C.MODULE_0062, _TCP, _MODULE, "unknown, after the login of some modules"),
            LanSpec(_C.CONTROL, _TCP, _APP, "P0 for the MCU", login=True, answer=_C.REPORT),
            LanSpec(_C.REPORT, _TCP, _MODULE, "P0 of the MCU"),
            LanSpec(_C.CONTROL_ACKED, _TCP, _APP, "numbered P0 for the MCU", login=True, answer=_C.ACK),
            LanSpec(_C.ACK, _TCP, _MODULE, "acknowledgement of a numbered P0"),
        )
    }
)
"""Every command of lan.md §2."""


def command_name(number: int) -> str:
    """The name of a command, ``unknown`` for others."""
    spec = COMMANDS.get(number)
    return spec.name if spec is not None else "unknown"
