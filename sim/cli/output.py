"""Printing for commands whose work goes on when nobody reads any more."""

from __future__ import annotations

import os
import sys

import click


def echo(text: str) -> None:
    """Print a line. When its reader is gone (``| head``) the work goes on, and keeps its exit status."""
    try:
        click.echo(text)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
