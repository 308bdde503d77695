"""The body of every command that is not P0, as construct schemas (serial.md §4).

Field names are those of cli.md §6. A body whose layout is not public has no schema here: it is opaque.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from construct import (
    Adapter,
    BitsInteger,
    BitStruct,
    Construct,
    Container,
    GreedyBytes,
    Int8ub,
    Int16ub,
    Int32ub,
    Padding,
)

from gizserial.adapters import (
    Blob,
    Body,
    Field,
    Number,
    Pairs,
    Prefixed,
    Rows,
    Truth,
    counted_text,
    fixed_bytes,
    fixed_text,
    rows_of,
)
from gizserial.errors import EncodeError, UnknownName, ValueOutOfRange

UINT8: Final = Number(Int8ub)
UINT16: Final = Number(Int16ub)
UINT32: Final = Number(Int32ub)

DEVICE_INFO: Final = Body(
    Field("protocol_ver", fixed_text(8)),
    Field("p0_ver", fixed_text(8)),
    Field("hard_ver", fixed_text(8)),
    Field("soft_ver", fixed_text(8)),
    Field("product_key", fixed_text(32)),
    Field("bind_time", UINT16),
    Field("dev_attr", fixed_bytes(8), optional=True),
    Field("product_secret", fixed_text(32), optional=True),
    Field("data", Pairs(Prefixed(Int16ub)), optional=True),
)
"""Answer to 01 (§4.1). 66, 74, 106 or 108 + n bytes; each is a prefix of the next::

    0        8        16       24       32          64    66       74             106  108
    protocol | p0     | hard   | soft   | product   | bind | dev    | product      | n  | key=value&..
    version  | version| version| version| key 32    | time | attr 8 | secret 32    |    |
"""


class _WifiStatusWord(Adapter):
    """The 16-bit word and its bits; building takes either, or both when they agree."""

    def __init__(self) -> None:
        super().__init__(
            BitStruct(
                Padding(3),
                "test" / BitsInteger(1),
                "app" / BitsInteger(1),
                "rssi" / BitsInteger(3),
                Padding(2),
                "cloud" / BitsInteger(1),
                "router" / BitsInteger(1),
                "binding" / BitsInteger(1),
                "onboarding" / BitsInteger(1),
                "station" / BitsInteger(1),
                "soft_ap" / BitsInteger(1),
            )
        )

    def _decode(self, obj: Container, context: Container, path: str) -> dict[str, int | bool]:
        return {name: obj[name] if name == "rssi" else bool(obj[name]) for name in WIFI_STATUS_BITS}

    def _encode(self, obj: Mapping[str, Any], context: Container, path: str) -> dict[str, int]:
        bits: dict[str, int] = {}
        for name in WIFI_STATUS_BITS:
            value = obj.get(name, 0)
            if name == "rssi":
                if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 7:
                    raise ValueOutOfRange(name, value, "0 to 7")
            elif not isinstance(value, bool) and value != 0:
                raise ValueOutOfRange(name, value, "true or false")
            bits[name] = int(value)
        return bits


WIFI_STATUS_BITS: Final = (
    "soft_ap",
    "station",
    "onboarding",
    "binding",
    "router",
    "cloud",
    "rssi",
    "app",
    "test",
)
_STATUS_WORD: Final = _WifiStatusWord()


class _WifiStatus(Body):
    """Body of 0D: the word under its name, and its bits beside it (§3.3)."""

    def __init__(self) -> None:
        bits = [Field(name, UINT8 if name == "rssi" else Truth(Int8ub)) for name in WIFI_STATUS_BITS]
        super().__init__(Field("status", UINT16), *bits)
        self._word = Body(Field("status", UINT16))

    def _parse(self, stream: Any, context: Container, path: str) -> Container:
        values = self._word._parse(stream, context, path)
        values.update(_STATUS_WORD.parse(values["status"].to_bytes(2, "big")))
        return values

    def _build(self, obj: Any, stream: Any, context: Container, path: str) -> Any:
        values = dict(obj or {})
        for name in values:
            if name not in self.names:
                raise UnknownName("field", name, self.names)
        bits = {name: value for name, value in values.items() if name != "status"}
        if not values:
            raise EncodeError("the field status is missing (or name its bits)")
        word = values.get("status")
        if word is None:
            word = int.from_bytes(_STATUS_WORD.build(bits), "big")
        elif bits:
            known = _STATUS_WORD.parse(UINT16.build(word))
            wrong = [name for name, value in bits.items() if known[name] != value]
            if wrong:
                raise EncodeError(f"{wrong[0]} contradicts the status word {word:#06x}")
        self._word._build({"status": word}, stream, context, path)
        return obj


WIFI_STATUS: Final = _WifiStatus()
"""0D, two bytes (§3.3)::

    15..13  12    11   10..8  7..6  5      4       3        2           1        0
    0       test  app  rssi   0     cloud  router  binding  onboarding  station  soft_ap
"""


def _mode_4(values: Mapping[str, Any], _remaining: int | None) -> bool:
    return values.get("mode") == 4


PROVISION: Final = Body(
    Field("mode", UINT8),
    Field("ssid", counted_text(Int8ub), when=_mode_4),
    Field("password", counted_text(Int8ub), when=_mode_4),
    Field("bssid", counted_text(Int8ub), when=_mode_4),
    # A variant of the text v4.3 appends two more (§4.5).
    Field("tz", counted_text(Int8ub), when=_mode_4, optional=True),
    Field("server", counted_text(Int8ub), when=_mode_4, optional=True),
)
"""09 (§4.5): mode 1 SoftAP, 2 AirLink, 4 with the access point's data."""

ILLEGAL_FRAME: Final = Body(Field("code", UINT8))
"""11 and 12 (§4.9): 1 checksum, 2 unknown command, 3 other, 4 file type."""

NETWORK_TIME: Final = Body(
    Field("year", UINT16),
    Field("month", UINT8),
    Field("day", UINT8),
    Field("hour", UINT8),
    Field("minute", UINT8),
    Field("second", UINT8),
    Field("timestamp", UINT32, optional=True),
)
"""Answer to 17 (§4.12): local calendar, then UTC seconds since 1970, which early firmware left out."""

FILE_ANNOUNCE: Final = Body(Field("size", UINT32), Field("md5", counted_text(Int16ub)))
"""19 (§4.13)."""


def _not_empty(values: Mapping[str, Any], remaining: int | None) -> bool:
    return (
        "md5" in values or "piece_size" in values if remaining is None else remaining > 0 or "md5" in values
    )


FILE_READY: Final = Body(
    Field("md5", counted_text(Int16ub), when=_not_empty), Field("piece_size", UINT16, when=_not_empty)
)
"""1B (§4.13). Empty when the module is the receiver."""

FILE_PIECE: Final = Body(Field("number", UINT16), Field("count", UINT16), Field("data", Blob(GreedyBytes)))
"""1D (§4.13, R18): number first, then count."""

MODULE_INFO_REQUEST: Final = Body(Field("type", UINT8, optional=True))
"""21 (§4.14): 0 basic; without it the same."""


def _wifi(values: Mapping[str, Any], _remaining: int | None) -> bool:
    return values.get("type") == 1


def _cellular(values: Mapping[str, Any], _remaining: int | None) -> bool:
    return values.get("type") != 1


_CELL: Final = Body(Field("lac", UINT16), Field("cell_id", UINT16), Field("rssi", UINT8))


class _Cells(Construct):
    """``cellCount(1) cellInfoLen(1)``, then the records. cellInfoLen is written as the size of one record."""

    def from_text(self, text: str) -> list[dict[str, Any]]:
        """A JSON list of objects."""
        return rows_of(text, _CELL)

    def _parse(self, stream: Any, context: Container, path: str) -> list[dict[str, int]]:
        count = Int8ub._parsereport(stream, context, path)
        Int8ub._parsereport(stream, context, path)
        return [dict(_CELL._parsereport(stream, context, path)) for _ in range(count)]

    def _build(self, obj: Any, stream: Any, context: Container, path: str) -> Any:
        if not isinstance(obj, list) or len(obj) > 0xFF or not all(isinstance(row, Mapping) for row in obj):
            raise ValueOutOfRange("cells", obj, "a list of at most 255 objects")
        stream.write(bytes((len(obj), 5 if obj else 0)))
        for row in obj:
            _CELL._build(row, stream, context, path)
        return obj


MODULE_INFO: Final = Body(
    Field("type", UINT8),
    Field("protocol_ver", fixed_text(8)),
    Field("hard_ver", fixed_text(8)),
    Field("soft_ver", fixed_text(8)),
    Field("mac", fixed_text(16), when=_wifi),
    Field("ip", fixed_text(16), when=_wifi),
    Field("dev_attr", fixed_bytes(8)),
    Field("imei", fixed_text(16), when=_cellular),
    Field("imsi", fixed_text(16), when=_cellular),
    Field("mcc", fixed_text(8), when=_cellular),
    Field("mnc", fixed_text(8), when=_cellular),
    Field("cells", _Cells(), when=_cellular),
)
"""Answer to 21 (§4.14, R33): type 1 Wi-Fi (65 bytes), anything else the cellular record."""


def _sub(*subs: int) -> Any:
    def applies(values: Mapping[str, Any], _remaining: int | None) -> bool:
        return values.get("sub") in subs

    return applies


TRANSACTION: Final = Body(
    Field("sub", UINT8),
    Field("product_key", fixed_text(32), when=_sub(1)),
    Field("did", fixed_text(32), when=_sub(1)),
    Field("hard_ver", fixed_text(8), when=_sub(1)),
    Field("soft_ver", fixed_text(8), when=_sub(1)),
    Field("check_flag", UINT8, when=_sub(1)),
    Field("url", counted_text(Int16ub), when=_sub(3)),
)
"""23 (§4.15): sub 1 asks for an update of a third-party product, sub 3 starts the download."""


def _update(values: Mapping[str, Any], remaining: int | None) -> bool:
    if values.get("sub") != 2:
        return False
    return remaining > 1 if remaining is not None else "soft_ver" in values or "url" in values


def _update_url(values: Mapping[str, Any], remaining: int | None) -> bool:
    return "soft_ver" in values or (remaining is None and _update(values, None))


def _result(values: Mapping[str, Any], remaining: int | None) -> bool:
    if values.get("sub") == 4:
        return True
    return values.get("sub") == 2 and ("result" in values if remaining is None else remaining == 1)


TRANSACTION_RESULT: Final = Body(
    Field("sub", UINT8),
    Field("result", UINT8, when=_result),
    Field("soft_ver", fixed_text(8), when=_update),
    Field("url", counted_text(Int16ub), when=_update_url),
)
"""25 (§4.15): sub 2 nothing or one zero byte (no update), or version and address; sub 4 a download's end."""

GATEWAY_DEVICE: Final = Body(Field("mac", counted_text(Int8ub)), Field("mesh_id", counted_text(Int8ub)))


GATEWAY_REGISTER: Final = Body(
    Field("product_key", counted_text(Int8ub)),
    Field("product_secret", counted_text(Int8ub)),
    Field("dev_extra", fixed_bytes(8)),
    Field("arg", counted_text(Int8ub)),
    Field("is_reset", Truth(Int8ub)),
    Field("devices", Rows(Int8ub, GATEWAY_DEVICE)),
)
"""53 (§4.16)."""

MESH_STATUS: Final = Body(
    Field(
        "devices",
        Rows(Int16ub, Body(Field("mesh_id", counted_text(Int8ub)), Field("online", Truth(Int8ub)))),
    )
)
"""P0 action 71 (§4.16)."""

MESH_DATA: Final = Body(
    Field(
        "devices",
        Rows(Int16ub, Body(Field("mesh_id", counted_text(Int8ub)), Field("body", Blob(Prefixed(Int16ub))))),
    )
)
"""P0 actions 72 and 73 (§4.16)."""

SUB_DEVICE: Final = Body(Field("did", counted_text(Int8ub)))
"""What stands before the action when bit 0 of the flags is set (§1.5)."""
