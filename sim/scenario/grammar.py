"""What a scenario file may hold: every member and step with its shape. The JSON Schema is made of it."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from typing import Any, Final

from gizserial.encoding import frame_names
from sim.cloud_faults import CloudFault
from sim.faults import Fault
from sim.scenario.nodes import Node, Place, ScenarioError
from sim.scenario.shapes import (
    VARIABLE,
    Defined,
    Duration,
    Either,
    Flag,
    Listed,
    Mapped,
    Member,
    Number,
    Scalar,
    Schema,
    Table,
    Text,
    Whole,
)
from sim.words import moment

OUTSIDE_FRAMES: Final = ("noise", "error")
"""What may be expected besides frames: bytes outside of frames, and frames that are none."""
BUTTONS: Final = ("softap", "airlink", "reset", "bind", "test", "time", "info", "restart")
"""What a person at the product, or its firmware, asks the module for."""
CASES: Final = ("frame", "nothing", "values")


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One step."""

    kind: str
    args: Any
    place: Place
    name: str = ""

    @property
    def title(self) -> str:
        """The step in one line."""
        if self.name:
            return self.name
        if self.kind in {"repeat", "parallel"}:
            return self.kind
        args = self.args
        text = args if isinstance(args, str) else json.dumps(args, ensure_ascii=False)
        return f"{self.kind} {text}"[:120]


class StepShape:
    """A mapping with one member that says what is done, and perhaps a name."""

    def takes(self, node: Node) -> bool:
        """Whether the node is of this kind."""
        return isinstance(node.value, dict)

    def read(self, node: Node) -> Step:
        """The value of a node."""
        if not self.takes(node):
            raise node.fault(f"a step is one of: {', '.join(f'{kind}: ...' for kind in STEPS)}")
        members = dict(node.value)
        name = Text().read(members.pop("name")[1]) if "name" in members else ""
        if len(members) != 1:
            given = ", ".join(members) or "nothing"
            raise node.fault(f"a step does one thing, here stands: {given}; begin each step with -")
        ((kind, (place, value)),) = members.items()
        if kind not in STEPS:
            near = difflib.get_close_matches(kind, STEPS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(STEPS)}"
            raise ScenarioError(f"there is no step {kind!r}; {hint}", place)
        return Step(kind, STEPS[kind][0].read(value), place, name)

    def schema(self) -> Schema:
        """The shape in JSON Schema."""
        return {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 2,
            "additionalProperties": False,
            "properties": {"name": {"description": "Shown for the step.", **Text().schema()}}
            | {kind: {"description": text, **shape.schema()} for kind, (shape, text) in STEPS.items()},
            "oneOf": [{"required": [kind]} for kind in STEPS],
        }


_STEP: Final = Defined("step", StepShape)
_BODY: Final = Listed(_STEP, least=1)
_ROLE: Final = Text(choices=("module", "mcu"))
_FRAME: Final = Text(choices=(*frame_names(), *OUTSIDE_FRAMES))
_FAULT: Final = Text("a fault, as loss:0.01", check=Fault.parse)
_CLOUD_FAULT: Final = Text("a fault, as slow:200ms", check=CloudFault.parse)
_MOMENT: Final = Text("a time, as 2024-03-14T12:23:19+08:00", check=moment)


def _named(text: str) -> None:
    if re.fullmatch(VARIABLE, f"${{{text}}}") is None:
        raise ValueError(f"{text!r} is no name of a variable: letters, digits and _, no digit first")


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"{text!r} is not hex; a byte is two hex digits, as in FFFF0005") from None


_MATCH: Final = Either(
    (
        Mapped(
            "a comparison",
            {
                "is": Member(Scalar(), "the value, give or take the tolerance"),
                "tolerance": Member(Number(), "how far from it a number may be"),
                "min": Member(Number(), "a number of at least this"),
                "max": Member(Number(), "a number of at most this"),
                "not": Member(Scalar(), "any other value"),
                "in": Member(Listed(Scalar(), least=1), "one of these"),
            },
            at_least_one_of=("is", "min", "max", "not", "in"),
            only_with={"tolerance": ("is",)},
        ),
        Scalar(),
    )
)
_MATCHES: Final = Table(_MATCH, least=1)
_VALUES: Final = Table(Scalar(), least=1)

_SEND: Final = Either(
    (
        Text("a frame, as control LED_R=30"),
        Mapped(
            "send",
            {
                "frame": Member(Text("a frame", choices=frame_names()), "name, as gizserial encode has it"),
                "fields": Member(Table(Scalar()), "fields and data points"),
                "points": Member(Listed(Text()), "points that a variable-length read names"),
                "hex": Member(Text("hex", check=_hex), "these bytes, whatever they are"),
                "from": Member(_ROLE, "who sends it; needed for hex where both are simulated"),
                "sn": Member(Whole(0, 255), "send it once, with this number, past the role"),
            },
            exactly_one_of=("frame", "hex"),
            only_with={"fields": ("frame",), "points": ("frame",), "sn": ("frame",)},
        ),
    )
)
_EXPECT: Final = Either(
    (
        Text("what is expected, as report or report LED_R=30"),
        Mapped(
            "expect",
            {
                "frame": Member(_FRAME, "a frame by its name; noise, or error (a broken frame)"),
                "nothing": Member(
                    Text(choices=("any", *frame_names(), *OUTSIDE_FRAMES)), "this must not come"
                ),
                "values": Member(_MATCHES, "live values of the simulated MCU"),
                "from": Member(_ROLE, "who sends it"),
                "attrs": Member(_MATCHES, "its data points"),
                "fields": Member(_MATCHES, "its fields"),
                "sn": Member(Whole(0, 255), "its number"),
                "within": Member(Duration(), "at the latest, after the last thing that was done (2 s)"),
                "not before": Member(Duration(), "at the earliest, after the last thing that was done"),
                "count": Member(Whole(0), "exactly so many within that time"),
                "for": Member(Duration(), "how long nothing must come (1 s)"),
                "arrived": Member(Flag(), "look at what arrives after the faults, not at what is sent"),
            },
            exactly_one_of=CASES,
            only_with={
                **dict.fromkeys(("from", "attrs", "fields", "sn", "arrived"), ("frame", "nothing")),
                "within": ("frame", "values"),
                "not before": ("frame",),
                "count": ("frame",),
                "for": ("nothing",),
            },
        ),
    )
)
_WIFI: Final = Either(
    (
        Text(choices=("join", "lost", "softap", "airlink")),
        Mapped(
            "wifi",
            {
                "signal": Member(Whole(0, 100), "strength of the router, in percent"),
                "apps": Member(Whole(0, 65535), "so many apps are connected"),
                "ap": Member(
                    Mapped(
                        "ap",
                        {
                            "ssid": Member(Text(), "name of the router", required=True),
                            "password": Member(Text(), "its password"),
                        },
                    ),
                    "an app gives these router data",
                ),
                "phone": Member(
                    Either((Flag(), Duration())),
                    "how long after provisioning begins an app gives router data",
                ),
            },
            at_least_one_of=("signal", "apps", "ap", "phone"),
        ),
    )
)
_CLOUD: Final = Either(
    (
        Text(choices=("connect", "cut", "refuse")),
        Mapped(
            "cloud",
            {
                "control": Member(_VALUES, "an app controls these points"),
                "expect": Member(_MATCHES, "what the cloud knows of the device's points"),
                "online": Member(Flag(), "the device is, or is not, on line"),
                "fault": Member(_CLOUD_FAULT, "a fault of the connections"),
                "time": Member(_MOMENT, "the time that a pretended cloud gives; UTC where no zone is named"),
                "within": Member(Duration(), "how long that may take (5 s)"),
            },
            exactly_one_of=("control", "expect", "online", "fault", "time"),
            only_with={"within": ("expect", "online")},
        ),
    )
)

STEPS: Final[dict[str, tuple[Any, str]]] = {
    "send": (_SEND, "Send a frame, or any bytes."),
    "expect": (_EXPECT, "Wait for a frame, or for nothing."),
    "set": (_VALUES, "Change values of the simulated MCU, as the product itself does."),
    "press": (Text(choices=BUTTONS), "The simulated MCU asks the module for this."),
    "wait": (Duration(), "Let time pass."),
    "wifi": (_WIFI, "What happens to the network of the simulated module."),
    "cloud": (_CLOUD, "What the cloud and its apps do."),
    "restart": (_ROLE, "Restart the simulated module, or have the module restart the MCU."),
    "fault": (
        Either(
            (
                Text("a fault, as loss:0.01; or clear", check=lambda t: t == "clear" or Fault.parse(t)),
                Mapped(
                    "fault",
                    {
                        "on": Member(Listed(_FAULT, least=1), "these begin", required=True),
                        "for": Member(Duration(), "and end after so long"),
                    },
                ),
            )
        ),
        "A fault of the line begins; clear ends all.",
    ),
    "repeat": (
        Mapped(
            "repeat",
            {
                "times": Member(Whole(1), "how often"),
                "for": Member(Duration(), "until so much time has passed"),
                "forever": Member(Flag(only=True), "until the run ends; use it in one branch of parallel"),
                "as": Member(Text("a name", check=_named), "variable that counts from 1"),
                "steps": Member(_BODY, "what is repeated", required=True),
            },
            exactly_one_of=("times", "for", "forever"),
        ),
        "Do steps again and again.",
    ),
    "parallel": (
        Listed(Listed(_STEP, least=1, what="a branch, which is a list of steps: - - wait: 1s"), least=1),
        "Lists of steps that are done at the same time.",
    ),
}
"""Every step: its shape, and what it does."""

_PLAYED: Final = {
    "port": Member(Text("a PORT"), "the real one is at this port, and the other role is played to it"),
    "quirks": Member(Table(Scalar()), "behave like some real firmware"),
}
_SETUP: Final = Mapped(
    "setup",
    {
        "product": Member(Text("a path"), "product definition, relative to the scenario", required=True),
        "module": Member(
            Either(
                (
                    Text(choices=("simulated",)),
                    Mapped(
                        "module",
                        {
                            **_PLAYED,
                            "mac": Member(Text(), "its hardware id, 12 hex digits"),
                            "provisioned": Member(Flag(), "it has router data from the start (true)"),
                            "signal": Member(Whole(0, 100), "strength of its router (80)"),
                        },
                    ),
                )
            ),
            "who the module is",
        ),
        "mcu": Member(
            Either(
                (
                    Text(choices=("simulated",)),
                    Mapped(
                        "mcu",
                        {
                            **_PLAYED,
                            "values": Member(Table(Scalar()), "values to begin with"),
                            "defects": Member(Listed(Text()), "defects of its firmware"),
                        },
                    ),
                )
            ),
            "who the MCU is",
        ),
        "cloud": Member(
            Text(choices=("none", "pretended", "simulated")),
            "none; one that the module only believes in; or a real one on this machine (real clock)",
        ),
        "clock": Member(Text(choices=("virtual", "real")), "virtual where everything is simulated"),
        "baud": Member(Whole(50, 4_000_000), "speed of the line (9600)"),
        "begin": Member(Text(choices=("running", "power-up")), "first step after the handshake, or before"),
        "faults": Member(Listed(_FAULT), "faults from the start"),
        "seed": Member(Whole(0, 2**32), "seed of everything that is drawn by lot (1)"),
        "max time": Member(Duration(), "the run ends as failed after so long (10 min)"),
    },
)
TOP: Final = Mapped(
    "a scenario",
    {
        "scenario": Member(Text(), "what it is about"),
        "setup": Member(_SETUP, "who plays", required=True),
        "variables": Member(Table(Scalar()), "values that steps name as ${NAME}"),
        "steps": Member(_BODY, "what happens", required=True),
    },
)


def schema() -> Schema:
    """The JSON Schema of a scenario file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Scenario of gizsim run",
        **TOP.schema(),
        "$defs": {"step": StepShape().schema()},
    }
