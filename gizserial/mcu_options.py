"""Options of the MCU role: sane defaults, and the quirks of real firmware by name (serial.md §11)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from gizserial.endpoint import EndpointOptions
from gizserial.transfer_options import TransferOptions

InfoVariant = Literal["A", "B", "C", "D"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class McuOptions:
    """How the MCU behaves. Times are seconds unless the name says otherwise."""

    ack_wait: float = 0.2
    """Wait for an ack (``SEND_MAX_TIME``)."""
    tries: int = 3
    """Transmissions of a command in all (``SEND_MAX_NUM`` resends and the first)."""
    byte_time: float = 0.0
    """Seconds per byte on the line, 10 / baud."""
    ack_match_sn: bool = True
    """An ack must repeat the sn; the SDK looks at the command only (R24)."""
    pending_overwrite: bool = False
    """A newer command replaces the unacked one, as in the SDK, instead of waiting."""
    dedup: bool = True
    """Ack a repeated control again without applying it again; the SDK applies it (R27)."""
    lenient: bool = True
    """Accept an unescaped FF, as the SDK does."""
    idle_timeout: float = 0.5
    """A frame in which nothing arrives for so long is given up; the SDK waits for ever."""
    info_variant: InfoVariant = "C"
    """Which parts the answer to 01 has: A 66 bytes, B attributes, C and the secret, D and the data."""
    hard_ver: str = "00000001"
    """Hardware version in answers to 01."""
    soft_ver: str = "00000001"
    """Software version in answers to 01."""
    p0_ver: str = "00000002"
    """P0 protocol version in answers to 01 (R7)."""
    bind_time: int = 0
    """Seconds after start during which new users may bind; 0: always."""
    product_secret: str = ""
    """32 hex digits, sent in variants C and D; empty: 32 zeros, which no cloud takes for a secret."""
    data: Mapping[str, str] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    """Settings for the module; sent in variant D (§4.1)."""
    report_min_s: float = 6.0
    """Least time between change reports of read-only numbers (``REPORT_TIME_MAX``)."""
    report_min_slow_only: bool = False
    """Only reports that were due for such a number count for ``report_min_s``, as in the SDK: a switch's
    report brings a fixed-length product's numbers along and does not hold back the next one."""
    report_full_s: float = 600.0
    """A full report after so long without one (R31)."""
    report_flags_ff: bool = False
    """Variable length: set the padding flags too in full reports, as the SDK does (§5.5)."""
    answer_last_reported: bool = False
    """Answer a read from the last report, as the SDK does, instead of with live values (R22)."""
    report_after_control: bool = True
    """Report after every control, also when nothing changed; the SDK only when something did (R23)."""
    no_ack_on_bad_sum_notice: bool = True
    """Say nothing to a damaged ack or notice; the SDK answers it with 12 code 01 (§4.9)."""
    takes_out_of_range: bool = False
    """Take a number outside the definition's range, as the SDK does, which checks no range (§5.6)."""
    reboot_delay_ms: int = 600
    """From the ack of 0F to the restart (R36)."""
    ota: bool = False
    """Take firmware. An MCU that cannot answers 19 with its ack and leaves it at that (§4.13)."""
    ota_piece_size: int = 128
    """Bytes of a piece that are asked for; 0: 256."""
    ota_hex: bool = False
    """Ask for lines of HEX."""
    ota_most: int = 256 * 1024
    """Bytes of the largest file that is taken."""
    ota_erase_ms: int = 0
    """From the ack of 19 to 1B: flash is erased."""
    ota_store_ms: int = 0
    """From a piece to its ack: flash is written."""
    ota_silence: float = 15.0
    """Stop (27) after so long without a piece."""
    upload_piece_size: int = 256
    """Bytes of a piece of a file that goes to the module."""
    never_answers: bool = False
    """Send no acks at all."""
    answers_late_ms: int = 0
    """Send every ack so much later."""
    drops_every_nth: int = 0
    """Overlook every nth good frame; 0: none."""
    bad_checksum_every_nth: int = 0
    """Send every nth frame with a wrong checksum; 0: none."""

    def files(self) -> TransferOptions:
        """How files travel."""
        return TransferOptions(
            receives=self.ota,
            piece_size=self.ota_piece_size,
            own_piece_size=self.upload_piece_size,
            hex=self.ota_hex,
            size_most=self.ota_most,
            erase=self.ota_erase_ms / 1000,
            store=self.ota_store_ms / 1000,
            silence=self.ota_silence,
        )

    def endpoint(self) -> EndpointOptions:
        """The options of the line."""
        return EndpointOptions(
            ack_wait=self.ack_wait,
            tries=self.tries,
            byte_time=self.byte_time,
            match_sn=self.ack_match_sn,
            lenient=self.lenient,
            idle_timeout=self.idle_timeout,
            dedup=self.dedup,
            replace_outstanding=self.pending_overwrite,
            never_answers=self.never_answers,
            answer_delay=self.answers_late_ms / 1000,
            drop_every_nth=self.drops_every_nth,
            bad_checksum_every_nth=self.bad_checksum_every_nth,
        )
