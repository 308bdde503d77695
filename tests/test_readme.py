"""What the README names exists. What it shows is run by test_docs_examples.py."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_options_that_the_readme_names_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("module", "mcu", "demo", "cloud", "check", "run", "ota"):
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
