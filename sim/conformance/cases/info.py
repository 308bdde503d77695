"""Who the MCU says it is: the answer to 01, field by field (serial.md §4.1)."""

from __future__ import annotations

import re
from typing import Any

from gizserial import schemas
from gizserial.commands import Command
from gizserial.errors import BodyError
from gizserial.product import Layout
from sim.conformance.bench import Bench
from sim.conformance.cases.registry import MAY, SHOULD, Group

group = Group(
    "info",
    "Compare the bytes of the answer to 01 with the table of section 4.1, field by field; versions and"
    " product key are usually constants in one header file.",
)

_SIZES = (66, 74, 106)
_VERSIONS = ("hard_ver", "soft_ver")


async def _info(bench: Bench) -> tuple[bytes, dict[str, Any]]:
    """Payload and fields of the answer."""
    ack = await bench.exchange(bench.command(Command.DEVICE_INFO))
    payload = ack.frame.payload if ack.frame is not None else b""
    try:
        return payload, dict(schemas.DEVICE_INFO.parse(payload))
    except BodyError as error:
        raise bench.fail(
            f"the device information is unreadable: {error}",
            expected="66 bytes at least: versions, product key and bind time",
            got=[ack],
            entry=ack,
        ) from None


@group.case(
    "answered",
    "The MCU says who it is",
    rule="The module asks 01 first of all; without an answer nothing else starts, and the module reboots.",
    section="4.1",
    defects=("info-missing", "ack-wrong-sn", "ack-wrong-command"),
)
async def answered(bench: Bench) -> None:
    await bench.acked(bench.command(Command.DEVICE_INFO))


@group.case(
    "length",
    "The device information has one of the four legal lengths",
    rule="The module decides by the length which fields are there: 66, 74, 106, or 108 plus the "
    "announced data.",
    section="4.1",
    defects=("info-short", "info-long"),
)
async def length(bench: Bench) -> None:
    payload, _fields = await _info(bench)
    announced = int.from_bytes(payload[106:108], "big") if len(payload) >= 108 else 0
    if len(payload) not in _SIZES and not (len(payload) >= 108 and len(payload) == 108 + announced):
        raise bench.fail(
            f"the device information has {len(payload)} bytes",
            expected="66, 74, 106, or 108 and as many as bytes 106 and 107 announce",
            got=f"{len(payload)} bytes, {announced} announced",
        )


@group.case(
    "versions",
    "Versions are printable characters, eight at most",
    rule="The cloud chooses firmware by the versions; a stray 00 or a control character makes them "
    "unequal to what stands in the console.",
    section="3.1, 4.1",
    defects=("info-version-unterminated", "info-version-nonprintable"),
)
async def versions(bench: Bench) -> None:
    payload, _fields = await _info(bench)
    for name, start in (("protocol_ver", 0), ("p0_ver", 8), ("hard_ver", 16), ("soft_ver", 24)):
        field = payload[start : start + 8]
        if not re.fullmatch(rb"[ -~]{1,8}\x00*", field):
            bench.note(
                f"{name} holds bytes that are no printable characters",
                expected="printable ASCII, filled with 00 at the end",
                got=field.hex(" "),
            )


@group.case(
    "protocol",
    "The serial protocol is version 00000004",
    rule="Older versions have no public layout; modules take 00000004.",
    section="4.1, R8",
    severity=SHOULD,
    defects=("info-wrong-protocol-version",),
)
async def protocol(bench: Bench) -> None:
    _payload, fields = await _info(bench)
    if fields["protocol_ver"] != "00000004":
        raise bench.fail("the protocol version differs", expected="00000004", got=str(fields["protocol_ver"]))


@group.case(
    "product-key",
    "The product key is that of the definition",
    rule="The module registers the device with this key: with another one it becomes a device of another"
    " product, and did and bindings are erased.",
    remedy="Use the key of the definition in the firmware, or give the firmware's definition with -p.",
    section="4.1",
    defects=("info-wrong-product-key", "info-key-upper-case"),
)
async def product_key(bench: Bench) -> None:
    _payload, fields = await _info(bench)
    said, known = str(fields["product_key"]), bench.product.product_key
    if not re.fullmatch(r"[0-9a-f]{32}", said):
        raise bench.fail(
            "the product key is not 32 lower-case hex digits", expected="32 lower-case hex digits", got=said
        )
    if re.fullmatch(r"[0-9a-fA-F]{32}", known) and said != known:
        raise bench.fail(
            "the product key is another one than in the definition given with -p",
            expected=f"{known[:8]}…",
            got=f"{said[:8]}…",
        )


@group.case(
    "attributes",
    "The device attributes say what the product is",
    rule="Bits 13 to 63 are reserved and sent as 0; bit 7 says that the data points are of variable length.",
    section="3.2, R13",
    severity=MAY,
    defects=("info-wrong-layout-bit", "info-attributes-reserved"),
)
async def attributes(bench: Bench) -> None:
    _payload, fields = await _info(bench)
    word = fields.get("dev_attr")
    if word is None:
        return
    bits = int.from_bytes(word, "big")
    if bits >> 13:
        bench.note("reserved attribute bits are set", expected="bits 13 to 63 are 0", got=f"{bits:016X}")
    variable = bench.product.layout is Layout.VARIABLE
    if bool(bits & 0x80) is not variable:
        bench.note(
            "attribute bit 7 does not go with the product definition",
            expected=f"bit 7 is {int(variable)}",
            got=f"{bits:016X}",
        )


@group.case(
    "secret",
    "The product secret is 32 hex digits",
    rule="Newer modules register with the secret; a wrong one is refused by the cloud.",
    section="3.1, 4.1",
    severity=SHOULD,
    defects=("info-secret-garbled",),
)
async def secret(bench: Bench) -> None:
    _payload, fields = await _info(bench)
    said = fields.get("product_secret")
    if said is not None and not re.fullmatch(r"[0-9a-f]{32}", str(said)):
        raise bench.fail("the product secret is not 32 lower-case hex digits (it is not shown here)")


@group.case(
    "data",
    "The data for the module are key=value pairs",
    rule="Behind the secret the MCU may give the module settings, such as cfgMode=1&apName0=John: ASCII,"
    " pairs joined by &. A module that cannot read them keeps its own.",
    section="4.1",
    severity=SHOULD,
    defects=("info-data-garbled",),
)
async def data(bench: Bench) -> None:
    payload, _fields = await _info(bench)
    said = payload[108:]
    if said and not re.fullmatch(rb"[^=&]+=[^&]*(&[^=&]+=[^&]*)*", said, re.DOTALL):
        raise bench.fail(
            "the data for the module are not key=value pairs", expected="key=value&…", got=repr(said)
        )
    if re.search(rb"[^ -~]", said):
        raise bench.fail(
            "the data for the module are not ASCII", expected="printable ASCII", got=said.hex(" ")
        )


@group.case(
    "repeated",
    "The MCU answers 01 again and again, always the same, without side effect",
    rule="A module that restarts asks again at any time; the MCU cannot see the restart.",
    section="4.1",
    defects=("info-once-only", "info-changes", "module-restart-confuses"),
)
async def repeated(bench: Bench) -> None:
    first, _fields = await _info(bench)
    before = dict(bench.values)
    for _ in range(3):
        again, _fields = await _info(bench)
        if again != first:
            raise bench.fail("the answer to 01 changed", expected=first.hex(" "), got=again.hex(" "))
    if before and bench.product.points:
        bench.require_unchanged(before, await bench.read(), "asking who it is changed values")
