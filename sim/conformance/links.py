"""Points that a product links by itself: a preset that sets red, green and blue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gizserial.datapoints import Raw
from sim.conformance.bench import Bench
from sim.conformance.model import CaseFailedError
from sim.conformance.samples import sample_values

_VALUES: Final = 4
"""Values of a point that are tried: a preset may have one that leaves things as they are."""


async def set_together(bench: Bench, raw: Mapping[str, Raw], what: str, *, read_back: bool = False) -> None:
    """Control several points and require that they took the values, links aside.

    A value that did not arrive is lost, unless another point of the control moves it when that one is
    written alone. Then the control is sent once more, without the points that move others.

    :raises CaseFailedError: a value is lost.
    """
    wanted = _unlinked(bench, raw)
    try:
        await bench.set_and_check(wanted, what, read_back=read_back)
    except CaseFailedError:
        got = await bench.read()
        wrong = {n: v for n, v in wanted.items() if n not in got or not bench.same(n, v, got[n])}
        moves = {name: await _moves(bench, name, wrong) for name in wanted}
        links = {name: moved for name, moved in moves.items() if moved & wrong.keys()}
        if not wrong or not wrong.keys() <= frozenset().union(*links.values()):
            raise
        bench.links |= links
        if rest := _unlinked(bench, wanted):
            await bench.set_and_check(rest, what, read_back=read_back)


def _unlinked(bench: Bench, raw: Mapping[str, Raw]) -> dict[str, Raw]:
    """The values without those of points that move others of them."""
    return {name: value for name, value in raw.items() if not bench.links.get(name, frozenset()) & raw.keys()}


async def _moves(bench: Bench, name: str, wrong: Mapping[str, Raw]) -> frozenset[str]:
    """Which points change when this one is written alone, after those that were wrong got their values."""
    others = {other: value for other, value in wrong.items() if other != name}
    moved: set[str] = set()
    for value in sample_values(bench.product.point(name))[:_VALUES]:
        if others:
            await bench.control_and_rest(others)
        before = await bench.read()
        await bench.control_and_rest({name: value})
        now = await bench.read()
        if now.get(name) == value:
            moved.update(bench.changed(before, now, name))
    return frozenset(moved)
