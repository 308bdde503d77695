"""The conformance suite against a sound simulated MCU, and the rules that cases and runs keep."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from support_check import BYTE_TIME, Finger, benched, check, product
from support_check import PRODUCTS as PRODUCTS_AT

from gizserial.errors import BodyError, UnknownName
from gizserial.framing import Noise
from gizserial.io.driver import Driver
from gizserial.io.memory import MemoryLink
from gizserial.io.memory_transport import MemoryTransport
from gizserial.io.products import load_product
from gizserial.mcu import McuRole
from gizserial.mcu_options import McuOptions
from sim.clock import LoopClock, run_virtual
from sim.conformance.bench import Bench
from sim.conformance.cases import CASES, named
from sim.conformance.exchanges import freed
from sim.conformance.line import BenchLine
from sim.conformance.model import Entry, RunResult, Setting, Verdict
from sim.conformance.runner import run_cases

PRODUCTS = ("pet-house", "var-len", "heater", "wide-bits", "holes", "ci-lamp", "quarter-kilobyte")


def wrong(run: RunResult) -> dict[str, str]:
    return {
        result.case.id: result.reason or "; ".join(finding.text for finding in result.findings)
        for result in run.results
        if result.verdict in {Verdict.FAILED, Verdict.BROKEN}
    }


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_sound_mcu_passes(name: str) -> None:
    run = check(product(name))
    assert wrong(run) == {}
    assert not run.restored
    assert not run.stopped
    assert len(run.of(Verdict.PASSED)) > 60


BOOL = {"data_type": "bool", "position": {"byte_offset": 0, "bit_offset": 0, "len": 1, "unit": "bit"}}
ONLY_FIVE = {
    "data_type": "uint8",
    "position": {"byte_offset": 0, "bit_offset": 0, "len": 1, "unit": "byte"},
    "uint_spec": {"min": 5, "max": 5, "ratio": 1, "addition": 0},
}


@pytest.mark.parametrize("protocol", ["standard", "var_len"])
@pytest.mark.parametrize(
    ("point", "access"),
    [(None, ""), (BOOL, "status_writable"), (BOOL, "alert"), (ONLY_FIVE, "status_writable")],
)
def test_products_with_hardly_a_point(
    tmp_path: Path, protocol: str, point: dict[str, object] | None, access: str
) -> None:
    told = json.loads((PRODUCTS_AT / "pet-house.json").read_text(encoding="utf-8"))
    told["protocolType"] = protocol
    told.pop("ui", None)
    names = {"id": 0, "name": "Only", "display_name": "Only", "desc": "", "type": access}
    told["entities"][0]["attrs"] = [] if point is None else [names | point]
    path = tmp_path / "product.json"
    path.write_text(json.dumps(told), encoding="utf-8")
    run = check(load_product(path), byte_time=0.0)
    assert wrong(run) == {}
    assert not run.restored
    assert len(run.of(Verdict.PASSED)) > 40


@pytest.mark.parametrize("name", ["pet-house", "var-len"])
def test_ten_runs_in_a_row_have_no_finding(name: str) -> None:
    # On one MCU that lives on: what a run leaves behind must not fail the next one. On a line without byte
    # time, because bytes that come one by one are most of the work; the other tests run at 9600 baud.
    async def main() -> list[dict[str, str]]:
        async with benched(product(name), byte_time=0.0) as bench:
            return [wrong(await run_cases(bench, CASES)) for _ in range(10)]

    assert run_virtual(main()) == [{}] * 10


@pytest.mark.parametrize("name", ["pet-house", "var-len"])
def test_every_case_can_run_somewhere_and_the_slow_ones_pass(name: str) -> None:
    run = check(product(name), cases=named(("report.full",)), slow=True)
    assert [result.verdict for result in run.results] == [Verdict.PASSED]
    assert run.seconds > 500


def test_no_case_is_skipped_in_all_products() -> None:
    passed = {
        result.case.id
        for name in ("pet-house", "var-len", "ci-lamp", "quarter-kilobyte")
        for result in check(product(name), slow=True, byte_time=0.0).of(Verdict.PASSED)
    }
    assert {case.id for case in CASES} - passed == set()


def test_values_are_as_they_were_found() -> None:
    pet = product("pet-house")
    before = {"LED_OnOff": True, "LED_R": 100, "Motor_Speed": -3}

    async def main() -> dict[str, object]:
        ours, theirs = MemoryTransport.pair(MemoryLink(byte_time=BYTE_TIME))
        role = McuRole(pet, McuOptions(byte_time=BYTE_TIME), values=before)
        async with Driver(role, theirs, clock=LoopClock()) as driver:
            line = BenchLine(ours, byte_time=BYTE_TIME)
            await line.open()
            # Without the restart: it makes the simulated MCU forget, and the bench puts that right as well.
            cases = [case for case in CASES if case.id != "restart.mcu"]
            await run_cases(Bench(line, Setting(product=pet), person=Finger(driver, role)), cases)
            await line.close()
        return {name: role.value(name) for name in before}

    assert run_virtual(main()) == before


def test_points_that_are_left_alone_are_never_written() -> None:
    pet = product("pet-house")
    left = frozenset({"LED_OnOff", "Motor_Speed"})
    touched: Counter[str] = Counter()

    async def main() -> RunResult:
        ours, theirs = MemoryTransport.pair(MemoryLink(byte_time=BYTE_TIME))
        role = McuRole(pet, McuOptions(byte_time=BYTE_TIME))
        async with Driver(role, theirs, clock=LoopClock()):
            line = BenchLine(ours, byte_time=BYTE_TIME)
            await line.open()
            bench = Bench(line, Setting(product=pet, leave=left))
            run = await run_cases(bench, CASES)
            for entry in line.entries:
                frame = entry.frame
                if entry.direction == "sent" and frame is not None and frame.payload[:1] == b"\x01":
                    with contextlib.suppress(BodyError):  # a control that is too short on purpose
                        touched.update(bench.p0.parse(frame.payload, frame.command).raw or {})
            await line.close()
        return run

    assert wrong(run_virtual(main())) == {}
    assert touched
    assert not left & set(touched)


def test_a_silent_peer_ends_in_plain_words() -> None:
    told: list[str] = []

    async def main() -> RunResult:
        ours, theirs = MemoryTransport.pair(MemoryLink(byte_time=BYTE_TIME))
        await theirs.open(lambda _event: None)
        line = BenchLine(ours, byte_time=BYTE_TIME)
        await line.open()
        bench = Bench(line, Setting(product=product("pet-house")))
        run = await run_cases(bench, CASES, waiting=told.append)
        await line.close()
        await theirs.close()
        return run

    run = run_virtual(main())
    (result,) = run.results
    assert told == ["the MCU does not answer yet: waiting up to 15 s ..."]
    assert run.stopped.startswith("nothing came from the MCU; check its power")
    assert result.verdict is Verdict.FAILED
    assert result.findings[0].text == "device_info (sn 5) was not acked within 1 s"
    assert "never acked" in run.facts["handshake"]


def test_a_line_that_goes_down_ends_the_run() -> None:
    async def main() -> RunResult:
        ours, theirs = MemoryTransport.pair(MemoryLink(byte_time=BYTE_TIME))
        role = McuRole(product("pet-house"), McuOptions(byte_time=BYTE_TIME))
        async with Driver(role, theirs, clock=LoopClock()) as driver:
            line = BenchLine(ours, byte_time=BYTE_TIME)
            await line.open()

            def gone(number: int, _count: int, _case: object, result: object) -> None:
                if number == 3 and result is None:
                    driver.stop()
                    theirs._peer._down("unplugged")  # type: ignore[union-attr]

            bench = Bench(line, Setting(product=product("pet-house")))
            run = await run_cases(bench, CASES, progress=gone)
            await line.close()
        return run

    run = run_virtual(main())
    assert "unplugged" in run.stopped
    assert len(run.results) == 3
    assert run.results[-1].verdict is Verdict.BROKEN


def test_an_interrupted_run_puts_values_back() -> None:
    pet = product("pet-house")

    async def main() -> dict[str, object]:
        async with benched(pet) as bench:
            before = await bench.read()
            running = asyncio.create_task(run_cases(bench, named(("control",))))
            while nothing_changed(bench, before):
                await bench.line.listen(0.1)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            after = await bench.read()
        assert dict(after) == dict(before)
        return dict(after)

    assert run_virtual(main())


def nothing_changed(bench: Bench, before: dict[str, int | bytes]) -> bool:
    return all(bench.values.get(name, value) == value for name, value in before.items())


# --- the table of cases


def test_ids_are_unique_and_well_formed() -> None:
    ids = [case.id for case in CASES]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z]+\.[a-z0-9-]+", name) for name in ids)


def test_every_case_says_what_and_why_and_where() -> None:
    for case in CASES:
        assert len(case.title) > 15, case.id
        assert len(case.rule) > 40, case.id
        assert re.fullmatch(r"[A-Z0-9].{20,}\.", case.remedy), case.id
        assert re.match(r"[0-9R]", case.section), case.id


def test_sections_exist_in_the_specification() -> None:
    spec = Path(__file__).resolve().parents[2] / "shared" / "spec" / "serial.md"
    if not spec.exists():
        pytest.skip("the specification is not beside the clone")
    text = spec.read_text(encoding="utf-8")
    for case in CASES:
        for section in case.section.split(", "):
            found = (
                f"| {section} |" in text
                if section[0] == "R"
                else re.search(rf"^#+ {section}[. ]", text, re.MULTILINE)
            )
            assert found, f"{case.id}: {section}"


def test_looking_for_cases() -> None:
    assert {case.group for case in named(("framing",))} == {"framing"}
    assert [case.id for case in named(("ack.*",))] == [case.id for case in CASES if case.group == "ack"]
    with pytest.raises(UnknownName, match=r"framing\.escape-sn"):
        named(("framing.escape-sm",))


@pytest.mark.parametrize("defect", ["report-every-second", "report-on-heartbeat"])
def test_no_ack_of_the_bench_lands_inside_a_frame_that_it_sends_in_pieces(defect: str) -> None:
    run = check(product("greenhouse"), (defect,), named(("framing.split",)))
    assert [result.verdict for result in run.results] == [Verdict.PASSED]


def test_what_came_instead_of_an_ack_is_named() -> None:
    of = product("greenhouse")
    run = check(of, ("ack-wrong-sn",), named(("ack.heartbeat",)))
    assert "was acked with sn" in run.results[0].findings[0].text
    run = check(of, ("checksum-with-header",), named(("ack.heartbeat",)))
    assert "was answered with something that is not a good frame" in run.results[0].findings[0].text


def test_a_frame_that_began_in_time_excuses_an_ack_and_one_that_began_late_does_not() -> None:
    def came(began: float, time: float) -> Entry:
        return Entry(time, "received", Noise(0, b"x"), b"x", "", began)

    assert freed(1.0, came(1.1, 1.6)) == 1.6
    assert freed(1.0, came(1.5, 1.51)) == 1.0
