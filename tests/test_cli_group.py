"""What both commands share: help, versions, missing extras and faults of our own."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest


def run(package: str, *words: str, before: str = "") -> subprocess.CompletedProcess[str]:
    script = f"import sys\n{before}\nfrom {package}.cli import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", script, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


COMMANDS = [
    ("gizserial", ()),
    ("gizserial", ("decode",)),
    ("gizserial", ("encode",)),
    ("gizserial", ("product",)),
    ("gizserial", ("product", "check")),
    ("gizserial", ("product", "show")),
    ("gizserial", ("product", "diff")),
    ("gizserial", ("convert",)),
    ("sim", ()),
    ("sim", ("demo",)),
    ("sim", ("module",)),
    ("sim", ("mcu",)),
    ("sim", ("cloud",)),
]


@pytest.mark.parametrize(("package", "words"), COMMANDS)
def test_help_ends_with_a_line_to_copy(package: str, words: tuple[str, ...]) -> None:
    result = run(package, *words, "--help")
    assert result.returncode == 0, result.stderr
    name = "gizserial" if package == "gizserial" else "gizsim"
    last = result.stdout.rstrip().splitlines()[-1].strip()
    assert last.startswith(" ".join((name, *words))), last


@pytest.mark.parametrize("package", ["gizserial", "sim"])
def test_version(package: str) -> None:
    result = run(package, "--version")
    assert result.returncode == 0
    assert version("gizserial") in result.stdout


def test_a_missing_extra_is_named() -> None:
    result = run("sim", "demo", "--once", before="sys.modules['amqtt'] = None")
    assert result.returncode == 2
    assert "needs the package amqtt" in result.stderr
    assert "gizserial[cloud]" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_fault_of_ours_is_one_sentence_and_debug_shows_it() -> None:
    fault = "import gizserial.codec\ngizserial.codec.Codec.__init__ = lambda *a: 1 / 0"
    result = run("gizserial", "decode", "00", before=fault)
    assert result.returncode == 2
    assert result.stderr.startswith("gizserial: internal error, ZeroDivisionError")
    assert "Traceback" not in result.stderr
    assert "Traceback" in run("gizserial", "decode", "00", "--debug", before=fault).stderr
