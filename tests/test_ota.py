"""The simulated MCU's flash, and ``gizsim ota`` against it: virtual time first, then real processes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from support_transfer import PRODUCT

from gizserial.cli.group import run
from gizserial.commands import Command, Role
from gizserial.endpoint import QueueFullError
from gizserial.errors import GizserialError
from gizserial.events import Event, FileReceived
from gizserial.framing import Frame
from gizserial.image import Image, hex_image
from gizserial.io.driver import Driver
from gizserial.io.memory import MemoryLink, mute
from gizserial.io.memory_transport import MemoryTransport
from gizserial.mcu_options import McuOptions
from gizserial.module import ModuleRole
from gizserial.module_options import ModuleOptions
from sim.cli import cli
from sim.cli.mcu import _commands
from sim.clock import LoopClock, run_virtual
from sim.mcu import McuSimulator
from sim.ota import FirmwareError, Flash, FlashError, product_of, version_of
from sim.ota_push import Push, Report
from sim.show import Show

ROOT = Path(__file__).resolve().parent.parent
PET = str(ROOT / "fixtures/products/pet-house.json")
FIRMWARE = bytes(number * 7 % 256 for number in range(3000)) + b"GIZVER=00000002\0"
IMAGE = Image(FIRMWARE)


# --- flash


def flashed(flash: Flash, data: bytes, *, md5: str = "", **more: Any) -> str:
    flash.erase()
    for offset in range(0, len(data), 100):
        flash.write(offset, data[offset : offset + 100])
    facts: dict[str, Any] = {"hex_text": False, "product_key": PRODUCT.product_key} | more
    return flash.activate(len(data), md5 or Image(data).md5, **facts)


@pytest.fixture(params=["memory", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Flash]:
    path = tmp_path / "mcu.flash" if request.param == "file" else None
    return lambda: Flash(4096, path)


def test_the_banks_take_turns(make: Callable[[], Flash]) -> None:
    flash = make()
    assert (flash.version, flash.firmware, flash.spare) == (None, None, 0)
    assert flashed(flash, FIRMWARE) == "00000002"
    assert (flash.version, flash.firmware, flash.spare) == ("00000002", FIRMWARE, 1)
    assert flashed(flash, b"GIZVER=3 and more") == "3"
    assert (flash.firmware, flash.spare) == (b"GIZVER=3 and more", 0)


def test_half_an_image_changes_nothing(make: Callable[[], Flash]) -> None:
    flash = make()
    flashed(flash, FIRMWARE)
    flash.erase()
    flash.write(0, bytes(2000))
    assert (flash.version, flash.firmware) == ("00000002", FIRMWARE)


@pytest.mark.parametrize(
    ("data", "more", "why"),
    [
        (b"x", {"md5": "0" * 32}, "MD5"),
        (b"GIZKEY=" + b"0" * 32, {}, "another product"),
        (b":0400000001020304F3\r\n:00000001FF\r\n", {"hex_text": True}, "checksum"),
    ],
)
def test_wrong_images_are_kept_out(data: bytes, more: dict[str, Any], why: str) -> None:
    flash = Flash(4096)
    flashed(flash, FIRMWARE)
    with pytest.raises(FirmwareError, match=why):
        flashed(flash, data, **more)
    assert flash.firmware == FIRMWARE


def test_what_firmware_says_of_itself() -> None:
    assert version_of(b"..GIZVER=00000007\0..") == "00000007"
    assert version_of(b"..GIZVER=123456789\0") is None
    assert version_of(b"") is None
    assert product_of(b"GIZKEY=" + PRODUCT.product_key.encode()) == PRODUCT.product_key
    assert flashed(Flash(4096), b"nothing") == Image(b"nothing").md5[:8]
    assert flashed(Flash(4096), FIRMWARE, version="mine") == "mine"


def test_a_flash_file_outlives_the_program(tmp_path: Path) -> None:
    path = tmp_path / "mcu.flash"
    flashed(Flash(4096, path), FIRMWARE)
    again = Flash(4096, path)
    assert (again.version, again.firmware) == ("00000002", FIRMWARE)
    again.erase()
    again.write(0, b"half of the next one")
    assert Flash(4096, path).firmware == FIRMWARE


def test_a_damaged_flash_boots_what_the_mcu_was_made_with(tmp_path: Path) -> None:
    path = tmp_path / "mcu.flash"
    flashed(Flash(4096, path), FIRMWARE)
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    flash = Flash(4096, path)
    assert flash.version is None
    assert "damaged" in flash.note


def test_a_version_that_no_answer_can_hold_counts_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "mcu.flash"
    flashed(Flash(4096, path), FIRMWARE)
    path.write_bytes(path.read_bytes().replace(b'"00000002", ', b'"000000022",', 1))
    assert Flash(4096, path).version is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_a_new_flash_file_is_whole_and_its_owner_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Flash(4096, tmp_path / "mcu.flash")
    assert (tmp_path / "mcu.flash").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "mcu.flash").stat().st_size == 512 + 2 * 4096

    def full(_file: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("sim.ota._synced", full)
    with pytest.raises(FlashError, match="disk is full"):
        Flash(4096, tmp_path / "other.flash")
    assert [path.name for path in tmp_path.iterdir()] == ["mcu.flash"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes of this kind")
def test_a_pipe_is_no_flash(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FlashError, match="no regular file"):
        Flash(4096, tmp_path / "pipe")


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"x" * 9000, b'{"format": "gizsim flash 1"}'])
def test_other_files_are_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(FlashError, match="flash"):
        Flash(4096, path)
    assert path.read_bytes() == content
    with pytest.raises(FlashError):
        Flash(4096, tmp_path / "no" / "place")


# --- a push, in virtual time


class Board:
    """A simulated MCU at one end of a link, and pushes from the other."""

    def __init__(self, link: MemoryLink | None = None, flash: Flash | None = None, **options: Any) -> None:
        self.link = link or MemoryLink(byte_time=10 / 115200)
        self.near, self.far = MemoryTransport.pair(self.link)
        self.flash = flash or Flash(8192)
        self.said: list[str] = []
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.on_tell: Callable[[str, dict[str, Any]], None] = lambda _kind, _facts: None
        settings: dict[str, Any] = {"ota": True, "ota_most": 8192} | options
        self.mcu = McuSimulator(
            self.far,
            Show(Role.MCU, PRODUCT, write=self.said.append),
            PRODUCT,
            options=McuOptions(**settings),
            flash=self.flash,
            clock=LoopClock(),
        )

    def push(self, image: Image = IMAGE, **options: Any) -> Report:
        return run_virtual(self._push(image, **options))

    async def _push(self, image: Image, **options: Any) -> Report:
        def tell(kind: str, facts: dict[str, Any]) -> None:
            self.told.append((kind, facts))
            self.on_tell(kind, facts)

        playing = asyncio.ensure_future(self.mcu.run())
        try:
            return await Push(self.near, image, tell=tell, **options).run()
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)


def test_an_update() -> None:
    board = Board(ota_store_ms=20, ota_erase_ms=1500)
    report = board.push(expect="00000002", options=ModuleOptions(byte_time=10 / 115200))
    assert (report.verdict, report.before, report.after) == ("updated", "00000001", "00000002")
    assert board.flash.firmware == FIRMWARE
    facts = report.facts
    assert (facts["pieces"], facts["count"], facts["piece_size"], facts["resends"]) == (24, 24, 128, 0)
    assert facts["erase_s"] == pytest.approx(1.5, abs=0.1)
    assert 0.02 <= facts["ack_median_s"] <= 0.03
    assert [facts["number"] for kind, facts in board.told if kind == "progress"] == list(range(1, 25))


def test_a_board_that_stores_too_slowly_is_seen_in_the_times() -> None:
    """3.5 s where 3 s are waited (serial.md §1.8): each piece is sent again, and was acked after 3.5 s."""
    board = Board(ota_store_ms=3500)
    report = board.push(expect="00000002")
    assert (report.verdict, report.facts["resends"]) == ("updated", 24)
    assert report.facts["ack_median_s"] == pytest.approx(3.5, abs=0.1)
    again = [facts for kind, facts in board.told if kind == "again"]
    assert again == [{"number": number, "attempt": 2} for number in range(1, 25)]


def test_the_same_version_again_is_an_update_with_a_remark() -> None:
    board = Board()
    board.push()
    assert board.push(expect="00000002").detail == ""
    report = board.push()
    assert report.verdict == "updated"
    assert "00000002 as before" in report.detail


def test_a_busy_mcu_can_refuse_a_complete_file() -> None:
    """Its own requests fill the queue: the 27 finds a place all the same."""
    board = Board()

    def busy(kind: str, _facts: dict[str, Any]) -> None:
        if kind == "progress":
            with contextlib.suppress(QueueFullError):
                while True:
                    board.mcu.role.ask_time(now=board.mcu.driver.now())

    board.on_tell = busy
    report = board.push(Image(b"GIZKEY=" + b"0" * 32))
    assert (report.verdict, "27" in report.detail) == ("failed", True)


def test_hex() -> None:
    image = hex_image(b":0400000001020304F2\n" * 20 + b":00000001FF\n")
    board = Board(ota_hex=True)
    assert board.push(image).verdict == "updated"
    assert board.flash.firmware == image.data


def test_hex_for_an_mcu_that_wants_bin_is_stopped() -> None:
    board = Board()
    report = board.push(hex_image(b":0400000001020304F2\n:00000001FF\n"))
    assert report.verdict == "refused"
    assert "BIN" in report.detail
    assert board.flash.firmware is None


@pytest.mark.parametrize(
    ("image", "board", "push", "verdict", "why"),
    [
        (Image(bytes(9000)), {}, {}, "refused", "1B"),
        (IMAGE, {"ota": False}, {}, "refused", "it takes no updates"),
        (IMAGE, {"ota_hex": True}, {}, "refused", "HEX"),
        (Image(b"x", md5="0" * 32), {}, {}, "failed", "27"),
        (Image(b"GIZKEY=" + b"0" * 32), {}, {}, "failed", "27"),
        (IMAGE, {}, {"expect": "00000009"}, "failed", "00000009 was expected"),
        (IMAGE, {}, {"product_key": "0" * 32}, "refused", "another product"),
        (IMAGE, {"never_answers": True}, {}, "failed", "who it is"),
        (IMAGE, {}, {"options": ModuleOptions(ota_single_piece_bug=True)}, "updated", ""),
        (Image(b"x"), {}, {"options": ModuleOptions(ota_single_piece_bug=True)}, "failed", "27"),
    ],
)
def test_how_it_may_end(
    image: Image, board: dict[str, Any], push: dict[str, Any], verdict: str, why: str
) -> None:
    mcu = Board(**board)
    report = mcu.push(image, **push)
    assert (report.verdict, why in report.detail) == (verdict, True), report
    if verdict != "updated" and "expect" not in push:
        assert mcu.flash.firmware is None


def test_an_mcu_that_falls_silent_in_the_middle() -> None:
    board = Board()

    def silent(kind: str, facts: dict[str, Any]) -> None:
        if kind == "progress" and facts["number"] == 5:
            board.link.b.set_manipulator(mute)

    board.on_tell = silent
    report = board.push()
    assert report.verdict == "failed"
    assert "piece 6 of 24" in report.detail
    assert report.facts["resends"] == 2


def test_an_mcu_that_refuses_in_place_of_the_last_ack(monkeypatch: pytest.MonkeyPatch) -> None:
    """27 for the first copy of the last piece is a refusal: there is no restart to wait for."""
    board = Board()
    endpoint = board.mcu.role._endpoint
    ack = endpoint.ack

    def silent_at_the_end(frame: Frame, payload: bytes = b"", **facts: Any) -> None:
        if frame.command != Command.FILE_PIECE or frame.payload[:2] != frame.payload[2:4]:
            ack(frame, payload, **facts)

    monkeypatch.setattr(endpoint, "ack", silent_at_the_end)
    report = board.push(Image(bytes(300), md5="0" * 32))
    assert (report.verdict, report.detail) == ("failed", "the MCU refused the file when it was complete (27)")
    assert not any(kind == "asking" for kind, _facts in board.told)


def test_an_mcu_that_has_the_module_restarted_in_the_middle() -> None:
    board = Board()

    def restart(kind: str, facts: dict[str, Any]) -> None:
        if kind == "progress" and facts["number"] == 5:
            board.mcu.role.restart_module(now=board.mcu.driver.now())
            board.mcu.driver.wake()

    board.on_tell = restart
    report = board.push()
    assert (report.verdict, "(29)" in report.detail) == ("failed", True)


@pytest.mark.parametrize("number", [1, 2, 12, 23, 24])
def test_power_fails_at_any_piece_and_what_is_whole_boots(tmp_path: Path, number: int) -> None:
    """The old firmware boots until the last piece is stored, and the new one from then on (§4.13)."""
    new = Image(b"GIZVER=00000003\0" + bytes(3000))
    path = tmp_path / "mcu.flash"
    flashed(Flash(8192, path), FIRMWARE)
    board = Board(flash=Flash(8192, path), ota_store_ms=100)

    def fail(kind: str, facts: dict[str, Any]) -> None:
        if kind == "progress" and facts["number"] == number:
            board.mcu.stop()

    board.on_tell = fail
    report = board.push(new)
    assert (report.verdict, report.facts["pieces"]) == ("failed", number)
    again = Board(flash=Flash(8192, path))
    whole = number == 24
    assert again.flash.firmware == (new.data if whole else FIRMWARE)
    assert again.mcu.role.soft_ver == ("00000003" if whole else "00000002")
    assert again.push(new, expect="00000003").verdict == "updated"


def test_an_mcu_that_restarts_without_29_is_asked_for_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board()
    role = board.mcu.role
    monkeypatch.setattr(role, "boot", lambda version, **_now: setattr(role, "soft_ver", version))
    report = board.push(restart_wait=5)
    assert (report.verdict, report.after) == ("updated", "00000002")
    assert "29" in report.detail


def test_an_mcu_that_does_not_take_what_it_got(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board()
    monkeypatch.setattr(board.mcu.role, "boot", lambda _version, **_now: None)
    report = board.push(restart_wait=5)
    assert report.verdict == "failed"
    assert "00000001 as before" in report.detail


# --- real processes

pty = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither virtual ports nor such signals")


@contextlib.asynccontextmanager
async def gizsim(
    *words: str, stdout: int = asyncio.subprocess.PIPE
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from sim.cli import main; main()", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def finished(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert "Traceback" not in err.decode()
    return process.returncode, (out or b"").decode(), err.decode()


@pty
async def test_ota_against_mcu_over_a_virtual_port(tmp_path: Path) -> None:
    image, flash, link = tmp_path / "fw.bin", tmp_path / "mcu.flash", tmp_path / "port"
    image.write_bytes(FIRMWARE)
    board = ("mcu", "--port", f"pty:{link}", "-p", PET, "--flash", str(flash), "--quiet")
    async with gizsim(*board, "--quirk", "reboot_delay_ms=50") as mcu:
        assert mcu.stdout is not None
        await mcu.stdout.readline()
        words = ("ota", "--port", str(link), "-p", PET, str(image), "--expect-version", "00000002")
        async with gizsim(*words, "--json") as ota:
            status, out, err = await finished(ota)
    assert (status, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[0]["kind"] == "ready"
    assert lines[-1]["kind"] == "result"
    assert (lines[-1]["verdict"], lines[-1]["version_after"]) == ("updated", "00000002")
    assert Flash(256 * 1024, flash).firmware == FIRMWARE


@pty
async def test_ctrl_c_stops_the_transfer_with_1f(tmp_path: Path) -> None:
    image, link = tmp_path / "fw.bin", tmp_path / "port"
    image.write_bytes(FIRMWARE)
    slow = ("--quirk", "ota_store_ms=100")
    async with gizsim("mcu", "--port", f"pty:{link}", "-p", PET, "--ota", "--json", *slow) as mcu:
        assert mcu.stdout is not None
        await mcu.stdout.readline()
        async with gizsim("ota", "--port", str(link), str(image), "--json") as ota:
            assert ota.stdout is not None
            async with asyncio.timeout(20):
                while b'"progress"' not in await ota.stdout.readline():
                    pass
            ota.send_signal(signal.SIGINT)
            status, out, _err = await finished(ota)
        assert json.loads(out.splitlines()[-1])["detail"] == "the MCU was told (1F)"
        async with asyncio.timeout(20):
            while b'"file_sender_stop"' not in (line := await mcu.stdout.readline()):
                assert line
    assert status == 130


@pty
async def test_an_update_that_nobody_watches_goes_on_and_keeps_its_status(tmp_path: Path) -> None:
    """``gizsim ota … | head -1``: status 0 would say "updated" (cli.md)."""
    image, flash, link = tmp_path / "fw.bin", tmp_path / "mcu.flash", tmp_path / "port"
    image.write_bytes(FIRMWARE)
    board = ("mcu", "--port", f"pty:{link}", "-p", PET, "--flash", str(flash), "--quiet")
    async with gizsim(*board, "--quirk", "reboot_delay_ms=50") as mcu:
        assert mcu.stdout is not None
        await mcu.stdout.readline()
        reader, writer = os.pipe()
        words = ("ota", "--port", str(link), str(image), "--expect-version", "00000009")
        async with gizsim(*words, stdout=writer) as ota:
            os.close(reader)
            os.close(writer)
            status, _out, err = await finished(ota)
    assert (status, err) == (1, "")
    assert Flash(256 * 1024, flash).firmware == FIRMWARE


@pytest.mark.parametrize(
    ("name", "content", "words", "why"),
    [
        ("fw.hex", b":0400000001020304F3\n:00000001FF\n", [], "line 1 has a wrong checksum"),
        ("fw.bin", b"", [], "empty"),
        ("fw.elf", b"x", [], "--format"),
        ("fw.bin", b"x", ["--format", "hex"], "line 1"),
        ("fw.bin", b"\x7fELF\x01", [], "objcopy"),
        ("fw.hex", b"\x7fELF\x01", [], "objcopy"),
        ("fw.bin", b":0400000001020304F2\r\n:00000001FF\r\n", [], "--format hex"),
        ("fw.bin", b"x", ["--expect-version", "123456789"], "1 to 8"),
        ("fw.bin", b"x", ["--expect-version", ""], "1 to 8"),
    ],
)
def test_images_that_are_none_are_usage_errors(
    tmp_path: Path,
    *,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes,
    words: list[str],
    why: str,
) -> None:
    image = tmp_path / name
    image.write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        run(cli, "gizsim", ["ota", "--port", "loop://", str(image), *words])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert why in err
    assert len(err.strip().splitlines()) == 1


def test_flash_beyond_all_measure_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(cli, "gizsim", ["mcu", "--port", "loop://", "-p", PET, "--ota", "--quirk", "ota_most=1000000000"])
    assert stop.value.code == 2
    assert "67108864" in capsys.readouterr().err


def test_an_image_larger_than_any_is_not_read_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sim.cli.ota._SIZE_MOST", 100)
    (tmp_path / "zero.bin").symlink_to("/dev/zero")
    with pytest.raises(SystemExit) as stop:
        run(cli, "gizsim", ["ota", "--port", "loop://", str(tmp_path / "zero.bin")])
    assert stop.value.code == 2
    assert "more than 100 bytes" in capsys.readouterr().err


def test_the_prompt_of_the_mcu_uploads_a_file(tmp_path: Path) -> None:
    board = Board()
    upload, stop = (_commands(board.mcu)[name][2] for name in ("upload", "stop"))
    path = tmp_path / "log.txt"
    path.write_bytes(b"what happened\n" * 100)
    received: list[bytes] = []

    async def main() -> None:
        module = ModuleRole()

        def event(event: Event) -> None:
            if isinstance(event, FileReceived):
                received.append(event.data)

        async with Driver(module, board.near, on_event=event, clock=LoopClock()):
            playing = asyncio.ensure_future(board.mcu.run())
            await asyncio.sleep(1)
            with pytest.raises(GizserialError, match="no-such-file"):
                upload([str(tmp_path / "no-such-file")])
            upload([str(path)])
            await asyncio.sleep(5)
            upload([str(path)])
            stop([])
            await asyncio.sleep(5)
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)

    run_virtual(main())
    assert received == [path.read_bytes()]
    said = "\n".join(board.said)
    assert "the file for the module: complete" in said
    assert "the file for the module: stopped" in said
