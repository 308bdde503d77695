"""What waits for a device, and when the next of it may leave: in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gizserial.m2m import frames, topics
from gizserial.m2m.frames import BusinessFrame
from gizserial.m2m.mqtt31 import ConnAck, Packet, PingResp, Publish, SubAck
from sim.cloud.pacing import MAX_ANSWERS, DeviceQueue, Pace

DID = "SimDid0123456789ABCDEF"
T = 1000.0


def control(sn: int, client: str = "usrApp") -> Publish:
    frame = BusinessFrame(frames.CONTROL_ACKED, b"\x01\x01\x01", sn)
    return Publish(topics.app2dev(DID, client), frame.encode())


def plain(client: str = "usrApp") -> Publish:
    return Publish(topics.app2dev(DID, client), BusinessFrame(frames.CONTROL, b"\x02").encode())


def count(number: int) -> Publish:
    return Publish(topics.ser2cli_res(DID), frames.encode_control(frames.AppCount(number)))


def ready() -> DeviceQueue:
    """A queue of a device that subscribed long before ``T`` and was answered its first ping."""
    queue = DeviceQueue()
    queue.answer(SubAck(3, b"\x00"))
    assert taken(queue, T - 100) == SubAck(3, b"\x00")
    queue.pinged(T - 99)
    return queue


def taken(queue: DeviceQueue, now: float) -> Packet | None:
    item = queue.take(now)
    return item.packet if item is not None else None


def due(queue: DeviceQueue) -> float:
    """When the next packet may leave; it must not leave before, and must leave then."""
    when = queue.next_timeout()
    assert when is not None
    assert queue.take(when - 0.001) is None
    return when


def test_an_idle_device_gets_a_control_at_once() -> None:
    queue = ready()
    queue.put(control(1))
    assert taken(queue, T) == control(1)
    assert queue.next_timeout() is None


def test_the_next_0093_leaves_with_the_0094_of_the_one_before() -> None:
    queue = ready()
    for sn in (1, 2):
        queue.put(control(sn))
    assert taken(queue, T) == control(1)
    assert taken(queue, T + 0.03) is None
    queue.acknowledged("usrApp", 1)
    assert taken(queue, T + 0.03) == control(2)


@pytest.mark.parametrize(("client", "sn"), [("usrApp", 2), ("usrOther", 1)])
def test_the_0094_of_another_request_releases_nothing(client: str, sn: int) -> None:
    queue = ready()
    for number in (1, 2):
        queue.put(control(number))
    assert taken(queue, T) == control(1)
    queue.acknowledged(client, sn)
    assert due(queue) == pytest.approx(T + 0.8)


def test_without_0094_the_next_0093_leaves_after_800_ms() -> None:
    queue = ready()
    for sn in (1, 2):
        queue.put(control(sn))
    assert taken(queue, T) == control(1)
    assert due(queue) == pytest.approx(T + 0.8)
    assert taken(queue, T + 0.8) == control(2)


def test_other_messages_keep_100_ms_from_anything() -> None:
    queue = ready()
    for packet in (plain(), plain(), count(1)):
        queue.put(packet)
    assert taken(queue, T) == plain()
    assert due(queue) == pytest.approx(T + 0.1)
    assert taken(queue, T + 0.1) == plain()
    assert due(queue) == pytest.approx(T + 0.2)
    assert taken(queue, T + 0.2) == count(1)


def test_a_control_keeps_100_ms_from_an_answer_that_nothing_proves_read() -> None:
    queue = ready()
    queue.answer(PingResp())
    queue.put(control(1))
    assert taken(queue, T) == PingResp()
    assert due(queue) == pytest.approx(T + 0.1)
    assert taken(queue, T + 0.1) == control(1)


def test_a_0094_proves_nothing_about_an_answer_sent_after_its_0093() -> None:
    queue = ready()
    queue.put(control(1))
    queue.put(control(2))
    assert taken(queue, T) == control(1)
    queue.answer(PingResp())
    assert due(queue) == pytest.approx(T + 0.1)
    assert taken(queue, T + 0.1) == PingResp()
    queue.acknowledged("usrApp", 1)
    assert due(queue) == pytest.approx(T + 0.2)


def test_messages_are_held_until_1300_ms_after_the_last_suback() -> None:
    queue = DeviceQueue()
    queue.put(control(1))
    assert queue.next_timeout() is None, "nothing is subscribed yet"
    for number in range(3):
        queue.answer(SubAck(number + 1, b"\x00"))
        assert taken(queue, T + number) == SubAck(number + 1, b"\x00"), "an answer is not held"
    assert due(queue) == pytest.approx(T + 2 + 1.3)
    assert taken(queue, T + 2 + 1.3) == control(1)


def test_the_first_ping_after_the_subscriptions_ends_the_hold() -> None:
    queue = DeviceQueue()
    queue.pinged(T - 1)  # before any subscription: says nothing
    queue.answer(SubAck(3, b"\x00"))
    assert taken(queue, T) == SubAck(3, b"\x00")
    queue.put(control(1))
    queue.pinged(T + 0.5)
    queue.answer(PingResp())
    assert taken(queue, T + 0.5) == PingResp()
    assert due(queue) == pytest.approx(T + 0.6)
    assert taken(queue, T + 0.6) == control(1)


def test_a_ping_between_two_subscriptions_does_not_count() -> None:
    queue = DeviceQueue()
    queue.answer(SubAck(1, b"\x00"))
    assert taken(queue, T) == SubAck(1, b"\x00")
    queue.pinged(T + 0.1)
    queue.answer(SubAck(2, b"\x00"))
    assert taken(queue, T + 0.2) == SubAck(2, b"\x00")
    queue.put(control(1))
    assert due(queue) == pytest.approx(T + 0.2 + 1.3)


def test_answers_overtake_messages_and_leave_at_once() -> None:
    queue = DeviceQueue()
    queue.put(control(1))
    queue.answer(ConnAck())
    assert taken(queue, T) == ConnAck()


def test_a_newer_message_with_the_same_key_replaces_the_one_that_waits() -> None:
    queue = ready()
    queue.put(plain())
    assert taken(queue, T) == plain()
    for number in (1, 2, 3):
        queue.put(count(number), key="0210")
    assert len(queue) == 1
    assert taken(queue, T + 0.1) == count(3)


def test_the_queue_is_bounded() -> None:
    queue = DeviceQueue(Pace(limit=2))
    assert queue.put(control(1)) is None
    assert queue.put(control(2)) is None
    assert "2 messages wait" in (queue.put(control(3)) or "")
    assert len(queue) == 2
    for _ in range(MAX_ANSWERS + 1):
        assert not queue.overflowing
        queue.answer(PingResp())
    assert queue.overflowing


def test_what_a_module_has_no_room_for_is_refused() -> None:
    queue = ready()
    frame = BusinessFrame(frames.CONTROL, bytes(1024))
    assert "1024" in (queue.put(Publish(topics.app2dev(DID, "usrApp"), frame.encode())) or "")
    assert "topic" in (queue.put(Publish("app2dev/" + "d" * 120, b"")) or "")


def test_a_payload_that_is_no_frame_is_paced_like_any_other() -> None:
    queue = ready()
    odd = Publish(topics.app2dev(DID, "usrApp"), b"hello")
    queue.put(odd)
    queue.put(odd)
    assert taken(queue, T) == odd
    assert due(queue) == pytest.approx(T + 0.1)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["control", "plain", "count", "ping", "suback", "ack"]),
        st.floats(0, 1.0, allow_nan=False, width=32),
    ),
    max_size=40,
)


@given(STEPS)
def test_in_any_course_no_packet_is_lost_glued_or_out_of_order(steps: list[tuple[str, float]]) -> None:
    """Whatever happens when: every message leaves once, in order, and never too near to the one before."""
    queue, now = ready(), T
    put: list[Publish] = []
    log: list[tuple[float, Packet]] = []
    acked: set[int] = set()

    def run_until(end: float) -> None:
        while (when := queue.next_timeout()) is not None and when <= end:
            at = max(when, now, log[-1][0] if log else now)  # time does not go back
            item = queue.take(at)
            assert item is not None
            log.append((at, item.packet))

    for number, (kind, pause) in enumerate(steps, start=1):
        if kind in {"control", "plain", "count"}:
            message = {"control": control(number), "plain": plain(), "count": count(number)}[kind]
            put.append(message)
            assert queue.put(message) is None
        elif kind == "ping":
            queue.pinged(now)
            queue.answer(PingResp())
        elif kind == "suback":
            queue.answer(SubAck(number, b"\x00"))
        elif log and isinstance(log[-1][1], Publish):
            frame = BusinessFrame.decode(log[-1][1].payload)
            if isinstance(frame, BusinessFrame) and frame.sn is not None:
                queue.acknowledged("usrApp", frame.sn)
                acked.add(len(log) - 1)
        run_until(now)
        run_until(now + pause)
        now += pause
    for _ in range(len(put) + 1):
        run_until(now := now + 2)

    assert [packet for _, packet in log if isinstance(packet, Publish)] == put
    assert queue.next_timeout() is None
    for index, (when, packet) in enumerate(log[1:], start=1):
        before = log[index - 1][0]
        if isinstance(packet, Publish) and index - 1 not in acked:
            assert when - before >= 0.1 - 1e-9
        if isinstance(packet, Publish):
            last = max((t for t, p in log[:index] if isinstance(p, SubAck)), default=0.0)
            pinged = any(isinstance(p, PingResp) and t >= last for t, p in log[:index])
            assert pinged or when - last >= 1.3 - 1e-9
