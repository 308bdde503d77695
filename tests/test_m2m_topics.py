from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gizserial.errors import EncodeError
from gizserial.m2m.topics import (
    CLI2SER_REQ,
    MAX_CLIENT,
    MAX_TOPIC,
    TOPICS,
    Identity,
    Party,
    Topic,
    TopicKind,
    app2dev,
    dev2app,
    may_publish,
    may_subscribe,
    module_subscriptions,
    parse_topic,
    ser2cli_noti,
    ser2cli_res,
    sys_log,
)

DID = "SimDid0123456789ABCDEF"
OTHER = "OtherDid0123456789ABCD"
PK = "0123456789abcdef" * 2
CLIENT = "usr6U9jtyINX27hmwBGLV05"

DEVICE = Identity.device(DID, PK)
APP = Identity.app(CLIENT, [DID])
CLOUD = Identity(Party.CLOUD)

levels = st.text(
    st.characters(exclude_characters="+#/\x00", exclude_categories=["Cs"]), min_size=1, max_size=30
)


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        (f"app2dev/{DID}/{CLIENT}", Topic(TopicKind.APP2DEV, did=DID, client=CLIENT)),
        (f"dev2app/{DID}", Topic(TopicKind.DEV2APP, did=DID)),
        (f"dev2app/{DID}/{CLIENT}", Topic(TopicKind.DEV2APP_CLIENT, did=DID, client=CLIENT)),
        (f"ser2cli_res/{DID}", Topic(TopicKind.SER2CLI_RES, did=DID)),
        (f"ser2cli_noti/{PK}", Topic(TopicKind.SER2CLI_NOTI, pk=PK)),
        ("cli2ser_req", Topic(TopicKind.CLI2SER_REQ)),
        (f"sys/{DID}/log", Topic(TopicKind.SYS_LOG, did=DID)),
        (f"llm/{DID}/config/a/b", Topic(TopicKind.LLM, did=DID, rest="a/b")),
        (f"ser2cli_res/{CLIENT}/x/y", Topic(TopicKind.SER2CLI_APP, client=CLIENT, rest="x/y")),
    ],
)
def test_every_topic_is_taken_apart_and_put_together(text: str, topic: Topic) -> None:
    assert parse_topic(text) == topic
    assert str(topic) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app2dev",
        f"app2dev/{DID}",
        f"app2dev/{DID}/",
        f"app2dev//{CLIENT}",
        f"app2dev/{DID}/{CLIENT}/more",
        f"app2dev/{DID}/#",
        f"dev2app/{DID}/+",
        f"dev2app/{DID}\x00",
        f"sys/{DID}/other",
        "cli2ser_req/x",
        "$SYS/broker",
    ],
)
def test_what_is_no_topic_of_ours(text: str) -> None:
    assert parse_topic(text) is None


@given(st.text(max_size=80))
def test_any_text_is_parsed_to_what_it_says_or_to_nothing(text: str) -> None:
    topic = parse_topic(text)
    assert topic is None or str(topic) == text


@given(levels, levels)
def test_what_is_built_is_parsed(did: str, client: str) -> None:
    assert parse_topic(dev2app(did, client)) == Topic(
        TopicKind.DEV2APP_CLIENT, did=did, client=client[:MAX_CLIENT]
    )


def test_builders() -> None:
    assert app2dev(DID, CLIENT) == f"app2dev/{DID}/{CLIENT}"
    assert dev2app(DID) == f"dev2app/{DID}"
    assert dev2app(DID, CLIENT + "tail") == f"dev2app/{DID}/{CLIENT}"
    assert sys_log(DID) == f"sys/{DID}/log"
    assert module_subscriptions(DID, PK) == (ser2cli_noti(PK), ser2cli_res(DID), f"app2dev/{DID}/#")
    assert len(app2dev(DID, CLIENT)) <= MAX_TOPIC
    with pytest.raises(EncodeError, match="at most 23"):
        app2dev(DID, CLIENT + "x")
    for wrong in ("", "a/b", "#", "+"):
        with pytest.raises(EncodeError, match="cannot be part of a topic"):
            dev2app(wrong)


@pytest.mark.parametrize(
    ("who", "topic", "allowed"),
    [
        (DEVICE, f"dev2app/{DID}", True),
        (DEVICE, f"dev2app/{DID}/{CLIENT}", True),
        (DEVICE, CLI2SER_REQ, True),
        (DEVICE, f"sys/{DID}/log", True),
        (DEVICE, f"dev2app/{OTHER}", False),
        (DEVICE, f"dev2app/{OTHER}/{CLIENT}", False),
        (DEVICE, f"sys/{OTHER}/log", False),
        (DEVICE, f"app2dev/{DID}/{CLIENT}", False),
        (DEVICE, f"ser2cli_res/{DID}", False),
        (DEVICE, f"ser2cli_noti/{PK}", False),
        (DEVICE, "anything", False),
        (APP, f"app2dev/{DID}/{CLIENT}", True),
        (APP, f"app2dev/{DID}/somebody", False),
        (APP, f"app2dev/{OTHER}/{CLIENT}", False),
        (APP, f"dev2app/{DID}", False),
        (APP, CLI2SER_REQ, False),
        (CLOUD, f"app2dev/{DID}/{CLIENT}", True),
        (CLOUD, f"ser2cli_res/{DID}", True),
        (CLOUD, f"ser2cli_noti/{PK}", True),
        (CLOUD, f"dev2app/{DID}", False),
    ],
)
def test_who_may_publish(who: Identity, topic: str, allowed: bool) -> None:
    assert may_publish(who, topic) is allowed


@pytest.mark.parametrize(
    ("who", "topic_filter", "allowed"),
    [
        (DEVICE, f"ser2cli_noti/{PK}", True),
        (DEVICE, f"ser2cli_res/{DID}", True),
        (DEVICE, f"app2dev/{DID}/#", True),
        (DEVICE, f"app2dev/{DID}/+", True),
        (DEVICE, f"app2module/{DID}/#", True),
        (DEVICE, f"llm/{DID}/config/push", True),
        (DEVICE, f"app2dev/{OTHER}/#", False),
        (DEVICE, "app2dev/#", False),
        (DEVICE, "app2dev/+/#", False),
        (DEVICE, "+/+/+", False),
        (DEVICE, "#", False),
        (DEVICE, f"+/{DID}/#", False),
        (DEVICE, f"dev2app/{OTHER}", False),
        (DEVICE, f"dev2app/{DID}", False),
        (DEVICE, f"ser2cli_res/{OTHER}", False),
        (DEVICE, "ser2cli_res/+", False),
        (DEVICE, "ser2cli_noti/+", False),
        (DEVICE, "$SYS/#", False),
        (DEVICE, "", False),
        (DEVICE, f"app2dev/{DID}#", False),
        (APP, f"dev2app/{DID}", True),
        (APP, f"dev2app/{DID}/#", True),
        (APP, f"dev2app/{DID}/{CLIENT}", True),
        (APP, f"ser2cli_res/{CLIENT}/#", True),
        (APP, f"dev2app/{OTHER}", False),
        (APP, "dev2app/+", False),
        (APP, "dev2app/#", False),
        (APP, f"app2dev/{DID}/#", False),
        (APP, f"ser2cli_res/{DID}", False),
        (APP, "ser2cli_res/+/#", False),
        (CLOUD, "dev2app/#", True),
        (CLOUD, "a/#/b", False),
    ],
)
def test_who_may_subscribe(who: Identity, topic_filter: str, allowed: bool) -> None:
    assert may_subscribe(who, topic_filter) is allowed


def _matches(topic_filter: str, topic: str) -> bool:
    """MQTT's own rule, written differently from the code under test."""
    wanted, given_ = topic_filter.split("/"), topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(given_) or level not in {"+", given_[index]}:
            return False
    return len(wanted) == len(given_)


parts = st.sampled_from(
    ["app2dev", "dev2app", "ser2cli_res", "ser2cli_noti", "sys", "log", DID, OTHER, PK, CLIENT, "x"]
)


@given(
    st.lists(parts | st.sampled_from(["+", "#"]), min_size=1, max_size=4).map("/".join),
    st.sampled_from(["app2dev", "ser2cli_res", "ser2cli_noti", "llm", "sys", "dev2app"]),
    st.sampled_from([OTHER, "e" * 32]),
)
def test_no_filter_of_a_device_reaches_what_is_meant_for_another(
    topic_filter: str, first: str, other: str
) -> None:
    foreign = [f"{first}/{other}", f"{first}/{other}/{CLIENT}", f"{first}/{other}/log"]
    if may_subscribe(DEVICE, topic_filter):
        assert not any(_matches(topic_filter, topic) for topic in foreign)


def test_every_row_says_who_uses_it() -> None:
    assert len({spec.kind for spec in TOPICS}) == len(TOPICS) == len(TopicKind)
    for spec in TOPICS:
        assert spec.payload
        assert spec.subscribers, spec.kind
