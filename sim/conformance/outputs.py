"""Where a run goes: the terminal, files, and the person at the bench."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Iterable
from typing import TextIO

import click

from gizserial.cli.output import echo
from gizserial.commands import Role
from gizserial.errors import CaptureError
from gizserial.io.driver import Direction
from gizserial.io.files import atomic_writer, try_writing
from gizserial.io.recorder import CaptureRecorder
from sim.conformance import report_html, report_json, report_junit
from sim.conformance.bench import Press
from sim.conformance.model import Case, CaseResult, RunResult, Severity
from sim.conformance.report_text import outcome


class Outputs:
    """The files of a run: the capture grows while it runs, the reports are written whole at its end.

    That they can be written is tried at once: a run takes minutes.

    :param product_key: Stands in the capture.
    :param fails_from: Least severity that counts as a failure in JUnit XML.
    :raises CaptureError: a file cannot be written, or a capture has no known suffix.
    :raises UsageError: two reports have the same file.
    """

    def __init__(
        self,
        *,
        report: str | None = None,
        html: str | None = None,
        json_file: str | None = None,
        capture: str | None = None,
        product_key: str = "",
        fails_from: Severity = Severity.SHOULD,
    ) -> None:
        self._report, self._html, self._json = report, html, json_file
        self._fails_from = fails_from
        self._recorder: CaptureRecorder | None = None
        self._unrecorded: CaptureError | None = None

        named = [path for path in (report, html, json_file, capture) if path not in {None, "-"}]
        if len(set(named)) < len(named):
            raise click.UsageError("two reports go to the same file; give each a name of its own")
        if capture is not None:
            self._recorder = CaptureRecorder(capture, product_key=product_key, tool="gizsim check")
        for path in named:
            try_writing(str(path))

    def recorded(self, direction: Direction, data: bytes, now: float) -> None:
        """Everything that crosses the line. A capture that cannot grow any more does not end the run."""
        recorder = self._recorder
        if recorder is None or self._unrecorded is not None:
            return
        try:
            if not recorder.opened:
                recorder.__enter__()  # the first bytes replace an older file, and nothing before
            recorder.of(Role.MODULE)(direction, data, now)
        except CaptureError as error:
            self._unrecorded = error

    def write(self, run: RunResult) -> list[CaptureError]:
        """Everything; one file that cannot be written does not keep the others. Gives what went wrong."""
        errors = [] if self._unrecorded is None else [self._unrecorded]
        for write in (self._write_json, self._write_report, self._write_page, self._close_capture):
            try:
                write(run)
            except CaptureError as error:
                errors.append(error)
        return errors

    def _close_capture(self, _run: RunResult) -> None:
        if self._recorder is not None:
            self._recorder.close()

    def _write_json(self, run: RunResult) -> None:
        if self._json == "-":
            _print(report_json.lines(run))
        elif self._json is not None:
            _write(self._json, "".join(f"{line}\n" for line in report_json.lines(run)).encode())

    def _write_report(self, run: RunResult) -> None:
        if self._report is not None:
            _write(self._report, report_junit.render(run, fails_from=self._fails_from))

    def _write_page(self, run: RunResult) -> None:
        if self._html is not None:
            _write(self._html, report_html.render(run).encode())


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        echo(line)


def _write(path: str, data: bytes) -> None:
    with atomic_writer(path) as file:
        file.write(data)


class Progress:
    """One line per case; on a terminal also the one that is running."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()

    def __call__(self, number: int, count: int, case: Case, result: CaseResult | None) -> None:
        """See :data:`sim.conformance.runner.Progress`."""
        place = f"[{number:>{len(str(count))}}/{count}]"
        if result is not None:
            echo(f"{self._clear()}{place} {outcome(result)}")
        elif self._live:
            # One row, or the next line would not cover it.
            echo(f"{self._clear()}{place} {case.id} ..."[: _columns() + 1 + len(self._clear())], nl=False)

    def _clear(self) -> str:
        # Blanks, because NO_COLOR takes every escape sequence out.
        return f"\r{' ' * _columns()}\r" if self._live else ""


def _columns() -> int:
    return shutil.get_terminal_size().columns - 1


class Terminal:
    """The person at the terminal, who is at the device too."""

    async def press(self, what: Press) -> bool:
        """Ask, and wait for Enter; ``s`` leaves the case out."""
        text = f"\n  Please {what.value}, then press Enter (s and Enter: skip) "
        echo(text, nl=False, err=True)
        answer = await _line_from(sys.stdin)
        return bool(answer) and answer.strip().lower() != "s"


async def _line_from(file: TextIO) -> str:
    """A line that a person types; nothing at the end of the input.

    In a thread that the interpreter does not wait for: Ctrl-C must not need another Enter.
    """
    loop = asyncio.get_running_loop()
    typed: asyncio.Future[str] = loop.create_future()

    def tell(line: str) -> None:
        if not typed.done():
            typed.set_result(line)

    def read() -> None:
        line = file.readline()
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(tell, line)

    threading.Thread(target=read, daemon=True).start()
    return await typed


def wall_time() -> float:
    """Seconds since 1970, for MCUs that ask for the time."""
    return time.time()
