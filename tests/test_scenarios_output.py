"""What ``gizsim run`` prints when nobody reads it any more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PET = Path(__file__).resolve().parent.parent / "fixtures/products/pet-house.json"


@pytest.mark.parametrize("options", [["--frames"], ["--json"], []], ids=["frames", "json", "steps"])
@pytest.mark.parametrize(("humidity", "status"), [(55, 0), (54, 1)])
def test_a_run_that_nobody_watches_goes_on_and_keeps_its_status(
    tmp_path: Path, options: list[str], humidity: int, status: int
) -> None:
    """``gizsim run … | head -1`` (cli.md): neither a traceback nor a failure that is hidden."""
    path = tmp_path / "run.yaml"
    steps = f"steps:\n  - set: {{Humidity: 55}}\n  - expect: report Humidity={humidity}\n"
    path.write_text(f"setup: {{product: {PET}}}\n{steps}", encoding="utf-8")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", "from sim.cli import main; main()", "run", *options, str(path)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (status, b"")
