"""The decoder of serial.md §1.7, written down byte by byte as its table says it: slow, and easy to check."""

from __future__ import annotations

from gizserial.framing import BadFrame, Frame, Framer, Item, Noise


def spans_by_the_table(
    wire: bytes, *, max_len: int = 4096, lenient: bool = True
) -> list[tuple[str, int, bytes]]:
    """What each stretch of ``wire`` is: ``frame``, ``noise`` or the reason it is bad; offset; bytes."""
    spans: list[tuple[str, int, bytes]] = []
    state = "HUNT"
    buffer = bytearray()
    start = 0  # where the stretch in progress began
    pend = False

    def report(kind: str, end: int) -> None:
        nonlocal start
        if end > start:
            last = spans[-1] if spans else None
            if kind == "noise" and last and last[0] == "noise":
                spans[-1] = ("noise", last[1], last[2] + wire[start:end])
            else:
                spans.append((kind, start, wire[start:end]))
        start = end

    def after_append(end: int) -> bool:
        """Whether the frame ended."""
        nonlocal state
        if len(buffer) >= 2:
            length = int.from_bytes(buffer[:2], "big")
            if not 5 <= length <= max_len:
                report("length", end)
                state = "HUNT"
                return True
            if len(buffer) == 2 + length:
                report("frame" if sum(buffer[:-1]) & 0xFF == buffer[-1] else "checksum", end)
                state = "HUNT"
                return True
        return False

    def bare_checksum() -> bool:
        if not (lenient and pend and len(buffer) >= 2):
            return False
        length = int.from_bytes(buffer[:2], "big")
        return len(buffer) == 1 + length and sum(buffer) & 0xFF == 0xFF

    i = 0
    while i < len(wire):
        b = wire[i]
        if state == "HUNT":
            if b == 0xFF:
                report("noise", i)
                state = "H1"
            i += 1
        elif state == "H1":
            i += 1
            if b == 0xFF:
                state, pend = "BODY", False
                buffer.clear()
            else:
                state = "HUNT"
        elif pend and b != 0x55 and bare_checksum():
            report("frame", i)
            state, pend = "HUNT", False
        elif not pend and b == 0xFF:
            pend = True
            i += 1
        elif not pend:
            buffer.append(b)
            i += 1
            after_append(i)
        elif b == 0x55:
            pend = False
            buffer.append(0xFF)
            i += 1
            after_append(i)
        elif b == 0xFF:
            report("truncated" if buffer else "noise", i - 1)
            buffer.clear()
            pend = False
            i += 1
        elif not buffer:
            report("noise", i - 2)
            pend = False
            buffer.append(b)
            i += 1
        elif not lenient:
            i += 1
            report("escape", i)
            state, pend = "HUNT", False
        else:
            pend = False
            buffer.append(0xFF)
            if not after_append(i):
                buffer.append(b)
                i += 1
                after_append(i)
    if state == "BODY" and bare_checksum():
        report("frame", len(wire))
    elif state == "BODY" and buffer:
        report("truncated", len(wire))
    else:
        report("noise", len(wire))
    return spans


def kind_of(item: Item) -> str:
    if isinstance(item, Frame):
        return "frame"
    return item.reason if isinstance(item, BadFrame) else "noise"


def decode_all(wire: bytes, *, chunks: list[int] | None = None, **options: bool | int) -> list[Item]:
    """Feed ``wire`` in chunks of the given sizes (then the rest at once) and flush."""
    framer = Framer(hold_noise=True, **options)  # type: ignore[arg-type]  # options by name, from one test table
    items: list[Item] = []
    pos = 0
    for size in chunks or []:
        items += framer.feed(wire[pos : pos + size])
        pos += size
    items += framer.feed(wire[pos:])
    return items + framer.flush()


def spans_of(items: list[Item]) -> list[tuple[str, int, bytes]]:
    """The items as :func:`spans_by_the_table` gives them, portions of noise joined."""
    spans: list[tuple[str, int, bytes]] = []
    for item in items:
        if isinstance(item, Noise) and spans and spans[-1][0] == "noise":
            spans[-1] = ("noise", spans[-1][1], spans[-1][2] + item.wire)
        else:
            spans.append((kind_of(item), item.offset, item.wire))
    return spans
