"""Moving bytes between a device and the event loop: by file descriptor (POSIX), or by threads (anything).

A pump owns no device. It reads until it is stopped or the device ends, and writes what it finds in the
port's buffer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Callable
from typing import Final, Protocol, TypeVar, TypeVarTuple, Unpack

from gizserial.io.base import READ_SIZE

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

READ_TIMEOUT: Final = 0.1
"""Seconds after which a reading thread looks whether it shall stop."""
_STOP_TIMEOUT: Final = 1.0
"""Seconds that a thread has to end; a device that blocks longer is closed under it."""

# What pyserial raises when its port breaks, and (TypeError, AttributeError) when it is closed under a thread.
_DEVICE_ERRORS: Final = (OSError, ValueError, TypeError, AttributeError)


class Pump(Protocol):
    """Moves bytes both ways. Its callbacks run in the event loop, and not after :meth:`stop` began."""

    def start(self) -> None:
        """Begin to read."""

    def kick(self) -> None:
        """There is something in the buffer to write."""

    def pause(self) -> None:
        """Read no more for now."""

    def resume(self) -> None:
        """Read again."""

    def stop(self) -> None:
        """Leave the device alone. Safe to call twice."""

    def join(self) -> None:
        """Wait until nothing uses the device any more, or blocks in it. Blocks for at most 2 s."""


class DescriptorPump:
    """A file descriptor that the event loop can watch: a terminal, or the master of a pty.

    :param waiting: Bytes to write; taken from the front as they leave.
    :param on_data: Bytes that came.
    :param on_sent: Nothing waits any more.
    :param on_end: The device ended, with the error if there was one. Once.
    """

    def __init__(
        self,
        fd: int,
        waiting: bytearray,
        *,
        on_data: Callable[[bytes], None],
        on_sent: Callable[[], None],
        on_end: Callable[[OSError | None], None],
    ) -> None:
        self._fd, self._waiting = fd, waiting
        self._on_data, self._on_sent, self._on_end = on_data, on_sent, on_end
        self._loop = asyncio.get_running_loop()
        self._paused = self._writing = self._stopped = False

    def start(self) -> None:
        """Begin to read."""
        os.set_blocking(self._fd, False)
        if not self._paused:
            self._loop.add_reader(self._fd, self._readable)

    def kick(self) -> None:
        """Write what the system takes now, the rest when it takes more."""
        if self._writing or self._stopped:
            return
        error = self._write()
        if error is not None:
            self._waiting.clear()
            self._loop.call_soon(self._end, error)
        elif self._waiting:
            self._writing = True
            self._loop.add_writer(self._fd, self._writable)
        else:
            self._on_sent()

    def pause(self) -> None:
        """Read no more for now."""
        self._paused = True
        if not self._stopped:
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        """Read again."""
        self._paused = False
        if not self._stopped:
            self._loop.add_reader(self._fd, self._readable)

    def stop(self) -> None:
        """Leave the descriptor alone."""
        if not self._stopped:
            self._stopped = True
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)

    def join(self) -> None:
        """Nothing to wait for."""

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error)
            return
        if data:
            self._on_data(data)
        else:
            self._end(None)

    def _writable(self) -> None:
        error = self._write()
        if error is not None:
            self._waiting.clear()
            self._end(error)
        elif not self._waiting:
            self._writing = False
            self._loop.remove_writer(self._fd)
            self._on_sent()

    def _write(self) -> OSError | None:
        try:
            sent = os.write(self._fd, self._waiting)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            return error
        del self._waiting[:sent]
        return None

    def _end(self, error: OSError | None) -> None:
        if not self._stopped:
            self.stop()
            self._on_end(error)


class Device(Protocol):
    """What a pump of threads needs of a pyserial port. Reading times out after :data:`READ_TIMEOUT`."""

    @property
    def in_waiting(self) -> int:
        """How many bytes can be read at once, or fewer."""

    def read(self, size: int = ..., /) -> bytes:
        """At least one byte, unless nothing came in time."""

    def write(self, data: bytes, /) -> int | None:
        """All of it; may block."""


class ThreadPump:
    """A device that can only be waited for in threads: ports on Windows, pyserial's URLs.

    One chunk is on its way at a time in each direction: the reading thread waits until the event loop has
    handled what it read, so a fast peer cannot fill our memory. Parameters as in :class:`DescriptorPump`.
    """

    def __init__(
        self,
        device: Device,
        waiting: bytearray,
        *,
        on_data: Callable[[bytes], None],
        on_sent: Callable[[], None],
        on_end: Callable[[Exception | None], None],
    ) -> None:
        self._device, self._waiting = device, waiting
        self._on_data, self._on_sent, self._on_end = on_data, on_sent, on_end
        self._loop = asyncio.get_running_loop()
        self._handled = threading.Event()
        self._chunks: queue.SimpleQueue[bytes] = queue.SimpleQueue()  # an empty one ends the thread
        self._paused = self._writing = self._stopped = False
        self._threads = [
            threading.Thread(target=target, name=f"gizserial pump{target.__name__}", daemon=True)
            for target in (self._read, self._write)
        ]

    def start(self) -> None:
        """Begin to read."""
        if not self._paused:
            self._handled.set()
        for thread in self._threads:
            thread.start()

    def kick(self) -> None:
        """Give the writing thread a chunk, unless it has one."""
        if not self._writing and not self._stopped:
            self._writing = True
            self._chunks.put(bytes(self._waiting[:READ_SIZE]))

    def pause(self) -> None:
        """Read no more for now; at most one chunk is already on its way and is reported."""
        self._paused = True
        self._handled.clear()

    def resume(self) -> None:
        """Read again."""
        self._paused = False
        self._handled.set()

    def stop(self) -> None:
        """Tell the threads to end."""
        self._stopped = True
        self._handled.set()
        self._chunks.put(b"")

    def join(self) -> None:
        """Wait for the threads. One that the device blocks ends when that is closed."""
        for thread in self._threads:
            thread.join(_STOP_TIMEOUT)

    def _read(self) -> None:
        device = self._device
        while not self._stopped:
            try:
                data = device.read(1)
                while data and len(data) < READ_SIZE and (more := device.in_waiting):
                    data += device.read(min(more, READ_SIZE - len(data)))
            except _DEVICE_ERRORS as error:
                self._post(self._end, error)
                return
            if data:
                self._handled.wait()
                self._handled.clear()
                if self._stopped or not self._post(self._came, data):
                    return
                self._handled.wait()

    def _write(self) -> None:
        while chunk := self._chunks.get():
            try:
                self._device.write(chunk)
            except _DEVICE_ERRORS as error:
                self._post(self._end, error)
                return
            if not self._post(self._wrote, len(chunk)):
                return

    def _post(self, call: Callable[[Unpack[Ts]], None], *args: *Ts) -> bool:
        """Call in the event loop; False when there is none any more."""
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            return False
        return True

    def _came(self, data: bytes) -> None:
        if self._stopped:
            return
        self._on_data(data)
        if not self._paused:
            self._handled.set()

    def _wrote(self, size: int) -> None:
        if self._stopped:
            return
        del self._waiting[:size]
        self._writing = False
        if self._waiting:
            self.kick()
        else:
            self._on_sent()

    def _end(self, error: Exception) -> None:
        if not self._stopped:
            self.stop()
            self._on_end(error)


async def in_thread(call: Callable[[], T], *, discard: Callable[[T], object] | None = None) -> T:
    """Run something that blocks in a thread of its own, which does not keep the program from ending.

    :param discard: Gets the result when whoever waited for it was cancelled.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.cancelled():
            if error is None and discard is not None:
                discard(result)  # type: ignore[arg-type] # without an error there is a result
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type] # as above

    def work() -> None:
        result, failure = None, None
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - carried to whoever waits
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=work, name="gizserial call", daemon=True).start()
    return await future
