"""What the command line and the configuration file say, checked before the first test."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from gizserial.product import Product

DEFAULT_BAUD: Final = 9600
CAPTURES: Final = "gizwits-captures"
CONFIGURATIONS: Final = ("pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
"""Files where pytest looks for its configuration."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user set."""

    port: str
    """Empty: none, everything is simulated."""
    baud: int
    product: Path | None
    capture_dir: Path
    timeout: float


def declare(parser: pytest.Parser) -> None:
    """Options and their twins in the configuration file."""
    group = parser.getgroup("gizwits", "Gizwits firmware")
    group.addoption(
        "--gizwits-port",
        metavar="PORT",
        help="the board: /dev/ttyUSB0, COM3, socket://host:port, …; without it everything is simulated",
    )
    group.addoption("--gizwits-product", metavar="FILE", help="product definition (JSON)")
    group.addoption("--gizwits-baud", metavar="N", help=f"bits per second (default {DEFAULT_BAUD})")
    group.addoption(
        "--gizwits-capture-dir", metavar="DIR", help=f"captures of failed tests (default {CAPTURES})"
    )
    parser.addini("gizwits_port", "where the board is, as --gizwits-port", default="")
    parser.addini("gizwits_product", "product definition, relative to this file", default="")
    parser.addini("gizwits_baud", "bits per second", default=str(DEFAULT_BAUD))
    parser.addini("gizwits_capture_dir", "captures of failed tests, relative to this file", default=CAPTURES)
    parser.addini("gizwits_timeout", "seconds that the board has to answer the handshake", default="10")


def read(config: pytest.Config) -> Settings:
    """The settings; ports and definitions are looked at here, so that mistakes are told once.

    :raises pytest.UsageError: something that cannot work.
    """
    _check_words(config)
    settings = Settings(
        port=config.getoption("--gizwits-port") or config.getini("gizwits_port"),
        baud=_baud(config),
        product=_path(config, "--gizwits-product", "gizwits_product"),
        capture_dir=_path(config, "--gizwits-capture-dir", "gizwits_capture_dir") or _base(config) / CAPTURES,
        timeout=_seconds(config),
    )
    if settings.port:
        _check_port(settings.port, settings.baud)
    if settings.product is not None:
        load(settings.product)
    return settings


def _path(config: pytest.Config, option: str, ini: str) -> Path | None:
    """Options are relative to where pytest was called, the file's words to the file."""
    given = config.getoption(option)
    if given:
        return config.invocation_params.dir / Path(given).expanduser()
    written = config.getini(ini)
    return _base(config) / Path(written).expanduser() if written else None


def _base(config: pytest.Config) -> Path:
    return config.inipath.parent if config.inipath is not None else config.invocation_params.dir


def _check_words(config: pytest.Config) -> None:
    """``--option /a/path`` makes pytest look for its configuration there, and miss the project's."""
    here = config.invocation_params.dir
    if config.inipath is not None and config.inipath.parent in {here, *here.parents}:
        return
    if not any((folder / name).is_file() for folder in (here, *here.parents) for name in CONFIGURATIONS):
        return
    words = [str(word) for word in config.invocation_params.args]
    for option, value in itertools.pairwise(words):
        if option.startswith("--gizwits-") and "=" not in option and (here / value).exists():
            raise pytest.UsageError(
                f"write {option}={value}: with a blank before it pytest takes a path for a place of tests, "
                "and does not find the project's configuration"
            )


def _baud(config: pytest.Config) -> int:
    text = config.getoption("--gizwits-baud") or config.getini("gizwits_baud")
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 8 and int(text)):
        raise pytest.UsageError(f"--gizwits-baud: {text!r} is no baud rate; usual are 9600 and 115200")
    return int(text)


def _seconds(config: pytest.Config) -> float:
    text = config.getini("gizwits_timeout")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 3600:
        raise pytest.UsageError(f"gizwits_timeout: {text!r} is no number of seconds from 0 to 3600")
    return seconds


def _check_port(port: str, baud: int) -> None:
    from gizserial.errors import TransportError
    from gizserial.io.ports import open_port

    try:
        open_port(port, baud=baud)
    except TransportError as error:
        raise pytest.UsageError(f"--gizwits-port: {error}") from None
    if port.startswith("/") and not Path(port).exists():
        raise pytest.UsageError(
            f"--gizwits-port: there is no {port}; is the board plugged in, and is this its name?"
        )


def load(path: Path) -> Product:
    """Compile a definition.

    :raises pytest.UsageError: it cannot be read, or has errors.
    """
    from gizserial.errors import GizserialError
    from gizserial.io.products import load_product

    try:
        return load_product(path)
    except GizserialError as error:
        raise pytest.UsageError(f"--gizwits-product: {error}") from None
