"""What the README and the pages in docs/ show works when it is pasted: blocks marked ``<!-- run -->``."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gizserial.cli import cli as gizserial
from gizserial.cli.group import run as run_command
from sim.cli import cli as gizsim

ROOT = Path(__file__).resolve().parent.parent
MARKED = re.compile(r"<!-- run -->\n```(sh|python)\n(.*?)```", re.DOTALL)
OWN_TEST = {
    "doctor.md",  # and what they print: test_doctor.py
    "pytest.md",  # its commands need the tests that the page shows: test_docs_pytest.py
}
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in OWN_TEST),
]
BLOCKS = [
    pytest.param(language, text, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, (language, text) in enumerate(MARKED.findall(page.read_text(encoding="utf-8")))
]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A place where the pages' relative paths lead somewhere, and where files may be written."""
    for name in ("fixtures", "examples"):
        (tmp_path / name).symlink_to(ROOT / name, target_is_directory=True)
    return tmp_path


def run(line: str) -> None:
    name, *words = shlex.split(line, comments=True)
    group = {"gizserial": gizserial, "gizsim": gizsim}[name]
    with pytest.raises(SystemExit) as end:
        run_command(group, name, words)
    assert end.value.code == int("# status 1" in line)


@pytest.mark.parametrize(("language", "text"), BLOCKS)
def test_what_a_page_shows(
    language: str,
    text: str,
    clone: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(clone)
    if language == "python":
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return
    # The lines of a block build on one another: files that one writes are read by the next.
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            run(line)
    assert "Traceback" not in capfd.readouterr().err


SHOWN = re.compile(r"^(?:\$ )?(gizserial|gizsim) ([a-z]+)([^\n|>]*)", re.MULTILINE)
FENCED = re.compile(r"^```(?:sh|bat|text|console)?\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.stem
)
def test_commands_and_options_that_a_page_shows_exist(page: Path) -> None:
    """What cannot be run here, because a board hangs on it, is at least spelled right."""
    for block in FENCED.findall(page.read_text(encoding="utf-8")):
        for tool, name, rest in SHOWN.findall(block.replace("\\\n", " ").replace("\\\\\n", " ")):
            group: click.Group = {"gizserial": gizserial, "gizsim": gizsim}[tool]
            command = group.get_command(click.Context(group), name)
            assert command is not None, f"{tool} {name}"
            words = re.findall(r"(?<!\S)--[a-z-]+", rest.split("#")[0])
            if isinstance(command, click.Group):
                inner = re.match(r"\s+([a-z-]+)", rest)
                command = command.get_command(click.Context(command), inner[1]) if inner else None
                assert command is not None, f"{tool} {name}{rest}"
            known = {option for parameter in command.params for option in parameter.opts}
            assert set(words) <= known | {"--help"}, f"{tool} {name}{rest}"
