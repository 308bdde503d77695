"""``gizsim module``, ``mcu`` and ``demo`` as a user starts them: refusals, ends, pipes, what they print."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PET = str(ROOT / "fixtures" / "products" / "pet-house.json")
SECRET = "0123456789abcdef0123456789abcdef"
PATIENCE = 30.0
POSIX = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has neither virtual serial ports nor such signals"
)


@contextlib.asynccontextmanager
async def gizsim(
    *words: str, stdin: int = asyncio.subprocess.PIPE
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from sim.cli import main; main()", *words),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        limit=2**20,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        with contextlib.suppress(OSError):
            await process.communicate()


async def line(process: asyncio.subprocess.Process, text: str = "") -> str:
    """The next line that holds a text."""
    assert process.stdout is not None
    seen = []
    async with asyncio.timeout(PATIENCE):
        while raw := await process.stdout.readline():
            seen.append(raw.decode().rstrip())
            if text in seen[-1]:
                return seen[-1]
    raise AssertionError(f"{text!r} never came, but: {seen}")


async def end(process: asyncio.subprocess.Process, number: signal.Signals) -> tuple[int, str, str]:
    process.send_signal(number)
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (out or b"").decode(), err.decode()


async def refused(*words: str) -> str:
    """A command that must end by itself with status 2 and one line; gives it."""
    async with gizsim(*words) as process:
        async with asyncio.timeout(PATIENCE):
            _out, err = await process.communicate()
    text = err.decode().strip()
    assert process.returncode == 2, text
    assert len(text.splitlines()) == 1
    assert "Traceback" not in text
    assert "internal error" not in text
    return text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("module",), "--port"),
        (("mcu", "--port", "pty:"), "--product"),
        (("module", "--port", "/no/such/port", "--cloud", "none"), "/no/such/port"),
        (("module", "--port", "pty:", "-p", "."), "directory"),
        (("module", "--port", "pty:", "--cloud", "ftp://x"), "http://HOST"),
        (("module", "--port", "pty:", "--cloud", "http://u:p@x"), "http://HOST"),
        (("module", "--port", "pty:", "--cloud", "none", "--data", "x"), "--cloud local"),
        (("module", "--port", "pty:", "--mac", "zz"), "12 hex digits"),
        (("module", "--port", "pty:", "--quirk", "status_tick_s=0"), "status_tick_s"),
        (("module", "--port", "pty:", "--state", PET), "is a file"),
        (("mcu", "--port", "pty:", "-p", PET, "--set", "LED_R=999"), "0 to 254"),
        (("mcu", "--port", "pty:", "-p", PET, "--quirk", "product_secret=x"), "32 hex digits"),
        (("mcu", "--port", "pty:", "-p", PET, "--move", "LED_R=fly:1..2"), "fly"),
    ],
)
async def test_what_is_refused_is_refused_in_one_sentence(words: tuple[str, ...], says: str) -> None:
    assert says in await refused(*words)


async def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert str(port) in await refused(
            "module", "--port", f"tcp-listen:127.0.0.1:{port}", "--cloud", "none"
        )


async def test_quirks_are_listed_without_a_port() -> None:
    for name, some in (("module", "heartbeat_s=none"), ("mcu", "info_variant=C")):
        async with gizsim(name, "--list-quirks") as process:
            out, _err = await process.communicate()
        assert process.returncode == 0
        assert some in out.decode().split()


async def test_lists_are_json_lines_too() -> None:
    for option, name in (("--list-quirks", "ack_wait"), ("--list-faults", "delay")):
        async with gizsim("mcu", option, "--json") as process:
            out, _err = await process.communicate()
        objects = [json.loads(text) for text in out.decode().splitlines()]
        assert objects[0]["name"] == name
        assert all(listed["meaning"] for listed in objects)


@POSIX
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("stdin", [asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL])
async def test_a_signal_ends_it_without_a_word(number: signal.Signals, status: int, stdin: int) -> None:
    async with gizsim("module", "--port", "pty:", "--cloud", "none", stdin=stdin) as module:
        assert (await line(module)).startswith("ready ")
        got, out, err = await end(module, number)
    assert (got, out.strip(), err.strip()) == (status, "", "")


@POSIX
async def test_it_plays_on_when_only_the_ready_line_is_read(tmp_path: Path) -> None:
    read, write = os.pipe()
    link = str(tmp_path / "line")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from sim.cli import main; main()"),
        *("module", "--port", f"pty:{link}", "--cloud", "local"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=write,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    os.close(write)
    await asyncio.to_thread(os.read, read, 1)
    os.close(read)
    async with gizsim("mcu", "--port", link, "-p", PET) as mcu:
        assert "cloud" in await line(mcu, "status sn")
        status, _out, err = await end(process, signal.SIGTERM)
    assert (status, err) == (143, "")


@POSIX
async def test_typed_through_a_pipe_and_quit() -> None:
    async with gizsim("module", "--port", "pty:", "--cloud", "none", "-p", PET) as module:
        assert module.stdin is not None
        await line(module, "ready")
        module.stdin.write(b"\xff\xfe\nset\nfly\nset LED_R=1\nquit\n")
        async with asyncio.timeout(PATIENCE):
            out, err = await module.communicate()
    assert module.returncode == 0
    assert "there is no command 'fly'" in out.decode()
    assert "the MCU has not answered" in out.decode()
    assert err == b""


@POSIX
async def test_json_is_json_lines_only_and_quiet_is_quiet(tmp_path: Path) -> None:
    link = str(tmp_path / "line")
    async with gizsim("module", "--port", f"pty:{link}", "--cloud", "local", "-p", PET, "--json") as module:
        assert json.loads(await line(module))["kind"] == "ready"
        async with gizsim("mcu", "--port", link, "-p", PET, "--quiet") as mcu:
            await line(mcu, "ready")
            seen = [json.loads(await line(module)) for _ in range(5)]
            while seen[-1].get("name") != "status_ack":
                seen.append(json.loads(await line(module)))
            status, out, err = await end(mcu, signal.SIGTERM)
            assert (status, out, err) == (143, "", "")
        _status, out, _err = await end(module, signal.SIGTERM)
    seen += [json.loads(text) for text in out.splitlines()]
    assert {"event", "frame"} <= {str(members["kind"]) for members in seen}


@POSIX
async def test_a_product_with_a_secret_registers_encrypted_and_comes_back_as_the_same_device(
    tmp_path: Path,
) -> None:
    config = tmp_path / "cloud.yaml"
    config.write_text(f"products:\n  - definition: {PET}\n    product_secret: {SECRET}\n")
    link, state = str(tmp_path / "line"), tmp_path / "state"
    async with gizsim(
        *("cloud", "--config", str(config), "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0")
    ) as cloud:
        http = json.loads((await line(cloud, "ready")).removeprefix("ready "))["http"]
        found, shown = [], ""
        for _ in range(2):
            async with gizsim(
                *("module", "--port", f"pty:{link}", "--cloud", f"http://{http}", "--state", str(state))
            ) as module:
                await line(module, "ready")
                async with gizsim(
                    *("mcu", "--port", link, "-p", PET, "--quirk", f"product_secret={SECRET}")
                ) as mcu:
                    shown += await line(module, "device_info_ack")
                    await line(module, "cloud connected")
                    shown += (await end(mcu, signal.SIGTERM))[1]
                module.kill()
            [path] = state.glob("module-*.json")
            found.append(json.loads(path.read_text()))
    assert found[0] == found[1], found
    assert found[0]["generation"] == "g2"
    assert SECRET not in shown
    assert found[0]["passcode"] not in shown
