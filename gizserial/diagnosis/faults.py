"""Every fault that can be named: its sentence, its evidence, and what to do about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from gizserial.codec import Codec
from gizserial.commands import Role
from gizserial.describe import describe, headline
from gizserial.diagnosis import orders, signals
from gizserial.diagnosis.dialects import Dialect, Explanation
from gizserial.framing import HEADER, Frame, Item
from gizserial.p0 import P0Codec

_QUOTED: Final = 32
_BIG_ENDIAN: Final = (
    "Numbers, bit sections and attr_flags are big-endian: point 0 is the lowest bit of the last byte "
    "(serial protocol, §5.4 and §5.5)."
)


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong."""

    code: str
    """For scripts, as in ``checksum-with-header``."""
    sentence: str
    evidence: tuple[str, ...]
    remedy: str


def peer_of(role: Role) -> str:
    """What we call the other end."""
    return "MCU" if role is Role.MODULE else "module"


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def quote(data: bytes) -> str:
    """The first bytes, in hex."""
    more = f" … ({len(data)} bytes)" if len(data) > _QUOTED else ""
    return data[:_QUOTED].hex(" ").upper() + more


def _decoded(item: Item) -> str:
    return f"{quote(item.wire)} = {headline(describe(item, Codec(None)))}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# --- the line


def silent(questions: Sequence[bytes]) -> Fault:
    """Not one byte came."""
    sent = f"{count(len(questions), 'question')} sent, " if questions else ""
    return Fault(
        "silent",
        f"Nothing came: {sent}no byte received.",
        (f"sent {quote(questions[0])}, nothing came",) if questions else (),
        "Silence alone does not tell a board without power from swapped TX and RX or a wrong rate. Take the "
        "board off and bridge TX and RX of the adapter: if doctor then reports an echo, adapter and port are "
        "sound. Then check the board's power and ground, that TX goes to RX and RX to TX, and the rate.",
    )


def silent_everywhere(fault: Fault, rates: Sequence[int]) -> Fault:
    """The same after other rates were tried."""
    tried = ", ".join(map(str, rates))
    what = fault.sentence.removesuffix(".")
    return dataclasses.replace(
        fault,
        sentence=f"{what}, at none of the rates {tried}."
        if fault.code == "silent"
        else f"{what}, and it is none of {tried}.",
        evidence=(*fault.evidence, f"rates tried: {tried}"),
    )


def other_rate(baud: int, rate: int, seen: str) -> Fault:
    """Frames come at another rate."""
    return Fault(
        "baud",
        f"The line runs at {rate} baud, not at {baud}.",
        (f"no frame at {baud} baud; at {rate} baud: {seen}",),
        f"Use --baud {rate}, or set the peer to {baud} baud.",
    )


def echo(wire: bytes, *, answered: bool) -> Fault:
    """What we send comes back."""
    evidence = (f"sent {quote(wire)}, the same bytes came back",)
    if answered:
        return Fault(
            "echo",
            "Our own bytes come back before the answer: the adapter echoes what it sends.",
            evidence,
            "Switch the local echo of the RS-485 adapter off (RE is tied to DE), or look for a bridge "
            "between TX and RX.",
        )
    return Fault(
        "echo",
        "Our own bytes come back and nothing else: TX is connected to RX.",
        evidence,
        "Look for a bridge between TX and RX on the adapter, the cable or the board. An RS-485 adapter with "
        "local echo and a silent peer looks the same: switch its echo off, check the peer's power.",
    )


def text(data: bytes, *, framed: bool) -> Fault:
    """Text for people is on the line."""
    shown = " ".join(data.decode("ascii", "replace").replace("\N{REPLACEMENT CHARACTER}", ".").split())
    shown = "".join(c if c.isprintable() else "." for c in shown)[:80]
    log = signals.which_log(data)
    if framed:
        return Fault(
            "text-between",
            f"{_capital(log)} stands between the frames: something prints to the protocol's line.",
            (f"'{shown}'",),
            "Send debug output to another UART: it is noise to the peer and can look like a header.",
        )
    return Fault(
        "text",
        f"The line carries {log} instead of frames: this is a debug port.",
        (f"'{shown}'",),
        "Connect to the UART that carries the protocol. Debug ports of modules run at 115200 or 74880 baud, "
        "the protocol at 9600.",
    )


def hex_text(data: bytes, frames: Sequence[Frame]) -> Fault:
    """Hex digits instead of bytes."""
    return Fault(
        "hex-text",
        "The frames come as hex text instead of bytes.",
        (f"'{data[:60].decode('ascii', 'replace')}' = {headline(describe(frames[0], Codec(None)))}",),
        "Send the bytes themselves: look for a printf of hex in the firmware, or a serial assistant in hex "
        "display mode. A module in DTU mode passes text through and does not speak the protocol.",
    )


def damaged(items: Sequence[Item], good: int) -> Fault:
    """Some frames are bad, and nothing explains them."""
    return Fault(
        "damaged",
        f"Some bytes arrive damaged: {count(good, 'frame')} came well, {len(items)} did not, "
        "and no fault of firmware that is known here explains them.".replace("stretchs", "stretches"),
        tuple(_decoded(item) for item in items[:2]),
        "Look for a missing ground, long wires, a rate that is off by 2% or more (a clock from an RC "
        "oscillator), two senders on one line, or a buffer that overflows.",
    )


def no_frame(data: bytes, bursts: Sequence[bytes]) -> Fault:
    """Bytes came, and nothing reads them."""
    guess = signals.parity(data)
    if guess:
        return Fault(
            "parity",
            f"The sender seems to use {guess} instead of 8N1.",
            (f"{quote(data)}: every byte fits {guess}",),
            "Set the UART to 8 data bits, no parity, 1 stop bit (§1.1).",
        )
    candidates = [Frame(command, sn).encode() for command in (1, 7, 8) for sn in range(256)]
    turned = signals.looks_inverted(bursts, candidates)
    if turned:
        return Fault(
            "inverted",
            "The signal is inverted: it idles low.",
            (f"{quote(data)} is what {quote(turned)} looks like on an inverted line",),
            "A UART idles high (3.3 V). Take the inverting transistor or RS-232 driver out of the line, or "
            "switch the inversion of the UART off.",
        )
    detail = "" if HEADER in data else ", not even the header FF FF"
    return Fault(
        "garbage",
        f"Bytes come, but no frame is in them{detail}: most likely the rate is wrong.",
        (quote(data),),
        "The peer has power and its TX is connected, for bytes do come. Check the baud rate of both ends, "
        "then parity, ground and level of the signal.",
    )


# --- frames that are made wrongly


def explained(explanations: Sequence[Explanation]) -> list[Fault]:
    """What the dialects say that read everything."""
    best = explanations[0]
    if not best.dialect.deviations:
        return []
    if len(explanations) > 1:
        ways = [" and ".join(words for _code, words in e.faults) for e in explanations[:4]]
        codes = sorted({code for e in explanations for code, _words in e.faults})
        return [
            Fault(
                "frames-ambiguous",
                f"The frames are made wrongly, and the bytes do not decide how: either {', or '.join(ways)}.",
                (quote(best.readings[0].wire), f"candidates: {', '.join(codes)}"),
                "Compare the frame above with §1 of the protocol; frames with other content would decide.",
            )
        ]
    return [
        Fault(code, f"{_capital(words)}.", _proof(best, code), remedy_of(code)) for code, words in best.faults
    ]


def _proof(explanation: Explanation, code: str) -> tuple[str, ...]:
    readings = explanation.readings
    all_of_them = f"all {count(len(readings), 'frame')} that came read that way"
    if code == "escape-missing":
        shown = next(reading for reading in readings if reading.bare)
        places = " and the ".join(sorted(shown.bare))
        proof = f"{quote(shown.wire)}: the FF in the {places} has no 55 behind it"
    else:
        changed = [reading for reading in readings if reading.wire != reading.frame.encode()]
        shown = min(changed or readings, key=lambda reading: len(reading.wire))
        proof = f"{quote(shown.wire)}, right is {quote(shown.frame.encode())}"
    return proof, f"read as {headline(describe(shown.frame, Codec(None)))}", all_of_them


def remedy_of(code: str) -> str:
    """What the rule is that a code names."""
    if code == "escape-missing":
        return (
            "After the two header bytes send 55 behind every FF: in length, sn, flags, payload and checksum, "
            "after the checksum was computed (§1.6)."
        )
    if code.startswith("length"):
        return "The length is two bytes, high byte first: the payload plus 5, without escapes (§1.2)."
    return (
        "The checksum is the sum of all bytes from the length to the end of the payload, modulo 256; header "
        "and escapes do not count (§1.3)."
    )


def of_dialect(dialect: Dialect, role: Role, frame: Frame, *, speaks: bool) -> list[Fault]:
    """The peer answers only to frames that are made wrongly.

    :param frame: What it answered in that dialect and not in the right one.
    :param speaks: Its own frames are made in the same way.
    """
    how = "takes and makes frames wrongly" if speaks else "answers only frames that are made wrongly"
    return [
        Fault(
            f"expects-{code}",
            f"The {peer_of(role)} {how}: {words}.",
            (f"answered: {quote(dialect.encode(frame))}, not answered: {quote(frame.encode())}",),
            remedy_of(code),
        )
        for code, words in dialect.faults(everywhere=True)
    ]


# --- good frames that say something else


def swapped_roles(frames: Sequence[Frame], role: Role) -> Fault:
    """The other end plays our part."""
    sender = "a module" if role is Role.MODULE else "an MCU"
    other = role.peer.value
    return Fault(
        "swapped-roles",
        f"The other end is {sender}: it sends what only {sender} sends.",
        tuple(_decoded(frame) for frame in frames[:2]),
        f"Play the other part with --as {other}, or connect this line to the other board.",
    )


def wrong_sn(role: Role, sent: bytes, answer: Frame) -> Fault:
    """Acks do not repeat our numbers."""
    return Fault(
        "wrong-sn",
        f"The {peer_of(role)} answers with a sequence number of its own instead of repeating ours.",
        (f"sent {quote(sent)}", _decoded(answer)),
        "An ack repeats the sn of its command (§1.4).",
    )


def wrong_command(role: Role, sent: bytes, answer: Frame) -> Fault:
    """Acks have the id of the command."""
    return Fault(
        "wrong-command",
        f"The {peer_of(role)} answers with the id of the command instead of the id plus one.",
        (f"sent {quote(sent)}", _decoded(answer)),
        "The ack of a command has its id plus one: 01 is answered with 02 (§2).",
    )


def refuses(role: Role, sent: bytes, notice: Frame) -> Fault:
    """A notice says that our right frame is wrong."""
    return Fault(
        "refuses",
        f"The {peer_of(role)} calls the checksum of our right frames wrong.",
        (f"sent {quote(sent)}", _decoded(notice)),
        remedy_of("checksum"),
    )


def unescape_missing(role: Role, questions: Sequence[bytes]) -> Fault:
    """Only what holds an escape stays unanswered."""
    return Fault(
        "unescape-missing",
        f"The {peer_of(role)} does not take the 55 behind FF out of what it receives: it answers everything "
        "but questions that hold an escape.",
        tuple(f"no answer to {quote(wire)}" for wire in questions[:2]),
        "Drop the 55 behind every FF after the header before the length is counted and the checksum "
        "computed (§1.6).",
    )


def unanswered(role: Role, missing: Sequence[bytes], asked: int, heard: Sequence[Frame]) -> Fault:
    """The peer talks and does not answer, or not always."""
    peer = peer_of(role)
    none = len(missing) == asked
    return Fault(
        "unanswered",
        f"The {peer} talks, but answers none of {count(asked, 'question')}: it does not hear us."
        if none
        else f"The {peer} does not answer {len(missing)} of {count(asked, 'question')}.",
        (f"no answer to {quote(missing[0])}", *(_decoded(frame) for frame in heard[:1])),
        "Its TX reaches us: check the wire from our TX to its RX, and its receiver's rate (8N1)."
        if none
        else "Some answers are there, so the wiring is sound: look for lost bytes or slow answers. "
        "gizsim check tells which rule is broken.",
    )


def late(role: Role, late: Sequence[tuple[bytes, float | None]], asked: int) -> Fault:
    """Most answers take too long."""
    return Fault(
        "late",
        f"The {peer_of(role)} answers too late: {len(late)} of {count(asked, 'answer')} "
        "took more than 200 ms.",
        tuple(
            f"sent {quote(wire)}, the answer came "
            + ("after the next question" if delay is None else f"after {delay * 1000:.0f} ms")
            for wire, delay in late[:2]
        ),
        "An ack is due within 200 ms, then the command comes again (§1.8): look for a main loop that waits, "
        "or interrupts that are switched off.",
    )


def answers_sometimes(role: Role, lost: Sequence[bytes], asked: int) -> Fault:
    """Some questions had to be asked twice."""
    return Fault(
        "answers-sometimes",
        f"The {peer_of(role)} answered {len(lost)} of {count(asked, 'question')} only when asked again.",
        tuple(f"no answer to the first {quote(wire)}" for wire in lost[:2]),
        "It loses frames, or takes longer than 400 ms to answer: look for a full receive buffer, "
        "interrupts that are "
        "switched off, or a main loop that waits. 200 ms are allowed (§1.8).",
    )


def other_product(theirs: str, ours: str) -> Fault:
    """The product key is not the definition's."""
    what = "has its product key in capitals" if theirs.lower() == ours else "says another product key"
    return Fault(
        "other-product",
        f"The MCU {what}{'' if theirs.lower() == ours else ' than the definition'}.",
        (f"MCU: {theirs[:8]}…, definition: {ours[:8]}…",),
        "Use the definition of the product whose key is in the firmware.",
    )


def of_orders(
    judged: Sequence[orders.Order], steps: Sequence[orders.Step], codec: P0Codec, *, restored: bool
) -> list[Fault]:
    """What the byte order of the data says."""
    faults = []
    if orders.RIGHT not in judged and steps:
        words = ", or ".join(order.words for order in judged)
        telling = (step for step in steps if not orders.predicts(step, codec, orders.RIGHT))
        step = next(telling, steps[0])
        seen: tuple[str, ...] = (f"status {quote(step.before)}",)
        if step.control:
            seen += (f"control {quote(step.control)}", f"then status {quote(step.after)}")
        if judged:
            faults.append(Fault("byte-order", f"The MCU {words}.", seen, _BIG_ENDIAN))
        else:
            faults.append(
                Fault(
                    "control-not-followed",
                    "The MCU acks a control, but its status does not follow, and no byte order explains it.",
                    seen,
                    f"It may refuse the value, or read attr_flags wrongly. {_BIG_ENDIAN}",
                )
            )
    if not restored:
        faults.append(
            Fault(
                "not-restored",
                "The values that were changed for the test could not be put back.",
                (),
                "Restart the MCU, or set them by hand.",
            )
        )
    return faults
