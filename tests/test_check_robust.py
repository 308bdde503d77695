"""What a check does when things go wrong: peers that are silent, babble or flood, files, Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from xml.etree import ElementTree as ET

import pytest
from support_check import BYTE_TIME, MAIN, benched, check, mcu_process, product
from test_check_allowed import judged as sound_or_not
from test_check_allowed import mcu
from test_check_reports import PET, gizsim

from gizserial.errors import CaptureError
from gizserial.framing import Frame
from gizserial.io.base import LineEvent
from gizserial.io.memory import MemoryLink
from gizserial.io.memory_transport import MemoryTransport
from gizserial.io.recorder import CaptureRecorder
from sim.clock import run_virtual
from sim.conformance import line as bench_line
from sim.conformance import outputs, report_junit
from sim.conformance.bench import Bench
from sim.conformance.cases import CASES, named
from sim.conformance.line import BenchLine
from sim.conformance.model import (
    Case,
    Entry,
    RunResult,
    Setting,
    Severity,
    Verdict,
)
from sim.conformance.runner import run_cases
from sim.conformance.words import Words
from sim.mcu_defects.hooks import is_control, receiving
from sim.mcu_defects.machine import DefectiveMcu


@contextlib.asynccontextmanager
async def beside(talk: bytes, every: float) -> AsyncIterator[Bench]:
    """A bench whose peer says the same again and again and listens to nothing."""
    ours, theirs = MemoryTransport.pair(MemoryLink(byte_time=BYTE_TIME))

    def heard(event: LineEvent) -> None:
        assert event is not None

    async def babble() -> None:
        while True:
            theirs.write(talk)
            await asyncio.sleep(every)

    await theirs.open(heard)
    line = BenchLine(ours, byte_time=BYTE_TIME)
    await line.open()
    task = asyncio.create_task(babble())
    try:
        yield Bench(line, Setting(product=product("pet-house")))
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await line.close()
        await theirs.close()


def judged(talk: bytes, every: float, cases: tuple[Case, ...]) -> RunResult:
    async def main() -> RunResult:
        async with beside(talk, every) as bench:
            return await run_cases(bench, cases)

    return run_virtual(main())


# --- peers


def _hangs_at_a_control(machine: DefectiveMcu, frame: Frame) -> Frame | None:
    if is_control(frame):
        machine.deaf(3600.0)
        return None
    return frame


def test_an_mcu_that_hangs_ends_the_run_and_is_said_to_hang() -> None:
    of = product("pet-house")
    cases = tuple(named(("ack.status", "control.bool", "control.enum", "control.number")))
    run = sound_or_not(of, mcu(of, receiving(_hangs_at_a_control)), cases=cases)
    assert [result.case.id for result in run.results] == ["ack.status", "control.bool"]
    assert run.stopped.startswith("the MCU fell silent: its last frame came")
    assert "in ack.status, and none in control.bool; switch it off and on" in run.stopped


def test_only_noise_ends_after_one_case_with_what_to_do() -> None:
    noise = bytes(byte for byte in Random(3).randbytes(60) if byte != 0xFF)
    run = judged(noise, 0.1, CASES)
    assert len(run.results) == 1
    assert run.stopped.startswith("only ")
    assert "--baud" in run.stopped
    assert "doctor" in run.stopped


def test_a_flood_of_one_report_is_a_storm_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    # Fixed length, every point 0; acked each time, and said again all the same.
    report = Frame(0x05, 7, b"\x04" + bytes(10)).encode()
    run = judged(report, 0.03, tuple(named(("info.answered", "report.storm"))))
    assert {result.case.id for result in run.of(Verdict.FAILED)} == {"info.answered", "report.storm"}

    monkeypatch.setattr(bench_line, "MOST_ENTRIES", 500)
    run = judged(report, 0.03, CASES)
    assert "babbles" in run.stopped


def test_a_text_that_comes_byte_by_byte_is_one_stretch() -> None:
    async def main() -> list[Entry]:
        ours, theirs = MemoryTransport.pair(MemoryLink(byte_time=BYTE_TIME))
        await theirs.open(lambda _event: None)
        line = BenchLine(ours, byte_time=BYTE_TIME)
        await line.open()
        theirs.write(b"rst cause:2\r\n")
        await line.listen(0.5)
        theirs.write(b"x")
        await line.listen(0.5)
        await line.close()
        await theirs.close()
        return line.received()

    text, single = run_virtual(main())
    assert text.wire == b"rst cause:2\r\n"
    words = Words(product("pet-house"))
    assert words.say(text).startswith("13 bytes outside any frame: 72 73 74")
    assert words.say(single) == "1 byte outside any frame: 78"


# --- runs


def test_a_fault_of_a_case_costs_that_case_only() -> None:
    async def broken(_bench: Bench) -> None:
        raise ZeroDivisionError("nought")

    async def fine(_bench: Bench) -> None:
        return None

    cases = [
        Case(id=f"x.{name}", title="", rule="", section="1", severity=Severity.MUST, run=run)
        for name, run in (("a", broken), ("b", fine))
    ]
    run = check(product("pet-house"), cases=cases)
    assert [result.verdict for result in run.results] == [Verdict.BROKEN, Verdict.PASSED]
    assert "ZeroDivisionError" in run.results[0].reason


def test_cases_that_look_on_have_something_to_look_at_when_they_are_alone() -> None:
    """And what they were shown is put back."""
    run = check(product("pet-house"), ("report-tail",), named(("report.layout",)))
    assert [result.verdict for result in run.results] == [Verdict.FAILED]
    run = check(product("pet-house"), ("bad-checksum-sometimes",), named(("framing.all-good",)))
    assert [result.verdict for result in run.results] == [Verdict.FAILED]
    assert not run.restored


def test_an_interrupted_run_is_told_and_is_not_green() -> None:
    told: list[RunResult] = []

    async def main() -> None:
        async with benched(product("pet-house")) as bench:
            running = asyncio.create_task(run_cases(bench, named(("control",)), cut_short=told.append))
            while not told and bench.line.now() < 5:
                await bench.line.listen(0.5)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    run_virtual(main())
    (run,) = told
    assert run.results
    assert "interrupted" in run.stopped
    suite = ET.fromstring(report_junit.render(run))[0]
    assert suite.get("errors") == "1"
    assert suite.findall("testcase")[-1].find("error") is not None


def test_the_secret_stays_out_of_reports() -> None:
    secret = "0123456789abcdef0123456789abcdef"
    payload = b"0" * 64 + bytes(10) + secret.encode()
    frame = Frame(0x02, 1, payload)
    entry = Entry(0.0, "received", frame, frame.encode())
    words = Words(product("pet-house"))
    assert secret not in words.tree(entry)
    assert secret.encode().hex(" ", 8) not in words.tree(entry)
    assert "********" in words.tree(entry)


def test_many_values_make_no_endless_sentence() -> None:
    async def main() -> str:
        async with benched(product("greenhouse")) as bench:
            values = await bench.read()
            return bench.shown(values, values)

    assert run_virtual(main()).endswith(" more")


# --- files


def test_files_are_tried_before_the_run_and_left_as_they_are(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("old")
    outputs.Outputs(html=str(page), report=str(tmp_path / "new.xml"))
    assert page.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(CaptureError, match="directory"):
        outputs.Outputs(html=str(tmp_path / "nowhere" / "page.html"))


def test_one_file_that_fails_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = outputs.Outputs(report=str(tmp_path / "r.xml"), html=str(tmp_path / "r.html"))
    write = outputs._write

    def full(path: str, data: bytes) -> None:
        if path.endswith(".xml"):
            raise CaptureError(path, os.strerror(errno.ENOSPC))
        write(path, data)

    monkeypatch.setattr(outputs, "_write", full)
    errors = files.write(check(product("pet-house"), cases=named(("info.answered",))))
    assert [error.source for error in errors] == [str(tmp_path / "r.xml")]
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_a_capture_is_written_as_it_happens(tmp_path: Path) -> None:
    """A run that is killed has no end at which anything could be written."""
    path = tmp_path / "run.jsonl"
    path.write_text("old")
    files = outputs.Outputs(capture=str(path), product_key="0123")
    assert path.read_text() == "old", "nothing has crossed the line yet"
    files.recorded("sent", b"\xff\xff", 0.5)
    meta, record = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert meta["meta"]["product_key"] == "0123"
    assert record == {"t": 0.5, "dir": "module>mcu", "hex": "ffff"}
    files._close_capture(check(product("pet-house"), cases=()))


def test_a_capture_that_cannot_grow_costs_the_capture_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = outputs.Outputs(capture=str(tmp_path / "run.jsonl"), html=str(tmp_path / "r.html"))

    def full(_recorder: CaptureRecorder, _record: object) -> None:
        raise CaptureError("run.jsonl", os.strerror(errno.ENOSPC))

    monkeypatch.setattr(CaptureRecorder, "add", full)
    files.recorded("sent", b"\xff\xff", 0.5)
    files.recorded("sent", b"\xff\xff", 0.6)
    errors = files.write(check(product("pet-house"), cases=named(("info.answered",))))
    assert [error.source for error in errors] == ["run.jsonl"]
    assert (tmp_path / "r.html").exists()


async def test_one_name_for_two_files_is_refused() -> None:
    status, out, err = await gizsim(
        *("check", "--port", "loop://", "-p", PET, "--html", "x.report", "--report", "x.report")
    )
    assert (status, out) == (2, "")
    assert "same file" in err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no virtual serial ports, and other signals")
async def test_ctrl_c_tells_what_there_is_and_puts_back(tmp_path: Path) -> None:
    link, capture, page = tmp_path / "mcu", tmp_path / "run.jsonl", tmp_path / "run.html"
    async with mcu_process(link, PET), asyncio.timeout(30):
        run = await asyncio.create_subprocess_exec(
            *(*MAIN, "check", "--port", str(link), "-p", PET, "--only", "control"),
            *("--capture", str(capture), "--html", str(page)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert run.stdout is not None
        assert b"control.bool" in await run.stdout.readline()
        run.send_signal(signal.SIGINT)
        out, err = await run.communicate()
    assert run.returncode == 130
    assert b"interrupted" in out
    assert err.strip() == b""
    assert capture.read_text(encoding="utf-8").count("\n") > 10
    assert "interrupted" in page.read_text(encoding="utf-8")
