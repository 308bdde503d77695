"""Commands whose work goes on when nobody reads what they print (``… | head -1``): the status stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gizserial.capture.jsonl import JsonlWriter
from gizserial.capture.record import Meta, Record
from gizserial.framing import Frame
from gizserial.io.files import open_capture

PET = str(Path(__file__).resolve().parent.parent / "fixtures/products/pet-house.json")
SIM = [sys.executable, "-c", "from sim.cli import main; main()"]
SERIAL = [sys.executable, "-c", "from gizserial.cli import main; main()"]


@pytest.fixture(scope="module")
def faulty_mcu() -> Iterator[str]:
    """The port of an MCU that is found out by everybody who looks at it."""
    command = [*SIM, "mcu", "--port", "pty:", "-p", PET, "--defect", "escape-missing-in-sn", "--quiet"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as mcu:
        assert mcu.stdout is not None
        yield json.loads(mcu.stdout.readline().removeprefix("ready "))["port"]
        mcu.terminate()


def unread(*command: str) -> tuple[int, str]:
    """Exit status and standard error of a command whose standard output is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60, text=True
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr


def test_a_check_goes_on_to_its_end_and_writes_its_report(faulty_mcu: str, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    case = ["--only", "framing.escape-sn", "--report", str(report)]
    status, told = unread(*SIM, "check", "--port", faulty_mcu, "-p", PET, *case)
    assert (status, "Traceback" in told) == (1, False), told
    assert "<failure" in report.read_text(encoding="utf-8")


@pytest.mark.parametrize("option", ["--json", "-v"])
def test_a_replay_keeps_its_status(faulty_mcu: str, tmp_path: Path, option: str) -> None:
    capture = tmp_path / "run.jsonl"
    with capture.open("wb") as file:
        writer = JsonlWriter(file, str(capture), Meta({}))
        for number in range(3):  # FF as a number: its escape is left out in the ack
            writer.write(Record(number * 0.02, "module>mcu", Frame(0x07, 0xFD + number).encode()))
            writer.write(Record(number * 0.02 + 0.01, "mcu>module", Frame(0x08, 0xFD + number).encode()))
    patience = ["--patience", "200ms", "--speed", "max"]
    status, told = unread(*SERIAL, "replay", str(capture), faulty_mcu, *patience, option)
    assert (status, "Traceback" in told) == (1, False), told


def test_a_capture_goes_on(faulty_mcu: str, tmp_path: Path) -> None:
    capture = tmp_path / "run.jsonl"
    status, told = unread(*SERIAL, "capture", faulty_mcu, "-o", str(capture), "--for", "200ms", "--json")
    assert (status, "Traceback" in told) == (0, False), told
    with open_capture(str(capture)) as opened:  # it was closed in order
        list(opened.records())


@pytest.mark.parametrize("options", [["--frames"], ["--json"], []], ids=["frames", "json", "steps"])
@pytest.mark.parametrize(("humidity", "status"), [(55, 0), (54, 1)])
def test_a_scenario_is_played_to_its_end(
    tmp_path: Path, options: list[str], humidity: int, status: int
) -> None:
    path = tmp_path / "run.yaml"
    steps = f"steps:\n  - set: {{Humidity: 55}}\n  - expect: report Humidity={humidity}\n"
    path.write_text(f"setup: {{product: {PET}}}\n{steps}", encoding="utf-8")
    assert unread(*SIM, "run", *options, str(path)) == (status, "")
