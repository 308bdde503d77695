"""``gizsim ota``: push firmware into a board."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gizserial.cli.group import FINDING, FINE
from gizserial.cli.output import echo
from gizserial.cli.params import json_option, product_option
from gizserial.cli.port_options import port_options
from sim.cli.options import fault_options, quirk_options, with_faults

if TYPE_CHECKING:
    from gizserial.image import Image
    from gizserial.module_options import ModuleOptions
    from gizserial.product import Product
    from sim.ota_push import Report

_HEX_SUFFIXES: Final = frozenset({".hex", ".ihex", ".ihx"})
_SIZE_MOST: Final = 64 * 1024 * 1024
_VERSION: Final = re.compile(r"[!-~]{1,8}")
_RECORD: Final = re.compile(rb":[0-9A-Fa-f]{10,520}\r?\n")


def _options() -> type[ModuleOptions]:
    from gizserial.module_options import ModuleOptions

    return ModuleOptions


@click.command(
    epilog="\b\nExamples:\n"
    "  gizsim ota --port /dev/ttyUSB0 firmware.bin\n"
    "  gizsim ota --port COM3 -p pet-house.json firmware.hex --expect-version 00000002"
)
@port_options()
@product_option()
@click.argument("image", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="IMAGE")
@click.option(
    "--format",
    "form",
    type=click.Choice(["bin", "hex"]),
    help="What IMAGE is; otherwise its suffix says it (.bin; .hex, .ihex, .ihx).",
)
@click.option(
    "--expect-version",
    "--version",
    "expect",
    metavar="V",
    help="Software version that the MCU must name afterwards.",
)
@click.option(
    "--restart-wait",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for the MCU to restart after the last piece.",
)
@fault_options
@click.option("--seed", type=int, metavar="N", help="Seed of the faults; a random one otherwise.")
@quirk_options(_options)
@json_option
@click.pass_context
def ota(
    ctx: click.Context,
    port: str,
    baud: int,
    *,
    pace: bool,
    product: Product | None,
    image: Path,
    form: str | None,
    expect: str | None,
    restart_wait: float,
    faults: tuple[str, ...],
    seed: int | None,
    quirks: tuple[str, ...],
    as_json: bool,
) -> None:
    """Push the firmware IMAGE into the MCU on a port, as the Wi-Fi module does it after a download.

    Says how long each piece took, and which version the MCU has afterwards. Exit status 1 when the MCU
    refused the image or the update failed; Ctrl-C stops the transfer in order (1F).
    """
    from gizserial.commands import Role
    from gizserial.io.ports import open_port
    from sim import lifetime
    from sim.ota_push import Push
    from sim.quirks import with_quirks
    from sim.words import byte_time

    if expect is not None and not _VERSION.fullmatch(expect):
        raise click.UsageError("--expect-version is 1 to 8 printable ASCII characters: no MCU names another")
    firmware = _load(image, form)
    options = with_quirks(_options()(byte_time=byte_time(port, baud, pace=pace)), quirks)
    show = _Json() if as_json else _Text(firmware)
    push = Push(
        with_faults(open_port(port, baud=baud, pace=pace), faults, seed, Role.MODULE),
        firmware,
        options=options,
        expect=expect,
        product_key=product.product_key if product is not None else None,
        restart_wait=restart_wait,
        tell=show.tell,
    )

    async def main() -> int:
        try:
            report = await push.run()
        finally:
            show.close()
        show.result(report)
        return FINE if report.verdict == "updated" else FINDING

    ctx.exit(lifetime.run(main()))


def _load(path: Path, form: str | None) -> Image:
    from gizserial.image import Image, ImageError, hex_image
    from gizserial.io.files import os_sentence

    suffix = path.suffix.lower()
    if form is None and suffix != ".bin" and suffix not in _HEX_SUFFIXES:
        raise click.UsageError(f"{path}: its suffix does not say what it is; give --format bin or hex")
    try:
        with path.open("rb") as file:
            data = file.read(_SIZE_MOST + 1)
    except OSError as error:
        raise click.UsageError(f"{path}: {os_sentence(error)}") from error
    if len(data) > _SIZE_MOST:
        raise click.UsageError(f"{path}: it has more than {_SIZE_MOST} bytes, which is no firmware of an MCU")
    if form is None:
        _require_firmware(path, data, is_hex=suffix != ".bin")
    try:
        return hex_image(data) if form == "hex" or (form is None and suffix != ".bin") else Image(data)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def _require_firmware(path: Path, data: bytes, *, is_hex: bool) -> None:
    """Refuse what is easily taken for firmware: an MCU would store it and never start again."""
    if data.startswith(b"\x7fELF"):
        hint = "make firmware of it (objcopy -O binary), or give --format bin to send it as it is"
        raise click.UsageError(f"{path}: it is an ELF file; {hint}")
    if not is_hex and _RECORD.match(data):
        raise click.UsageError(
            f"{path}: it is Intel HEX text; give --format hex to send it in lines, --format bin as it is"
        )


class _Json:
    """One object per line."""

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        self._print({"kind": kind, **facts})

    def close(self) -> None:
        """Nothing to put away."""

    def result(self, report: Report) -> None:
        self._print(
            {
                "kind": "result",
                "verdict": report.verdict,
                "detail": report.detail,
                "version_before": report.before or None,
                "version_after": report.after or None,
                **report.facts,
            }
        )

    def _print(self, members: dict[str, Any]) -> None:
        import json

        echo(json.dumps(members, ensure_ascii=False))


class _Text:
    """Sentences, and a bar where there is a terminal."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._bar: Any = None
        self._number = 0
        self._again = 0

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        if kind == "progress":
            self._progress(facts["number"])
            return
        if kind == "again" and self._bar is not None:
            self._again += 1
            self._bar.label = f"  pieces ({self._again} sent again)"
            self._bar.render_progress()
            return
        if kind == "start":
            pieces = "lines of HEX" if facts["hex"] else f"pieces of {facts['piece_size']} bytes"
            echo(f"the MCU takes it in {facts['count']} {pieces}")
            self._start(facts["count"])
            return
        self.close()
        text = {
            "ready": "port {port}: waiting for the MCU",
            "mcu": "the MCU: hardware {hard_ver}, software {soft_ver}",
            "offered": "announced {size} bytes, MD5 {md5}: the MCU has {ready_wait_s:g} s to ask (1B)",
            "again": "piece {number}: no ack, transmission {attempt} of 3",
            "sent": "all pieces are sent: waiting for the MCU to restart",
            "asking": "it did not restart the module (29): asking for its version",
            "line": "{text}",
            "stopped": ("stopped after {pieces} of {count} pieces: " if self._number else "stopped: ")
            + "{detail}",
        }[kind]
        echo(text.format(**facts))

    def _start(self, count: int) -> None:
        self._number = 0
        if sys.stderr is not None and sys.stderr.isatty():
            self._bar = click.progressbar(length=count, label="  pieces", show_pos=True, file=sys.stderr)
            self._bar.render_progress()

    def _progress(self, number: int) -> None:
        if self._bar is not None:
            self._bar.update(number - self._number)
        self._number = number

    def close(self) -> None:
        """End the line of the bar."""
        if self._bar is not None:
            self._bar.render_finish()
            self._bar = None

    def result(self, report: Report) -> None:
        facts = report.facts
        if facts["pieces"]:
            echo(self._timing(facts))
        if report.before:
            echo(f"software: {report.before} before, {report.after or 'unknown'} afterwards")
        echo(f"{report.verdict}: {report.detail}" if report.detail else report.verdict)

    def _timing(self, facts: dict[str, Any]) -> str:
        lines = [
            f"pieces: {facts['pieces']} of {facts['count']} acked, {facts['resends']} sent again",
        ]
        middle, most = facts["ack_median_s"] * 1000, facts["ack_slowest_s"] * 1000
        slowest = facts["slowest_piece"]
        lines.append(f"ack of a piece: median {middle:.1f} ms, slowest {most:.1f} ms (piece {slowest})")
        if facts["erase_s"] is not None:
            lines.append(f"ready after the announcement: {facts['erase_s'] * 1000:.1f} ms")
        if facts["bytes_per_s"] is not None:
            lines.append(f"speed: {facts['bytes_per_s']:.0f} bytes/s, {facts['transfer_s']:.2f} s in all")
        if facts["restart_s"] is not None:
            lines.append(f"from the last ack to the new version: {facts['restart_s']:.2f} s")
        return "\n".join(lines)
