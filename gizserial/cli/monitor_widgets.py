"""Panes of the monitor: lists that draw only the lines that are seen, and a curve."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from gizserial.describe import render
from gizserial.monitor import Count, Monitor, Row, Value, clean, plot_lines
from gizserial.monitor.plot import axis

PLAIN: Final = Style()
BOLD: Final = Style(bold=True)
DIM: Final = Style(dim=True)
HEADER: Final = Style(bold=True, underline=True)
CURSOR: Final = Style(reverse=True)
_STYLES: Final = {
    "!": Style(color="red", bold=True),
    "~": Style(color="yellow"),
    "-": Style(color="magenta"),
    "R": Style(color="yellow"),
    "?": Style(color="yellow"),
    " ": PLAIN,
}
_SENDERS: Final = {"mcu>module": "MCU", "module>mcu": "module", None: ""}
_SENDER_STYLES: Final = {
    "mcu>module": Style(color="green"),
    "module>mcu": Style(color="cyan"),
    None: PLAIN,
}
WIDE: Final = 100
"""Columns from which the frames have longer names."""
NARROW: Final = 56
"""Columns below which access types are single letters."""

Parts = list[tuple[str, Style]]


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Exactly this many columns of the terminal; Chinese characters take two."""
    if right:
        text = " " * max(0, width - cell_len(text)) + text
    if cell_len(text) > width > 1:
        return set_cell_size(text, width - 1).rstrip(" ").ljust(0) + _ellipsis(text, width)
    return set_cell_size(text, width)


def _ellipsis(text: str, width: int) -> str:
    kept = cell_len(set_cell_size(text, width - 1).rstrip(" "))
    return "…" + " " * (width - 1 - kept)


class Lines(Widget, can_focus=True):
    """A list with a headline and a cursor. It follows its end until the cursor leaves it."""

    DEFAULT_CSS = "Lines { height: 1fr; width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "first", "First", show=False),
        Binding("end,G", "last", "Last", show=False),
    ]

    class Moved(Message):
        """The user moved the cursor."""

        def __init__(self, lines: Lines) -> None:
            self.lines = lines
            super().__init__()

        @property
        def control(self) -> Lines:
            """The list."""
            return self.lines

    class Chosen(Moved):
        """Enter or a click on the line of the cursor."""

    def __init__(self, *, id: str, follow: bool = False) -> None:  # noqa: A002 - textual's word
        super().__init__(id=id)
        self.cursor = 0
        self.top = 0
        self.follow = follow
        self.follows = follow
        """It is a list that can follow its end."""

    # --- what a list says ------------------------------------------------------------------------------

    def count(self) -> int:
        """How many lines there are."""
        raise NotImplementedError

    def headline(self, width: int) -> str:
        """The words above the columns."""
        raise NotImplementedError

    def parts(self, index: int, width: int) -> Parts:
        """One line."""
        raise NotImplementedError

    # --- drawing ---------------------------------------------------------------------------------------

    @property
    def height(self) -> int:
        """Lines that fit below the headline."""
        return max(1, self.size.height - 1)

    def settle(self) -> None:
        """Put cursor and window where they belong now, and draw."""
        last = max(0, self.count() - 1)
        self.cursor = last if self.follow else min(max(0, self.cursor), last)
        self.top = min(self.top, self.cursor, max(0, last + 1 - self.height))
        self.top = max(self.top, self.cursor - self.height + 1, 0)
        self.refresh()

    def on_resize(self) -> None:
        """The window changed."""
        self.settle()

    def render_line(self, y: int) -> Strip:
        """Draw one line of the screen."""
        width = self.size.width
        base = self.rich_style
        if y == 0:
            parts: Parts = [(self.headline(width), HEADER)]
            index = -1
        else:
            index = self.top + y - 1
            if index >= self.count():
                return Strip.blank(width, base)
            parts = self.parts(index, width)
        marked = index == self.cursor and self.has_focus
        extra = CURSOR if marked else BOLD if index == self.cursor else PLAIN
        segments = [Segment(text, base + style + extra) for text, style in parts]
        return Strip(segments).adjust_cell_length(width, base + extra)

    # --- keys and mouse --------------------------------------------------------------------------------

    def move_to(self, index: int) -> None:
        """Put the cursor on a line. On the last one a list that can follow follows again."""
        last = max(0, self.count() - 1)
        self.cursor = min(max(0, index), last)
        self.follow = self.follows and self.cursor == last and index >= last
        self.settle()
        self.post_message(self.Moved(self))

    def action_move(self, step: int) -> None:
        """One line up or down."""
        self.move_to(self.cursor + step)

    def action_page(self, step: int) -> None:
        """One window up or down."""
        self.move_to(self.cursor + step * self.height)

    def action_first(self) -> None:
        """The first line."""
        self.move_to(0)

    def action_last(self) -> None:
        """The last line."""
        self.move_to(self.count())

    def on_key(self, event: events.Key) -> None:
        """Enter chooses the line."""
        if event.key == "enter" and self.count():
            event.stop()
            self.post_message(self.Chosen(self))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor there; a second click chooses."""
        index = self.top + event.y - 1
        if event.y == 0 or index >= self.count():
            return
        again = index == self.cursor
        self.move_to(index)
        if again:
            self.post_message(self.Chosen(self))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Three lines on."""
        event.stop()
        self.move_to(self.cursor + 3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Three lines back."""
        event.stop()
        self.move_to(self.cursor - 3)


class Frames(Lines):
    """The rows that the filter lets through."""

    def __init__(self, monitor: Monitor) -> None:
        super().__init__(id="frames", follow=True)
        self.monitor = monitor
        self._dropped = 0

    @property
    def selected(self) -> Row | None:
        """The row under the cursor."""
        shown = self.monitor.shown
        return shown[self.cursor] if self.cursor < len(shown) else None

    def settle(self) -> None:
        """Rows that were dropped move the window, so that the same rows stay in it."""
        gone = self.monitor.dropped - self._dropped
        self._dropped = self.monitor.dropped
        if gone > 0:
            self.cursor, self.top = max(0, self.cursor - gone), max(0, self.top - gone)
        super().settle()

    def keep(self, row: Row | None) -> None:
        """Put the cursor on this row again after the filter changed, or on the one after it."""
        self._dropped = self.monitor.dropped
        if row is not None and not self.follow:
            later = (i for i, each in enumerate(self.monitor.shown) if each.number >= row.number)
            self.cursor = next(later, max(0, len(self.monitor.shown) - 1))
        self.settle()

    def count(self) -> int:
        """Rows shown."""
        return len(self.monitor.shown)

    @staticmethod
    def _name_width(width: int) -> int:
        return 15 if width < WIDE else 20

    def headline(self, width: int) -> str:
        """Columns."""
        return f"{'time':>10}   {'from':6} {'frame':{self._name_width(width)}}  sn says"

    def parts(self, index: int, width: int) -> Parts:
        """One row."""
        row = self.monitor.shown[index]
        style = _STYLES[row.mark]
        when = f"{row.t:10.3f}" if row.t is not None else " " * 10
        sn = f"{row.sn:3}" if row.sn is not None else "   "
        name_style = DIM if row.ack or row.heartbeat else style
        said = self.monitor.text(row)
        return [
            (f"{when} ", DIM),
            (f"{row.mark} ", style),
            (pad(_SENDERS[row.direction], 7), _SENDER_STYLES[row.direction]),
            (pad(row.name, self._name_width(width)), name_style),
            (f" {sn} ", DIM),
            (said, style if row.kind != "frame" else name_style),
        ]


class ValuesPane(Lines):
    """Data points and the module's status."""

    def __init__(self, monitor: Monitor, now: Callable[[], float]) -> None:
        super().__init__(id="values")
        self.monitor, self._now = monitor, now

    @property
    def all(self) -> list[Value]:
        """Every value, in the order of the definition."""
        return list(self.monitor.values.by_name.values())

    @property
    def selected(self) -> Value | None:
        """The value under the cursor."""
        values = self.all
        return values[self.cursor] if self.cursor < len(values) else None

    def count(self) -> int:
        """Values known."""
        return len(self.monitor.values.by_name)

    @staticmethod
    def _widths(width: int) -> tuple[int, int, int]:
        """Columns of name, value and sparkline."""
        if width < NARROW:
            return 15, max(6, width - 36), 0
        return 20, 14 if width < 76 else 20, max(0, min(24, width - 20 - 14 - 30 - (6 if width >= 76 else 0)))

    def headline(self, width: int) -> str:
        """Columns."""
        name, value, spark = self._widths(width)
        access = f"{'access':8}" if width >= NARROW else "a"
        curve = " curve" if spark else ""
        return f"{'data point':{name}} {'value':{value}} {'raw':>6} {'age':>5} {'chg':>4} {access}{curve}"

    def parts(self, index: int, width: int) -> Parts:
        """One value."""
        value = self.all[index]
        name, wide, spark = self._widths(width)
        now = self._now()
        fresh = value.changed is not None and now - value.changed < 3
        text = clean(value.text) if value.told else "-"
        if value.asked is not None:
            from gizserial.describe import value_text

            text += f" (set {clean(value_text(value.asked))})"
        alarm = value.access in {"alert", "fault"} and value.told and value.raw
        style = _STYLES["!"] if alarm else Style(color="green", bold=True) if fresh else PLAIN
        parts = [
            (pad(value.name, name) + " ", PLAIN),
            (pad(text, wide) + " ", style),
            (pad(value.raw_text, 6, right=True) + " ", DIM),
            (f"{age(value, now):>5} ", DIM),
            (f"{value.changes:>4} ", PLAIN),
            (pad(value.access, 8) if width >= NARROW else value.access[:1], DIM),
        ]
        if spark and value.history:
            parts.append((" " + plot_lines(list(value.history)[-200:], width=spark, height=1)[0], PLAIN))
        return parts


def age(value: Value, now: float) -> str:
    """How long ago it was said, in at most five characters."""
    if value.t is None:
        return "-" if not value.told else ""
    seconds = max(0.0, now - value.t)
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 1000:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 60 * 1000 else f"{seconds / 3600:.0f}h"


class Detail(Lines):
    """The annotated tree of the selected row."""

    def __init__(self, monitor: Monitor) -> None:
        super().__init__(id="detail")
        self.monitor = monitor
        self._row: Row | None = None
        self._text: list[str] = []

    def show(self, row: Row | None) -> None:
        """Explain this row."""
        if row is self._row:
            return
        self._row = row
        self.cursor = self.top = 0
        described = row.described(self.monitor.codec) if row is not None else None
        text = render(described) if described is not None else row.text if row is not None else ""
        self._text = [clean(line) for line in text.split("\n")] if text else []
        self.settle()

    def count(self) -> int:
        """Lines of the tree."""
        return len(self._text)

    def headline(self, width: int) -> str:  # noqa: ARG002 - as every list
        """Which row it is."""
        return f"row {self._row.number}" if self._row is not None else "no row is selected"

    def parts(self, index: int, width: int) -> Parts:  # noqa: ARG002 - as every list
        """One line of the tree."""
        text = self._text[index]
        bad = text.startswith(("  error", "  warning")) or "ERROR" in text
        return [(text, _STYLES["!"] if bad else PLAIN)]


class CountersPane(Lines):
    """How many of each command, and how fast they were answered."""

    def __init__(self, monitor: Monitor) -> None:
        super().__init__(id="counters")
        self.monitor = monitor
        self._table: list[Count] = []
        self._summary: list[str] = []

    def settle(self) -> None:
        """Sort again."""
        counters = self.monitor.counters
        self._table = counters.table()
        bad = ", ".join(f"{reason} {count}" for reason, count in sorted(counters.bad.items())) or "none"
        noise = f"noise: {counters.noise_bytes} bytes"
        rest = f"warnings {counters.warnings}, line lost {counters.line_losses}x"
        self._summary = [f"bad frames: {bad}; {noise}", f"resends {counters.resends}, {rest}"]
        super().settle()

    def count(self) -> int:
        """Totals, then commands."""
        return len(self._table) + len(self._summary)

    def headline(self, width: int) -> str:
        """Columns."""
        name, sender, number, few, took = self._widths(width)
        return (
            f"{'frame':{name}} {'from':{sender}} {'good':>{number}} {'bad':>{few}} "
            f"{'again':>{few + 1}} {'ms':>{took + 1}} {'max':>{took}}"
            f"{' bytes'.rjust(9) if width >= 72 else ''}"
        )

    @staticmethod
    def _widths(width: int) -> tuple[int, int, int, int, int]:
        """Columns of name, sender, frames, errors, milliseconds."""
        return (20, 6, 6, 4, 5) if width >= 60 else (13, 6, 4, 4, 4)

    def parts(self, index: int, width: int) -> Parts:
        """One command."""
        if index < len(self._summary):
            return [(self._summary[index], DIM)]
        count = self._table[index - len(self._summary)]
        name, sender, number, few, took = self._widths(width)
        times = ("", "")
        if count.ack_mean is not None:
            times = (f"{count.ack_mean * 1000:.0f}", f"{count.ack_max * 1000:.0f}")
        return [
            (pad(count.name, name) + " ", PLAIN),
            (pad(_SENDERS[count.direction], sender), _SENDER_STYLES[count.direction]),
            (f" {count.frames:{number}}", PLAIN),
            (f" {count.bad:{few}}", _STYLES["!"] if count.bad else DIM),
            (f" {count.resends:{few + 1}}", _STYLES["R"] if count.resends else DIM),
            (f" {times[0]:>{took + 1}} {times[1]:>{took}}", PLAIN),
            (f" {count.bytes:8}" if width >= 72 else "", DIM),
        ]


class Plot(Lines):
    """The curve of one value."""

    SPANS: ClassVar[tuple[int, ...]] = (0, 3600, 600, 120, 60, 30, 10, 3)
    """Seconds across; 0: everything that is kept."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("plus,equals_sign", "zoom(1)", "Zoom in", show=False),
        Binding("minus", "zoom(-1)", "Zoom out", show=False),
        Binding("left", "other(-1)", "Point before", show=False),
        Binding("right", "other(1)", "Next point", show=False),
    ]

    def __init__(self, monitor: Monitor, now: Callable[[], float]) -> None:
        super().__init__(id="plot")
        self.monitor, self._now = monitor, now
        self.name_shown: str | None = None
        self._zoom = 0
        self._drawn: list[Parts] = []

    def choose(self, name: str) -> None:
        """Draw this value from now on."""
        self.name_shown = name
        self.settle()

    def action_zoom(self, step: int) -> None:
        """Show less or more time."""
        self._zoom = min(max(0, self._zoom + step), len(self.SPANS) - 1)
        self.settle()

    def action_other(self, step: int) -> None:
        """The next value that has a curve."""
        names = [value.name for value in self.monitor.values.by_name.values() if value.history]
        if names:
            here = names.index(self.name_shown) if self.name_shown in names else -step
            self.choose(names[(here + step) % len(names)])

    def settle(self) -> None:
        """Draw it again."""
        values = self.monitor.values.by_name
        if self.name_shown not in values:
            self.name_shown = next((name for name, value in values.items() if value.history), None)
        self._drawn = self._curve()
        super().settle()

    def _curve(self) -> list[Parts]:
        value = self.monitor.values.by_name.get(self.name_shown or "")
        if value is None or not value.history:
            return [[("nothing to draw yet: choose a number, bool or enum in the values (1, Enter)", DIM)]]
        seconds = self.SPANS[self._zoom]
        samples = list(value.history)
        low, high = (clean(text) for text in axis(samples, value.label))
        margin = min(16, max(cell_len(low), cell_len(high))) + 1
        height = max(1, self.height - 1)
        width = max(1, self.size.width - margin - 1)
        end = self._now()
        lines = plot_lines(samples, width=width, height=height, until=end, seconds=seconds or None)
        drawn: list[Parts] = []
        for number, line in enumerate(lines):
            label = low if number == height - 1 else high if number == 0 and high != low else ""
            drawn.append([(pad(label, margin, right=True) + "│", DIM), (line, Style(color="cyan"))])
        start = end - seconds if seconds else samples[0][0]
        left, right = f"{start:.1f} s", f"{end:.1f} s"
        drawn.append([(" " * margin + "└" + left + right.rjust(max(1, width - len(left))), DIM)])
        return drawn

    def count(self) -> int:
        """Lines of the picture."""
        return len(self._drawn)

    def headline(self, width: int) -> str:  # noqa: ARG002 - as every list
        """Which value it is."""
        value = self.monitor.values.by_name.get(self.name_shown or "")
        span = self.SPANS[self._zoom]
        now = f" = {clean(value.text)}" if value is not None and value.told else ""
        return f"{self.name_shown or 'plot'}{now}   {f'{span} s' if span else 'all'}  (+/- time, ←/→ point)"

    def parts(self, index: int, width: int) -> Parts:  # noqa: ARG002 - as every list
        """One line of the picture."""
        return self._drawn[index]
