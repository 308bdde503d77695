"""Raw mode of POSIX terminals: bytes as they are, no echo."""

from __future__ import annotations

import termios

_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


def make_raw(fd: int) -> None:
    """Let all 256 values pass both ways: no echo, no signals, no flow control, no translation; 8 bits.

    Reading gives what is there and at least one byte, so that nothing read means that the line is gone:
    pyserial leaves VMIN at 0, where it can also mean that there is nothing yet.

    :raises termios.error: It is not a terminal.
    """
    attributes = termios.tcgetattr(fd)
    attributes[_IFLAG] &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INPCK
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
        | termios.IXOFF
        | termios.IXANY
    )
    attributes[_OFLAG] &= ~termios.OPOST
    attributes[_LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    attributes[_CFLAG] = (attributes[_CFLAG] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
    attributes[_CFLAG] |= termios.CREAD | termios.CLOCAL
    attributes[_CC][termios.VMIN] = 1
    attributes[_CC][termios.VTIME] = 0
    termios.tcsetattr(fd, termios.TCSANOW, attributes)
