"""``.hex``, ``.txt``, ``.log``: hex bytes in text, as pasted from a terminal or a logic analyser.

Words are parted by blanks, commas and line ends. A byte is two hex digits; a word holds one byte or several
and may begin with ``0x``. Before the first byte of a line, words are skipped that hold ``:``, ``.``, ``[`` or
``]``, that are a date, or that are ``TX`` or ``RX``; they set neither time nor direction. Any other word is
an error.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Final, NoReturn

from gizserial.capture.record import (
    CHUNK,
    ByteReader,
    ByteWriter,
    Capture,
    Item,
    Losses,
    Meta,
    Other,
    Record,
)
from gizserial.errors import CaptureError

_SEPARATORS: Final = b" \t\r\n\v\f,"
_LAST_SEPARATOR: Final = re.compile(rb"[ \t\r\n\v\f,](?=[^ \t\r\n\v\f,]*\Z)")
_WORD: Final = re.compile(rb"[^ \t\r\n\v\f,]+")
_HEX: Final = re.compile(rb"(?:0[xX])?((?:[0-9a-fA-F]{2})+)\Z")
_DIGITS: Final = re.compile(rb"[0-9a-fA-F]+\Z")
_DATE: Final = re.compile(rb"(?:\d{4}([-/])\d{1,2}\1\d{1,2}|\d{1,2}([-/])\d{1,2}\2\d{2,4})\Z")
_MARKS: Final = frozenset(b":.[]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BOM: Final = b"\xef\xbb\xbf"
_UTF16_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")
_LONGEST_SKIPPED: Final = 4096
"""Longest word that is still taken for a time stamp, in bytes."""

_WRAP: Final = 256
"""Bytes written on one line."""


def word_bytes(word: str | bytes) -> bytes | None:
    """Bytes of one word: pairs of hex digits, perhaps after ``0x``; None if it is something else."""
    raw = word.encode("ascii", "replace") if isinstance(word, str) else word
    match = _HEX.match(raw)
    return bytes.fromhex(match[1].decode()) if match else None


def words_bytes(text: str) -> bytes | None:
    """Bytes of words parted by blanks or commas, with nothing between; None if one is something else."""
    words = text.replace(",", " ").split()
    found = [word_bytes(word) for word in words]
    return None if not found or None in found else b"".join(data for data in found if data is not None)


def read(file: ByteReader, source: str) -> Capture:
    """Start reading; a record is the bytes of one line, long lines give several.

    :raises CaptureError: While the items are taken, with the number of the line and the word.
    """
    return Capture(source, None, _Parser(source).read(file))


def allows(head: bytes, *, complete: bool) -> bool:
    """Tell whether ``head`` holds nothing but hex text.

    :param complete: Nothing follows. Otherwise the last word may be cut off, and is judged only alone.
    """
    head = head.removeprefix(_BOM)
    if not complete:
        cut = _LAST_SEPARATOR.search(head)
        head = head[: cut.end()] if cut else head[: len(head) & ~1]
    parser = _Parser("")
    try:
        for _ in itertools.chain(parser.feed(head), parser.feed(b"\n")):
            pass
    except CaptureError:
        return False
    return True


class _Parser:
    """Words to bytes, in blocks of any size. Holds a block, an unfinished word and one line at most."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._line = 1
        self._leading = True
        """No byte of this line was seen yet."""
        self._inside = False
        """What comes next goes on with a long word whose first bytes are already out."""
        self._rest = b""
        self._data = bytearray()
        self._any = False
        self._skipped: bytes | None = None

    def read(self, file: ByteReader) -> Iterator[Item]:
        """Everything in the file, then the check that a text with words has bytes."""
        block = file.read(len(_BOM))
        if block.startswith(_UTF16_BOMS):
            raise CaptureError(self._source, "it is UTF-16 text; save it as UTF-8 or plain ASCII")
        yield from self.feed(block.removeprefix(_BOM))
        while block := file.read1(CHUNK):
            yield from self.feed(block)
        yield from self.feed(b"\n")
        if self._skipped is not None and not self._any:
            message = (
                f"no hex bytes: all words, such as {_show(self._skipped)}, were taken for time stamps; "
                "put blanks between the bytes"
            )
            raise CaptureError(self._source, message)

    def feed(self, block: bytes) -> Iterator[Record]:
        """Take a block of text and give the bytes of its complete words."""
        text = self._rest + block
        cut = _LAST_SEPARATOR.search(text)
        done, self._rest = (text[: cut.end()], text[cut.end() :]) if cut else (b"", text)
        for index, line in enumerate(done.split(b"\n")):
            if index:
                yield from self._flush()
                self._line += 1
                self._leading, self._inside = True, False
            if line:
                self._words(line)
        if len(self._rest) > _LONGEST_SKIPPED:
            self._long_word()
        if len(self._data) >= CHUNK:
            yield from self._flush()

    def _flush(self) -> Iterator[Record]:
        if self._data:
            yield Record(None, None, bytes(self._data))
            self._data.clear()

    def _words(self, line: bytes) -> None:
        """Take the bytes of a line or of a part of one."""
        if self._inside and line[0] in _SEPARATORS:
            self._inside = False
        tried = False
        for match in _WORD.finditer(line):
            word = match[0]
            found = self._word(word)
            if found is not None:
                self._data += found
                self._leading, self._any = False, True
                # Nearly always the rest is plain bytes: looked at once, after the first word.
                if not tried and (rest := _plain(line[match.end() :])) is not None:
                    self._data += rest
                    break
                tried = True
            elif self._leading and _is_skipped(word):
                self._skipped = self._skipped or word
            else:
                self._refuse(word)

    def _word(self, word: bytes) -> bytes | None:
        if not self._inside:
            return word_bytes(word)
        self._inside = False
        return bytes.fromhex(word.decode()) if _DIGITS.match(word) and not len(word) % 2 else None

    def _long_word(self) -> None:
        """Take the bytes of an unfinished word that is too long to wait for its end."""
        word = self._rest if self._inside or self._rest[:2].lower() != b"0x" else self._rest[2:]
        if not _DIGITS.match(word):
            self._refuse(self._rest)
        even = len(word) & ~1
        self._rest, self._inside, self._leading, self._any = word[even:], True, False, True
        self._data += bytes.fromhex(word[:even].decode())

    def _refuse(self, word: bytes) -> NoReturn:
        if _DIGITS.match(word):
            reason = "has an odd number of hex digits; a byte is two"
        elif _is_skipped(word):
            reason = "stands behind the first byte of its line; only bytes may"
        else:
            reason = "is not a hex byte"
        raise CaptureError(self._source, f"{_show(word)} {reason}", where=f"line {self._line}")


def _plain(text: bytes) -> bytes | None:
    """Bytes of words without ``0x``, much faster than one by one; None where anything else is among them."""
    try:
        return bytes.fromhex(text.replace(b",", b" ").decode("ascii"))
    except ValueError:
        return None


def _is_skipped(word: bytes) -> bool:
    """A time stamp, a date or the name of a direction, as it may stand before the bytes of a line."""
    if word.upper() in {b"TX", b"RX"} or _DATE.match(word):
        return True
    if _MARKS.isdisjoint(word) or len(word) > _LONGEST_SKIPPED:
        return False
    try:
        # Raw bytes are no text, even with a full stop among them: no UTF-8 has the FF that frames begin with.
        return not _CONTROL.search(word.decode())
    except UnicodeDecodeError:
        return False


def _show(word: bytes) -> str:
    text = word[:40].decode("utf-8", "backslashreplace")
    return repr(text if len(word) <= 40 else f"{text}…")


class HexTextWriter:
    """Writes hex text: one line per record, before its bytes the time and the direction in brackets.

    People can read those, programs skip them. So reading back gives the bytes of all records as one stream.
    """

    def __init__(self, file: ByteWriter, _source: str, meta: Meta | None = None) -> None:
        self._file = file
        self.losses: Losses = Losses()
        if meta is not None:
            self.losses["meta lines"] += 1

    def write(self, item: Item, /) -> None:
        """Append the line of one record."""
        if isinstance(item, Other):
            self.losses[item.kind] += 1
            return
        label = ""
        if item.t is not None:
            label = f"[{item.t:.6f}] "
            self.losses["times (there as text, for people)"] += 1
        if item.direction is not None:
            label += f"[{item.direction}] "
            self.losses["directions (there as text, for people)"] += 1
        self.losses["other members"] += len(item.extra)
        for start in range(0, len(item.data), _WRAP):
            line = f"{label}{item.data[start : start + _WRAP].hex(' ')}\n"
            self._file.write(line.encode())
