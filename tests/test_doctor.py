"""The doctor names what is wrong with a line: every sick peer, in virtual time (serial.md §1)."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support_doctor import PRODUCTS, Echo, Says, Sick, body, codes, escaped, examine, made, named, xor

from gizserial.cli.doctor import search_rates
from gizserial.commands import Role
from gizserial.datapoints import DataPoints
from gizserial.diagnosis.dialects import LENGTHS, SUMS
from gizserial.diagnosis.examination import Examination, Exchange, Plan, Probe
from gizserial.diagnosis.plans import full_plan
from gizserial.diagnosis.signals import inverted
from gizserial.diagnosis.verdict import Diagnosis, diagnose
from gizserial.framing import Frame, Framer
from gizserial.io.driver import Driver, Machine
from gizserial.io.memory import MemoryLink
from gizserial.io.pty import PtyPort
from gizserial.io.simulation import Simulation
from gizserial.layout import Layout
from gizserial.mcu import McuRole
from gizserial.mcu_options import McuOptions
from gizserial.module import ModuleRole
from gizserial.product import Product
from sim.mcu_defects import chosen, options_with
from sim.mcu_defects.machine import DefectiveMcu

ROOT = Path(__file__).resolve().parent.parent
PET = named("pet-house")


def plain(product: Product = PET) -> McuRole:
    return McuRole(product)


@pytest.mark.parametrize(
    "name", ["pet-house", "var-len", "heater", "ci-lamp", "wide-bits", "quarter-kilobyte"]
)
@pytest.mark.parametrize("controlled", [False, True])
def test_a_sound_mcu_has_no_finding_and_keeps_its_values(name: str, controlled: bool) -> None:
    product = named(name)
    mcu = plain(product)
    before = dict(mcu.raw)
    diagnosis = examine(mcu, product=product if controlled else None)
    assert codes(diagnosis) == []
    assert diagnosis.sentence.startswith("The line is sound: the MCU answered 7 of 7 questions")
    assert dict(mcu.raw) == before


def test_a_sound_module_has_no_finding() -> None:
    assert codes(examine(ModuleRole(), role=Role.MCU)) == []


# --- frames that are made wrongly


def crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07 if crc & 0x80 else crc << 1) & 0xFF
    return crc


@pytest.mark.parametrize(
    ("code", "total"),
    [
        ("with-header", lambda data: sum(b"\xff\xff" + data)),
        ("without-length", lambda data: sum(data[2:])),
        ("command-only", lambda data: data[2]),
        ("payload-only", lambda data: sum(data[6:])),
        ("with-escapes", lambda data: sum(data.replace(b"\xff", b"\xff\x55"))),
        ("xor", xor),
        ("negative", lambda data: -sum(data)),
        ("inverted", lambda data: sum(data) ^ 0xFF),
        ("crc8", crc8),
        ("plus-one", lambda data: sum(data) + 1),
        ("zero", lambda _data: 0),
    ],
)
def test_a_wrong_checksum_is_named(code: str, total: Callable[[bytes], int]) -> None:
    diagnosis = examine(Sick(plain(), sends=made(total)))
    assert codes(diagnosis) == [f"checksum-{code}"]
    assert diagnosis.sentence.startswith("The checksum ")
    assert "right is FF FF 00" in diagnosis.faults[0].evidence[0]


def lengthened(make: Callable[[Frame], bytes]) -> Callable[[Frame], bytes]:
    def sends(frame: Frame) -> bytes:
        logical = make(frame) + body(frame)
        return escaped(logical + bytes((sum(logical) & 0xFF,)))

    return sends


@pytest.mark.parametrize(
    ("code", "make"),
    [
        ("little-endian", lambda frame: (len(frame.payload) + 5).to_bytes(2, "little")),
        ("one-short", lambda frame: (len(frame.payload) + 4).to_bytes(2, "big")),
        ("one-long", lambda frame: (len(frame.payload) + 6).to_bytes(2, "big")),
        ("with-itself", lambda frame: (len(frame.payload) + 7).to_bytes(2, "big")),
        ("whole-frame", lambda frame: (len(frame.payload) + 9).to_bytes(2, "big")),
        ("payload-only", lambda frame: len(frame.payload).to_bytes(2, "big")),
        ("with-escapes", lambda frame: (len(frame.payload) + 5 + body(frame).count(0xFF)).to_bytes(2, "big")),
    ],
)
def test_a_wrong_length_is_named(code: str, make: Callable[[Frame], bytes]) -> None:
    assert codes(examine(Sick(plain(), sends=lengthened(make)))) == [f"length-{code}"]


def without_escape(*places: str) -> Callable[[Frame], bytes]:
    def sends(frame: Frame) -> bytes:
        logical = (len(frame.payload) + 5).to_bytes(2, "big") + body(frame)
        logical += bytes((sum(logical) & 0xFF,))
        wire = bytearray(b"\xff\xff")
        for index, byte in enumerate(logical):
            place = (
                "length" if index < 2 else "sn" if index == 3 else
                "checksum" if index == len(logical) - 1 else "payload"
            )  # fmt: skip
            wire += b"\xff\x55" if byte == 0xFF and place not in places else bytes((byte,))
        return bytes(wire)

    return sends


def test_a_glitch_before_a_frame_does_not_hide_a_fault() -> None:
    diagnosis = examine(Sick(plain(), sends=lambda frame: b"\x00" + made(xor)(frame)))
    assert codes(diagnosis) == ["checksum-xor"]


def test_a_missing_escape_is_named_with_its_place() -> None:
    diagnosis = examine(Sick(plain(), sends=without_escape("sn")))
    assert codes(diagnosis) == ["escape-missing"]
    assert diagnosis.sentence == "The escape 55 after FF is missing in: sn."
    diagnosis = examine(Sick(plain(), sends=without_escape("checksum")))
    assert diagnosis.sentence == "The escape 55 after FF is missing in: checksum."


def test_an_escape_that_is_missing_everywhere_is_named() -> None:
    diagnosis = examine(Sick(plain(), sends=without_escape("length", "sn", "payload", "checksum")))
    assert diagnosis.sentence == "No FF is escaped (seen in: sn, checksum)."
    assert "FF FF 00 05 08 FF 00 00 0C: the FF in the sn has no 55 behind it" in diagnosis.faults[0].evidence


def test_an_escape_that_is_missing_in_length_and_payload_is_named() -> None:
    product = named("quarter-kilobyte")
    binary = next(point.name for point in product.points if point.size > 1)
    mcu = McuRole(product, values={binary: b"\x01\xff\x02\xff\x55"})
    sick = Sick(mcu, sends=without_escape("length", "payload"))
    mcu.set_raw(binary, bytes(product.point(binary).size - 4) + b"\x07\xff\x08\x09", now=0.0)
    diagnosis = examine(sick, product=product)
    assert diagnosis.faults[0].code == "escape-missing"
    assert "payload" in diagnosis.faults[0].sentence


def test_an_escape_that_is_not_taken_out_is_named() -> None:
    def hears(data: bytes) -> bytes:
        return b"" if 0xFF in data[2:] else data

    diagnosis = examine(Sick(plain(), hears=hears))
    assert codes(diagnosis) == ["unescape-missing"]


def test_two_faults_at_once_are_both_named() -> None:
    def sends(frame: Frame) -> bytes:
        logical = (len(frame.payload) + 5).to_bytes(2, "little") + body(frame)
        return escaped(logical + bytes((xor(logical),)))

    diagnosis = examine(Sick(plain(), sends=sends))
    assert set(codes(diagnosis)) == {"length-little-endian", "checksum-xor"}
    assert "; besides: " in diagnosis.sentence


def test_what_nothing_explains_is_said_to_be_so() -> None:
    random = Random(5)

    def sends(frame: Frame) -> bytes:
        wire = bytearray(frame.encode())
        if random.random() < 0.5:
            wire[random.randrange(2, len(wire))] ^= 0x10
        return bytes(wire)

    diagnosis = examine(Sick(plain(), sends=sends))
    assert "damaged" in codes(diagnosis)


# --- the line


def test_silence_is_not_explained_away() -> None:
    diagnosis = examine(Says(b"", answers=True))
    assert codes(diagnosis) == ["silent"]
    assert diagnosis.sentence.startswith("Nothing came: ")
    assert "does not tell" in diagnosis.faults[0].remedy


def test_a_bridge_between_tx_and_rx_is_an_echo() -> None:
    diagnosis = examine(Echo())
    assert diagnosis.sentence == "Our own bytes come back and nothing else: TX is connected to RX."


def test_an_adapter_that_echoes_is_told_from_a_bridge() -> None:
    diagnosis = examine(Echo(plain()))
    assert codes(diagnosis) == ["echo"]
    assert "before the answer" in diagnosis.sentence


def test_an_echo_and_a_wrong_checksum_are_both_named() -> None:
    diagnosis = examine(Echo(Sick(plain(), sends=made(xor))))
    assert codes(diagnosis) == ["echo", "checksum-xor"]


def test_a_module_at_the_other_end_is_named() -> None:
    diagnosis = examine(ModuleRole())
    assert codes(diagnosis) == ["swapped-roles"]
    assert diagnosis.sentence == "The other end is a module: it sends what only a module sends."
    assert "device_info" in diagnosis.faults[0].evidence[0]


def test_an_mcu_at_the_other_end_is_named() -> None:
    diagnosis = examine(McuRole(PET, values={"LED_OnOff": True}), role=Role.MCU)
    assert codes(diagnosis) == ["swapped-roles"]


def test_an_mcu_that_only_refuses_what_an_mcu_asks_is_named() -> None:
    diagnosis = examine(McuRole(named("greenhouse")), role=Role.MCU)
    assert codes(diagnosis) == ["swapped-roles"]


def test_a_deaf_mcu_is_told_from_a_dead_one() -> None:
    report = Frame(0x05, 3, bytes.fromhex("04 07 C8 00 00 07 01 26 3C 01 0A")).encode()
    diagnosis = examine(Says(report, every=1.0))
    assert codes(diagnosis) == ["unanswered"]
    assert "does not hear us" in diagnosis.sentence


def test_a_wrong_sn_is_named() -> None:
    diagnosis = examine(Sick(plain(), sends=lambda f: Frame(f.command, 7, f.payload).encode()))
    assert codes(diagnosis) == ["wrong-sn"]


def test_lost_frames_are_named_and_not_taken_for_a_byte_order() -> None:
    mcu = McuRole(named("greenhouse"), McuOptions(drops_every_nth=3))
    assert codes(examine(mcu, product=mcu.product)) == ["answers-sometimes"]


def test_what_official_firmware_does_is_no_finding() -> None:
    sdk = McuOptions(
        ack_match_sn=False,
        pending_overwrite=True,
        report_min_slow_only=True,
        report_flags_ff=True,
        answer_last_reported=True,
        report_after_control=False,
        no_ack_on_bad_sum_notice=False,
        takes_out_of_range=True,
        dedup=False,
        answers_late_ms=150,
        info_variant="A",
    )
    for name in ("pet-house", "greenhouse", "greenhouse-var"):
        mcu = McuRole(named(name), sdk)
        assert codes(examine(mcu, product=mcu.product)) == []


def test_a_wrong_id_of_acks_is_named() -> None:
    def sends(frame: Frame) -> bytes:
        return Frame(frame.command - (frame.command % 2 == 0), frame.sn, frame.payload).encode()

    assert codes(examine(Sick(plain(), sends=sends))) == ["wrong-command"]


def test_a_number_that_only_reads_is_judged_by_its_range() -> None:
    product = named("heater")  # nothing to control shows an order; 300 is 01 2C, and 2C 01 is out of range
    mcu = Turned(McuRole(product, values={"Room_Temperature": 30}), {"numbers"}, takes=False, gives=True)
    diagnosis = examine(mcu, product=product)
    assert diagnosis.sentence == "The MCU writes numbers little-endian."


@pytest.mark.parametrize(
    ("defect", "expected"),
    [
        ("bit-section-little-endian", "byte-order"),
        ("flags-little-endian", "byte-order"),
        ("number-little-endian", "byte-order"),
        ("bool-inverted", "control-not-followed"),
        ("ratio-ignored", "control-not-followed"),
        ("report-out-of-range", "control-not-followed"),
    ],
)
def test_only_a_byte_order_is_called_one(defect: str, expected: str) -> None:
    """Defects that others wrote: the doctor must not blame the order for everything."""
    product = named("greenhouse")
    defects = chosen([defect], product)
    mcu = DefectiveMcu(McuRole(product, options_with(McuOptions(), defects)), defects)
    assert codes(examine(mcu, product=product))[0] == expected


def test_a_boot_log_is_named() -> None:
    diagnosis = examine(Says(b"\r\n ets Jan  8 2013,rst cause:1, boot mode:(3,6)\r\n"))
    assert codes(diagnosis) == ["text"]
    assert "boot log of an Espressif chip" in diagnosis.sentence


def test_debug_text_between_frames_is_named() -> None:
    diagnosis = examine(Sick(plain(), sends=lambda f: b"ack sent, all is well\r\n" + f.encode()))
    assert codes(diagnosis) == ["text-between"]


def test_hex_text_is_named() -> None:
    diagnosis = examine(Sick(plain(), sends=lambda f: f.encode().hex(" ").upper().encode() + b"\r\n"))
    assert codes(diagnosis) == ["hex-text"]


def test_a_wrong_rate_is_garbage() -> None:
    diagnosis = examine(Says(bytes.fromhex("E0 00 FE 1C 80 F8 00 FE 1C E0 F0 03 80 78 1E 0C 66")))
    assert codes(diagnosis) == ["garbage"]
    assert diagnosis.may_be_rate


def with_parity(byte: int) -> int:
    low = byte & 0x7F
    return low | (low.bit_count() & 1) << 7


def test_seven_bits_with_parity_are_named() -> None:
    report = Frame(0x05, 3, bytes.fromhex("04 07 C8 00 00 07 01 26 3C 01 0A")).encode()
    diagnosis = examine(Says(bytes(map(with_parity, report))))
    assert codes(diagnosis) == ["parity"]
    assert "7E1" in diagnosis.sentence


def test_a_parity_bit_is_named() -> None:
    report = Frame(0x05, 3, bytes.fromhex("04 07 C8 02 13 07 01 26 3C 01 0A 10 20")).encode()
    seen = bytes(byte if byte.bit_count() & 1 else 0 for byte in report)
    assert "8E1" in examine(Says(seen)).sentence


def test_an_inverted_line_is_named() -> None:
    heartbeat = Frame(0x07, 0x21).encode()
    diagnosis = examine(Says(inverted(heartbeat)))
    assert codes(diagnosis) == ["inverted"]


def test_an_mcu_that_wants_wrong_frames_is_spoken_to_wrongly() -> None:
    def hears(data: bytes) -> bytes:
        """Right when its last byte is the XOR; everything else is nothing to it."""
        logical = data[2:].replace(b"\xff\x55", b"\xff")
        if xor(logical[:-1]) != logical[-1]:
            return b""
        return escaped(logical[:-1] + bytes((sum(logical[:-1]) & 0xFF,)))

    diagnosis = examine(Sick(plain(), sends=made(xor), hears=hears))
    assert codes(diagnosis) == ["expects-checksum-xor"]


def test_another_product_is_named() -> None:
    other = named("heater")
    diagnosis = examine(plain(other), product=PET)
    assert codes(diagnosis) == ["other-product"]


def test_an_mcu_of_another_product_is_not_controlled() -> None:
    heard: list[bytes] = []

    def listened(wire: bytes) -> bytes:
        heard.append(wire)
        return wire

    diagnosis = examine(Sick(plain(named("heater")), hears=listened), product=named("greenhouse"))
    assert codes(diagnosis) == ["other-product"]
    assert {wire[4] for wire in heard} == {0x01, 0x03, 0x07}
    assert {wire[8] for wire in heard if wire[4] == 0x03} == {0x02, 0x12}  # it is read, not controlled


def test_a_product_key_in_capitals_and_one_that_is_too_long() -> None:
    defects = chosen(["info-key-upper-case"], PET)
    mcu = DefectiveMcu(McuRole(PET, options_with(McuOptions(), defects)), defects)
    assert examine(mcu, product=PET).sentence == "The MCU has its product key in capitals."
    long = dataclasses.replace(PET, product_key=PET.product_key + "c")
    assert examine(plain(long), product=long).healthy, "32 characters are all that can be said"


@pytest.mark.parametrize(
    "defect", ["control-only-first-flag", "control-ignores-flags", "control-empty-clears", "read-stale"]
)
@pytest.mark.parametrize("name", ["pet-house", "greenhouse"])
def test_values_come_back_from_faulty_firmware_too(name: str, defect: str) -> None:
    product = named(name)
    defects = chosen([defect], product)
    mcu = McuRole(product, options_with(McuOptions(), defects))
    before = {point.name: mcu.raw[point.name] for point in product.writable}
    diagnosis = examine(DefectiveMcu(mcu, defects), product=product)
    assert {name: mcu.raw[name] for name in before} == before
    assert "not-restored" not in codes(diagnosis)


@pytest.mark.parametrize("moment", [0.5, 1.5, 1.6, 1.7])
def test_values_come_back_when_the_examination_is_interrupted(moment: float) -> None:
    product = named("greenhouse")
    mcu = McuRole(product)
    before = {point.name: mcu.raw[point.name] for point in product.writable}
    doctor: Examination[Diagnosis] = Examination(full_plan(Role.MODULE, product), Role.MODULE)
    link = MemoryLink()
    simulation: Simulation[Any] = Simulation((doctor, link.a), (mcu, link.b))
    moved: list[bool] = []

    def interrupt() -> None:
        moved.append({name: mcu.raw[name] for name in before} != before)
        doctor.interrupt(now=simulation.now)

    simulation.at(moment, interrupt)
    simulation.run(until=30)
    assert moved == [moment > 1]
    assert {name: mcu.raw[name] for name in before} == before


def test_an_answer_that_came_broken_is_not_called_missing() -> None:
    defects = chosen(["byte-lost-when-sending"], PET)
    mcu = DefectiveMcu(McuRole(PET, options_with(McuOptions(), defects)), defects)
    assert codes(examine(mcu)) == ["damaged"]


@pytest.mark.parametrize(
    "pattern",
    [b"\xff", b"\xff\xff\x00", b"\xff\xff\x00\x05\x08", b"\xff\x55", b"\x00", Frame(0x08, 1).encode()],
)
def test_a_peer_that_never_stops_takes_bounded_time(pattern: bytes) -> None:
    data = pattern * (60_000 // len(pattern))
    exchange = Exchange(Probe(), data, bursts=(data,))
    assert diagnose([exchange], Role.MODULE).sentence


# --- byte order


class Turned(Sick):
    """An MCU that has some parts of P0 the other way round."""

    def __init__(self, mcu: McuRole, parts: set[str], *, takes: bool, gives: bool) -> None:
        super().__init__(mcu, sends=self.said, hears=self.heard)
        self.points, self.parts = DataPoints(mcu.product), parts
        self.takes, self.gives = takes, gives

    def heard(self, wire: bytes) -> bytes:
        if self.takes and wire[4:5] == b"\x03" and wire[8:9] in {b"\x01", b"\x11"}:
            frame = next(item for item in Framer().feed(wire) if isinstance(item, Frame))
            return Frame(frame.command, frame.sn, self._turn(frame.payload, given=False)).encode()
        return wire

    def said(self, frame: Frame) -> bytes:
        if self.gives and frame.command in {0x04, 0x05} and frame.payload:
            frame = Frame(frame.command, frame.sn, self._turn(frame.payload, given=True))
        return frame.encode()

    def _turn(self, p0: bytes, *, given: bool) -> bytes:
        product = self.points.product
        fixed = product.layout is Layout.FIXED
        control = p0[0] in {0x01, 0x11}
        start = 1 + (product.flag_bytes if control or not fixed else 0)
        flags = p0[1:start]
        right = flags[::-1] if "flags" in self.parts and not given else flags
        block = (
            (self.points.writable if control else self.points.dev_status)
            if fixed
            else self.points.flagged(int.from_bytes(right, "big") & self.points.known_flags)
        )
        body = bytearray(p0[start:])
        for slot in block.slots:
            if "numbers" in self.parts and slot.point.scale is not None:
                body[slot.start : slot.end] = p0[start + slot.start : start + slot.end][::-1]
            if "bits" in self.parts and slot.point.is_bits:
                body[slot.start : slot.end] = p0[start + slot.start : start + slot.end][::-1]
        return p0[:1] + (flags[::-1] if "flags" in self.parts else flags) + bytes(body)


TURNED = [
    (name, parts, words, takes, gives)
    for name, parts, words in (
        ("holes", {"numbers"}, "numbers"),
        ("holes", {"bits"}, "bit sections"),
        ("holes", {"flags"}, "flags"),
        ("wide-bits", {"bits"}, "bit sections"),
        ("var-len", {"flags"}, "flags"),
    )
    for takes, gives in ((True, False), (False, True), (True, True))
    if (name, parts, takes) != ("holes", {"flags"}, False)  # reports of fixed length have no flags
]


@pytest.mark.parametrize(("name", "parts", "words", "takes", "gives"), TURNED)
def test_a_wrong_byte_order_is_named_and_values_come_back(
    name: str, parts: set[str], words: str, *, takes: bool, gives: bool
) -> None:
    product = named(name)
    mcu = McuRole(product)
    before = dict(mcu.raw)
    diagnosis = examine(Turned(mcu, parts, takes=takes, gives=gives), product=product)
    assert dict(mcu.raw) == before
    if (name, takes, gives) == ("var-len", True, False):
        # No control of this product means another legal one when its flags are turned around.
        assert codes(diagnosis) == ["control-not-followed"]
        return
    assert codes(diagnosis) == ["byte-order"]
    assert words in diagnosis.sentence


# --- the command


def doctor(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from gizserial.cli import main; main()", "doctor", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


async def examined(machine: Machine[Any], *words: str) -> subprocess.CompletedProcess[str]:
    """The command at the other end of a virtual port."""
    port = PtyPort()
    driver: Driver[Any] = Driver(machine, port)
    async with driver:
        assert port.other_end is not None
        return await asyncio.to_thread(doctor, port.other_end, *words)


@pytest.mark.skipif(os.name != "posix", reason="there are no virtual ports of this kind on Windows")
async def test_a_sound_mcu_end_to_end() -> None:
    result = await examined(plain(), "-p", str(PRODUCTS / "pet-house.json"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Verdict: The line is sound" in result.stdout
    assert "a virtual port: no baud rate" in result.stdout


@pytest.mark.skipif(os.name != "posix", reason="there are no virtual ports of this kind on Windows")
async def test_a_finding_end_to_end() -> None:
    result = await examined(plain(), "--json", "-p", str(PRODUCTS / "heater.json"))
    assert result.returncode == 1
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["kind"] for row in rows] == ["fault", "verdict"]
    assert rows[0]["code"] == "other-product"
    assert rows[1]["sentence"] == "The MCU says another product key than the definition."


def test_a_port_that_is_not_there_is_status_2() -> None:
    result = doctor("/dev/there-is-none")
    assert (result.returncode, result.stdout) == (2, "")
    assert "there is no such port" in result.stderr


def test_a_capture_is_looked_at_too() -> None:
    result = doctor(str(ROOT / "fixtures/captures/pet-house.jsonl"), "--json")
    assert result.returncode == 1  # it has a damaged frame on purpose
    assert json.loads(result.stdout.splitlines()[-1])["codes"] == ["damaged"]


@pytest.mark.parametrize(("suffix", "status"), [("hex", 0), ("log", 0), ("txt", 0)])
def test_a_capture_without_directions_blames_nobody(suffix: str, status: int) -> None:
    result = doctor(str(ROOT / f"fixtures/captures/pet-house.{suffix}"), "--json")
    assert result.returncode == status, result.stdout
    assert "swapped-roles" not in result.stdout


# --- baud rates


def at_rates(peers: dict[int, Machine[Any]], *, baud: int = 9600) -> tuple[Diagnosis, int]:
    """The search over baud rates, where each rate shows something else."""

    async def on(rate: int, plan: Plan[Diagnosis]) -> Diagnosis:
        return examine(peers.get(rate, Says(b"", answers=True)), plan=plan)

    return asyncio.run(search_rates(on, Role.MODULE, None, baud, told=lambda _rate: None))


def test_another_rate_is_found() -> None:
    garbage = Says(bytes.fromhex("E0 00 FE 1C 80 F8 00 FE 1C E0 F0 03 80 78 1E 0C 66"))
    diagnosis, rate = at_rates({9600: garbage, 115200: plain()})
    assert rate == 115200
    assert diagnosis.sentence == "The line runs at 115200 baud, not at 9600."


def test_a_boot_log_at_another_rate_is_found() -> None:
    diagnosis, rate = at_rates({74880: Says(b"\r\n ets Jan  8 2013,rst cause:1, boot mode:(3,6)\r\n")})
    assert rate == 74880
    assert codes(diagnosis) == ["baud", "text"]


def test_silence_at_every_rate_names_the_rates() -> None:
    diagnosis, rate = at_rates({})
    assert rate == 9600
    assert "at none of the rates 9600, 115200" in diagnosis.sentence


def test_a_wrong_checksum_at_another_rate_is_named_too() -> None:
    diagnosis, _rate = at_rates({115200: Sick(plain(), sends=made(xor))})
    assert codes(diagnosis) == ["baud", "checksum-xor"]


# --- the document

PAGE = (ROOT / "docs/doctor.md").read_text(encoding="utf-8")
EXAMPLES = [
    line
    for block in re.findall(r"<!-- run -->\n```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_of_the_document(line: str) -> None:
    name, command, *words = shlex.split(line, comments=True)
    assert (name, command) == ("gizserial", "doctor")
    result = doctor(*words)
    assert result.returncode == int("# status 1" in line), result.stderr
    shown = re.search(rf"```\n({re.escape(words[0])}.*?)```", PAGE, re.DOTALL)
    assert shown is None or result.stdout.startswith(shown[1])


def test_the_document_names_every_mistake_of_the_tables() -> None:
    for table in (LENGTHS, SUMS):
        for name in table:
            assert name == "right" or f"`{name}`" in PAGE
    source = (ROOT / "gizserial/diagnosis/faults.py").read_text(encoding="utf-8")
    found = re.findall(r'Fault\(\s*"([a-z0-9-]+)"', source)
    assert len(found) >= 18
    for code in found:
        assert f"`{code}`" in PAGE
