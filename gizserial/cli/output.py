"""Printing for commands whose work goes on when nobody reads any more."""

from __future__ import annotations

import os
import sys

import click


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print. When the reader is gone (``| head``) the work goes on unread, and keeps its exit status."""
    try:
        click.echo(text, err=err, nl=nl)
    except BrokenPipeError:
        stream = sys.stderr if err else sys.stdout
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
