"""Reading definition files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from gizserial.errors import GizserialError
from gizserial.io.files import os_sentence
from gizserial.product import Product, parse_product

MAX_SIZE: Final = 4 * 1024 * 1024
"""Bytes; the largest exports have some hundred thousand."""


class ProductFileError(GizserialError):
    """A definition file that cannot be read at all.

    :ivar source: The file, as the user named it.
    """

    def __init__(self, source: str, message: str) -> None:
        self.source = source
        super().__init__(f"{source}: {message}")


def read_product_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a definition file.

    :raises ProductFileError: No such file, a directory, no permission, or too large for a definition.
    """
    source = os.fspath(path)
    try:
        with Path(source).open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        raise ProductFileError(source, os_sentence(error)) from error
    if len(data) > MAX_SIZE:
        raise ProductFileError(source, f"more than {MAX_SIZE >> 20} MiB; this is no product definition")
    return data


def load_product(path: str | os.PathLike[str]) -> Product:
    """Read and compile a definition file.

    :raises ProductFileError: The file cannot be read.
    :raises ProductError: The definition has errors; carries every finding.
    """
    return parse_product(read_product_file(path), os.fspath(path))
