"""What stands on the line, in words: the same in findings, in the terminal and in every report."""

from __future__ import annotations

import dataclasses
import re
from typing import Final

from gizserial.codec import Codec
from gizserial.commands import Command, Direction
from gizserial.describe import Described, describe, headline, render
from gizserial.framing import Frame, Noise
from gizserial.product import Product
from sim.conformance.model import Entry

_NOT_TEXT: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SECRET: Final = slice(74, 106)
"""Where the product secret stands in the device information (serial.md §4.1)."""
_SHOWN: Final = 24
"""Bytes of noise that a line shows."""


class Words:
    """Says what an entry is."""

    def __init__(self, product: Product) -> None:
        self._codec = Codec(product)

    def described(self, entry: Entry) -> Described:
        """The decoded entry."""
        item = entry.item
        if isinstance(item, Frame) and not item.wire:
            item = dataclasses.replace(item, wire=item.encode())  # ours: it was never received
        if isinstance(item, Frame):
            item = _without_secret(item)
        return describe(item, self._codec, t=round(entry.time, 6), direction=direction_of(entry))

    def say(self, entry: Entry) -> str:
        """In one line."""
        if isinstance(entry.item, Noise):
            count = "1 byte" if len(entry.wire) == 1 else f"{len(entry.wire)} bytes"
            more = " …" if len(entry.wire) > _SHOWN else ""
            return f"{count} outside any frame: {entry.wire[:_SHOWN].hex(' ')}{more}"
        return headline(self.described(entry))

    def tree(self, entry: Entry) -> str:
        """With every field."""
        return render(self.described(entry))

    def line(self, entry: Entry) -> str:
        """In one line with time and direction."""
        arrow = "module → mcu" if entry.direction == "sent" else "mcu → module"
        note = f"  ({entry.note})" if entry.note else ""
        return f"{entry.time:10.3f}  {arrow}  {self.say(entry)}{note}"


def _without_secret(frame: Frame) -> Frame:
    """The frame with stars for the product secret: reports are passed on."""
    secret = frame.payload[_SECRET] if frame.command == Command.DEVICE_INFO + 1 else b""
    if len(secret) < _SECRET.stop - _SECRET.start or secret not in frame.wire:
        return frame
    stars = b"*" * len(secret)
    payload = frame.payload[: _SECRET.start] + stars + frame.payload[_SECRET.stop :]
    return dataclasses.replace(frame, payload=payload, wire=frame.wire.replace(secret, stars))


def clean(text: str) -> str:
    """Text that XML and HTML may hold: values of a device may have any character."""
    return _NOT_TEXT.sub("\ufffd", text)


def direction_of(entry: Entry) -> Direction:
    """As captures write it."""
    return "module>mcu" if entry.direction == "sent" else "mcu>module"
