"""What a defect is: a named fault of real firmware, and the place where it stands.

The correct role stays free of defects. A fault stands between it and the line: it sees what arrives before
the role does and what leaves after the role said it, and it may touch the role's values::

    line --incoming--> bytes --received--> frames --> McuRole --sent--> frames --outgoing--> line
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from gizserial.framing import Frame, Item
from gizserial.product import Layout, Product

if TYPE_CHECKING:
    from sim.mcu_defects.machine import DefectiveMcu


@dataclasses.dataclass(frozen=True, slots=True)
class Out:
    """Something that leaves.

    :ivar what: A frame, or bytes that are none.
    :ivar delay: Seconds later than the role wanted.
    """

    what: Frame | bytes
    delay: float = 0.0


class Fault:
    """One fault in one MCU. Every hook leaves things as they are unless a subclass says otherwise."""

    mcu: DefectiveMcu

    def started(self, mcu: DefectiveMcu) -> None:
        """The MCU is made."""
        self.mcu = mcu

    def incoming(self, data: bytes, now: float) -> bytes:  # noqa: ARG002 - a hook's signature
        """Bytes off the line."""
        return data

    def received(self, item: Item, now: float) -> list[Item | bytes]:  # noqa: ARG002 - a hook's signature
        """One frame, broken frame or stretch of noise; gives what the role gets to see."""
        return [item]

    def sent(self, frame: Frame, now: float) -> list[Out]:  # noqa: ARG002 - a hook's signature
        """One frame of the role; gives what leaves."""
        return [Out(frame)]

    def encoded(self, frame: Frame, wire: bytes) -> bytes:  # noqa: ARG002 - a hook's signature
        """The bytes of a frame that leaves."""
        return wire

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is due."""
        return None

    def handle_timeout(self, now: float) -> None:
        """Something happens by itself."""


Make: TypeAlias = Callable[[], Fault]
Fits: TypeAlias = Callable[[Product], bool]
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def _anything(_product: Product) -> bool:
    return True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """A defect that ``gizsim mcu --defect NAME`` switches on.

    :ivar name: What it is called.
    :ivar title: What the firmware does wrong.
    :ivar rule: What right firmware does.
    :ivar section: Where the rule stands in the public serial protocol document.
    :ivar make: Makes the fault; None where the options do everything.
    :ivar options: Changes of :class:`~gizserial.mcu_options.McuOptions`.
    :ivar fits: Whether it can show in a product at all.
    """

    name: str
    title: str
    rule: str
    section: str
    make: Make | None
    options: Mapping[str, Any]
    fits: Fits


def row(
    name: str,
    title: str,
    rule: str,
    section: str,
    make: Make | None = None,
    *,
    options: Mapping[str, Any] = _NOTHING,
    fits: Fits = _anything,
) -> Defect:
    """A row of a table of defects."""
    return Defect(name=name, title=title, rule=rule, section=section, make=make, options=options, fits=fits)


def is_variable(product: Product) -> bool:
    """The product is of variable length."""
    return product.layout is Layout.VARIABLE


def is_fixed(product: Product) -> bool:
    """The product is of fixed length."""
    return product.layout is Layout.FIXED


def has_writable(product: Product) -> bool:
    """The product can be controlled."""
    return bool(product.writable)
