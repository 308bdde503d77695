"""Frames from what a person types: a name and ``FIELD=VALUE`` words (cli.md §6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from gizserial.adapters import Body, integer_of
from gizserial.codec import Codec, build_body
from gizserial.commands import EMPTY, FRAME_IDS, FRAMES, P0_BODY, UNKNOWN_NAME, Command, FrameSpec
from gizserial.errors import EncodeError, UnknownName, ValueOutOfRange
from gizserial.framing import SAFE_PAYLOAD, Frame
from gizserial.p0 import ACTIONS, Action, Meaning, action_for, raw_from_mcu, raw_to_mcu
from gizserial.product import DataPoint, Layout
from gizserial.schemas import SUB_DEVICE

SHORT_FORMS: Final[Mapping[str, tuple[int, Meaning | Action]]] = MappingProxyType(
    {
        "control": (Command.P0_TO_MCU, Meaning.CONTROL),
        "read": (Command.P0_TO_MCU, Meaning.READ),
        "read_reply": (Command.P0_TO_MCU + 1, Meaning.READ_REPLY),
        "report": (Command.P0_FROM_MCU, Meaning.REPORT),
        "raw_to_mcu": (Command.P0_TO_MCU, Action.RAW_TO_MCU),
        "raw_from_mcu": (Command.P0_FROM_MCU, Action.RAW_FROM_MCU),
    }
)
"""P0 by what it does: command and action follow from the product and the word."""

_RAW_DATA: Final = {Action.RAW_TO_MCU: raw_to_mcu, Action.RAW_FROM_MCU: raw_from_mcu}
_SUB_DEVICE_FLAG: Final = 0x0001


def frame_names() -> tuple[str, ...]:
    """Every name that :func:`encode` takes."""
    return (*SHORT_FORMS, *FRAME_IDS, UNKNOWN_NAME)


def encode(codec: Codec, name: str, words: Iterable[str], *, sn: int = 0) -> Frame:
    """Make one frame.

    :param words: ``FIELD=VALUE``; a variable-length read names its points without a value.
    :raises EncodeError: an unknown name, a missing or bad value, a point that cannot be controlled.
    """
    pairs = _pairs(words)
    if name in SHORT_FORMS:
        command, meaning = SHORT_FORMS[name]
        return _p0_frame(codec, command, meaning, pairs, sn)
    if name == UNKNOWN_NAME:
        command = _number(pairs, "command")
        return Frame(command, sn, _blob(pairs, "payload"), _rest(pairs))
    if name not in FRAME_IDS:
        raise UnknownName("frame", name, frame_names())
    spec = FRAMES[FRAME_IDS[name]]
    if spec.body == P0_BODY:
        return _named_p0(codec, spec, pairs, sn)
    if isinstance(spec.body, Body):
        payload, flags = build_body(spec, _typed(spec, spec.body, pairs))
        return Frame(spec.id, sn, payload, flags)
    payload = b"" if spec.body == EMPTY else _blob(pairs, "payload")
    return Frame(spec.id, sn, payload, _rest(pairs))


def size_warning(frame: Frame) -> str | None:
    """What to say of a frame that real modules may lose (serial.md §1.7, R26)."""
    if len(frame.payload) <= SAFE_PAYLOAD:
        return None
    return (
        f"the payload has {len(frame.payload)} bytes; more than {SAFE_PAYLOAD} do not fit the receive buffer "
        "of common module firmware"
    )


def _pairs(words: Iterable[str]) -> dict[str, str | None]:
    pairs: dict[str, str | None] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name in pairs:
            raise EncodeError(f"{name} is given twice")
        pairs[name] = value if equals else None
    return pairs


def _text(pairs: Mapping[str, str | None], name: str) -> str:
    value = pairs[name]
    if value is None:
        raise EncodeError(f"{name} needs a value: {name}=VALUE")
    return value


def _blob(pairs: dict[str, str | None], name: str) -> bytes:
    if name not in pairs:
        return b""
    text = _text(pairs, name)
    del pairs[name]
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueOutOfRange(name, text, "hex digits in pairs") from None


def _number(pairs: dict[str, str | None], name: str) -> int:
    if name not in pairs:
        raise EncodeError(f"the field {name} is missing")
    text = _text(pairs, name)
    del pairs[name]
    try:
        return integer_of(text)
    except ValueError as error:
        raise EncodeError(f"{name}: {error}") from None


def _rest(pairs: Mapping[str, str | None], known: Iterable[str] = ()) -> int:
    """No word may be left over; the flags of a frame without fields are 0."""
    for name in pairs:
        raise UnknownName("field", name, tuple(known))
    return 0


def _typed(spec: FrameSpec, body: Body, pairs: Mapping[str, str | None]) -> dict[str, Any]:
    pieces = {field.name: field.subcon for field in body.fields}
    typed: dict[str, Any] = {}
    for name in pairs:
        text = _text(pairs, name)
        if name in spec.flag_bits:
            typed[name] = _truth(name, text)
        elif name in pieces:
            try:
                typed[name] = pieces[name].from_text(text)
            except ValueError as error:
                raise EncodeError(f"{name}: {error}, not {text!r}") from None
        else:
            raise UnknownName("field", name, (*body.names, *spec.flag_bits))
    return typed


def _truth(name: str, text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise ValueOutOfRange(name, text, "true, false, 1 or 0")
    return values[text.lower()]


def _named_p0(codec: Codec, spec: FrameSpec, pairs: dict[str, str | None], sn: int) -> Frame:
    """``p0_to_mcu`` and the others by their frame names: without an action an empty P0, as in plain acks."""
    if "action" not in pairs:
        did = _take_did(codec, pairs)
        if pairs:
            raise EncodeError(f"{spec.name} needs action=N, or use one of: {', '.join(SHORT_FORMS)}")
        return _with_did(Frame(spec.id, sn), did)
    action = _number(pairs, "action")
    row = ACTIONS.get(action)
    if row is None or row.carrier != spec.id:
        known = ", ".join(f"0x{a:02x}" for a, r in ACTIONS.items() if r.carrier == spec.id) or "none"
        raise ValueOutOfRange("action", f"0x{action:02x}", f"in {spec.name}: {known}")
    product = codec.product
    if product is not None and row.layout not in (None, product.layout):
        raise EncodeError(
            f"action 0x{action:02x} does not belong to a product of layout {product.layout.value}"
        )
    meaning = row.meaning if row.layout is not None else row.action
    return _p0_frame(codec, spec.id, meaning, pairs, sn)


def _take_did(codec: Codec, pairs: dict[str, str | None]) -> str | None:
    if "did" not in pairs or (codec.product is not None and "did" in codec.product.by_name):
        return None
    did = _text(pairs, "did")
    del pairs["did"]
    return did


def _with_did(frame: Frame, did: str | None) -> Frame:
    if did is None:
        return frame
    prefix: bytes = SUB_DEVICE.build({"did": did})
    return Frame(frame.command, frame.sn, prefix + frame.payload, frame.flags | _SUB_DEVICE_FLAG)


def _p0_frame(
    codec: Codec, command: int, meaning: Meaning | Action, pairs: dict[str, str | None], sn: int
) -> Frame:
    did = _take_did(codec, pairs)
    if meaning in _RAW_DATA:
        if "data" not in pairs:
            raise EncodeError("the field data is missing")
        p0 = _RAW_DATA[meaning](_blob(pairs, "data"))
        _rest(pairs, ("data",))
    elif isinstance(meaning, Action):
        body = ACTIONS[meaning].body
        if body is None:
            raise EncodeError(f"action 0x{meaning:02x} cannot be made by its number")
        p0 = bytes((meaning,)) + body.build(_typed(FRAMES[command], body, pairs))
    else:
        p0 = _points_p0(codec, meaning, pairs)
    return _with_did(Frame(command, sn, p0), did)


def _points_p0(codec: Codec, meaning: Meaning, pairs: dict[str, str | None]) -> bytes:
    product = codec.product
    if product is None:
        raise EncodeError(f"{meaning.value} needs a product definition: give it with -p")
    if meaning is Meaning.READ:
        if product.layout is Layout.FIXED and not pairs:
            return bytes((action_for(meaning, product.layout),))
        for name, value in pairs.items():
            product.point(name)
            if value is not None:
                raise EncodeError(f"a read names its points without a value: {name}")
        return codec.p0.read(pairs)
    raw = {name: _raw(product.point(name), _text(pairs, name)) for name in pairs}
    if meaning is Meaning.CONTROL:
        return codec.p0.control(raw)
    return codec.p0.reply(raw) if meaning is Meaning.READ_REPLY else codec.p0.report(raw)


def _raw(point: DataPoint, text: str) -> int | bytes:
    return point.raw(text)
