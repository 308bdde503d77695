"""Data points as apps write and read them: one place for the Open API, the WebSocket API and SNoti.

===========  =======================  =====================  ====================
type         WebSocket (§7.3)         HTTP ``latest`` (§8.3)  SNoti kv (§6)
===========  =======================  =====================  ====================
bool         ``true`` / ``false``     1 / 0                  1 / 0
enum         its text                 its text               its text
number       number                   number                 number
binary       array of 0–255           hex                    hex
===========  =======================  =====================  ====================
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from gizserial.errors import GizserialError
from gizserial.m2m.frames import CONTROL, VERSION, BusinessFrame
from gizserial.p0 import P0Codec
from gizserial.product import DataPoint, DataType, Product

Raw = int | bytes
MAX_RAW: Final = 64 * 1024
"""Bytes of raw data that a request may carry."""
_GRID: Final = Decimal("0.000001")
"""How far a number may lie beside a step, in steps."""


class AttrInvalid(ValueError):
    """A value that cannot be sent.

    :ivar name: The data point.
    :ivar reason: What is wrong with it, one clause.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"{name}: {reason}")


class BinaryLength(AttrInvalid):
    """A binary value that does not fit its point (open-api.md R11)."""


class RawInvalid(ValueError):
    """Raw data that is no list of bytes."""


def websocket_values(
    product: Product, raw: Mapping[str, Raw], *, bool_as_int: bool = False
) -> dict[str, Any]:
    """Values as ``s2c_noti`` has them.

    :param bool_as_int: 1 and 0 instead of true and false (websocket-api.md R1).
    """
    return {
        name: _shown(product.by_name[name], value, bool_as_int=bool_as_int, hex_text=False)
        for name, value in raw.items()
        if name in product.by_name
    }


def http_values(product: Product, raw: Mapping[str, Raw]) -> dict[str, Any]:
    """Values as ``latest`` and SNoti have them."""
    return {
        name: _shown(product.by_name[name], value, bool_as_int=True, hex_text=True)
        for name, value in raw.items()
        if name in product.by_name
    }


def _shown(point: DataPoint, raw: Raw, *, bool_as_int: bool, hex_text: bool) -> Any:
    value = point.value(raw)
    if isinstance(value, bytes):
        return value.hex() if hex_text else list(value)
    if isinstance(value, bool):
        return int(value) if bool_as_int else value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def is_readable(product: Product, raw: Mapping[str, Raw]) -> bool:
    """Every enum index has a text; data points without cannot be shown (websocket-api.md §8.2)."""
    return all(
        not isinstance(value, int)
        or product.by_name[name].data_type is not DataType.ENUM
        or value < len(product.by_name[name].texts)
        for name, value in raw.items()
        if name in product.by_name
    )


def control_raw(
    product: Product, attrs: Mapping[str, Any], *, base64_text: bool = False, pad: bool = True
) -> dict[str, Raw]:
    """Raw values of what an app wants to set (open-api.md §9, websocket-api.md §7.2, snoti.md §7).

    :param base64_text: Text of a binary point is base64, not hex.
    :param pad: A short binary value is filled with 00; otherwise it is refused.
    :raises AttrInvalid: a point that is unknown or not writable, or a value that it cannot take.
    """
    found: dict[str, Raw] = {}
    for name, value in attrs.items():
        point = product.by_name.get(name)
        if point is None:
            raise AttrInvalid(name, "the product has no such data point")
        if not point.writable:
            raise AttrInvalid(name, "it can only be read")
        found[name] = _raw(point, value, base64_text=base64_text, pad=pad)
    return found


def _raw(point: DataPoint, value: Any, *, base64_text: bool, pad: bool) -> Raw:
    if point.data_type is DataType.BINARY:
        try:
            data = raw_bytes(value, base64_text=base64_text)
        except RawInvalid as error:
            raise AttrInvalid(point.name, str(error)) from None
        if len(data) > point.size or (len(data) < point.size and not pad):
            raise BinaryLength(point.name, f"it has {len(data)} bytes, the point has {point.size}")
        return data.ljust(point.size, b"\0")
    if isinstance(value, bool) and point.data_type is not DataType.BOOL:
        raise AttrInvalid(point.name, "true and false are for bool points")
    if point.data_type in {DataType.BOOL, DataType.ENUM} and isinstance(value, float):
        # JSON of other languages may write 1.0 for 1.
        value = int(value) if value.is_integer() else value
    try:
        raw = point.raw(value)
    except GizserialError as error:
        raise AttrInvalid(point.name, _without_name(point.name, str(error))) from None
    if point.scale is not None and isinstance(raw, int):
        # A float that was computed may lie a little beside the step that it means.
        beside = abs(point.scale.real(raw) - Decimal(str(value).strip()))
        if beside > abs(point.scale.ratio) * _GRID:
            raise AttrInvalid(point.name, f"{value} is between two steps of {point.scale.ratio}")
    return raw


def _without_name(name: str, text: str) -> str:
    return text.removeprefix(f"{name}: ").removeprefix(f"{name} ")


def raw_bytes(value: Any, *, base64_text: bool = False) -> bytes:
    """Bytes of an array of 0–255, of hex text, or of base64 text.

    :raises RawInvalid: it is none of them, or too long.
    """
    if isinstance(value, list):
        if len(value) > MAX_RAW or not all(type(byte) is int and 0 <= byte <= 255 for byte in value):
            raise RawInvalid("an array of integers from 0 to 255 is needed")
        return bytes(value)
    if isinstance(value, str) and len(value) <= 2 * MAX_RAW:
        try:
            return base64.b64decode(value, validate=True) if base64_text else bytes.fromhex(value)
        except (ValueError, binascii.Error):
            pass
    raise RawInvalid(f"an array of 0 to 255 or {'base64' if base64_text else 'hex'} text is needed")


def packet_of(raw: bytes, *, strict: bool = False) -> bytes:
    """The whole app packet of raw data: as it is when it is one, otherwise wrapped as 0090.

    :param strict: Only whole packets (websocket-api.md §8.1 ``strict_raw``).
    :raises RawInvalid: empty, not a packet although it begins like one, or not a packet at all when strict.
    """
    if raw.startswith(VERSION) or strict:
        frame = BusinessFrame.decode(raw)
        if not isinstance(frame, BusinessFrame):
            raise RawInvalid(frame.reason)
        return raw
    if not raw:
        raise RawInvalid("it is empty")
    return BusinessFrame(CONTROL, raw).encode()


class Codecs:
    """One P0 codec for each product, compiled when first asked for."""

    def __init__(self) -> None:
        self._codecs: dict[int, P0Codec] = {}

    def of(self, product: Product) -> P0Codec:
        """The product's codec."""
        codec = self._codecs.get(id(product))
        if codec is None:
            codec = self._codecs[id(product)] = P0Codec(product)
        return codec


def read_p0(codec: P0Codec, names: Iterable[str] = ()) -> bytes:
    """The read of a product: of the named points where it can name them, else of all (websocket-api.md §7.1).

    Variable length: all flags are set for all points. Names that the product does not have are left out.
    """
    product = codec.data_points.product
    if product.layout.value == "standard":
        return codec.read()
    known = [name for name in names if name in product.by_name]
    return codec.read(known or product.by_name)
