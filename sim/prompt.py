"""Commands typed while a simulator runs."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from gizserial.errors import GizserialError
from sim.show import Show

Command = Callable[[list[str]], str | None]
"""Takes the words behind the command's name and gives what to say."""


LINES: Final = 64
"""Lines of a pipe that are read ahead."""


class LeaveError(Exception):
    """The user wants to end the program."""


class Prompt:
    """A table of commands, read from a terminal with editing and completion, or line by line from a pipe.

    :param commands: Name → (what to type, one line of help, what to do).
    """

    def __init__(self, commands: Mapping[str, tuple[str, str, Command]], show: Show) -> None:
        self._commands = dict(commands)
        self._commands["help"] = ("help", "this list", self._help)
        self._commands["quit"] = ("quit", "end", _leave)
        self._show = show

    def execute(self, line: str) -> str | None:
        """Do one line; gives what to say. Never raises for what was typed, except to leave.

        :raises LeaveError: the line was ``quit``.
        """
        try:
            words = shlex.split(line)
        except ValueError:
            return "a quotation mark is missing"
        if not words:
            return None
        row = self._commands.get(words[0])
        if row is None:
            return f"there is no command {words[0]!r}; type help"
        try:
            return row[2](words[1:])
        except GizserialError as error:
            return str(error)
        except ValueError as error:
            return f"{error}; write: {row[0]}"

    async def run(self) -> None:
        """Read and do lines until the user leaves. The end of a pipe is not the end of the program."""
        editing = importlib.util.find_spec("prompt_toolkit") is not None
        if editing and sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty():
            await self._terminal()
        else:
            await self._pipe()

    def _help(self, _words: list[str]) -> str:
        width = max(len(usage) for usage, _text, _command in self._commands.values())
        return "\n".join(f"  {usage:<{width}}  {text}" for usage, text, _ in self._commands.values())

    def _do(self, line: str) -> bool:
        """Do a line and say what came of it; False to leave."""
        try:
            answer = self.execute(line)
        except LeaveError:
            return False
        if answer:
            self._show.answer(answer)
        return True

    async def _terminal(self) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.patch_stdout import patch_stdout

        session: PromptSession[str] = PromptSession("> ", completer=WordCompleter(sorted(self._commands)))
        with patch_stdout():
            self._show.write = print
            while True:
                try:
                    line = await session.prompt_async()
                except EOFError:
                    return
                if not self._do(line):
                    return

    async def _pipe(self) -> None:
        if sys.stdin is None:
            await asyncio.Event().wait()
        # Bounded: a file or generator gives lines faster than they are done.
        lines: asyncio.Queue[str] = asyncio.Queue(LINES)
        loop = asyncio.get_running_loop()

        def read() -> None:
            # A daemon thread, because reading a pipe cannot be cancelled.
            with contextlib.suppress(RuntimeError, ValueError, OSError):
                for line in _lines():
                    asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()

        threading.Thread(target=read, name="stdin", daemon=True).start()
        while self._do(await lines.get()):
            pass


def _lines() -> Iterator[str]:
    if hasattr(sys.stdin, "reconfigure"):
        # A stray byte is a wrong word, not the end of the commands.
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    while line := sys.stdin.readline(4096):
        yield line


def _leave(_words: list[str]) -> str | None:
    raise LeaveError
