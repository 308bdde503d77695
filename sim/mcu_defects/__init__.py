"""Named defects of the simulated MCU: faults of real firmware that the conformance suite has to find."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from gizserial.errors import EncodeError, UnknownName
from gizserial.mcu_options import McuOptions
from gizserial.product import Product
from sim.mcu_defects import exchanges, framing, identity, network, rare, reports, states, values, waiting
from sim.mcu_defects.model import Defect

DEFECTS: Final[Mapping[str, Defect]] = MappingProxyType(
    {
        defect.name: defect
        for table in (framing, exchanges, identity, values, reports, network, rare, waiting, states)
        for defect in table.DEFECTS
    }
)
"""Every defect by its name."""


def chosen(names: Iterable[str], product: Product) -> list[Defect]:
    """The named defects.

    :raises UnknownName: there is none of that name.
    :raises EncodeError: it cannot show in this product.
    """
    found = []
    for name in names:
        defect = DEFECTS.get(name)
        if defect is None:
            raise UnknownName("defect", name, sorted(DEFECTS))
        if not defect.fits(product):
            raise EncodeError(f"the defect {name} cannot show in this product: {defect.title}")
        found.append(defect)
    return found


def options_with(options: McuOptions, defects: Iterable[Defect]) -> McuOptions:
    """The options of the role, with what the defects change in them."""
    for defect in defects:
        if defect.options:
            options = dataclasses.replace(options, **defect.options)
    return options
