"""Both ends of a LAN session under a clock of the test (lan.md §3–§5, §7–§9)."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import pytest

from gizserial.lan import client as our_end
from gizserial.lan import messages
from gizserial.lan.client import ClientState, LanClient
from gizserial.lan.framing import encode_frame
from gizserial.lan.server import (
    IDLE_SOFTAP,
    IDLE_STATION,
    MAX_WAITING,
    Announcer,
    AskMcu,
    Broadcast,
    ClientCount,
    CloseClient,
    LanEffect,
    LanFacts,
    LanOptions,
    LanServer,
    LeaveTest,
    RouterDataGiven,
    SendTo,
)

PASSCODE = "IPQRSTUVWX"
FACTS = LanFacts(
    mac="00163E002CAC",
    product_key="0123456789abcdef0123456789abcdef",
    passcode=PASSCODE,
    did="SimDid0123456789ABCDEF",
    wifi_soft_ver="04X3009R",
    server="api.gizwits.com:80",
)
LOGIN = bytes.fromhex("000000030f000008000a49505152535455565758")
ACCEPTED, REFUSED = bytes.fromhex("000000030400000900"), bytes.fromhex("000000030400000901")
BEAT, BEATEN = bytes.fromhex("0000000303000015"), bytes.fromhex("0000000303000016")
READ = bytes.fromhex("000000030400009002")
CONTROL = bytes.fromhex("000000030a00009300000001010101")

EffectT = TypeVar("EffectT")


class Module:
    """The module's end, with the facts at hand."""

    def __init__(self, facts: LanFacts = FACTS, options: LanOptions | None = None) -> None:
        self.facts = facts
        self.server = LanServer(lambda: self.facts, options)
        self.effects: list[LanEffect] = []

    def client(self, now: float = 0.0, *, logged_in: bool = False) -> int:
        number = self.server.connected(now)
        assert number is not None
        if logged_in:
            assert self.say(number, LOGIN, now) == ACCEPTED
        return number

    def say(self, client: int, data: bytes, now: float = 0.0) -> bytes:
        """What the client gets for these bytes."""
        self.server.received(client, data, now)
        return self.sent(client)

    def sent(self, client: int) -> bytes:
        self.effects = self.server.effects()
        return b"".join(each.data for each in self.of(SendTo) if each.client == client)

    def of(self, kind: type[EffectT]) -> list[EffectT]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    @property
    def closed(self) -> list[int]:
        return [effect.client for effect in self.of(CloseClient)]


def test_a_ninth_client_gets_no_byte_and_a_place_that_was_left_is_free() -> None:
    module = Module()
    clients = [module.client() for _ in range(8)]
    assert module.server.connected(0.0) is None
    module.server.lost(clients[3])
    assert module.server.connected(0.0) is not None


@pytest.mark.parametrize(("soft_ap", "limit"), [(False, IDLE_STATION), (True, IDLE_SOFTAP)])
def test_idle_clients_are_closed_and_any_byte_counts(soft_ap: bool, limit: float) -> None:
    module = Module(dataclasses.replace(FACTS, soft_ap=soft_ap))
    silent, noisy = module.client(0.0), module.client(0.0)
    module.say(noisy, b"\xff", now=limit - 1)  # no frame, but a byte
    assert module.server.next_timeout() == limit
    module.server.handle_timeout(limit - 0.01)
    assert module.sent(silent) == b""
    assert module.closed == []
    module.server.handle_timeout(limit)
    module.sent(silent)
    assert module.closed == [silent]
    assert module.of(SendTo) == []


def test_a_login_is_not_inherited_by_the_next_client() -> None:
    """§4.1: the defect of GAgent 04020006."""
    module = Module()
    module.client(0.0, logged_in=True)
    module.server.handle_timeout(IDLE_STATION)
    module.server.effects()
    following = module.client(IDLE_STATION)
    assert module.say(following, BEAT, IDLE_STATION) == b""
    assert module.closed == [following]


@pytest.mark.parametrize(
    "wire",
    [BEAT, READ, CONTROL, encode_frame(0x0A), encode_frame(0x10), encode_frame(0xFF), encode_frame(0x62)],
)
def test_before_the_login_these_close_without_an_answer(wire: bytes) -> None:
    module = Module()
    client = module.client()
    assert module.say(client, wire) == b""
    assert module.closed == [client]


def test_after_the_login_unknown_commands_are_ignored() -> None:
    module = Module()
    client = module.client(logged_in=True)
    for command in (0xFF, 0x62, 0x0A, 0x10, 0x91):
        assert module.say(client, encode_frame(command)) == b""
        assert module.closed == []
    assert module.say(client, BEAT) == BEATEN


def test_login() -> None:
    module = Module()
    client = module.client()
    assert module.say(client, LOGIN) == ACCEPTED
    assert module.of(ClientCount) == [ClientCount(1)]
    assert module.say(client, LOGIN) == ACCEPTED  # answered again, not counted again
    assert module.of(ClientCount) == []
    module.server.lost(client)
    module.sent(client)
    assert module.of(ClientCount) == [ClientCount(0)]


@pytest.mark.parametrize("given", ["IPQRSTUVWY", "IPQRSTUVW", ""])
def test_a_wrong_passcode_is_told_and_closes(given: str) -> None:
    module = Module()
    client = module.client()
    assert module.say(client, encode_frame(0x08, messages.passcode_body(given))) == REFUSED
    assert module.closed == [client]


def test_a_module_without_a_passcode_lets_nobody_in() -> None:
    module = Module(dataclasses.replace(FACTS, passcode="", binding=True))
    assert module.say(module.client(), encode_frame(0x08, b"\0\0")) == REFUSED
    assert module.say(module.client(), encode_frame(0x06)) == bytes.fromhex("00000003050000070000")


def test_the_passcode_is_given_while_binding_is_allowed() -> None:
    ask = encode_frame(0x06)
    module = Module(dataclasses.replace(FACTS, binding=True))
    client = module.client()
    assert module.say(client, ask) == bytes.fromhex("000000030f000007000a49505152535455565758")
    assert module.closed == []
    module.facts = FACTS
    assert module.say(client, ask) == bytes.fromhex("00000003050000070000")
    assert module.closed == [client]
    old = Module(options=LanOptions(refusal_as_v4=True))
    assert old.say(old.client(), ask) == bytes.fromhex("000000030f0000070000")


def test_module_information_needs_no_login() -> None:
    facts = dataclasses.replace(
        FACTS,
        wifi_hard_ver="000LINUX",
        wifi_soft_ver="04020006",
        mcu_hard_ver="00000001",
        mcu_soft_ver="00000002",
        p0_ver="00000004",
    )
    module, old = Module(facts), Module(facts, LanOptions(info_as_v4=True))
    answer = module.say(module.client(), encode_frame(0x13))
    assert len(answer) == 92
    assert answer[4] == 0x57
    of_v4 = old.say(old.client(), encode_frame(0x13))
    assert of_v4 == answer[:4] + b"\x77" + answer[5:]


def test_routers_are_listed_in_softap_mode_and_the_connection_ends() -> None:
    spots = (messages.Hotspot("home", 100), messages.Hotspot("cafe", 50))
    module = Module(dataclasses.replace(FACTS, hotspots=spots))
    client = module.client()
    assert module.say(client, encode_frame(0x0C)) == bytes.fromhex("000000030300000d")
    module.facts = dataclasses.replace(module.facts, soft_ap=True)
    wire = bytes.fromhex("000000031100000d0004686f6d656400046361666532")
    assert module.say(client, encode_frame(0x0C), 1.0) == wire
    assert module.server.next_timeout() == pytest.approx(1.1)
    module.server.handle_timeout(1.2)
    module.sent(client)
    assert module.closed == [client]


def test_answers_go_to_the_requester_and_reports_to_all_who_are_logged_in() -> None:
    module = Module()
    one, two, stranger = module.client(logged_in=True), module.client(logged_in=True), module.client()
    assert module.say(one, READ + CONTROL) == b""
    (read,) = module.of(AskMcu)
    module.server.answer(read, b"\x03\x01")
    assert module.sent(one) == bytes.fromhex("00000003050000910301")
    (control,) = module.of(AskMcu)
    assert (read.p0, control.p0, control.sn) == (b"\x02", b"\x01\x01\x01", 1)
    module.server.answer(control, b"")
    module.server.answer(control, b"")  # as an MCU that acknowledges twice
    assert module.sent(one) == bytes.fromhex("000000030700009400000001")
    assert [each.client for each in module.of(SendTo)] == [one]
    module.server.report(b"\x04\x01")
    module.sent(one)
    assert {each.client for each in module.of(SendTo)} == {one, two}
    assert stranger not in {each.client for each in module.of(SendTo)}
    module.server.no_answer(read)
    assert module.sent(one) == b""
    assert module.closed == []


def test_requests_without_p0_are_ignored() -> None:
    module = Module()
    client = module.client(logged_in=True)
    module.say(client, encode_frame(0x90) + encode_frame(0x93, b"", 1))
    assert module.of(AskMcu) == []


def test_requests_at_once_wait_for_each_other_so_that_others_have_room() -> None:
    """§7.8: one of each client is handed on, the rest is queued, in order and up to a bound."""
    module = Module()
    client, other = module.client(logged_in=True), module.client(logged_in=True)
    sent = range(1, MAX_WAITING + 4)
    module.say(client, b"".join(encode_frame(0x93, b"\x02", sn) for sn in sent))
    asked = module.of(AskMcu)
    assert [each.sn for each in asked] == [1]
    module.say(other, READ)
    assert [each.client for each in module.of(AskMcu)] == [other]
    answered = []
    while asked:
        answered.append(asked[0].sn)
        if len(answered) % 2:
            module.server.answer(asked[0], b"")
        else:
            module.server.no_answer(asked[0])
        module.effects = module.server.effects()
        asked = module.of(AskMcu)
    assert answered == [*range(1, MAX_WAITING + 2)]


def test_an_answer_for_a_client_that_left_is_dropped() -> None:
    module = Module()
    client = module.client(logged_in=True)
    module.say(client, READ)
    (asked,) = module.of(AskMcu)
    module.server.lost(client)
    other = module.client()
    module.server.answer(asked, b"\x03")
    assert module.sent(other) == b""


def test_a_stream_that_is_none_is_closed() -> None:
    module = Module()
    junk, long = module.client(), module.client(logged_in=True)
    module.say(junk, b"x" * 70_000)
    assert module.closed == [junk]
    module.say(long, bytes.fromhex("00000003ffffffff01"))
    assert module.closed == [long]
    test = module.client()
    assert module.say(test, encode_frame(0x17)) == encode_frame(0x18)
    assert module.of(LeaveTest)


# --- UDP


def test_discovery_new_and_as_v4() -> None:
    ask = bytes.fromhex("0000000303000003")
    new = Announcer(lambda: FACTS).datagram(ask)
    assert new is not None
    assert new[:5].hex() == "0000000370"
    found = messages.read_announcement(new[8:])
    assert found is not None
    assert (found.firmware, found.server, found.protocol) == ("04X3009R", "api.gizwits.com:80", "4.1.4")
    old = LanOptions(firmware_as_v4=True, tail=False)
    facts = dataclasses.replace(FACTS, cloud_firmware="04020021")
    answer = Announcer(lambda: facts, old).datagram(ask)
    assert answer is not None
    assert (len(answer), answer[4]) == (92, 0x57)
    unregistered = dataclasses.replace(FACTS, did="")
    answer = Announcer(lambda: unregistered, old).datagram(ask)
    assert answer == bytes.fromhex(
        "00000003390000040000000600163e002cac00000020"
        "30313233343536373839616263646566303132333435363738396162636465660000000000000000"
    )


@pytest.mark.parametrize(
    "wire",
    ["000000030300000300", "0000000304000003", "00000003", "", "000000030300001b", "000000030400009002"],
)
def test_other_datagrams_are_ignored(wire: str) -> None:
    assert Announcer(lambda: FACTS).datagram(bytes.fromhex(wire)) is None


def test_30_announcements_a_second_apart_then_0019_after_on_boarding() -> None:
    announcer = Announcer(lambda: FACTS)
    announcer.router_up(10.0)
    seen: list[tuple[float, int]] = []

    def play(until: float) -> None:
        while (due := announcer.next_timeout()) is not None and due < until:
            announcer.handle_timeout(due)
            for effect in announcer.effects():
                assert isinstance(effect, Broadcast)
                seen.append((due, effect.data[7]))

    play(1000)
    assert seen == [(10.0 + number, 0x05) for number in range(30)]
    seen.clear()
    announcer.configured()
    announcer.router_down()
    announcer.router_up(50.0)
    play(1000)
    assert seen == [(50.0 + number, 0x19) for number in range(30)]
    announcer.router_up(100.0)  # the flag is cleared
    assert announcer.next_timeout() is None


def test_router_data_are_taken_in_softap_mode_only() -> None:
    wire = bytes.fromhex("00000003130000010004686f6d6500083132333435363738")
    facts = FACTS
    announcer = Announcer(lambda: facts)
    assert announcer.datagram(wire) is None
    facts = dataclasses.replace(FACTS, onboarding=True)  # AirLink
    assert announcer.datagram(wire) is None
    facts = dataclasses.replace(FACTS, onboarding=True, soft_ap=True)
    assert announcer.datagram(wire) == encode_frame(0x02)
    assert announcer.effects() == [RouterDataGiven(messages.RouterData("home", "12345678"))]
    too_long = encode_frame(0x01, b"\0\x21" + b"s" * 33 + b"\0\0")
    assert announcer.datagram(too_long) == encode_frame(0x02)  # L10: acknowledged, not stored
    assert not [effect for effect in announcer.effects() if isinstance(effect, RouterDataGiven)]


# --- our end


class App:
    """Our client, with the effects of each step."""

    def __init__(self, passcode: str | None = PASSCODE) -> None:
        self.client = LanClient(passcode)
        self.effects: list[our_end.ClientEffect] = []

    def take(self) -> list[our_end.ClientEffect]:
        self.effects = self.client.effects()
        return self.effects

    @property
    def sent(self) -> bytes:
        return b"".join(each.data for each in self.effects if isinstance(each, our_end.Send))

    def hear(self, wire: bytes, now: float) -> list[our_end.ClientEffect]:
        self.client.data(wire, now)
        return self.take()

    def log_in(self, now: float = 0.0) -> None:
        self.client.start(now)
        self.client.connected(now)
        self.take()
        assert self.sent.endswith(LOGIN)
        assert our_end.LoggedIn() in self.hear(ACCEPTED, now)


def test_passcode_then_login() -> None:
    app = App(None)
    app.client.start(0.0)
    assert app.take() == [our_end.Connect()]
    app.client.connected(0.1)
    app.take()
    assert app.sent == encode_frame(0x06)
    app.hear(bytes.fromhex("000000030f000007000a49505152535455565758"), 0.2)
    assert our_end.PasscodeLearned(PASSCODE) in app.effects
    assert app.sent == LOGIN
    assert PASSCODE not in repr(app.effects)


@pytest.mark.parametrize("wire", ["00000003050000070000", "000000030f0000070000"])
def test_both_refusals_of_the_passcode_end_it(wire: str) -> None:
    app = App(None)
    app.client.start(0.0)
    app.client.connected(0.0)
    assert our_end.Refused("passcode") in app.hear(bytes.fromhex(wire), 0.0) + app.effects
    assert app.client.state is ClientState.STOPPED
    assert app.client.next_timeout() is None


def test_a_refused_login_ends_it() -> None:
    app = App()
    app.client.start(0.0)
    app.client.connected(0.0)
    assert our_end.Refused("login") in app.hear(REFUSED, 0.0)
    app.client.closed("closed by the module", 0.0)
    assert app.client.next_timeout() is None


def test_rubbish_after_a_refusal_changes_nothing() -> None:
    app = App()
    app.client.start(0.0)
    app.client.connected(0.0)
    app.hear(REFUSED + bytes.fromhex("00000003ffffffff"), 0.0)
    assert app.client.state is ClientState.STOPPED
    assert app.client.next_timeout() is None


def test_heartbeats_every_4_s_and_loss_after_12_s() -> None:
    app = App()
    app.log_in(100.0)
    for due in (104.0, 108.0):
        assert app.client.next_timeout() == due
        app.client.handle_timeout(due)
        app.take()
        assert app.sent == BEAT
    app.hear(BEATEN, 108.5)
    for due in (112.0, 116.0, 120.0):
        app.client.handle_timeout(due)
    assert app.client.state is ClientState.READY
    app.take()
    assert app.client.next_timeout() == 120.5
    app.client.handle_timeout(120.5)
    assert [each for each in app.take() if isinstance(each, our_end.SessionLost)]


def test_back_off_doubles_up_to_300_s_and_starts_again_after_a_login() -> None:
    app = App()
    app.client.start(0.0)
    now, waits = 0.0, []
    for _ in range(10):
        app.client.closed("connection refused", now)
        (lost,) = [each for each in app.take() if isinstance(each, our_end.SessionLost)]
        waits.append(lost.retry_in)
        now += lost.retry_in
        app.client.handle_timeout(now)
        assert our_end.Connect() in app.take()
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    app.client.connected(now)
    app.hear(ACCEPTED, now)
    app.client.closed("gone", now)
    assert our_end.SessionLost("gone", 2.0) in app.take()


@pytest.mark.parametrize("connected", [False, True])
def test_neither_connecting_nor_the_login_takes_longer_than_5_s(connected: bool) -> None:
    app = App()
    app.client.start(0.0)
    if connected:
        app.client.connected(1.0)
    due = app.client.next_timeout()
    assert due == (6.0 if connected else 5.0)
    app.client.handle_timeout(due)
    assert our_end.Close() in app.take()
    assert app.client.state is ClientState.WAITING


def test_one_request_of_a_kind_at_a_time() -> None:
    app = App()
    app.log_in()
    app.client.send_p0(b"\x01\x01", 0.0, token="first")
    app.client.send_p0(b"\x01\x02", 0.0, token="second")
    app.client.send_p0(b"\x02", 0.0, token="read", acked=False)
    app.take()
    assert app.sent == encode_frame(0x93, b"\x01\x01", 1) + READ
    app.hear(encode_frame(0x94, b"", 99), 0.5)  # of another request
    assert not [each for each in app.effects if isinstance(each, our_end.Answered)]
    app.hear(encode_frame(0x94, b"", 1), 1.0)
    assert app.sent == encode_frame(0x93, b"\x01\x02", 2)
    app.hear(bytes.fromhex("000000030d000091030302dc089d00000000"), 1.5)
    assert [each.token for each in app.effects if isinstance(each, our_end.Answered)] == ["read"]
    assert our_end.P0Arrived(bytes.fromhex("030302dc089d00000000")) in app.effects
    app.client.handle_timeout(4.0)
    app.client.handle_timeout(6.0)
    assert [each.token for each in app.take() if isinstance(each, our_end.Unanswered)] == ["second"]


def test_reports_come_at_any_time_and_the_rest_is_ignored() -> None:
    app = App()
    app.log_in()
    report = bytes.fromhex("000000030d000091040002dc097700000000")
    app.hear(ACCEPTED + encode_frame(0x62) + report + encode_frame(0x91), 1.0)  # a second 0009, 0062, empty
    p0s = [each.p0 for each in app.effects if isinstance(each, our_end.P0Arrived)]
    assert p0s == [bytes.fromhex("040002dc097700000000")]
    app.hear(encode_frame(0x93, b"\x04\x01", 0), 1.0)  # L19
    assert our_end.P0Arrived(b"\x04\x01") in app.effects
    assert app.client.state is ClientState.READY


def test_a_lost_session_tells_what_was_not_answered() -> None:
    app = App()
    app.log_in()
    app.client.send_p0(b"\x02", 0.0, token="read")
    app.client.closed("gone", 1.0)
    assert our_end.Unanswered("read", "gone") in app.take()
    with pytest.raises(our_end.TooManyRequests):
        app.client.send_p0(b"\x02", 1.0)


def test_the_two_ends_understand_each_other() -> None:
    module, app = Module(dataclasses.replace(FACTS, binding=True)), App(None)
    number = module.client()
    app.client.start(0.0)
    app.client.connected(0.0)
    app.take()
    for _ in range(2):
        app.hear(module.say(number, app.sent), 0.0)
    assert app.client.state is ClientState.READY
    app.client.send_p0(b"\x02", 0.0, token="read")
    app.take()
    module.say(number, app.sent)
    (asked,) = module.of(AskMcu)
    module.server.answer(asked, b"\x03\x07")
    assert our_end.P0Arrived(b"\x03\x07") in app.hear(module.sent(number), 0.0)
