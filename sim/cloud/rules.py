"""Keeps linkage rules, and carries them out when their event comes (open-api.md §15)."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sim.cloud.commands import send_command
from sim.cloud.database import Database
from sim.cloud.events import DataReported, Event, Offline, Online
from sim.cloud.linkage import Delay, Rule, Step, holds, starts
from sim.cloud.values import http_values

if TYPE_CHECKING:
    from sim.cloud.app_side import AppSide

MAX_RUNNING: Final = 1000
"""Outputs that run at once: rules can start each other."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS rule (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid TEXT NOT NULL, appid TEXT NOT NULL,
    did TEXT NOT NULL,
    content TEXT NOT NULL,              -- JSON
    created REAL NOT NULL, updated REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS rule_of ON rule (did);
"""
_COLUMNS: Final = "id, uid, appid, content, created, updated"


@dataclasses.dataclass(frozen=True, slots=True)
class KeptRule:
    """A rule and whose it is. Times are Unix seconds."""

    id: int
    uid: str
    appid: str
    rule: Rule
    created: float
    updated: float


class Rules:
    """Every rule.

    :param now: Unix seconds.
    """

    def __init__(self, database: Database, *, now: Callable[[], float]) -> None:
        database.create(_TABLES)
        self._database, self._now = database, now

    def of_user(self, uid: str) -> list[KeptRule]:
        """A user's rules, the oldest first."""
        return self._all("uid = ?", uid)

    def of_device(self, did: str) -> list[KeptRule]:
        """The rules that events of this device may start."""
        return self._all("did = ?", did)

    def get(self, uid: str, number: int) -> KeptRule | None:
        """A rule of this user."""
        found = self._all("id = ? AND uid = ?", number, uid)
        return found[0] if found else None

    def put(self, uid: str, appid: str, rule: Rule, number: int | None = None) -> int:
        """Keep a rule, a new one or in place of another; gives its id."""
        content, now = json.dumps(rule.model_dump(mode="json")), self._now()
        with self._database.transaction() as db:
            if number is None:
                cursor = db.execute(
                    "INSERT INTO rule (uid, appid, did, content, created, updated) VALUES (?, ?, ?, ?, ?, ?)",
                    (uid, appid, rule.did, content, now, now),
                )
                return int(cursor.lastrowid or 0)
            db.execute(
                "UPDATE rule SET did = ?, content = ?, updated = ? WHERE id = ?",
                (rule.did, content, now, number),
            )
        return number

    def remove(self, number: int) -> None:
        """Forget a rule."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM rule WHERE id = ?", (number,))

    def drop_user(self, uid: str) -> None:
        """Forget every rule of a user."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM rule WHERE uid = ?", (uid,))

    def _all(self, where: str, *values: Any) -> list[KeptRule]:
        rows = self._database.all(f"SELECT {_COLUMNS} FROM rule WHERE {where} ORDER BY id", values)  # noqa: S608
        return [
            KeptRule(number, uid, appid, Rule.model_validate_json(content), created, updated)
            for number, uid, appid, content, created, updated in rows
        ]


class RuleEngine:
    """An observer of the hub that carries rules out.

    :param sleep: Waits so many seconds, for delays in outputs.
    """

    def __init__(self, side: AppSide, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._side, self._sleep = side, sleep
        self._ran: dict[int, float] = {}
        """When a rule ran last."""
        self._running: set[asyncio.Task[None]] = set()
        self._forget = side.hub.subscribe(self._watch)

    async def close(self) -> None:
        """Stop every output that is under way."""
        self._forget()
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _watch(self, event: Event) -> None:
        if isinstance(event, Online | Offline | DataReported):
            self._side.hub.keep(lambda: self._start(event))

    def _start(self, event: Online | Offline | DataReported) -> None:
        for kept in self._side.rules.of_device(event.did):
            if self._is_meant(kept, event) and self._is_rested(kept) and holds(kept.rule, self._values(kept)):
                self._ran[kept.id] = self._side.now()
                for steps in kept.rule.output:
                    self._play(kept, steps)

    def _is_meant(self, kept: KeptRule, event: Online | Offline | DataReported) -> bool:
        """It is the event of the rule, and the user still has the device."""
        if self._side.bindings.get(kept.uid, event.did) is None:
            return False
        if isinstance(event, Online):
            return kept.rule.event == "online" and not event.again
        if isinstance(event, Offline):
            return kept.rule.event == "offline"
        if kept.rule.event in {"online", "offline"}:
            return False
        device = self._side.store.device(event.did)
        product = self._side.product(device.product_key) if device is not None else None
        return product is not None and starts(
            kept.rule, product, http_values(product, event.before), http_values(product, event.raw)
        )

    def _is_rested(self, kept: KeptRule) -> bool:
        return self._side.now() - self._ran.get(kept.id, float("-inf")) >= kept.rule.interval

    def _values(self, kept: KeptRule) -> dict[str, Mapping[str, Any]]:
        """What the condition may name: devices that the user has."""
        values: dict[str, Mapping[str, Any]] = {}
        for named in kept.rule.input:
            device = self._side.store.device(named.did)
            product = self._side.product(device.product_key) if device is not None else None
            bound = self._side.bindings.get(kept.uid, named.did) is not None
            if device is not None and product is not None and bound:
                values[named.prefix] = http_values(product, device.state)
        return values

    def _play(self, kept: KeptRule, steps: Sequence[Step]) -> None:
        if steps and len(self._running) < MAX_RUNNING:
            task = asyncio.get_running_loop().create_task(self._steps(kept, steps))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _steps(self, kept: KeptRule, steps: Sequence[Step]) -> None:
        """In order, until one fails."""
        for step in steps:
            if isinstance(step, Delay):
                await self._sleep(step.delay)
            elif not send_command(
                self._side, kept.uid, kept.appid, step.did, {"attrs": step.attrs, "raw": step.raw}
            ):
                return
