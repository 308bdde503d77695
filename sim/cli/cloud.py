"""``gizsim cloud``: the embedded cloud alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

from gizserial.cli.output import echo
from sim.cli.options import live_options

if TYPE_CHECKING:
    from gizserial.product import Product
    from sim.cloud.app import EmbeddedCloud


DEFAULTS: Final = {
    "http": "127.0.0.1:8080",
    "https": "127.0.0.1:8443",
    "ws": "127.0.0.1:8081",
    "wss": "127.0.0.1:8880",
    "mqtt": "127.0.0.1:1883",
    "mqtts": "127.0.0.1:8883",
    "snoti": "127.0.0.1:2017",
}
"""Where the services listen unless they are told otherwise."""
MOVABLE: Final = frozenset({"https", "ws", "wss", "mqtts", "snoti"})
"""Services whose default address may be given up for any free port, and which may be switched off."""
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _address_options(command: _Command) -> _Command:
    """One option for each service."""
    for name, text in reversed(
        {
            "http": "Open API, device registration, documents (/docs).",
            "https": "The same with TLS.",
            "ws": "WebSocket API.",
            "wss": "WebSocket API with TLS.",
            "mqtt": "MQTT for devices and apps; may be given several times.",
            "mqtts": "MQTT with TLS.",
            "snoti": "SNoti, the push service for servers (TLS).",
        }.items()
    ):
        several = name == "mqtt"
        command = click.option(
            f"--{name}",
            multiple=several,
            default=(DEFAULTS[name],) if several else DEFAULTS[name],
            show_default=True,
            metavar="HOST:PORT|off" if name in MOVABLE else "HOST:PORT",
            help=text,
        )(command)
    return command


def _print_example(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from sim.cloud.config_file import example_config

        click.echo(example_config().read_text("utf-8"), nl=False)
        ctx.exit()


@click.command(
    epilog="\b\nExamples:\n"
    "  gizsim cloud --example-config > cloud.yaml\n"
    "  gizsim cloud --config cloud.yaml --data ./cloud\n"
    "  gizsim cloud --http 0.0.0.0:80 --mqtt 0.0.0.0:1883 --data ./cloud"
)
@_address_options
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep everything here; without it in memory.",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Products, apps, users and settings as YAML.",
)
@click.option(
    "--example-config",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_example,
    help="Print a commented example for --config.",
)
@click.option(
    "--ca",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the certificate of the CA there, for clients to trust.",
)
@click.option("--trust", is_flag=True, help="Print how browsers, Python, Node, Java … are told to trust it.")
@click.option(
    "--cert",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Your own certificate (PEM, with its chain) instead of one that is made.",
)
@click.option(
    "--key", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The key of --cert (PEM)."
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="HOST",
    help="Further host name or address for the certificate; may be given several times.",
)
@click.option(
    "--advertise",
    metavar="HOST[:PORT]",
    help="Host (and MQTT port) that devices and apps are told; without it the one under which they came.",
)
@click.option("--strict", is_flag=True, help="Only products of --config may register.")
@click.option("--no-admin", is_flag=True, help="Do not serve the admin API (/admin).")
@click.option("--adopt", is_flag=True, help="Take over devices that log in with an unknown did.")
@live_options
@click.pass_context
def cloud(
    ctx: click.Context,
    /,
    *,
    mqtt: tuple[str, ...],
    data: Path | None,
    config_file: Path | None,
    ca: Path | None,
    trust: bool,
    cert: Path | None,
    key: Path | None,
    names: tuple[str, ...],
    advertise: str | None,
    strict: bool,
    no_admin: bool,
    adopt: bool,
    as_json: bool,
    quiet: bool,
    **addresses: str,
) -> None:
    """Run the cloud: devices register and talk MQTT, apps use the Open API and WebSocket, servers SNoti.

    When everything listens it prints one line that begins with "ready" and has the real addresses. A default
    address of a service that may be off gives way to any free port when it is in use.
    """
    from sim import lifetime
    from sim.cloud.app import EmbeddedCloud
    from sim.cloud.config import AppConfig, CloudConfig
    from sim.cloud.config_file import Settings, load_config
    from sim.cloud.show import CloudShow

    settings = load_config(config_file) if config_file is not None else Settings()
    options: dict[str, Any] = {
        name: None if name in MOVABLE and text.lower() == "off" else text for name, text in addresses.items()
    }
    if (ca is not None or trust) and not any(options[name] for name in ("https", "wss", "mqtts", "snoti")):
        raise click.UsageError("there is no CA: every TLS service is off")
    options |= settings.options
    options["strict_products"] = strict or options.get("strict_products", False)
    options["names"] = (*options.get("names", ()), *names)
    config = CloudConfig(
        mqtt=mqtt,
        data=data,
        products=settings.products,
        apps=settings.apps or (AppConfig(),),
        users=settings.users,
        firmware=settings.firmware,
        advertise=advertise,
        admin=not no_admin,
        adopt=adopt,
        cert=cert,
        key=key,
        optional=frozenset(
            name for name in MOVABLE if ctx.get_parameter_source(name) is ParameterSource.DEFAULT
        ),
        **options,
    )

    async def main() -> int:
        async with EmbeddedCloud(config) as running:
            if ca is not None and running.tls is not None:
                running.tls.write_ca(ca)
            if as_json:
                echo(json.dumps({"kind": "ready", **running.addresses}))
            else:
                echo(f"ready {json.dumps(running.addresses)}")
            _tell_owner(running, as_json=as_json, quiet=quiet, asked=bool(settings.apps or settings.users))
            for text in (*running.notices, *(() if quiet else _about_port_80(running))):
                echo(f"gizsim cloud: {text}", err=True)
            if trust or not (quiet or as_json):
                for text in _trust(running, ca, whole=trust):
                    echo(text, err=True)
            if not quiet:
                running.subscribe(
                    CloudShow(echo, as_json=as_json, product_of=lambda did: _product(running, did))
                )
            await asyncio.Event().wait()
        return 0

    ctx.exit(lifetime.run(main()))


def _tell_owner(running: EmbeddedCloud, *, as_json: bool, quiet: bool, asked: bool) -> None:
    """Print what was made up at this start; it is printed once."""
    if quiet and not asked:
        return
    for made in running.generated:
        if as_json:
            echo(json.dumps({"kind": "generated", "what": made.what, **made.members}), err=quiet)
        else:
            echo(f"generated {made}", err=quiet)


def _about_port_80(running: EmbeddedCloud) -> list[str]:
    """What who has firmware for field modules must know."""
    if not running.side.firmwares.images() or running.addresses["http"].endswith(":80"):
        return []
    text = (
        "field modules fetch firmware from port 80 only: listen there (--http 0.0.0.0:80), or have port 80"
        " led on to here; gizsim module fetches it from any port"
    )
    return [text]


def _trust(running: EmbeddedCloud, ca: Path | None, *, whole: bool) -> list[str]:
    """How clients are told to trust the CA: in short, or every way."""
    from sim.cloud.trust import trust_text

    file = ca or (running.tls.ca_file if running.tls is not None else None)
    if file is None:
        return []
    if whole:
        https = running.addresses.get("https")
        return trust_text(file, https or next(iter(running.addresses.values())))
    return [f"gizsim cloud: TLS clients must trust {file}; --trust prints how"]


def _product(running: EmbeddedCloud, did: str) -> Product | None:
    device = running.store.device(did)
    known = running.products.get(device.product_key) if device is not None else None
    return known.product if known is not None else None
