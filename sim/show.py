"""Shows what crosses a line, live: one line per frame for people, one JSON object for scripts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any, Final

from gizserial.cli.output import echo
from gizserial.codec import Codec
from gizserial.commands import Role
from gizserial.describe import Described, describe, headline, json_line, to_json
from gizserial.events import BadFrameReceived, Event, FrameReceived, FrameSent, NoiseReceived
from gizserial.framing import Item
from gizserial.product import Product

_ARROWS: Final = {"module>mcu": "module → mcu", "mcu>module": "mcu → module"}


class Show:
    """Prints to stdout; a prompt may take the lines instead.

    :param role: Whose line it is; decides the direction of what is sent.
    :param as_json: One JSON object per line and nothing else.
    :param quiet: Nothing but :meth:`ready`.
    """

    def __init__(
        self,
        role: Role,
        product: Product | None = None,
        *,
        as_json: bool = False,
        quiet: bool = False,
        write: Callable[[str], None] = echo,
    ) -> None:
        self._role = role
        self._codec = Codec(product)
        self._as_json, self._quiet = as_json, quiet
        self.write = write
        self._sent = 0
        self.now: Callable[[], float] = lambda: 0.0
        """The time on the line, for what happens elsewhere; set by whoever has the clock."""
        self._early: list[str] | None = []
        """What happened before everything was open: the ready line comes first."""

    def ready(self, **addresses: str) -> None:
        """Everything is open: the one line that scripts wait for."""
        text = json.dumps(addresses, ensure_ascii=False)
        self.write(json_line({"kind": "ready", **addresses}) if self._as_json else f"ready {text}")
        early, self._early = self._early or [], None
        for line in early:
            self.write(line)

    def said(self, now: float, text: str, **facts: Any) -> None:
        """Something happened that is no frame."""
        if self._quiet:
            return
        members = {"kind": "event", "t": round(now, 6), "text": text, **facts}
        self._put(json_line(members) if self._as_json else f"{now:10.3f}  {text}")

    def answer(self, text: str) -> None:
        """What a typed command has to say: an object for scripts, beside the only line of ``--quiet``."""
        if self._quiet:
            echo(text, err=True)
        elif self._as_json:
            self.write(json_line({"kind": "answer", "t": round(self.now(), 6), "text": text}))
        else:
            self.write(text)

    def cloud(self, text: str) -> None:
        """Something happened in the cloud."""
        if text:
            self.said(self.now(), f"cloud  {text}")

    def line_event(self, event: Event, now: float) -> bool:
        """Show what an event says of the line; whether it said anything."""
        if isinstance(event, FrameReceived):
            self._item(event.frame, self._role.peer, now)
        elif isinstance(event, FrameSent):
            wire = event.frame.encode()
            again = f" (transmission {event.attempt})" if event.attempt > 1 else ""
            frame = dataclasses.replace(event.frame, wire=wire, offset=self._sent)
            self._sent += len(wire)
            self._item(frame, self._role, now, again)
        elif isinstance(event, BadFrameReceived):
            self._item(event.bad, self._role.peer, now)
        elif isinstance(event, NoiseReceived):
            self._item(event.noise, self._role.peer, now)
        else:
            return False
        return True

    def _item(self, item: Item, sender: Role, now: float, suffix: str = "") -> None:
        if self._quiet:
            return
        described = describe(item, self._codec, t=round(now, 6), direction=sender.direction)
        if self._as_json:
            self._put(json_line(to_json(described)))
        else:
            self._put(f"{now:10.3f}  {_ARROWS[sender.direction]}  {self._text(described)}{suffix}")

    def _text(self, described: Described) -> str:
        message = described.message
        notes = f"  [{'; '.join(message.warnings)}]" if message and message.warnings else ""
        return headline(described) + notes

    def _put(self, line: str) -> None:
        if self._early is None:
            self.write(line)
        else:
            self._early.append(line)
