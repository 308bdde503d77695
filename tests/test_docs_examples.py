"""What the README and the pages in docs/ show works when it is pasted: blocks marked ``<!-- run -->``."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MARKED = re.compile(r"<!-- run -->\n```(sh|python)\n(.*?)```", re.DOTALL)
OWN_TEST = {"pytest.md"}
"""Its blocks need a project around them: test_docs_pytest.py."""
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in OWN_TEST),
]

BLOCKS = [
    (page.name, language, text)
    for page in PAGES
    for language, text in MARKED.findall(page.read_text(encoding="utf-8"))
]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A place where the pages' relative paths lead somewhere, and where files may be written."""
    for name in ("fixtures", "examples"):
        (tmp_path / name).symlink_to(ROOT / name, target_is_directory=True)
    return tmp_path


def run(line: str, clone: Path) -> None:
    name, *words = shlex.split(line, comments=True)
    package = {"gizserial": "gizserial", "gizsim": "sim"}[name]
    command = [sys.executable, "-c", f"from {package}.cli import main; main()", *words]
    run_words(command, clone, status=int("# status 1" in line))


def run_words(command: list[str], clone: Path, *, status: int) -> None:
    result = subprocess.run(command, cwd=clone, capture_output=True, timeout=60, check=False)
    assert result.returncode == status, result.stderr.decode()
    assert b"Traceback" not in result.stderr


@pytest.mark.parametrize(("page", "language", "text"), BLOCKS, ids=lambda value: value.splitlines()[0][:40])
def test_what_a_page_shows(page: str, language: str, text: str, clone: Path) -> None:
    if language == "python":
        run_words([sys.executable, "-c", text], clone, status=0)
        return
    # The lines of a block build on one another: files that one writes are read by the next.
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            run(line, clone)
