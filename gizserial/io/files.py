"""Opening files for the commands: captures to read, outputs to write whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from gizserial.capture.formats import Format, format_of, read_unnamed
from gizserial.capture.record import ByteReader, ByteWriter, Capture, Item
from gizserial.errors import CaptureError

_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})


def os_sentence(error: OSError | ValueError) -> str:
    """What an error of the operating system means for a file, as the end of a sentence."""
    if not isinstance(error, OSError):
        return "this cannot be a file name"
    if isinstance(error, FileNotFoundError):
        return "there is no such file or directory"
    # Windows says "permission denied" for a directory.
    if isinstance(error, IsADirectoryError) or (error.filename is not None and os.path.isdir(error.filename)):  # noqa: PTH112 - the name may be bytes
        return "it is a directory, not a file"
    if isinstance(error, PermissionError):
        return "permission denied; check who owns it, and whether another program holds it open"
    if error.errno in _FULL:
        return "the disk is full; nothing was written"
    return error.strerror or str(error)


@contextlib.contextmanager
def open_capture(
    path: str, *, form: Format | None = None, on_read: Callable[[int], None] | None = None
) -> Iterator[Capture]:
    """Open a capture; ``-`` is standard input.

    :param form: Its format; without it the suffix says it, and how standard input begins.
    :param on_read: Told the number of bytes of every read, to show progress.
    :raises CaptureError: No such file, no such format, not readable or damaged; also while items are taken.
    """
    if path == "-":
        yield _capture(standard_input(), path, form, on_read)
        return
    if os.path.isdir(path):  # noqa: PTH112 - a path object refuses names that this only answers
        raise CaptureError(path, "it is a directory, not a file")
    form = form or format_of(path)
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed below; only opening is inside the try
    except (OSError, ValueError) as error:
        raise CaptureError(path, os_sentence(error)) from error
    with file:
        yield _capture(file, path, form, on_read)


def standard_input() -> ByteReader:
    """Bytes of standard input.

    :raises CaptureError: The program was started without one.
    """
    # A program without a console has none, whatever the stubs say.
    stream = cast("object", sys.stdin)
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        raise CaptureError("-", "there is no standard input; name a file")
    return cast("ByteReader", buffer)


def _capture(
    file: ByteReader, path: str, form: Format | None, on_read: Callable[[int], None] | None
) -> Capture:
    if on_read is not None:
        file = _Counted(file, on_read)
    try:
        capture = form.read(file, path) if form else read_unnamed(file, path)
    except OSError as error:
        raise CaptureError(path, os_sentence(error)) from error
    return Capture(path, capture.meta, _items(capture))


def _items(capture: Capture) -> Iterator[Item]:
    """Items, with the operating system's errors as ours."""
    while True:
        try:
            item = next(capture.items, None)
        except OSError as error:
            raise CaptureError(capture.source, os_sentence(error)) from error
        if item is None:
            return
        yield item


class _Counted:
    """A file that tells how much was read of it."""

    def __init__(self, file: ByteReader, told: Callable[[int], None]) -> None:
        self._file, self._told = file, told

    def read(self, size: int, /) -> bytes:
        return self._tell(self._file.read(size))

    def read1(self, size: int, /) -> bytes:
        return self._tell(self._file.read1(size))

    def readline(self, size: int, /) -> bytes:
        return self._tell(self._file.readline(size))

    def _tell(self, data: bytes) -> bytes:
        self._told(len(data))
        return data


class _Tried(Exception):
    """Nothing more is to be done with the file."""


def try_writing(path: str) -> None:
    """Whether a file can be written, before the work that fills it; everything is left as it was.

    A pipe would block: it is not tried.

    :raises CaptureError: it cannot.
    """
    if Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir():
        return
    with contextlib.suppress(_Tried), atomic_writer(path):
        raise _Tried


@contextlib.contextmanager
def atomic_writer(path: str | os.PathLike[str]) -> Iterator[ByteWriter]:
    """Write a file so that it has the old content or all of the new, whatever happens in between.

    The bytes go to a file of another name in the same directory, which takes the place of the old one at the
    end of the block, with its permissions. If the block raises, the old file stays. A link stays a link.
    What is no regular file (a pipe, ``/dev/null``) is written directly.

    :raises CaptureError: The file cannot be written.
    """
    name = os.fspath(path)
    try:
        target = _target_of(name)
        mode = target.stat().st_mode if target.exists() else None
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        direct = mode is not None and not stat.S_ISREG(mode)
        # A short name of its own: the target's may be as long as names can be.
        temporary = target if direct else target.with_name(f".{secrets.token_hex(8)}.tmp")
        file = temporary.open("wb" if direct else "xb")
    except (OSError, ValueError, RuntimeError) as error:
        sentence = "it is a link to itself" if isinstance(error, RuntimeError) else output_sentence(error)
        raise CaptureError(name, sentence) from error
    finished = False
    try:
        yield _Output(file, name)
        _finish(file, temporary, None if direct else target, name)
        finished = True
    finally:
        if not finished:
            # Closing writes what is buffered, and fails again on a full disk.
            with contextlib.suppress(OSError):
                file.close()
            if not direct:
                with contextlib.suppress(OSError):
                    temporary.unlink()


def _target_of(name: str) -> Path:
    """The file that a name leads to.

    :raises RuntimeError: it is a link to itself; Python before 3.13 raises by itself.
    """
    target = Path(name).resolve()
    if target.is_symlink():
        raise RuntimeError(name)
    return target


def output_sentence(error: OSError | ValueError) -> str:
    """Why a file cannot be written."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "its directory does not exist; make it first"
    return os_sentence(error)


def _finish(file: IO[bytes], temporary: Path, target: Path | None, name: str) -> None:
    try:
        file.flush()
        if target is None:
            file.close()
            return
        os.fsync(file.fileno())
        file.close()
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
        _sync_directory(target.parent)
    except OSError as error:
        raise CaptureError(name, output_sentence(error)) from error


def _sync_directory(directory: Path) -> None:
    """Make the new name survive a power cut, where the system can open a directory."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Output:
    """The file being written, with the operating system's errors as ours."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name = file, name

    def write(self, data: bytes, /) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            raise CaptureError(self._name, os_sentence(error)) from error
