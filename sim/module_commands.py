"""What may be typed while a module runs: what apps, the cloud and the network do."""

from __future__ import annotations

import dataclasses

from gizserial.codec import Codec
from gizserial.commands import FRAMES, Role
from gizserial.encoding import encode
from gizserial.errors import EncodeError
from gizserial.p0 import raw_to_mcu
from gizserial.wifi_status import WifiStatus
from sim.module import ModuleSimulator
from sim.prompt import Command
from sim.words import assignments, hex_bytes

WIFI = "wifi ap|airlink|join|lost|cloud on|cloud off|apps N|signal N"


def commands(simulator: ModuleSimulator) -> dict[str, tuple[str, str, Command]]:
    """The table of the module's prompt."""
    return _Commands(simulator).table()


class _Commands:
    def __init__(self, simulator: ModuleSimulator) -> None:
        self._simulator = simulator
        self._role, self._driver = simulator.role, simulator.driver

    def table(self) -> dict[str, tuple[str, str, Command]]:
        return {
            "set": ("set NAME=VALUE ...", "control data points, as an app does", self._set),
            "read": ("read [NAME ...]", "read the status", self._read),
            "raw": ("raw HEX", "send raw data to the MCU", self._raw),
            "wifi": (WIFI, "what happens to the network", self._wifi),
            "status": ("status", "what the module believes and is", self._status),
            "send": (
                "send FRAME [FIELD=VALUE ...]",
                "send any frame, as gizserial encode makes it",
                self._send,
            ),
            "restart-mcu": ("restart-mcu", "ask the MCU to restart", self._restart_mcu),
            "reboot": ("reboot", "restart the module", self._reboot),
        }

    def _set(self, words: list[str]) -> None:
        if self._simulator.product is None:
            raise EncodeError("control needs a product definition: start with -p PRODUCT")
        product = self._simulator.product
        values = assignments(words)
        if not values:
            raise ValueError("name what to set")
        raw = {name: product.point(name).raw(value) for name, value in values.items()}
        self._simulator.send_p0(self._simulator.p0.control(raw), "control")

    def _read(self, words: list[str]) -> None:
        if self._simulator.product is None:
            # Both families answer their own action; without a definition the fixed-length one is asked.
            self._simulator.send_p0(b"\x02", "read")
        else:
            self._simulator.send_p0(self._simulator.p0.read(words), "read")

    def _raw(self, words: list[str]) -> None:
        self._simulator.send_p0(raw_to_mcu(hex_bytes(words)), "raw data")

    def _wifi(self, words: list[str]) -> None:
        now, around = self._driver.now(), self._simulator.around
        match words:
            case ["ap"]:
                self._role.provision("softap", now=now)
            case ["airlink"]:
                self._role.provision("airlink", now=now)
            case ["join"]:
                around.network.known = True
                self._role.give_access_point(around.network.ssid, around.network.password, now=now)
            case ["lost"]:
                around.lose_router()
            case ["cloud", "on" | "off" as word]:
                self._pretend_cloud(on=word == "on")
            case ["apps", number]:
                self._role.set_apps(_number(number, 0xFFFF), now=now)
            case ["signal", number]:
                around.network.strength = _number(number, 100)
                if self._role.status.router:
                    self._role.set_router(True, now=now, strength=around.network.strength)
            case _:
                raise ValueError("what happens to the network?")
        self._driver.wake()

    def _pretend_cloud(self, *, on: bool) -> None:
        if self._simulator.has_cloud:
            raise EncodeError("there is a real cloud session; use wifi lost and wifi join")
        self._role.set_cloud(on, now=self._driver.now())
        if on:
            self._simulator.know_time()

    def _status(self, _words: list[str]) -> str:
        status, info = self._role.status, self._role.info
        lines = [f"  status {status.word:04X} {_bits(status)}", f"  phase  {self._role.phase.value}"]
        if info is not None:
            lines.append(f"  mcu    product {info.product_key[:8]}…, {info.hard_ver}, {info.soft_ver}")
        session = self._simulator.session
        if session is not None:
            lines.append(f"  cloud  {session.phase}, did {session.identity.did or '(none yet)'}")
        return "\n".join(lines)

    def _send(self, words: list[str]) -> None:
        if not words:
            raise ValueError("name the frame")
        frame = encode(Codec(self._simulator.product), words[0], words[1:])
        spec = FRAMES.get(frame.command)
        if spec is not None and (spec.is_ack or spec.sender is Role.MCU):
            raise EncodeError(f"{spec.name} is no command of the module")
        self._role.send(frame.command, frame.payload, now=self._driver.now(), flags=frame.flags)
        self._driver.wake()

    def _restart_mcu(self, _words: list[str]) -> None:
        self._role.restart_mcu(now=self._driver.now())
        self._driver.wake()

    def _reboot(self, _words: list[str]) -> None:
        self._role.reboot("asked for at the prompt", now=self._driver.now())
        self._driver.wake()


def _bits(status: WifiStatus) -> str:
    """The bits that are set, as frames are shown."""
    bits = dataclasses.asdict(status)
    return " ".join(f"{name} {value}" if name == "rssi" else name for name, value in bits.items() if value)


def _number(text: str, most: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text[:9]) > most:
        raise ValueError(f"a number from 0 to {most} is needed")
    return int(text)
