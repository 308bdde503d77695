"""Capture files: a reader and a writer for each format, chosen by suffix. Files are opened by the caller."""

from gizserial.capture.formats import FORMATS, SUFFIXES, Format, format_of, read_unnamed, sniff
from gizserial.capture.record import DIRECTIONS, Capture, Item, Losses, Meta, Other, Record, Writer
from gizserial.capture.select import only
from gizserial.commands import Direction

__all__ = [
    "DIRECTIONS",
    "FORMATS",
    "SUFFIXES",
    "Capture",
    "Direction",
    "Format",
    "Item",
    "Losses",
    "Meta",
    "Other",
    "Record",
    "Writer",
    "format_of",
    "only",
    "read_unnamed",
    "sniff",
]
