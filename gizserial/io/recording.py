"""A capture file that grows while it is watched: what was written stays, however the program ends."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Self

from gizserial.capture.formats import format_of
from gizserial.capture.record import Meta, Record
from gizserial.errors import CaptureError
from gizserial.io.files import os_sentence


class Recording:
    """Opened by ``with``; the format follows the suffix.

    :raises CaptureError: No such format, or the file cannot be written; also while records are added.
    """

    def __init__(self, path: str, meta: Meta | None = None) -> None:
        self._path, self._meta = path, meta
        self._form = format_of(path)
        self._file: IO[bytes] | None = None
        self.records = 0

    def __enter__(self) -> Self:
        """Make the file."""
        try:
            self._file = Path(self._path).open("wb")
        except (OSError, ValueError) as error:
            raise CaptureError(self._path, os_sentence(error)) from error
        self._writer = self._form.writer(self._file, self._path, self._meta)
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise CaptureError(self._path, os_sentence(error)) from error

    def add(self, record: Record) -> None:
        """Append one record."""
        try:
            self._writer.write(record)
        except OSError as error:
            raise CaptureError(self._path, os_sentence(error)) from error
        self.records += 1

    def flush(self) -> None:
        """Give what was added to the operating system."""
        if self._file is not None:
            try:
                self._file.flush()
            except OSError as error:
                raise CaptureError(self._path, os_sentence(error)) from error
