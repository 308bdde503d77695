"""Corners of the decode and encode contract (cli.md §4 and §6) that reading it strictly brought up."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gizserial.codec import Codec
from gizserial.commands import FRAMES
from gizserial.describe import describe, render, to_json, tree
from gizserial.encoding import encode
from gizserial.errors import EncodeError
from gizserial.framing import Frame, Framer
from gizserial.io.products import load_product

ROOT = Path(__file__).resolve().parent.parent
PRODUCTS = ("pet-house", "var-len", "holes", "wide-bits")


def codec(name: str | None = None) -> Codec:
    return Codec(load_product(str(ROOT / "fixtures/products" / f"{name}.json")) if name else None)


def shown(frame: Frame, with_codec: Codec) -> dict[str, Any]:
    framer = Framer()
    (item,) = framer.feed(frame.encode()) + framer.flush()
    return to_json(describe(item, with_codec))


def agree(name: str, *words: str) -> dict[str, Any]:
    frame = encode(codec(), name, words)
    fields: dict[str, Any] = shown(frame, codec())["fields"]
    return fields


@pytest.mark.parametrize("lenient", [True, False])
def test_the_tree_has_every_byte_once_in_wire_order(lenient: bool) -> None:
    """Also of records in lists, of broken frames and of bodies that are too short."""
    rng = random.Random(20)
    codecs = [codec(), *(codec(name) for name in PRODUCTS)]
    actions = (1, 2, 3, 4, 5, 6, 0x11, 0x12, 0x13, 0x14, 0x71, 0x72, 0x73, 0x99)
    for _ in range(1500):
        command = rng.choice([3, 4, 5, 6, 0x22, 0x53, *FRAMES, 0x2B])
        payload = bytes(
            rng.choice([0, 1, 2, 255, 0x55, rng.randrange(256)]) for _ in range(rng.randrange(120))
        )
        if command <= 6:
            payload = bytes((rng.choice(actions),)) + payload
        wire = bytearray(Frame(command, rng.randrange(256), payload, rng.choice([0, 1, 3])).encode())
        if rng.random() < 0.3:
            wire[rng.randrange(len(wire))] = rng.choice([255, 0x55, rng.randrange(256)])
        if rng.random() < 0.2:
            del wire[rng.randrange(len(wire)) :]
        framer = Framer(lenient=lenient)
        for item in framer.feed(wire) + framer.flush():
            described = describe(item, rng.choice(codecs))
            here = item.offset
            for node in tree(described):
                assert node.offset == here, wire.hex()
                here += len(node.wire)
            assert here == item.offset + len(item.wire), wire.hex()
            assert render(described)


def test_records_of_a_list_are_shown_inside_it() -> None:
    frame = encode(codec(), "p0_from_mcu", ["action=0x71", 'devices=[{"mesh_id": "a", "online": true}]'])
    (item,) = Framer().feed(frame.encode())
    (devices,) = [node for node in tree(describe(item, codec())) if node.label == "devices"]
    assert [(node.label, node.offset) for node in devices.children] == [("mesh_id", 11), ("online", 13)]
    assert devices.offset == 9
    assert devices.wire.hex() == "0001016101"


def test_the_sub_device_stays_known_when_the_body_is_too_short() -> None:
    """An error of kind payload has the members of a frame, without attrs and raw."""
    found = shown(Frame(3, 1, bytes.fromhex("03616263110041"), flags=1), codec("var-len"))
    assert (found["kind"], found["error"]) == ("error", "payload")
    assert found["fields"] == {"did": "abc"}
    assert found["action"] == 0x11
    assert not {"attrs", "raw"} & found.keys()


def test_an_empty_optional_body_has_no_fields() -> None:
    assert "fields" not in shown(Frame(0x21, 0), codec())
    assert shown(Frame(0x21, 0, b"\0"), codec())["fields"] == {"type": 0}


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ("02", None),
        ("0200", None),
        ("023030", "soft_ver is cut off: the body has only 3 bytes"),
        ("023030303030303031", "url is cut off: the body has only 9 bytes"),
        ("023030303030303031000561", "url is cut off: the body has only 12 bytes"),
        ("02303030303030303100016100", None),
    ],
)
def test_an_update_has_version_and_address(payload: str, error: str | None) -> None:
    found = shown(Frame(0x25, 0, bytes.fromhex(payload)), codec())
    assert found.get("detail") == error
    assert found["kind"] == ("error" if error else "frame")


@pytest.mark.parametrize("words", [["sub=2", "soft_ver=1"], ["sub=2", "url=x"]])
def test_an_update_is_not_made_in_part(words: list[str]) -> None:
    with pytest.raises(EncodeError, match="is missing"):
        encode(codec(), "transaction_result", words)


def test_lists_take_bools_as_every_field_does() -> None:
    devices = (
        '[{"mesh_id": "a", "online": 1}, {"mesh_id": "b", "online": "0"}, {"mesh_id": "c", "online": true}]'
    )
    got = agree("p0_from_mcu", "action=0x71", f"devices={devices}")["devices"]
    assert [row["online"] for row in got] == [True, False, True]
    with pytest.raises(EncodeError, match="true, false, 1 or 0"):
        agree("p0_from_mcu", "action=0x71", 'devices=[{"mesh_id": "a", "online": 2}]')


def test_bytes_that_are_not_utf8_go_through_texts() -> None:
    info = ["protocol_ver=1", "p0_ver=2", "hard_ver=1", "soft_ver=2", "product_key=k", "bind_time=0"]
    typed = os.fsdecode(b"data=a=\xff") if sys.platform != "win32" else "data=a=\udcff"
    assert agree("device_info_ack", *info, "dev_attr=", "product_secret=", typed)["data"] == {"a": "\\xff"}
    with pytest.raises(EncodeError, match="surrogate"):
        agree("p0_from_mcu", "action=0x71", 'devices=[{"mesh_id": "\\ud800", "online": true}]')


def test_one_byte_is_one_byte_in_messages() -> None:
    assert shown(Frame(0x0D, 0, b"\0"), codec())["detail"] == "status is cut off: the body has only 1 byte"
    short = shown(Frame(5, 0, b"\x14\0"), codec("var-len"))
    assert short["detail"] == "attr_flags has 1 byte, the product needs 2"


@pytest.mark.skipif(sys.platform == "win32", reason="a closed standard output is a matter of POSIX shells")
def test_a_closed_standard_output_is_no_error() -> None:
    code = "import os; os.close(1); os.execv({0!r}, [{0!r}, '-c', {1!r}, 'decode', 'FFFF0005070100000D'])"
    main = "from gizserial.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code.format(sys.executable, main)],
        stderr=subprocess.PIPE,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="locales of POSIX")
def test_enum_texts_are_typed_in_any_locale() -> None:
    """Without a UTF-8 locale Python takes the words for something else; the terminal sent UTF-8 anyway."""
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    main = [sys.executable, "-c", "from gizserial.cli import main; main()"]
    result = subprocess.run(
        [*main, "encode", "-p", "fixtures/products/pet-house.json", "control", "LED_Color=粉色".encode()],
        capture_output=True,
        cwd=ROOT,
        env=plain,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.strip() == b"ffff000c030000000102060000000018"
