"""Names of the captures of failed tests."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import re
from pathlib import Path
from typing import Final

GROUP: Final = "gizwits_port"
"""Name of the xdist group of the port; xdist puts it behind the ids of its tests."""
LONGEST: Final = 80
"""Characters of a test's id that its file shows."""


def _stem(nodeid: str) -> str:
    """Readable, and different for each test on any file system."""
    nodeid = nodeid.removesuffix(f"@{GROUP}")
    words = re.sub(r"[^A-Za-z0-9_]+", "-", nodeid.replace(".py::", "-")).strip("-")
    return f"{words[-LONGEST:]}-{hashlib.sha256(nodeid.encode('utf-8', 'replace')).hexdigest()[:8]}"


def capture_path(directory: Path, nodeid: str, worker: str) -> Path:
    """Where the capture of a test goes; each xdist worker has names of its own."""
    return directory / f"{_stem(nodeid)}{f'.{worker}' if worker else ''}.jsonl"


def forget_old(directory: Path, nodeid: str) -> None:
    """Remove what a run before left of this test: it may pass now."""
    pattern = glob.escape(_stem(nodeid))
    if directory.is_dir():
        for path in (*directory.glob(f"{pattern}.jsonl"), *directory.glob(f"{pattern}.gw*.jsonl")):
            with contextlib.suppress(OSError):
                path.unlink()
