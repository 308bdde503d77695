"""``.bin``: the raw bytes of one direction, nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from gizserial.capture.record import CHUNK, ByteReader, ByteWriter, Capture, Item, Losses, Meta, Other, Record
from gizserial.commands import Direction
from gizserial.errors import CaptureError


def read(file: ByteReader, source: str) -> Capture:
    """Start reading; a record is what one read gave, at most ``CHUNK`` bytes."""
    return Capture(source, None, _records(file))


def _records(file: ByteReader) -> Iterator[Item]:
    while data := file.read1(CHUNK):
        yield Record(None, None, data)


class BinaryWriter:
    """Writes ``.bin``: everything beside the bytes is lost, a second direction is refused."""

    def __init__(self, file: ByteWriter, source: str, meta: Meta | None = None) -> None:
        self._file, self._source = file, source
        self._direction: Direction | None = None
        self.losses: Losses = Losses()
        if meta is not None:
            self.losses["meta lines"] += 1

    def write(self, item: Item, /) -> None:
        """Append the bytes of one record.

        :raises CaptureError: A record of the other direction came.
        """
        if isinstance(item, Other):
            self.losses[item.kind] += 1
            return
        if item.direction is not None:
            if self._direction is None:
                self._direction = item.direction
            elif item.direction != self._direction:
                message = (
                    "raw bytes hold one direction and the input has both; "
                    "gizserial convert --sender picks one"
                )
                raise CaptureError(self._source, message)
            self.losses["directions"] += 1
        if item.t is not None:
            self.losses["times"] += 1
        self.losses["other members"] += len(item.extra)
        self._file.write(item.data)
