"""What an embedded cloud is told when it is made."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Final, Literal, Self

from sim.cloud.errors import AddressError
from sim.cloud.outbox import FIXED_CODE
from sim.cloud.pacing import Pace
from sim.cloud.products import CloudProduct

DEFAULT_HTTP: Final = "127.0.0.1:8080"
DEFAULT_MQTT: Final = "127.0.0.1:1883"
_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})
_ADDRESS: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%]+)\]|(?P<host>[^\s:/\[\]]*)):(?P<port>\d{1,5})")
_HOST: Final = re.compile(r"[0-9A-Za-z._:-]{1,99}")


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """``HOST:PORT``. No host means this machine only; port 0 is any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``HOST:PORT``, ``:PORT`` or ``[IPV6]:PORT``.

        :raises AddressError: when it is none.
        """
        match = _ADDRESS.fullmatch(text.strip())
        if match is None or int(match["port"]) > 65535:
            raise AddressError(
                f"{text!r} is no address; write HOST:PORT, for example 127.0.0.1:8080 (port 0: any free one)"
            )
        return cls(match["six"] or match["host"] or "127.0.0.1", int(match["port"]))

    @property
    def is_wildcard(self) -> bool:
        """It stands for every address of this machine."""
        return self.host in _WILDCARDS

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclasses.dataclass(frozen=True, slots=True)
class Advertised:
    """What devices are told instead of the address under which they reached us."""

    host: str
    port: int | None = None
    """Port of the MQTT server; None for the one that it has."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``HOST`` or ``HOST:PORT``.

        :raises AddressError: when a field module would not survive it.
        """
        host, port = text.strip(), None
        match = _ADDRESS.fullmatch(host)
        if match is not None:
            host, port = match["six"] or match["host"], int(match["port"])
        if not _HOST.fullmatch(host) or (port is not None and not 0 < port < 65536):
            raise AddressError(
                f"{text!r} cannot be told to devices; write HOST or HOST:PORT with at most 99 characters"
            )
        return cls(host, port)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AppConfig:
    """An app of the configuration; what is None is made up."""

    appid: str | None = None
    appsecret: str | None = dataclasses.field(default=None, repr=False)
    products: tuple[str, ...] | None = None
    """Product keys that it may use; None: all."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WantedBinding:
    """A device that a user of the configuration has, as soon as it has registered."""

    product_key: str
    mac: str
    remark: str = ""
    dev_alias: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UserConfig:
    """A user of the configuration."""

    kind: Literal["username", "email", "phone"]
    name: str
    password: str | None = dataclasses.field(default=None, repr=False)
    """None: made up when he is new."""
    bind: tuple[WantedBinding, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareConfig:
    """A firmware image of the configuration."""

    product_key: str
    soft_version: str
    name: str
    """Of the file; ``.hex`` at its end makes it Intel HEX text."""
    content: bytes = dataclasses.field(repr=False)
    type: int = 2
    """1 module, 2 MCU."""
    push: bool = False
    """Every device of the product is to run it."""
    small: bool = False
    """Take it even though field modules crash on files of less than 600 bytes."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CloudConfig:
    """Where the cloud listens, what it knows, and how strict it is.

    :raises AddressError: for an address that is none.
    """

    http: str = DEFAULT_HTTP
    mqtt: tuple[str, ...] = (DEFAULT_MQTT,)
    auto_ports: bool = False
    """Take any free port where the wanted one is in use."""
    data: Path | None = None
    """Directory of the database; None keeps everything in memory."""
    products: tuple[CloudProduct, ...] = ()
    strict_products: bool = False
    """Only the configured products may register. Otherwise any product key may: this is a bench."""
    advertise: str | None = None
    """``HOST[:PORT]`` that devices are told; None is the address under which they reached us."""
    adopt: bool = False
    """Take over devices that log in with an unknown did (device-cloud.md §12.3)."""
    pace: Pace = dataclasses.field(default_factory=Pace)
    https: str | None = None
    ws: str | None = None
    wss: str | None = None
    mqtts: str | None = None
    snoti: str | None = None
    """Addresses of the services for apps and servers; None: not served."""
    optional: frozenset[str] = frozenset()
    """Names of the services that may take any free port where the wanted one is in use."""
    cert: Path | None = None
    key: Path | None = None
    """The user's own certificate (PEM, with its chain) and key; None: of a CA that the cloud makes."""
    names: tuple[str, ...] = ()
    """Further host names and addresses for the certificate."""
    apps: tuple[AppConfig, ...] = ()
    users: tuple[UserConfig, ...] = ()
    firmware: tuple[FirmwareConfig, ...] = ()
    token_time: float = 7 * 86400.0
    """Seconds that a token is good for."""
    history_time: float = 7 * 86400.0
    """Seconds that packets and data points of devices are kept."""
    accept_any_appid: bool = False
    """Register an unknown appid when it is first used (open-api.md R14)."""
    fixed_code: str = FIXED_CODE
    """SMS code that always matches (open-api.md §6.7)."""
    strong_passwords: bool = False
    """Apps set passwords of 8 characters or more, of three kinds (open-api.md R4)."""
    strict_raw: bool = False
    """``c2s_raw`` takes whole packets only (websocket-api.md §8.1)."""
    ws_bool_as_int: bool = False
    """``s2c_noti`` has 1 and 0 instead of true and false (websocket-api.md R1)."""
    country: str = ""
    region: str = ""
    city: str = ""
    """Where devices are said to be: nothing here looks up addresses (snoti.md R7)."""
    admin: bool = True
    """Serve the admin API."""

    @property
    def place(self) -> dict[str, str]:
        """Where devices are said to be, as interfaces show it."""
        return {"country": self.country, "region": self.region, "city": self.city}

    def __post_init__(self) -> None:
        others = (self.https, self.ws, self.wss, self.mqtts, self.snoti)
        for text in (self.http, *self.mqtt, *(text for text in others if text is not None)):
            Address.parse(text)
        if (self.cert is None) != (self.key is None):
            raise AddressError("a certificate needs its key: give both")
        if not self.mqtt:
            raise AddressError("at least one MQTT address is needed")
        if self.advertise is not None:
            Advertised.parse(self.advertise)
