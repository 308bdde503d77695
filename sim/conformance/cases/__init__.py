"""Every case, in the order in which they run: the harmless ones first, those that only look last."""

from __future__ import annotations

from typing import Final

from sim.conformance.cases import (
    acks,
    control,
    framing,
    info,
    network,
    notices,
    odd_controls,
    raw,
    reads,
    recovery,
    reports,
    resend,
)
from sim.conformance.model import Case

_GROUPS: Final = (
    info.group,
    acks.group,
    network.status,
    reads.group,
    framing.group,
    notices.group,
    recovery.group,
    control.group,
    odd_controls.group,
    reports.group,
    resend.group,
    raw.group,
    network.restart,
    network.provision,
)

_ALL: Final = tuple(case for group in _GROUPS for case in group.cases)
CASES: Final = (*(c for c in _ALL if not c.observes), *(c for c in _ALL if c.observes))
"""All cases in the order in which they run."""
BY_ID: Final = {case.id: case for case in CASES}


def named(words: tuple[str, ...]) -> list[Case]:
    """Cases by id, by group (``framing``) or by pattern (``control.*``).

    :raises UnknownName: a word that fits none.
    """
    from fnmatch import fnmatchcase

    from gizserial.errors import UnknownName

    found: dict[str, Case] = {}
    for word in words:
        fitting = [c for c in CASES if word in {c.id, c.group} or fnmatchcase(c.id, word)]
        if not fitting:
            raise UnknownName("case", word, sorted(BY_ID))
        found |= {case.id: case for case in fitting}
    return [case for case in CASES if case.id in found]
