"""What can go wrong, as one tree.

::

    GizserialError
    ├── EncodeError (ValueError)        a frame that we were asked to make cannot be made
    │   ├── UnknownName (LookupError)   no such command, field or data point
    │   └── ValueOutOfRange             a value that the field or the definition does not allow
    ├── BodyError (ValueError)          a sound frame whose body is too short
    ├── ProductError (ValueError)       a product definition with errors; carries every finding
    │   (gizserial.io.products adds ProductFileError: a definition file that cannot be read)
    ├── CaptureError (ValueError)       a capture file that cannot be read; carries the line or offset
    ├── QueueFullError                  more requests than an endpoint holds (gizserial.endpoint)
    ├── CipherError                     a secret that cannot be used (gizserial.m2m.secure)
    └── TransportError (OSError)        a port that cannot be opened, or that went away

Bad bytes from a peer never raise: they are data (:class:`gizserial.framing.BadFrame`). These exceptions
are for local calls.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gizserial.findings import Finding


class GizserialError(Exception):
    """Base of everything this package raises on purpose."""


class EncodeError(GizserialError, ValueError):
    """A frame that cannot be made from what was asked."""


_MOST_NAMES = 40
"""More names than this are no help: only those like the one that was asked for are told."""


def _hint(name: str, known: Sequence[str]) -> str:
    if len(known) <= _MOST_NAMES:
        return f"; known are: {', '.join(known)}" if known else ""
    like = difflib.get_close_matches(name, known, 5, 0.5)
    return f"; did you mean {' or '.join(like)}?" if like else f"; there are {len(known)} of them"


class UnknownName(EncodeError, LookupError):
    """No command, field or data point has this name.

    :ivar name: What was asked for.
    :ivar known: The names that exist.
    """

    def __init__(self, kind: str, name: str, known: Sequence[str] = ()) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        super().__init__(f"there is no {kind} {name!r}{_hint(name, self.known)}")


class ValueOutOfRange(EncodeError):
    """A value that the field cannot carry or the definition does not allow.

    :ivar name: The field or data point.
    :ivar value: What was asked for.
    """

    def __init__(self, name: str, value: object, allowed: str) -> None:
        self.name, self.value, self.allowed = name, value, allowed
        super().__init__(f"{name}: {value!s} is not allowed, allowed is {allowed}")


class BodyError(GizserialError, ValueError):
    """A sound frame whose body is too short for what it must hold."""


class ProductError(GizserialError, ValueError):
    """A product definition that cannot be used.

    :ivar findings: Everything that was found, errors and warnings.
    """

    def __init__(self, source: str, findings: Sequence[Finding]) -> None:
        self.source, self.findings = source, tuple(findings)
        errors = [finding for finding in findings if finding.severity == "error"]
        first = f"{errors[0].path}: {errors[0].message}" if errors else "no reason given"
        more = f" (and {len(errors) - 1} more; see: gizserial product check)" if len(errors) > 1 else ""
        super().__init__(f"{source}: {first}{more}")


class CaptureError(GizserialError, ValueError):
    """A capture file that cannot be read or written.

    :ivar source: The file, as the user named it.
    :ivar where: ``line 3`` or ``byte 120``; empty when it concerns the whole file.
    """

    def __init__(self, source: str, message: str, *, where: str = "") -> None:
        self.source, self.where = source, where
        super().__init__(f"{source}, {where}: {message}" if where else f"{source}: {message}")


class TransportError(GizserialError, OSError):
    """A port that cannot be opened, or that went away."""
