"""The monitor on a terminal: frames and values side by side, filter line, detail, counters, plot."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

from rich.text import Text
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import ContentSwitcher, Footer, Input, Static

from gizserial.capture.formats import format_of
from gizserial.capture.record import Record
from gizserial.cli.group import FINE, INTERRUPTED
from gizserial.cli.monitor_sources import Source
from gizserial.cli.monitor_widgets import CountersPane, Detail, Frames, Lines, Plot, ValuesPane
from gizserial.errors import CaptureError
from gizserial.io.files import atomic_writer
from gizserial.io.recorder import CaptureRecorder
from gizserial.io.watch import Happened, Heard
from gizserial.monitor import Filter, FilterError, Monitor
from gizserial.monitor.filters import HELP

TICK: Final = 0.1
"""Seconds between two looks at what came: everything in between is drawn at once."""
BUDGET: Final = 0.06
"""Seconds of a tick that may go into decoding, so that keys are answered under any load."""
SIDE_BY_SIDE: Final = 120
"""Columns from which the panes stand side by side."""
PANES: Final = ("values", "detail", "counters", "plot")

KEYS: Final = (
    ("↑ ↓ PgUp PgDn Home End", "move; End follows what comes"),
    ("Tab", "from pane to pane"),
    ("1 2 3 4", "values, detail, counters, plot"),
    ("Enter", "detail of a frame, plot of a value"),
    ("Space", "stop or follow the frames"),
    ("/", "filter line; Enter keeps it, Esc empties it"),
    ("h  a", "hide heartbeats; hide acks"),
    ("e", "next error, noise or resend"),
    ("s", "save the kept frames (.jsonl .pcapng .hex .bin)"),
    ("c", "clear frames, counters and values"),
    ("+ - ← →", "in the plot: time across, point"),
    ("q  Ctrl-C", "quit"),
)
MARKS: Final = "! error   ~ noise   R sent again   ? warning   - the line"


class Help(ModalScreen[None]):
    """Keys, marks and the words of the filter."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,f1,enter", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        """One text that scrolls."""
        text = Text()
        text.append("Keys\n", "bold")
        for key, what in KEYS:
            text.append(f"  {key:24} ", "bold").append(f"{what}\n")
        text.append("\nMarks\n", "bold").append(f"  {MARKS}\n")
        text.append("\nFilter: all words must hold\n", "bold")
        for form, what in HELP:
            text.append(f"  {form:24} ", "bold").append(f"{what}\n")
        text.append("\nEsc closes this.", "dim")
        with VerticalScroll(id="box"):
            yield Static(text)


class Ask(ModalScreen[str]):
    """Asks for the name of a file."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss('')", "Cancel")]

    def __init__(self, suggestion: str) -> None:
        super().__init__()
        self._suggestion = suggestion

    def compose(self) -> ComposeResult:
        """A line to type in."""
        with Container(id="box"):
            yield Static("Save the kept frames to (Enter saves, Esc does not):")
            yield Input(self._suggestion, id="path")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take it."""
        self.dismiss(event.value.strip())


class MonitorApp(App[int]):
    """Shows a monitor that is fed from a source.

    :param recording: Gets everything that comes, for ``--save``.
    """

    ENABLE_COMMAND_PALETTE = False
    TITLE = "gizserial monitor"
    CSS = """
    Screen { layout: vertical; }
    #title { height: 1; text-style: reverse; }
    #body { height: 1fr; layout: vertical; }
    #frames { height: 3fr; }
    #side { height: 2fr; }
    #tabs { height: 1; }
    #panes { height: 1fr; }
    .wide #body { layout: horizontal; }
    .wide #frames { width: 3fr; height: 1fr; }
    .wide #side { width: 2fr; height: 1fr; border-left: vkey $foreground 30%; }
    #filterline { height: 1; layout: horizontal; }
    #filterword { width: 8; }
    #filter { width: 1fr; height: 1; border: none; padding: 0; }
    #filter:focus { border: none; }
    #fault { width: auto; max-width: 60%; color: red; }
    Help, Ask { align: center middle; }
    #box { width: 76; max-width: 100%; height: auto; max-height: 100%; border: round $foreground;
        background: $surface; padding: 0 1; }
    Ask #box { height: 6; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave", "Quit"),
        Binding("ctrl+c", "interrupt", "Quit", show=False, priority=True),
        Binding("question_mark,f1", "help", "Help"),
        # With priority: a key typed right behind one of these must already meet the new focus.
        Binding("slash", "filter", "Filter", priority=True),
        Binding("enter", "keep_filter", "Keep", show=False, priority=True),
        Binding("escape", "to_frames", "Back", show=False, priority=True),
        Binding("space", "follow", "Stop/go"),
        Binding("h", "heartbeats", "Heartbeats"),
        Binding("a", "acks", "Acks"),
        Binding("s", "save", "Save"),
        Binding("e", "next_error", "Error"),
        Binding("c", "clear", "Clear", show=False),
        Binding("1", "pane('values')", "Values", show=False),
        Binding("2", "pane('detail')", "Detail", show=False),
        Binding("3", "pane('counters')", "Counters", show=False),
        Binding("4,p", "pane('plot')", "Plot", show=False),
    ]

    def __init__(
        self,
        monitor: Monitor,
        source: Source,
        *,
        recording: CaptureRecorder | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.monitor = monitor
        self.source = source
        self.frames = Frames(monitor)
        self.values = ValuesPane(monitor, self._now)
        self.detail = Detail(monitor)
        self.counters = CountersPane(monitor)
        self.plot = Plot(monitor, self._now)
        self._title = Static(id="title")
        self._tabs = Static(id="tabs")
        self._panes = ContentSwitcher(
            self.values, self.detail, self.counters, self.plot, initial="values", id="panes"
        )
        self._line = Input(placeholder="name, dir:mcu, point:LED, hex:FF55, is:error, -word", id="filter")
        self._fault = Static(id="fault")
        self._recording = recording
        self._clock = clock
        self._hide_heartbeats = self._hide_acks = False
        self._last_time = 0.0
        self._ticks = 0
        self._flushed = False
        self._said = ""

    def _now(self) -> float:
        """Now on the line: of a recording, the time of its last byte."""
        return self._last_time if self.source.ended else max(self.source.now, self._last_time)

    def compose(self) -> ComposeResult:
        """Title, the two panes, filter line, keys."""
        yield self._title
        with Container(id="body"):
            yield self.frames
            with Container(id="side"):
                yield self._tabs
                yield self._panes
        with Container(id="filterline"):
            yield Static("filter: ", id="filterword")
            yield self._line
            yield self._fault
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to look."""
        self.frames.focus()
        self._arrange(self.size.width)
        self._show_tabs()
        self._tick()
        self.set_interval(TICK, self._tick)

    def on_resize(self, event: Resize) -> None:
        """Side by side where there is room."""
        self._arrange(event.size.width)

    def _arrange(self, width: int) -> None:
        # The panes' own screen, which may be below the help.
        if self.frames.is_attached:
            self.frames.screen.set_class(width >= SIDE_BY_SIDE, "wide")

    # --- what comes ------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if not self.is_running or not self.frames.is_attached:
            return  # on the way out
        until = self._clock() + BUDGET
        changed = False
        try:
            while self._clock() < until:
                thing = self.source.take()
                if thing is None:
                    break
                changed = True
                self._take(thing)
        except CaptureError as error:
            self._trouble(error)
        if self.source.ended:
            if not self._flushed:
                self._flushed = changed = True
                self.monitor.flush()
        elif self.monitor.handle_timeout(now=self.source.now):
            changed = True
        self._ticks += 1
        if changed or self._ticks % 5 == 0:
            self._draw()

    def _take(self, thing: Heard | Happened | Record) -> None:
        if isinstance(thing, Happened):
            self.monitor.line(thing.text, now=thing.t, lost=thing.lost)
            return
        record = thing if isinstance(thing, Record) else Record(thing.t, thing.direction, thing.data)
        self._last_time = max(self._last_time, record.t or 0.0)
        if self._recording is not None:
            self._recording.add(record)
        if isinstance(thing, Heard):
            self.monitor.receive_data(thing.data, now=thing.t, direction=thing.direction)
        else:
            self.monitor.receive_record(thing)

    def _trouble(self, error: Exception) -> None:
        """Tell once; recording ends, watching goes on."""
        self._recording = None
        self.notify(str(error), severity="error", timeout=15)

    def _draw(self) -> None:
        self._arrange(self.size.width)
        self.frames.settle()
        self.detail.show(self.frames.selected)
        pane = self._panes.visible_content
        if isinstance(pane, Lines) and pane is not self.detail:
            pane.settle()
        self._show_title()

    def _show_title(self) -> None:
        counters = self.monitor.counters
        frames, size = counters.rates(self._now())
        bad = sum(counters.bad.values())
        hidden = len(self.monitor.rows) - len(self.monitor.shown)
        words = [
            " " + self.source.state,
            "" if self.frames.follow else "STOPPED",
            f"{counters.frames} frames {frames:.0f}/s {size:.0f} B/s",
            f"bad {bad}",
            f"again {counters.resends}",
            f"noise {counters.noise_bytes}",
            f"hidden {hidden}" if hidden > 0 else "",
            f"rec {self._recording.records}" if self._recording is not None else "",
            self.source.title,
        ]
        text = "  ".join(word for word in words if word)
        if text != self._said:
            self._said = text
            self._title.update(Text(text, no_wrap=True, overflow="ellipsis"))

    def _show_tabs(self) -> None:
        current = self._panes.current
        text = Text(no_wrap=True)
        for number, name in enumerate(PANES, 1):
            style = "bold reverse" if name == current else "dim"
            text.append(f" {number} {name.capitalize()} ", style)
            text.append(" ")
        self._tabs.update(text)

    # --- keys ------------------------------------------------------------------------------------------

    def action_leave(self) -> None:
        """End."""
        self.exit(FINE)

    def action_interrupt(self) -> None:
        """End as after Ctrl-C in any other command."""
        self.exit(INTERRUPTED)

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(Help())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that move the focus belong to the panes, and the others' lines keep theirs."""
        if action in {"filter", "keep_filter", "to_frames"}:
            typing = self.focused is self._line
            here = self.frames.is_attached and self.screen is self.frames.screen
            return here and (action == "to_frames" or typing == (action == "keep_filter"))
        return super().check_action(action, parameters)

    def action_filter(self) -> None:
        """Type a filter."""
        self.screen.set_focus(self._line)

    def action_keep_filter(self) -> None:
        """The filter is typed."""
        self.screen.set_focus(self.frames)

    def action_follow(self) -> None:
        """Stop at this row, or go on with what comes."""
        self.frames.follow = not self.frames.follow
        self._draw()

    def action_heartbeats(self) -> None:
        """Hide or show heartbeats and their acks."""
        self._hide_heartbeats = not self._hide_heartbeats
        self.notify(f"heartbeats are {'hidden' if self._hide_heartbeats else 'shown'}", timeout=2)
        self._filter(self._line.value)

    def action_acks(self) -> None:
        """Hide or show acks."""
        self._hide_acks = not self._hide_acks
        self.notify(f"acks are {'hidden' if self._hide_acks else 'shown'}", timeout=2)
        self._filter(self._line.value)

    def action_next_error(self) -> None:
        """Go to the next row that is not a good frame, from the top again after the last."""
        shown = self.monitor.shown
        # The cursor may stand where the frames were before they were cleared.
        here = min(self.frames.cursor, len(shown) - 1) if not self.frames.follow else -1
        order = [*range(here + 1, len(shown)), *range(here + 1)]
        found = next((i for i in order if shown[i].kind in {"error", "noise"} or shown[i].repeat), None)
        if found is None:
            self.notify("no error, noise or resend is shown", timeout=2)
            return
        self.frames.follow = False
        self.frames.cursor = found
        self._draw()

    def action_pane(self, name: str) -> None:
        """Show another pane beside the frames."""
        self._panes.current = name
        self._show_tabs()
        self._draw()
        if self.focused is not self.frames:
            self._panes.get_child_by_id(name).focus()

    def action_to_frames(self) -> None:
        """Back to the frames; an Esc in the filter line empties it."""
        if self.focused is self._line:
            self._line.call_later(self._line.clear)  # after the keys that are still on their way to it
        self.screen.set_focus(self.frames)

    def action_clear(self) -> None:
        """Begin anew."""
        self.monitor.clear()
        self.frames.follow = True
        self.detail.show(None)
        self._draw()

    def action_save(self) -> None:
        """Ask where to, then write."""
        self.push_screen(Ask("monitor.jsonl"), self._save)

    def _save(self, path: str | None) -> None:
        if not path:
            return
        try:
            target = str(Path(path).expanduser())
            with atomic_writer(target) as file:
                writer = format_of(target).writer(file, target, None)
                for record in self.monitor.records():
                    writer.write(record)
        except (CaptureError, RuntimeError) as error:
            self.notify(str(error), severity="error", timeout=15)
            return
        lost = ", ".join(+writer.losses)
        self.notify(f"saved to {target}" + (f"; this format does not hold {lost}" if lost else ""))

    # --- messages --------------------------------------------------------------------------------------

    @on(Input.Changed, "#filter")
    def _filter_typed(self, event: Input.Changed) -> None:
        self._filter(event.value)

    def _filter(self, text: str) -> None:
        try:
            wanted = Filter.parse(text, hide_heartbeats=self._hide_heartbeats, hide_acks=self._hide_acks)
        except FilterError as error:
            self._fault.update(Text(str(error)))
            return
        self._fault.update("")
        row = self.frames.selected
        self.monitor.set_filter(wanted)
        self.frames.keep(row)
        self._draw()

    @on(Lines.Moved)
    def _moved(self, event: Lines.Moved) -> None:
        if event.lines is self.frames:
            self.detail.show(self.frames.selected)
            self._show_title()

    @on(Lines.Chosen)
    def _chosen(self, event: Lines.Chosen) -> None:
        if event.lines is self.frames:
            self.frames.follow = False
            self.action_pane("detail")
        elif event.lines is self.values and self.values.selected is not None:
            self.plot.choose(self.values.selected.name)
            self.action_pane("plot")
