"""What docs/pytest.md and the README of the example project show works when it is pasted."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support_plugin import PROJECT, ROOT, pytest_of, running

from sim.pytest_plugin.mcu import McuStation
from sim.pytest_plugin.module import ModuleStation

DOCUMENT = (ROOT / "docs/pytest.md").read_text(encoding="utf-8")
README = (PROJECT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the product of the example and the tests of the document."""
    (tmp_path / "products").mkdir()
    shutil.copy(PROJECT / "products/lamp.json", tmp_path / "products")
    scripts = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(scripts) == 2
    for number, script in enumerate(scripts):
        (tmp_path / f"test_{number}.py").write_text(script, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode=auto\nasyncio_default_fixture_loop_scope=function\n", encoding="utf-8"
    )
    return tmp_path


def test_the_commands_of_the_document(project: Path) -> None:
    (block,) = re.findall(r"<!-- run -->\n```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    lines = block.splitlines()
    assert len(lines) == 2
    # The second line is for xdist, which is slow to start here: it need not do everything again.
    for line, narrower, outcome in zip(lines, ((), ("-k", "key")), ("5 passed", "1 passed"), strict=True):
        python, dash_m, module, *words = shlex.split(line)
        assert (python, dash_m, module) == ("python", "-m", "pytest")
        plugins = ("-p", "xdist.plugin", "-p", "pytest_asyncio.plugin")
        done = pytest_of(project, *plugins, *words, *narrower)
        assert done.returncode == 0, done.stdout + done.stderr
        assert outcome in done.stdout


def test_everything_that_the_document_names_is_there() -> None:
    module = DOCUMENT.split("**`gizwits_module`**")[1].split("**`gizwits_mcu`**")[0]
    mcu = DOCUMENT.split("**`gizwits_mcu`**")[1]
    for name in re.findall(r"`(\w+)\(", module):
        assert hasattr(ModuleStation, name), name
    for name in re.findall(r"`(\w+)\(", mcu.split("With both fixtures")[0]):
        assert hasattr(McuStation, name), name


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here (cc)")
def test_the_blocks_of_the_readme(tmp_path: Path) -> None:
    copy = tmp_path / "project"
    shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns("build", "__pycache__"))
    simulated, compiled = re.findall(r"<!-- run -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert shlex.split(simulated) == ["python", "-m", "pytest"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = compiled.replace("4321", str(port)).replace(
        "python -m pytest", f"{shlex.quote(sys.executable)} -m pytest -p gizwits -q -k 'who or power'"
    )
    # The shell of a person has job control, and the program is up before the next line is typed.
    script = "set -m\n" + script.replace(" &\n", " > started &\nuntil [ -s started ]; do sleep 0.05; done\n")
    done = subprocess.run(
        ["bash", "-ec", script],
        cwd=copy,
        env={"PATH": "/usr/bin:/bin", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_a_second_connection_finds_the_firmware_again(tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here (cc)")
    build = f"BUILD={tmp_path}"
    subprocess.run(["make", "-s", "-C", PROJECT / "firmware", "host", build], check=True)
    with running(tmp_path / "lamp") as port:
        host, number = port.removeprefix("socket://").split(":")
        for _ in range(2):
            with socket.create_connection((host, int(number)), timeout=5) as line:
                line.sendall(bytes.fromhex("FF FF 00 05 07 06 00 00 12"))
                assert line.recv(64) == bytes.fromhex("FF FF 00 05 08 06 00 00 13")
