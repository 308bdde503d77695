"""Projects of a user of the pytest plugin, for the tests that run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "examples" / "firmware-project"
PRODUCT = PROJECT / "products" / "lamp.json"
INI = "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"


def project(pytester: pytest.Pytester, test: str, *, ini: str = f"gizwits_product = {PRODUCT}") -> None:
    """A project with one file of tests."""
    pytester.makepyfile(test_it=test)
    pytester.makefile(".ini", pytest=f"[pytest]\n{INI}{ini}\n")


@contextmanager
def running(program: Path) -> Iterator[str]:
    """The compiled firmware on a free port; gives its PORT."""
    with subprocess.Popen([program, "0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("listening at ").strip()
        finally:
            process.kill()


@contextmanager
def simulated_board() -> Iterator[str]:
    """Our MCU in a process of its own, as a board would be; gives its PORT."""
    mcu = ["mcu", "--port", "tcp-listen:127.0.0.1:0", "-p", str(PRODUCT), "--json"]
    words = [sys.executable, "-c", "from sim.cli import main; main()", *mcu]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["port"]
        finally:
            process.kill()


def pytest_of(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run pytest as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "gizwits", *words],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # starts faster
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
