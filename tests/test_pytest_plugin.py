"""The pytest plugin, as its user meets it: fixtures, failures, options, workers."""

from __future__ import annotations

import json
import socket
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from support_plugin import PRODUCT, project, simulated_board

import sim.cloud.app
import sim.pytest_plugin.bench
import sim.pytest_plugin.cloud  # here, so that pytester does not import them anew for each run
from gizserial.commands import Role
from gizserial.io.products import load_product
from sim.pytest_plugin.lock import PortBusyError, exclusive
from sim.pytest_plugin.names import capture_path, forget_old

pytest_plugins = ["pytester"]

PASSES = """
def test_passes(gizwits_module, gizwits_clock):
    gizwits_module.control(power=True)
    assert gizwits_module.wait_report(power=True)["brightness"] == 0
"""
FAILS = """
def test_fails(gizwits_module, gizwits_clock):
    gizwits_module.control(power=True)
    gizwits_module.wait_report(power=False, timeout=3)
"""


def run(pytester: pytest.Pytester, *words: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist", *words)


@pytest.fixture
def taken() -> Iterator[str]:
    """A PORT at which nobody answers."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"socket://127.0.0.1:{bound.getsockname()[1]}"


XDIST = ("-p", "gizwits", "-p", "xdist.plugin", "-n", "2")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes start faster without the plugins that happen to be installed here."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


# --- fixtures


def test_the_module_against_the_simulated_mcu(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
        import pytest
        from gizserial import EncodeError

        def test_it(gizwits_module, gizwits_product, gizwits_clock):
            module = gizwits_module
            assert module.info.product_key == gizwits_product.product_key
            module.control({"mode": "party"}, power=True, brightness=100)
            assert module.wait_report(mode="party")["power"] is True
            assert module.read()["brightness"] == 100
            word = module.status(router=True, cloud=True, apps=1)
            assert module.peer.wait_status(router=True, app=True)["status"] == word
            module.send_raw(b"hello")
            assert module.peer.wait_raw() == b"hello"
            module.peer.send_raw(b"back")
            assert module.wait_raw() == b"back"
            module.peer.set(temperature=30, power=False)
            assert module.wait_report(temperature=lambda v: v > 29)["power"] is False
            module.no_report(5)
            module.set_time(1_700_000_000)
            assert module.peer.ask_time()["year"] == 2023
            assert module.peer.ask_module_info()["mac"]
            module.reboot()
            module.restart_mcu()
            module.peer.wait_restart()
            with pytest.raises(EncodeError, match="temperature"):
                module.control(temperature=1)
            with pytest.raises(EncodeError, match="there is no frame 'hartbeat'"):
                module.expect("hartbeat")
        """,
    )
    run(pytester).assert_outcomes(passed=1)
    assert not (pytester.path / "gizwits-captures").exists()


def test_the_mcu_against_the_simulated_module(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
        def test_it(gizwits_mcu, gizwits_clock):
            mcu = gizwits_mcu
            mcu.wait_handshake()
            mcu.peer.wait_handshake()
            mcu.peer.control(power=True, brightness=7)
            assert mcu.wait_control(brightness=lambda v: v < 8) == {"power": True, "brightness": 7}
            assert mcu.value("power") is True and mcu.values["brightness"] == 7
            mcu.set(power=False)
            mcu.peer.wait_report(power=False)
            mcu.provision(2)
            mcu.wait_status(onboarding=True, soft_ap=False)
            mcu.reset_module()
            mcu.peer.expect("reset_module")
            mcu.peer.wait_handshake()
        """,
    )
    run(pytester).assert_outcomes(passed=1)


def test_ours_with_ours_and_hours_of_virtual_time(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
        def test_it(gizwits_module, gizwits_mcu, gizwits_clock):
            assert gizwits_module.peer is gizwits_mcu and gizwits_mcu.peer is gizwits_module
            began = gizwits_clock.now()
            gizwits_clock.wait(7200)
            assert gizwits_clock.now() - began >= 7200
            gizwits_module.expect("heartbeat_ack", "p0_from_mcu")
        """,
    )
    run(pytester).assert_outcomes(passed=1)


def test_real_time_threads_and_asynchronous_tests(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
        import asyncio

        async def test_it(gizwits_module, gizwits_port):
            assert gizwits_port.simulated and gizwits_port.baud == 115200
            waiting = asyncio.create_task(asyncio.to_thread(gizwits_module.wait_report, brightness=9))
            await asyncio.to_thread(gizwits_module.control, power=True)
            await asyncio.to_thread(gizwits_module.peer.set, brightness=9)
            assert (await waiting)["power"] is True
        """,
    )
    run(pytester, "--gizwits-baud=115200").assert_outcomes(passed=1)


def test_the_cloud(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
        import pytest

        def test_it(gizwits_module, gizwits_cloud):
            assert gizwits_cloud.bind() == gizwits_cloud.did
            gizwits_cloud.control(power=True)
            gizwits_module.wait_report(power=True)
            assert gizwits_cloud.wait_latest(power=True)["brightness"] == 0
            with pytest.raises(AssertionError, match="9025|attr"):
                gizwits_cloud.control(temperature=1)
        """,
    )
    run(pytester, "--gizwits-baud=115200").assert_outcomes(passed=1)


def test_without_the_extra_the_cloud_is_skipped_with_its_name(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sim.pytest_plugin.cloud, "NEEDED", ("amqtt_that_is_not_there",))
    project(pytester, "def test_it(gizwits_cloud): pass")
    result = run(pytester, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*pip install 'gizserial[[]cloud[]]'*"])


def test_sockets_know_no_virtual_time(pytester: pytest.Pytester) -> None:
    project(pytester, "def test_it(gizwits_cloud, gizwits_clock): pass")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*know no virtual time*"])


# --- failures


def test_a_failed_test_leaves_its_capture_and_shows_its_frames(pytester: pytest.Pytester) -> None:
    project(pytester, PASSES + FAILS)
    result = run(pytester, "--junitxml=junit.xml")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*NotSeenError: no report with power=false among 1, the last one with power=true, within 3 s",
            "*gizwits line (a line in memory)*",
            "*module → mcu  p0_to_mcu sn 1 action 01 control power=true",
            "*mcu → module  p0_from_mcu sn 0 action 04 report power=true mode=white *",
            "capture: *gizwits-captures*test_fails*.jsonl",
        ]
    )
    assert "station.py" not in result.stdout.str().replace("sim.pytest_plugin.station", "")
    (capture,) = (pytester.path / "gizwits-captures").iterdir()
    lines = [json.loads(line) for line in capture.read_text(encoding="utf-8").splitlines()]
    assert lines[0]["meta"]["test"] == "test_it.py::test_fails"
    assert lines[1]["dir"] == Role.MODULE.direction
    assert lines[1]["hex"] == "ffff000501000000" + "06"
    case = ET.parse(pytester.path / "junit.xml").find(".//testcase[@name='test_fails']/properties/property")
    assert case is not None
    assert case.attrib == {"name": "gizwits_capture", "value": str(capture)}


def test_a_mistake_in_a_call_is_told_at_the_line_of_the_user(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
        def test_name(gizwits_module, gizwits_clock):
            gizwits_module.control(powr=True)

        def test_waiting(gizwits_module, gizwits_clock):
            gizwits_module.wait_report(brightness=101)
        """,
    )
    result = run(pytester)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            ">*control(powr=True)",
            "E  *UnknownName: there is no data point 'powr'; known are: power, *",
            "test_it.py:*: UnknownName",
            ">*wait_report(brightness=101)",
            "E  *ValueOutOfRange: brightness: 101 is not allowed, *",
            "test_it.py:*: ValueOutOfRange",
        ]
    )
    result.stdout.no_fnmatch_line("*product.py*")
    run(pytester, "--full-trace").stdout.fnmatch_lines(["*product.py:*: UnknownName"])


def test_what_a_failure_left_goes_when_the_test_passes(pytester: pytest.Pytester) -> None:
    project(pytester, FAILS)
    run(pytester).assert_outcomes(failed=1)
    project(pytester, FAILS.replace("power=False", "power=True"))
    run(pytester).assert_outcomes(passed=1)
    assert not list((pytester.path / "gizwits-captures").iterdir())


def test_a_board_that_does_not_answer(pytester: pytest.Pytester) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        project(
            pytester,
            PASSES.replace(", gizwits_clock", ""),
            ini=f"gizwits_product={PRODUCT}\ngizwits_timeout=0.3",
        )
        result = run(pytester, f"--gizwits-port=socket://127.0.0.1:{silent.getsockname()[1]}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*NotSeenError: the MCU did not answer the request for device information (01) within 0.3 s",
            "*device_info*",
        ]
    )


# --- options


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--gizwits-port=nope:x"], "*--gizwits-port: nope:x: there is no such form of port*"),
        (["--gizwits-port=/dev/ttyNOPE"], "*--gizwits-port: there is no /dev/ttyNOPE*"),
        (["--gizwits-product=none.json"], "*--gizwits-product: *none.json: *"),
        (["--gizwits-product=bad.json"], "*--gizwits-product: *bad.json*"),
        (["--gizwits-baud=fast"], "*--gizwits-baud: 'fast' is no baud rate*"),
        (["-o", "gizwits_timeout=soon"], "*gizwits_timeout: 'soon' is no number*"),
        (["--gizwits-product", str(PRODUCT)], f"*write --gizwits-product={PRODUCT}: *"),
    ],
)
def test_mistakes_are_one_sentence(pytester: pytest.Pytester, words: list[str], sentence: str) -> None:
    project(pytester, PASSES)
    (pytester.path / "bad.json").write_text('{"name": 1}', encoding="utf-8")
    result = run(pytester, *words)
    assert result.ret is pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {sentence}"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_nobody_at_the_port(pytester: pytest.Pytester, taken: str) -> None:
    project(pytester, PASSES.replace(", gizwits_clock", ""))
    result = run(pytester, f"--gizwits-port={taken}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"--gizwits-port: {taken}: nobody answers *"])
    assert "Traceback" not in result.stdout.str()


def test_without_a_product_the_test_says_what_is_missing(pytester: pytest.Pytester) -> None:
    project(pytester, PASSES, ini="")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["this test needs a product definition: give --gizwits-product*"])


def test_virtual_time_is_not_for_boards(pytester: pytest.Pytester, taken: str) -> None:
    project(pytester, PASSES)
    run(pytester, f"--gizwits-port={taken}").assert_outcomes(skipped=1)


@pytest.mark.usefixtures("bare")
def test_the_plugin_can_be_turned_off_and_costs_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it():
            ours = {name for name in sys.modules if name.split(".")[0] in {"gizserial", "sim"}}
            assert ours <= {"sim", "sim.pytest_plugin", "sim.pytest_plugin.settings"}
        """
    )
    pytester.runpytest_subprocess("-p", "gizwits").assert_outcomes(passed=1)
    result = run(pytester, "-p", "no:gizwits", "--gizwits-port=x")
    result.stderr.fnmatch_lines(["*unrecognized arguments: --gizwits-port=x*"])


# --- workers


@pytest.mark.usefixtures("bare")
def test_xdist_workers_simulate_side_by_side_and_name_their_captures(pytester: pytest.Pytester) -> None:
    project(pytester, PASSES + FAILS)
    result = pytester.runpytest_subprocess(*XDIST)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["capture: *.gw?.jsonl"])
    (capture,) = (pytester.path / "gizwits-captures").iterdir()
    assert capture.suffixes[0] in {".gw0", ".gw1"}


@pytest.mark.usefixtures("bare")
def test_workers_take_turns_at_a_real_port(pytester: pytest.Pytester) -> None:
    """The firmware here has one connection at a time: a second one would be refused its handshake."""
    project(
        pytester,
        """
        import os, time
        import pytest

        @pytest.mark.parametrize("number", [5])
        def test_it(gizwits_module, number, request):
            assert [mark.args for mark in request.node.iter_markers("xdist_group")] == [("gizwits_port",)]
            here = os.open("mine", os.O_CREAT | os.O_EXCL)  # nobody else is here
            gizwits_module.control(brightness=number)
            gizwits_module.wait_report(brightness=number)
            os.close(here)
            os.unlink("mine")
        """,
    )
    with simulated_board() as port:
        result = pytester.runpytest_subprocess(*XDIST, "--dist", "each", f"--gizwits-port={port}")
    result.assert_outcomes(passed=2)


def test_a_port_has_one_user_at_a_time(tmp_path: Path) -> None:
    port = f"socket://{tmp_path}"
    with exclusive(port, timeout=1):
        with pytest.raises(PortBusyError, match="in use by another test run"), exclusive(port, timeout=0):
            pass
        with exclusive(f"{port}2", timeout=0):
            pass
    with exclusive(port, timeout=0):
        pass


def test_names_of_captures_are_apart_on_any_file_system(tmp_path: Path) -> None:
    ids = ["a.py::test[A]", "a.py::test[a]", "a.py::test[/]", f"a.py::test[{'x' * 999}]", "a.py::test[ü]"]
    paths = [capture_path(tmp_path, nodeid, "gw1") for nodeid in ids]
    assert len({path.name.lower() for path in paths}) == len(ids)
    assert all(path.parent == tmp_path and len(path.name) < 120 for path in paths)
    for path in paths:
        path.touch()
    forget_old(tmp_path, ids[0])
    assert sorted(tmp_path.iterdir()) == sorted(paths[1:])


def test_the_product_of_the_example_is_sound() -> None:
    assert [point.name for point in load_product(PRODUCT).points] == [
        *("power", "mode", "brightness", "timer", "temperature", "overheated")
    ]
