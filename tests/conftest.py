"""What several test files share."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# A busy machine is no finding; the suite has a time limit of its own. The examples are the same in every
# run, so that a change is to blame when one fails; HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("gizserial", deadline=None, max_examples=60, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gizserial"))

# A shell starts what runs in the background with SIGINT ignored, and children inherit that: tests that press
# Ctrl-C in a program of ours need it as it is at a terminal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """Our own definitions, vectors and captures."""
    return ROOT / "fixtures"


@pytest.fixture(scope="session")
def samples() -> Path:
    """Real product definitions and a real capture, which are not ours to publish."""
    folder = ROOT.parent / "shared" / "samples"
    if not folder.is_dir():
        pytest.skip(
            "the real product definitions are not part of the repository (looked in ../shared/samples)"
        )
    return folder


@pytest.fixture(scope="session")
def vectors(fixtures: Path) -> Callable[[str], Any]:
    """Read one file of ``fixtures/vectors``."""

    def read(name: str) -> Any:
        return json.loads((fixtures / "vectors" / name).read_text(encoding="utf-8"))

    return read
