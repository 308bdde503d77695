"""Which format a capture has: by its suffix, or by how it begins."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Mapping
from pathlib import PurePath
from types import MappingProxyType
from typing import Final, cast

from gizserial.capture import binary, hextext, jsonl, pcapng
from gizserial.capture.record import ByteReader, ByteWriter, Capture, Meta, Writer
from gizserial.errors import CaptureError

SNIFF: Final = 4096
"""Bytes that decide what standard input holds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    """One capture format: how it is called, read and written."""

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[ByteReader, str], Capture]
    writer: Callable[[ByteWriter, str, Meta | None], Writer]


FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {
        row.name: row
        for row in (
            Format("jsonl", (".jsonl",), jsonl.read, jsonl.JsonlWriter),
            Format("bin", (".bin",), binary.read, binary.BinaryWriter),
            Format("hex", (".hex", ".txt", ".log"), hextext.read, hextext.HexTextWriter),
            Format("pcapng", (".pcapng",), pcapng.read, pcapng.PcapngWriter),
        )
    }
)

SUFFIXES: Final[Mapping[str, Format]] = MappingProxyType(
    {suffix: row for row in FORMATS.values() for suffix in row.suffixes}
)


def format_of(path: str) -> Format:
    """Format of a file by its suffix, in upper or lower case.

    :raises CaptureError: The suffix is none of ours.
    """
    suffix = PurePath(path).suffix.lower()
    row = SUFFIXES.get(suffix)
    if row is None:
        what = f"the suffix {suffix}" if suffix else "no suffix"
        raise CaptureError(path, f"it has {what}; a capture has one of {', '.join(SUFFIXES)}")
    return row


def sniff(head: bytes, *, complete: bool) -> Format:
    """Format of what has no name, by its first bytes.

    :param head: At least the first :data:`SNIFF` bytes, or everything there is.
    :param complete: ``head`` is everything there is.
    """
    if head.removeprefix(b"\xef\xbb\xbf").startswith(b"{"):
        return FORMATS["jsonl"]
    return FORMATS["hex" if hextext.allows(head[:SNIFF], complete=complete) else "bin"]


def read_unnamed(file: ByteReader, source: str = "-") -> Capture:
    """Read what has no name, such as standard input: JSON Lines, hex text or raw bytes.

    :raises CaptureError: It is one of these and damaged.
    """
    head = file.read(1)
    if head and head != b"{":
        head += file.read(SNIFF - 1)
    row = sniff(head, complete=len(head) < SNIFF and head != b"{")
    buffered = io.BufferedReader(cast("io.RawIOBase", _Again(head, file)))
    return row.read(buffered, source)


class _Again(io.RawIOBase):
    """The bytes that were looked at, then the rest of the file."""

    def __init__(self, head: bytes, file: ByteReader) -> None:
        super().__init__()
        self._head, self._file = head, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(cast("bytearray", buffer))
        if self._head:
            data, self._head = self._head[: len(view)], self._head[len(view) :]
        else:
            data = self._file.read1(len(view))
        view[: len(data)] = data
        return len(data)
