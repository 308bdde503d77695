"""Defects of the simulated MCU, byte by byte: what the sound MCU sends, what the defective one sends.

That each is found by a case of the conformance suite is proven in ``test_mutants.py``.
"""

from __future__ import annotations

import json
import random
import re
from typing import cast

import pytest
from click.testing import CliRunner
from support_check import product
from support_roles import Bench, Machine, silent_acks

from gizserial.commands import Command
from gizserial.errors import EncodeError, UnknownName
from gizserial.framing import Frame
from gizserial.mcu import McuRole
from gizserial.mcu_options import McuOptions
from sim.cli.mcu import mcu
from sim.mcu_defects import (
    DEFECTS,
    chosen,
    exchanges,
    framing,
    identity,
    network,
    options_with,
    rare,
    reports,
    states,
    values,
    waiting,
)
from sim.mcu_defects.machine import DefectiveMcu

PET, LAMP, VAR = product("pet-house"), product("ci-lamp"), product("var-len")
WIDE, LONG = product("wide-bits"), product("quarter-kilobyte")
PRODUCTS = {
    "pet": PET,
    "lamp": LAMP,
    "var": VAR,
    "wide": WIDE,
    "long": LONG,
    "green": product("greenhouse"),
    "greenvar": product("greenhouse-var"),
}

HEARTBEAT = "FFFF0005 07 07 0000 13"
HEARTBEAT_ACK = "FFFF0005 08 07 0000 14"
STATUS = "FFFF0007 0D 03 0000 0732 50"
STATUS_ACK = "FFFF0005 0E 03 0000 16"
CONTROL = "FFFF000C 03 42 0000 01 27 07 C8 00 00 07 4F"
CONTROL_ACK = "FFFF0005 04 42 0000 4B"
CONTROL_REPORT = "FFFF0010 05 00 0000 04 07 C8 00 00 07 00 0D 00 00 00 FC"
READ = "FFFF0006 03 43 0000 02 4E"
SN_FF = "FFFF0005 07 FF55 0000 0B"


def made(of: str, *names: str) -> Machine:
    faults = chosen(names, PRODUCTS[of])
    role = McuRole(PRODUCTS[of], options_with(McuOptions(), faults))
    return cast("Machine", DefectiveMcu(role, faults))


def wire(of: str, received: str, *names: str, seconds: float = 0.1) -> list[str]:
    """What leaves within so many seconds after bytes came, in order; the module acks reports."""
    bench = Bench(made(of, *names), answers=silent_acks([Command.P0_FROM_MCU]))
    bench.receive(bytes.fromhex(received))
    bench.run_for(seconds)
    return [data.hex().upper() for _time, data in bench.writes]


def plain(*words: str) -> str:
    return "".join(words).replace(" ", "")


def sent(of: str, received: str, *names: str, seconds: float = 0.1) -> str:
    return "".join(wire(of, received, *names, seconds=seconds))


# --- vectors

VECTORS = [
    # §1.6: the ack of a heartbeat with number FF, and one whose checksum is FF (V96 as an ack 08).
    ("escape-missing-in-sn", "pet", SN_FF, "FFFF0005 08 FF55 0000 0C", "FFFF0005 08 FF 0000 0C"),
    (
        "escape-missing-in-checksum",
        *("pet", "FFFF0005 07 F2 0000 FE", "FFFF0005 08 F2 0000 FF55", "FFFF0005 08 F2 0000 FF"),
    ),
    ("escape-missing-anywhere", "pet", SN_FF, "FFFF0005 08 FF55 0000 0C", "FFFF0005 08 FF 0000 0C"),
    ("escape-counted-in-length", "pet", SN_FF, "FFFF0005 08 FF55 0000 0C", "FFFF0006 08 FF55 0000 0D"),
    ("escape-summed", "pet", SN_FF, "FFFF0005 08 FF55 0000 0C", "FFFF0005 08 FF55 0000 61"),
    ("unescape-missing", "pet", SN_FF, "FFFF0005 08 FF55 0000 0C", ""),
    # §1.3: FF + FF = 1FE more.
    ("checksum-with-header", "pet", HEARTBEAT, HEARTBEAT_ACK, "FFFF0005 08 07 0000 12"),
    ("checksum-ignored-on-receive", "pet", HEARTBEAT[:-2] + "99", "FFFF0006 12 07 0000 01 20", HEARTBEAT_ACK),
    # §1.4, §1.5, §4.4: acks.
    ("ack-wrong-sn", "pet", HEARTBEAT, HEARTBEAT_ACK, "FFFF0005 08 08 0000 15"),
    ("ack-wrong-command", "pet", HEARTBEAT, HEARTBEAT_ACK, HEARTBEAT),
    ("ack-flags", "pet", HEARTBEAT, HEARTBEAT_ACK, "FFFF0005 08 07 0001 15"),
    ("ack-with-payload", "pet", HEARTBEAT, HEARTBEAT_ACK, "FFFF0006 08 07 0000 00 15"),
    ("heartbeat-acked-as-status", "pet", HEARTBEAT, HEARTBEAT_ACK, "FFFF0005 0E 07 0000 1A"),
    ("ack-twice", "pet", HEARTBEAT, HEARTBEAT_ACK, HEARTBEAT_ACK * 2),
    ("ack-missing-heartbeat", "pet", HEARTBEAT, HEARTBEAT_ACK, ""),
    ("ack-missing-status", "pet", STATUS, STATUS_ACK, ""),
    # §5.7: V81 is acked by V82 and reported.
    ("ack-missing-control", "pet", CONTROL, CONTROL_ACK + CONTROL_REPORT, CONTROL_REPORT),
    ("report-after-control-missing", "pet", CONTROL, CONTROL_ACK + CONTROL_REPORT, CONTROL_ACK),
    (
        "report-after-control-before-ack",
        *("pet", CONTROL, CONTROL_ACK + CONTROL_REPORT, CONTROL_REPORT + CONTROL_ACK),
    ),
    (
        "bool-inverted",
        *("pet", CONTROL, CONTROL_ACK + CONTROL_REPORT),
        CONTROL_ACK + "FFFF0010 05 00 0000 04 06 C8 00 00 07 00 0D 00 00 00 FB",
    ),
    (
        "control-only-first-flag",
        *("pet", CONTROL, CONTROL_ACK + CONTROL_REPORT),
        CONTROL_ACK + "FFFF0010 05 00 0000 04 01 00 00 00 05 00 0D 00 00 00 2C",
    ),
    (
        "report-padding-bits",
        *("pet", CONTROL, CONTROL_ACK + CONTROL_REPORT),
        CONTROL_ACK + "FFFF0010 05 00 0000 04 FF55 C8 00 00 07 FE 0D 00 FC F0 DE",
    ),
    ("report-short", "pet", CONTROL, CONTROL_ACK + CONTROL_REPORT, None),
    # §4.2: a read of the start state.
    (
        "read-ack-empty",
        *("pet", READ, "FFFF0010 04 43 0000 03 00 00 00 00 05 00 0D 00 00 00 6C", "FFFF0005 04 43 0000 4C"),
    ),
    ("read-unanswered", "pet", READ, "FFFF0010 04 43 0000 03 00 00 00 00 05 00 0D 00 00 00 6C", ""),
    (
        "read-wrong-action",
        *("pet", READ, "FFFF0010 04 43 0000 03 00 00 00 00 05 00 0D 00 00 00 6C"),
        "FFFF0010 04 43 0000 04 00 00 00 00 05 00 0D 00 00 00 6D",
    ),
    # §4.9: an unknown command.
    (
        "unknown-command-acked",
        "pet",
        "FFFF0005 6F 05 0000 79",
        "FFFF0006 12 05 0000 02 1F",
        "FFFF0005 70 05 0000 7A",
    ),
    ("no-notice-on-unknown", "pet", "FFFF0005 6F 05 0000 79", "FFFF0006 12 05 0000 02 1F", ""),
    (
        "notice-wrong-sn",
        "pet",
        "FFFF0005 6F 05 0000 79",
        "FFFF0006 12 05 0000 02 1F",
        "FFFF0006 12 06 0000 02 20",
    ),
    (
        "notice-wrong-code",
        "pet",
        "FFFF0005 6F 05 0000 79",
        "FFFF0006 12 05 0000 02 1F",
        "FFFF0006 12 05 0000 03 20",
    ),
    (
        "notice-wrong-direction",
        "pet",
        "FFFF0005 6F 05 0000 79",
        "FFFF0006 12 05 0000 02 1F",
        "FFFF0006 11 05 0000 02 1E",
    ),
    # §4.8
    ("restart-unacked", "pet", "FFFF0005 0F 01 0000 15", "FFFF0005 10 01 0000 16", ""),
    # §8.3: Switch = 1 and Bright = 80 (V87); a change report flags what the control set.
    (
        "sends-fixed-action",
        *("var", "FFFF000A 03 01 0000 11 0041 01 50 B1"),
        "FFFF0005 04 01 0000 0A FFFF000A 05 00 0000 14 0041 01 50 B5",
        "FFFF0005 04 01 0000 0A FFFF000A 05 00 0000 04 0041 01 50 A5",
    ),
    (
        "report-flags-little-endian",
        *("var", "FFFF000A 03 01 0000 11 0041 01 50 B1"),
        "FFFF0005 04 01 0000 0A FFFF000A 05 00 0000 14 0041 01 50 B5",
        "FFFF0005 04 01 0000 0A FFFF000A 05 00 0000 14 4100 01 50 B5",
    ),
    (
        "report-flags-padding",
        *("var", "FFFF000A 03 01 0000 11 0041 01 50 B1"),
        "FFFF0005 04 01 0000 0A FFFF000A 05 00 0000 14 0041 01 50 B5",
        "FFFF0005 04 01 0000 0A FFFF000A 05 00 0000 14 FC41 01 50 B1",
    ),
]


@pytest.mark.parametrize(
    ("name", "of", "received", "sound", "defective"), VECTORS, ids=lambda value: str(value)[:34]
)
def test_vector(name: str, of: str, received: str, sound: str, defective: str | None) -> None:
    assert sent(of, received) == plain(sound)
    got = sent(of, received, name)
    assert got != plain(sound)
    if defective is not None:
        assert got == plain(defective)


def test_a_late_ack_leaves_at_its_time() -> None:
    for name, command, seconds in (("ack-late", 0x07, 0.35), ("ack-status-late", 0x0D, 0.4)):
        bench = Bench(made("pet", name))
        bench.receive(Frame(command, 1, b"\x07\x32" if command == 0x0D else b""))
        bench.run_for(1.0)
        assert bench.times(command + 1) == [seconds]


def test_repetitions_of_an_unacked_report() -> None:
    """§1.8: 200 ms apart, three in all, byte by byte the same."""

    def unacked(*names: str) -> list[tuple[float, Frame]]:
        bench = Bench(made("pet", *names))
        bench.receive(bytes.fromhex(CONTROL))
        bench.run_for(5.0)
        return [(round(time, 3), frame) for time, frame in bench.sent if frame.command == 0x05]

    sound = unacked()
    assert [time for time, _frame in sound] == [0.0, 0.2, 0.4]
    assert len({frame.encode() for _time, frame in sound}) == 1
    assert len(unacked("resend-missing")) == 1
    assert len(unacked("resend-forever")) > 20
    assert [time for time, _frame in unacked("resend-too-fast")] == [0.0, 0.05, 0.1]
    assert [time for time, _frame in unacked("resend-too-slow")] == [0.0, 2.0, 4.0]
    assert [frame.sn for _time, frame in unacked("resend-new-sn")] == [0, 1, 2]
    other = [frame for _time, frame in unacked("resend-different-bytes")]
    assert {frame.sn for frame in other} == {0}
    assert len({frame.payload for frame in other}) == 2


def test_a_length_of_00ff() -> None:
    """§1.6: a report of 250 bytes; the read is answered with the same size."""
    read = "FFFF0006 03 01 0000 02 0C"
    assert sent("long", read).startswith("FFFF00FF5504")
    assert sent("long", read, "escape-missing-in-length").startswith("FFFF00FF04")


# --- what stays as it is

TOUCH_HEARTBEATS = {
    "ack-flags",
    "ack-late",
    "ack-missing-heartbeat",
    "ack-sn-of-own-counter",
    "ack-twice",
    "ack-with-payload",
    "ack-wrong-command",
    "ack-wrong-sn",
    "checksum-with-header",
    "heartbeat-acked-as-status",
    "report-on-heartbeat",
}
"""All others leave the first heartbeat of a calm line alone (V64, V65)."""


def test_only_these_defects_change_the_ack_of_a_heartbeat() -> None:
    changed = set()
    for name, defect in DEFECTS.items():
        of = next(
            key
            for key in ("pet", "var", "wide", "lamp", "long", "green", "greenvar")
            if defect.fits(PRODUCTS[key])
        )
        if sent(of, HEARTBEAT, name) != plain(HEARTBEAT_ACK):
            changed.add(name)
    assert changed == TOUCH_HEARTBEATS


def test_defects_compose() -> None:
    assert sent("pet", HEARTBEAT, "ack-wrong-sn", "ack-flags") == plain("FFFF0005 08 08 0001 16")
    assert sent("pet", SN_FF, "escape-missing-in-sn", "ack-twice") == plain("FFFF0005 08 FF 0000 0C") * 2


# --- the table


def test_names_are_unique_and_told() -> None:
    rows = [
        row
        for table in (framing, exchanges, identity, values, reports, network, rare, states, waiting)
        for row in table.DEFECTS
    ]
    assert len({row.name for row in rows}) == len(rows) == len(DEFECTS)
    for row in rows:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", row.name)
        assert row.title
        assert row.rule
        assert re.fullmatch(r"\d+(\.\d+)?(, \d+(\.\d+)?)*", row.section)
        assert row.make is not None or row.options
        assert any(row.fits(of) for of in PRODUCTS.values()), row.name


def test_a_defect_that_cannot_be_had_is_refused() -> None:
    with pytest.raises(UnknownName, match="ack-late"):
        chosen(["ack-lat"], PET)
    with pytest.raises(EncodeError, match="cannot show in this product"):
        chosen(["read-all-empty"], PET)


# --- anything may come


@pytest.mark.parametrize("name", list(DEFECTS))
def test_malformed_bodies_raise_nothing(name: str) -> None:
    for of in PRODUCTS.values():
        if not DEFECTS[name].fits(of):
            continue
        rng = random.Random(1)
        faults = chosen([name], of)
        options = options_with(McuOptions(info_variant="A"), faults)
        machine = cast("Machine", DefectiveMcu(McuRole(of, options), faults))
        bench = Bench(machine, answers=silent_acks([0x05, 0x09, 0x15, 0x17]))
        for number in range(40):
            size = (0, 1, 2, 3, 9)[number % 5]
            body = bytes(rng.choice((0x01, 0x02, 0x05, 0x11, 0x12, 0x00, 0xFF)) for _ in range(size))
            command = rng.choice((0x01, 0x03, 0x03, 0x03, 0x07, 0x0D, 0x11, 0x06, 0x18, 0x6F))
            bench.receive(Frame(command, number, body))
            bench.run_for(0.3 if number % 10 else 9.0)
        return


# --- the command


def test_list_defects() -> None:
    listed = CliRunner().invoke(mcu, ["--list-defects"])
    assert listed.exit_code == 0
    assert [row.split()[0] for row in listed.output.splitlines()] == list(DEFECTS)


@pytest.mark.parametrize("words", [["--list-defects", "--json"], ["--json", "--list-defects"]])
def test_list_defects_as_json(words: list[str]) -> None:
    listed = CliRunner().invoke(mcu, words)
    assert listed.exit_code == 0
    rows = [json.loads(row) for row in listed.output.splitlines()]
    assert [row["name"] for row in rows] == list(DEFECTS)
    assert all(set(row) == {"name", "title", "rule", "section"} for row in rows)
