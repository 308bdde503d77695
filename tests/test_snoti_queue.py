"""The queues of SNoti (snoti.md §5): at least once and in order, whoever connects, acks and leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sim.cloud.database import Database
from sim.cloud.snoti_queue import KEEP_TIME, MAX_SUBKEYS, Consumer, Delivery, SnotiQueues

PK = "p"
KINDS = ("kv", "raw", "online")
SUBKEYS = ("a", "b")


class Connection:
    """A consumer that writes down what it gets, and checks what holds for one connection."""

    def __init__(self, queues: SnotiQueues, prefetch: int = 50) -> None:
        self.queues = queues
        self.room = True
        self.got: list[tuple[int, str, Any]] = []
        """delivery_id, msg_id, body"""
        self.open: dict[int, Any] = {}
        """delivery_id → body of what is not acknowledged."""
        self.wanted: dict[str, set[str]] = {}
        self.consumer = Consumer(prefetch, self._deliver, lambda: self.room)

    def _deliver(self, delivery: Delivery) -> None:
        body = json.loads(delivery.body)
        assert delivery.delivery_id == len(self.got) + 1  # §5.6
        self.got.append((delivery.delivery_id, delivery.msg_id, body))
        self.open[delivery.delivery_id] = body
        assert self.room
        assert len(self.consumer.in_flight) <= self.consumer.prefetch  # §5.4

    def attach(self, subkey: str = "a", *kinds: str, now: float = 0.0) -> None:
        self.wanted.setdefault(subkey, set()).update(kinds or KINDS)
        self.queues.attach(self.consumer, {(PK, subkey): kinds or KINDS}, now)
        self.queues.pump(self.consumer)

    def ack(self, delivery_id: int) -> None:
        self.open.pop(delivery_id, None)
        self.queues.acknowledge(self.consumer, delivery_id)

    def leave(self) -> None:
        self.queues.detach(self.consumer)

    @property
    def numbers(self) -> list[int]:
        return [body["n"] for _, _, body in self.got]


def collect(queues: SnotiQueues, *numbers: int, kind: str = "kv", at: float = 0.0) -> None:
    for number in numbers:
        queues.collect(PK, kind, {"n": number, "kind": kind}, at)


@pytest.fixture
def database() -> Any:
    database = Database(None, told=lambda _text: None)
    yield database
    database.close()


@pytest.fixture
def queues(database: Database) -> SnotiQueues:
    return SnotiQueues(database)


# --- whatever happens


class Queues(RuleBasedStateMachine):
    """Connections come, go, acknowledge and stall; a model says what each queue still owes."""

    def __init__(self) -> None:
        super().__init__()
        self.database = Database(None, told=lambda _text: None)
        self.queues = SnotiQueues(self.database)
        self.live: list[Connection] = []
        self.kinds: dict[str, set[str]] = {}
        """Subkey → what the queue collects (§5.3)."""
        self.owed: dict[str, list[int]] = {subkey: [] for subkey in SUBKEYS}
        """Subkey → numbers that were not acknowledged, in order of occurrence."""
        self.kind_of: dict[int, str] = {}
        self.msg_ids: dict[int, str] = {}
        self.count = 0

    def teardown(self) -> None:
        for connection in list(self.live):
            self._left(connection)
        for subkey in self.kinds:
            last = Connection(self.queues, 10_000)
            last.attach(subkey)
            assert last.numbers == self.owed[subkey]
        self.database.close()

    @rule(
        subkey=st.sampled_from(SUBKEYS),
        kinds=st.sets(st.sampled_from(KINDS), min_size=1),
        prefetch=st.integers(1, 3),
    )
    def connect(self, subkey: str, kinds: set[str], prefetch: int) -> None:
        connection = Connection(self.queues, prefetch)
        self.live.append(connection)
        self._wants(connection, subkey, kinds)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), subkey=st.sampled_from(SUBKEYS), kinds=st.sets(st.sampled_from(KINDS), min_size=1))
    def subscribe(self, data: st.DataObject, subkey: str, kinds: set[str]) -> None:
        connection = data.draw(st.sampled_from(self.live))
        # A connection of one queue only: what it holds is then that queue's.
        if subkey in connection.wanted:
            self._wants(connection, subkey, kinds)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), kind=st.sampled_from(KINDS))
    def unsubscribe(self, data: st.DataObject, kind: str) -> None:
        connection = data.draw(st.sampled_from(self.live))
        (subkey,) = connection.wanted
        connection.wanted[subkey].discard(kind)
        self.queues.withdraw(connection.consumer, PK, subkey, [kind])
        self._unite(subkey)

    @rule(kind=st.sampled_from(KINDS))
    def happens(self, kind: str) -> None:
        self.count += 1
        self.kind_of[self.count] = kind
        for subkey, kinds in self.kinds.items():
            if kind in kinds:
                self.owed[subkey].append(self.count)
        collect(self.queues, self.count, kind=kind)

    @precondition(lambda self: any(connection.open for connection in self.live))
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from([each for each in self.live if each.open]))
        delivery_id = data.draw(st.sampled_from(sorted(connection.open)))
        (subkey,) = connection.wanted
        self.owed[subkey].remove(connection.open[delivery_id]["n"])
        connection.ack(delivery_id)
        connection.ack(delivery_id)  # §5.7: an id that is not known any more

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def stall_or_read(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(self.live))
        connection.room = not connection.room
        self.queues.pump(connection.consumer)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self._left(data.draw(st.sampled_from(self.live)))

    @rule()
    def killed(self) -> None:
        """The process ends and starts again on the same database."""
        self.live.clear()
        self.queues = SnotiQueues(self.database)

    @rule(subkey=st.sampled_from(SUBKEYS))
    def delete(self, subkey: str) -> None:
        if any(subkey in connection.wanted for connection in self.live):
            return
        assert self.queues.delete(PK, subkey) == (subkey in self.kinds)
        self.kinds.pop(subkey, None)
        self.owed[subkey].clear()

    @invariant()
    def nothing_is_held_back_lost_or_twice(self) -> None:
        for subkey in self.kinds:
            there = [connection for connection in self.live if subkey in connection.wanted]
            held = [body["n"] for connection in there for body in connection.open.values()]
            assert len(held) == len(set(held))  # §5.2: one event goes to one connection
            assert set(held) <= set(self.owed[subkey])
            waiting = set(self.owed[subkey]) - set(held)
            for connection in there:
                if connection.room and len(connection.open) < connection.consumer.prefetch:
                    assert not any(self.kind_of[number] in connection.wanted[subkey] for number in waiting)

    @invariant()
    def an_event_keeps_its_msg_id(self) -> None:
        for connection in self.live:
            for _, msg_id, body in connection.got:
                assert self.msg_ids.setdefault(body["n"], msg_id) == msg_id

    @invariant()
    def a_live_connection_gets_nothing_twice(self) -> None:
        for connection in self.live:
            assert len(set(connection.numbers)) == len(connection.numbers)  # §5.5

    def _wants(self, connection: Connection, subkey: str, kinds: set[str]) -> None:
        self.kinds.setdefault(subkey, set())
        connection.wanted.setdefault(subkey, set()).update(kinds)
        self._unite(subkey)
        held = {body["n"] for each in self.live if subkey in each.wanted for body in each.open.values()}
        ready = [
            number
            for number in self.owed[subkey]
            if number not in held and self.kind_of[number] in connection.wanted[subkey]
        ]
        before = len(connection.numbers)
        connection.attach(subkey, *kinds)
        new = connection.numbers[before:]
        assert new == ready[: len(new)]  # §5.8: the oldest first

    def _unite(self, subkey: str) -> None:
        there = [each.wanted[subkey] for each in self.live if subkey in each.wanted]
        if there:
            self.kinds[subkey] = set[str]().union(*there)

    def _left(self, connection: Connection) -> None:
        (subkey,) = connection.wanted
        self.live.remove(connection)
        self._unite(subkey)
        connection.leave()


Queues.TestCase.settings = settings(max_examples=25, stateful_step_count=40, deadline=None, derandomize=True)
test_whatever_happens = Queues.TestCase


# --- order, turns and coming back


def test_what_comes_back_comes_first_and_in_its_order(queues: SnotiQueues) -> None:
    first = Connection(queues, 3)
    first.attach()
    collect(queues, 1, 2, 3, 4, 5)
    assert first.numbers == [1, 2, 3]
    first.ack(2)
    first.leave()
    second = Connection(queues)
    second.attach()
    assert second.numbers == [1, 3, 4, 5]
    assert [delivery for delivery, _, _ in second.got] == [1, 2, 3, 4]


def test_what_comes_back_goes_to_those_that_are_there(queues: SnotiQueues) -> None:
    first, second = Connection(queues), Connection(queues)
    first.attach()
    second.attach()
    collect(queues, 1, 2, 3, 4)
    first.leave()
    assert sorted(second.numbers) == [1, 2, 3, 4]


def test_a_full_connection_does_not_stop_the_others(queues: SnotiQueues) -> None:
    full, free = Connection(queues, 1), Connection(queues)
    full.attach()
    free.attach()
    collect(queues, *range(1, 8))
    assert len(full.numbers) == 1
    assert sorted(full.numbers + free.numbers) == list(range(1, 8))
    assert free.numbers == sorted(free.numbers)


def test_three_connections_take_turns(queues: SnotiQueues) -> None:
    three = [Connection(queues) for _ in range(3)]
    for connection in three:
        connection.attach()
    collect(queues, *range(9))
    assert sorted(len(connection.numbers) for connection in three) == [3, 3, 3]
    for connection in three:
        assert connection.numbers == sorted(connection.numbers)
        assert connection.numbers[1] - connection.numbers[0] == 3


def test_events_of_two_queues_of_one_connection_are_in_order_of_occurrence(queues: SnotiQueues) -> None:
    Connection(queues).attach("a", "kv")
    Connection(queues).attach("b", "raw")
    for connection in list(_all(queues)):
        queues.detach(connection)
    for number in range(6):
        collect(queues, number, kind="kv" if number % 2 else "raw")
    both = Connection(queues)
    queues.attach(both.consumer, {(PK, "a"): ["kv"], (PK, "b"): ["raw"]}, 0.0)
    queues.pump(both.consumer)
    assert both.numbers == list(range(6))


def _all(queues: SnotiQueues) -> set[Consumer]:
    return {each for named in queues._queues.values() for queue in named.values() for each in queue.consumers}


# --- what a queue collects


def test_without_a_connection_it_collects_what_the_last_one_wanted(queues: SnotiQueues) -> None:
    first, last = Connection(queues), Connection(queues)
    first.attach("a", "kv")
    last.attach("a", "raw")
    first.leave()
    collect(queues, 1, kind="kv")
    last.leave()
    collect(queues, 2, kind="kv")
    collect(queues, 3, kind="raw")
    again = Connection(queues)
    again.attach()
    assert again.numbers == [3]


def test_a_queue_that_was_never_named_collects_nothing(queues: SnotiQueues) -> None:
    collect(queues, 1)
    assert not queues.wants(PK, "kv")
    late = Connection(queues)
    late.attach()
    assert late.numbers == []


# --- bounds


def test_the_oldest_go_when_there_are_too_many(database: Database) -> None:
    queues = SnotiQueues(database, limit=5)
    holds = Connection(queues, 2)
    holds.attach()
    collect(queues, *range(1, 9))
    assert holds.numbers == [1, 2]  # they are dropped in its hands
    assert database.one("SELECT count(*) FROM snoti_event") == (5,)
    holds.leave()
    after = Connection(SnotiQueues(database, limit=5))
    after.attach()
    assert after.numbers == [4, 5, 6, 7, 8]


def test_acknowledging_what_was_dropped_meanwhile(database: Database) -> None:
    queues = SnotiQueues(database, limit=2)
    holds = Connection(queues, 1)
    holds.attach()
    collect(queues, 1, 2, 3, 4)
    holds.ack(1)
    assert holds.numbers == [1, 3]
    holds.ack(2)
    assert holds.numbers == [1, 3, 4]


def test_the_old_go_after_seven_days(queues: SnotiQueues) -> None:
    Connection(queues).attach()
    (consumer,) = _all(queues)
    queues.detach(consumer)
    collect(queues, 1, at=0.0)
    collect(queues, 2, at=10.0)
    late = Connection(queues)
    late.attach(now=KEEP_TIME + 5.0)
    assert late.numbers == [2]


def test_five_subkeys_and_no_more(queues: SnotiQueues) -> None:
    names = [(PK, f"s{number}") for number in range(MAX_SUBKEYS)]
    assert queues.have_room_for(names)
    assert not queues.have_room_for([*names, (PK, "one more")])
    for _, subkey in names:
        Connection(queues).attach(subkey)
    assert queues.have_room_for(names)
    assert not queues.have_room_for([(PK, "one more")])
    assert queues.have_room_for([("another product", "one more")])
    assert queues.delete(PK, "s0")
    assert queues.have_room_for([(PK, "one more")])


# --- deleting


def test_a_deleted_queue_takes_nothing_along_but_itself(queues: SnotiQueues) -> None:
    both = Connection(queues, 2)
    both.attach("a", "kv")
    both.attach("b", "raw")
    collect(queues, 1, 2, kind="kv")
    collect(queues, 3, kind="raw")
    assert both.numbers == [1, 2]
    assert queues.delete(PK, "a")
    assert not queues.delete(PK, "a")
    assert both.numbers == [1, 2, 3]  # what it held of the other counts no more
    both.ack(1)
    collect(queues, 4, kind="kv")
    assert queues.subkeys(PK) == ["b"]
    both.leave()
    again = Connection(queues)
    again.attach("b")
    assert again.numbers == [3]


# --- on the disk


def test_a_restart_keeps_what_was_not_acknowledged_and_what_it_collects(tmp_path: Path) -> None:
    database = Database(tmp_path, told=lambda _text: None)
    queues = SnotiQueues(database)
    first = Connection(queues, 3)
    first.attach("a", "kv")
    collect(queues, 1, 2, 3, 4)
    first.ack(2)
    told = {body["n"]: msg_id for _, msg_id, body in first.got}
    database.close()  # and nobody said goodbye
    database = Database(tmp_path, told=lambda _text: None)
    queues = SnotiQueues(database)
    assert queues.wants(PK, "kv")
    assert not queues.wants(PK, "raw")
    collect(queues, 5)
    second = Connection(queues)
    second.attach("a", "kv")
    assert second.numbers == [1, 3, 4, 5]
    assert {body["n"]: msg_id for _, msg_id, body in second.got if body["n"] in told}.items() <= told.items()
    database.close()


def test_what_was_undone_is_not_delivered(database: Database, queues: SnotiQueues) -> None:
    """An event of a transaction that fails afterwards did not happen."""
    Connection(queues).attach()
    (consumer,) = _all(queues)
    queues.detach(consumer)

    def fails() -> None:
        with database.transaction():
            collect(queues, 1)
            raise LookupError

    with pytest.raises(LookupError):
        fails()
    collect(queues, 2)
    late = Connection(queues)
    late.attach()
    assert late.numbers == [2]
