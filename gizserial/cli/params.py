"""Arguments and options that several commands share."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import click
from click.shell_completion import CompletionItem

from gizserial.capture.formats import SUFFIXES, format_of
from gizserial.capture.hextext import words_bytes
from gizserial.capture.record import Meta, Record
from gizserial.errors import CaptureError

if TYPE_CHECKING:
    from gizserial.product import Product

    _HexParam: TypeAlias = click.ParamType[bytes]
    _InputParam: TypeAlias = click.ParamType["Input"]
    _ProductParam: TypeAlias = click.ParamType["Product"]
else:
    # Generic for the type checker only: older releases of click cannot be indexed.
    _HexParam = _InputParam = _ProductParam = click.ParamType

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True, slots=True)
class FileInput:
    """An INPUT that is a path, or ``-`` for standard input."""

    path: str


@dataclasses.dataclass(frozen=True, slots=True)
class HexInput:
    """An INPUT that was typed as hex words."""

    data: bytes


Input: TypeAlias = FileInput | HexInput


@dataclasses.dataclass(frozen=True, slots=True)
class Stream:
    """One input as the commands see it. Offsets start at 0 in each."""

    name: str
    """The path, ``-``, or ``hex words``."""
    records: Iterator[Record]
    """To be taken before the next stream is. Taking may raise :class:`~gizserial.errors.CaptureError`."""
    meta: Meta | None


class _FileCompletion:
    """The shell completes names of files."""

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002 - click's signature
        incomplete: str,
    ) -> list[CompletionItem]:
        """Let the shell complete a file name."""
        return [CompletionItem(incomplete, type="file")]


class HexType(_HexParam):
    """Hex words: pairs of hex digits, several to a word, parted by blanks or commas, perhaps with ``0x``."""

    name = "hex"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Bytes of one argument."""
        if isinstance(value, bytes):
            return value
        data = words_bytes(value)
        if data is None:
            self.fail(
                f"{_show(value)} is not hex; a byte is two hex digits, as in FFFF0005 or 'FF FF 00 05'",
                param,
                ctx,
            )
        return data


class InputType(_FileCompletion, _InputParam):
    """An INPUT: a path, ``-`` or hex words.

    What reads as hex words is hex words, even where a file has that name: hex words never have one of the
    suffixes that a capture needs. A file called ``ff`` is read as ``- < ff``.
    """

    name = "input"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Input:
        """Tell paths from hex words."""
        if isinstance(value, FileInput | HexInput):
            return value
        if value == "-":
            return FileInput(value)
        data = words_bytes(value)
        if data is not None:
            return HexInput(data)
        if not value:
            self.fail("it is empty; give a file, hex words or -", param, ctx)
        try:
            exists, is_directory = Path(value).exists(), Path(value).is_dir()
        except (OSError, ValueError):
            exists = is_directory = False
        if is_directory:
            self.fail(f"{_show(value)} is a directory, not a capture", param, ctx)
        if not exists:
            if Path(value).suffix.lower() in SUFFIXES:
                self.fail(f"{_show(value)}: there is no such file", param, ctx)
            self.fail(
                f"{_show(value)} is neither a file nor hex words (a byte is two hex digits)", param, ctx
            )
        try:
            format_of(value)
        except CaptureError as error:
            self.fail(f"{error}, or is piped to -", param, ctx)
        return FileInput(value)


class ProductType(_FileCompletion, _ProductParam):
    """PRODUCT: the path of a definition; the command gets the compiled product."""

    name = "product"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,  # noqa: ARG002 - click's signature
        ctx: click.Context | None,  # noqa: ARG002 - click's signature
    ) -> Product:
        """Load the definition; :class:`~gizserial.errors.ProductError` says what is wrong with it."""
        from gizserial.io.products import load_product

        return value if not isinstance(value, str) else load_product(value)


HEX: Final = HexType()
INPUT: Final = InputType()
PRODUCT: Final = ProductType()


def inputs_argument(command: _Command) -> _Command:
    """``[INPUT]…``, given to the command as ``inputs``; read them with :func:`read_inputs`."""
    return click.argument("inputs", nargs=-1, type=INPUT, metavar="[INPUT]...")(command)


def product_option(*, required: bool = False) -> Callable[[_Command], _Command]:
    """``-p/--product PRODUCT``, given to the command as ``product``."""
    return click.option(
        "-p",
        "--product",
        "product",
        type=PRODUCT,
        metavar="PRODUCT",
        required=required,
        help="Data point definition of the product (JSON).",
    )


def json_option(command: _Command) -> _Command:
    """``--json``, given to the command as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON object per line on stdout.")(
        command
    )


def read_inputs(inputs: Sequence[Input]) -> Iterator[Stream]:
    """Open one input after the other; none at all means standard input.

    Every file is a stream of its own. Neighbouring hex words are joined to one stream.

    :raises CaptureError: A file cannot be opened or is damaged; here and while records are taken.
    """
    from gizserial.io.files import open_capture

    typed = bytearray()
    for item in inputs or (FileInput("-"),):
        if isinstance(item, HexInput):
            typed += item.data
            continue
        if typed:
            yield _typed(typed)
            typed.clear()
        if item.path == "-":
            _say_that_we_wait()
        with open_capture(item.path) as capture:
            yield Stream(item.path, capture.records(), capture.meta)
    if typed:
        yield _typed(typed)


def _typed(data: bytearray) -> Stream:
    return Stream("hex words", iter((Record(None, None, bytes(data)),)), None)


def _say_that_we_wait() -> None:
    if sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty():
        click.echo(
            "reading standard input: type or paste hex, then end with Ctrl-D (Ctrl-Z on Windows)", err=True
        )


def _show(value: str) -> str:
    return repr(value if len(value) <= 60 else f"{value[:60]}…")


def utf8(word: str) -> str:
    """A word as it was typed on a UTF-8 terminal, whatever the locale that Python took it for."""
    try:
        return os.fsencode(word).decode("utf-8")
    except UnicodeError:
        return word
