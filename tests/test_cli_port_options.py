"""``--port``, ``--baud`` and ``--pace`` as every command has them."""

from __future__ import annotations

import click
from click.testing import CliRunner

from gizserial.cli.port_options import port_options


def command(*, required: bool) -> click.Command:
    @click.command()
    @port_options(required=required)
    def show(port: str | None, baud: int, pace: bool) -> None:
        click.echo(f"{port} {baud} {pace}")

    return show


def test_values_and_defaults() -> None:
    show = command(required=True)
    assert CliRunner().invoke(show, ["--port", "pty:"]).output == "pty: 9600 False\n"
    assert CliRunner().invoke(show, ["--port", "COM3", "--baud", "115200", "--pace"]).output == (
        "COM3 115200 True\n"
    )
    assert CliRunner().invoke(command(required=False), []).output == "None 9600 False\n"


def test_wrong_usage_is_status_2() -> None:
    assert CliRunner().invoke(command(required=True), []).exit_code == 2
    assert CliRunner().invoke(command(required=True), ["--port", "x", "--baud", "0"]).exit_code == 2
    assert CliRunner().invoke(command(required=True), ["--port", "x", "--baud", "fast"]).exit_code == 2


def test_help_names_every_form() -> None:
    text = " ".join(CliRunner().invoke(command(required=True), ["--help"]).output.split())
    for form in (
        "/dev/ttyUSB0",
        "COM3",
        "socket://",
        "rfc2217://",
        "loop://",
        "pty:",
        "tcp-listen:host:port",
    ):
        assert form in text
