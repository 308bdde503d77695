"""What every capture format is made of: records, and the lines that are something else."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, Protocol, TypeAlias

from gizserial.commands import Direction
from gizserial.errors import CaptureError

DIRECTIONS: Final[tuple[Direction, Direction]] = ("mcu>module", "module>mcu")

CHUNK: Final = 64 * 1024
"""Bytes asked of a file at a time, and the most that a record of raw bytes or hex text holds."""

MAX_LINE: Final = 16 * 1024 * 1024
"""Longest line or block of a capture file, in bytes. Longer is refused, so memory stays bounded."""

MAX_TIME: Final = float(2**33)
"""Latest time of a record, in seconds (272 years): up to here a float holds every microsecond."""


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """Bytes as they were on the wire, in whatever chunk they were seen."""

    t: float | None
    """Seconds since start, 0 to :data:`MAX_TIME`; None where the format has no times."""
    direction: Direction | None
    """Who sent it; None where the format does not say."""
    data: bytes
    extra: Mapping[str, object] = dataclasses.field(default_factory=dict)
    """Other members of a ``.jsonl`` line, as JSON gave them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Meta:
    """The first line of a ``.jsonl`` file, where it has one: free members about the whole capture."""

    members: Mapping[str, object] = dataclasses.field(default_factory=dict)
    extra: Mapping[str, object] = dataclasses.field(default_factory=dict)
    """Members beside ``meta`` in the same line."""

    @property
    def product(self) -> str | None:
        """File name of the product definition, as written: relative to the capture."""
        value = self.members.get("product")
        return value if isinstance(value, str) else None

    @property
    def product_key(self) -> str | None:
        """Product key, where the line has one."""
        value = self.members.get("product_key")
        return value if isinstance(value, str) else None


@dataclasses.dataclass(frozen=True, slots=True)
class Other:
    """Something in the file that is no record: decoding skips it, conversion keeps it where it can."""

    where: str
    """``line 3`` or ``byte 120``."""
    line: str | None = None
    """A line of a ``.jsonl`` file, without its end; None for a block of a ``.pcapng`` file."""

    @property
    def kind(self) -> str:
        """What it is, as a plural noun."""
        return "other blocks" if self.line is None else "other lines"


Item: TypeAlias = Record | Other


@dataclasses.dataclass(frozen=True, slots=True)
class Capture:
    """One opened capture; its items are read from the file as they are taken."""

    source: str
    """The file, as the user named it."""
    meta: Meta | None
    items: Iterator[Item]
    """Everything in file order. Taking the next one may raise :class:`~gizserial.errors.CaptureError`."""

    def records(self) -> Iterator[Record]:
        """Only the records; what else is in the file is skipped."""
        return (item for item in self.items if isinstance(item, Record))


Losses: TypeAlias = Counter[str]
"""What a writer could not keep, as a plural noun with how often, for example ``times``."""


class ByteReader(Protocol):
    """What a reader needs of a file: any buffered binary file of the standard library has it."""

    def read(self, size: int, /) -> bytes:
        """Exactly ``size`` bytes, fewer only at the end."""

    def read1(self, size: int, /) -> bytes:
        """What is there, at most ``size`` bytes; nothing only at the end."""

    def readline(self, size: int, /) -> bytes:
        """Up to and including the next line feed, at most ``size`` bytes."""


class ByteWriter(Protocol):
    """What a writer needs of a file."""

    def write(self, data: bytes, /) -> object:
        """Take all of the bytes."""


class Writer(Protocol):
    """One format's writer. The file is the caller's: nothing is opened or closed here."""

    losses: Losses

    def write(self, item: Item, /) -> None:
        """Append one item.

        :raises CaptureError: It cannot be written in this format at all.
        """


class DirectionRule:
    """Holds a file to one rule: either every record says its direction, or none does.

    Offsets count per direction, so a record without one among others that have one has no place.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._known: bool | None = None

    def check(self, direction: Direction | None, where: str) -> None:
        """Compare one record's direction with those before it."""
        known = direction is not None
        if self._known is None:
            self._known = known
        elif self._known is not known:
            this, rest = ("no", "one") if self._known else ("a", "none")
            message = (
                f"this record has {this} direction, those before it have {rest}; give all or none of them one"
            )
            raise CaptureError(self._source, message, where=where)
