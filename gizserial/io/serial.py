"""Serial ports: every name and URL of pyserial (``/dev/ttyUSB0``, ``COM3``, ``socket://``, ``loop://``, ...).

8N1, raw, without flow control (serial.md §1.1), and for us alone where the system can lock it. A port that
goes away, such as an adapter that was unplugged, is reported once and opened again when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

import serial

from gizserial.errors import TransportError
from gizserial.io.base import REOPEN_INTERVAL, WRITE_LIMIT, Port
from gizserial.io.pumps import READ_TIMEOUT, DescriptorPump, Device, Pump, ThreadPump, in_thread

_CLOSE_TIMEOUT: Final = 2.0
"""Seconds that closing may take; Linux waits up to 30 for bytes that a stuck adapter does not send."""
_NETWORK: Final = ("socket", "rfc2217")
_ODD_URL: Final = (LookupError, TypeError, AttributeError)
"""What the URL handlers of pyserial stumble over."""
_GONE: Final = frozenset({errno.ENOENT, errno.ENXIO, errno.ENODEV})
_IN_USE: Final = frozenset({errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK})
_NOT_A_PORT: Final = frozenset({errno.ENOTTY, errno.EINVAL, errno.EISDIR, errno.ENOTDIR})


class SerialPort(Port):
    """A port that pyserial opens. ``other_end`` is None: what is there is not ours.

    :param baud: Bits per second; also given to network ports that can set it (``rfc2217://``).
    :param reopen_interval: Seconds between attempts to open it again after it went away.
    :param threads: Read and write in threads, as on Windows, where the event loop could watch the port.
    """

    def __init__(
        self,
        name: str,
        *,
        baud: int = 9600,
        reopen_interval: float = REOPEN_INTERVAL,
        threads: bool = os.name != "posix",
        write_limit: int = WRITE_LIMIT,
    ) -> None:
        super().__init__(name, write_limit=write_limit)
        self._baud, self._interval = baud, reopen_interval
        self._threads = threads or "://" in name
        self._device: serial.SerialBase | None = None
        self._pump: Pump | None = None
        self._reopening: asyncio.Task[None] | None = None

    def pause_reading(self) -> None:
        """Report no more data; unplugging may then be noticed only after :meth:`resume_reading`."""
        super().pause_reading()
        if self._pump is not None:
            self._pump.pause()

    def resume_reading(self) -> None:
        """Report data again."""
        super().resume_reading()
        if self._pump is not None:
            self._pump.resume()

    async def _open(self) -> None:
        await self._attach()

    async def _attach(self) -> None:
        device = await in_thread(
            lambda: open_device(self.name, baud=self._baud), discard=lambda device: device.close()
        )
        self._device = device
        self._pump = self._pump_of(device)
        if self._paused:
            self._pump.pause()
        self._pump.start()
        self._up()

    def _pump_of(self, device: serial.SerialBase) -> Pump:
        data, sent, end = self._received, self._sent_all, self._went_away
        if self._threads:
            line = cast("Device", device)  # the stubs keep in_waiting from the base class
            return ThreadPump(line, self._waiting, on_data=data, on_sent=sent, on_end=end)
        return DescriptorPump(device.fileno(), self._waiting, on_data=data, on_sent=sent, on_end=end)

    async def _close(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
            await asyncio.wait([self._reopening])
            self._reopening = None
        await self._let_go()

    async def _let_go(self) -> None:
        pump, self._pump = self._pump, None
        device, self._device = self._device, None
        if pump is not None and device is not None:
            pump.stop()
            # In one thread, which goes on when we are cancelled: the device is closed in any case.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(in_thread(lambda: _close_device(pump, device)), _CLOSE_TIMEOUT)

    def _start_writing(self) -> None:
        if self._pump is not None:
            self._pump.kick()

    def _went_away(self, error: Exception | None) -> None:
        self._reopening = asyncio.create_task(self._reopen(), name=f"reopen {self.name}")
        detail = f" ({error.strerror or error})" if isinstance(error, OSError) else ""
        self._down(f"{self.name} went away{detail}; it is opened again when it is back")

    async def _reopen(self) -> None:
        await self._let_go()
        while self._device is None:
            await asyncio.sleep(self._interval)
            # Whatever the reason: a port that comes back is often there before we may open it.
            with contextlib.suppress(TransportError):
                await self._attach()


def open_device(name: str, *, baud: int) -> serial.SerialBase:
    """Open a port with pyserial. Blocks: a network port is waited for up to 5 s.

    :raises TransportError: It cannot be opened; the sentence says why and what to do.
    """
    if "://" in name:
        _check_url(name)
    try:
        # Only real ports can be locked, and Windows always does it.
        lock = {"exclusive": True} if os.name == "posix" and "://" not in name else {}
        device = serial.serial_for_url(
            name,
            baudrate=baud,
            bytesize=serial.EIGHTBITS,
            parity=serial.PARITY_NONE,
            stopbits=serial.STOPBITS_ONE,
            timeout=READ_TIMEOUT,
            **lock,
        )
    except (OSError, ValueError, OverflowError, *_ODD_URL) as error:
        raise TransportError(f"{name}: {explain(name, error, baud=baud)}") from error
    if os.name == "posix" and isinstance(device, serial.Serial):
        import termios

        from gizserial.io.terminal import make_raw

        try:
            make_raw(device.fileno())
        except termios.error as error:
            device.close()
            raise TransportError(
                f"{name}: it cannot be set up as a serial port ({error.args[-1]})"
            ) from error
    return device


def _close_device(pump: Pump, device: serial.SerialBase) -> None:
    pump.join()
    # A port that is gone cannot be closed properly either.
    with contextlib.suppress(OSError):
        device.close()


def _check_url(name: str) -> None:
    """Refuse a network port without host or port, where pyserial's message would be about types.

    :raises TransportError: With the form that is right.
    """
    scheme = name.partition("://")[0].lower()
    if scheme not in _NETWORK:
        return
    try:
        parts = urlsplit(name)
        complete = bool(parts.hostname and parts.port)
    except ValueError:
        complete = False
    if not complete:
        raise TransportError(
            f"{name}: this needs a host and a port from 1 to 65535, as in {scheme}://host:4000"
        )


def explain(name: str, error: Exception, *, baud: int) -> str:
    """Why a port cannot be opened and what to do, as the end of a sentence."""
    code = getattr(error, "errno", None)
    text = str(error)
    if "://" in name:
        return _explain_url(name, error)
    if code in _GONE or "FileNotFoundError" in text:
        return f"there is no such port; {_ports_that_exist()}"
    if code in _IN_USE or "PermissionError" in text:  # so worded on Windows, where ports are never shared
        return "the port is in use by another program; close that first"
    if code in {errno.EACCES, errno.EPERM}:
        return f"permission denied; {_who_may(name)}"
    if "Could not configure port: (5," in text:
        return f"there is no hardware behind this name; {_ports_that_exist()}"
    if code in _NOT_A_PORT or "Could not configure port" in text:
        return "this is not a serial port"
    if isinstance(error, ValueError | OverflowError):
        return f"it cannot run at {baud} baud; choose another --baud"
    return f"it cannot be opened ({getattr(error, 'strerror', None) or error})"


def _explain_url(name: str, error: Exception) -> str:
    scheme, _, rest = name.partition("://")
    if scheme.lower() in _NETWORK and isinstance(error, OSError):
        # pyserial has the system's reason at the end of its own: Could not open port X: [Errno 111] Y.
        if "RFC2217" in str(error):
            return f"{rest} answers, but not as an RFC 2217 server; a plain one is socket://{rest}"
        reason = str(error).rpartition("] ")[2].rpartition(": ")[2]
        return f"nobody answers at {rest} ({reason}); check the address and that the other side is running"
    if "not known" in str(error):
        return (
            f"there is no kind of port called {scheme}://; there are socket://, rfc2217://, loop:// and more"
        )
    if not isinstance(error, OSError):
        return "pyserial does not understand this URL; check how it is written"
    return f"it cannot be opened ({error})"


def _ports_that_exist() -> str:
    from serial.tools import list_ports

    found = sorted(list_ports.comports(), key=lambda port: port.device)
    if not found:
        return "no serial port is connected (pty: makes a virtual one)"
    names = [
        port.device if port.description in {"n/a", "", port.device} else f"{port.device} ({port.description})"
        for port in found
    ]
    return f"there are: {', '.join(names)}"


def _who_may(name: str) -> str:
    """Which group a port belongs to, on systems that have groups."""
    try:
        state = Path(name).stat()
        group = Path(name).group() if state.st_mode & stat.S_IWGRP else ""
    except (OSError, KeyError, NotImplementedError):
        group = ""
    if group and group != "root":
        return f"it belongs to the group {group}: run 'sudo usermod -aG {group} $USER' and log in again"
    return "check who owns it"
