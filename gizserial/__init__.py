"""The Gizwits MCU serial protocol, without I/O.

Bytes become frames (:class:`Framer`), frames become messages (:class:`Codec`), and the two ends of the line
are state machines (:class:`ModuleRole`, :class:`McuRole`). What opens files and ports is in
:mod:`gizserial.io`, capture files are in :mod:`gizserial.capture`, what the roles tell in
:mod:`gizserial.events`.

The names below are imported when they are first used, so that a program pays for what it needs: ``decode``
does not load the roles. Type checkers and editors see plain imports.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gizserial.codec import Codec, Message
    from gizserial.commands import COMMANDS, FRAMES, Command, CommandSpec, Direction, FrameSpec, Role
    from gizserial.encoding import encode
    from gizserial.endpoint import Endpoint, EndpointOptions, QueueFullError
    from gizserial.errors import (
        BodyError,
        CaptureError,
        EncodeError,
        GizserialError,
        ProductError,
        TransportError,
        UnknownName,
        ValueOutOfRange,
    )
    from gizserial.events import DeviceInfo
    from gizserial.findings import Finding
    from gizserial.framing import BadFrame, Frame, Framer, Item, Noise
    from gizserial.mcu import McuRole
    from gizserial.mcu_options import McuOptions
    from gizserial.module import ModuleRole
    from gizserial.module_options import ModuleOptions
    from gizserial.p0 import Action
    from gizserial.product import Access, DataPoint, DataType, Layout, Product, parse_product
    from gizserial.wifi_status import WifiStatus

__all__ = [
    "COMMANDS",
    "FRAMES",
    "Access",
    "Action",
    "BadFrame",
    "BodyError",
    "CaptureError",
    "Codec",
    "Command",
    "CommandSpec",
    "DataPoint",
    "DataType",
    "DeviceInfo",
    "Direction",
    "EncodeError",
    "Endpoint",
    "EndpointOptions",
    "Finding",
    "Frame",
    "FrameSpec",
    "Framer",
    "GizserialError",
    "Item",
    "Layout",
    "McuOptions",
    "McuRole",
    "Message",
    "ModuleOptions",
    "ModuleRole",
    "Noise",
    "Product",
    "ProductError",
    "QueueFullError",
    "Role",
    "TransportError",
    "UnknownName",
    "ValueOutOfRange",
    "WifiStatus",
    "encode",
    "parse_product",
]

if not TYPE_CHECKING:  # a checker that saw __getattr__ would accept every name
    _NAMES_OF = {
        "codec": ("Codec", "Message"),
        "commands": ("COMMANDS", "FRAMES", "Command", "CommandSpec", "Direction", "FrameSpec", "Role"),
        "encoding": ("encode",),
        "endpoint": ("Endpoint", "EndpointOptions", "QueueFullError"),
        "errors": (
            "BodyError",
            "CaptureError",
            "EncodeError",
            "GizserialError",
            "ProductError",
            "TransportError",
            "UnknownName",
            "ValueOutOfRange",
        ),
        "events": ("DeviceInfo",),
        "findings": ("Finding",),
        "framing": ("BadFrame", "Frame", "Framer", "Item", "Noise"),
        "mcu": ("McuRole",),
        "mcu_options": ("McuOptions",),
        "module": ("ModuleRole",),
        "module_options": ("ModuleOptions",),
        "p0": ("Action",),
        "product": ("Access", "DataPoint", "DataType", "Layout", "Product", "parse_product"),
        "wifi_status": ("WifiStatus",),
    }
    _MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
