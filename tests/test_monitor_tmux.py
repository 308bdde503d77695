"""The monitor as people run it: a real terminal, real ports, a simulated MCU and module on them."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gizserial.io.files import open_capture

ROOT = Path(__file__).resolve().parent.parent
PET = ROOT / "fixtures/products/pet-house.json"
DEADLINE = 30.0

pytestmark = [
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
    pytest.mark.skipif(os.name != "posix", reason="there are no ptys"),
]


class Terminal:
    """A tmux server of our own with one window."""

    def __init__(self, command: str, *, width: int, height: int) -> None:
        self._server = f"gizserial-{os.getpid()}-{secrets.token_hex(4)}"
        size = ["-x", str(width), "-y", str(height)]
        # The window stays after the program, so that its exit status can be read.
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, f"{command}; echo STATUS $?; sleep 60")

    def _tmux(self, *words: str) -> str:
        command = ["tmux", "-u", "-L", self._server, *words]
        # COLUMNS and LINES would be taken for the window's size.
        kept = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
        environment = {**kept, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
        return subprocess.run(
            command, env=environment, capture_output=True, check=True, timeout=10, encoding="utf-8"
        ).stdout

    def keys(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def until(self, condition: Callable[[str], object]) -> str:
        end = time.monotonic() + DEADLINE
        while True:
            screen = self.screen()
            if condition(screen):
                return screen
            assert time.monotonic() < end, screen
            time.sleep(0.05)

    def close(self) -> None:
        with contextlib.suppress(subprocess.SubprocessError):
            self._tmux("kill-server")


@contextlib.contextmanager
def simulator(*words: str) -> Iterator[None]:
    command = [sys.executable, "-c", "from sim.cli import main; main()", *words]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(10)


def test_between_a_simulated_mcu_and_a_simulated_module(tmp_path: Path) -> None:
    mcu, module, saved = tmp_path / "mcu", tmp_path / "module", tmp_path / "run.jsonl"
    words = [sys.executable, "-c", "from gizserial.cli import main; main()", "monitor", "--between"]
    words += [f"pty:{module}", f"pty:{mcu}", "-p", str(PET), "--save", str(saved)]
    terminal = Terminal(f"cd {ROOT} && {shlex.join(words)}", width=120, height=40)
    with contextlib.ExitStack() as stack:
        stack.callback(terminal.close)
        terminal.until(lambda screen: "DOWN" in screen.splitlines()[0] and mcu.exists() and module.exists())
        stack.enter_context(simulator("mcu", "--port", str(mcu), "-p", str(PET), "--set", "Temperature=21"))
        words = ["--port", str(module), "-p", str(PET), "--cloud", "none", "--mac", "0123456789AB"]
        stack.enter_context(simulator("module", *words))
        screen = terminal.until(lambda screen: "device_info_ack" in screen and "p0_from_mcu" in screen)
        assert "line up (" in screen
        terminal.until(
            lambda screen: any("Temperature" in row and " 21 " in row for row in screen.splitlines())
        )
        terminal.keys("a")
        terminal.until(lambda screen: "hidden" in screen.splitlines()[0] and "_ack" not in _rows(screen))
        terminal.keys("a", "/")
        terminal.keys("-l", "name:device_info dir:module")
        terminal.keys("Enter")
        terminal.until(lambda screen: "device_info" in screen and "p0_from_mcu" not in _rows(screen))
        terminal.keys("Home", "Enter")
        terminal.until(lambda screen: "00000000  ff ff" in screen)
        terminal.keys("3")
        terminal.until(lambda screen: "bad frames: none" in screen)
        terminal.keys("q")
        terminal.until(lambda screen: "STATUS 0" in screen)
    with open_capture(str(saved)) as capture:
        directions = {record.direction for record in capture.records()}
    assert directions == {"mcu>module", "module>mcu"}


def _rows(screen: str) -> str:
    """The frames pane of a wide terminal."""
    return "\n".join(line.split("▏")[0] for line in screen.splitlines())


def test_ctrl_c_gives_the_terminal_back() -> None:
    words = [sys.executable, "-c", "from gizserial.cli import main; main()", "monitor"]
    words += [str(ROOT / "fixtures/captures/pet-house.jsonl"), "-p", str(PET)]
    terminal = Terminal(f"cd {ROOT} && NO_COLOR=1 {shlex.join(words)}", width=80, height=24)
    try:
        terminal.until(lambda screen: "ERROR checksum" in screen and "粉色" in screen and "Filter" in screen)
        terminal.keys("C-c")
        screen = terminal.until(lambda screen: "STATUS 130" in screen)
        assert "heartbeat" not in screen
    finally:
        terminal.close()
