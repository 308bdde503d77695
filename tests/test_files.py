from __future__ import annotations

import errno
import io
import os
import stat
import sys
from pathlib import Path

import pytest

from gizserial.capture import FORMATS
from gizserial.errors import CaptureError
from gizserial.io.files import atomic_writer, open_capture, os_sentence

ON_POSIX = pytest.mark.skipif(os.name != "posix", reason="links, modes and devices of POSIX")
FULL = Path("/dev/full")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_capture_is_opened_by_suffix(tmp_path: Path) -> None:
    path = tmp_path / "a.hex"
    path.write_text("ff 01")
    seen: list[int] = []
    with open_capture(str(path), on_read=seen.append) as capture:
        assert [record.data for record in capture.records()] == [b"\xff\x01"]
    assert sum(seen) == 5
    with open_capture(str(path), form=FORMATS["bin"]) as capture:
        assert [record.data for record in capture.records()] == [b"ff 01"]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ff 01")))
    with open_capture("-") as capture:
        assert [record.data for record in capture.records()] == [b"\xff\x01"]


def test_no_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CaptureError, match="-: there is no standard input; name a file"), open_capture("-"):
        pass


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none.bin", "none.bin: there is no such file"),
        (".", ": it is a directory, not a file"),
        ("none.foo", "it has the suffix .foo; a capture has one of"),
        ("nul\0.bin", "this cannot be a file name"),
    ],
)
def test_what_cannot_be_opened_has_a_sentence(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(CaptureError) as caught, open_capture(os.path.join(tmp_path, name)):  # noqa: PTH118 - keeps "."
        pass
    assert says in str(caught.value)


class Failing(io.BytesIO):
    """A file on a disk that breaks."""

    def read1(self, _size: int | None = -1, /) -> bytes:
        data = super().read1(3)
        if not data:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return data

    def readline(self, _size: int | None = -1, /) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("form", ["bin", "jsonl"])
def test_a_read_that_fails_later_has_a_sentence_too(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Failing(b"abcdef")))
    with (
        pytest.raises(CaptureError, match=f"-: {os.strerror(errno.EIO)}"),
        open_capture("-", form=FORMATS[form]) as capture,
    ):
        list(capture.items)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (FileNotFoundError(errno.ENOENT, "x", "y"), "there is no such file or directory"),
        (IsADirectoryError(errno.EISDIR, "x", "y"), "it is a directory, not a file"),
        (PermissionError(errno.EACCES, "x", "y"), "permission denied; check who owns it"),
        (OSError(errno.ENOSPC, "x"), "the disk is full; nothing was written"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), "File name too long"),
        (OSError("odd"), "odd"),
        (ValueError("embedded null byte"), "this cannot be a file name"),
    ],
)
def test_sentences(error: OSError | ValueError, says: str) -> None:
    assert os_sentence(error).startswith(says)


def test_windows_denies_permission_where_it_means_a_directory(tmp_path: Path) -> None:
    assert os_sentence(PermissionError(errno.EACCES, "x", str(tmp_path))) == "it is a directory, not a file"


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with atomic_writer(path) as file:
        file.write(b"new")
        file.write(b"er")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"newer"
    assert names(tmp_path) == ["out.bin"]


def test_a_new_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 60)
    with atomic_writer(str(path)) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [CaptureError("in", "bad"), KeyboardInterrupt(), OSError("elsewhere")])
def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")

    def fail() -> None:
        with atomic_writer(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(type(error)) as caught:
        fail()
    assert caught.value is error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["out.bin"]


@ON_POSIX
def test_permissions_stay_and_new_files_follow_the_umask(tmp_path: Path) -> None:
    old, new = tmp_path / "old.bin", tmp_path / "new.bin"
    old.write_bytes(b"")
    old.chmod(0o640)
    umask = os.umask(0o022)
    try:
        for path in (old, new):
            with atomic_writer(path) as file:
                file.write(b"x")
    finally:
        os.umask(umask)
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert stat.S_IMODE(new.stat().st_mode) == 0o644


@ON_POSIX
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    link, real = tmp_path / "link.bin", tmp_path / "real.bin"
    real.write_bytes(b"old")
    link.symlink_to(real.name)
    with atomic_writer(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


@ON_POSIX
def test_a_link_to_itself_is_told(tmp_path: Path) -> None:
    link = tmp_path / "link.bin"
    link.symlink_to(link.name)
    with pytest.raises(CaptureError), atomic_writer(link):
        pass
    assert names(tmp_path) == ["link.bin"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no/where/out.bin", "its directory does not exist; make it first"),
        ("file/out.bin", "its directory does not exist; make it first"),
        (".", "it is a directory, not a file"),
        ("nul\0.bin", "this cannot be a file name"),
    ],
)
def test_where_nothing_can_be_written(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CaptureError) as caught, atomic_writer(os.path.join(tmp_path, name)):  # noqa: PTH118 - keeps "."
        pass
    assert says in str(caught.value)
    assert names(tmp_path) == ["file"]


@ON_POSIX
def test_devices_are_written_directly() -> None:
    with atomic_writer("/dev/null") as file:
        file.write(b"x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_full_disk_is_told(size: int) -> None:
    with pytest.raises(CaptureError, match="/dev/full: the disk is full"), atomic_writer(FULL) as file:
        file.write(bytes(size))


class Full(io.RawIOBase):
    """The raw side of a new file on a disk with room for five bytes."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._file = open(name, "xb")  # noqa: PTH123, SIM115 - closed below; Path.open is replaced in the test
        self._room = 5

    def writable(self) -> bool:
        return True

    def write(self, _data: object, /) -> int:
        if not self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        size, self._room = self._room, 0
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_disk_that_fills_up_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda name, _mode: io.BufferedWriter(Full(str(name))))
        with pytest.raises(CaptureError, match="the disk is full; nothing"), atomic_writer(path) as file:
            file.write(bytes(size))
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["out.bin"]
