"""One finding about a product definition: where, how bad, what to do."""

from __future__ import annotations

import dataclasses
from typing import Literal

Severity = Literal["error", "warning"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about a definition that its author should know."""

    path: str
    """JSON path, for example ``$.entities[0].attrs[3].uint_spec.min``."""
    severity: Severity
    """``error`` when encoding or decoding would be impossible or ambiguous."""
    message: str
    remedy: str
