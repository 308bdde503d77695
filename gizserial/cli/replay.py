"""``gizserial replay``: play one side of a capture to a live peer."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

from gizserial.cli.durations import DURATION
from gizserial.cli.group import FINDING, FINE
from gizserial.cli.output import echo
from gizserial.cli.params import json_option, product_option
from gizserial.cli.port_options import baud_option
from gizserial.cli.termination import or_terminated

if TYPE_CHECKING:
    from gizserial.capture.record import Record
    from gizserial.capture.replay import Divergence, Replay, ReplayEvent
    from gizserial.capture.script import Step
    from gizserial.codec import Codec
    from gizserial.commands import Role
    from gizserial.describe import Described
    from gizserial.framing import Frame
    from gizserial.io.base import LineEvent, Transport
    from gizserial.product import Product

    _SpeedParam = click.ParamType[float | None]
else:
    _SpeedParam = click.ParamType

SETTLE = 0.3
"""After the last step the peer is listened to for so long: what comes then is unexpected."""


class SpeedType(_SpeedParam):
    """A factor, or ``max`` for no pauses."""

    name = "speed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """The factor; 0 stands for ``max``."""
        if isinstance(value, float):
            return value
        if str(value).lower() == "max":
            return 0.0
        try:
            speed = float(str(value).lower().removesuffix("x"))
        except ValueError:
            speed = -1.0
        if not 0.001 <= speed <= 1_000_000:
            self.fail(f"{str(value)[:40]!r} is no speed; give a factor such as 10 or 0.5, or max", param, ctx)
        return speed


@click.command(
    epilog="\b\nExamples:\n"
    "  gizserial replay run.jsonl /dev/ttyUSB0 -p pet-house.json\n"
    "  gizserial replay run.jsonl pty: --as mcu --speed max"
)
@click.argument("file", metavar="FILE", type=click.Path(allow_dash=True))
@click.argument("port", metavar="PORT")
@click.option("--as", "role_name", type=click.Choice(["module", "mcu"]), help="The side to play.")
@click.option(
    "--speed", type=SpeedType(), default="1", show_default=True, metavar="N|max", help="Shorten the pauses."
)
@click.option(
    "--patience",
    type=DURATION,
    default="2s",
    show_default=True,
    metavar="TIME",
    help="How much later than recorded the peer may be.",
)
@baud_option
@product_option()
@click.option("-v", "--verbose", is_flag=True, help="Show every frame, not only what differs.")
@json_option
@click.pass_context
def replay(
    ctx: click.Context,
    file: str,
    port: str,
    *,
    role_name: str | None,
    speed: float,
    patience: float,
    baud: int,
    product: Product | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Play one side of the capture FILE to the live peer at PORT, and tell where the peer acts differently.

    Our frames are sent byte for byte with the recorded pauses, and repeated when no ack comes. The peer's
    acks are waited for and compared; its commands are answered as the capture shows. Heartbeats may come at
    any time, network time is not compared.

    Without --as: the side that speaks in FILE; where both do, the module, because the peer on a bench is
    usually the board with the MCU. The exit status is 1 if the peer did something else.
    """
    from gizserial.capture.replay import Replay
    from gizserial.codec import Codec
    from gizserial.io.ports import open_port

    transport = open_port(port, baud=baud)
    codec = Codec(product)
    role, steps = _script(role_name, file, codec)
    machine = Replay(steps, role, codec, speed=speed or None, patience=patience)
    output = Output(machine, verbose=verbose, as_json=as_json)
    try:
        status = asyncio.run(or_terminated(_run(machine, transport, output)))
    finally:
        output.summary(role)
    ctx.exit(status)


def _script(role_name: str | None, file: str, codec: Codec) -> tuple[Role, list[Step]]:
    """The side to play, and what both sides do."""
    from gizserial.capture.script import script
    from gizserial.io.files import open_capture

    with open_capture(file) as capture:
        records = list(capture.records())
    role = _role(role_name, records, file)
    return role, script(records, role, codec)


def _role(name: str | None, records: list[Record], file: str) -> Role:
    from gizserial.capture.script import speakers
    from gizserial.commands import Role
    from gizserial.errors import CaptureError

    speaking = speakers(records)
    if not speaking:
        raise CaptureError(file, "there is nothing in it that could be played")
    if name is None:
        return Role.MODULE if Role.MODULE in speaking else Role.MCU
    role = Role(name)
    if role not in speaking:
        raise CaptureError(file, f"the {name} says nothing in it; play the other side, without --as")
    return role


async def _run(machine: Replay, transport: Transport, output: Output) -> int:
    from gizserial.io.driver import Driver

    def look() -> None:
        if machine.done:
            driver.stop()

    def told(event: ReplayEvent) -> None:
        output.event(event)
        asyncio.get_running_loop().call_later(SETTLE, look)

    def happened(event: LineEvent) -> None:
        output.line(event)
        asyncio.get_running_loop().call_later(SETTLE, look)

    driver: Driver[ReplayEvent] = Driver(machine, transport, on_event=told, on_line=happened)
    async with driver:
        output.ready(transport)
        await driver.wait()
    return FINDING if machine.divergences else FINE


class Output:
    """What the terminal or a script gets."""

    def __init__(self, machine: Replay, *, verbose: bool, as_json: bool) -> None:
        self._machine, self._verbose, self._as_json = machine, verbose, as_json
        self._live = sys.stderr.isatty() and not verbose

    def ready(self, transport: Transport) -> None:
        """The port is open."""
        from gizserial.describe import json_line

        end = transport.other_end or transport.name
        if self._as_json:
            echo(json_line({"kind": "ready", "port": end}))
        else:
            echo(f"playing at {end}; Ctrl-C stops", err=True)

    def line(self, event: LineEvent) -> None:
        """Something happened to the line."""
        from gizserial.io.base import Back, Lost

        if isinstance(event, Lost):
            echo(f"the line is down: {event.reason}", err=True)
        elif isinstance(event, Back) and self._verbose:
            echo("the line is up", err=True)

    def event(self, event: ReplayEvent) -> None:
        """A step was made."""
        from gizserial.capture.replay import Divergence, Sent
        from gizserial.describe import headline, json_line, to_json

        if isinstance(event, Divergence):
            if self._as_json:
                echo(json_line(_members(event)))
            else:
                echo("\n".join(_sentences(event)))
        elif self._as_json:
            kind, described = (
                ("sent", event.described) if isinstance(event, Sent) else ("matched", event.came)
            )
            echo(json_line({"kind": kind, "t": round(event.t, 6), "frame": to_json(described)}))
        elif self._verbose:
            sent = isinstance(event, Sent)
            described = event.described if isinstance(event, Sent) else event.came
            echo(f"{event.t:9.3f} s  {'sent' if sent else 'came'}  {headline(described)}")
        if self._live:
            done, of = self._machine.progress
            echo(f"\r\x1b[2K{done}/{of} ", nl=False, err=True)

    def summary(self, role: Role) -> None:
        """The end."""
        from gizserial.describe import json_line

        machine = self._machine
        if self._live:
            echo("\r\x1b[2K", nl=False, err=True)
        bad = len(machine.divergences)
        if self._as_json:
            members = {"kind": "summary", "as": role.value, "sent": machine.sent}
            ends = {"matched": machine.matched, "diverged": bad, "complete": machine.done}
            echo(json_line({**members, **ends}))
            return
        times = "once" if bad == 1 else f"{bad} times"
        verdict = f"the peer did something else {times}" if bad else "the peer did what the capture shows"
        if not machine.done:
            done, of = machine.progress
            verdict = f"stopped after {done} of {of} steps" + (f"; {verdict}" if bad else "")
        echo(f"played the {role.value}: {machine.sent} frames sent, {machine.matched} as recorded; {verdict}")


def _members(event: Divergence) -> dict[str, Any]:
    from gizserial.describe import to_json

    members: dict[str, Any] = {"kind": "diverged", "t": round(event.t, 6), "what": event.kind}
    if event.expected is not None:
        members["expected"] = to_json(event.expected)
    if event.came is not None:
        members["came"] = to_json(event.came)
    return members


def _sentences(event: Divergence) -> list[str]:
    """Expected and came, below each other."""
    from gizserial.describe import headline

    lines = [f"{event.t:.3f} s: {event.kind}"]
    if event.expected is not None:
        when = "" if event.expected.t is None else f" (at {event.expected.t:.3f} s of the capture)"
        lines.append(f"    expected  {headline(event.expected)}{when}")
    if event.came is not None or event.kind == "missing":
        lines.append(f"    came      {headline(event.came) if event.came is not None else 'nothing'}")
    if event.expected is not None and event.came is not None:
        lines += [f"    {line}" for line in _changes(event.expected, event.came)]
    return lines


def _changes(expected: Described, came: Described) -> list[str]:
    from gizserial.describe import SECRET_FIELDS, value_text

    if expected.message is None or came.message is None:
        return []
    sides = [{**(side.fields or {}), **(side.attrs or {})} for side in (expected.message, came.message)]
    names = [
        name
        for name in dict.fromkeys([*sides[0], *sides[1]])
        if name not in SECRET_FIELDS and sides[0].get(name) != sides[1].get(name)
    ]
    shown = [
        (name, *(value_text(side[name]) if name in side else "nothing" for side in sides)) for name in names
    ]
    shown += _bytes_changed(expected.message.frame, came.message.frame, values=bool(names))
    return [f"          {name}: expected {was}, came {now}" for name, was, now in shown]


def _bytes_changed(was: Frame, now: Frame, *, values: bool) -> list[tuple[str, str, str]]:
    """What the values do not show.

    :param values: They show some difference.
    """
    from gizserial.commands import FRAMES

    found: list[tuple[str, str, str]] = []
    spec = FRAMES.get(was.command)
    if spec is not None and spec.is_ack and was.sn != now.sn:
        found.append(("sn", str(was.sn), str(now.sn)))
    if was.flags != now.flags:
        found.append(("flags", f"{was.flags:04X}", f"{now.flags:04X}"))
    if was.unescaped != now.unescaped:
        words = {False: "FF escaped", True: "a bare FF"}
        found.append(("escape", words[was.unescaped], words[now.unescaped]))
    if not values and was.payload != now.payload:
        found.append(("payload", was.payload.hex() or "nothing", now.payload.hex() or "nothing"))
    return found
