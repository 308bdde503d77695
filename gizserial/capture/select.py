"""One direction out of a capture."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from gizserial.capture.record import Item, Record
from gizserial.commands import Direction


def only(items: Iterable[Item], direction: Direction) -> Iterator[Item]:
    """Records of one direction; records without one are said to be of it. What is no record stays."""
    for item in items:
        if not isinstance(item, Record) or item.direction == direction:
            yield item
        elif item.direction is None:
            yield dataclasses.replace(item, direction=direction)
