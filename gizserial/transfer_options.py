"""How files travel: the choices of an end, and what the documents fix (serial.md §4.13)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, Protocol

from gizserial.framing import MAX_LENGTH, MIN_LENGTH

if TYPE_CHECKING:
    from gizserial.events import Request

PIECE_DEFAULT: Final = 256
"""What a piece size of 0 means."""
PIECE_MOST: Final = MAX_LENGTH - MIN_LENGTH - 4
"""Bytes of a piece that fit into one frame, beside number and count."""
PIECE_TRIES: Final = 3
"""Transmissions of a piece in all."""
ANOTHER_READY: Final = 3.0
"""After a 1B that cannot be followed, another one is waited for so long."""
ASK_AGAIN: Final = 1.0
"""A 1B that another request of the same end replaced (``pending_overwrite``) is sent again after so long."""
HEX: Final = 0x0001
"""Flag of 1B: lines of HEX wanted; of 1D: a line of HEX."""
LAST: Final = 0x0002
"""Flag of 1D: the last line."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TransferOptions:
    """How an end behaves. Times are seconds."""

    piece_wait: float = 3.0
    """Wait for the ack of a piece: the other end may have to erase flash."""
    ready_wait: float = 60.0
    """From the ack of 19 to 1B; then the file is forgotten."""
    silence: float = 15.0
    """A receiver stops (27) after so long without a piece."""
    single_piece_bug: bool = False
    """Never send a file of one piece (GAgent 04020006)."""
    receives: bool = False
    """Take files at all. Otherwise 19 is acked and nothing follows."""
    size_most: int = 1 << 20
    """Bytes of the largest file that is taken."""
    piece_size: int = 0
    """Size of the pieces that are asked for; 0: 256."""
    own_piece_size: int = PIECE_DEFAULT
    """Size of the pieces that are sent to a receiver that asks for none (1B without a body)."""
    hex: bool = False
    """Ask for lines of HEX."""
    erase: float = 0.0
    """From the ack of 19 to 1B."""
    store: float = 0.0
    """From the arrival of a piece to its ack."""


class TransferMachine(Protocol):
    """What a request of a transfer belongs to."""

    def acked(self, request: Request, now: float) -> None:
        """The request was acked."""

    def failed(self, request: Request, reason: str, now: float) -> None:
        """The request was given up."""


class FileStep:
    """Token of the requests of one transfer."""

    __slots__ = ("machine",)

    def __init__(self, machine: TransferMachine) -> None:
        self.machine = machine
