"""Times that a run allows, each with its source. A USB-serial adapter adds to what the firmware takes."""

from __future__ import annotations

from typing import Final

ADAPTER: Final = 0.03
"""Seconds that adapter and operating system may add (FTDI: 16 ms; the scheduler: 10 ms)."""
ACK: Final = 0.2
"""The module waits so long for an ack after its last byte left (serial.md §1.8: 200 ms)."""
ACK_PATIENCE: Final = 1.0
"""How long the bench waits before it calls an ack missing rather than late."""
SECOND_ACK: Final = 0.3
"""How long it listens for an ack too many."""
REPORT: Final = 2.0
"""From the ack of a control to its report. No document gives a time; apps wait for it."""
RESEND_EARLIEST: Final = 0.15
"""A resend before this overtakes an ack that is in time (§1.8: 200 ms, less the adapter's uncertainty)."""
RESEND_LATEST: Final = 1.5
"""A resend after this is late; newer peers wait 600 ms plus the time of the frame (R2)."""
TRANSMISSIONS: Final = 4
"""A peer must tolerate so many equal frames (§1.8, ruling); more are endless repetition."""
RESEND_PATIENCE: Final = 6.0
"""How long the bench waits for the first repetition: one product of the vendor waits 5 s (observed)."""
RESEND_END: Final = 2.0
"""After so many of its own intervals without a copy a frame has been given up, and after 1.5 s at least."""
REPORT_INTERVAL: Final = 6.0
"""Least time between spontaneous reports (§6.4, §6.6)."""
WATCH: Final = 20.0
"""How long an idle device is watched."""
FULL_REPORT: Final = 600.0
"""The periodic full report (§6.6)."""
STORM: Final = 5
"""More commands of the MCU than this within a second are a storm: nothing can keep up at 9600 baud."""
OWED: Final = 30.0
"""A report may answer a control that is so old: whoever waits 5 s for an ack, four times, gets behind."""
TIME_REQUESTS: Final = 3
"""More time requests than this within 10 s, each answered, are a storm."""
QUIET: Final = 0.3
"""So long without a command of the MCU, and it is taken to be at rest."""
QUIET_PATIENCE: Final = 4.0
"""How long the bench waits for rest."""
MODULE_TRIES: Final = 3
"""Transmissions of a module in all (§1.8)."""
RESTART_PATIENCE: Final = 15.0
"""How long an MCU may take to be back after a restart, which takes 600 ms in the SDK (§4.8)."""
PERSON: Final = 60.0
"""How long a person has to press a button."""
IDLE_PARTIAL: Final = 0.5
"""A frame of the MCU in which nothing arrives for so long is given up."""
