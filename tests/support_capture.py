"""Records as hypothesis draws them, and files that are read in pieces."""

from __future__ import annotations

import io
from collections.abc import Iterable

from hypothesis import strategies as st

from gizserial.capture import DIRECTIONS, FORMATS, Item, Meta, Other, Record

MICROSECONDS = st.integers(0, 2**33 * 10**6).map(lambda time: time / 10**6)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)

MEMBERS = st.dictionaries(st.text().filter(lambda name: name not in {"t", "dir", "hex"}), JSON, max_size=3)

DATA = st.binary(max_size=40)


def records(*, extra: bool = False) -> st.SearchStrategy[list[Record]]:
    """Records of one file: all with a direction or none; times in microseconds."""
    members = MEMBERS if extra else st.just({})
    times = st.none() | MICROSECONDS
    directed = st.builds(Record, times, st.sampled_from(DIRECTIONS), DATA, members)
    undirected = st.builds(Record, times, st.none(), DATA, members)
    return st.lists(directed, max_size=6) | st.lists(undirected, max_size=6)


class Pieces(io.BytesIO):
    """A file whose reads give a few bytes at a time, as a pipe may."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def read1(self, size: int | None = -1, /) -> bytes:
        return self.read(self._size if size is None or size < 0 else min(size, self._size))


def write(form: str, items: Iterable[Item], meta: Meta | None = None) -> bytes:
    file = io.BytesIO()
    writer = FORMATS[form].writer(file, "out", meta)
    for item in items:
        writer.write(item)
    return file.getvalue()


def read(form: str, data: bytes, size: int = 65536) -> list[Item]:
    return list(FORMATS[form].read(Pieces(data, size), "in").items)


def wire(items: Iterable[Item]) -> bytes:
    return b"".join(item.data for item in items if isinstance(item, Record))


def only_records(items: Iterable[Item]) -> list[Record]:
    return [item for item in items if not isinstance(item, Other)]
