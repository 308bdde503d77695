"""The bodies of LAN frames: what they say, and their bytes (lan.md §3–§5).

Reading is lenient (firmware leaves parts out or adds some), building strict. ``read_…`` gives None for a
body that is too short for what it must hold: such a frame is ignored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Final

from construct import (
    Bytes,
    Construct,
    ConstructError,
    GreedyBytes,
    GreedyRange,
    Int8ub,
    Int16ub,
    NullTerminated,
    Prefixed,
    Struct,
)

from gizserial.errors import EncodeError, ValueOutOfRange

PASSCODE_LENGTH: Final = 10
SSID_MOST: Final = 32
PASSWORD_MOST: Final = 64
"""[V4] takes 32; the longest WPA key has 64 characters (L10)."""

_COUNTED: Final = Prefixed(Int16ub, GreedyBytes)
_SHORT: Final = Prefixed(Int8ub, GreedyBytes)
_HEAD: Final = Struct("did" / _COUNTED, "mac" / _COUNTED, "firmware" / _COUNTED, "product_key" / _COUNTED)
_TAIL: Final[tuple[tuple[str, Construct], ...]] = (
    ("attributes", Bytes(8)),
    ("server", NullTerminated(GreedyBytes)),
    ("protocol", NullTerminated(GreedyBytes)),
    ("mcu_version", Bytes(8)),
)
"""Newer firmware sends more of these than older: each may be the last (§3.2)."""
_ONBOARDED: Final = Struct("mac" / _COUNTED, "product_key" / _COUNTED, "did" / _COUNTED)
_ONBOARD: Final = Struct("ssid" / _COUNTED, "password" / _COUNTED)
_ONBOARD_SHORT: Final = Struct("ssid" / _SHORT, "password" / _SHORT)
_HOTSPOTS: Final = GreedyRange(Struct("ssid" / _COUNTED, "power" / Int8ub))
_INFO: Final = Struct(
    "wifi_hard_ver" / Bytes(8),
    "wifi_soft_ver" / Bytes(8),
    "mcu_hard_ver" / Bytes(8),
    "mcu_soft_ver" / Bytes(8),
    "p0_ver" / Bytes(8),
    "firmware_id" / Bytes(8),
    "firmware" / _COUNTED,
    "product_key" / _COUNTED,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """Body of 0004 and 0005: who a module is (§3.2)."""

    mac: str
    """Upper-case hex digits."""
    product_key: str
    did: str = ""
    """Empty while not registered."""
    firmware: str = ""
    attributes: bytes = bytes(8)
    server: str | None = None
    """``host:port`` of the API; None: the tail ends before it (older firmware)."""
    protocol: str | None = None
    mcu_version: str | None = None

    def body(self) -> bytes:
        """The bytes after the command.

        :raises EncodeError: a field that does not fit, or a part of the tail without the one before it.
        """
        out = _build(
            _HEAD,
            did=_ascii(self.did),
            mac=_mac(self.mac),
            firmware=_ascii(self.firmware),
            product_key=_ascii(self.product_key),
        )
        missing = ""
        for name, schema in _TAIL:
            value = getattr(self, name)
            if value is None:
                missing = missing or name
            elif missing:
                raise EncodeError(f"{name} cannot be announced without {missing}")
            else:
                out += _build(schema, value if isinstance(value, bytes) else _ascii(value))
        return out


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Onboarded:
    """Body of 0019 (§3.4)."""

    mac: str
    product_key: str
    did: str = ""

    def body(self) -> bytes:
        """The bytes after the command."""
        return _build(
            _ONBOARDED, mac=_mac(self.mac), product_key=_ascii(self.product_key), did=_ascii(self.did)
        )


@dataclasses.dataclass(frozen=True, slots=True)
class RouterData:
    """Body of 0001 (§5).

    :ivar short: One-byte lengths and a user id at the end (newer modules).
    """

    ssid: str
    password: str = dataclasses.field(repr=False)
    short: bool = False
    user: str = ""
    """Only in the short form."""

    def body(self) -> bytes:
        """The bytes after the command.

        :raises ValueOutOfRange: an SSID or a password that is too long.
        """
        ssid, password = self.ssid.encode(), self.password.encode()
        if not 1 <= len(ssid) <= SSID_MOST:
            raise ValueOutOfRange("ssid", f"a name of {len(ssid)} bytes", f"1 to {SSID_MOST} bytes")
        if len(password) > PASSWORD_MOST:
            raise ValueOutOfRange(
                "password", f"one of {len(password)} bytes", f"at most {PASSWORD_MOST} bytes"
            )
        if not self.short:
            return _build(_ONBOARD, ssid=ssid, password=password)
        return _build(_ONBOARD_SHORT, ssid=ssid, password=password) + _build(_SHORT, self.user.encode())

    @property
    def fits(self) -> bool:
        """Neither is too long, and there is a name; such data are not stored (L10)."""
        return 1 <= len(self.ssid.encode()) <= SSID_MOST and len(self.password.encode()) <= PASSWORD_MOST


@dataclasses.dataclass(frozen=True, slots=True)
class Hotspot:
    """One router of 000d."""

    ssid: str
    power: int
    """0 to 100 percent."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModuleInfo:
    """Body of 0014 (§4.7). Versions have 8 characters at the most."""

    wifi_hard_ver: str
    wifi_soft_ver: str
    mcu_hard_ver: str
    mcu_soft_ver: str
    p0_ver: str
    product_key: str
    firmware_id: bytes = bytes(8)
    firmware: str = ""

    def body(self) -> bytes:
        """The bytes after the command (:raises EncodeError: a version that does not fit)."""
        values: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            values[field.name] = value if isinstance(value, bytes) else _ascii(value)
            if field.name.endswith("_ver"):
                values[field.name] = values[field.name].ljust(8, b"\0")
        return _build(_INFO, **values)


def read_announcement(body: bytes) -> Announcement | None:
    """Body of 0004 or 0005, with any shape of tail; bytes after it are ignored."""
    head = _parse(_HEAD, body)
    if head is None:
        return None
    at = len(_HEAD.build(head))
    tail: dict[str, Any] = {}
    for name, schema in _TAIL:
        if at >= len(body) or (value := _parse(schema, body[at:])) is None:
            break
        tail[name] = value if name == "attributes" else text(value)
        at += len(schema.build(value))
    return Announcement(
        did=text(head.did),
        mac=head.mac.hex().upper(),
        firmware=text(head.firmware),
        product_key=text(head.product_key),
        **tail,
    )


def read_onboarded(body: bytes) -> Onboarded | None:
    """Body of 0019."""
    found = _parse(_ONBOARDED, body)
    if found is None:
        return None
    return Onboarded(mac=found.mac.hex().upper(), product_key=text(found.product_key), did=text(found.did))


def read_router_data(body: bytes) -> RouterData | None:
    """Body of 0001: a first byte of 0 means lengths of two bytes; trailing bytes are ignored (§5)."""
    if not body:
        return None
    short = body[0] != 0
    found = _parse(_ONBOARD_SHORT if short else _ONBOARD, body)
    if found is None:
        return None
    user = b""
    if short:
        user = _parse(_SHORT, body[2 + len(found.ssid) + len(found.password) :]) or b""
    return RouterData(_utf8(found.ssid), _utf8(found.password), short, _utf8(user))


def passcode_body(passcode: str) -> bytes:
    """Body of 0007 and 0008; empty refuses."""
    return _build(_COUNTED, _ascii(passcode))


def read_passcode(body: bytes) -> str | None:
    """Body of 0007: the passcode; empty for a refusal, None for neither."""
    found = _parse(_COUNTED, body)
    return None if found is None else text(found)


def hotspots_body(hotspots: Iterable[Hotspot]) -> bytes:
    """Body of 000d."""
    return _build(_HOTSPOTS, [{"ssid": each.ssid.encode(), "power": each.power} for each in hotspots])


def read_hotspots(body: bytes) -> list[Hotspot]:
    """Body of 000d; a last entry that is cut off is left out."""
    return [Hotspot(_utf8(each.ssid), each.power) for each in _parse(_HOTSPOTS, body) or ()]


def read_info(body: bytes) -> ModuleInfo | None:
    """Body of 0014."""
    found = _parse(_INFO, body)
    if found is None:
        return None
    values: dict[str, Any] = {
        field.name: found[field.name] if field.name == "firmware_id" else text(found[field.name])
        for field in dataclasses.fields(ModuleInfo)
    }
    return ModuleInfo(**values)


def read_all(ids: Iterable[int] | None = None, *, sn: int | None = None) -> bytes:
    """P0 that reads (§8): everything of a fixed-length product, or the points with these ids.

    :param sn: An inner number, as some products want it.
    :raises EncodeError: an id above 1023, or a number without ids.
    """
    if ids is None:
        if sn is not None:
            raise EncodeError("a read with an inner number names its points")
        return b"\x02"
    wanted = sorted(ids)
    if not wanted or wanted[0] < 0 or wanted[-1] > 1023:
        raise EncodeError("a read names points with ids from 0 to 1023")
    mask = bytearray(wanted[-1] // 8 + 1)
    for each in wanted:
        mask[len(mask) - 1 - each // 8] |= 1 << (each & 7)
    if sn is None:
        return b"\x12" + mask
    return b"\x53" + sn.to_bytes(4, "big") + b"\0" + len(mask).to_bytes(2, "big") + mask


def text(data: bytes) -> str:
    """Text of a field up to its trailing zeros; what is not printable ASCII as an escape."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in data.rstrip(b"\0"))


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _ascii(value: str) -> bytes:
    try:
        return value.encode("ascii")
    except UnicodeError:
        raise EncodeError("only ASCII characters can be sent here") from None


def _mac(value: str) -> bytes:
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise EncodeError(f"{value!r} is not a MAC: hex digits in pairs") from None


def _parse(schema: Construct, data: bytes) -> Any:
    try:
        return schema.parse(data)
    except ConstructError:
        return None


def _build(schema: Construct, value: Any = None, **values: Any) -> bytes:
    try:
        built: bytes = schema.build(values if value is None else value)
    except ConstructError as error:
        raise EncodeError(f"a LAN frame cannot be made: {error}") from error
    return built
