"""The doctor with boards that have two faults, or one that shows in some of their frames (serial.md §1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support_doctor import Says, Sick, codes, escaped, examine, made, named, xor

from gizserial.cli.doctor import search_rates
from gizserial.commands import Command, Role
from gizserial.diagnosis import orders
from gizserial.diagnosis.examination import Exchange, Plan
from gizserial.diagnosis.plans import ask
from gizserial.diagnosis.verdict import Diagnosis, diagnose
from gizserial.framing import Frame
from gizserial.io.driver import Machine
from gizserial.mcu import McuRole
from gizserial.mcu_options import McuOptions
from gizserial.p0 import P0Codec

PET, GREENHOUSE, BLOB = named("pet-house"), named("greenhouse"), named("quarter-kilobyte")


def unescaped(frame: Frame) -> bytes:
    """No FF is escaped."""
    return frame.encode(escape=False)


@pytest.mark.parametrize(
    ("sends", "code"),
    [
        (made(lambda summed: sum(summed) * 2), "checksum-unknown"),
        (made(lambda summed: summed[2] + summed[3]), "checksum-unknown"),
        (made(lambda summed: sum(summed) + 0xFF), "checksum-minus-one"),
        (made(length=lambda size: size + 3), "length-unknown"),
        (made(length=lambda _size: 0), "length-unknown"),
    ],
)
def test_a_rule_that_no_table_has_is_not_taken_for_a_wrong_rate(
    sends: Callable[[Frame], bytes], code: str
) -> None:
    assert codes(examine(Sick(McuRole(PET), sends=sends))) == [code]


def test_an_escape_that_is_missing_in_the_payload_is_seen_in_the_status() -> None:
    def sends(frame: Frame) -> bytes:
        wire = frame.encode()
        return wire[:8] + wire[8:-2].replace(b"\xff\x55", b"\xff") + wire[-2:] if len(wire) > 20 else wire

    mcu = McuRole(BLOB)
    name = next(point.name for point in BLOB.points if point.size > 4)
    mcu.set_raw(name, b"\x01\xff\x02" + bytes(BLOB.point(name).size - 3), now=0.0)
    assert examine(Sick(mcu, sends=sends)).sentence == "The escape 55 after FF is missing in: payload."


def test_a_control_brings_an_ff_into_the_payload() -> None:
    """No value of the start has one."""
    diagnosis = examine(Sick(McuRole(GREENHOUSE), sends=unescaped), product=GREENHOUSE)
    assert "payload" in diagnosis.sentence


def test_an_echo_together_with_a_report_is_taken_out_whole() -> None:
    """The ack of the report begins as the answer does; only the report's own echo may be taken out."""
    exchanges = []
    for sn in (0x31, 0x6B, 0xF3):
        probe = ask(Command.HEARTBEAT, sn)
        answer = Frame(Command.HEARTBEAT + 1, sn).encode()
        report, ack = Frame(Command.P0_FROM_MCU, sn, b"\x04\x00").encode(), Frame(0x06, sn).encode()
        heard = (probe.wire + answer + report + ack,)
        exchanges.append(Exchange(probe, heard[0], (probe.wire, ack), bursts=heard))
    diagnosis = diagnose(exchanges, Role.MODULE)
    assert codes(diagnosis) == ["echo"]
    assert diagnosis.answered == 3


@pytest.mark.parametrize("notices", [True, False])
def test_a_receiver_that_keeps_escapes_may_well_read_an_escaped_checksum(notices: bool) -> None:
    """The FF completes the frame, and the 55 behind it is noise."""

    def hears(wire: bytes) -> bytes:
        if 0xFF not in wire[2:-2]:
            return wire
        damaged = Frame(wire[4], wire[5]).encode(escape=False)[:-1]
        return damaged + b"\x00" if notices else b""

    diagnosis = examine(Sick(McuRole(PET), hears=hears))
    assert codes(diagnosis) == ["unescape-missing"]


def test_a_peer_that_takes_and_makes_wrong_frames_is_one_finding() -> None:
    def hears(data: bytes) -> bytes:
        logical = data[2:].replace(b"\xff\x55", b"\xff")
        return escaped(logical[:-1] + bytes((sum(logical[:-1]) & 0xFF,))) * (xor(logical[:-1]) == logical[-1])

    diagnosis = examine(Sick(McuRole(PET), sends=made(xor), hears=hears))
    assert codes(diagnosis) == ["expects-checksum-xor"]
    assert diagnosis.sentence.startswith("The MCU takes and makes frames wrongly: the checksum is an XOR")


def test_a_peer_that_reports_but_wants_wrong_frames_is_not_called_deaf() -> None:
    def hears(data: bytes) -> bytes:
        logical = data[2:].replace(b"\xff\x55", b"\xff")
        right = logical[:-1] + bytes((sum(logical[:-1]) & 0xFF,))
        return escaped(right) * (sum(logical[:-1]) + 0x1FE & 0xFF == logical[-1])

    mcu = McuRole(PET)
    mcu.set_raw("Infrared", 1, now=0.0)
    diagnosis = examine(Sick(mcu, hears=hears))
    assert codes(diagnosis) == ["expects-checksum-with-header"]


def test_a_wrong_frame_does_not_hide_the_byte_order() -> None:
    """The status is read as the MCU makes it."""

    codec = P0Codec(GREENHOUSE)

    def sends(frame: Frame) -> bytes:
        payload = frame.payload
        if payload[:1] in {b"\x03", b"\x04"}:
            payload = orders.reordered(payload, codec, frozenset({orders.NUMBERS}), received=False)
        return made(xor)(Frame(frame.command, frame.sn, payload))

    diagnosis = examine(Sick(McuRole(GREENHOUSE), sends=sends), product=GREENHOUSE)
    assert codes(diagnosis) == ["checksum-xor", "byte-order"]


@pytest.mark.parametrize("delay", [300, 600])
def test_answers_that_come_too_late_are_said_to_be_late(delay: int) -> None:
    """A module waits 200 ms (§1.8)."""
    mcu = McuRole(PET, McuOptions(answers_late_ms=delay))
    diagnosis = examine(mcu)
    assert codes(diagnosis) == ["late"]
    assert diagnosis.sentence == "The MCU answers too late: 7 of 7 answers took more than 200 ms."


def test_what_else_is_wrong_at_another_rate_is_looked_for_there() -> None:
    async def on(rate: int, plan: Plan[Diagnosis]) -> Diagnosis:
        peers: dict[int, Machine[Any]] = {115200: Sick(McuRole(PET), sends=unescaped)}
        return examine(peers.get(rate, Says(b"", answers=True)), plan=plan)

    diagnosis, rate = asyncio.run(search_rates(on, Role.MODULE, None, 9600, told=lambda _rate: None))
    assert rate == 115200
    assert codes(diagnosis) == ["baud", "escape-missing"]
