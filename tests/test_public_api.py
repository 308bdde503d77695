"""The names that other people's programs may import from ``gizserial``: none goes without a major version."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gizserial

NAMES = [
    "COMMANDS",
    "FRAMES",
    "Access",
    "Action",
    "BadFrame",
    "BodyError",
    "CaptureError",
    "Codec",
    "Command",
    "CommandSpec",
    "DataPoint",
    "DataType",
    "DeviceInfo",
    "Direction",
    "EncodeError",
    "Endpoint",
    "EndpointOptions",
    "Finding",
    "Frame",
    "FrameSpec",
    "Framer",
    "GizserialError",
    "Item",
    "Layout",
    "McuOptions",
    "McuRole",
    "Message",
    "ModuleOptions",
    "ModuleRole",
    "Noise",
    "Product",
    "ProductError",
    "QueueFullError",
    "Role",
    "TransportError",
    "UnknownName",
    "ValueOutOfRange",
    "WifiStatus",
    "encode",
    "parse_product",
]

HEAVY = ("asyncio", "click", "pydantic", "serial", "socket", "ssl", "sim", "gizserial.io", "gizserial.cli")
"""What a program that only decodes need not load. pydantic comes when a definition is read."""


def test_the_public_names_are_these() -> None:
    assert sorted(gizserial.__all__) == sorted(NAMES)
    assert len(set(gizserial.__all__)) == len(gizserial.__all__)
    for name in gizserial.__all__:
        assert getattr(gizserial, name) is not None


def test_no_name_hides_a_module_of_the_package() -> None:
    """``gizserial.describe`` stays the module, whatever is imported first."""
    code = (
        "import importlib, pkgutil, gizserial\n"
        "names = [m.name for m in pkgutil.iter_modules(gizserial.__path__)]\n"
        "for name in gizserial.__all__: getattr(gizserial, name)\n"
        "print([n for n in names if importlib.import_module('gizserial.' + n) is not getattr(gizserial, n)])"
    )
    assert _python(code) == "[]"


def test_what_checkers_see_is_what_is_imported() -> None:
    """The imports for type checkers and the table for everybody else say the same."""
    tree = ast.parse(Path(gizserial.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.name: (node.module or "").removeprefix("gizserial.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gizserial.")
        for alias in node.names
    }
    assert seen == vars(gizserial)["_MODULE_OF"]
    assert sorted(seen) == sorted(NAMES)


def test_names_are_completed_and_wrong_ones_refused() -> None:
    assert set(NAMES) <= set(dir(gizserial))
    with pytest.raises(AttributeError, match="has no attribute 'Nope'"):
        getattr(gizserial, "Nope")  # noqa: B009 - a checker refuses the plain form, as it should


def test_importing_the_package_is_light() -> None:
    code = f"import sys; from gizserial import *; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert _python(code) == "[]"


def test_decoding_does_not_load_the_roles() -> None:
    code = "import sys, gizserial.streams; print([n for n in sys.modules if 'endpoint' in n])"
    assert _python(code) == "[]"


def test_every_error_is_under_one_base() -> None:
    errors = [getattr(gizserial, name) for name in NAMES]
    errors = [item for item in errors if isinstance(item, type) and issubclass(item, Exception)]
    assert len(errors) == 9
    assert all(issubclass(item, gizserial.GizserialError) for item in errors)


def test_the_first_program_works() -> None:
    frame = gizserial.encode(gizserial.Codec(), "heartbeat", [], sn=7)
    (item,) = gizserial.Framer().feed(frame.encode())
    assert isinstance(item, gizserial.Frame)
    assert gizserial.Codec().decode(item).name == "heartbeat"
    assert item.command == gizserial.Command.HEARTBEAT


def _python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    return result.stdout.decode().strip()
