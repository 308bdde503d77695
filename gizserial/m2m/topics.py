"""All topics between module, cloud and apps, and who may use them (device-cloud.md §7.2, §7.3).

:data:`TOPICS` is the one table: the cloud's isolation filter asks it through :func:`may_publish` and
:func:`may_subscribe`, and the documentation prints it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable
from typing import Final

from gizserial.errors import EncodeError, ValueOutOfRange

MAX_CLIENT: Final = 23
"""Longest client part in characters; [V4] cuts longer ones to this."""
MAX_TOPIC: Final = 120
"""Longest topic in bytes that a module has room for (device-cloud.md §12.3)."""


class Party(enum.Enum):
    """Who speaks on a topic."""

    DEVICE = "device"
    APP = "app"
    CLOUD = "cloud"


class TopicKind(enum.Enum):
    """What a topic is for; the value is its first level."""

    APP2DEV = "app2dev"
    DEV2APP = "dev2app"
    DEV2APP_CLIENT = "dev2app client"
    SER2CLI_RES = "ser2cli_res"
    SER2CLI_NOTI = "ser2cli_noti"
    CLI2SER_REQ = "cli2ser_req"
    SYS_LOG = "sys log"
    APP2MODULE = "app2module"
    LLM = "llm"
    SER2CLI_APP = "ser2cli_res client"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """One row: how a topic is spelled, who publishes to it, who subscribes to it."""

    kind: TopicKind
    template: str
    """Levels; ``{did}``, ``{pk}``, ``{client}`` and ``{rest}`` (one or more levels) are variables."""
    publishers: frozenset[Party]
    subscribers: frozenset[Party]
    payload: str
    section: str

    @property
    def levels(self) -> tuple[str, ...]:
        """The template, level by level."""
        return tuple(self.template.split("/"))


_DEVICE, _APP, _CLOUD = (frozenset({party}) for party in (Party.DEVICE, Party.APP, Party.CLOUD))
_NOBODY: frozenset[Party] = frozenset()

TOPICS: Final = (
    TopicSpec(
        kind=TopicKind.APP2DEV,
        template="app2dev/{did}/{client}",
        publishers=_APP | _CLOUD,
        subscribers=_DEVICE,
        payload="business frame 0090 or 0093",
        section="8.1",
    ),
    TopicSpec(
        kind=TopicKind.DEV2APP,
        template="dev2app/{did}",
        publishers=_DEVICE,
        subscribers=_APP | _CLOUD,
        payload="business frame 0091",
        section="8.2",
    ),
    TopicSpec(
        kind=TopicKind.DEV2APP_CLIENT,
        template="dev2app/{did}/{client}",
        publishers=_DEVICE,
        subscribers=_APP | _CLOUD,
        payload="business frame 0094",
        section="8.1",
    ),
    TopicSpec(
        kind=TopicKind.SER2CLI_RES,
        template="ser2cli_res/{did}",
        publishers=_CLOUD,
        subscribers=_DEVICE,
        payload="control message to the module",
        section="9.1",
    ),
    TopicSpec(
        kind=TopicKind.SER2CLI_NOTI,
        template="ser2cli_noti/{pk}",
        publishers=_CLOUD,
        subscribers=_DEVICE,
        payload="notice to every module of a product, content undefined",
        section="7.2",
    ),
    TopicSpec(
        kind=TopicKind.CLI2SER_REQ,
        template="cli2ser_req",
        publishers=_DEVICE,
        subscribers=_CLOUD,
        payload="control message to the cloud",
        section="9.2",
    ),
    TopicSpec(
        kind=TopicKind.SYS_LOG,
        template="sys/{did}/log",
        publishers=_DEVICE,
        subscribers=_CLOUD,
        payload="JSON log line (G3)",
        section="9.6",
    ),
    TopicSpec(
        kind=TopicKind.APP2MODULE,
        template="app2module/{did}/{client}",
        publishers=_NOBODY,
        subscribers=_DEVICE,
        payload="subscribed by a cellular module, never used",
        section="7.2",
    ),
    TopicSpec(
        kind=TopicKind.LLM,
        template="llm/{did}/config/{rest}",
        publishers=_NOBODY,
        subscribers=_DEVICE,
        payload="JSON of G3 voice products, never answered",
        section="7.3",
    ),
    TopicSpec(
        kind=TopicKind.SER2CLI_APP,
        template="ser2cli_res/{client}/{rest}",
        publishers=_CLOUD,
        subscribers=_APP,
        payload="cloud to app",
        section="7.3",
    ),
)
"""Every topic. A topic is what the first row that fits says it is."""


@dataclasses.dataclass(frozen=True, slots=True)
class Topic:
    """A topic taken apart. ``str()`` puts it together again."""

    kind: TopicKind
    did: str | None = None
    pk: str | None = None
    client: str | None = None
    rest: str | None = None

    def __str__(self) -> str:
        parts = {"did": self.did, "pk": self.pk, "client": self.client, "rest": self.rest}
        return _BY_KIND[self.kind].template.format(**parts)


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """Who a connection belongs to, as far as topics are concerned.

    ``dids`` and ``pks`` are the device's own, or those an app is bound to. ``clients`` are the client parts
    that this party may write as. What is None is not limited.
    """

    party: Party
    dids: frozenset[str] | None = None
    pks: frozenset[str] | None = None
    clients: frozenset[str] | None = None

    @classmethod
    def device(cls, did: str, pk: str) -> Identity:
        """A module: its own did and product; it answers to any client."""
        return cls(Party.DEVICE, dids=frozenset({did}), pks=frozenset({pk}))

    @classmethod
    def app(cls, client: str, dids: Iterable[str]) -> Identity:
        """An app: speaks to the devices it is bound to, under its own client id only."""
        return cls(Party.APP, dids=frozenset(dids), pks=frozenset(), clients=frozenset({client[:MAX_CLIENT]}))

    def _allows(self, variable: str, level: str) -> bool:
        allowed = {"{did}": self.dids, "{pk}": self.pks, "{client}": self.clients}.get(variable)
        return allowed is None or level in allowed

    def _limits(self, variable: str) -> bool:
        return {"{did}": self.dids, "{pk}": self.pks, "{client}": self.clients}.get(variable) is not None


_BY_KIND: Final = {spec.kind: spec for spec in TOPICS}


def _is_variable(level: str) -> bool:
    return level.startswith("{")


def _fits(spec: TopicSpec, levels: list[str]) -> bool:
    """Whether the levels of a topic (no wildcards) are those of this row."""
    pattern = spec.levels
    if pattern[-1] == "{rest}":
        if len(levels) < len(pattern):
            return False
    elif len(levels) != len(pattern):
        return False
    return all(
        (level != "" if _is_variable(wanted) else level == wanted)
        for wanted, level in zip(pattern, levels, strict=False)
    )


def parse_topic(text: str) -> Topic | None:
    """Take a topic apart, or None when it is none of ours, empty in a level, or holds a wildcard.

    The client part is kept whole, although a module looks at its first 23 characters only.
    """
    if "+" in text or "#" in text or "\x00" in text:
        return None
    levels = text.split("/")
    for spec in TOPICS:
        if _fits(spec, levels):
            values = {
                name[1:-1]: level
                for name, level in zip(spec.levels, levels, strict=False)
                if _is_variable(name)
            }
            if "rest" in values:
                values["rest"] = "/".join(levels[len(spec.levels) - 1 :])
            return Topic(spec.kind, **values)
    return None


def _checked(name: str, value: str) -> str:
    if not value or any(char in "+#/\x00" for char in value):
        raise EncodeError(f"{name} {value!r} cannot be part of a topic: it must not be empty or hold + # /")
    return value


def app2dev(did: str, client: str) -> str:
    """The topic on which an app speaks to a device.

    :raises ValueOutOfRange: when the client id is longer than 23 characters.
    """
    if len(client) > MAX_CLIENT:
        raise ValueOutOfRange("client", client, f"at most {MAX_CLIENT} characters")
    return str(Topic(TopicKind.APP2DEV, did=_checked("did", did), client=_checked("client", client)))


def dev2app(did: str, client: str | None = None) -> str:
    """The topic of a device's reports, or of its answers to one ``client`` (cut to 23 characters)."""
    if client is None:
        return str(Topic(TopicKind.DEV2APP, did=_checked("did", did)))
    client = _checked("client", client)[:MAX_CLIENT]
    return str(Topic(TopicKind.DEV2APP_CLIENT, did=_checked("did", did), client=client))


def ser2cli_res(did: str) -> str:
    """The topic of the cloud's control messages to one module."""
    return str(Topic(TopicKind.SER2CLI_RES, did=_checked("did", did)))


def ser2cli_noti(pk: str) -> str:
    """The topic of the cloud's notices to every module of a product."""
    return str(Topic(TopicKind.SER2CLI_NOTI, pk=_checked("product key", pk)))


def sys_log(did: str) -> str:
    """The topic of a G3 module's log."""
    return str(Topic(TopicKind.SYS_LOG, did=_checked("did", did)))


CLI2SER_REQ: Final = str(Topic(TopicKind.CLI2SER_REQ))
"""The topic of modules' control messages to the cloud; the broker knows who sent them."""


def module_subscriptions(did: str, pk: str) -> tuple[str, str, str]:
    """What a module subscribes to, in this order, each after the SUBACK of the one before (§7.2)."""
    return ser2cli_noti(pk), ser2cli_res(did), f"app2dev/{_checked('did', did)}/#"


def may_publish(who: Identity, topic: str) -> bool:
    """Whether this party may publish to this topic."""
    parsed = parse_topic(topic)
    if parsed is None:
        return False
    levels = topic.split("/")
    # Every row that fits counts, not only the first: two rows begin with ser2cli_res.
    return any(
        who.party in spec.publishers
        and _fits(spec, levels)
        and all(who._allows(name, level) for name, level in zip(spec.levels, levels, strict=False))
        for spec in TOPICS
    )


def may_subscribe(who: Identity, topic_filter: str) -> bool:
    """Whether everything this filter matches among our topics is meant for this party.

    ``app2dev/<did>/#``, ``app2dev/<did>/+`` and a full topic are all fine for the device of that did;
    ``app2dev/+/#`` and ``#`` are for the cloud itself only. An app may read every answer of a device it is
    bound to, also those to other apps: they say no more than its reports do.
    """
    if "\x00" in topic_filter:
        return False
    levels = topic_filter.split("/")
    if not _is_filter(levels):
        return False
    if who.party is Party.CLOUD:
        return True
    return any(who.party in spec.subscribers and _covers(spec, who, levels) for spec in TOPICS)


def _is_filter(levels: list[str]) -> bool:
    """``+`` and ``#`` stand alone in their level, ``#`` in the last one."""
    whole = all(level in {"+", "#"} or not set("+#") & set(level) for level in levels)
    return whole and "#" not in levels[:-1] and all(levels)


def _covers(spec: TopicSpec, who: Identity, levels: list[str]) -> bool:
    pattern = spec.levels
    if len(levels) > len(pattern) and pattern[-1] != "{rest}" and levels[len(pattern) :] != ["#"]:
        return False
    for index, wanted in enumerate(pattern):
        if index >= len(levels):
            return False
        level = levels[index]
        # Reading what goes to other clients of a device one may read is harmless, see may_subscribe.
        limited = who._limits(wanted) and not (spec.kind is TopicKind.DEV2APP_CLIENT and wanted == "{client}")
        if level == "#":
            return all(_is_variable(rest) for rest in pattern[index:]) and not limited
        if level == "+":
            if limited or not _is_variable(wanted):
                return False
        elif _is_variable(wanted):
            if limited and not who._allows(wanted, level):
                return False
        elif level != wanted:
            return False
    return True
