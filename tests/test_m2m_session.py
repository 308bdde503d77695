from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_m2m import (
    CLIENT,
    DID,
    MAC,
    PK,
    SECRET,
    SERVER_TS,
    Bench,
    Cloud,
    entropy,
    error,
    gaps,
    new_identity,
)

from gizserial.errors import ValueOutOfRange
from gizserial.m2m import frames, http_cloud
from gizserial.m2m.effects import (
    AppCount,
    ClockSet,
    CloseMqtt,
    CloudLost,
    FirmwareCheck,
    FirmwareOffer,
    IdentityChanged,
    LoginRefused,
    OpenMqtt,
    P0Received,
    RebootAdvised,
    Rejected,
    SendMqtt,
    Trace,
)
from gizserial.m2m.frames import BusinessFrame
from gizserial.m2m.http import HttpRequest, Purpose, Server
from gizserial.m2m.identity import Identity, new_passcode
from gizserial.m2m.mqtt31 import Packet, PingReq, SubAck, Subscribe
from gizserial.m2m.requests import Versions
from gizserial.m2m.secure import decrypt_hex, encrypt_hex
from gizserial.m2m.session import CloudSession
from gizserial.m2m.topics import app2dev, dev2app, module_subscriptions, ser2cli_res

OTHER_PK = "fedcba9876543210" * 2
BOOT = [Purpose.REGISTER, Purpose.PROVISION, Purpose.OTA_CHECK, Purpose.OTA_CHECK]


def bench(identity: Identity | None = None, *, cloud: Cloud | None = None, **options: Any) -> Bench:
    session = CloudSession(identity or new_identity(), Server("api.gizwits.com"), entropy=entropy, **options)
    return Bench(session, cloud or Cloud(options.get("product_secret")))


def online(identity: Identity | None = None, **options: Any) -> Bench:
    made = bench(identity or new_identity(did=DID), **options)
    made.boot()
    assert made.online
    return made


# --- boot


def test_boot_registers_provisions_and_connects() -> None:
    b = bench()
    b.boot()
    assert b.online
    assert b.requests == BOOT
    assert b.stored == b.session.identity == dataclasses.replace(new_identity(), did=DID, generation="g1")
    assert b.all(OpenMqtt) == [OpenMqtt("m2m.local", 1883)]
    assert b.all(ClockSet) == [ClockSet(SERVER_TS)]
    assert b.cloud.subscriptions == list(module_subscriptions(DID, PK))
    (connect,) = b.cloud.connects
    assert connect.encode().hex().startswith("104800064d514973647003c20078")
    assert (connect.user, connect.password) == (DID, b"ABCDEFGHIJ")


def test_the_did_is_stored_before_it_is_used() -> None:
    b = bench()
    b.boot()
    kinds = [type(effect) for _, effect in b.log if not isinstance(effect, Trace)]
    assert kinds[:3] == [HttpRequest, IdentityChanged, HttpRequest]


def test_boot_with_a_did_goes_straight_to_provisioning() -> None:
    assert online().requests == BOOT[1:]


def test_the_checks_report_both_versions() -> None:
    b = online(module=Versions("ESP8266A", "04020006"), mcu=Versions("00000001", "03030000"))
    raws = [r.raw.decode() for r in b.all(HttpRequest) if r.purpose is Purpose.OTA_CHECK]
    assert "&type=1&hard_version=ESP8266A&soft_version=04020006" in raws[0]
    assert "&type=2&hard_version=00000001&soft_version=03030000" in raws[1]


def test_nothing_is_sent_without_router_or_product_key() -> None:
    b = bench(Identity(mac=MAC))
    assert b.session.phase == "stopped"
    b.session.start(0)
    assert b.session.next_timeout() is None
    b.session.router_up(0)
    b.settle()
    assert b.session.phase == "waiting for the product key"
    b.run(1000)
    assert b.requests == []
    b.session.product("short", b.now)
    b.settle()
    assert b.requests == []
    b.session.product(PK, b.now)
    b.settle()
    assert b.online


def test_damaged_identities_are_mended_at_boot() -> None:
    identity = Identity(mac=MAC, product_key=PK, did="tooshort", passcode="x", generation="g2")
    b = bench(identity)
    b.session.start(0)
    b.settle()
    assert b.stored == Identity(mac=MAC, product_key=PK, passcode="ABCDEFGHIJ")
    with pytest.raises(ValueOutOfRange):
        Identity(mac="00:16:3e:00:2c:ac")


@given(st.binary(min_size=10, max_size=10))
def test_passcodes_are_ten_letters_a_to_y(data: bytes) -> None:
    passcode = new_passcode(lambda _: data)
    assert len(passcode) == 10
    assert set(passcode) <= set("ABCDEFGHIJKLMNOPQRSTUVWXY")


# --- HTTP retries


def test_http_timeouts_grow_by_ten_seconds() -> None:
    cloud = Cloud()
    cloud.answers[Purpose.REGISTER] = None
    b = bench(cloud=cloud)
    b.boot()
    b.run(20_000)
    waited = gaps(b.times(HttpRequest))
    assert waited[:4] == [5, 15, 25, 35]
    assert max(waited) == waited[-1] == 600
    assert b.requests == [Purpose.REGISTER] * len(b.requests)
    cloud.answers[Purpose.REGISTER] = (201, f"did={DID}".encode())
    cloud.answers[Purpose.PROVISION] = None
    start = len(b.log)
    b.run(660)
    provisions = [
        when for when, effect in b.log[start:] if getattr(effect, "purpose", 0) is Purpose.PROVISION
    ]
    assert gaps(provisions)[:3] == [5, 15, 25]


def test_a_wrong_answer_is_repeated_at_the_timeout() -> None:
    cloud = Cloud()
    cloud.answers[Purpose.REGISTER] = error(9008, 500)
    b = bench(cloud=cloud)
    b.boot()
    b.run(20)
    assert b.times(HttpRequest) == [0, 5, 20]
    assert b.all(Rejected)[0] == Rejected(Purpose.REGISTER, 500, 9008, "said by the test")


def test_a_failed_connection_is_repeated_at_the_timeout() -> None:
    cloud = Cloud()
    cloud.answers[Purpose.REGISTER] = None
    b = bench(cloud=cloud)
    b.boot()
    b.session.http_failed(0.1)
    b.run(5)
    assert b.times(HttpRequest) == [0, 5]


def test_answers_of_abandoned_requests_are_ignored() -> None:
    cloud = Cloud()
    cloud.answers[Purpose.REGISTER] = None
    b = bench(cloud=cloud)
    b.boot()
    b.run(5)
    first, second = b.all(HttpRequest)
    b.session.http_answer(201, f"did={DID}".encode(), b.now, first)
    assert b.session.identity.did == ""
    b.session.http_answer(201, f"did={DID}".encode(), b.now, second)
    assert b.session.identity.did == DID
    b.session.stop(b.now)
    b.session.http_answer(200, b"", b.now)


def test_ten_timeouts_in_a_row_ask_for_the_address_again() -> None:
    cloud = Cloud()
    cloud.answers[Purpose.OTA_CHECK] = None
    b = online(cloud=cloud)
    b.run(sum(5 + 10 * n for n in range(10)))
    assert b.requests == [Purpose.PROVISION, *[Purpose.OTA_CHECK] * 10, Purpose.PROVISION, Purpose.OTA_CHECK]


def test_hourly_time_synchronisation() -> None:
    b = online()
    b.run(3 * 3600)
    assert b.times(HttpRequest, Purpose.TIME) == [3600, 7200, 10800]
    assert len(b.all(ClockSet)) == 4
    assert b.requests[3:] == [Purpose.TIME] * 3
    assert b.all(CloudLost) == []
    assert b.all(RebootAdvised) == []


def test_two_hours_without_http_are_told_but_not_acted_upon() -> None:
    cloud = Cloud()
    cloud.answers[Purpose.REGISTER] = None
    b = bench(cloud=cloud)
    b.boot()
    b.run(4 * 3600)
    assert b.times(RebootAdvised) == [7200, 14400]
    assert b.times(HttpRequest)[-1] > 14_000 - 600


def test_an_offer_is_an_event() -> None:
    cloud = Cloud()
    offer = http_cloud.offer_answer("04020021", "http://ota.local/fw/7072.bin")
    cloud.answers[Purpose.OTA_CHECK] = lambda r: (
        (200, offer.encode()) if r.firmware_type == 1 else error(9502)
    )
    b = online(cloud=cloud, module=Versions("00000001", "04020006"))
    assert b.all(FirmwareOffer) == [FirmwareOffer(1, "04020021", "http://ota.local/fw/7072.bin", newer=True)]
    assert b.stored is not None
    assert b.stored.soft_version == "04020021"


def test_the_mcu_may_ask_for_its_firmware() -> None:
    b = online()
    b.session.query_firmware(b.now)
    b.settle()
    assert b.requests[-1] is Purpose.LATEST
    assert b.all(Rejected)[-1].code == 9500


# --- MQTT: back-off, pings, refusals


def test_reconnects_back_off_to_ten_minutes() -> None:
    b = online()
    b.cloud.reachable = False
    b.now = 100
    b.drop()
    b.run(100_000)
    attempts = b.times(OpenMqtt)[1:]
    waited = gaps(attempts)
    # At once after the loss, and again at once; then 5, 15, 25 ... 595, 600, 600.
    assert attempts[0] == 100
    assert waited[:60] == [5.0 + 10 * n for n in range(60)]
    assert set(waited[60:]) == {600}
    # The hourly GET goes on, and so does the provisioning after every tenth failure.
    assert b.requests.count(Purpose.PROVISION) == 1 + len(attempts) // 10
    assert [event.reason for event in b.all(RebootAdvised)] == ["no MQTT session for about two hours"]
    b.cloud.reachable = True
    b.run(600)
    assert b.session.connected
    b.drop()
    assert b.session.connected, "after success the first attempt is immediate again"


def test_a_server_that_lets_in_and_closes_is_asked_once_a_second() -> None:
    """§7.4: a loss is seen at the next tick of 1 s; every session that comes up clears the back-off."""
    b = online()
    for _ in range(5):
        b.drop()
        b.drop()  # nothing is open: ignored
        b.run(1.0)
    assert b.times(OpenMqtt) == [0, 1, 2, 3, 4, 5]
    assert b.session.connected


def test_after_ten_failed_connections_the_address_of_the_provisioning_is_a_new_one() -> None:
    """§7.4: 10 failed connects → provision again."""
    b = bench(new_identity(did=DID))
    b.cloud.reachable = False
    b.boot()
    b.cloud.answers[Purpose.PROVISION] = (
        200,
        http_cloud.provision_answer("new.local", 1884, SERVER_TS).encode(),
    )
    b.run(410.0)
    assert [(event.host, event.port) for event in b.all(OpenMqtt)] == [
        *[("m2m.local", 1883)] * 10,
        ("new.local", 1884),
    ]
    assert b.times(HttpRequest, Purpose.PROVISION) == [0, 320]


def test_http_timeouts_stop_growing_at_ten_minutes() -> None:
    """§4.6: 5 s, +10 s, cap 600 s, and never an end."""
    b = bench()
    b.cloud.answers[Purpose.REGISTER] = None
    b.boot()
    b.run(50_000)
    assert gaps(b.times(HttpRequest))[:65] == [min(5.0 + 10 * n, 600.0) for n in range(65)]


def test_first_connection_that_fails_backs_off_too() -> None:
    cloud = Cloud()
    cloud.reachable = False
    b = bench(new_identity(did=DID), cloud=cloud)
    b.boot()
    b.run(100)
    assert b.times(OpenMqtt) == [0, 0, 5, 20, 45, 80]


def test_pings_every_fifty_seconds_from_the_start() -> None:
    b = online()
    b.run(200)
    pings = [when for when, e in b.log if isinstance(e, SendMqtt) and e.data == PingReq().encode()]
    assert pings == [0, 50, 100, 150, 200]


def test_a_short_keep_alive_is_kept_alive() -> None:
    b = online(keep_alive=30)
    b.run(30)
    assert sum(isinstance(e, SendMqtt) and e.data == PingReq().encode() for _, e in b.log) == 3
    assert b.cloud.connects[0].keep_alive == 30


def test_three_lost_pings_drop_the_connection() -> None:
    b = online()
    b.cloud.pings = False
    b.run(199)
    # The ping of the start was answered; those of 50, 100 and 150 s are not, the next is due at 200 s.
    assert b.all(CloudLost) == []
    b.run(1)
    assert b.times(CloseMqtt) == [200]
    assert b.times(CloudLost) == [200]
    assert b.times(OpenMqtt) == [0, 200]
    assert b.session.connected


def test_one_answer_clears_the_count() -> None:
    b = online()
    for _ in range(5):
        b.cloud.pings = False
        b.run(100)
        b.cloud.pings = True
        b.run(50)
    assert b.all(CloudLost) == []


def test_a_mute_server_is_given_up() -> None:
    class Mute(Cloud):
        def mqtt(self, packet: Packet) -> None:
            pass

    b = bench(new_identity(did=DID), cloud=Mute())
    b.boot()
    b.run(40)
    assert b.times(CloseMqtt) == [10, 20, 35]
    assert not b.session.connected


def test_refusal_in_g1_retries_and_provisions_after_ten() -> None:
    cloud = Cloud()
    cloud.connack = 4
    b = bench(new_identity(did=DID), cloud=cloud)
    b.boot()
    b.run(sum(5 + 10 * n for n in range(8)))
    assert len(b.all(LoginRefused)) == 10
    assert b.requests.count(Purpose.PROVISION) == 2
    assert Purpose.REGISTER not in b.requests
    assert b.times(OpenMqtt)[:5] == [0, 0, 5, 20, 45]


@pytest.mark.parametrize(
    ("options", "registrations"),
    [
        ({"when_refused": "register"}, True),
        ({"when_refused": "retry"}, False),
        ({"product_secret": SECRET}, True),
        ({"product_secret": SECRET, "when_refused": "retry"}, False),
    ],
)
def test_refusal_may_register_again(options: dict[str, Any], registrations: bool) -> None:
    cloud = Cloud(options.get("product_secret"))
    cloud.connack = 5
    identity = dataclasses.replace(
        new_identity(did=DID), generation="g2" if "product_secret" in options else "g1"
    )
    b = bench(identity, cloud=cloud, **options)
    b.boot()
    b.run(60)
    assert b.times(OpenMqtt) == [0, 0, 5, 20, 45], "registering does not outrun the back-off"
    assert (b.requests.count(Purpose.REGISTER) == 5) is registrations
    cloud.connack = 0
    b.run(60)
    assert b.session.connected


def test_other_refusals_only_retry() -> None:
    cloud = Cloud()
    cloud.connack = 3
    b = bench(new_identity(did=DID), cloud=cloud, when_refused="register")
    b.boot()
    b.run(10)
    assert b.all(LoginRefused) == [LoginRefused(3)] * 3
    assert Purpose.REGISTER not in b.requests


def test_a_cloud_that_forgot_the_device_gets_a_new_registration() -> None:
    b = online()
    b.cloud.answers[Purpose.TIME] = error(9014, 404)
    b.cloud.answers[Purpose.REGISTER] = (201, b"did=NewDid0123456789ABCDEF")
    b.run(3600)
    assert b.session.identity.did == "NewDid0123456789ABCDEF"
    assert b.session.connected
    assert b.cloud.connects[-1].user == "NewDid0123456789ABCDEF"


def test_a_cloud_that_forgets_at_once_is_not_hammered() -> None:
    cloud = Cloud()
    cloud.answers[Purpose.PROVISION] = error(9014, 404)
    b = bench(cloud=cloud)
    b.boot()
    b.run(600)
    assert len(b.requests) < 40


def test_a_faithful_module_never_registers_again() -> None:
    cloud = Cloud()
    cloud.answers[Purpose.PROVISION] = error(9014, 404)
    b = bench(new_identity(did=DID), cloud=cloud, when_refused="retry")
    b.boot()
    b.run(3600)
    assert set(b.requests) == {Purpose.PROVISION}


def test_garbage_of_the_server_closes_and_reconnects() -> None:
    b = online()
    b.run(1.0)
    b.session.mqtt_data(b"\x00\x01\x02", b.now)
    b.settle()
    assert len(b.all(CloseMqtt)) == 1
    assert b.session.connected


def test_a_foreign_suback_is_ignored_and_a_refused_one_matters_at_the_end() -> None:
    b = online()
    b.session.mqtt_data(SubAck(9, b"\x00").encode(), b.now)
    b.settle()
    assert b.session.connected

    class Refusing(Cloud):
        def mqtt(self, packet: Packet) -> Packet | None:
            if isinstance(packet, Subscribe):
                return SubAck(packet.packet_id, b"\x80")
            return super().mqtt(packet)

    refused = bench(new_identity(did=DID), cloud=Refusing())
    refused.boot()
    assert not refused.session.connected
    assert "app2dev" in refused.all(CloseMqtt)[0].reason


def test_router_lost_and_back() -> None:
    b = online()
    b.session.router_down(10)
    b.settle()
    assert b.session.phase == "no router"
    assert b.session.next_timeout() is None
    assert len(b.all(CloudLost)) == 1
    sent = len(b.log)
    b.run(10_000)
    assert len(b.log) == sent
    b.session.router_up(b.now)
    b.settle()
    assert b.session.connected
    assert b.requests[3:] == [Purpose.PROVISION], "versions are reported once per boot"


def test_no_disconnect_is_ever_sent() -> None:
    b = online()
    b.session.stop(1)
    b.settle()
    assert all(e.data[0] >> 4 != 14 for e in b.all(SendMqtt))
    assert b.all(CloseMqtt) == [CloseMqtt("the module stopped")]


# --- identity events


def test_another_product_is_a_new_device() -> None:
    b = online()
    b.session.product(PK, 5)
    b.settle()
    assert len(b.all(IdentityChanged)) == 0
    b.cloud.answers[Purpose.REGISTER] = (201, b"did=NewDid0123456789ABCDEF")
    b.session.product(OTHER_PK, 5)
    b.settle()
    first = b.all(IdentityChanged)[0].identity
    assert (first.did, first.product_key, first.old_did, first.old_passcode) == (
        "",
        OTHER_PK,
        DID,
        "ABCDEFGHIJ",
    )
    assert b.requests[3:] == [*BOOT, Purpose.UNREGISTER]
    assert b.all(HttpRequest)[-1].raw.endswith(f"did={DID}&passcode=ABCDEFGHIJ".encode())
    assert b.session.identity.did == "NewDid0123456789ABCDEF"
    assert b.session.identity.old_did == ""
    assert b.session.connected


def test_reset_unregisters_now_and_after_the_reboot() -> None:
    b = online()
    b.session.reset(10)
    b.settle()
    delete = b.all(HttpRequest)[-1]
    assert (delete.method, delete.awaited) == ("DELETE", False)
    kinds = [type(e) for _, e in b.log if isinstance(e, IdentityChanged | HttpRequest | CloseMqtt)]
    assert kinds[-3:] == [CloseMqtt, IdentityChanged, HttpRequest], "stored before it is told"
    assert b.session.next_timeout() is None
    b.session.http_answer(200, b"", 10.5, delete)
    assert b.session.identity.old_did == DID
    assert b.stored is not None
    assert b.stored.reset_pending
    b.now = 12
    start = len(b.requests)
    b.boot()
    assert b.requests[start:] == [*BOOT, Purpose.UNREGISTER]
    assert b.session.identity.old_did == ""
    assert not b.session.identity.reset_pending


def test_an_old_did_is_kept_until_the_cloud_confirms() -> None:
    identity = dataclasses.replace(new_identity(did=DID), old_did="O" * 22, old_passcode="ABCDEFGHIJ")
    cloud = Cloud()
    cloud.answers[Purpose.UNREGISTER] = error(9016)
    b = online(identity, cloud=cloud)
    b.run(3000)
    assert b.requests.count(Purpose.UNREGISTER) == 1
    assert b.session.identity.old_did == "O" * 22
    cloud.answers[Purpose.UNREGISTER] = (200, b"")
    b.session.stop(b.now)
    b.settle()
    b.boot()
    assert b.session.identity.old_did == ""
    assert b.session.connected


def test_reset_without_a_registration_sends_nothing() -> None:
    b = bench()
    b.session.start(0)
    b.session.reset(0)
    b.settle()
    assert b.requests == []
    assert b.session.identity.old_did == ""


# --- generations


def test_g2_registers_encrypted_and_omits_the_notices() -> None:
    b = bench(product_secret=SECRET)
    b.boot()
    assert b.online
    assert b.requests == BOOT
    register, provision = b.all(HttpRequest)[:2]
    assert register.target == f"/dev/{PK}/device"
    assert provision.target == f"/dev/{PK}/device?did={encrypt_hex(SECRET, DID)}"
    assert b.cloud.subscriptions == list(module_subscriptions(DID, PK)[1:])
    assert b.session.identity.generation == "g2"
    assert SECRET not in repr(b.log)


def test_the_first_registration_after_on_boarding_carries_the_random_code(
    vectors: Callable[[str], Any],
) -> None:
    """§5.1, §5.4: by it an app finds its device; what comes later is no on-boarding."""
    row = vectors("device_cloud.json")["random_code"]
    b = bench(product_secret=SECRET)
    b.session.onboarded(row["ssid"], row["password"])
    b.boot()
    b.session.reset(b.now)
    b.settle()
    b.boot()
    first, second = (
        decrypt_hex(SECRET, request.raw.rpartition(b"data=")[2].decode())
        for request in b.all(HttpRequest)
        if request.purpose is Purpose.REGISTER
    )
    assert first.endswith(f"&type=normal&random_code={row['code']}&lan_proto_ver=v5.0")
    assert second.endswith("&type=normal&is_reset=1")


def test_auto_falls_back_when_the_cloud_does_not_know_the_secret() -> None:
    cloud = Cloud()
    plain = (201, http_cloud.register_answer(DID).encode())
    cloud.answers[Purpose.REGISTER] = lambda r: plain if r.target == "/dev/devices" else error(9015)
    b = bench(cloud=cloud, product_secret=SECRET)
    b.boot()
    assert b.online
    assert b.now == 0, "at once, not after a time-out"
    assert b.session.identity.generation == "g1"
    assert b.cloud.subscriptions == list(module_subscriptions(DID, PK))
    b.session.stop(5)
    b.boot()
    assert b.all(HttpRequest)[-3].target == f"/dev/devices/{DID}", "remembered over a restart"


def test_both_generations_refused_keeps_the_pace_of_the_timeouts() -> None:
    cloud = Cloud()
    cloud.answers[Purpose.REGISTER] = error(9002)
    b = bench(cloud=cloud, product_secret=SECRET)
    b.boot()
    b.run(19)
    assert b.times(HttpRequest) == [0, 0, 5, 5]


def test_an_answer_under_another_secret_is_told() -> None:
    cloud = Cloud("f" * 32)
    b = bench(cloud=cloud, product_secret=SECRET, generation="g2")
    b.boot()
    assert not b.session.connected
    assert "another product secret" in b.all(Rejected)[0].message


def test_g1_ignores_a_secret_and_g2_needs_one() -> None:
    b = online(product_secret=SECRET, generation="g1", cloud=Cloud())
    assert b.cloud.subscriptions == list(module_subscriptions(DID, PK))
    secretless = bench(generation="g2")
    secretless.boot()
    assert secretless.requests == []
    assert secretless.session.phase == "waiting for the product secret"
    secretless.session.product(PK, 0.0, product_secret=SECRET)
    secretless.settle()
    assert secretless.requests[0] is Purpose.REGISTER
    odd = bench(product_secret="not hex", cloud=Cloud())
    odd.boot()
    assert odd.session.identity.generation == "g1"


# --- P0


def control(sn: int | None, p0: bytes = b"\x01\x01\x01") -> bytes:
    return BusinessFrame(0x90 if sn is None else 0x93, p0, sn).encode()


def test_a_control_with_sn_is_answered_to_its_app() -> None:
    b = online()
    b.deliver(app2dev(DID, CLIENT), control(7))
    (request,) = b.all(P0Received)
    assert (request.client, request.command, request.sn, request.payload) == (
        CLIENT,
        0x93,
        7,
        b"\x01\x01\x01",
    )
    assert b.session.answer(request, b"", b.now)
    b.settle()
    assert [(p.topic, p.payload.hex()) for p in b.cloud.published] == [
        (dev2app(DID, CLIENT), "000000030700009400000007")
    ]


def test_a_control_without_sn_is_answered_to_all() -> None:
    b = online()
    b.deliver(app2dev(DID, CLIENT), control(None, b"\x02"))
    assert b.session.answer(b.all(P0Received)[0], b"", b.now)
    b.settle()
    assert [(p.topic, p.payload.hex()) for p in b.cloud.published] == [(dev2app(DID), "0000000303000091")]


def test_one_request_at_a_time_and_the_others_wait() -> None:
    b = online()
    for sn in range(1, 20):
        b.deliver(app2dev(DID, CLIENT), control(sn))
    assert len(b.all(P0Received)) == 1
    assert sum("dropped a request" in t.text for t in b.all(Trace)) == 2, "one pending, sixteen waiting"
    for sn in range(1, 18):
        request = b.all(P0Received)[-1]
        assert request.sn == sn
        if sn % 2:
            b.session.answer(request, b"", b.now)
        else:
            b.session.no_answer(request, b.now)
        b.settle()
    assert len(b.all(P0Received)) == 17
    assert len(b.cloud.published) == 9


def test_a_silent_mcu_publishes_nothing_and_blocks_nobody() -> None:
    b = online()
    b.deliver(app2dev(DID, CLIENT), control(1))
    b.deliver(app2dev(DID, CLIENT), control(1))
    first = b.all(P0Received)[0]
    b.run(10)
    second = b.all(P0Received)[1]
    assert not b.session.answer(first, b"", b.now)
    assert b.session.answer(second, b"", b.now)
    assert not b.session.answer(second, b"", b.now)
    b.settle()
    assert len(b.cloud.published) == 1


def test_requests_of_a_lost_connection_are_over() -> None:
    b = online()
    b.deliver(app2dev(DID, CLIENT), control(1))
    b.deliver(app2dev(DID, CLIENT), control(2))
    b.run(1.0)
    b.drop()
    assert b.session.connected
    assert not b.session.answer(b.all(P0Received)[0], b"", b.now)
    b.deliver(app2dev(DID, CLIENT), control(3))
    assert [request.sn for request in b.all(P0Received)] == [1, 3]


def test_reports_go_to_all_when_connected_and_nowhere_else() -> None:
    b = bench(new_identity(did=DID))
    assert not b.session.publish_report(b"\x04\x01", 0)
    b.boot()
    assert b.session.publish_report(bytes.fromhex("030302dc089d00000000"), 0)
    b.settle()
    data = b.all(SendMqtt)[-1].data
    assert data.hex() == (
        "3032001e646576326170702f53696d44696430313233343536373839414243444546000000030d000091030302dc089d00000000"
    )
    with pytest.raises(ValueOutOfRange):
        b.session.publish_report(bytes(65_533), 0)


def test_what_is_not_for_us_is_ignored() -> None:
    b = online()
    b.deliver(app2dev("O" * 22, CLIENT), control(1))
    b.deliver(app2dev(DID, CLIENT), b"\x00\x00\x00\x03\x02\x00\x90")
    b.deliver(app2dev(DID, CLIENT), BusinessFrame(0x91, b"\x04").encode())
    b.deliver(f"ser2cli_noti/{PK}", b"anything")
    b.deliver("some/topic", b"")
    b.deliver(ser2cli_res(DID), b"\x00")
    b.deliver(ser2cli_res(DID), frames.encode_control(frames.UnknownControl(0x0299, b"")))
    assert b.all(P0Received) == []
    assert len(b.all(Trace)) == 7
    assert b.session.connected


def test_count_of_apps() -> None:
    b = online()
    b.deliver(ser2cli_res(DID), frames.encode_control(frames.AppCount(2)))
    assert b.session.app_count == 2
    b.drop()
    assert b.all(AppCount) == [AppCount(2), AppCount(0)]


def test_the_cloud_asks_to_check_one_firmware() -> None:
    b = online()
    b.deliver(ser2cli_res(DID), frames.encode_control(frames.CheckFirmware(2, DID)))
    b.deliver(ser2cli_res(DID), frames.encode_control(frames.CheckFirmware(7)))
    assert b.all(FirmwareCheck) == [FirmwareCheck(2)]
    b.run(5)
    assert [r.firmware_type for r in b.all(HttpRequest)] == [0, 1, 2, 2]


# --- properties


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=10))
def test_no_bytes_of_a_server_raise(chunks: list[bytes]) -> None:
    b = online()
    for chunk in chunks:
        b.session.mqtt_data(chunk, b.now)
        b.settle()
        b.run(1)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["drop", "down", "up", "reset", "boot", "wait", "pk"]), st.integers(1, 900))
    )
)
def test_whatever_happens_it_comes_back_online(events: list[tuple[str, int]]) -> None:
    b = bench()
    b.boot()
    for name, seconds in events:
        match name:
            case "drop":
                b.drop()
            case "down":
                b.session.router_down(b.now)
            case "up":
                b.session.router_up(b.now)
            case "reset":
                b.session.reset(b.now)
            case "boot":
                b.boot()
            case "pk":
                b.session.product(OTHER_PK if seconds % 2 else PK, b.now)
        b.settle()
        b.run(seconds)
    b.boot()
    assert b.session.connected
    assert b.stored == b.session.identity
    assert b.session.identity.old_did == ""
