"""What a live view of a line shows, without any view: rows, values, counters, filters. No I/O, no clock."""

from gizserial.monitor.counters import Count, Counters
from gizserial.monitor.filters import Filter, FilterError
from gizserial.monitor.model import Monitor
from gizserial.monitor.plot import plot_lines
from gizserial.monitor.rows import Row, clean, one_line
from gizserial.monitor.values import Value, Values

__all__ = [
    "Count",
    "Counters",
    "Filter",
    "FilterError",
    "Monitor",
    "Row",
    "Value",
    "Values",
    "clean",
    "one_line",
    "plot_lines",
]
