"""Reports of a conformance run: the terminal, JSON Lines, JUnit XML and the page."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import click
import pytest
from click.testing import CliRunner
from support_check import MAIN, check, mcu_process, product

from gizserial.framing import Frame
from gizserial.io.files import open_capture
from sim.cli.check import check as check_command
from sim.conformance import report_html, report_json, report_junit, report_text, runner
from sim.conformance.cases import BY_ID, named
from sim.conformance.model import CaseResult, Entry, Finding, RunResult, Severity, Verdict

ROOT = Path(__file__).resolve().parents[1]
PET = str(ROOT / "fixtures" / "products" / "pet-house.json")
HEARTBEAT = Frame(0x07, 1)


def result(name: str, verdict: Verdict, text: str = "") -> CaseResult:
    entry = Entry(1.5, "sent", HEARTBEAT, HEARTBEAT.encode(), "a <note>", 1.49)
    findings = (Finding(text, "this & that", "<nothing>", entry),) if text else ()
    return CaseResult(case=BY_ID[name], verdict=verdict, findings=findings, entries=(entry,) if text else ())


RUN = RunResult(
    product=product("pet-house"),
    results=(
        result("ack.heartbeat", Verdict.FAILED, "acked \x00 too <late>"),
        result("resend.number-checked", Verdict.FAILED, "an ack with another number was taken"),
        result("ack.status", Verdict.PASSED),
        CaseResult(
            case=BY_ID["report.full"], verdict=Verdict.SKIPPED, reason="it waits for minutes (--slow)"
        ),
    ),
    seconds=12.0,
    facts={"software": "00000001"},
)


def test_a_may_is_a_remark() -> None:
    assert [found.case.id for found in RUN.failed()] == ["ack.heartbeat"]
    assert len(RUN.failed(Severity.MAY)) == 2


def test_the_summary_says_what_was_expected_and_what_came() -> None:
    text = click.unstyle(report_text.summary(RUN))
    assert "FAILED  ack.heartbeat: A heartbeat is acked" in text
    assert "remark  resend.number-checked" in text
    assert "expected: this & that" in text
    assert "came:     <nothing>" in text
    assert "module → mcu  heartbeat sn 1  (a <note>)" in text
    assert "FF FF" in text.upper(), "the decoded frame is shown"
    assert "1 passed, 1 failed, 1 with remarks, 1 skipped in 12 s" in text


def test_json_lines() -> None:
    lines = [json.loads(line) for line in report_json.lines(RUN)]
    assert [line["kind"] for line in lines] == ["case"] * 4 + ["summary"]
    assert lines[0]["id"] == "ack.heartbeat"
    assert lines[0]["verdict"] == "failed"
    assert lines[0]["severity"] == "must"
    assert lines[1]["verdict"] == "remark", "it is not counted among the failed"
    assert lines[0]["findings"][0]["frame"]["name"] == "heartbeat"
    assert lines[3]["reason"] == "it waits for minutes (--slow)"
    assert lines[-1] == {
        "kind": "summary",
        "passed": 1,
        "failed": 1,
        "skipped": 1,
        "broken": 0,
        "remarks": 1,
        "seconds": 12.0,
        "mcu": {"software": "00000001"},
    }


def test_junit() -> None:
    suites = ET.fromstring(report_junit.render(RUN))
    (suite,) = suites
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "1")
    cases = suite.findall("testcase")
    failure = cases[0].find("failure")
    assert failure is not None
    assert failure.get("message") == "acked \ufffd too <late>", "what XML cannot hold is replaced"
    assert "expected: this & that" in str(failure.text)
    assert cases[1].find("failure") is None
    assert cases[1].find("system-out") is not None, "a remark is told and is no failure"
    assert cases[3].find("skipped") is not None


def test_the_page_stands_alone_and_is_escaped() -> None:
    page = report_html.render(RUN)
    assert "<svg" in page
    assert "acked \ufffd too &lt;late&gt;" in page
    assert "<late>" not in page
    assert "http" not in page, "nothing is loaded from anywhere"
    assert page.count('<h2 id="') == 3
    for tag in ("svg", "g", "table", "div", "pre", "h2"):
        assert page.count(f"<{tag}>") + page.count(f"<{tag} ") == page.count(f"</{tag}>"), tag


def test_a_run_in_virtual_time_gives_reports_of_real_frames() -> None:
    run = check(product("var-len"), cases=named(("ack", "read")))
    text = click.unstyle(report_text.summary(run))
    assert "0 failed" in text
    assert ET.fromstring(report_junit.render(run))[0].get("failures") == "0"


# --- the command


async def gizsim(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(*MAIN, *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return int(process.returncode or 0), out.decode(), err.decode()


async def test_listing_and_explaining() -> None:
    status, out, _err = await gizsim("check", "--list")
    assert status == 0
    assert len(out.splitlines()) == len(BY_ID)
    status, out, _err = await gizsim("check", "--explain", "framing.escape-sn")
    assert status == 0
    assert "section:  1.6" in out
    assert "severity: must" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--only", "framing.escape-sm"), "framing.escape-sm"),
        (("--skip", "nothing-like-it"), "nothing-like-it"),
        (("--leave", "LED_Onn"), "LED_Onn"),
        (("--capture", "run.docx"), ".docx"),
        (("--port", "/nowhere/at/all"), "/nowhere/at/all"),
    ],
)
async def test_refusals(words: tuple[str, ...], sentence: str) -> None:
    port = () if "--port" in words else ("--port", "loop://")
    status, out, err = await gizsim("check", *port, "-p", PET, *words)
    assert (status, out) == (2, "")
    assert sentence in err
    assert "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no virtual serial ports")
async def test_a_run_against_a_simulated_mcu_over_a_pty(tmp_path: Path) -> None:
    link = tmp_path / "mcu"
    files = {name: tmp_path / name for name in ("j.xml", "r.html", "r.jsonl", "c.pcapng")}
    async with mcu_process(link, PET):
        status, out, err = await gizsim(
            *("check", "--port", str(link), "-p", PET, "--only", "info.*d", "--only", "ack.status"),
            *("--only", "control.bool", "--skip", "info.repeated", "--report", str(files["j.xml"])),
            *("--html", str(files["r.html"]), "--json", str(files["r.jsonl"])),
            *("--capture", str(files["c.pcapng"])),
        )
    assert status == 0, out + err
    assert "[1/4] ok      info.answered" in out
    assert "0 failed" in out
    assert ET.parse(files["j.xml"]).getroot()[0].get("failures") == "0"
    assert "</html>" in files["r.html"].read_text(encoding="utf-8")
    assert len(files["r.jsonl"].read_text(encoding="utf-8").splitlines()) == 5
    with open_capture(str(files["c.pcapng"])) as capture:
        assert sum(1 for _item in capture.items) > 20


def test_json_on_standard_output_is_alone_there(monkeypatch: pytest.MonkeyPatch) -> None:
    # loop:// gives everything back: whoever checks that checks himself, and fails.
    monkeypatch.setattr(runner, "RESTART_PATIENCE", 0.1)
    words = ("--port", "loop://", "-p", PET, "--only", "framing.wrong-direction", "--json", "-")
    result = CliRunner().invoke(check_command, words)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["case", "summary"]
    assert result.exit_code == 1
    assert "only what was sent came back" in lines[1]["stopped"]


def test_what_another_case_has_told_already_is_one_line() -> None:
    """One fault, a read that lacks its last byte, makes many cases fail."""
    run = check(product("greenhouse"), ("read-reply-short",), named(("read", "status.harmless")))
    text = report_text.summary(run)
    assert len(run.failed()) > 2
    assert text.count("What to do:") < len(run.of(Verdict.FAILED))
    assert " (as in status.harmless)" in text
