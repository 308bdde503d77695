"""Fuzzes targets of :mod:`sim.fuzz` with atheris, which looks for input that reaches new code.

::

    python -m sim.guided module mcu mcu-var --seconds 60

atheris is for Linux. Only the code of ``gizserial`` is instrumented: all of the library would take a minute.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any


def main(args: Sequence[str] | None = None) -> int:
    """Fuzz until the time is over, which ends the process: 0 when nothing was found.

    What was found is kept as ``crash-…`` in the working directory.
    """
    parser = argparse.ArgumentParser(prog="python -m sim.guided", description="Fuzz with atheris.")
    parser.add_argument("targets", nargs="+", help="as python -m sim.fuzz --help lists them")
    parser.add_argument("--seconds", type=int, default=10, help="how long (default: 10)")
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs at most")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations (default: 1)")
    given = parser.parse_args(args)
    try:
        atheris: Any = importlib.import_module("atheris")
    except ModuleNotFoundError:
        parser.error("this needs atheris, which is for Linux: python -m pip install atheris")
    with atheris.instrument_imports(include=["gizserial"]):
        fuzz = importlib.import_module("sim.fuzz")
    table = fuzz.targets()
    unknown = [name for name in given.targets if name not in table]
    if unknown:
        parser.error(f"there is no target {unknown[0]}; there are {', '.join(table)}")

    def one(data: bytes) -> None:
        """The first byte says which of the targets gets the rest."""
        table[given.targets[data[0] % len(given.targets) if data else 0]](bytes(data[1:]))

    options = {"runs": given.runs, "max_total_time": given.seconds, "seed": given.seed, "max_len": 512}
    atheris.Setup(
        [sys.argv[0], "-verbosity=0", *(f"-{name}={value}" for name, value in options.items())], one
    )
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
