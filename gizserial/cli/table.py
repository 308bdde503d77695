"""Columns of text that line up, whatever the script."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def printable(text: str) -> str:
    """The text on one line: control characters, which could move the cursor, are written as escapes."""
    return "".join(char if _harmless(char) else char.encode("unicode_escape").decode() for char in text)


def _harmless(char: str) -> bool:
    return char == " " or unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def text_width(text: str) -> int:
    """Columns of a terminal that the text takes: Chinese characters two, combining marks none."""
    return sum(_char_width(char) for char in text)


def _char_width(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """Lines of a table with its header; the last column is not filled up.

    :param right: Columns that are aligned to the right.
    """
    lines = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(text_width(line[column]) for line in lines) for column in range(len(header))]
    return [
        "  ".join(
            _filled(cell, width, at_right=column in right)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _filled(cell: str, width: int, *, at_right: bool) -> str:
    blanks = " " * (width - text_width(cell))
    return blanks + cell if at_right else cell + blanks
