"""The vendor's MCU SDK, recorded, against our MCU with the SDK's quirks: the same bytes in the same order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support_roles import Bench

from gizserial import schemas
from gizserial.commands import Command
from gizserial.events import McuRestarting
from gizserial.framing import Frame, Framer
from gizserial.io.products import load_product
from gizserial.mcu import McuRole
from gizserial.mcu_options import McuOptions

SDK: dict[str, Any] = {
    "ack_match_sn": False,
    "pending_overwrite": True,
    "dedup": False,
    "answer_last_reported": True,
    "report_after_control": False,
    "report_min_slow_only": True,
    "no_ack_on_bad_sum_notice": False,
    "takes_out_of_range": True,
}
"""What observed.md says of the SDK, as our switches."""


@pytest.fixture(scope="module")
def records(samples: Path) -> list[dict[str, Any]]:
    lines = (samples / "capture-pet.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[1:]]


def frames_of(records: list[dict[str, Any]]) -> list[Frame]:
    framer = Framer()
    wire = [bytes.fromhex(record["hex"]) for record in records if record.get("dir") == "mcu>module"]
    return [item for chunk in wire for item in framer.feed(chunk) if isinstance(item, Frame)]


def options_like(recorded: list[Frame], **switches: Any) -> McuOptions:
    """The identity that the recorded MCU gave."""
    answer = next(frame for frame in recorded if frame.command == Command.DEVICE_INFO + 1)
    info = schemas.DEVICE_INFO.parse(answer.payload)
    return McuOptions(
        info_variant="C",
        p0_ver=info["p0_ver"],
        hard_ver=info["hard_ver"],
        soft_ver=info["soft_ver"],
        bind_time=info["bind_time"],
        product_secret=info["product_secret"],
        **switches,
    )


def told(mcu: McuRole, line: str, now: float) -> None:
    """A line of the recording's console, as a call."""
    word, _, rest = line.partition(" ")
    if word == "set":
        mcu.set_values(dict(pair.split("=") for pair in rest.split()), now=now)
    elif word == "ntp":
        mcu.ask_time(now=now)
    elif word == "modinfo":
        mcu.ask_module_info(now=now)
    elif word == "pass":
        mcu.send_raw(bytes.fromhex(rest), now=now)
    elif word == "sn":
        mcu._endpoint._sn = int(rest) & 0xFF
    elif word == "mode":
        _set_mode(mcu, int(rest), now)
    else:
        assert word in {"state", "quit"}, f"the recording's console knows {line!r}, this test does not"


def _set_mode(mcu: McuRole, mode: int, now: float) -> None:
    """``gizwitsSetMode`` (serial.md §6.6). This build of the SDK does not know 5, restart the module."""
    if mode == 0:
        mcu.reset_module(now=now)
    elif mode in {1, 2}:
        mcu.provision(mode, now=now)
    elif mode == 3:
        mcu.start_test(now=now)
    elif mode == 4:
        mcu.open_bind_window(now=now)


def replayed(samples: Path, records: list[dict[str, Any]], options: McuOptions) -> tuple[McuRole, Bench]:
    mcu = McuRole(load_product(samples / "capture-pet-product.json"), options)
    line = Bench(mcu)
    for record in records:
        line.run(until=record["t"])
        if record.get("dir") == "module>mcu":
            line.receive(bytes.fromhex(record["hex"]))
            if record.get("note") == "module information":
                # The answer is longer than the SDK's buffer and overwrites its sn (observed.md).
                mcu._endpoint._sn = 0
        elif record.get("mcu", {}).get("what") == "cmd":
            told(mcu, record["mcu"]["line"], line.now)
            line.settle()
    return mcu, line


def test_with_the_quirks_of_the_sdk_every_frame_is_the_same(
    samples: Path, records: list[dict[str, Any]]
) -> None:
    recorded = frames_of(records)
    mcu, line = replayed(samples, records, options_like(recorded, **SDK))
    sent = [frame for _time, frame in line.sent]
    recorded.remove(Frame(Command.ILLEGAL_FRAME_FROM_MCU, 0, b"\x02"))  # for 2A, as it does not know 29
    assert sent == recorded
    assert len(sent) > 130
    assert len(line.of(McuRestarting)) == 1
    zeros = {point.name: point.raw(0) for point in mcu.product.points}
    assert dict(mcu.raw) == zeros, "a restart forgets values"


def test_by_the_rulings_acks_are_the_same_and_a_control_is_always_reported(
    samples: Path, records: list[dict[str, Any]]
) -> None:
    recorded = frames_of(records)
    mcu, line = replayed(samples, records, options_like(recorded))
    acks = {Command.DEVICE_INFO + 1, Command.HEARTBEAT + 1, Command.STATUS + 1, Command.RESTART_MCU + 1}
    for command in acks:
        assert line.frames(command) == [frame for frame in recorded if frame.command == command]
    # Reads differ: the SDK answers with what was reported last, we with what is (R22).
    plain = [frame for frame in recorded if frame.command == 4 and not frame.payload]
    assert [frame for frame in line.frames(4) if not frame.payload] == plain
    controls = [
        record
        for record in records
        if record.get("dir") == "module>mcu" and record["hex"][8:10] == "03" and record["hex"][16:18] == "01"
    ]
    reports = {frame.sn for frame in line.frames(5) if frame.payload[0] == 4}
    assert len(reports) >= len(controls)
    assert dict(mcu.raw) == {point.name: point.raw(0) for point in mcu.product.points}
