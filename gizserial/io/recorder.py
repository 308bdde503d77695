"""A capture file written while things happen: what was received is in the file, however the program ends.

::

    with CaptureRecorder("run.jsonl", product_key=key) as recorder:
        driver = Driver(module, port, on_bytes=recorder.of(Role.MODULE))
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self

from gizserial.capture.formats import format_of
from gizserial.capture.record import ByteWriter, Losses, Meta, Other, Record, Writer
from gizserial.commands import Direction, Role
from gizserial.describe import json_line
from gizserial.errors import CaptureError
from gizserial.io.files import os_sentence, output_sentence

if TYPE_CHECKING:
    from gizserial.io.driver import OnBytes


class CaptureRecorder:
    """Appends records to a new file in the format of its suffix; an older file of that name is replaced.

    A record is given to the operating system whole and at once, so it outlives the program. When the disk is
    full, the part of a record that still fitted is taken back: the file always ends with a whole record.

    :param meta: Members of the meta line, where the format has one; those that are None are left out.
    :raises CaptureError: The suffix is none of ours; on entering and adding: the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], **meta: object) -> None:
        self.path: Final = os.fspath(path)
        self.form: Final = format_of(self.path)
        self.opened = False
        """It was entered: the file is there."""
        members = {name: value for name, value in meta.items() if value is not None}
        self._meta = Meta(members) if members and self.form.name == "jsonl" else None
        self._file: IO[bytes] | None = None
        self._writer: Writer | None = None
        self._pending = bytearray()
        self._good = 0
        self.records = 0
        self.bytes: Counter[Direction | None] = Counter()
        """How many bytes went which way."""

    @property
    def losses(self) -> Losses:
        """What the format could not keep."""
        return self._writer.losses if self._writer is not None else Losses()

    def __enter__(self) -> Self:
        """Make the file."""
        try:
            self._file = Path(self.path).open("wb", buffering=0)
        except (OSError, ValueError) as error:
            raise CaptureError(self.path, output_sentence(error)) from error
        self.opened = True
        self._writer = self.form.writer(_Pending(self._pending), self.path, self._meta)
        self._put()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it; the bytes reach the disk."""
        self.close()

    def close(self) -> None:
        """Close it; safe to call twice."""
        file, self._file = self._file, None
        if file is None:
            return
        with contextlib.suppress(OSError):  # a pipe or a terminal
            os.fsync(file.fileno())
        try:
            file.close()
        except OSError as error:
            raise CaptureError(self.path, os_sentence(error)) from error

    def on_bytes(self, direction: Direction | None, data: bytes, t: float | None, **extra: object) -> None:
        """Append bytes of one direction, seen at ``t`` seconds since the start.

        :param extra: More members of the record, where the format has them.
        """
        self.add(Record(None if t is None else round(t, 6), direction, data, extra))

    def of(self, role: Role) -> OnBytes:
        """``on_bytes`` of a driver whose machine plays ``role``."""

        def told(way: str, data: bytes, t: float) -> None:
            self.on_bytes((role if way == "sent" else role.peer).direction, data, t)

        return told

    def add(self, record: Record) -> None:
        """Append one record."""
        if self._writer is None or self._file is None:
            raise RuntimeError("the recorder is not open: enter it with 'with'")
        self._writer.write(record)
        self._put()
        self.records += 1
        self.bytes[record.direction] += len(record.data)

    def note(self, text: str, t: float) -> None:
        """Append a line about the line itself (a port went away), where the format has room for one."""
        if self.form.name == "jsonl" and self._writer is not None:
            self._writer.write(Other("", json_line({"t": round(t, 6), "note": text})))
            self._put()

    def _put(self) -> None:
        """Give what the writer made to the operating system, all of it or nothing."""
        file = self._file
        data = bytes(self._pending)
        self._pending.clear()
        if file is None or not data:
            return
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    os.ftruncate(file.fileno(), self._good)
            sentence = os_sentence(error).replace("nothing was written", "what came before is in the file")
            raise CaptureError(self.path, sentence) from error
        self._good += len(data)


class _Pending(ByteWriter):
    """Collects what a writer makes of one record."""

    def __init__(self, into: bytearray) -> None:
        self._into = into

    def write(self, data: bytes, /) -> object:
        self._into += data
        return len(data)
