"""The monitor's panes: keys, mouse, sizes and load, without a terminal (textual's pilot)."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import pytest
from test_monitor import BROKEN, CONTROL, HEARTBEAT, HEARTBEAT_ACK, PET, REPORT, STATUS, report
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import ContentSwitcher, Input

from gizserial.cli.monitor_app import BUDGET, MonitorApp
from gizserial.framing import Frame
from gizserial.io.files import open_capture
from gizserial.io.recorder import CaptureRecorder
from gizserial.io.watch import Happened, Heard
from gizserial.monitor import Monitor


class Fed:
    """A source that says what the test tells it to."""

    def __init__(self, *things: Heard | Happened) -> None:
        self.things = deque(things)
        self.now = 0.0
        self.title, self.state, self.ended = "port", "UP", False

    def take(self) -> Heard | Happened | None:
        return self.things.popleft() if self.things else None

    def say(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self.now += 0.1
            self.things.append(Heard(self.now, None, chunk))


def app_of(
    *chunks: bytes, recording: CaptureRecorder | None = None, keep: int = 20_000
) -> tuple[MonitorApp, Fed]:
    source = Fed()
    source.say(*chunks)
    return MonitorApp(Monitor(PET, keep=keep), source, recording=recording), source


async def tick(pilot: Pilot[int], app: MonitorApp) -> None:
    app._tick()
    await pilot.pause()


def screen(app: MonitorApp) -> list[str]:
    """What is on the screen, line by line."""
    strips = app.screen._compositor.render_strips()
    return [strip.text.rstrip() for strip in strips]


EXAMPLE = (HEARTBEAT, HEARTBEAT_ACK, CONTROL, REPORT, STATUS, BROKEN)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50), (40, 10)])
async def test_every_size_shows_frames_and_values(width: int, height: int) -> None:
    app, _ = app_of(*EXAMPLE)
    async with app.run_test(size=(width, height)) as pilot:
        await tick(pilot, app)
        lines = screen(app)
        assert len(lines) == height
        text = "\n".join(lines)
        assert "heartbeat" in text
        assert "LED_OnOff" in text
        if width >= 80:
            assert "ERROR checksum" in text
            assert "6 frames" not in text
            assert "5 frames" in lines[0]
            assert "bad 1" in lines[0]
        if width >= 120:
            row = next(line for line in lines if "LED_Color=粉色" in line)
            assert "control" in row
            assert app.values.region.y == app.frames.region.y + 1


async def test_the_panes_move_when_the_terminal_grows() -> None:
    app, _ = app_of(*EXAMPLE)
    async with app.run_test(size=(80, 24)) as pilot:
        assert app.values.region.y > app.frames.region.y + 1
        await pilot.resize_terminal(150, 24)
        await tick(pilot, app)
        await tick(pilot, app)
        assert app.values.region.y == app.frames.region.y + 1


async def test_columns_stand_below_each_other_beside_chinese_texts() -> None:
    from rich.cells import cell_len

    app, _ = app_of(*EXAMPLE)
    async with app.run_test(size=(80, 24)) as pilot:
        await tick(pilot, app)
        rows = [line for line in screen(app) if "writable" in line]
        assert any("粉色" in row for row in rows)
        assert len({cell_len(row[: row.index("writable")]) for row in rows}) == 1


async def test_filter_line_and_hiding() -> None:
    app, source = app_of(*EXAMPLE)
    async with app.run_test(size=(100, 30)) as pilot:
        await tick(pilot, app)
        await pilot.press("slash", *"dir:mcu", "enter")
        assert [row.name for row in app.monitor.shown] == ["heartbeat_ack", "p0_from_mcu"]
        assert app.focused is app.frames
        await pilot.press("slash", *"x", "escape")
        assert len(app.monitor.shown) == 6
        await pilot.press("h")
        assert [row.name for row in app.monitor.shown] == ["p0_to_mcu", "p0_from_mcu", "status"]
        source.say(HEARTBEAT, REPORT)
        await tick(pilot, app)
        assert [row.name for row in app.monitor.shown][-2:] == ["status", "p0_from_mcu"]
        await pilot.press("slash", *"hex:F", "enter")
        assert "is not hex" in "\n".join(screen(app))


async def test_keys_typed_without_a_pause_go_where_they_belong() -> None:
    """As from a paste, or from fast fingers on a slow machine: no key waits for the one before it."""
    app, _ = app_of(*EXAMPLE)

    def type_at_once(*keys: str) -> None:
        for key in keys:
            app.post_message(Key(key, key if len(key) == 1 else None))

    async with app.run_test(size=(100, 30)) as pilot:
        await tick(pilot, app)
        type_at_once("slash", *"dir:mcu", "enter", "home")
        await pilot.pause()
        await pilot.pause()
        assert app.query_one("#filter", Input).value == "dir:mcu"
        assert [row.name for row in app.monitor.shown] == ["heartbeat_ack", "p0_from_mcu"]
        assert app.frames.cursor == 0
        assert app.focused is app.frames
        type_at_once("slash", *"xyz", "escape", "a")
        await pilot.pause()
        await pilot.pause()
        assert app.query_one("#filter", Input).value == ""
        assert len(app.monitor.shown) == 5


async def test_space_stops_and_end_follows_again() -> None:
    app, source = app_of(*EXAMPLE)
    async with app.run_test(size=(80, 24)) as pilot:
        await tick(pilot, app)
        assert app.frames.cursor == 5
        await pilot.press("space")
        source.say(*[HEARTBEAT] * 50)
        await tick(pilot, app)
        assert app.frames.cursor == 5
        assert "STOPPED" in screen(app)[0]
        await pilot.press("end")
        source.say(REPORT)
        await tick(pilot, app)
        assert app.frames.cursor == 56
        await pilot.press("up")
        source.say(REPORT)
        await tick(pilot, app)
        assert app.frames.cursor == 55


async def test_the_window_stays_on_its_rows_when_old_ones_are_dropped() -> None:
    app, source = app_of(keep=1000)
    async with app.run_test(size=(80, 24)) as pilot:
        source.say(*[HEARTBEAT] * 1000)
        await tick(pilot, app)
        await pilot.press("space")
        selected = app.frames.selected
        source.say(*[REPORT] * 800)
        await tick(pilot, app)
        assert app.monitor.dropped > 0
        assert app.frames.selected is selected


async def test_detail_counters_and_plot() -> None:
    app, _ = app_of(*EXAMPLE, *(report(sn, temperature=30 + sn) for sn in range(20)))
    async with app.run_test(size=(160, 50)) as pilot:
        await tick(pilot, app)
        await pilot.press("home", "down", "down", "enter")
        text = "\n".join(screen(app))
        assert "p0_to_mcu (03)  sn 66  module>mcu" in text
        assert "Motor_Speed  2 (raw 7)" in text
        await pilot.press("3")
        text = "\n".join(screen(app))
        assert "bad frames: checksum 1" in text
        await pilot.press("1", "tab")
        assert app.focused is app.values
        await pilot.press(*["down"] * 7, "enter")
        assert app.query_one("#panes", ContentSwitcher).current == "plot"
        text = "\n".join(screen(app))
        assert "Temperature = 36" in text
        assert "█" in text
        await pilot.press("plus", "right")
        assert "Humidity" in "\n".join(screen(app))


async def test_mouse_chooses_a_row() -> None:
    app, _ = app_of(*EXAMPLE)
    async with app.run_test(size=(80, 24)) as pilot:
        await tick(pilot, app)
        await pilot.click("#frames", offset=(5, 2))
        assert app.frames.cursor == 1
        await pilot.click("#frames", offset=(5, 2))
        assert app.query_one("#panes", ContentSwitcher).current == "detail"


async def test_next_error() -> None:
    app, _ = app_of(*EXAMPLE, *EXAMPLE[:5])
    async with app.run_test(size=(80, 24)) as pilot:
        await tick(pilot, app)
        await pilot.press("e")
        assert app.frames.selected is not None
        assert app.frames.selected.kind == "error"


async def test_next_error_where_nothing_is_shown() -> None:
    app, _ = app_of(*EXAMPLE)
    async with app.run_test(size=(80, 24)) as pilot:
        await tick(pilot, app)
        await pilot.press("space", "c", "space", "e")
        assert app.frames.cursor == 0
        assert app.frames.selected is None
        assert app.is_running


@pytest.mark.parametrize("name", ["run.jsonl", "run.pcapng", "run.hex", "run.bin"])
async def test_save_writes_what_is_kept(name: str, tmp_path: Path) -> None:
    app, _ = app_of(*EXAMPLE)
    target = tmp_path / name
    async with app.run_test(size=(80, 24)) as pilot:
        await tick(pilot, app)
        await pilot.press("s")
        app.screen.query_one(Input).value = str(target)
        await pilot.press("enter")
        await pilot.pause()
    with open_capture(str(target)) as capture:
        assert b"".join(record.data for record in capture.records()) == b"".join(EXAMPLE)


async def test_save_where_it_cannot_be_written_is_told(tmp_path: Path) -> None:
    app, _ = app_of(*EXAMPLE)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await tick(pilot, app)
        await pilot.press("s")
        app.screen.query_one(Input).value = str(tmp_path / "no" / "run.jsonl")
        await pilot.press("enter")
        await pilot.pause()
        assert "its directory does not exist" in "".join(note.message for note in app._notifications)


async def test_recording_takes_everything(tmp_path: Path) -> None:
    target = tmp_path / "all.jsonl"
    with CaptureRecorder(str(target)) as recording:
        app, source = app_of(*EXAMPLE, recording=recording, keep=2)
        async with app.run_test(size=(80, 24)) as pilot:
            await tick(pilot, app)
            source.say(b"\x01\x02")
            await tick(pilot, app)
            assert target.read_text().count("\n") == 7
            assert "rec 7" in screen(app)[0]
    assert '"hex":"0102"' in target.read_text()


async def test_line_down_and_up_are_shown() -> None:
    app, source = app_of(HEARTBEAT)
    async with app.run_test(size=(80, 24)) as pilot:
        source.things.append(Happened(1.0, "port is down: unplugged", lost=True))
        source.state = "DOWN"
        await tick(pilot, app)
        lines = screen(app)
        assert "DOWN" in lines[0]
        assert any("port is down: unplugged" in line for line in lines)


async def test_help_and_quit() -> None:
    app, _ = app_of(*EXAMPLE)
    async with app.run_test(size=(80, 24)) as pilot:
        await tick(pilot, app)
        await pilot.press("question_mark")
        await tick(pilot, app)
        assert "Keys" in "\n".join(screen(app))
        await pilot.press("escape")
        await pilot.press("q")
    assert app.return_value == 0


async def test_ctrl_c_ends_with_130() -> None:
    app, _ = app_of(*EXAMPLE)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+c")
    assert app.return_value == 130


def flood(count: int) -> Iterable[bytes]:
    for number in range(count):
        yield Frame(0x05, number & 0xFF, bytes.fromhex("0407c800000701263c010a")).encode()


async def test_a_tick_is_short_under_any_load() -> None:
    """What does not fit into a tick waits for the next one: keys are answered in between."""
    source = Fed()
    source.say(*flood(2_000))
    looks = itertools.count()
    # Time goes on by a millisecond at each look at the clock, and so does every frame.
    app = MonitorApp(Monitor(PET), source, clock=lambda: next(looks) / 1000)
    async with app.run_test(size=(80, 24)) as pilot:
        before = len(source.things)
        app._tick()
        taken = before - len(source.things)
        assert 1 <= taken <= BUDGET * 1000
        assert source.things
        await pilot.press("3")
        assert app.query_one("#panes", ContentSwitcher).current == "counters"
