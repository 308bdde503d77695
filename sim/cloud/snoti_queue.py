"""Queues of SNoti (snoti.md §5): what servers have still to hear, on the disk until they acknowledge it.

An event is stored when it happens and deleted when it is acknowledged, so a SIGKILL neither loses it nor
brings it back. Which connection has it in its hands is known in memory only: after a restart all of it waits
again, in the order in which it happened.
"""

from __future__ import annotations

import dataclasses
import heapq
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from sim.cloud.database import Database

MAX_EVENTS: Final = 10_000
"""Events that a queue keeps; the oldest go first."""
KEEP_TIME: Final = 7 * 86400.0
"""Seconds that an event is kept."""
MAX_SUBKEYS: Final = 5
"""Subkeys of a product (§3)."""
ENTERPRISE: Final = ""
"""Stands for a subkey in the queues of the legacy dialect, which has none (§8); it counts for nothing."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS snoti_queue (
    id INTEGER PRIMARY KEY,
    product_key TEXT NOT NULL, subkey TEXT NOT NULL,
    kinds TEXT NOT NULL,        -- JSON: event types that it collects
    UNIQUE (product_key, subkey)
);
CREATE TABLE IF NOT EXISTS snoti_event (
    number INTEGER PRIMARY KEY AUTOINCREMENT,   -- in order of occurrence, never used again
    queue INTEGER NOT NULL,
    kind TEXT NOT NULL, at REAL NOT NULL, msg_id TEXT NOT NULL,
    body TEXT NOT NULL          -- JSON: the push without cmd, msg_id and delivery_id
);
CREATE INDEX IF NOT EXISTS snoti_event_of ON snoti_event (queue);
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to a connection."""

    delivery_id: int
    msg_id: str
    """The same whenever the event is delivered, and in every queue."""
    body: str
    """JSON object: the members of the push from ``event_type`` on."""


class Consumer:
    """One connection as the queues see it.

    :param prefetch: How many events it may hold without having acknowledged them (§5.4).
    :param deliver: Takes an event. It must not call the queues.
    :param has_room: Whether the connection itself can take more just now.
    """

    def __init__(
        self,
        prefetch: int,
        deliver: Callable[[Delivery], None],
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self.prefetch, self.deliver, self._has_room = prefetch, deliver, has_room
        self.wanted: dict[_Queue, frozenset[str]] = {}
        self.in_flight: dict[int, tuple[_Queue, int]] = {}
        """delivery_id → queue and number of what is not acknowledged."""
        self.last_id = 0

    @property
    def is_open(self) -> bool:
        """It can take an event now."""
        return len(self.in_flight) < self.prefetch and self._has_room()


@dataclasses.dataclass(slots=True)
class _Entry:
    kind: str
    at: float
    taken: bool = False
    """Some connection has it and has not acknowledged it."""


class _Queue:
    """One queue: which events are there, and who wants them. It knows nothing of the disk."""

    def __init__(self, row: int, product_key: str, subkey: str, kinds: frozenset[str]) -> None:
        self.row, self.product_key, self.subkey, self.kinds = row, product_key, subkey, kinds
        self.events: OrderedDict[int, _Entry] = OrderedDict()
        """By number: oldest first."""
        self.consumers: list[Consumer] = []
        """Whose turn it is first (§5.2)."""
        self._waiting: dict[str, list[int]] = {}
        """Kind → heap of the numbers that nobody has."""

    def add(self, number: int, kind: str, at: float) -> None:
        self.events[number] = _Entry(kind, at)
        heapq.heappush(self._waiting.setdefault(kind, []), number)

    def take(self, number: int) -> None:
        """It is with a connection now. Only ever the first of its kind."""
        entry = self.events[number]
        entry.taken = True
        heapq.heappop(self._waiting[entry.kind])

    def give_back(self, number: int) -> None:
        """It waits again, before everything that is younger."""
        entry = self.events.get(number)
        if entry is not None and entry.taken:
            entry.taken = False
            heapq.heappush(self._waiting[entry.kind], number)

    def drop_oldest(self) -> int:
        """Forget the oldest event; gives its number."""
        number, entry = self.events.popitem(last=False)
        if not entry.taken:
            heapq.heappop(self._waiting[entry.kind])
        return number

    def next(self) -> tuple[int, Consumer] | None:
        """The oldest event that a connection can take now, and the connection whose turn it is."""
        able = [consumer for consumer in self.consumers if consumer.is_open]
        heads = [
            (heap[0], kind)
            for kind, heap in self._waiting.items()
            if heap and any(kind in consumer.wanted[self] for consumer in able)
        ]
        if not heads:
            return None
        number, kind = min(heads)
        return number, next(consumer for consumer in able if kind in consumer.wanted[self])

    def served(self, consumer: Consumer) -> None:
        """It has had its turn."""
        self.consumers.remove(consumer)
        self.consumers.append(consumer)


class SnotiQueues:
    """All queues.

    :param limit: Events that a queue keeps.
    :param keep_time: Seconds that it keeps them.
    :raises StoreError: (every method) the database cannot be read or written.
    """

    def __init__(self, database: Database, *, limit: int = MAX_EVENTS, keep_time: float = KEEP_TIME) -> None:
        self._database, self._limit, self._keep_time = database, limit, keep_time
        self._queues: dict[str, dict[str, _Queue]] = {}
        """Product key → subkey → queue."""
        database.create(_TABLES)
        rows: dict[int, _Queue] = {}
        for row, product_key, subkey, kinds in database.all(
            "SELECT id, product_key, subkey, kinds FROM snoti_queue ORDER BY id"
        ):
            queue = rows[row] = _Queue(row, product_key, subkey, frozenset(json.loads(kinds)))
            self._queues.setdefault(product_key, {})[subkey] = queue
        for number, row, kind, at in database.all(
            "SELECT number, queue, kind, at FROM snoti_event ORDER BY number"
        ):
            if row in rows:
                rows[row].add(number, kind, at)
        used = database.one("SELECT seq FROM sqlite_sequence WHERE name = 'snoti_event'")
        self._last = 0 if used is None else int(used[0])
        """The last number given. SQLite would give those of a transaction again that was undone."""

    # --- queues

    def subkeys(self, product_key: str) -> list[str]:
        """The subkeys of a product, oldest first."""
        return [subkey for subkey in self._queues.get(product_key, ()) if subkey != ENTERPRISE]

    def have_room_for(self, names: Iterable[tuple[str, str]]) -> bool:
        """Whether all these (product_key, subkey) may exist (§3)."""
        found: dict[str, set[str]] = {}
        for product_key, subkey in names:
            found.setdefault(product_key, set(self.subkeys(product_key))).add(subkey)
        return all(len(subkeys - {ENTERPRISE}) <= MAX_SUBKEYS for subkeys in found.values())

    def delete(self, product_key: str, subkey: str) -> bool:
        """Forget a queue and what is in it; connections that have it get nothing of it any more (§7)."""
        queue = self._queues.get(product_key, {}).get(subkey)
        if queue is None:
            return False
        with self._database.transaction() as db:
            db.execute("DELETE FROM snoti_event WHERE queue = ?", (queue.row,))
            db.execute("DELETE FROM snoti_queue WHERE id = ?", (queue.row,))
        for consumer in queue.consumers:
            del consumer.wanted[queue]
            lost = [key for key, (of, _) in consumer.in_flight.items() if of is queue]
            for key in lost:
                del consumer.in_flight[key]
            self._serve(consumer.wanted)
        del self._queues[product_key][subkey]
        return True

    # --- events

    def wants(self, product_key: str, kind: str) -> bool:
        """Whether any queue of the product collects such events."""
        return any(kind in queue.kinds for queue in self._queues.get(product_key, {}).values())

    def collect(self, product_key: str, kind: str, body: Mapping[str, Any], at: float) -> None:
        """Store an event in every queue that collects its kind, and deliver it.

        :param body: The push without ``cmd``, ``msg_id`` and ``delivery_id``.
        :param at: Unix seconds.
        """
        queues = [queue for queue in self._queues.get(product_key, {}).values() if kind in queue.kinds]
        if not queues:
            return
        text = json.dumps(body, ensure_ascii=True, separators=(",", ":"))
        msg_id = secrets.token_hex(16)
        numbered = list(enumerate(queues, start=self._last + 1))
        self._last += len(numbered)
        with self._database.transaction(durable=False) as db:
            db.executemany(
                "INSERT INTO snoti_event (number, queue, kind, at, msg_id, body) VALUES (?, ?, ?, ?, ?, ?)",
                [(number, queue.row, kind, at, msg_id, text) for number, queue in numbered],
            )
        for number, queue in numbered:
            queue.add(number, kind, at)
        for queue in queues:
            self._trim(queue, at)
        self._serve(queues)

    def _trim(self, queue: _Queue, now: float) -> None:
        """Drop what is too old or too much."""
        dropped = []
        while queue.events:
            oldest = next(iter(queue.events.values()))
            if len(queue.events) <= self._limit and oldest.at >= now - self._keep_time:
                break
            dropped.append((queue.drop_oldest(),))
        if dropped:
            with self._database.transaction(durable=False) as db:
                db.executemany("DELETE FROM snoti_event WHERE number = ?", dropped)

    # --- connections

    def attach(self, consumer: Consumer, wanted: Mapping[tuple[str, str], Iterable[str]], now: float) -> None:
        """A connection wants these kinds, by (product_key, subkey), besides what it wants already.

        Nothing is delivered before :meth:`pump`.
        """
        for (product_key, subkey), kinds in wanted.items():
            queue = self._queues.get(product_key, {}).get(subkey) or self._new(product_key, subkey)
            if consumer not in queue.consumers:
                # The newest comes first: it has waited longest for its first event.
                queue.consumers.insert(0, consumer)
            consumer.wanted[queue] = consumer.wanted.get(queue, frozenset()) | frozenset(kinds)
            self._unite(queue)
            self._trim(queue, now)

    def holds(self, consumer: Consumer, product_key: str, subkey: str) -> bool:
        """Whether the connection is attached to this queue."""
        return any((queue.product_key, queue.subkey) == (product_key, subkey) for queue in consumer.wanted)

    def withdraw(self, consumer: Consumer, product_key: str, subkey: str, kinds: Iterable[str]) -> None:
        """A connection wants these kinds no more. It stays attached, and what it has stays its own."""
        queue = self._queues.get(product_key, {}).get(subkey)
        if queue is not None and queue in consumer.wanted:
            consumer.wanted[queue] -= frozenset(kinds)
            self._unite(queue)

    def pump(self, consumer: Consumer) -> None:
        """Deliver what the connection can take."""
        self._serve(consumer.wanted)

    def acknowledge(self, consumer: Consumer, delivery_id: int) -> None:
        """It has heard an event; unknown ids mean nothing (§5.7)."""
        found = consumer.in_flight.get(delivery_id)
        if found is None:
            return
        queue, number = found
        self._database.run("DELETE FROM snoti_event WHERE number = ?", (number,))
        del consumer.in_flight[delivery_id]
        queue.events.pop(number, None)
        self._serve(consumer.wanted)

    def detach(self, consumer: Consumer) -> None:
        """The connection is gone; what it had not acknowledged goes back to the head (§5.5)."""
        queues = list(consumer.wanted)
        in_flight = list(consumer.in_flight.values())
        consumer.wanted.clear()
        consumer.in_flight.clear()
        for queue in queues:
            queue.consumers.remove(consumer)
        for queue, number in in_flight:
            queue.give_back(number)
        try:
            for queue in queues:
                if queue.consumers:  # without any it goes on collecting what the last ones wanted (§5.3)
                    self._unite(queue)
        finally:
            self._serve(queues)  # the others get what came back, whatever the disk says

    def _new(self, product_key: str, subkey: str) -> _Queue:
        with self._database.transaction() as db:
            row = db.execute(
                "INSERT INTO snoti_queue (product_key, subkey, kinds) VALUES (?, ?, '[]')",
                (product_key, subkey),
            ).lastrowid
        queue = _Queue(row or 0, product_key, subkey, frozenset())
        self._queues.setdefault(product_key, {})[subkey] = queue
        return queue

    def _unite(self, queue: _Queue) -> None:
        """Collect what the connections that are there want (§5.3)."""
        kinds = frozenset[str]().union(*(consumer.wanted[queue] for consumer in queue.consumers))
        if kinds != queue.kinds:
            self._database.run(
                "UPDATE snoti_queue SET kinds = ? WHERE id = ?", (json.dumps(sorted(kinds)), queue.row)
            )
            queue.kinds = kinds

    def _serve(self, queues: Iterable[_Queue]) -> None:
        """Deliver from these queues, in order of occurrence over all of them."""
        queues = list(queues)
        while True:
            found = [(*head, queue) for queue in queues if (head := queue.next()) is not None]
            if not found:
                return
            number, consumer, queue = min(found, key=lambda head: head[0])
            row = self._database.one("SELECT msg_id, body FROM snoti_event WHERE number = ?", (number,))
            queue.take(number)
            if row is None:  # its transaction was undone
                del queue.events[number]
                continue
            queue.served(consumer)
            consumer.last_id += 1
            consumer.in_flight[consumer.last_id] = queue, number
            consumer.deliver(Delivery(consumer.last_id, row[0], row[1]))
