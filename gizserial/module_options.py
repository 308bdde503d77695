"""Options of the module role: sane defaults, and the quirks of real firmware by name (serial.md §11)."""

from __future__ import annotations

import dataclasses
from typing import Literal

from gizserial.endpoint import EndpointOptions
from gizserial.transfer_options import TransferOptions


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModuleOptions:
    """How the module behaves. Times are seconds unless the name says otherwise."""

    ack_wait: float | None = None
    """Wait for an ack; None: 0.2, or what the MCU's ``LocalAckT`` says (§4.1). Newer firmware: 0.6."""
    tries: int = 3
    """Transmissions of a command in all."""
    byte_time: float = 0.0
    """Seconds per byte on the line, 10 / baud."""
    queue_depth: int = 16
    """P0 that wait while another is unacked (§6.4)."""
    heartbeat_s: float | None = None
    """Between heartbeats; None: 55, or what the MCU's ``LocalHT`` says."""
    heartbeat_policy: Literal["free_running", "idle"] = "free_running"
    """``free_running``: a tick every 55 s whatever the traffic, reboot when more than 3 were missed.
    ``idle``: 55 s after the MCU's last frame, reboot after 180 s of silence (older firmware)."""
    reboot_on_loss: bool = True
    """Reboot when the MCU does not answer heartbeats."""
    sn_skips_0_255: bool = False
    """Count 1 to 254 (older firmware)."""
    unstuffed_ack: bool = False
    """Leave the FF of plain acks unescaped (GAgent 04020006)."""
    silent_on_unknown: bool = False
    """Say nothing to an unknown good command, instead of 11 code 02 (R5)."""
    single_outstanding_drop: bool = False
    """Refuse a P0 while another is unacked, instead of queueing it (GAgent 04020006)."""
    status_period_s: float = 600.0
    """Push the status after so long without a push (§4.7)."""
    status_tick_s: float = 1.0
    """A changed status is pushed at the next tick of this length (§6.3)."""
    time_from_1970: bool = False
    """Before the time is known convert clock 0, instead of sending zeros (R17)."""
    tz_s: int | None = None
    """Local time minus UTC in answers to 17; None: 28800, or what the MCU's ``tz`` says."""
    dedup: bool = True
    """Ack a repeated command without handing it on again (R27)."""
    info_attempts: int = 10
    """Attempts to ask the MCU who it is, of three transmissions each, before the module reboots."""
    forward_empty_p0: bool = True
    """Hand on reports without an action byte (GAgent since 04020006)."""
    cfg_unknown_is_airlink: bool = False
    """Treat provisioning mode 0 and unknown ones as AirLink, as the document says (R15)."""
    lenient: bool = True
    """Accept an unescaped FF from the MCU."""
    idle_timeout: float = 0.5
    """A frame in which nothing arrives for so long is given up."""
    reset_delay: float = 2.0
    """From the ack of a reset to the reboot (§4.6)."""
    restart_delay: float = 0.1
    """From the ack of 29 to the reboot (§4.15)."""
    boot_time: float = 0.3
    """From a reboot to the first 01."""
    airlink_s: float = 60.0
    """AirLink listens so long, then SoftAP takes over (§4.5)."""
    softap_s: float = 300.0
    """SoftAP provisioning lasts so long."""
    test_s: float = 180.0
    """A production test lasts so long at the most (§4.10)."""
    ota_fetch: Literal["newer", "other", "never"] = "newer"
    """Which offered firmware is downloaded: a version that sorts after the present one as text (``strcmp``,
    GAgent 04020006), any other version than the present one, or none (device-cloud.md §4.3)."""
    generation: Literal["auto", "g1", "g2", "g3"] = "auto"
    """How the module registers with its cloud: plain (G1), encrypted (G2) or signed with the product secret
    (G3, which also asks for firmware by 021c); auto: G2 when the MCU has a secret, if the cloud takes it."""
    ota_asks_by: Literal["http", "g3", "g0"] = "http"
    """How firmware is asked for: over HTTP (G1, G2), or by MQTT as G3 (021c) or G0 (0205) modules do
    (device-cloud.md §9)."""
    ota_drops_reports: bool = False
    """Ack reports and drop them while a firmware file is downloaded (GAgent 04020006)."""
    ota_single_piece_bug: bool = False
    """Never send a file that fits into one piece (GAgent 04020006)."""
    ota_piece_wait: float = 3.0
    """Wait for the ack of a piece of a file; it is sent three times in all (§4.13)."""
    ota_ready_wait: float = 60.0
    """From the ack of 19 to the MCU's 1B; then the file is forgotten."""
    upload_silence: float = 15.0
    """A file of the MCU is given up (27) after so long without a piece."""
    upload_most: int = 65400
    """Bytes of the largest file that is taken from the MCU; what MQTT of GAgent 4 can carry."""
    hard_ver: str = "00SIM001"
    """Module hardware version in answers to 21."""
    soft_ver: str = "04020035"
    """Module software version in answers to 21."""

    def files(self) -> TransferOptions:
        """How files travel. The module asks for them with an empty 1B (§4.13)."""
        return TransferOptions(
            piece_wait=self.ota_piece_wait,
            ready_wait=self.ota_ready_wait,
            silence=self.upload_silence,
            single_piece_bug=self.ota_single_piece_bug,
            receives=self.upload_most > 0,
            size_most=self.upload_most,
        )

    def endpoint(self, *, ack_wait: float | None = None) -> EndpointOptions:
        """The options of the line.

        :param ack_wait: What the MCU asked for; used when the option leaves it open.
        """
        return EndpointOptions(
            ack_wait=self.ack_wait if self.ack_wait is not None else (ack_wait or 0.2),
            tries=self.tries,
            byte_time=self.byte_time,
            queue_depth=self.queue_depth,
            lenient=self.lenient,
            idle_timeout=self.idle_timeout,
            dedup=self.dedup,
            sn_skips_0_255=self.sn_skips_0_255,
            unstuffed_ack=self.unstuffed_ack,
            refuse_while_waiting=False,
        )
