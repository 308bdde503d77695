"""What the README shows works when it is pasted."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(
    r"<!-- run -->\n```(sh|python)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if line.strip()]
SCRIPTS = [text for kind, text in BLOCKS if kind == "python"]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A place where the README's relative paths lead somewhere."""
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures", target_is_directory=True)
    return tmp_path


def test_there_is_something_to_run() -> None:
    assert len(COMMANDS) >= 8
    assert len(SCRIPTS) >= 2


@pytest.mark.parametrize("line", COMMANDS)
def test_commands(line: str, clone: Path) -> None:
    name, *words = shlex.split(line, comments=True)
    assert name == "gizserial"
    command = [sys.executable, "-c", "from gizserial.cli import main; main()", *words]
    result = subprocess.run(command, cwd=clone, capture_output=True, timeout=60, check=False)
    assert result.returncode == int("# status 1" in line), result.stderr.decode()
    assert b"Traceback" not in result.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=range(len(SCRIPTS)))
def test_scripts(script: str, clone: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=clone, capture_output=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout


def test_options_that_the_readme_names_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("module", "mcu", "demo", "cloud"):
        used = {
            option
            for line in re.findall(rf"gizsim {command} ([^\n`]*)", text)
            for option in re.findall(r"(?<!\S)--[a-z-]+", line)
        }
        result = subprocess.run(
            [sys.executable, "-c", "from sim.cli import main; main()", command, "--help"],
            capture_output=True,
            timeout=60,
            check=True,
        )
        assert all(option in result.stdout.decode() for option in used), used
