"""What travels inside MQTT: business frames (device-cloud.md §8) and control messages (§9).

::

    business  00 00 00 03 | L (1-4 bytes) | flag | cmd hi lo | [sn, 4 bytes: 0093 and 0094] | P0 ...
    control   00 00 00 03 | cmd hi lo | data ...

``L`` counts everything after itself. :data:`CONTROLS` is the table of control messages: the class, who sends
it and its schema, in one row. What a peer sent wrongly comes back as :class:`BadMessage`, never raised.
"""

from __future__ import annotations

import dataclasses
import struct
from types import MappingProxyType
from typing import Any, Final, Self

from construct import (
    Bytes,
    Const,
    Construct,
    ConstructError,
    GreedyBytes,
    If,
    Int8ub,
    Int16ub,
    Int32ub,
    Optional,
    PascalString,
    Prefixed,
    Rebuild,
    Struct,
)

from gizserial.errors import EncodeError, ValueOutOfRange
from gizserial.m2m.topics import Party
from gizserial.m2m.varlen import encode_length, read_length

VERSION: Final = b"\x00\x00\x00\x03"
"""Protocol version that every frame and control message begins with."""

CONTROL: Final = 0x0090
"""App → device: P0 without acknowledgement."""
REPORT: Final = 0x0091
"""Device → app: P0 of a report, or the late answer to 0090."""
CONTROL_ACKED: Final = 0x0093
"""App → device: P0 with acknowledgement, numbered."""
ACK: Final = 0x0094
"""Device → app: acknowledgement of 0093, same number."""

WITH_SN: Final = frozenset({CONTROL_ACKED, ACK})
SUB_DID_FLAG: Final = 0x01
"""Flag bit that announces a sub-device did after command and sn (inferred, R9): read, never written."""
MAX_FRAME_LENGTH: Final = 65_535
"""Largest ``L`` that we accept: [V4] keeps it in 16 bits."""


@dataclasses.dataclass(frozen=True, slots=True)
class BadMessage:
    """Bytes that are neither a business frame nor a control message."""

    reason: str
    raw: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class BusinessFrame:
    """P0 on its way between app and device.

    :param sn: Number of a 0093 or 0094, 32 bits; None for every other command.
    :raises EncodeError: when a field does not fit, or ``sn`` is given or missing against the command.
    """

    command: int
    payload: bytes = b""
    sn: int | None = None
    flag: int = 0
    sub_did: str | None = None
    """Which sub-device of a gateway it concerns; only ever received."""

    def __post_init__(self) -> None:
        if (self.sn is None) == (self.command in WITH_SN):
            wanted = "needs" if self.sn is None else "has no"
            raise EncodeError(f"a business frame {self.command:04x} {wanted} sn")
        for name, value, limit in (("command", self.command, 0xFFFF), ("flag", self.flag, 0xFF)):
            if not 0 <= value <= limit:
                raise ValueOutOfRange(name, value, f"0 to {limit}")
        if self.sn is not None and not 0 <= self.sn <= 0xFFFF_FFFF:
            raise ValueOutOfRange("sn", self.sn, "0 to 4294967295")

    def encode(self) -> bytes:
        """The frame as it is published.

        :raises EncodeError: when it is longer than 65 535 bytes, or for a sub-device (its form is not known).
        """
        if self.sub_did is not None:
            raise EncodeError("a business frame for a sub-device cannot be made: its form is not documented")
        head = struct.pack(">BH", self.flag, self.command)
        if self.sn is not None:
            head += struct.pack(">I", self.sn)
        length = len(head) + len(self.payload)
        if length > MAX_FRAME_LENGTH:
            raise ValueOutOfRange("frame length", length, f"at most {MAX_FRAME_LENGTH}")
        return b"".join((VERSION, encode_length(length), head, self.payload))

    @classmethod
    def decode(cls, data: bytes) -> Self | BadMessage:
        """Read one frame that fills ``data`` exactly, or say what is wrong with it (§11)."""
        if not data.startswith(VERSION):
            return BadMessage("it does not begin with 00000003", data)
        try:
            found = read_length(data, 4)
        except ValueError as error:
            return BadMessage(str(error), data)
        if found is None:
            return BadMessage("it ends inside the length", data)
        length, start = found
        if length != len(data) - start:
            return BadMessage(f"the length says {length} bytes, {len(data) - start} follow", data)
        if length < 3:
            return BadMessage(f"a length of {length} leaves no room for flag and command", data)
        flag, command = struct.unpack_from(">BH", data, start)
        start, sn = start + 3, None
        if command in WITH_SN:
            if length < 7:
                return BadMessage(f"a length of {length} leaves no room for the sn of {command:04x}", data)
            (sn,) = struct.unpack_from(">I", data, start)
            start += 4
        sub_did = None
        if flag & SUB_DID_FLAG:
            sub = _read_sub_did(data, start)
            if sub is not None:
                sub_did, start = sub
            elif command != REPORT:  # R9: unsolicited reports of some devices carry flag 1 and no did
                return BadMessage("the flag announces a sub-device did that is not there", data)
        return cls(command, data[start:], sn, flag, sub_did)


def _read_sub_did(data: bytes, start: int) -> tuple[str, int] | None:
    """A did of 1–32 letters and digits behind its 2-byte length, as gateways are believed to send it (R9)."""
    if len(data) < start + 2:
        return None
    (length,) = struct.unpack_from(">H", data, start)
    text = data[start + 2 : start + 2 + length]
    if not 1 <= length <= 32 or len(text) != length or not text.isalnum():
        return None
    return text.decode("ascii"), start + 2 + length


TEXT: Final = PascalString(Int16ub, "utf8")
"""Two length bytes, then the text."""


@dataclasses.dataclass(frozen=True, slots=True)
class AppCountRequest:
    """020f: how many apps are connected? Answered with 0210; the cloud also tells by itself."""


@dataclasses.dataclass(frozen=True, slots=True)
class AppCount:
    """0210: the number of apps subscribed to this device."""

    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class CheckFirmware:
    """0211: check for firmware now; type 1 module, 2 MCU. The real service appends the did (C2)."""

    type: int
    did: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class G0Versions:
    """0205: product key, firmware id and P0 version of a G0 module."""

    product_key: str
    firmware_id: bytes
    p0_version: str


@dataclasses.dataclass(frozen=True, slots=True)
class G0FirmwareId:
    """0206: answer to 0205."""

    firmware_id: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class G0FirmwareUrl:
    """020e: where a G0 module finds its firmware."""

    type: int
    firmware_id: int
    url: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VersionReport:
    """021c: versions of a G3 module, each as ``hardware,software``."""

    sub_did: str | None = None
    module: str | None = None
    mcu: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareOffer:
    """021d: answer to 021c; without ``md5`` and ``url`` there is nothing newer."""

    sub_did: str | None = None
    module: str | None = None
    mcu: str | None = None
    md5: str | None = None
    url: str | None = None
    https_url: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceReset:
    """021e: a G3 device was reset, drop its bindings."""


@dataclasses.dataclass(frozen=True, slots=True)
class UpgradeProgress:
    """022c: how far a G3 upgrade has come, in percent."""

    progress: int
    versions: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class UnknownControl:
    """A control message with a number that we do not know: ignored by every module."""

    command: int
    data: bytes


Control = (
    AppCountRequest
    | AppCount
    | CheckFirmware
    | G0Versions
    | G0FirmwareId
    | G0FirmwareUrl
    | VersionReport
    | FirmwareOffer
    | DeviceReset
    | UpgradeProgress
    | UnknownControl
)


def _flagged(**bits: int) -> Construct:
    """``flags(2) len(2) fields``: texts that are present when their bit is set, in bit order (§9.4)."""

    def flags(context: Any) -> int:
        return sum(1 << bit for name, bit in bits.items() if context.get(name) is not None)

    # Flat on building: the values lie in the outer context, the texts in their own counted part.
    fields = Struct(
        *(name / If(lambda ctx, bit=bit: ctx._.flags >> bit & 1, TEXT) for name, bit in bits.items())
    )
    return Struct("flags" / Rebuild(Int16ub, flags), "fields" / Prefixed(Int16ub, fields))


@dataclasses.dataclass(frozen=True, slots=True)
class ControlSpec:
    """One row of the table: the number, the class, who sends it, the bytes after the number."""

    command: int
    message: type[Control]
    sender: Party
    body: Construct
    section: str


_SUB_DID, _MODULE, _MCU, _MD5, _URL, _HTTPS = 0, 1, 2, 8, 9, 10

CONTROLS: Final = MappingProxyType(
    {
        spec.command: spec
        for spec in (
            ControlSpec(
                0x0205,
                G0Versions,
                Party.DEVICE,
                Struct(
                    "product_key" / TEXT,
                    "firmware_id" / Bytes(8),
                    Const(VERSION),
                    "p0_version" / TEXT,
                ),
                "9.2",
            ),
            ControlSpec(0x0206, G0FirmwareId, Party.CLOUD, Struct("firmware_id" / Bytes(8)), "9.1"),
            ControlSpec(
                0x020E,
                G0FirmwareUrl,
                Party.CLOUD,
                Struct("type" / Int8ub, "firmware_id" / Int32ub, "url" / TEXT),
                "9.1",
            ),
            ControlSpec(0x020F, AppCountRequest, Party.DEVICE, Struct(), "9.2"),
            ControlSpec(0x0210, AppCount, Party.CLOUD, Struct("count" / Int16ub), "9.1"),
            ControlSpec(
                0x0211, CheckFirmware, Party.CLOUD, Struct("type" / Int8ub, "did" / Optional(TEXT)), "9.1"
            ),
            ControlSpec(
                0x021C,
                VersionReport,
                Party.DEVICE,
                _flagged(sub_did=_SUB_DID, module=_MODULE, mcu=_MCU),
                "9.4",
            ),
            ControlSpec(
                0x021D,
                FirmwareOffer,
                Party.CLOUD,
                _flagged(sub_did=_SUB_DID, module=_MODULE, mcu=_MCU, md5=_MD5, url=_URL, https_url=_HTTPS),
                "9.4",
            ),
            ControlSpec(0x021E, DeviceReset, Party.DEVICE, Struct(Const(b"\x00\x00")), "9.2"),
            ControlSpec(
                0x022C,
                UpgradeProgress,
                Party.DEVICE,
                Struct(
                    Const(2, Int16ub),
                    "fields"
                    / Prefixed(Int16ub, Struct("progress" / Int8ub, "versions" / TEXT, "text" / TEXT)),
                ),
                "9.2",
            ),
        )
    }
)
"""Every control message."""

_SPEC_OF: Final = {spec.message: spec for spec in CONTROLS.values()}
_HEAD: Final = Struct(Const(VERSION), "command" / Int16ub, "data" / GreedyBytes)


def encode_control(message: Control) -> bytes:
    """A control message as it is published.

    :raises EncodeError: when a field does not fit.
    """
    if isinstance(message, UnknownControl):
        return VERSION + struct.pack(">H", message.command) + message.data
    spec = _SPEC_OF[type(message)]
    values = {field.name: getattr(message, field.name) for field in dataclasses.fields(message)}
    try:
        body: bytes = spec.body.build({**values, "fields": values})
    except (ConstructError, UnicodeError) as error:
        raise EncodeError(f"control message {spec.command:04x} cannot be made: {error}") from error
    return VERSION + struct.pack(">H", spec.command) + body


def decode_control(data: bytes) -> Control | BadMessage:
    """Read one control message; bytes after its last known field are ignored, as every module does."""
    if len(data) < 6 or not data.startswith(VERSION):
        return BadMessage("a control message begins with 00000003 and a two-byte number", data)
    (command,) = struct.unpack_from(">H", data, 4)
    spec = CONTROLS.get(command)
    if spec is None:
        return UnknownControl(command, data[6:])
    try:
        parsed = spec.body.parse(data[6:])
    except (ConstructError, UnicodeError):
        return BadMessage(f"control message {command:04x} is too short or damaged", data)
    source = parsed.fields if "fields" in parsed else parsed
    return spec.message(**{field.name: source[field.name] for field in dataclasses.fields(spec.message)})
