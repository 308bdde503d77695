"""The documents say what is there."""

from __future__ import annotations

import re
from pathlib import Path

from sim.cloud.app import EmbeddedCloud
from sim.cloud.config import CloudConfig

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r"^\| `([A-Z]+)` \| `([^`]+)` \| ([^|]+) \| `([^`]+)` \|$", re.MULTILINE)


def test_every_call_is_in_the_table_with_a_test_that_is_there() -> None:
    cloud = EmbeddedCloud(CloudConfig())
    try:
        paths = cloud.application().openapi()["paths"]
    finally:
        cloud.store.close()
    calls = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    rows = ROW.findall((ROOT / "docs/cloud.md").read_text(encoding="utf-8"))
    assert {(method, path) for method, path, _, _ in rows} == calls
    assert len(rows) == len(calls)
    for _, _, level, test in rows:
        assert level in {"CORE", "COMMON", "RARE", "ours"}
        assert (ROOT / "tests" / test).is_file()


def test_links_between_documents_lead_somewhere() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / link).exists(), (document.name, link)
