"""Defects of the device information and of restarts (serial.md §4.1, §4.8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gizserial.commands import Command
from gizserial.framing import Frame, Item
from sim.mcu_defects.hooks import paid, receiving, sending
from sim.mcu_defects.machine import DefectiveMcu
from sim.mcu_defects.model import Fault, Make, Out, has_writable, row

_INFO: Final = Command.DEVICE_INFO + 1
_HANG: Final = 30.0


def _info(change: Callable[[bytes], bytes]) -> Make:
    return sending(
        lambda _mcu, frame: paid(frame, change(frame.payload)) if frame.command == _INFO else frame
    )


def _put(start: int, data: bytes) -> Make:
    return _info(lambda payload: payload[:start] + data + payload[start + len(data) :])


def _other_layout(body: bytes) -> bytes:
    return body[:73] + bytes((body[73] ^ 0x80,)) + body[74:] if len(body) > 73 else body


class _Once(Fault):
    """Answers 01 once only."""

    def __init__(self) -> None:
        self._asked = 0

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and item.command == Command.DEVICE_INFO:
            self._asked += 1
            if self._asked > 1:
                return []
        return super().received(item, now)


class _Changes(Fault):
    """The bind time counts down in what is answered."""

    def __init__(self) -> None:
        self._left = 600

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - the hook's signature
        if frame.command != _INFO:
            return [Out(frame)]
        self._left -= 1
        payload = frame.payload[:64] + self._left.to_bytes(2, "big") + frame.payload[66:]
        return [Out(paid(frame, payload))]


class _Confused(Fault):
    """Takes number 0 for an old frame once it has seen others."""

    def __init__(self) -> None:
        self._seen = False

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame):
            if item.sn == 0 and self._seen and item.command == Command.DEVICE_INFO:
                return []
            self._seen = self._seen or item.sn > 0
        return super().received(item, now)


class _Forgets(Fault):
    """Values fall back when a command comes.

    :param again: Only when it comes for the second time.
    """

    def __init__(self, command: int, *, again: bool = False) -> None:
        self._command, self._left = command, int(again)

    def received(self, item: Item, now: float) -> list[Item | bytes]:
        if isinstance(item, Frame) and item.command == self._command:
            if self._left:
                self._left -= 1
            else:
                self.mcu.forget_values(now)
        return super().received(item, now)


def _hangs_on_restart(mcu: DefectiveMcu, frame: Frame) -> Frame:
    if frame.command == Command.RESTART_MCU:
        mcu.deaf_until = mcu.now + _HANG
    return frame


_NOT_ACKED: Final = sending(lambda _mcu, frame: None if frame.command == Command.RESTART_MCU + 1 else frame)
_PRINTABLE: Final = "versions are eight printable characters"

DEFECTS: Final = (
    row(
        "info-missing",
        "does not say who it is",
        "01 is answered at any time",
        "4.1",
        sending(lambda _mcu, frame: None if frame.command == _INFO else frame),
    ),
    row(
        "info-short",
        "says only its versions",
        "66, 74, 106 or 108+n bytes",
        "4.1",
        _info(lambda body: body[:40]),
    ),
    row(
        "info-long",
        "sends one byte too many",
        "66, 74, 106 or 108+n bytes",
        "4.1",
        _info(lambda body: body + b"\0"),
    ),
    row(
        "info-version-unterminated",
        "leaves stale bytes behind a short version",
        _PRINTABLE,
        "3.1",
        _put(24, b"1.0\x00\xa5\x5a\x00\x01"),
    ),
    row(
        "info-version-nonprintable",
        "writes its version as numbers",
        _PRINTABLE,
        "3.1",
        _put(24, bytes((1, 2, 0, 7))),
    ),
    row(
        "info-wrong-protocol-version", "speaks of protocol 00000003", "00000004", "4.1", _put(0, b"00000003")
    ),
    row(
        "info-wrong-product-key",
        "has the key of another product",
        "the key is the product's",
        "4.1",
        _put(32, b"00112233445566778899aabbccddeeff"),
    ),
    row(
        "info-key-upper-case",
        "writes the product key in capitals",
        "32 lower-case hex digits",
        "3.1",
        _info(lambda body: body[:32] + body[32:64].upper() + body[64:]),
    ),
    row(
        "info-wrong-layout-bit",
        "has the wrong layout bit",
        "bit 7 says variable length",
        "3.2",
        _info(_other_layout),
    ),
    row(
        "info-attributes-reserved",
        "fills the attributes with FF",
        "reserved bits are 0",
        "3.2",
        _put(66, b"\xff" * 6),
    ),
    row(
        "info-secret-garbled",
        "has stale bytes for a secret",
        "32 lower-case hex digits",
        "3.1",
        _put(74, b"\x00\x01garbled"),
    ),
    row("info-once-only", "says who it is once only", "01 is answered at any time", "4.1", _Once),
    row(
        "info-changes",
        "counts the bind time down in its answer",
        "the answer is always the same",
        "4.1",
        _Changes,
    ),
    row(
        "module-restart-confuses",
        "takes number 0 for an old frame",
        "any number may come first",
        "1.4",
        _Confused,
    ),
    row(
        "values-lost-on-module-restart",
        "forgets values when the module restarts",
        "values stay",
        "4.1",
        lambda: _Forgets(Command.DEVICE_INFO, again=True),
        fits=has_writable,
    ),
    row(
        "values-lost-on-heartbeat",
        "forgets values at a heartbeat",
        "values stay",
        "4.4",
        lambda: _Forgets(Command.HEARTBEAT),
        fits=has_writable,
    ),
    row(
        "values-lost-on-status",
        "forgets values at a status push",
        "values stay",
        "4.7",
        lambda: _Forgets(Command.STATUS),
        fits=has_writable,
    ),
    row("restart-unacked", "restarts without an ack", "0F is acked first", "4.8", _NOT_ACKED),
    row(
        "restart-loses-line",
        "does not come back after a restart",
        "the MCU answers again",
        "4.8",
        receiving(_hangs_on_restart),
    ),
)
