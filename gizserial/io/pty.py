"""Virtual ports (``pty:``): a pseudo-terminal whose other end looks like a serial port to any program.

Whether somebody holds the other end, and for how long, depends on the system:

* Linux keeps the settings of a pseudo-terminal while its master is open. So we do not hold the other end
  ourselves, and see each peer come (:class:`~gizserial.io.base.Back`) and leave
  (:class:`~gizserial.io.base.Lost`). The kernel signals only the leaving; while nobody is there we look
  20 times a second.
* macOS and the BSDs forget raw mode when the last user of the other end leaves, and the first bytes of the
  next one would be echoed. There we hold the other end: the line is always up, and a peer comes and leaves
  unseen.

What a peer left unread is discarded before the next one comes. Windows has no pseudo-terminals for this.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import select
import sys
import termios
from pathlib import Path
from typing import Final

from gizserial.errors import TransportError
from gizserial.io.base import WRITE_LIMIT, Port
from gizserial.io.pumps import DescriptorPump
from gizserial.io.terminal import make_raw

PEER_INTERVAL: Final = 0.05
"""Seconds between looks for a peer, while there is none."""

_SLAVE = re.compile(r"/dev/(pts/\d+|tty[a-zA-Z]+\d+|tty[p-za-e][0-9a-f])")
"""Names of the other end: Linux, macOS and BSD."""


class PtyPort(Port):
    """``pty:`` or ``pty:/some/link``: makes a virtual port; ``other_end`` is the name to open.

    :param link: Where to put a symbolic link to the other end. A link to a virtual port that is there, left
        over perhaps from a run that was killed, is replaced; anything else is not. Removed on closing.
    :param hold: Hold the other end open ourselves; see the module.
    """

    def __init__(
        self, link: str = "", *, hold: bool = sys.platform != "linux", write_limit: int = WRITE_LIMIT
    ) -> None:
        super().__init__(f"pty:{link}", write_limit=write_limit)
        self._link = Path(link).expanduser() if link else None
        self._hold = hold
        self._master: int | None = None
        self._held: int | None = None
        self._pump: DescriptorPump | None = None
        self._timer: asyncio.TimerHandle | None = None

    def pause_reading(self) -> None:
        """Report no more data; a peer that leaves meanwhile is noticed afterwards."""
        super().pause_reading()
        if self._pump is not None:
            self._pump.pause()

    def resume_reading(self) -> None:
        """Report data again."""
        super().resume_reading()
        if self._pump is not None:
            self._pump.resume()

    async def _open(self) -> None:
        try:
            self._master, slave = os.openpty()
        except OSError as error:
            raise TransportError(
                f"{self.name}: the system has no more virtual ports ({error.strerror})"
            ) from error
        self._held = slave
        make_raw(slave)  # before anybody knows its name
        self._other_end = os.ttyname(slave)
        if self._link is not None:
            _place_link(self._link, self._other_end)
        if self._hold:
            self._attach()
        else:
            os.close(slave)
            self._held = None
            self._look_for_peer()

    async def _close(self) -> None:
        self._detach()
        if self._link is not None and self._other_end is not None:
            with contextlib.suppress(OSError):
                if os.readlink(self._link) == self._other_end:  # noqa: PTH115 - the text, not a path
                    self._link.unlink()
        for fd in (self._held, self._master):
            if fd is not None:
                os.close(fd)
        self._held = self._master = None

    def _start_writing(self) -> None:
        if self._pump is not None:
            self._pump.kick()

    def _attach(self) -> None:
        if self._master is None:
            return
        self._pump = DescriptorPump(
            self._master,
            self._waiting,
            on_data=self._received,
            on_sent=self._sent_all,
            on_end=lambda _error: self._peer_left(),
        )
        if self._paused:
            self._pump.pause()
        self._pump.start()
        self._up()

    def _detach(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pump is not None:
            self._pump.stop()
            self._pump = None

    def _look_for_peer(self) -> None:
        """Attach as soon as somebody holds the other end, or was there and left bytes for us."""
        if self._master is None:
            return
        poller = select.poll()
        poller.register(self._master, select.POLLIN)
        state = sum(flags for _fd, flags in poller.poll(0))
        if state & select.POLLHUP and not state & select.POLLIN:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(PEER_INTERVAL, self._look_for_peer)
        else:
            self._attach()

    def _peer_left(self) -> None:
        self._detach()
        self._tidy()
        self._down(f"{self.other_end}, the other end of {self.name}, was closed by whoever had it open")
        self._look_for_peer()

    def _tidy(self) -> None:
        """Raw mode again, whatever the peer set, and nothing left of what it did not read."""
        if self.other_end is None:
            return
        # Another peer may be there already: it sees no difference, and nothing was sent to it yet.
        with contextlib.suppress(OSError, termios.error):
            fd = os.open(self.other_end, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            try:
                make_raw(fd)
                termios.tcflush(fd, termios.TCIFLUSH)
            finally:
                os.close(fd)


def _place_link(link: Path, target: str) -> None:
    """Put a link there whole: whoever opens it finds the old port or the new one.

    :raises TransportError: Something else has this name, or the directory cannot be written.
    """
    if link.is_symlink():
        old = os.readlink(link)  # noqa: PTH115 - the text, not a path
        if not _SLAVE.fullmatch(old):
            raise TransportError(
                f"pty:{link}: it is a link to {old}, which is no virtual port; choose another name"
            )
    elif link.exists():
        what = "a directory" if link.is_dir() else "a file"
        raise TransportError(f"pty:{link}: it is {what}, not the link of a virtual port; choose another name")
    temporary = link.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        temporary.symlink_to(target)
        temporary.replace(link)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise TransportError(f"pty:{link}: its directory does not exist; make it first") from error
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise TransportError(
            f"pty:{link}: the link cannot be made there ({error.strerror}); choose another name"
        ) from error
