"""What the commands of ``gizserial lan`` do in a session, and how they show it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from gizserial.cli.group import FINDING, FINE
from gizserial.describe import json_line, json_value, masked, value_text
from gizserial.errors import BodyError, EncodeError, TransportError
from gizserial.io.lan import Found, LanSession
from gizserial.lan import messages
from gizserial.lan.client import (
    Answered,
    ClientEffect,
    ClientState,
    FrameArrived,
    LanClient,
    LoggedIn,
    P0Arrived,
    PasscodeLearned,
    Refused,
    SessionLost,
    Unanswered,
)
from gizserial.lan.commands import command_name
from gizserial.m2m.frames import VERSION
from gizserial.p0 import P0Codec

if TYPE_CHECKING:
    from gizserial.product import Product

_REFUSALS: Final = {
    "passcode": "the module does not give its passcode now: open its bind window (usually a press of its "
    "button) or give --passcode",
    "login": "the module refuses the passcode",
}


def device_line(found: Found, *, as_json: bool) -> str:
    """One module, for people or scripts."""
    who = found.announcement
    members = {
        "address": found.address,
        "how": found.how,
        "did": who.did,
        "mac": who.mac,
        "firmware": who.firmware,
        "product_key": who.product_key,
        "attributes": who.attributes.hex(),
        "server": who.server,
        "protocol": who.protocol,
        "mcu_version": who.mcu_version,
    }
    if as_json:
        return json_line({name: value for name, value in members.items() if value is not None})
    return (
        f"{found.address}  did {who.did or '(none)'}  mac {who.mac}  firmware {who.firmware or '(none)'}  "
        f"product {who.product_key or '(none)'}  server {who.server or '(not told)'}"
    )


def control_p0(product: Product, words: Sequence[str]) -> bytes:
    """A control from ``NAME=VALUE`` words (:raises EncodeError: a word that is none, or a wrong value)."""
    values: dict[str, int | bytes] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not name or not equals:
            raise EncodeError(f"{word[:80]!r} is not NAME=VALUE")
        values[name] = product.point(name).raw(text)
    return P0Codec(product).control(values)


class Task:
    """What a command does; ``done`` is set to the exit status at its end."""

    persistent = False
    """Goes on when a session is lost."""

    def __init__(self, *, as_json: bool, show_passcode: bool) -> None:
        self.as_json, self._show_passcode = as_json, show_passcode
        self.session: LanSession | None = None
        self.done: asyncio.Future[int] | None = None

    @property
    def lan(self) -> LanSession:
        """The session that it works in."""
        if self.session is None:
            raise RuntimeError("the task was not started")
        return self.session

    def end(self, status: int) -> None:
        """Leave with this exit status."""
        if self.done is not None and not self.done.done():
            self.done.set_result(status)

    def fail(self, error: Exception) -> None:
        """Leave with an error."""
        if self.done is not None and not self.done.done():
            self.done.set_exception(error)

    def say(self, text: str, **members: Any) -> None:
        """Print one line."""
        click.echo(json_line(members) if self.as_json else text)

    def happened(self, effect: ClientEffect) -> None:
        """Something happened in the session."""
        if self.done is None or self.done.done():
            return
        try:
            self._happened(effect)
        except Exception as error:  # noqa: BLE001 - a closed pipe, say: it belongs to the command
            self.fail(error)

    def _happened(self, effect: ClientEffect) -> None:
        if isinstance(effect, Refused):
            click.echo(f"{_REFUSALS[effect.what]}", err=True)
            self.end(FINDING)
        elif isinstance(effect, PasscodeLearned):
            shown = effect.passcode if self._show_passcode else masked(effect.passcode)
            click.echo(f"the module gave its passcode: {shown}", err=True)
        elif isinstance(effect, SessionLost):
            if self.persistent:
                click.echo(f"{effect.reason}; next attempt in {effect.retry_in:g} s", err=True)
            else:
                self.fail(TransportError(f"no session with the module: {effect.reason}"))
        elif isinstance(effect, LoggedIn):
            self.logged_in()
        elif isinstance(effect, Answered):
            self.answered(effect)
        elif isinstance(effect, Unanswered):
            if self.lan.client.state is ClientState.READY:  # else the session ended, which is told next
                self.unanswered(effect)
        elif isinstance(effect, P0Arrived):
            self.p0(effect.p0)
        elif isinstance(effect, FrameArrived):
            self.frame(effect)

    def logged_in(self) -> None:
        """The session is up."""

    def answered(self, effect: Answered) -> None:
        """A request was answered."""

    def unanswered(self, effect: Unanswered) -> None:
        """A request was not answered."""

    def p0(self, p0: bytes) -> None:
        """The device says something."""

    def frame(self, effect: FrameArrived) -> None:
        """A frame came."""


class Watch(Task):
    """Read, then print what the device reports."""

    persistent = True

    def __init__(
        self, product: Product | None, *, count: int | None, as_json: bool, show_passcode: bool
    ) -> None:
        super().__init__(as_json=as_json, show_passcode=show_passcode)
        self._product, self._left = product, count
        self._codec = P0Codec(product)

    def logged_in(self) -> None:
        """Ask for everything."""
        from gizserial.product import Layout

        click.echo("logged in", err=True)
        ids = None
        if self._product is not None and self._product.layout is Layout.VARIABLE:
            ids = [point.id for point in self._product.points]
        # 0090, which even the oldest firmware answers.
        self.lan.client.send_p0(messages.read_all(ids), self.lan.now(), acked=False)

    def unanswered(self, effect: Unanswered) -> None:
        """The device may report all the same."""
        click.echo(f"the read was not answered: {effect.reason}", err=True)

    def p0(self, p0: bytes) -> None:
        """Print it."""
        members: dict[str, Any] = {"kind": "p0", "t": round(self.lan.now(), 3), "p0": p0.hex()}
        text = p0.hex()
        try:
            parsed = self._codec.parse(p0)
        except BodyError as error:
            members["warnings"] = [str(error)]
            text += f"  [{error}]"
        else:
            if parsed.meaning is not None:
                members["kind"] = parsed.meaning.value.replace(" ", "_").replace("-", "_")
            if parsed.raw is not None and self._product is not None:
                attrs = {name: self._product.point(name).value(raw) for name, raw in parsed.raw.items()}
                members |= {"attrs": json_value(attrs), "raw": json_value(parsed.raw)}
                text = " ".join(f"{name}={value_text(value)}" for name, value in attrs.items())
            if parsed.warnings:
                members["warnings"] = parsed.warnings
                text += f"  [{'; '.join(parsed.warnings)}]"
        self.say(f"{self.lan.now():10.3f}  {members['kind']}  {text}", **members)
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self.end(FINE)


class Control(Task):
    """Send a control with 0093, and with 0090 to a module that does not answer that."""

    def __init__(self, p0: bytes, *, as_json: bool, show_passcode: bool) -> None:
        super().__init__(as_json=as_json, show_passcode=show_passcode)
        self._p0 = p0
        self._plain = False

    def logged_in(self) -> None:
        """Send it."""
        self.lan.client.send_p0(self._p0, self.lan.now(), acked=not self._plain)

    def answered(self, effect: Answered) -> None:
        """Acknowledged."""
        with_ = f"{effect.frame.command:04x}"
        self.say(
            f"done: acknowledged with {with_}",
            kind="control",
            acknowledged=True,
            command=with_,
            p0=self._p0.hex(),
        )
        self.end(FINE)

    def unanswered(self, effect: Unanswered) -> None:
        """Try the older form, once."""
        if not self._plain:
            self._plain = True
            click.echo(f"0093: {effect.reason}; trying 0090", err=True)
            self.logged_in()
            return
        self.say(
            f"the device does not acknowledge: {effect.reason}",
            kind="control",
            acknowledged=False,
            p0=self._p0.hex(),
        )
        self.end(FINDING)


class Raw(Task):
    """Send bytes, print frames."""

    def __init__(self, data: bytes, *, wait: float, as_json: bool, show_passcode: bool) -> None:
        super().__init__(as_json=as_json, show_passcode=show_passcode)
        self._data, self._wait = data, wait
        self._seen = 0

    def logged_in(self) -> None:
        """Send them."""
        if self._data.startswith(VERSION):
            self.lan.client.send_raw(self._data)
            asyncio.get_running_loop().call_later(self._wait, self._over)
        else:
            self.lan.client.send_p0(self._data, self.lan.now())

    def _over(self) -> None:
        self.end(FINE if self._seen else FINDING)

    def answered(self, effect: Answered) -> None:  # noqa: ARG002 - its frame is printed already
        """The P0 was acknowledged."""
        self.end(FINE)

    def unanswered(self, effect: Unanswered) -> None:
        """Nothing came for it."""
        click.echo(f"the device does not acknowledge: {effect.reason}", err=True)
        self.end(FINDING)

    def frame(self, effect: FrameArrived) -> None:
        """Print it."""
        frame = effect.frame
        self._seen += 1
        members: dict[str, Any] = {
            "kind": "frame",
            "command": frame.command,
            "name": command_name(frame.command),
        }
        if frame.sn is not None:
            members["sn"] = frame.sn
        members["payload"] = frame.payload.hex()
        number = "" if frame.sn is None else f"  sn {frame.sn}"
        self.say(f"{frame.command:04x} {members['name']}{number}  {frame.payload.hex()}", **members)


def run(task: Task, host: str, port: int, passcode: str | None) -> int:
    """Do a task in a session with one module; gives the exit status.

    :raises TransportError: the module cannot be reached, for a task that does not wait for it.
    :raises KeyboardInterrupt: after Ctrl-C.
    """
    if passcode is not None and not (passcode.isascii() and 1 <= len(passcode) <= 64):
        raise click.UsageError("a passcode is ASCII, usually 10 characters")

    async def main() -> int:
        task.session = LanSession(LanClient(passcode), host, port, on_effect=task.happened)
        task.done = asyncio.get_running_loop().create_future()
        working = asyncio.ensure_future(task.session.run())
        try:
            ends: list[asyncio.Future[Any]] = [working, task.done]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
            return await task.done
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            if not task.done.done():
                task.done.cancel()

    return asyncio.run(main())
