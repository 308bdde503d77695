"""The command table: whatever depends on a command number is a column here (serial.md §2, cli.md §6)."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from gizserial import schemas
from gizserial.adapters import Body

Direction = Literal["module>mcu", "mcu>module"]


class Role(enum.Enum):
    """The two ends of the serial line."""

    MODULE = "module"
    MCU = "mcu"

    @property
    def peer(self) -> Role:
        """The other end."""
        return Role.MCU if self is Role.MODULE else Role.MODULE

    @property
    def direction(self) -> Direction:
        """The way of what this end sends."""
        return "module>mcu" if self is Role.MODULE else "mcu>module"


class Command(enum.IntEnum):
    """Command ids that start an exchange. The ack of each is the id plus one."""

    DEVICE_INFO = 0x01
    P0_TO_MCU = 0x03
    P0_FROM_MCU = 0x05
    HEARTBEAT = 0x07
    PROVISION = 0x09
    RESET_MODULE = 0x0B
    STATUS = 0x0D
    RESTART_MCU = 0x0F
    ILLEGAL_FRAME_FROM_MODULE = 0x11
    ILLEGAL_FRAME_FROM_MCU = 0x12
    PRODUCTION_TEST = 0x13
    BIND_WINDOW = 0x15
    NETWORK_TIME = 0x17
    FILE_ANNOUNCE = 0x19
    FILE_READY = 0x1B
    FILE_PIECE = 0x1D
    FILE_SENDER_STOP = 0x1F
    MODULE_INFO = 0x21
    TRANSACTION = 0x23
    TRANSACTION_RESULT = 0x25
    FILE_RECEIVER_STOP = 0x27
    RESTART_MODULE = 0x29
    VIRTUAL_LOGIN = 0x2D
    VIRTUAL_LOGIN_RESULT = 0x2F
    VIRTUAL_UPLOAD = 0x31
    VIRTUAL_UPLOAD_RESULT = 0x33
    VIRTUAL_LOGOUT = 0x35
    VIRTUAL_LOGOUT_RESULT = 0x37
    VIRTUAL_UNBIND = 0x39
    VIRTUAL_UNBIND_RESULT = 0x3B
    SUBDEVICE_SCAN = 0x3D
    SUBDEVICE_INFO = 0x3F
    SUBDEVICE_STATUS = 0x41
    SUBDEVICE_CONTROL = 0x43
    AUTH_KEY_REQUEST = 0x45
    AUTH_KEY = 0x47
    GPS_DATA = 0x4B
    MODULE_SELF_CHECK = 0x4D
    MODULE_TEST = 0x50
    GATEWAY_REGISTER = 0x53
    GATEWAY_REGISTER_RESULT = 0x55


class IllegalFrameCode(enum.IntEnum):
    """Error codes of 11 and 12 (serial.md §3.4)."""

    CHECKSUM = 1
    UNKNOWN_COMMAND = 2
    OTHER = 3
    FILE_TYPE = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Empty:
    """The frame has no body."""


@dataclasses.dataclass(frozen=True, slots=True)
class Opaque:
    """The layout of the body is not public: it passes through as bytes."""


@dataclasses.dataclass(frozen=True, slots=True)
class P0Body:
    """The body is P0, whose layout the product definition gives (:mod:`gizserial.p0`)."""


EMPTY: Final = Empty()
OPAQUE: Final = Opaque()
P0_BODY: Final = P0Body()

BodyKind = Body | Empty | Opaque | P0Body


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CommandSpec:
    """One row: who sends it, what it carries, what answers it."""

    command: Command
    sender: Role | None
    """None when both ends may send it, or no source says who does."""
    section: str
    """Section of serial.md."""
    body: BodyKind = EMPTY
    ack_body: BodyKind = EMPTY
    acked: bool = True
    flag_bits: Mapping[str, int] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    """Fields that are bits of ``flags`` (serial.md §1.5)."""

    @property
    def name(self) -> str:
        """The frame's public name (cli.md §6)."""
        return self.command.name.lower()

    @property
    def ack(self) -> int | None:
        """The id of its ack, the command plus one; None when there is none."""
        return self.command + 1 if self.acked else None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FrameSpec:
    """What the table says of one frame id, a command's or an ack's."""

    id: int
    name: str
    sender: Role | None
    body: BodyKind
    is_ack: bool
    flag_bits: Mapping[str, int]
    row: CommandSpec


_HEX: Final = MappingProxyType({"hex": 0x0001})
_HEX_LAST: Final = MappingProxyType({"hex": 0x0001, "last": 0x0002})
_W, _M = Role.MODULE, Role.MCU


def _undocumented(command: Command, sender: Role | None, section: str) -> CommandSpec:
    """A command known by its name only: neither its body nor its ack's has a public layout (R20)."""
    return CommandSpec(command=command, sender=sender, section=section, body=OPAQUE, ack_body=OPAQUE)


COMMANDS: Final[Mapping[Command, CommandSpec]] = MappingProxyType(
    {
        spec.command: spec
        for spec in (
            CommandSpec(command=Command.DEVICE_INFO, sender=_W, section="4.1", ack_body=schemas.DEVICE_INFO),
            CommandSpec(command=Command.P0_TO_MCU, sender=_W, section="4.2", body=P0_BODY, ack_body=P0_BODY),
            CommandSpec(
                command=Command.P0_FROM_MCU, sender=_M, section="4.3", body=P0_BODY, ack_body=P0_BODY
            ),
            CommandSpec(command=Command.HEARTBEAT, sender=_W, section="4.4"),
            CommandSpec(command=Command.PROVISION, sender=_M, section="4.5", body=schemas.PROVISION),
            CommandSpec(command=Command.RESET_MODULE, sender=_M, section="4.6"),
            CommandSpec(command=Command.STATUS, sender=_W, section="4.7", body=schemas.WIFI_STATUS),
            CommandSpec(command=Command.RESTART_MCU, sender=_W, section="4.8"),
            CommandSpec(
                command=Command.ILLEGAL_FRAME_FROM_MODULE,
                sender=_W,
                section="4.9",
                body=schemas.ILLEGAL_FRAME,
                acked=False,
            ),
            CommandSpec(
                command=Command.ILLEGAL_FRAME_FROM_MCU,
                sender=_M,
                section="4.9",
                body=schemas.ILLEGAL_FRAME,
                acked=False,
            ),
            CommandSpec(command=Command.PRODUCTION_TEST, sender=_M, section="4.10"),
            CommandSpec(command=Command.BIND_WINDOW, sender=_M, section="4.11"),
            CommandSpec(
                command=Command.NETWORK_TIME, sender=_M, section="4.12", ack_body=schemas.NETWORK_TIME
            ),
            CommandSpec(
                command=Command.FILE_ANNOUNCE, sender=None, section="4.13", body=schemas.FILE_ANNOUNCE
            ),
            CommandSpec(
                command=Command.FILE_READY,
                sender=None,
                section="4.13",
                body=schemas.FILE_READY,
                flag_bits=_HEX,
            ),
            CommandSpec(
                command=Command.FILE_PIECE,
                sender=None,
                section="4.13",
                body=schemas.FILE_PIECE,
                flag_bits=_HEX_LAST,
            ),
            CommandSpec(command=Command.FILE_SENDER_STOP, sender=None, section="4.13"),
            CommandSpec(
                command=Command.MODULE_INFO,
                sender=_M,
                section="4.14",
                body=schemas.MODULE_INFO_REQUEST,
                ack_body=schemas.MODULE_INFO,
            ),
            CommandSpec(command=Command.TRANSACTION, sender=_M, section="4.15", body=schemas.TRANSACTION),
            CommandSpec(
                command=Command.TRANSACTION_RESULT,
                sender=_W,
                section="4.15",
                body=schemas.TRANSACTION_RESULT,
            ),
            CommandSpec(command=Command.FILE_RECEIVER_STOP, sender=None, section="4.13"),
            CommandSpec(command=Command.RESTART_MODULE, sender=_M, section="4.15"),
            _undocumented(Command.VIRTUAL_LOGIN, _M, "4.17"),
            _undocumented(Command.VIRTUAL_LOGIN_RESULT, _W, "4.17"),
            _undocumented(Command.VIRTUAL_UPLOAD, _M, "4.17"),
            _undocumented(Command.VIRTUAL_UPLOAD_RESULT, _W, "4.17"),
            _undocumented(Command.VIRTUAL_LOGOUT, _M, "4.17"),
            _undocumented(Command.VIRTUAL_LOGOUT_RESULT, _W, "4.17"),
            _undocumented(Command.VIRTUAL_UNBIND, _M, "4.17"),
            _undocumented(Command.VIRTUAL_UNBIND_RESULT, _W, "4.17"),
            _undocumented(Command.SUBDEVICE_SCAN, _M, "4.16"),
            _undocumented(Command.SUBDEVICE_INFO, None, "4.16"),
            _undocumented(Command.SUBDEVICE_STATUS, None, "4.16"),
            _undocumented(Command.SUBDEVICE_CONTROL, None, "4.16"),
            _undocumented(Command.AUTH_KEY_REQUEST, _W, "4.16"),
            _undocumented(Command.AUTH_KEY, _M, "4.16"),
            _undocumented(Command.GPS_DATA, None, "2"),
            _undocumented(Command.MODULE_SELF_CHECK, None, "2"),
            CommandSpec(command=Command.MODULE_TEST, sender=None, section="2", body=OPAQUE, acked=False),
            CommandSpec(
                command=Command.GATEWAY_REGISTER, sender=_M, section="4.16", body=schemas.GATEWAY_REGISTER
            ),
            CommandSpec(command=Command.GATEWAY_REGISTER_RESULT, sender=_W, section="4.16", body=OPAQUE),
        )
    }
)
"""Every command of serial.md §2. What no source explains (2B, 49, ...) is not here: it is ``unknown``."""


def _frame_specs() -> dict[int, FrameSpec]:
    specs: dict[int, FrameSpec] = {}
    for row in COMMANDS.values():
        specs[row.command] = FrameSpec(
            id=row.command,
            name=row.name,
            sender=row.sender,
            body=row.body,
            is_ack=False,
            flag_bits=row.flag_bits,
            row=row,
        )
        if row.acked:
            specs[row.command + 1] = FrameSpec(
                id=row.command + 1,
                name=f"{row.name}_ack",
                sender=row.sender and row.sender.peer,
                body=row.ack_body,
                is_ack=True,
                flag_bits=MappingProxyType({}),
                row=row,
            )
    return specs


FRAMES: Final[Mapping[int, FrameSpec]] = MappingProxyType(_frame_specs())
"""Every frame id that the table knows, commands and acks."""

FRAME_IDS: Final[Mapping[str, int]] = MappingProxyType({spec.name: spec.id for spec in FRAMES.values()})
"""Public frame name → id."""

UNKNOWN_NAME: Final = "unknown"


def frame_name(frame_id: int) -> str:
    """The public name of a frame id, ``unknown`` when the table does not have it."""
    spec = FRAMES.get(frame_id)
    return spec.name if spec else UNKNOWN_NAME
