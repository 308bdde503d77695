"""Defects of bytes and frames (serial.md §1)."""

from __future__ import annotations

from typing import Final

from gizserial.commands import FRAMES, Command, Role
from gizserial.framing import BadFrame, Frame, Item, Noise
from gizserial.product import Product
from sim.mcu_defects.hooks import is_own, is_report, logical, receiving, sending
from sim.mcu_defects.machine import DefectiveMcu
from sim.mcu_defects.model import Fault, Make, Out, has_writable, row

_HANG: Final = 8.0
"""Seconds that hanging firmware is deaf: longer than three transmissions of a module."""
_ESCAPE_RULE: Final = "after the header every FF is followed by 55"
_SOON: Final = 0.005


class _Escape(Fault):
    """Leaves the escape out in some places of what leaves."""

    def __init__(self, *places: str) -> None:
        self._places = places

    def encoded(self, frame: Frame, wire: bytes) -> bytes:  # noqa: ARG002 - the hook's signature
        body = logical(frame)
        last = len(body) - 1
        out = bytearray(b"\xff\xff")
        for offset, byte in enumerate(body):
            place = (
                "length"
                if offset < 2
                else "sn"
                if offset == 3
                else "checksum"
                if offset == last
                else "payload"
            )
            out.append(byte)
            if byte == 0xFF and place not in self._places:
                out.append(0x55)
        return bytes(out)


class _Sum(Fault):
    """Computes the checksum over something else."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def encoded(self, frame: Frame, wire: bytes) -> bytes:  # noqa: ARG002 - the hook's signature
        body = logical(frame)[:-1]
        escapes = body.count(0xFF)
        if self._kind == "counted":
            body = (len(frame.payload) + 5 + escapes).to_bytes(2, "big") + body[2:]
        total = sum(body)
        if self._kind == "header":
            total += 0x1FE
        elif self._kind == "summed":
            total += 0x55 * escapes
        body += bytes((total & 0xFF,))
        return b"\xff\xff" + body.replace(b"\xff", b"\xff\x55")


class _BadSumTaken(Fault):
    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, BadFrame) and item.reason == "checksum":
            body = item.logical[:-1]
            fixed = body + bytes((sum(body) & 0xFF,))
            return [b"\xff\xff" + fixed.replace(b"\xff", b"\xff\x55")]
        return super().received(item, now)


class _Hangs(Fault):
    """Is deaf for a while after something that is no frame."""

    def __init__(self, after: str) -> None:
        self._after = after
        self._junk = 0
        self._since = 0.0

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if self._hit(item, now):
            self.mcu.deaf(_HANG)
            return []
        return super().received(item, now)

    def _hit(self, item: Item, now: float) -> bool:
        if isinstance(item, Frame):
            spec = FRAMES.get(item.command)
            return self._after == "unknown" and (
                spec is None or (spec.sender is Role.MCU and not spec.is_ack)
            )
        if isinstance(item, BadFrame):
            if self._after == "burst":
                return self._burst(len(item.wire), now)
            if self._after == "short":
                return item.reason == "length" and int.from_bytes(item.logical[:2], "big") < 5
            return self._after == "truncated" and item.reason == "truncated"
        if self._after == "burst":
            return self._burst(len(item.wire), now)
        if self._after == "noise":
            return self._in_a_row(len(item.wire), now)
        return self._after == "headers" and item.wire.count(0xFF) >= 2

    def _in_a_row(self, size: int, now: float) -> bool:
        self._junk = size if now - self._since > 0.05 else self._junk + size
        self._since = now
        return self._junk >= 16

    def _burst(self, size: int, now: float) -> bool:
        if now - self._since > 2:
            self._since, self._junk = now, 0
        self._junk += size
        return self._junk > 150


class _WaitsForLength(Fault):
    """Waits for all bytes that a length announces, headers or not."""

    def __init__(self) -> None:
        self._missing = 0
        self._tail = b""

    def incoming(self, data: bytes, now: float) -> bytes:  # noqa: ARG002 - the hook's signature
        passed = bytearray()
        for byte in data:
            if self._missing:
                self._missing -= 1
                continue
            self._tail = (self._tail + bytes((byte,)))[-4:]
            if self._tail[:2] == b"\xff\xff" and len(self._tail) == 4:
                announced = int.from_bytes(self._tail[2:], "big")
                if 600 < announced < 0xFF00:
                    self._missing = announced
            passed.append(byte)
        return bytes(passed)


class _Naive(Fault):
    """Loses the frame that follows an FF too many."""

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most
        self._lost = False

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Noise):
            ffs = len(item.wire) - len(item.wire.rstrip(b"\xff"))
            self._lost = self._least <= ffs <= self._most
        elif isinstance(item, Frame) and self._lost:
            self._lost = False
            return []
        return super().received(item, now)


class _Glued(Fault):
    """Looks at the first frame of what is in the buffer and clears it."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame):
            began = now - len(item.wire) * self.mcu.role.options.byte_time
            soon = began - self._last < _SOON
            self._last = now
            if soon:
                return []
        return super().received(item, now)


class _Split(Fault):
    """Gives a frame up when its bytes do not follow at once."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def incoming(self, data: bytes, now: float) -> bytes:
        if now - self._last > 0.01:
            self.mcu.drop_partial()
        self._last = now
        return data


class _LosesBytes(Fault):
    """Every nth byte is lost, in one direction."""

    def __init__(self, nth: int, *, sending: bool = False) -> None:
        self._nth, self._sending = nth, sending
        self._count = 0

    def incoming(self, data: bytes, now: float) -> bytes:  # noqa: ARG002 - the hook's signature
        return data if self._sending else self._thinned(data)

    def encoded(self, frame: Frame, wire: bytes) -> bytes:  # noqa: ARG002 - the hook's signature
        return self._thinned(wire) if self._sending else wire

    def _thinned(self, data: bytes) -> bytes:
        kept = bytearray()
        for byte in data:
            self._count += 1
            if self._count % self._nth:
                kept.append(byte)
        return bytes(kept)


class _Besides(Fault):
    """Says something besides each report."""

    def __init__(self, what: Frame | bytes) -> None:
        self._what = what

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        return [Out(frame), Out(self._what)] if is_report(frame) else [Out(frame)]


def _no_escapes(_mcu: DefectiveMcu, frame: Frame) -> Frame | None:
    return None if 0xFF in logical(frame) else frame


def _no_ff55(_mcu: DefectiveMcu, frame: Frame) -> Frame | None:
    return None if b"\xff\x55" in frame.payload else frame


def _no_flags(_mcu: DefectiveMcu, frame: Frame) -> Frame | None:
    return None if frame.flags else frame


def _no_large(_mcu: DefectiveMcu, frame: Frame) -> Frame | None:
    return None if len(frame.payload) > 128 else frame


def _flagged(_mcu: DefectiveMcu, frame: Frame) -> Frame:
    return Frame(frame.command, frame.sn, frame.payload, 0x0100) if is_own(frame) else frame


def _holds_ff(product: Product) -> bool:
    return any(p.size and (p.scale is None or p.scale.raw_max & 0xFF == 0xFF) for p in product.writable)


def _length_ff(product: Product) -> bool:
    return 1 + product.status_size == 250


def _acks_unknown(mcu: DefectiveMcu, frame: Frame) -> Frame | None:
    if frame.command not in FRAMES and frame.command % 2:
        mcu.say(Frame(frame.command + 1, frame.sn))
        return None
    return frame


def _acks_own_commands(mcu: DefectiveMcu, frame: Frame) -> Frame | None:
    spec = FRAMES.get(frame.command)
    if spec is not None and spec.sender is Role.MCU and not spec.is_ack:
        mcu.say(Frame(frame.command + 1, frame.sn))
        return None
    return frame


def _answers_notices(mcu: DefectiveMcu, frame: Frame) -> Frame | None:
    if frame.command == Command.ILLEGAL_FRAME_FROM_MODULE:
        mcu.say(Frame(Command.ILLEGAL_FRAME_FROM_MCU, frame.sn, b"\x02"))
        return None
    return frame


def _answers_acks(mcu: DefectiveMcu, frame: Frame) -> Frame | None:
    if frame.command == Command.P0_FROM_MCU + 1:
        mcu.say(Frame(frame.command + 2, frame.sn))
    return frame


def _notice(change: str) -> Make:
    def changed(_mcu: DefectiveMcu, frame: Frame) -> Frame | None:
        if frame.command != Command.ILLEGAL_FRAME_FROM_MCU:
            return frame
        code = frame.payload[:1]
        if change == "sn":
            return Frame(frame.command, frame.sn + 1 & 0xFF, frame.payload)
        if change == "code":
            return Frame(frame.command, frame.sn, b"\x03")
        if change == "direction":
            return Frame(Command.ILLEGAL_FRAME_FROM_MODULE, frame.sn, frame.payload)
        return None if code == (b"\x01" if change == "checksum" else b"\x02") else frame

    return sending(changed)


DEFECTS: Final = (
    row(
        "escape-missing-in-length",
        "leaves the escape out in the length",
        _ESCAPE_RULE,
        "1.6",
        lambda: _Escape("length"),
        fits=_length_ff,
    ),
    row(
        "escape-missing-in-sn",
        "leaves the escape out in the number",
        _ESCAPE_RULE,
        "1.6",
        lambda: _Escape("sn"),
    ),
    row(
        "escape-missing-in-payload",
        "leaves the escape out in the payload",
        _ESCAPE_RULE,
        "1.6",
        lambda: _Escape("payload"),
        fits=_holds_ff,
    ),
    row(
        "escape-missing-in-checksum",
        "leaves the escape out in the checksum",
        _ESCAPE_RULE,
        "1.6",
        lambda: _Escape("checksum"),
    ),
    row(
        "escape-missing-anywhere",
        "does not escape at all",
        _ESCAPE_RULE,
        "1.6",
        lambda: _Escape("length", "sn", "payload", "checksum"),
    ),
    row(
        "escape-counted-in-length",
        "counts the escapes in the length",
        "the length counts no escapes",
        "1.6",
        lambda: _Sum("counted"),
    ),
    row(
        "escape-summed",
        "sums the escapes up in the checksum",
        "the checksum counts no escapes",
        "1.6",
        lambda: _Sum("summed"),
    ),
    row(
        "unescape-missing",
        "does not take the escapes out of what it receives",
        _ESCAPE_RULE,
        "1.6",
        receiving(_no_escapes),
    ),
    row(
        "escape-ff55-collapsed",
        "takes the data FF 55 for an escape",
        "FF 55 in data is sent as FF 55 55",
        "1.6",
        receiving(_no_ff55),
        fits=_holds_ff,
    ),
    row(
        "checksum-with-header",
        "sums the header up in the checksum",
        "the sum begins with the length",
        "1.3",
        lambda: _Sum("header"),
    ),
    row(
        "checksum-ignored-on-receive",
        "carries out frames with a wrong checksum",
        "a damaged frame is not carried out",
        "1.3, 4.9",
        _BadSumTaken,
    ),
    row(
        "stuck-after-noise",
        "hangs after bytes outside a frame",
        "noise is skipped",
        "1.7",
        lambda: _Hangs("noise"),
    ),
    row(
        "fake-header-lost",
        "hangs after a header too many",
        "the next FF FF begins a frame",
        "1.7",
        lambda: _Hangs("headers"),
    ),
    row(
        "stuck-after-truncated",
        "hangs after a frame that broke off",
        "the next FF FF begins a frame",
        "1.7",
        lambda: _Hangs("truncated"),
    ),
    row(
        "length-zero-hangs",
        "hangs after a length below 5",
        "a length below 5 is no frame",
        "1.7",
        lambda: _Hangs("short"),
    ),
    row(
        "dead-after-burst",
        "hangs after many damaged bytes",
        "noise is skipped",
        "1.7",
        lambda: _Hangs("burst"),
    ),
    row(
        "stuck-after-unknown",
        "hangs after an unknown command",
        "an unknown command draws a notice",
        "4.9",
        lambda: _Hangs("unknown"),
    ),
    row(
        "stuck-after-overlong",
        "waits for every byte that a length announces",
        "the next FF FF ends the wait",
        "1.7",
        _WaitsForLength,
    ),
    row(
        "header-triple-ff",
        "loses a frame behind a single FF",
        "of several FFs the last two are the header",
        "1.7",
        lambda: _Naive(1, 1),
    ),
    row(
        "header-twice-lost",
        "loses a frame behind two headers",
        "of several FFs the last two are the header",
        "1.7",
        lambda: _Naive(2, 2),
    ),
    row(
        "glued-frames-second-lost",
        "loses frames that follow each other at once",
        "several frames in one read are normal",
        "1.7",
        _Glued,
    ),
    row(
        "split-frames-lost",
        "gives a frame up after 10 ms of pause",
        "no receiver has a limit inside a frame",
        "1.1",
        _Split,
    ),
    row(
        "byte-lost-at-ring-edge",
        "loses a byte where its ring buffer wraps",
        "no byte is lost",
        "1.7",
        lambda: _LosesBytes(256),
    ),
    row(
        "frame-lost-sometimes",
        "overlooks one frame in twenty",
        "every command is acked",
        "1.8",
        options={"drops_every_nth": 20},
    ),
    row(
        "bad-checksum-sometimes",
        "sends one checksum in fifteen wrong",
        "every checksum is right",
        "1.3",
        options={"bad_checksum_every_nth": 15},
    ),
    row(
        "byte-lost-when-sending",
        "loses one byte in two hundred that it sends",
        "no byte is lost",
        "1.7",
        lambda: _LosesBytes(200, sending=True),
    ),
    row(
        "debug-text-on-the-line",
        "prints its debug text on the same line",
        "nothing stands between frames",
        "1.1",
        lambda: _Besides(b"report done\r\n"),
        fits=has_writable,
    ),
    row(
        "flags-not-zero",
        "sets reserved flag bits",
        "flags are 0000 unless a command says otherwise",
        "1.5",
        sending(_flagged),
        fits=has_writable,
    ),
    row(
        "flags-refused",
        "refuses frames with an unknown flag bit",
        "unknown flag bits are ignored",
        "1.5",
        receiving(_no_flags),
    ),
    row(
        "large-frames-lost",
        "loses frames of more than 128 bytes",
        "frames of up to 900 bytes are legal",
        "1.7",
        receiving(_no_large),
    ),
    row(
        "unknown-command-acked",
        "acks commands that it does not know",
        "an unknown command is not acked",
        "4.9",
        receiving(_acks_unknown),
    ),
    row(
        "wrong-direction-acked",
        "acks commands that only it may send",
        "a command of the other direction is unknown",
        "1.8",
        receiving(_acks_own_commands),
    ),
    row(
        "notice-answered",
        "answers a notice with a notice",
        "a notice is ignored",
        "4.9",
        receiving(_answers_notices),
    ),
    row("stray-ack-answered", "answers acks", "an ack is not answered", "1.8", receiving(_answers_acks)),
    row(
        "no-notice-on-bad-checksum",
        "says nothing about a wrong checksum",
        "12 code 01",
        "4.9",
        _notice("checksum"),
    ),
    row(
        "no-notice-on-unknown",
        "says nothing about an unknown command",
        "12 code 02",
        "4.9",
        _notice("unknown"),
    ),
    row(
        "notice-wrong-sn",
        "puts its own number into notices",
        "a notice has the number of the frame",
        "4.9",
        _notice("sn"),
    ),
    row(
        "notice-wrong-code",
        "gives every notice the code 03",
        "01 checksum, 02 unknown command",
        "3.4, 4.9",
        _notice("code"),
    ),
    row(
        "notice-wrong-direction",
        "sends 11 instead of 12",
        "11 is the module's, 12 the MCU's",
        "4.9",
        _notice("direction"),
    ),
    row(
        "sends-wrong-direction",
        "sends a heartbeat after each report",
        "07 is the module's",
        "2",
        lambda: _Besides(Frame(Command.HEARTBEAT, 0x21)),
        fits=has_writable,
    ),
    row(
        "sends-unknown-command",
        "sends a command of its own invention",
        "commands are those of section 2",
        "2",
        lambda: _Besides(Frame(0x6D, 0x21)),
        fits=has_writable,
    ),
)
