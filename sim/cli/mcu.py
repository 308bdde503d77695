"""``gizsim mcu``: play the MCU."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from gizserial.cli.params import product_option
from gizserial.cli.port_options import port_options
from sim.cli.cloning import capture_option, cloned_mcu
from sim.cli.options import fault_options, list_line, live_options, quirk_options, with_faults

if TYPE_CHECKING:
    from gizserial.mcu_options import McuOptions
    from gizserial.product import Product
    from sim.mcu import McuSimulator
    from sim.prompt import Command


_UPLOAD_MOST: Final = 16 * 1024 * 1024
"""Bytes of the largest file that is read for an upload; the module takes far less."""


def _options() -> type[McuOptions]:
    from gizserial.mcu_options import McuOptions

    return McuOptions


def _listed(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from sim.mcu_defects import DEFECTS

        for defect in DEFECTS.values():
            fields = {name: getattr(defect, name) for name in ("name", "title", "rule", "section")}
            list_line(ctx, fields, f"{defect.name:<34} {defect.title}")
        ctx.exit()


@click.command(
    epilog="\b\nExamples:\n"
    "  gizsim mcu --port /dev/ttyUSB0 -p pet-house.json\n"
    "  gizsim mcu --port pty: -p pet-house.json --move Temperature=sine:18..28:60\n"
    "  gizsim mcu --port pty: -p pet-house.json --defect ack-late\n"
    "  gizsim mcu --port pty: -p pet-house.json --flash mcu.flash"
)
@port_options()
@product_option(required=True)
@click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="A value to begin with.")
@click.option(
    "--move", "moves", multiple=True, metavar="MOVE", help="NAME=sine|ramp|square|walk:LOW..HIGH[:SECONDS]"
)
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of random walks and faults.")
@click.option(
    "--defect",
    "defects",
    multiple=True,
    metavar="NAME",
    help="Break one rule as faulty firmware does; may be given several times.",
)
@click.option(
    "--list-defects",
    is_flag=True,
    expose_value=False,
    callback=_listed,
    help="List the defects; with --json one object per line.",
)
@click.option("--ota", is_flag=True, help="Take firmware, and boot it when it is right.")
@click.option(
    "--piece-size",
    type=click.IntRange(0, 0xFFFF),
    default=128,
    show_default=True,
    metavar="N",
    help="Bytes of a piece of firmware that are asked for; 0 asks for the module's 256.",
)
@click.option("--ota-hex", is_flag=True, help="Ask for firmware as lines of Intel HEX; implies --ota.")
@click.option(
    "--ota-version",
    metavar="V",
    help="Version of new firmware; otherwise what it says (GIZVER=...), else the start of its MD5.",
)
@click.option(
    "--flash",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Keep the firmware here, as flash does without power; implies --ota.",
)
@capture_option("MCU", "versions, values, how it reports and repeats")
@fault_options
@quirk_options(_options)
@live_options
@click.pass_context
def mcu(
    ctx: click.Context,
    port: str,
    baud: int,
    *,
    pace: bool,
    product: Product,
    values: tuple[str, ...],
    moves: tuple[str, ...],
    seed: int,
    defects: tuple[str, ...],
    ota: bool,
    piece_size: int,
    ota_hex: bool,
    ota_version: str | None,
    flash: Path | None,
    recorded: str | None,
    faults: tuple[str, ...],
    quirks: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Play the MCU of a product to a real or simulated module.

    While it runs, type what happens at the product (set Temperature=25, provision softap, reset, help).
    """
    from random import Random

    from gizserial.commands import Role
    from gizserial.io.ports import open_port
    from sim import lifetime
    from sim.behaviours import parse_move
    from sim.mcu import McuSimulator, mcu_show
    from sim.ota import Flash
    from sim.prompt import Prompt
    from sim.quirks import with_quirks
    from sim.words import assignments, byte_time

    wants_ota = ota or ota_hex or flash is not None
    if ota_version is not None and not re.fullmatch(r"[!-~]{1,8}", ota_version):
        raise click.UsageError("--ota-version is 1 to 8 printable ASCII characters")
    plain = _options()(
        byte_time=byte_time(port, baud, pace=pace), ota=wants_ota, ota_piece_size=piece_size, ota_hex=ota_hex
    )
    cloned = cloned_mcu(recorded, product, plain, quiet=quiet)
    options = with_quirks(cloned.options, quirks)
    transport = with_faults(open_port(port, baud=baud, pace=pace), faults, seed, Role.MCU)
    random = Random(seed)  # noqa: S311 - values that move, no secrets
    show = mcu_show(product, as_json=as_json, quiet=quiet)
    simulator = McuSimulator(
        transport,
        show,
        product,
        options=options,
        values=cloned.values | assignments(values),
        moves=[
            *cloned.moves_beside(assignments(values)),
            *(parse_move(word, product, random) for word in moves),
        ],
        defects=defects,
        flash=Flash(options.ota_most, flash) if flash is not None else None,
        ota_version=ota_version,
    )
    prompt = Prompt(_commands(simulator), show)

    async def main() -> int:
        await lifetime.first_to_end(simulator.run(), prompt.run())
        return 0

    ctx.exit(lifetime.run(main()))


def _commands(simulator: McuSimulator) -> dict[str, tuple[str, str, Command]]:
    from gizserial.describe import value_text
    from sim.words import assignments, hex_bytes

    role, driver = simulator.role, simulator.driver

    def set_values(words: list[str]) -> None:
        given = assignments(words)
        if not given:
            raise ValueError("name what to set")
        simulator.set_values(given)

    def values(_words: list[str]) -> str:
        names = [point.name for point in simulator.product.points]
        return "\n".join(f"  {name}={value_text(role.value(name))}" for name in names)

    def provision(words: list[str]) -> None:
        modes = {"softap": 1, "airlink": 2}
        if len(words) != 1 or words[0] not in modes:
            raise ValueError("the mode is softap or airlink")
        role.provision(modes[words[0]], now=driver.now())
        driver.wake()

    def raw(words: list[str]) -> None:
        role.send_raw(hex_bytes(words), now=driver.now())
        driver.wake()

    def upload(words: list[str]) -> None:
        from gizserial.image import Image, ImageError

        if len(words) != 1:
            raise ValueError("name one file")
        try:
            with Path(words[0]).open("rb") as file:
                image = Image(file.read(_UPLOAD_MOST + 1))
        except OSError as error:
            raise ImageError(f"{words[0]}: {error.strerror or error}") from error
        if image.size > _UPLOAD_MOST:
            raise ImageError(f"{words[0]}: it has more than {_UPLOAD_MOST} bytes")
        role.send_file(image, now=driver.now())
        driver.wake()

    def asking(ask: Callable[..., None]) -> Command:
        def command(_words: list[str]) -> None:
            ask(now=driver.now())
            driver.wake()

        return command

    return {
        "set": ("set NAME=VALUE ...", "change values as the product would", set_values),
        "values": ("values", "show all values", values),
        "provision": ("provision softap|airlink", "have the module wait for router data", provision),
        "reset": ("reset", "have the module forget router and bindings", asking(role.reset_module)),
        "bind": ("bind", "open the bind window", asking(role.open_bind_window)),
        "test": ("test", "start the production test", asking(role.start_test)),
        "time": ("time", "ask for the network time", asking(role.ask_time)),
        "info": ("info", "ask the module who it is", asking(role.ask_module_info)),
        "restart": ("restart", "restart the module", asking(role.restart_module)),
        "raw": ("raw HEX", "send raw data to the apps", raw),
        "upload": ("upload FILE", "send a file to the module, for the cloud", upload),
        "stop": ("stop", "stop the file that is under way", asking(role.stop_file)),
    }
