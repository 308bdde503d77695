"""Two roles and a file between them, in virtual time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support_roles import Bench

from gizserial import schemas
from gizserial.commands import Command
from gizserial.events import Event, FileReceived, HandshakeDone, Outcome, TransferEnded, TransferEvent
from gizserial.framing import Frame
from gizserial.image import Image
from gizserial.io.memory import MemoryLink
from gizserial.io.products import load_product
from gizserial.io.simulation import Simulation
from gizserial.mcu import McuRole
from gizserial.mcu_options import McuOptions
from gizserial.module import ModuleRole
from gizserial.module_options import ModuleOptions

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = load_product(str(ROOT / "fixtures/products/pet-house.json"))
IMAGE = Image(bytes(range(200)))
INFO = schemas.DEVICE_INFO.build(
    {
        "protocol_ver": "00000004",
        "p0_ver": "00000002",
        "hard_ver": "00000001",
        "soft_ver": "00000001",
        "product_key": PRODUCT.product_key,
        "bind_time": 0,
    }
)


def started_module(*, sn: int | None = None, **options: Any) -> tuple[ModuleRole, Bench]:
    """A module that knows its MCU. Its next frame has the number ``sn``."""
    module = ModuleRole(ModuleOptions(reboot_on_loss=False, **options))
    answers: dict[int, Callable[[Frame], bytes]] = {
        Command.DEVICE_INFO: lambda _frame: INFO,
        Command.STATUS: lambda _frame: b"",
    }
    line = Bench(module, answers=answers)
    line.run_for(2)
    if sn is not None:
        module._endpoint._sn = sn
    line.clear()
    return module, line


def started_mcu(*, sn: int = 0, piece_size: int = 128, **options: Any) -> tuple[McuRole, Bench]:
    """An MCU that takes firmware, after its first report."""
    mcu = McuRole(PRODUCT, McuOptions(ota=True, ota_piece_size=piece_size, **options))
    line = Bench(mcu, answers={Command.P0_FROM_MCU: lambda _frame: b""})
    line.run_for(1)
    mcu._endpoint._sn = sn
    line.clear()
    return mcu, line


def ready_frame(image: Image, piece_size: int, *, sn: int = 9, flags: int = 0, md5: str = "") -> Frame:
    body = schemas.FILE_READY.build({"md5": md5 or image.md5, "piece_size": piece_size})
    return Frame(Command.FILE_READY, sn, body, flags)


def piece_frame(number: int, count: int, data: bytes, *, sn: int, flags: int = 0) -> Frame:
    body = schemas.FILE_PIECE.build({"number": number, "count": count, "data": data})
    return Frame(Command.FILE_PIECE, sn, body, flags)


def announce_frame(image: Image, *, sn: int = 0x20, size: int | None = None, md5: str = "") -> Frame:
    body = schemas.FILE_ANNOUNCE.build(
        {"size": image.size if size is None else size, "md5": md5 or image.md5}
    )
    return Frame(Command.FILE_ANNOUNCE, sn, body)


def hex_text(data: bytes) -> bytes:
    """The data as lines of Intel HEX, from address 0."""
    lines = []
    for start in range(0, len(data), 16):
        part = data[start : start + 16]
        octets = bytes((len(part),)) + start.to_bytes(2, "big") + b"\0" + part
        lines.append(f":{octets.hex().upper()}{-sum(octets) & 0xFF:02X}\r\n")
    return "".join([*lines, ":00000001FF\r\n"]).encode()


def ended(line: Bench) -> TransferEnded:
    """How the one transfer of this end ended."""
    (event,) = line.of(TransferEnded)
    return event


def transfers(line: Bench) -> list[Event]:
    return [event for event in line.events if isinstance(event, TransferEvent)]


class Pair:
    """A module and an MCU on one line; the MCU boots what it received whole."""

    def __init__(
        self,
        *,
        piece_size: int = 128,
        link: MemoryLink | None = None,
        module: ModuleOptions | None = None,
        mcu: McuOptions | None = None,
    ) -> None:
        self.module = ModuleRole(module or ModuleOptions())
        options = dataclasses.replace(mcu or McuOptions(), ota=True, ota_piece_size=piece_size)
        self.mcu = McuRole(PRODUCT, options)
        self.link = link or MemoryLink(byte_time=10 / 115200)
        self.events: list[tuple[object, Event]] = []
        self.simulation: Simulation[Event] = Simulation(
            (self.module, self.link.a), (self.mcu, self.link.b), on_event=self._event
        )
        self.run(2)

    def _event(self, machine: object, event: Event, now: float) -> None:
        self.events.append((machine, event))
        if isinstance(event, FileReceived) and machine is self.mcu:
            self.mcu.boot("00000002", now=now)

    def offer(self, image: Image) -> None:
        self.module.offer_file(image, now=self.simulation.now)

    def run(self, seconds: float) -> None:
        self.simulation.run(until=self.simulation.now + seconds)

    @property
    def received(self) -> list[bytes]:
        """What the MCU took for good."""
        return [event.data for machine, event in self.events if isinstance(event, FileReceived)]

    def ends(self, machine: object) -> list[TransferEnded]:
        """How it ended for one of the two."""
        return [event for of, event in self.events if of is machine and isinstance(event, TransferEnded)]

    @property
    def outcomes(self) -> tuple[list[Outcome], list[Outcome]]:
        """How it ended for the module and for the MCU."""
        ours, theirs = self.ends(self.module), self.ends(self.mcu)
        return [event.outcome for event in ours], [event.outcome for event in theirs]

    @property
    def versions(self) -> list[str]:
        """What the module read of the MCU's software, each time."""
        return [event.info.soft_ver for _machine, event in self.events if isinstance(event, HandshakeDone)]
