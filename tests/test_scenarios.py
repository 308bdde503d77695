"""Scenarios: every fixture passes in virtual time, errors say their place, a seed repeats a run."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from click.testing import Result as CliResult
from support_io import eventually

from gizserial.io.ports import open_port
from gizserial.io.products import load_product
from sim.cli.run import run
from sim.clock import run_virtual
from sim.cloud.errors import NoAnswer
from sim.cloud.hub import Hub
from sim.mcu import McuSimulator, mcu_show
from sim.scenario import Result, Scenario, ScenarioError, run_scenario
from sim.scenario.grammar import schema
from sim.scenario.report import junit

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = sorted((ROOT / "fixtures" / "scenarios").glob("*.yaml"))
HEAD = "setup: {product: pet-house.json}\nsteps:\n"
PRODUCTS = ROOT / "fixtures" / "products"


def parsed(text: str, head: str = HEAD) -> Scenario:
    return Scenario.parse(head + text, source="test.yaml", base=PRODUCTS)


def play(text: str, head: str = HEAD, **kwargs: Any) -> Result:
    return run_virtual(run_scenario(parsed(text, head), **kwargs))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_fixtures_pass(path: Path) -> None:
    result = run_virtual(run_scenario(Scenario.load(path)))
    assert result.passed, result.summary


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_fixtures_are_as_the_schema_says(path: Path) -> None:
    # PyYAML is YAML 1.1, to which the bare word "on" is true; editors read YAML 1.2.
    text = path.read_text(encoding="utf-8").replace("{on:", '{"on":')
    jsonschema.validate(yaml.safe_load(text), schema())


def test_the_schema_file_is_that_of_the_model() -> None:
    stored = json.loads((ROOT / "sim" / "scenario" / "schema.json").read_text(encoding="utf-8"))
    assert stored == schema()
    jsonschema.Draft202012Validator.check_schema(stored)


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("- snd: heartbeat", 3, 3, "there is no step 'snd'; did you mean 'send'?"),
        ("- send: hartbeat", 3, 3, "there is no frame 'hartbeat'"),
        ("- send: control LED_X=1", 3, 3, "there is no data point 'LED_X'"),
        ("- set: {LED_R: 300}", 3, 3, "LED_R: 300 is not allowed"),
        ("- expect: {frame: report, with: 1s}", 3, 27, "did you mean 'within'?"),
        ("- expect: {frame: rport}", 3, 19, "did you mean 'report'?"),
        ("- expect: {within: 1s}", 3, 11, "exactly one of: frame, nothing, values"),
        ("- wait: soon", 3, 9, "'soon' is no time"),
        ("- fault: los:0.1", 3, 10, "there is no fault 'los'"),
        ("- send: control LED_R=${x}", 3, 3, "there is no variable 'x'"),
        ("- {wait: 1s, send: heartbeat}", 3, 3, "a step does one thing"),
        ("- send: {hex: FFF, from: module}", 3, 15, "is not hex"),
        ("- repeat: {times: 0, steps: [{wait: 1s}]}", 3, 19, "a whole number from 1"),
        ("- repeat: {times: 1, steps: []}", 3, 29, "the list is empty"),
        ("- set: {LED_R: ${x}}", 3, 17, 'needs quotes: "${NAME}"'),
        ("- parallel:\n  - wait: 1s", 4, 5, "a branch, which is a list of steps: - - wait: 1s"),
        ("- expect: {frame: report, not before: 3s}", 3, 3, "not before is later than within, which is 2 s"),
        ("- expect: {values: {LED_R: {min: 2, max: 1}}}", 3, 3, "LED_R: min 2 is more than max 1"),
        ("- wait: [", 4, 1, ""),
        ("- wait: 1s\n  wait: 2s", 4, 3, "wait is given twice"),
        ("- send: heartbeat\n   - wait: 1s", 4, 10, "is the indentation right?"),
        ("- send: heartbeat\n - wait: 1s", 4, 2, "begins in one column"),
        ("- send: heartbeat\n\t- wait: 1s", 4, 1, "spaces, not with tabs"),
        ("- wait: \x07", 3, 9, "the character 0x7"),
        ("- wait: 1\n--- {}", 4, 1, "one file holds one scenario"),
        ("- *a", 3, 3, "undefined alias 'a': no &NAME stands before it"),
        ("- &a {repeat: {times: 2, steps: [*a]}}", 3, 3, "nested too deeply"),
        ("- wait: !!bool abc", 3, 9, "'abc' is no bool"),
        ("- wait: !!timestamp x", 3, 9, "'x' is no time"),
        ("- wait: 1:30", 3, 9, "'1:30' is no time"),
        (f"- wait: {'9' * 5000}", 3, 9, "…"),
        ("- {<<: {}, wait: 1}", 3, 4, "<< is not known"),
        ("- send: ''", 3, 3, "there is no frame ''"),
        ("- expect: ''", 3, 3, "there is no frame ''"),
        ("- repeat: {forever: false, steps: [{wait: 1}]}", 3, 21, "here stands true"),
        ("- repeat: {times: 2, as: a b, steps: [{wait: 1}]}", 3, 26, "no name of a variable"),
        ("- wait: ${a b}", 3, 9, "no time"),
        ("- send: control LED_R=${1}", 3, 3, "a variable is written"),
        # What would be true whatever comes, or says nothing:
        ("- expect: {frame: report, for: 1s}", 3, 27, "for: says something beside nothing: only"),
        ("- expect: {nothing: report, within: 1s}", 3, 29, "within: says something beside frame: or"),
        ("- expect: {nothing: report, count: 1}", 3, 29, "count: says"),
        ("- expect: {values: {LED_R: 0}, attrs: {LED_R: 9}}", 3, 32, "attrs: says"),
        ("- expect: {values: {}}", 3, 20, "nothing is named"),
        ("- expect: {values: {LED_R: {tolerance: 5}}}", 3, 28, "one of: is, min, max, not, in"),
        ("- expect: {values: {LED_R: {min: few}}}", 3, 34, "a number"),
        ("- expect: {values: {LED_OnOff: {min: 1}}}", 3, 3, "LED_OnOff is no number"),
        ("- expect: {nothing: report, attrs: {LED_Color: 绿色}}", 3, 3, "one of '自定义'"),
        ("- expect: {nothing: status, fields: {clod: true}}", 3, 3, "there is no field 'clod'"),
        ("- expect: {nothing: heartbeat, fields: {a: 1}}", 3, 3, "heartbeat has none"),
        ("- expect: {nothing: status, attrs: {LED_R: 1}}", 3, 3, "status has no data points"),
        ("- expect: {nothing: error, sn: 1}", 3, 3, "error has none"),
        ("- send: {hex: '00', sn: 3, from: mcu}", 3, 21, "sn: says"),
        ("- set: {}", 3, 8, "nothing is named"),
        ("- wifi: {}", 3, 9, "wifi has one of"),
        ("- cloud: {control: {LED_R: 9}, within: 1s}", 3, 32, "within: says"),
        ("- cloud: cut", 3, 3, "there is no cloud; write cloud: pretended"),
        ("- cloud: {time: noon}", 3, 17, "'noon' is no time, as 2024-"),
        ("- cloud: {time: 1969-12-31}", 3, 17, "between 1970 and 2106"),
    ],
)
def test_errors_say_where_and_what_to_do(text: str, line: int, column: int, says: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parsed(f"{text}\n")
    place = caught.value.place
    assert place is not None
    assert (place.line, place.column) == (line, column)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"test.yaml:{line}:")


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("", "test.yaml: it is empty"),
        ("steps: [{wait: 1}]\n", "needs setup"),
        ("setup: {product: none.json}\nsteps: [{wait: 1}]\n", "test.yaml:1:18: "),
        ("setup: {product: pet-house.json, baud: fast}\nsteps: [{wait: 1}]\n", "a whole number from 50"),
        (
            "setup: {product: pet-house.json, clock: virtual, mcu: {port: COM3}}\nsteps: [{wait: 1}]\n",
            "needs the real clock",
        ),
        ("\tsteps\n", "test.yaml:1:1: "),
        ("[" * 60 + "]" * 60, "nested too deeply"),
        ("a: &a [1,1,1]\n", "no member 'a'"),
        ("[" * 100_000, "nested too deeply"),
        (
            "a0: &a0 [1, 1, 1, 1]\n"
            + "".join(f"a{n + 1}: &a{n + 1} [{','.join([f'*a{n}'] * 9)}]\n" for n in range(9)),
            "many parts",
        ),
        ("setup: {product: [a]}\nsteps: [{wait: 1}]\n", "test.yaml:1:18: here stands a path"),
        (
            "setup: {product: pet-house.json, seed: '${x}'}\nsteps: [{wait: 1}]\n",
            ":1:40: variables stand in steps",
        ),
        ("setup: {product: pet-house.json, faults: ['loss:${x}']}\nsteps: [{wait: 1}]\n", ":1:42: variables"),
        ("setup: {product: pet-house.json, module: {mac: xx}}\nsteps: [{wait: 1}]\n", ":1:48: mac: xx is"),
        (
            "setup: {product: pet-house.json, mcu: {quirks: {a: 1}}}\nsteps: [{wait: 1}]\n",
            ":1:48: there is no",
        ),
        ("setup: {product: pet-house.json, mcu: {defects: [a]}}\nsteps: [{wait: 1}]\n", ":1:49: there is no"),
        (
            "setup: {product: pet-house.json, mcu: {values: {LED_R: 999}}}\nsteps: [{wait: 1}]\n",
            ":1:48: LED_R",
        ),
        ("setup: {product: pet-house.json}\nvariables: {a-b: 1}\nsteps: [{wait: 1}]\n", ":2:13: 'a-b' is no"),
    ],
)
def test_a_setup_that_is_none(head: str, says: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parsed("", head)
    assert says in str(caught.value)


def test_any_text_is_a_scenario_or_an_error() -> None:
    whole = SCENARIOS[0].read_bytes()
    for size in range(0, len(whole), 7):
        with contextlib.suppress(ScenarioError):
            Scenario.parse(whole[:size], source="cut.yaml", base=SCENARIOS[0].parent)


# --- failures


def test_a_failure_says_the_step_what_was_expected_and_what_came() -> None:
    result = play("- send: control LED_R=30\n- expect: {frame: report, attrs: {LED_R: 31}, within: 500ms}\n")
    assert not result.passed
    assert result.summary.startswith("test.yaml:4:3: expect")
    assert "expected: report LED_R=31 within 0.5 s" in result.summary
    assert "LED_R=30" in result.summary
    assert "<- LED_R is 30, not 31" in result.summary
    assert "--seed 1" in result.summary


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (
            "- send: heartbeat\n- expect: {frame: heartbeat_ack, within: 5ms}\n",
            "heartbeat_ack within 0.005 s",
        ),
        ("- send: heartbeat\n- expect: {frame: heartbeat_ack, not before: 1s}\n", "too early"),
        ("- send: heartbeat\n- expect: {frame: heartbeat_ack, count: 2}\n", "2 times heartbeat_ack"),
        ("- send: heartbeat\n- expect: {nothing: any}\n", "nothing at all for 1 s"),
        ("- expect: {values: {LED_R: {min: 1, max: 3}}}\n", "LED_R is 0, less than 1"),
        ("- fault: mute\n- send: heartbeat\n- expect: {frame: heartbeat, arrived: true}\n", "no heartbeat"),
        ("- parallel:\n  - [{wait: 1h}]\n  - [{expect: noise}]\n", "noise within 2 s"),
        ("- wait: 11min\n", "the end of the scenario within 600 s"),
        ("- repeat: {forever: true, steps: [{wait: 0}]}\n", "20000 steps"),
    ],
)
def test_what_is_not_so_fails(steps: str, says: str) -> None:
    assert says in play(steps).summary


def test_what_is_so_passes() -> None:
    steps = """
- send: heartbeat
- expect: {frame: heartbeat_ack, count: 1, within: 1s}
- expect: {nothing: error, for: 2s}
- fault: {on: ["corrupt:1@module>mcu"], for: 100ms}
- send: {frame: heartbeat, sn: 77}
- expect: {frame: heartbeat, sn: 77}
- expect: {frame: heartbeat, arrived: true, count: 0, within: 1s}
- set: {Temperature: 20}
- expect: {frame: report, attrs: {Temperature: {is: 20.4, tolerance: 0.5, not: 3, in: [20, 21]}}}
- press: time
- expect: {frame: network_time_ack, fields: {year: 0}}
- wifi: {signal: 20}
- restart: module
- expect: {frame: device_info, within: 5s}
"""
    result = play(steps)
    assert result.passed, result.summary


@pytest.mark.parametrize("direction", ["module>mcu", "mcu>module"])
@pytest.mark.parametrize("fault", ["noise:0.2,8", "write-loss:0.2", "split:3,5ms", "delay:5ms..20ms"])
def test_a_fault_of_writes_hits_writes_and_not_their_bytes(fault: str, direction: str) -> None:
    head = HEAD.replace("json", f"json, cloud: pretended, faults: ['{fault}@{direction}']")
    steps = """
- send: control LED_R=30
- expect: {frame: report, attrs: {LED_R: 30}, within: 5s}
- cloud: {expect: {LED_R: 30}}
"""
    assert play(steps, head).passed


def test_of_two_branches_that_fail_at_once_the_first_is_told() -> None:
    branches = "".join(
        f"  - [{{name: branch {n}, expect: {{frame: noise, within: 1s}}}}]\n" for n in range(9)
    )
    result = play(f"- parallel:\n{branches}")
    assert result.failed is not None
    assert result.failed.step.name == "branch 0"


def test_variables_are_put_in() -> None:
    head = HEAD.replace("steps:", "variables: {level: 30, name: LED_R}\nsteps:")
    steps = "- send: control ${name}=${level}\n- expect: {values: {LED_R: 30}}\n"
    assert play(steps, head).passed
    assert "LED_R is 31" in play(steps, head, variables={"level": "31"}).summary
    with pytest.raises(ScenarioError, match="there is no variable 'other'; it has: level, name"):
        play(steps, head, variables={"other": 1})


@pytest.mark.parametrize(
    ("step", "value"),
    [
        ("repeat: {times: '${n}', steps: [{wait: 1}]}", -3),
        ("repeat: {times: '${n}', steps: [{wait: 1}]}", "few"),
        ("send: {frame: heartbeat, sn: '${n}'}", 300),
        ("expect: {frame: heartbeat, count: '${n}'}", "few"),
        ("expect: {values: {LED_R: {is: 1, tolerance: '${n}'}}}", "few"),
        ("wifi: {signal: '${n}'}", 101),
        ("wait: '${n}'", "long"),
        ("wait: '${n}'", -1),
        ("fault: '${n}'", "los"),
        ("send: control LED_R=${n}", 999),
        ("set: {LED_R: '${n}'}", 999),
    ],
)
def test_a_variable_that_cannot_stand_there_is_told_before_the_run(step: str, value: object) -> None:
    head = HEAD.replace("steps:", f"variables: {{n: {value}}}\nsteps:")
    with pytest.raises(ScenarioError, match=r"test.yaml:4:3: "):
        parsed(f"- {step}\n", head)
    good = "loss:0" if step.startswith("fault") else 5
    scenario = parsed(f"- {step}\n", HEAD.replace("steps:", f"variables: {{n: {good}}}\nsteps:"))
    with pytest.raises(ScenarioError, match=r"test.yaml:4:3: "):
        run_virtual(run_scenario(scenario, variables={"n": str(value)}))


def test_texts_are_taken_as_they_were_typed() -> None:
    scenario = parsed("- send: {hex: 00112233, from: module}\n- wifi: {ap: {ssid: 0123, password: yes}}\n")
    assert scenario.steps[0].args["hex"] == "00112233"
    assert scenario.steps[1].args["ap"] == {"ssid": "0123", "password": "yes"}
    head = "setup: {product: pet-house.json, module: {mac: 001122334455}}\nsteps:\n"
    assert parsed("- wait: 1\n", head).setup.mac == "001122334455"
    assert parsed("- set: {LED_R: 010}\n").steps[0].args == {"LED_R": 10}, "as in YAML 1.2"


def test_an_enum_is_compared_by_text_and_by_index() -> None:
    head = "setup: {product: pet-house.json, mcu: {values: {LED_Color: 黄色}}}\nsteps:\n"
    for one in ("黄色", "1", "{is: 1}", "{is: 黄色}", "{in: [0, 1]}", "{not: 0}"):
        assert play(f"- expect: {{values: {{LED_Color: {one}}}}}\n", head).passed, one
    for other in ("自定义", "0", "{is: 0}", "{in: [0, 2]}", "{not: 1}", "{not: 黄色}"):
        assert not play(f"- expect: {{values: {{LED_Color: {other}}}}}\n", head).passed, other


def test_the_beginning_of_a_frame_is_not_nothing() -> None:
    steps = """
- parallel:
  - [{expect: {nothing: any, for: 300ms}}]
  - [{wait: 100ms}, {send: {hex: FFFF0005, from: module}}]
"""
    assert "bytes, the beginning of a frame" in play(steps).summary
    assert play(steps.replace("any, for", "any, from: mcu, for")).passed


def test_the_cloud_has_no_use_for_what_it_cannot_do() -> None:
    head = "setup: {product: pet-house.json, cloud: pretended}\nsteps:\n"
    with pytest.raises(ScenarioError, match="Temperature cannot be controlled"):
        parsed("- cloud: {control: {Temperature: 9}}\n", head)
    with pytest.raises(ScenarioError, match="faults need cloud: simulated"):
        parsed("- cloud: {fault: 'slow:1s'}\n", head)
    with pytest.raises(ScenarioError, match="time needs cloud: pretended"):
        parsed("- cloud: {time: 2024-03-14}\n", head.replace("pretended", "simulated"))


def test_a_pretended_cloud_gives_the_time_that_goes_on_with_the_virtual_clock() -> None:
    asked = """
- press: time
- expect: {frame: network_time_ack, fields: {year: %d, month: %d, day: %d, hour: %d, timestamp: %d}}
"""
    fields = {"zeros": (0, 0, 0, 0, 0), "then": (2024, 3, 14, 12, 1710390199)}
    hour_later = (2024, 3, 14, 13, 1710390199 + 3600)
    head = HEAD.replace("json", "json, cloud: pretended")
    # V108 of serial.md: 2024-03-14 12:23:19 UTC+8, which is the zone of modules unless tz says another.
    for written in ("2024-03-14T12:23:19+08:00", "2024-03-14 04:23:19", "'20240314T042319Z'"):
        told = f"- cloud: {{time: {written}}}\n"
        steps = [asked % fields["zeros"], told, asked % fields["then"], "- wait: 1h\n", asked % hour_later]
        assert play("".join(steps), head.replace("pretended", "pretended, max time: 2h")).passed, written
    assert "off line" in play("- cloud: cut\n- cloud: {time: 2024-03-14}\n", head).summary


def test_looking_into_the_cloud_does_not_move_the_time_that_counts() -> None:
    head = "setup: {product: pet-house.json, cloud: pretended}\nsteps:\n"
    steps = """
- set: {LED_R: 30}
- cloud: {expect: {LED_R: 30}}
- expect: report LED_R=30
- expect: {frame: report, count: 0, within: 3s}
"""
    result = play(steps, head)
    assert result.passed, result.summary


def test_who_sends_must_be_clear() -> None:
    with pytest.raises(ScenarioError, match=r"test.yaml:3:3: who sends this\?"):
        play("- send: {hex: '00'}\n")


@pytest.mark.parametrize("seed", [5, 6])
def test_a_seed_repeats_the_run_byte_by_byte(seed: int) -> None:
    path = ROOT / "fixtures" / "scenarios" / "lossy-line.yaml"

    def crossed(seed: int) -> list[Any]:
        seen: list[Any] = []
        scenario = Scenario.load(path).replaced(seed=seed)
        run_virtual(run_scenario(scenario, tap=lambda *what: seen.append(what)))
        return seen

    first = crossed(seed)
    assert len(first) > 100
    assert crossed(seed) == first
    assert crossed(seed + 10) != first


# --- the command


def invoke(*words: str | Path) -> CliResult:
    return CliRunner().invoke(run, [str(word) for word in words], catch_exceptions=True)


def test_the_command_tells_writes_and_judges(tmp_path: Path) -> None:
    good = ROOT / "fixtures" / "scenarios" / "control-and-report.yaml"
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        f"setup: {{product: {json.dumps(str(PRODUCTS / 'pet-house.json'))}}}\nsteps: [{{expect: noise}}]\n"
    )
    result = invoke(good, bad, "--report", tmp_path / "junit.xml")
    assert result.exit_code == 1, result.output
    assert "11 steps" in result.output
    assert "bad.yaml:2:10: expect noise: failed" in result.output
    suite = ET.parse(tmp_path / "junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    result = invoke(good, "--json", "--capture", tmp_path / "run.jsonl")
    lines = [json.loads(line) for line in result.output.splitlines()]
    assert {line["kind"] for line in lines} == {"scenario", "frame", "step", "result"}
    assert lines[-1]["passed"] is True
    assert (tmp_path / "run.jsonl").read_text().count("module>mcu") > 3


def test_a_scenario_may_come_from_standard_input() -> None:
    text = f"setup: {{product: {PRODUCTS / 'pet-house.json'}}}\nsteps: [{{wait: 1h}}]\nmax time: 2h\n"
    result = CliRunner().invoke(run, ["-"], input=text)
    assert isinstance(result.exception, ScenarioError)
    assert str(result.exception).startswith("-:3:1: a scenario has no member 'max time'")
    result = CliRunner().invoke(run, ["-"], input=text.replace("1h", "1s").partition("max")[0])
    assert result.exit_code == 0, result.output


def test_a_role_to_play_needs_a_port() -> None:
    result = invoke(SCENARIOS[0], "--play", "mcu")
    assert result.exit_code == 2
    assert "name the port" in result.output


async def test_a_device_at_a_port_is_played_to() -> None:
    pet = load_product(PRODUCTS / "pet-house.json")
    line = open_port("tcp-listen:127.0.0.1:0")
    mcu = McuSimulator(line, mcu_show(pet, as_json=False, quiet=True), pet)
    mcu.show.write = lambda _line: None
    task = asyncio.create_task(mcu.run())
    try:
        await eventually(lambda: line.other_end)
        steps = "- send: control LED_R=30\n- expect: report LED_R=30\n"
        scenario = parsed(steps).replaced(mcu_port=line.other_end)
        assert not scenario.setup.virtual
        result = await run_scenario(scenario)
        assert result.passed, result.summary
        with pytest.raises(ScenarioError, match="set needs a simulated mcu"):
            await run_scenario(parsed("- set: {LED_R: 1}\n").replaced(mcu_port=line.other_end))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_what_the_real_one_cannot_do_is_told_before_the_run() -> None:
    for step, other in (("set: {LED_R: 1}", "mcu"), ("wifi: lost", "module")):
        scenario = parsed(f"- wait: 1\n- {step}\n").replaced(**{f"{other}_port": "/dev/there-is-none"})
        with pytest.raises(ScenarioError, match=f"test.yaml:4:3: .* needs a simulated {other}"):
            run_virtual(run_scenario(scenario))


def test_a_real_module_is_looked_at_from_the_start() -> None:
    scenario = parsed("- wait: 1\n")
    assert scenario.setup.running
    assert not scenario.replaced(module_port="COM3").setup.running
    head = "setup: {product: pet-house.json, begin: running, module: {port: COM3}}\nsteps:\n"
    assert parsed("- wait: 1\n", head).setup.running


async def test_a_port_where_nobody_is_is_told_and_ends() -> None:
    told: list[str] = []
    scenario = parsed("- wait: 1\n").replaced(mcu_port="tcp-listen:127.0.0.1:0", max_time=0.2)
    result = await run_scenario(scenario, on_waiting=told.append)
    assert not result.passed
    assert told[0].startswith("socket://127.0.0.1:")


async def test_a_simulated_cloud_is_a_real_one() -> None:
    head = "setup: {product: pet-house.json, cloud: simulated}\nsteps:\n"
    steps = """
- cloud: {online: true, within: 10s}
- wait: 500ms
- cloud: {control: {LED_R: 30}}
- cloud: {expect: {LED_R: 30}}
- cloud: refuse
- cloud: cut
- cloud: {online: false}
"""
    result = await run_scenario(parsed(steps, head))
    assert result.passed, result.summary


async def test_a_control_that_is_not_acknowledged_fails_at_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """device-cloud.md R12: the cloud gives up when no 0094 comes."""

    async def unanswered(_hub: Hub, did: str, _p0: bytes) -> bytes:
        raise NoAnswer(did, "it did not acknowledge")

    monkeypatch.setattr(Hub, "control", unanswered)
    head = "setup: {product: pet-house.json, cloud: simulated}\nsteps:\n"
    steps = "- cloud: {online: true, within: 10s}\n- cloud: {control: {LED_R: 30}}\n"
    result = await run_scenario(parsed(steps, head))
    assert result.failed is not None
    assert result.failed.step.place.line == 4
    assert "it did not acknowledge" in result.summary


def test_outputs_are_tried_before_anything_is_played(tmp_path: Path) -> None:
    for option, name in (("--report", "none/junit.xml"), ("--capture", "none/run.jsonl")):
        result = invoke(SCENARIOS[0], option, tmp_path / name)
        assert result.exit_code != 0
        assert "its directory does not exist" in str(result.exception)
        assert not result.output


def test_a_run_that_breaks_off_keeps_its_report(tmp_path: Path) -> None:
    for name, step in (("a", "wait: 1s"), ("b", "send: {hex: '00'}"), ("c", "wait: 1s")):
        (tmp_path / f"{name}.yaml").write_text(
            f"setup: {{product: {json.dumps(str(PRODUCTS / 'pet-house.json'))}}}\nsteps: [{{{step}}}]\n"
        )
    report = tmp_path / "junit.xml"
    result = invoke(*(tmp_path / f"{name}.yaml" for name in "abc"), "--report", report)
    assert isinstance(result.exception, ScenarioError)
    suite = ET.parse(report).getroot()[0]
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == ["2", "0", "1"]
    error = suite[1].find("error")
    assert error is not None
    assert "b.yaml:2:10: who sends this?" in str(error.get("message"))


def test_the_command_prints_the_schema() -> None:
    assert json.loads(invoke("--schema").output) == schema()


def test_junit_of_nothing_is_a_document() -> None:
    assert ET.fromstring(junit([])).tag == "testsuites"
