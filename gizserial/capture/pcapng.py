"""``.pcapng``: packets of link type USER0 (147), one per chunk, as Wireshark opens them.

Layout by the IETF draft ``draft-ietf-opsawg-pcapng``. A file is a row of blocks::

    type u32 | total length u32 | body, padded to 4 | total length u32 again

    0A0D0D0A  section header: byte order, version; starts afresh with the interfaces
    00000001  interface: link type, longest packet, options if_tsresol (9) and if_tsoffset (14)
    00000006  enhanced packet: interface, time, lengths, bytes, options comment (1) and epb_flags (2)
    00000003  simple packet: bytes only, on the first interface

The direction is in the two lowest bits of ``epb_flags``: 1 inbound (``module>mcu``), 2 outbound
(``mcu>module``). Times are written in microseconds and read in whatever
unit the interface has. A record without time and direction is a simple packet. Comments of packets are the
member ``comment``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from construct import (
    Construct,
    ConstructError,
    Int16ub,
    Int16ul,
    Int32ub,
    Int32ul,
    Int64sb,
    Int64sl,
    Padding,
    Struct,
)

from gizserial.capture.record import (
    MAX_LINE,
    MAX_TIME,
    ByteReader,
    ByteWriter,
    Capture,
    DirectionRule,
    Item,
    Losses,
    Meta,
    Other,
    Record,
)
from gizserial.commands import Direction
from gizserial.errors import CaptureError

LINK_TYPE: Final = 147
"""USER0, kept free for private use: https://www.tcpdump.org/linktypes.html."""

MAX_PACKET: Final = 262144
"""Longest packet that Wireshark takes, in bytes. Longer chunks become several packets."""

_SECTION: Final = 0x0A0D0D0A
_INTERFACE: Final = 1
_OBSOLETE_PACKET: Final = 2
_SIMPLE_PACKET: Final = 3
_ENHANCED_PACKET: Final = 6

_PACKET_HEAD: Final = 20

_OPTION_END: Final = 0
_OPTION_COMMENT: Final = 1
_EPB_FLAGS: Final = 2
_SHB_USERAPPL: Final = 4
_IF_NAME: Final = 2
_IF_TSRESOL: Final = 9
_IF_TSOFFSET: Final = 14

_MAX_INTERFACES: Final = 4096

_MAGIC: Final = 0x1A2B3C4D
_CLASSIC: Final = frozenset(
    bytes.fromhex(magic) for magic in ("a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1")
)

_OF_FLAG: Final[dict[int, Direction]] = {1: "module>mcu", 2: "mcu>module"}
_FLAG_OF: Final = {direction: flag for flag, direction in _OF_FLAG.items()}


class _Order:
    """The blocks' schemas in one byte order.

    Those of every packet are compiled, which makes them fast but blind to a short input: lengths come first.
    """

    def __init__(self, u16: Construct, u32: Construct, s64: Construct) -> None:
        self.u32, self.s64 = u32, s64
        self.block: Construct = Struct("type" / u32, "length" / u32).compile()
        self.section: Construct = Struct("magic" / u32, "major" / u16, "minor" / u16, "length" / s64)
        self.interface: Construct = Struct("link_type" / u16, Padding(2), "snaplen" / u32)
        self.packet: Construct = Struct(
            "interface" / u32, "high" / u32, "low" / u32, "captured" / u32, "original" / u32
        ).compile()
        self.option: Construct = Struct("code" / u16, "length" / u16).compile()


_LITTLE: Final = _Order(Int16ul, Int32ul, Int64sl)
_BIG: Final = _Order(Int16ub, Int32ub, Int64sb)


@dataclasses.dataclass(frozen=True, slots=True)
class _Interface:
    link_type: int
    snaplen: int
    units: int = 10**6
    """Units of time in a second."""
    start: int = 0
    """Seconds added to every time."""


def read(file: ByteReader, source: str) -> Capture:
    """Start reading.

    :raises CaptureError: While the items are taken, with the offset of the block.
    """
    return Capture(source, None, _Reader(file, source).items())


class _Reader:
    """Walks through the blocks of one file, one at a time in memory."""

    def __init__(self, file: ByteReader, source: str) -> None:
        self._file, self._source = file, source
        self._rule = DirectionRule(source)
        self._order = _LITTLE
        self._interfaces: list[_Interface] = []
        self._offset = 0
        """Where the block that is being read begins."""
        self._foreign: int | None = None
        """Link type of packets that are not ours."""
        self._any = False

    def items(self) -> Iterator[Item]:
        """Everything in the file, then the check that it has packets of ours if it has packets."""
        self._first_block()
        while (block := self._next_block()) is not None:
            kind, body = block
            try:
                item = self._item(kind, body)
            except ConstructError as error:
                self._refuse("the block is too short for what it holds", error)
            if item is not None:
                yield item
            self._offset += len(body) + 12
        if self._foreign is not None and not self._any:
            message = f"no packets of link type USER0 ({LINK_TYPE}), only of link type {self._foreign}"
            raise CaptureError(self._source, message)

    def _refuse(self, message: str, cause: Exception | None = None) -> NoReturn:
        raise CaptureError(self._source, message, where=f"byte {self._offset}") from cause

    def _first_block(self) -> None:
        self._head = self._file.read(4)
        if self._head in _CLASSIC:
            self._refuse("this is a pcap file, not pcapng; save it as pcapng (editcap -F pcapng IN OUT)")
        if self._head != _SECTION.to_bytes(4, "big"):
            self._refuse("this is not a pcapng file; one begins with 0A 0D 0D 0A")

    def _next_block(self) -> tuple[int, bytes] | None:
        """Type and body of the next block; None at the end of the file."""
        head = self._head + self._file.read(8 - len(self._head))
        self._head = b""
        if not head:
            return None
        self._whole(head, 8)
        magic = b""
        if head[:4] == _SECTION.to_bytes(4, "big"):
            magic = self._file.read(4)
            self._whole(magic, 4)
            self._order = _LITTLE if magic == _MAGIC.to_bytes(4, "little") else _BIG
            if self._order is _BIG and magic != _MAGIC.to_bytes(4, "big"):
                self._refuse(f"the section header has the unknown byte order mark {magic.hex()}")
        block = self._order.block.parse(head)
        length: int = block.length
        if length < 12 + len(magic) or length % 4:
            self._refuse(f"the block says that it has {length} bytes, which no block can have")
        if length > MAX_LINE:
            self._refuse(f"the block says that it has {length} bytes, allowed are {MAX_LINE}")
        size = length - 12 - len(magic)
        rest = self._file.read(size + 4)
        self._whole(rest, size + 4)
        if self._order.u32.parse(rest[size:]) != length:
            self._refuse("the two lengths of the block differ")
        return int(block.type), magic + rest[:size]

    def _whole(self, data: bytes, size: int) -> None:
        if len(data) < size:
            self._refuse("the file ends within this block")

    def _item(self, kind: int, body: bytes) -> Item | None:
        if kind == _ENHANCED_PACKET:
            return self._enhanced(body)
        if kind == _SIMPLE_PACKET:
            return self._simple(body)
        if kind == _INTERFACE:
            self._interfaces.append(self._interface(body))
            return None
        if kind == _SECTION:
            section = self._order.section.parse(body)
            if section.major != 1:
                self._refuse(f"this is pcapng version {section.major}.{section.minor}; 1.0 is known here")
            self._interfaces.clear()
            return None
        if kind == _OBSOLETE_PACKET:
            self._refuse("the file has packet blocks of an old form; save it again with Wireshark")
        return Other(f"byte {self._offset}")

    def _interface(self, body: bytes) -> _Interface:
        if len(self._interfaces) == _MAX_INTERFACES:
            self._refuse(f"the file has more than {_MAX_INTERFACES} interfaces")
        fixed = self._order.interface.parse(body)
        units, start = 10**6, 0
        for code, value in self._options(body[8:]):
            if code == _IF_TSRESOL and value:
                units = 2 ** (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
            elif code == _IF_TSOFFSET and len(value) == 8:
                start = self._order.s64.parse(value)
        return _Interface(fixed.link_type, fixed.snaplen, units, start)

    def _enhanced(self, body: bytes) -> Item:
        if len(body) < _PACKET_HEAD:
            self._refuse("the block is too short for a packet")
        packet: Any = self._order.packet.parse(body[:_PACKET_HEAD])
        interface = self._interface_of(packet.interface)
        end = _PACKET_HEAD + packet.captured
        if end > len(body):
            self._refuse(f"the packet says that it has {packet.captured} bytes, more than its block")
        if interface.link_type != LINK_TYPE:
            return self._skip(interface)
        if packet.captured < packet.original:
            self._refuse(f"the packet is cut off: {packet.captured} of {packet.original} bytes were captured")
        direction: Direction | None = None
        comments: list[str] = []
        for code, value in self._options(body[end + -end % 4 :]):
            if code == _EPB_FLAGS and len(value) == 4:
                direction = _OF_FLAG.get(self._order.u32.parse(value) & 3)
            elif code == _OPTION_COMMENT:
                comments.append(value.decode(errors="replace"))
        ticks = (packet.high << 32 | packet.low) + interface.start * interface.units
        if not 0 <= ticks <= MAX_TIME * interface.units:
            self._refuse(f"the time of the packet is not within 0 to {MAX_TIME:.0f} s")
        extra = {"comment": "\n".join(comments)} if comments else {}
        return self._record(Record(ticks / interface.units, direction, body[_PACKET_HEAD:end], extra))

    def _simple(self, body: bytes) -> Item:
        original: int = self._order.u32.parse(body)
        interface = self._interface_of(0)
        size = min(original, interface.snaplen or original)
        if 4 + size > len(body):
            self._refuse(f"the packet says that it has {size} bytes, more than its block")
        if interface.link_type != LINK_TYPE:
            return self._skip(interface)
        if size < original:
            self._refuse(f"the packet is cut off: {size} of {original} bytes were captured")
        return self._record(Record(None, None, body[4 : 4 + size]))

    def _record(self, record: Record) -> Record:
        self._rule.check(record.direction, f"byte {self._offset}")
        self._any = True
        return record

    def _skip(self, interface: _Interface) -> Other:
        self._foreign = interface.link_type
        return Other(f"byte {self._offset}")

    def _interface_of(self, number: int) -> _Interface:
        if number >= len(self._interfaces):
            self._refuse(f"the packet is of interface {number}, which was not described")
        return self._interfaces[number]

    def _options(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        position = 0
        while position < len(data):
            head = data[position : position + 4]
            option: Any = self._order.option.parse(head) if len(head) == 4 else None
            if option is None or position + 4 + option.length > len(data):
                self._refuse("an option of the block is longer than the block")
            if option.code == _OPTION_END:
                return
            yield option.code, data[position + 4 : position + 4 + option.length]
            position += 4 + option.length + -option.length % 4


class PcapngWriter:
    """Writes ``.pcapng`` in little endian, with one interface."""

    def __init__(self, file: ByteWriter, _source: str, meta: Meta | None = None) -> None:
        self._file = file
        self.losses: Losses = Losses()
        if meta is not None:
            self.losses["meta lines"] += 1
        section: bytes = _LITTLE.section.build({"magic": _MAGIC, "major": 1, "minor": 0, "length": -1})
        self._block(_SECTION, section + _options((_SHB_USERAPPL, b"gizserial")))
        interface: bytes = _LITTLE.interface.build({"link_type": LINK_TYPE, "snaplen": MAX_PACKET})
        self._block(_INTERFACE, interface + _options((_IF_NAME, b"serial"), (_IF_TSRESOL, b"\x06")))

    def write(self, item: Item, /) -> None:
        """Append one packet, or several for a chunk longer than :data:`MAX_PACKET`."""
        if isinstance(item, Other):
            self.losses[item.kind] += 1
            return
        options = self._packet_options(item)
        time = self._time(item)
        for start in range(0, len(item.data) or 1, MAX_PACKET):
            data = item.data[start : start + MAX_PACKET]
            padded = data + bytes(-len(data) % 4)
            if time is None and not options:
                self._block(_SIMPLE_PACKET, len(data).to_bytes(4, "little") + padded)
                continue
            high, low = divmod(time or 0, 2**32)
            size = len(data)
            fixed: bytes = _LITTLE.packet.build(
                {"interface": 0, "high": high, "low": low, "captured": size, "original": size}
            )
            self._block(_ENHANCED_PACKET, fixed + padded + options)

    def _time(self, record: Record) -> int | None:
        """Microseconds, rounded."""
        if record.t is None:
            if record.direction is not None:
                self.losses["unknown times (written as 0)"] += 1
            return None
        # In whole numbers: a product of floats would be off by one for large times.
        above, below = record.t.as_integer_ratio()
        time = (above * 2 * 10**6 + below) // (2 * below)
        if time / 10**6 != record.t:
            self.losses["fractions of a microsecond"] += 1
        return time

    def _packet_options(self, record: Record) -> bytes:
        enhanced = record.t is not None or record.direction is not None
        options: list[tuple[int, bytes]] = []
        for name, value in record.extra.items():
            comment = _comment(value) if name == "comment" and enhanced else None
            if comment is None:
                self.losses["other members"] += 1
            else:
                options.append((_OPTION_COMMENT, comment))
        if record.direction is not None:
            options.append((_EPB_FLAGS, _FLAG_OF[record.direction].to_bytes(4, "little")))
        return _options(*options) if options else b""

    def _block(self, kind: int, body: bytes) -> None:
        length = len(body) + 12
        head: bytes = _LITTLE.block.build({"type": kind, "length": length})
        self._file.write(head + body + head[4:])


def _comment(value: object) -> bytes | None:
    """A comment as an option can hold it: text of at most 65535 bytes."""
    if not isinstance(value, str):
        return None
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        return None
    return raw if len(raw) < 2**16 else None


def _options(*options: tuple[int, bytes]) -> bytes:
    """Options and their end mark."""
    built = bytearray()
    for code, value in options:
        head: bytes = _LITTLE.option.build({"code": code, "length": len(value)})
        built += head + value + bytes(-len(value) % 4)
    return bytes(built) + bytes(4)
