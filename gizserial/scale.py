"""Raw wire integers ↔ real numbers, exactly: ``real = ratio * raw + addition`` (serial.md §5.6)."""

from __future__ import annotations

import dataclasses
import decimal
import re
from decimal import Decimal
from typing import Final

from gizserial.errors import ValueOutOfRange

MAX_DIGITS: Final = 400
"""Digits of a number, and the largest exponent either way: every double fits, and nothing takes long."""

# More digits than any result of two bounded numbers has, so every result is exact; Inexact would be a bug.
_EXACT: Final = decimal.Context(
    prec=10 * MAX_DIGITS,
    Emax=decimal.MAX_EMAX,
    Emin=decimal.MIN_EMIN,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow, decimal.Inexact],
)
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")


def bounded_decimal(text: str) -> Decimal | None:
    """The exact value of a number in decimal notation; None when it is none, or is out of all proportion."""
    if len(text) > 3 * MAX_DIGITS or not _NUMBER.fullmatch(text):
        return None
    return bounded(Decimal(text))


def bounded(number: Decimal) -> Decimal | None:
    """The number; None when it is not finite, or larger or finer than :data:`MAX_DIGITS` digits can say."""
    if not number.is_finite():
        return None
    if not number:
        return Decimal(0)
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -MAX_DIGITS or number.adjusted() > MAX_DIGITS:
        return None
    return number


def number_text(number: Decimal | int) -> str:
    """A number as people write it: no exponent, no zeros at the end, unless it is very long."""
    if isinstance(number, int):
        return str(number)
    if number and not -20 < number.adjusted() < 20:
        return str(number)
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def shown(value: object) -> str:
    """A value as an error shows it: never long, never with control characters."""
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        return f"{data[:16].hex()}{'…' if len(data) > 16 else ''} ({len(data)} bytes)"
    if isinstance(value, int) and value.bit_length() > 256:
        return "a number of very many digits"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How a numeric data point is scaled, and which raw values it may have.

    :ivar raw_min: Smallest raw value that the definition allows; not the same as the smallest real value.
    :ivar raw_max: Largest raw value that the definition allows.
    :ivar type_max: Largest raw value that the wire type can carry.
    :raises ValueError: A ratio of 0, or a ratio or addition that :func:`bounded` refuses.
    """

    ratio: Decimal = Decimal(1)
    addition: Decimal = Decimal(0)
    raw_min: int = 0
    raw_max: int
    type_max: int
    whole: bool = dataclasses.field(init=False, repr=False, compare=False)
    """Every real value is an integer."""

    def __post_init__(self) -> None:
        for number in (self.ratio, self.addition):
            if bounded(number) is None:
                raise ValueError("ratio and addition must be numbers of reasonable size")
        if not self.ratio:
            raise ValueError("ratio must not be 0")
        object.__setattr__(self, "whole", _is_whole(self.ratio) and _is_whole(self.addition))

    def real(self, raw: int) -> Decimal:
        """The real value, exact. Takes every raw value, also those that the definition does not allow."""
        return _EXACT.fma(Decimal(raw), self.ratio, self.addition)

    def raw(self, real: Decimal | float | str, *, name: str) -> int:
        """The nearest raw value, halves away from zero; exact before rounding.

        Floats count as what they print: 25.3 is 25.3, not the binary number beside it.

        :param name: Whose value it is, for the message.
        :raises ValueOutOfRange: Not a number, or a raw value that the definition or the type does not allow.
        """
        exact = _exact(real)
        if exact is None:
            raise ValueOutOfRange(name, shown(real), f"a number {self._allowed()}")
        difference = _EXACT.subtract(exact, self.addition)
        quotient = _EXACT.divide_int(difference, self.ratio)
        rest = _EXACT.subtract(difference, _EXACT.multiply(quotient, self.ratio))
        raw = int(quotient)
        if _EXACT.multiply(rest.copy_abs(), Decimal(2)) >= self.ratio.copy_abs():
            raw += -1 if difference.is_signed() != self.ratio.is_signed() else 1
        if not self.in_range(raw):
            raise ValueOutOfRange(name, shown(real), self._allowed())
        return raw

    def in_range(self, raw: int) -> bool:
        """Whether the definition and the wire type allow this raw value."""
        return self.raw_min <= raw <= self.raw_max and 0 <= raw <= self.type_max

    @property
    def real_range(self) -> tuple[Decimal, Decimal]:
        """Smallest and largest real value that the definition allows."""
        first, last = self.real(self.raw_min), self.real(self.raw_max)
        return (first, last) if first <= last else (last, first)

    def _allowed(self) -> str:
        low, high = self.real_range
        step = "" if abs(self.ratio) == 1 else f" in steps of {number_text(abs(self.ratio))}"
        return f"from {number_text(low)} to {number_text(high)}{step}"


def _is_whole(number: Decimal) -> bool:
    return number == number.to_integral_value()


def _exact(real: object) -> Decimal | None:
    """The exact number that was meant; None when it is none."""
    if isinstance(real, bool):
        return None
    if isinstance(real, int):
        return Decimal(real) if real.bit_length() <= 3 * MAX_DIGITS else None
    if isinstance(real, Decimal):
        return bounded(real)
    if isinstance(real, float):
        return bounded_decimal(repr(float(real)))
    if isinstance(real, str):
        return bounded_decimal(real.strip())
    return None
