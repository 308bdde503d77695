"""Each error and warning of cli.md §6, with its path."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies_product import definition_bytes, products

from gizserial.definition import check_definition, read_definition
from gizserial.findings import Finding
from gizserial.layout import Layout
from gizserial.product import Product, parse_product


class Document(dict[str, Any]):
    """A definition whose points are at hand."""

    @property
    def attrs(self) -> Any:
        return self["entities"][0]["attrs"]


Edit = Callable[[Document], object]
A = "$.entities[0].attrs"


def point(
    number: int, name: str, data_type: str, access: str, at: tuple[int, int, int, str]
) -> dict[str, Any]:
    return {
        "id": number,
        "name": name,
        "display_name": name,
        "desc": "",
        "data_type": data_type,
        "type": access,
        "position": dict(zip(("byte_offset", "bit_offset", "len", "unit"), at, strict=True)),
    }


def base(protocol: str = "standard") -> Document:
    """A clean definition: bool, enum, uint8, binary, uint16 and an alert."""
    attrs = [
        point(0, "Power", "bool", "status_writable", (0, 0, 1, "bit")),
        point(1, "Mode", "enum", "status_writable", (0, 1, 2, "bit")) | {"enum": ["off", "low", "high"]},
        point(2, "Level", "uint8", "status_writable", (1, 0, 1, "byte")),
        point(3, "Tag", "binary", "status_writable", (2, 0, 4, "byte")),
        point(4, "Volt", "uint16", "status_readonly", (6, 0, 2, "byte")),
        point(5, "Hot", "bool", "alert", (8, 0, 1, "bit")),
    ]
    attrs[2]["uint_spec"] = {"min": 0, "max": 100, "ratio": 1, "addition": 0}
    attrs[4]["uint_spec"] = {"min": 0, "max": 3000, "ratio": 0.1, "addition": -5}
    if protocol == "var_len":
        attrs = [attrs[0], attrs[5], attrs[1], attrs[2], attrs[4], attrs[3]]
        for number, attr in enumerate(attrs):
            attr["id"] = number
            attr["position"] |= {"byte_offset": 0, "bit_offset": 0}
    entity = {"id": 0, "name": "entity0", "display_name": "", "attrs": attrs}
    return Document(
        name="Base",
        packetVersion="0x00000004",
        protocolType=protocol,
        product_key="0123456789abcdef0123456789ABCDEF",
        entities=[entity],
    )


def check(document: object) -> list[Finding]:
    return check_definition(json.dumps(document, ensure_ascii=False).encode())


def edited(edit: Edit, protocol: str = "standard") -> list[Finding]:
    document = base(protocol)
    edit(document)
    return check(document)


def paths(findings: list[Finding], severity: str) -> list[str]:
    return [finding.path for finding in findings if finding.severity == severity]


@pytest.mark.parametrize("protocol", ["standard", "var_len"])
def test_a_clean_definition_has_no_findings(protocol: str) -> None:
    assert check(base(protocol)) == []


ERRORS: list[tuple[str, Edit, str]] = [
    # structure and types (serial.md §7.1)
    ("no name", lambda d: d.pop("name"), "$.name"),
    ("no key", lambda d: d.pop("product_key"), "$.product_key"),
    ("no version", lambda d: d.pop("packetVersion"), "$.packetVersion"),
    ("no protocolType", lambda d: d.pop("protocolType"), "$.protocolType"),
    ("no entities", lambda d: d.pop("entities"), "$.entities"),
    ("version a number", lambda d: d.update(packetVersion=4), "$.packetVersion"),
    ("name null", lambda d: d.update(name=None), "$.name"),
    ("entities an object", lambda d: d.update(entities=d["entities"][0]), "$.entities"),
    ("no entity", lambda d: d.update(entities=[]), "$.entities"),
    ("two entities", lambda d: d["entities"].append(d["entities"][0]), "$.entities[1]"),
    ("entity a text", lambda d: d.update(entities=["x"]), "$.entities[0]"),
    ("entity id", lambda d: d["entities"][0].update(id=1), "$.entities[0].id"),
    ("entity name", lambda d: d["entities"][0].update(name="main"), "$.entities[0].name"),
    ("no attrs", lambda d: d["entities"][0].pop("attrs"), A),
    ("attrs an object", lambda d: d["entities"][0].update(attrs={}), A),
    ("point a number", lambda d: d.attrs.__setitem__(3, 5), f"{A}[3]"),
    ("no id", lambda d: d.attrs[2].pop("id"), f"{A}[2].id"),
    ("id a text", lambda d: d.attrs[2].update(id="2"), f"{A}[2].id"),
    ("id a fraction", lambda d: d.attrs[2].update(id=2.0), f"{A}[2].id"),
    ("id true", lambda d: d.attrs[1].update(id=True), f"{A}[1].id"),
    ("id negative", lambda d: d.attrs[0].update(id=-1), f"{A}[0].id"),
    ("no point name", lambda d: d.attrs[2].pop("name"), f"{A}[2].name"),
    ("desc a list", lambda d: d.attrs[2].update(desc=[]), f"{A}[2].desc"),
    ("display_name a number", lambda d: d.attrs[2].update(display_name=1), f"{A}[2].display_name"),
    ("no data_type", lambda d: d.attrs[0].pop("data_type"), f"{A}[0].data_type"),
    ("no type", lambda d: d.attrs[0].pop("type"), f"{A}[0].type"),
    ("uint_spec a list", lambda d: d.attrs[2].update(uint_spec=[]), f"{A}[2].uint_spec"),
    ("no min", lambda d: d.attrs[2]["uint_spec"].pop("min"), f"{A}[2].uint_spec.min"),
    ("max a fraction", lambda d: d.attrs[2]["uint_spec"].update(max=1.5), f"{A}[2].uint_spec.max"),
    ("ratio a text", lambda d: d.attrs[2]["uint_spec"].update(ratio="1"), f"{A}[2].uint_spec.ratio"),
    (
        "addition false",
        lambda d: d.attrs[2]["uint_spec"].update(addition=False),
        f"{A}[2].uint_spec.addition",
    ),
    ("position null", lambda d: d.attrs[2].update(position=None), f"{A}[2].position"),
    ("no byte_offset", lambda d: d.attrs[2]["position"].pop("byte_offset"), f"{A}[2].position.byte_offset"),
    (
        "bit_offset a text",
        lambda d: d.attrs[0]["position"].update(bit_offset="0"),
        f"{A}[0].position.bit_offset",
    ),
    (
        "byte_offset negative",
        lambda d: d.attrs[2]["position"].update(byte_offset=-1),
        f"{A}[2].position.byte_offset",
    ),
    ("unit", lambda d: d.attrs[2]["position"].update(unit="bytes"), f"{A}[2].position.unit"),
    ("unit of the other kind", lambda d: d.attrs[2]["position"].update(unit="bit"), f"{A}[2].position.unit"),
    # words
    ("protocolType", lambda d: d.update(protocolType="Standard"), "$.protocolType"),
    ("data_type", lambda d: d.attrs[4].update(data_type="int16"), f"{A}[4].data_type"),
    ("type", lambda d: d.attrs[4].update(type="readonly"), f"{A}[4].type"),
    # names
    ("repeated id", lambda d: d.attrs[3].update(id=2), f"{A}[3].id"),
    ("repeated name", lambda d: d.attrs[3].update(name="Level"), f"{A}[3].name"),
    ("name with blank", lambda d: d.attrs[3].update(name="My tag"), f"{A}[3].name"),
    ("name Chinese", lambda d: d.attrs[3].update(name="标签"), f"{A}[3].name"),
    ("name begins with digit", lambda d: d.attrs[3].update(name="3Tag"), f"{A}[3].name"),
    ("name empty", lambda d: d.attrs[3].update(name=""), f"{A}[3].name"),
    ("name ends with newline", lambda d: d.attrs[3].update(name="Tag\n"), f"{A}[3].name"),
    # types and sizes
    ("alert not bool", lambda d: d.attrs[5].update(data_type="enum", enum=["a", "b"]), f"{A}[5].data_type"),
    (
        "fault not bool",
        lambda d: d.attrs[5].update(data_type="enum", enum=["a"], type="fault"),
        f"{A}[5].data_type",
    ),
    ("enum missing", lambda d: d.attrs[1].pop("enum"), f"{A}[1].enum"),
    ("enum empty", lambda d: d.attrs[1].update(enum=[]), f"{A}[1].enum"),
    ("enum a text", lambda d: d.attrs[1].update(enum="off"), f"{A}[1].enum"),
    ("enum text a number", lambda d: d.attrs[1].update(enum=["off", 1, "x"]), f"{A}[1].enum[1]"),
    ("enum len too small", lambda d: d.attrs[1]["enum"].extend(["x", "y"]), f"{A}[1].position.len"),
    ("enum len 0", lambda d: d.attrs[1]["position"].update(len=0), f"{A}[1].position.len"),
    ("bool len", lambda d: d.attrs[5]["position"].update(len=2), f"{A}[5].position.len"),
    ("uint16 len", lambda d: d.attrs[4]["position"].update(len=1), f"{A}[4].position.len"),
    ("min above max", lambda d: d.attrs[2]["uint_spec"].update(min=7, max=5), f"{A}[2].uint_spec.min"),
    ("min negative", lambda d: d.attrs[2]["uint_spec"].update(min=-1), f"{A}[2].uint_spec.min"),
    ("max beyond the type", lambda d: d.attrs[2]["uint_spec"].update(max=256), f"{A}[2].uint_spec.max"),
    ("ratio 0", lambda d: d.attrs[4]["uint_spec"].update(ratio=0), f"{A}[4].uint_spec.ratio"),
    ("ratio 0.0", lambda d: d.attrs[4]["uint_spec"].update(ratio=0.0), f"{A}[4].uint_spec.ratio"),
    ("binary without len", lambda d: d.attrs[3]["position"].pop("len"), f"{A}[3].position.len"),
    ("binary of 0 bytes", lambda d: d.attrs[3]["position"].update(len=0), f"{A}[3].position.len"),
    # positions of standard products
    ("bases differ", lambda d: d.attrs[1]["position"].update(byte_offset=9), f"{A}[1].position.byte_offset"),
    ("bytes overlap", lambda d: d.attrs[4]["position"].update(byte_offset=5), f"{A}[4].position"),
    ("bits overlap", lambda d: d.attrs[1]["position"].update(bit_offset=0), f"{A}[1].position"),
    ("bits over bytes", lambda d: d.attrs[5]["position"].update(byte_offset=7), f"{A}[5].position"),
    ("section over bytes", lambda d: d.attrs[1]["position"].update(bit_offset=8), f"{A}[2].position"),
    ("position missing", lambda d: d.attrs[4].pop("position"), f"{A}[4].position"),
    # what no frame can hold
    ("flags beyond a frame", lambda d: d.attrs[2].update(id=10**9), A),
    ("status beyond a frame", lambda d: d.attrs[4]["position"].update(byte_offset=10**30), A),
    # third-party copies (serial.md §7.3)
    ("snake case", lambda d: d.update(protocol_type=d.pop("protocolType")), "$.protocolType"),
    ("attrs at the top", lambda d: (d.update(attrs=d.attrs), d.pop("entities")), "$.entities"),
    ("key with suffix", lambda d: d.update(product_key=d["product_key"] + "-2"), "$.product_key"),
]


@pytest.mark.parametrize(("edit", "path"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS])
def test_errors(edit: Edit, path: str) -> None:
    findings = edited(edit)
    assert paths(findings, "error") == [path]
    assert all(finding.message and finding.remedy for finding in findings)


SWAPPED = [
    f"{A}[3].id",  # the list is not in the order of ids
    f"{A}[3].id",  # a writable point after a read-only one
    f"{A}[2].position",  # by ids, Tag would stand before Level
    f"{A}[3].position",
]
WARNINGS: list[tuple[str, Edit, list[str]]] = [
    ("version", lambda d: d.update(packetVersion="0x00000003"), ["$.packetVersion"]),
    ("version 4", lambda d: d.update(packetVersion="4"), ["$.packetVersion"]),
    ("key a word", lambda d: d.update(product_key="standard_product_key"), ["$.product_key"]),
    ("key too long", lambda d: d.update(product_key="0" * 33), ["$.product_key"]),
    ("no uint_spec", lambda d: d.attrs[2].pop("uint_spec"), [f"{A}[2].uint_spec"]),
    ("enum texts", lambda d: d.attrs[1].update(enum=["x", "y", "x"]), [f"{A}[1].enum[2]"]),
    ("list order", lambda d: d.attrs.reverse(), [f"{A}[1].id"]),
    ("id order", lambda d: (d.attrs[2].update(id=4), d.attrs[4].update(id=2)), SWAPPED),
    ("id missing", lambda d: d.attrs[5].update(id=6), [A]),
    ("position", lambda d: d.attrs[5]["position"].update(byte_offset=9), [f"{A}[5].position"]),
    ("byte point with bit", lambda d: d.attrs[2]["position"].update(bit_offset=3), [f"{A}[2].position"]),
    ("enum len", lambda d: d.attrs[1]["position"].update(len=5), [f"{A}[1].position.len"]),
    ("long", lambda d: (d.attrs[3]["position"].update(len=900), d.attrs.pop(4), d.attrs.pop()), [A]),
]


@pytest.mark.parametrize(("edit", "where"), [row[1:] for row in WARNINGS], ids=[row[0] for row in WARNINGS])
def test_warnings(edit: Edit, where: list[str]) -> None:
    findings = edited(edit)
    assert paths(findings, "error") == []
    assert sorted(paths(findings, "warning")) == sorted(where)
    assert all(finding.message and finding.remedy for finding in findings)


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d.attrs[2].pop("desc"),
        lambda d: d.attrs[2].pop("display_name"),
        lambda d: d["entities"][0].pop("display_name"),
        lambda d: d.attrs[0].update(uint_spec="ignored", enum=None),
        lambda d: d.update(name_en="Base", ui={"anything": [1, None]}),
        lambda d: d["entities"][0].update(attrs=[]),
        lambda d: d.attrs[4]["uint_spec"].update(min=1, ratio=-2, addition=1735689600),
    ],
)
def test_what_is_legal(edit: Edit) -> None:
    assert edited(edit) == []


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: [
            attr["position"].update(byte_offset=7 * n, bit_offset=n) for n, attr in enumerate(d.attrs)
        ],
        lambda d: [attr.pop("position") for attr in d.attrs[:5]],
        lambda d: d.attrs[0].pop("position"),
        lambda d: d.attrs[0]["position"].update(byte_offset=-1, unit="byte"),
    ],
)
def test_positions_do_not_count_in_var_len(edit: Edit) -> None:
    """serial.md §5.5: only the len of binaries counts."""
    assert edited(edit, "var_len") == []


def test_a_wide_enum_counts_where_positions_do() -> None:
    """serial.md §7.3: the len of the JSON wins; §5.5: in var_len positions are placeholders."""

    def widen(document: Document) -> None:
        next(attr for attr in document.attrs if attr["name"] == "Mode")["position"]["len"] = 4

    for protocol, width in (("standard", 4), ("var_len", 2)):
        document = base(protocol)
        widen(document)
        assert len(check(document)) == 1
        product = parse_product(json.dumps(document).encode(), "x")
        assert product.point("Mode").width == width


def test_no_position_at_all_is_an_error_only_for_a_binary() -> None:
    """serial.md §7.3."""
    findings = edited(lambda d: [attr.pop("position") for attr in d.attrs])
    assert paths(findings, "error") == [f"{A}[3].position"]
    assert (
        edited(
            lambda d: [
                d.attrs.pop(3),
                *(attr.pop("position") for attr in d.attrs),
                *map(_renumber, enumerate(d.attrs)),
            ]
        )
        == []
    )


def _renumber(pair: tuple[int, dict[str, Any]]) -> None:
    pair[1]["id"] = pair[0]


def test_all_faults_are_found_at_once() -> None:
    def edit(document: Document) -> None:
        attrs = document.attrs
        document.update(name=5, packetVersion="9", product_key="x")
        attrs[0].update(name="1", type="x")
        attrs[1].update(enum=[1, "a", "a"], id="1")
        attrs[2]["uint_spec"].update(ratio=0, min=300, max="x")
        attrs[4]["position"].update(len=9, unit="x")

    findings = edited(edit)
    assert set(paths(findings, "error")) == {
        "$.name",
        f"{A}[0].name",
        f"{A}[0].type",
        f"{A}[1].enum[0]",
        f"{A}[1].id",
        f"{A}[2].uint_spec.ratio",
        f"{A}[2].uint_spec.min",
        f"{A}[2].uint_spec.max",
        f"{A}[4].position.len",
        f"{A}[4].position.unit",
    }
    assert set(paths(findings, "warning")) == {"$.packetVersion", "$.product_key", f"{A}[1].enum[2]"}


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 1} // end', "comments"),
        (b'{"a": /* one */ 1}', "comments"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b"\xff\xfe{\x00}\x00", "UTF-16"),
        (b'{"name": "Ger\xe4t"}', "not UTF-8: byte E4 at offset 13, line 1"),
        (b"<!DOCTYPE html>", "web page"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"null", "null"),
        (b"[]", "must be an object, is a list"),
        (b"5", "must be an object, is the number 5"),
        (b'"x"', "must be an object, is the text 'x'"),
    ],
)
def test_what_is_no_definition_is_an_error_at_the_root(data: bytes, word: str) -> None:
    (finding,) = check_definition(data)
    assert (finding.path, finding.severity) == ("$", "error")
    assert word in f"{finding.message}; {finding.remedy}"


def test_a_byte_order_mark_is_accepted() -> None:
    data = b"\xef\xbb\xbf" + json.dumps(base()).encode()
    assert check_definition(data) == []


@pytest.mark.parametrize(
    "number", ["9" * 5000, "-" + "9" * 5000, "1e999999999", "1e-999999999", "0." + "1" * 5000]
)
@pytest.mark.timeout(10)
def test_numbers_out_of_all_proportion(number: str) -> None:
    text = json.dumps(base())
    for old, path in (
        ('"ratio": 0.1', f"{A}[4].uint_spec.ratio"),
        ('"addition": -5', f"{A}[4].uint_spec.addition"),
        ('"max": 3000', f"{A}[4].uint_spec.max"),
        ('"id": 4', f"{A}[4].id"),
        ('"byte_offset": 6', f"{A}[4].position.byte_offset"),
    ):
        assert old in text
        key = old.partition(":")[0]
        findings = check_definition(text.replace(old, f"{key}: {number}").encode())
        assert paths(findings, "error") == [path]
        assert len(findings[0].message) < 200


def test_ratios_are_exact() -> None:
    long = "0.1234567890123456789012345678901234567890"
    data = json.dumps(base()).replace('"ratio": 0.1', f'"ratio": {long}').encode()
    scale = parse_product(data, "x").point("Volt").scale
    assert scale is not None
    assert (scale.ratio, scale.addition) == (Decimal(long), Decimal(-5))


def test_doubled_keys() -> None:
    text = json.dumps(base())
    different = text.replace('"max": 100', '"max": 100, "max": 99')
    assert [(f.path, f.severity) for f in check_definition(different.encode())] == [
        (f"{A}[2].uint_spec.max", "error")
    ]
    equal = text.replace('"max": 100', '"max": 100, "max": 100')
    assert [(f.path, f.severity) for f in check_definition(equal.encode())] == [
        (f"{A}[2].uint_spec.max", "warning")
    ]
    in_ui = text[:-1] + ', "ui": {"a b": {"x": 1, "x": 2}}}'
    assert [(f.path, f.severity) for f in check_definition(in_ui.encode())] == [('$.ui["a b"].x', "warning")]


def test_texts_that_are_not_unicode_are_an_error() -> None:
    for old, path in (('"Base"', "$.name"), ('"low"', f"{A}[1].enum[1]")):
        data = json.dumps(base()).replace(old, '"\\ud800"').encode()
        (finding,) = check_definition(data)
        assert (finding.path, finding.severity) == (path, "error")
        finding.message.encode()


@pytest.mark.timeout(30)
def test_a_file_of_faults_does_not_take_for_ever() -> None:
    document = base()
    document["entities"][0]["attrs"] = [{}] * 200_000
    findings = check(document)
    assert len(findings) == 1001
    assert "not listed" in findings[-1].message


BROKEN = {
    "alert-not-bool": f"{A}[5].data_type",
    "attrs-at-top-level": "$.entities",
    "bases-differ": f"{A}[1].position.byte_offset",
    "binary-without-size": f"{A}[3].position.len",
    "comment": "$",
    "doubled-key": f"{A}[2].uint_spec.max",
    "enum-len-too-small": f"{A}[1].position.len",
    "enum-text-is-number": f"{A}[1].enum[1]",
    "enum-without-values": f"{A}[1].enum",
    "id-is-text": f"{A}[2].id",
    "len-of-uint": f"{A}[4].position.len",
    "max-outside-type": f"{A}[2].uint_spec.max",
    "min-above-max": f"{A}[2].uint_spec.min",
    "name-not-identifier": f"{A}[2].name",
    "negative-id": f"{A}[0].id",
    "no-name": "$.name",
    "no-packet-version": "$.packetVersion",
    "no-protocol-type": "$.protocolType",
    "not-utf-8": "$",
    "overlap": f"{A}[4].position",
    "position-on-some": f"{A}[4].position",
    "product-key-suffix": "$.product_key",
    "ratio-zero": f"{A}[4].uint_spec.ratio",
    "repeated-id": f"{A}[3].id",
    "repeated-name": f"{A}[3].name",
    "snake-case-key": "$.protocolType",
    "two-entities": "$.entities[1]",
    "unknown-data-type": f"{A}[4].data_type",
    "unknown-protocol-type": "$.protocolType",
    "unknown-type": f"{A}[2].type",
    "wrong-unit": f"{A}[2].position.unit",
}


def test_every_broken_file_has_the_one_error_of_its_name(fixtures: Path) -> None:
    found = {}
    for file in (fixtures / "products" / "broken").glob("*.json"):
        (found[file.stem],) = paths(check_definition(file.read_bytes()), "error")
    assert found == BROKEN


@pytest.mark.parametrize("name", ["pet-house", "var-len", "wide-bits"])
def test_our_definitions_are_clean(fixtures: Path, name: str) -> None:
    assert check_definition((fixtures / "products" / f"{name}.json").read_bytes()) == []


def test_our_definition_with_holes_has_only_warnings(fixtures: Path) -> None:
    findings = check_definition((fixtures / "products" / "holes.json").read_bytes())
    assert paths(findings, "error") == []
    assert findings[0].message == "ids are missing: 1 to 2, 7"


REAL_WARNINGS = {
    "2d3d954d": set(),
    "401dff81": set(),
    "490eda68": {A},
    "54114ccd": set(),
    "6f3074fe": {f"{A}[1].position.len"},
    "763434ad": {"$.product_key", A, *(f"{A}[{n}].position" for n in range(1, 18))},
    "capture": set(),
    "cd01d1f3": {A},
    "de9e8d18": set(),
    "e1e1c010": {f"{A}[3].id"},
    "ea61c58a": set(),
}


def test_real_definitions_have_no_errors(samples: Path) -> None:
    """The deviations of serial.md §7.3: holes, a wide enum, another order, a long key, a large P0."""
    found = {}
    for file in samples.glob("*.json"):
        findings = check_definition(file.read_bytes())
        assert paths(findings, "error") == [], file.name
        found[file.name.partition("-")[0]] = set(paths(findings, "warning"))
    assert found == REAL_WARNINGS


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["bool", "enum", "bit"])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
)


def _sound(data: bytes) -> None:
    """Findings are complete, and without errors there is a product."""
    definition, findings = read_definition(data)
    assert (definition is None) == any(finding.severity == "error" for finding in findings)
    for finding in findings:
        assert finding.path.startswith("$")
        assert finding.message
        assert finding.remedy
        (finding.path + finding.message + finding.remedy).encode()
    if definition is not None:
        parse_product(data, "x")


@given(st.binary())
def test_never_raises_on_bytes(data: bytes) -> None:
    _sound(data)


@given(anything)
def test_never_raises_on_json(value: object) -> None:
    _sound(json.dumps(value).encode())


@given(st.sampled_from(["standard", "var_len"]), st.data())
def test_never_raises_on_a_definition_with_anything_in_it(protocol: str, data: st.DataObject) -> None:
    """Replace up to three members, wherever they are; without errors the product can be used."""
    document: Any = base(protocol)
    for _ in range(data.draw(st.integers(1, 3))):
        place = document
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            inner = place[key]
            if isinstance(inner, dict | list) and inner and data.draw(st.integers(0, 9)):
                place = inner
            else:
                place[key] = data.draw(anything | st.integers(-2, 70000))
                break
        if not document:
            break
    _sound(json.dumps(document).encode())


@given(products())
def test_drawn_products_have_no_errors(product: Product) -> None:
    assert paths(check_definition(definition_bytes(product)), "error") == []


@given(products(plain=True), st.randoms(use_true_random=False))
def test_exports_have_no_position_warnings(product: Product, rng: random.Random) -> None:
    document = json.loads(definition_bytes(product))
    attrs = document["entities"][0]["attrs"]
    clean = [path for path in paths(check(document), "warning") if ".enum[" not in path]
    assert clean == []
    shuffled = copy.deepcopy(attrs)
    rng.shuffle(shuffled)
    document["entities"][0]["attrs"] = shuffled
    words = {path.rpartition(".")[2] for path in paths(check(document), "warning") if ".enum[" not in path}
    assert words <= {"id"}
    assert ("id" in words) == (shuffled != attrs)


def test_the_two_layouts_are_told_apart() -> None:
    for protocol, layout in (("standard", Layout.FIXED), ("var_len", Layout.VARIABLE)):
        assert parse_product(json.dumps(base(protocol)).encode(), "x").layout is layout
