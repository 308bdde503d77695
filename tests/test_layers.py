"""Imports point one way, and the protocol does no I/O: read from the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYERS: list[set[str]] = [
    {"errors", "findings"},
    {"jsontext", "layout", "layout_check", "scale", "definition", "product", "product_diff", "product_table"},
    {"schemas", "adapters"},
    {"framing", "commands", "p0", "datapoints", "image"},
    {"codec", "describe", "encoding", "capture", "streams", "monitor"},
    {"events"},
    {"endpoint", "transfer", "transfer_options", "transfer_receiver", "transfer_sender"},
    {
        *{"module", "module_network", "module_options", "module_requests", "wifi_status"},
        *{"mcu", "mcu_options", "mcu_reports"},
        *{"m2m", "lan", "diagnosis"},
    },
    {"io"},
    {"cli"},
]
"""Lowest first. A module may import its own layer and those below it."""

OUTSIDE = {"asyncio", "serial", "socket", "time", "logging", "random", "threading", "subprocess", "select"}
"""What belongs to io, cli and sim."""


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(name: str) -> int:
    for number, names in enumerate(LAYERS):
        if name in names:
            return number
    raise AssertionError(f"gizserial.{name} has no place in the layers: add it to LAYERS")


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "gizserial").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules("gizserial"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_down(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        return
    for name in imported(path):
        first, _, rest = name.partition(".")
        assert first != "sim", f"{path} imports the simulators"
        if first != "gizserial" or not rest:
            continue
        target = rest.split(".")[0]
        if (ROOT / "gizserial" / target).exists() or (ROOT / "gizserial" / f"{target}.py").exists():
            assert layer_of(target) <= layer_of(part), f"{path} imports {name}"


@pytest.mark.parametrize("path", modules("gizserial"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_protocol_does_no_io(path: Path) -> None:
    if part_of(path) in {"io", "cli"}:
        return
    used = {name.split(".")[0] for name in imported(path)}
    assert not used & OUTSIDE, f"{path} imports {used & OUTSIDE}"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"open", "print", "input"}


def test_modules_stay_small() -> None:
    for package in ("gizserial", "sim"):
        for path in modules(package):
            lines = path.read_text(encoding="utf-8").count("\n")
            assert lines <= 600, f"{path} has {lines} lines: look for the second subject"
