"""Recordings that grow: what is in the file at any moment, who sent what on a line heard at one place."""

from __future__ import annotations

import errno
import io
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, cast

import pytest

from gizserial.capture.record import Record
from gizserial.capture.senders import HOLD, HOLD_MOST, Senders, with_senders
from gizserial.commands import Role
from gizserial.errors import CaptureError
from gizserial.framing import Frame
from gizserial.io.files import open_capture
from gizserial.io.recorder import CaptureRecorder

HEARTBEAT = Frame(0x07, 1).encode()
ACK = Frame(0x08, 1).encode()
UNKNOWN = Frame(0x2B, 9).encode()


def read(path: Path) -> list[Record]:
    with open_capture(str(path)) as capture:
        return list(capture.records())


@pytest.mark.parametrize("suffix", [".jsonl", ".pcapng"])
def test_each_record_is_on_disk_at_once(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"run{suffix}"
    with CaptureRecorder(path) as recorder:
        assert read(path) == []
        recorder.on_bytes("module>mcu", HEARTBEAT, 0.5)
        assert read(path) == [Record(0.5, "module>mcu", HEARTBEAT)]
        recorder.of(Role.MCU)("sent", ACK, 0.6)
        recorder.of(Role.MCU)("received", HEARTBEAT, 0.7)
        assert [record.direction for record in read(path)] == ["module>mcu", "mcu>module", "module>mcu"]
    assert recorder.records == 3
    assert recorder.bytes == {"module>mcu": 18, "mcu>module": 9}


def test_meta_and_notes_are_lines_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with CaptureRecorder(path, product_key="ab", tool=None) as recorder:
        recorder.note("the port is down", 1.0)
        recorder.on_bytes("module>mcu", HEARTBEAT, 2.0)
    with open_capture(str(path)) as capture:
        assert capture.meta is not None
        assert dict(capture.meta.members) == {"product_key": "ab"}
        assert len(list(capture.records())) == 1
    assert '"note":"the port is down"' in path.read_text()


def test_a_full_disk_leaves_whole_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.jsonl"
    with CaptureRecorder(path) as recorder:
        recorder.on_bytes("module>mcu", HEARTBEAT, 0.5)
        before = path.read_bytes()
        real = cast("IO[bytes]", recorder._file)

        class Full(io.BytesIO):
            def write(self, data: Any, /) -> int:
                if path.stat().st_size == len(before):
                    return real.write(bytes(data[:10]))
                raise OSError(errno.ENOSPC, "No space left on device")

            def fileno(self) -> int:
                return real.fileno()

        monkeypatch.setattr(recorder, "_file", Full())
        with pytest.raises(CaptureError, match="the disk is full; what came before is in the file"):
            recorder.on_bytes("mcu>module", ACK, 0.6)
        assert path.read_bytes() == before
        monkeypatch.setattr(recorder, "_file", real)
    assert read(path) == [Record(0.5, "module>mcu", HEARTBEAT)]


def test_a_killed_program_leaves_what_it_got(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    code = (
        "import os, signal, sys\nfrom gizserial.io.recorder import CaptureRecorder\n"
        "with CaptureRecorder(sys.argv[1]) as r:\n"
        "    r.on_bytes('module>mcu', b'abc', 1.0)\n    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=30)
    assert read(path) == [Record(1.0, "module>mcu", b"abc")]


def test_the_suffix_and_the_place_must_be_good(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="a capture has one of"):
        CaptureRecorder(tmp_path / "run.xyz")
    with (
        pytest.raises(CaptureError, match="its directory does not exist; make it first"),
        CaptureRecorder(tmp_path / "no" / "run.jsonl"),
    ):
        pass


# --- who sent it


def test_the_command_says_the_sender() -> None:
    """serial.md §2: 07 is the module's, 08 the MCU's."""
    found = Senders().receive_data(HEARTBEAT + ACK, now=1.0)
    assert found == [Record(1.0, "module>mcu", HEARTBEAT), Record(1.0, "mcu>module", ACK)]


def test_what_does_not_say_it_counts_to_the_frame_before_it_and_is_marked() -> None:
    senders = Senders()
    found = senders.receive_data(ACK + UNKNOWN + b"\x00\x01", now=1.0)
    found += senders.flush()
    assert [(record.direction, dict(record.extra)) for record in found] == [
        ("mcu>module", {}),
        ("mcu>module", {"guessed": True}),
        ("mcu>module", {"guessed": True}),
    ]


def test_the_beginning_waits_for_the_first_known_sender() -> None:
    senders = Senders()
    assert senders.receive_data(b"\x13" + UNKNOWN, now=1.0) == []
    found = senders.receive_data(HEARTBEAT, now=1.5)
    assert [record.direction for record in found] == ["module>mcu"] * 3
    assert [record.t for record in found] == [1.0, 1.0, 1.5]


def test_but_not_for_ever() -> None:
    senders = Senders()
    senders.receive_data(UNKNOWN, now=1.0)
    assert senders.next_timeout() == 1.0 + HOLD
    assert [record.direction for record in senders.handle_timeout(now=1.0 + HOLD)] == ["mcu>module"]
    assert Senders().receive_data(b"\x00" * (2 * HOLD_MOST), now=1.0)


def test_a_frame_that_stops_is_over_after_half_a_second() -> None:
    senders = Senders()
    senders.receive_data(HEARTBEAT + ACK[:5], now=1.0)
    assert senders.next_timeout() == 1.5
    assert [record.data for record in senders.handle_timeout(now=1.5)] == [ACK[:5]]


def test_every_byte_is_kept_in_order() -> None:
    wire = b"\x00\xff" + HEARTBEAT + b"\xff\xff\x00" + ACK[:-1] + b"\x99" + UNKNOWN + ACK
    for size in (1, 2, 7, len(wire)):
        chunks = [wire[start : start + size] for start in range(0, len(wire), size)]
        records = [Record(float(number), None, chunk) for number, chunk in enumerate(chunks)]
        assert b"".join(record.data for record in with_senders(records)) == wire
