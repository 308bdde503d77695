"""The example project: its firmware, its tests, its workflow and its README are what they say."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support_plugin import PROJECT, pytest_of, running

COMPILER = shutil.which("cc")
QEMU = shutil.which("qemu-system-arm"), shutil.which("arm-none-eabi-gcc")
PORT = 4321
WORKFLOW = PROJECT / ".github/workflows/firmware.yml"

needs_cc = pytest.mark.skipif(COMPILER is None, reason="no C compiler here (cc)")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, without what was built in it."""
    copy = tmp_path / "project"
    shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns("build", "__pycache__"))
    return copy


def make(project: Path, *words: str) -> None:
    done = subprocess.run(
        ["make", "-s", "-C", "firmware", *words], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def workflow() -> Any:
    return yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))


def steps() -> dict[str, str]:
    """The commands of the workflow by the name of their step."""
    return {step["name"]: step["run"] for step in workflow()["jobs"]["test"]["steps"] if "run" in step}


def target(name: str) -> dict[str, str]:
    targets = workflow()["jobs"]["test"]["strategy"]["matrix"]["include"]
    return next(each for each in targets if each["target"] == name)


def filled(command: str, name: str) -> str:
    """A command with the values of one target."""
    return re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda match: target(name)[match[1]], command)


@needs_cc
def test_the_firmware_passes_its_tests_with_sanitizers(project: Path) -> None:
    make(project, "host", "CFLAGS=-g -fsanitize=address,undefined")
    with running(project / "firmware/build/lamp") as port:
        done = pytest_of(project, f"--gizwits-port={port}", "-q")
    assert done.returncode == 0, done.stdout
    assert not (project / "build/captures").exists()


@needs_cc
def test_a_mistake_in_the_firmware_is_found_and_kept(project: Path) -> None:
    """Acks of controls with the wrong number."""
    source = project / "firmware/gizwits.c"
    text = source.read_text(encoding="utf-8")
    right = "send(P0_TO_MCU + 1, sn, 0, 0)"
    assert text.count(right) == 1
    source.write_text(text.replace(right, right.replace("sn", "(uint8_t)(sn + 1)")), encoding="utf-8")
    make(project, "host")
    with running(project / "firmware/build/lamp") as port:
        done = pytest_of(project, f"--gizwits-port={port}", "-q", "-k", "power")
    assert done.returncode == 1
    assert "the control was not acked by the MCU: no ack after 3 transmissions" in done.stdout
    (capture,) = (project / "build/captures").iterdir()
    assert f"capture: {capture}" in done.stdout


def test_the_tests_are_right_about_a_sound_mcu(project: Path) -> None:
    done = pytest_of(project, "-q", "-o", "gizwits_baud=115200", "-k", "not restart and not status")
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(None in QEMU, reason="no qemu-system-arm and arm-none-eabi-gcc here")
def test_the_image_of_the_board_passes_in_qemu(project: Path) -> None:
    make(project, "mps2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = shlex.split(target("qemu")["start"].replace(str(PORT), str(port)))
    with subprocess.Popen(words, cwd=project, stderr=subprocess.PIPE) as qemu:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=5).close()
                    break
                except ConnectionRefusedError:
                    assert qemu.poll() is None, qemu.communicate()
            done = pytest_of(
                project, f"--gizwits-port=socket://127.0.0.1:{port}", "-q", "-k", "power or numbers"
            )
        finally:
            qemu.kill()
    assert done.returncode == 0, done.stdout


# --- the workflow


def test_the_workflow_is_one_that_github_takes() -> None:
    document = workflow()
    assert set(document) == {"name", True, "permissions", "jobs"}  # YAML 1.1 reads the key on as true
    job = document["jobs"]["test"]
    assert job["runs-on"] == "ubuntu-24.04"
    assert job["timeout-minutes"] <= 15
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])
    kept = job["steps"][-1]
    assert kept["if"] == "always()"
    assert kept["with"]["path"] == "build/"
    keys = {key for each in job["strategy"]["matrix"]["include"] for key in each}
    used = set(re.findall(r"\$\{\{ matrix\.(\w+) \}\}", WORKFLOW.read_text(encoding="utf-8")))
    assert used == keys
    assert "apt-get install" in steps()["Install"]
    assert "python -m pip install gizserial pytest" in steps()["Install"]


@needs_cc
def test_the_commands_of_the_workflow_do_what_they_say(project: Path) -> None:
    """Everything but the installation, with the program of this machine in the place of QEMU."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = "\n".join(
        ["set -e", *(filled(steps()[name], "host") for name in ("Build", "Start")), "echo $! > pid"]
    )
    script = script.replace(str(PORT), str(port)).replace(f":{PORT:04X} ", f":{port:04X} ")
    started = subprocess.run(["bash", "-c", script], cwd=project, timeout=60, check=False)
    assert started.returncode == 0
    try:
        python, dash_m, module, *words = shlex.split(steps()["Test"].replace(str(PORT), str(port)))
        assert (python, dash_m, module) == ("python", "-m", "pytest")
        done = pytest_of(project, *words, "-k", "power")
    finally:
        os.kill(int((project / "pid").read_text(encoding="utf-8")), 15)
    assert done.returncode == 0, done.stdout
    assert (project / "build/junit.xml").is_file()


def test_the_packages_of_the_workflow_make_its_targets() -> None:
    assert "gcc-arm-none-eabi" in target("qemu")["packages"]
    assert "qemu-system-arm" in target("qemu")["packages"]
    makefile = (PROJECT / "firmware/Makefile").read_text(encoding="utf-8")
    for name in ("host", "qemu"):
        goal = shlex.split(target(name)["build"])[3]
        assert re.search(rf"^{goal}: ", makefile, re.MULTILINE)
