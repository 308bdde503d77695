"""``gizserial decode`` and ``encode`` as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies_product import products, raw_values

from gizserial.codec import Codec
from gizserial.describe import describe, to_json, value_text
from gizserial.encoding import encode
from gizserial.framing import Framer
from gizserial.product import Product

PET = "fixtures/products/pet-house.json"
VAR_LEN = "fixtures/products/var-len.json"
ROOT = Path(__file__).resolve().parent.parent


def gizserial(*words: str, stdin: bytes = b"", cwd: Path = ROOT) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", "from gizserial.cli import main; main()", *words],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        timeout=60,
        check=False,
    )


def objects(result: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.decode().splitlines()]


def test_the_examples_of_the_contract(vectors: Callable[[str], Any], tmp_path: Path) -> None:
    for group in vectors("decode_json.json")["groups"]:
        path = tmp_path / "capture.jsonl"
        lines = [{"t": o["t"], "dir": o["dir"], "hex": o["wire"]} for o in group["objects"]]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        result = gizserial("decode", str(path), "-p", f"fixtures/products/{group['product']}", "--json")
        shown = {(o["dir"], o["offset"]): o for o in objects(result)}
        assert [shown[o["dir"], o["offset"]] for o in group["objects"]] == group["objects"]
        assert result.returncode == int(any(o["kind"] != "frame" for o in group["objects"]))
        assert result.stderr == b""


@pytest.mark.parametrize(
    ("words", "stdin", "status", "kinds"),
    [
        (["FFFF0005070100000D"], b"", 0, ["frame"]),
        (["FF", "FF", "00", "05", "07", "01", "00", "00", "0D"], b"", 0, ["frame"]),
        (["0xFF,0xFF,0x00,0x05,0x07,0x01,0x00,0x00,0x0D"], b"", 0, ["frame"]),
        ([], b"FF FF 00 05 07 01 00 00 0D", 0, ["frame"]),
        (["-"], bytes.fromhex("FFFF0005070100000D"), 0, ["frame"]),
        (["-"], b'{"t":1,"dir":"module>mcu","hex":"ffff0005070100000d"}\n', 0, ["frame"]),
        (["FFFF00050701000000"], b"", 1, ["error"]),
        (["00FF13"], b"", 1, ["noise"]),
        ([], b"", 0, []),
    ],
)
def test_inputs(words: list[str], stdin: bytes, status: int, kinds: list[str]) -> None:
    result = gizserial("decode", *words, "--json", stdin=stdin)
    assert result.stderr == b""
    assert [o["kind"] for o in objects(result)] == kinds
    assert result.returncode == status


def test_every_file_is_a_stream_of_its_own(tmp_path: Path) -> None:
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(bytes.fromhex("FFFF0005070100000D"))
    result = gizserial("decode", str(tmp_path / "a.bin"), "0000", "01", str(tmp_path / "b.bin"), "--json")
    assert [(o["kind"], o["offset"], o["length"]) for o in objects(result)] == [
        ("frame", 0, 9),
        ("noise", 0, 3),
        ("frame", 0, 9),
    ]


def test_the_tree_names_every_field() -> None:
    result = gizserial("decode", "-p", PET, "FFFF000C03420000012707C80000074F")
    text = result.stdout.decode()
    for word in ("p0_to_mcu", "length", "checksum", "LED_Color  粉色 (raw 3)", "attr_flags"):
        assert word in text
    assert result.returncode == 0


def test_strict_refuses_what_is_leniently_accepted() -> None:
    wire = "FFFF00070901 0000FF1020".replace(" ", "")
    assert gizserial("decode", wire).returncode == 0
    strict = gizserial("decode", wire, "--strict", "--json")
    assert objects(strict)[0]["error"] == "escape"
    assert strict.returncode == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["decode", "nosuch.jsonl"], "no such file"),
        (["decode", "zz"], "neither a file nor hex words"),
        (["decode", "tests"], "is a directory"),
        (["decode", "-p", "tests", "00"], "directory"),
        (["decode", "-p", "nosuch.json", "00"], "no such file"),
        (["decode", "-p", "fixtures/products/broken/comment.json", "00"], "$"),
        (["encode", "nosuch"], "there is no frame 'nosuch'"),
        (["encode", "control"], "needs a product definition"),
        (["encode", "-p", PET, "control", "LED_R=300"], "0 to 254"),
        (["encode", "-p", PET, "control", "Nope=1"], "there is no data point 'Nope'"),
        (["encode", "-p", PET, "control", "Infrared=1"], "only writable points"),
        (["encode", "-p", PET, "control", "LED_R"], "needs a value"),
        (["encode", "-p", PET, "control", "LED_R=1", "LED_R=2"], "given twice"),
        (["encode", "-p", PET, "read", "LED_R"], "names no points"),
        (["encode", "provision"], "the field mode is missing"),
        (["encode", "provision", "mode=4", "ssid=a", "bssid="], "the field password is missing"),
        (["encode", "status", "rssi=9"], "0 to 7"),
        (["encode", "heartbeat", "x=1"], "there is no field 'x'"),
        (["encode", "raw_to_mcu"], "the field data is missing"),
        (["encode", "raw_to_mcu", "data=0"], "hex digits in pairs"),
        (["encode", "file_announce", "size=4294967296", "md5=x"], "0 to 4294967295"),
        (["encode", "heartbeat", "--sn", "256"], "256"),
        (["encode", "raw_to_mcu", "data=" + "00" * 4091], "4091 is the most"),
        (["encode", "heartbeat", "--out", "nosuch/dir/file"], "directory does not exist"),
        (["decode", "--nosuch"], "No such option"),
        (["nosuch"], "No such command"),
    ],
)
def test_wrong_usage_is_one_sentence(words: list[str], sentence: str) -> None:
    result = gizserial(*words)
    error = result.stderr.decode()
    assert result.returncode == 2, (error, result.stdout)
    assert sentence in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1, error
    assert result.stdout == b""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipe that breaks like this")
def test_a_reader_that_has_seen_enough_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "many.bin"
    path.write_bytes(bytes.fromhex("FFFF0005070100000D") * 20_000)
    command = [sys.executable, "-c", "from gizserial.cli import main; main()", "decode", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == b""


def test_debug_shows_the_traceback() -> None:
    assert b"Traceback" in gizserial("encode", "nosuch", "--debug").stderr


@pytest.mark.parametrize(
    ("words", "wire"),
    [
        (["heartbeat", "--sn", "7"], "ffff00050707000013"),
        (
            [
                "-p",
                PET,
                "control",
                "LED_OnOff=true",
                "LED_Color=粉色",
                "LED_R=200",
                "Motor_Speed=2",
                "--sn",
                "66",
            ],
            "ffff000c03420000012707c80000074f",
        ),
        (["-p", PET, "read", "--sn", "67"], "ffff0006034300000 24e".replace(" ", "")),
        (
            [
                "-p",
                PET,
                "report",
                "LED_OnOff=1",
                "LED_Color=3",
                "LED_R=200",
                "Motor_Speed=2",
                "Infrared=1",
                "Temperature=25",
                "Humidity=60",
                "Alert_1=1",
                "Fault_Motor=1",
                "Fault_IR=1",
                "--sn",
                "16",
            ],
            "ffff0010051000000407c800000701263c010a6d",
        ),
        (
            ["-p", VAR_LEN, "control", "Switch=1", "Bright=80", "--sn", "1"],
            "ffff000a0301000011004101 50b1".replace(" ", ""),
        ),
        (
            ["-p", VAR_LEN, "control", "Mode=4", "Fan=2", "Tag=01FF00", "--sn", "2"],
            "ffff000c03020000110230 1401ff550068".replace(" ", ""),
        ),
        (["-p", VAR_LEN, "read", "Temp", "Energy", "--sn", "3"], "ffff000803030000120180a1"),
        (
            ["-p", VAR_LEN, "read_reply", "Temp=25.3", "Energy=123456", "--sn", "3"],
            "ffff000e0403000013018002290001e240f7",
        ),
        (["raw_from_mcu", "data=ff55ffff", "--sn", "17"], "ffff000a0511000006ff5555ff55ff5578"),
        (
            ["status", "station=true", "router=1", "cloud=true", "rssi=7", "--sn", "3"],
            "ffff00070d030000073250",
        ),
        (["status", "status=0x0732", "--sn", "3"], "ffff00070d030000073250"),
        (
            ["provision", "mode=4", "ssid=Home", "password=pass1234", "bssid=1ccf7fb6bbff", "--sn", "3"],
            "ffff00210903000004 04486f6d65 0870617373313233340c316363663766623662626666 75".replace(" ", ""),
        ),
        (["p0_to_mcu_ack", "--sn", "66"], "ffff0005044200004b"),
        (["illegal_frame_from_mcu", "code=2", "--sn", "5"], "ffff000612050000021f"),
        (
            ["file_ready", "md5=fb7001d34b8e82c9b579be5005d5b0a5", "piece_size=128", "--sn", "11"],
            "ffff00291b0b0000002066623730303164333462386538326339623537396265353030356435623061350080a8",
        ),
    ],
)
def test_encode(words: list[str], wire: str) -> None:  # serial.md §8, §9.4
    result = gizserial("encode", *words)
    assert result.stderr == b""
    assert result.stdout.decode().strip() == wire


def test_encode_to_a_file(tmp_path: Path) -> None:
    out = tmp_path / "帧.bin"
    assert gizserial("encode", "heartbeat", "--out", str(out)).stdout == b""
    assert out.read_bytes() == bytes.fromhex("ffff0005070000000c")


def test_a_large_frame_is_warned_of() -> None:
    result = gizserial("encode", "raw_to_mcu", "data=" + "00" * 1015)
    assert result.returncode == 0
    assert b"1016 bytes" in result.stderr


@pytest.mark.parametrize("pattern", [b"\xff", b"\xff\x55", None], ids=["FF", "FF 55", "random"])
def test_ten_megabytes_of_rubbish(pattern: bytes | None, tmp_path: Path) -> None:
    """Findings, status 1, flat memory, time that grows with the input only."""
    import random

    size = 10_000_000
    path = tmp_path / "rubbish.bin"
    path.write_bytes(
        random.Random(7).randbytes(size) if pattern is None else pattern * (size // len(pattern))
    )
    # What the kernel counts for a process before it runs our program is the test runner's.
    script = (
        "import pathlib, re, sys\n"
        "from gizserial.cli import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    status = pathlib.Path('/proc/self/status')\n"
        "    text = status.read_text() if status.exists() else 'VmHWM: 0 kB'\n"
        "    print(re.search(r'VmHWM:\\s+([0-9]+)', text)[1], file=sys.stderr)\n"
    )
    started = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", script, "decode", str(path), "--json"],
        capture_output=True,
        timeout=100,
        check=False,
        cwd=ROOT,
    )
    assert result.returncode == 1
    shown = objects(result)
    assert sum(o["length"] for o in shown) == size
    assert {o["kind"] for o in shown} <= {"noise", "error", "frame"}
    assert int(result.stderr) * 1024 < 80_000_000
    assert time.monotonic() - started < 60


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_what_encode_prints_decode_reads_back(data: st.DataObject) -> None:
    product: Product = data.draw(products())
    codec = Codec(product)
    raw = data.draw(raw_values(product))
    words = [f"{name}={_typed(product, name, value)}" for name, value in raw.items()]
    for form in ("report", "read_reply", "control"):
        chosen = words
        if form == "control":
            chosen = [word for word in words if product.point(word.partition("=")[0]).writable]
            if not product.writable:
                continue
        frame = encode(codec, form, chosen)
        [item] = Framer().feed(frame.encode())
        got = to_json(describe(item, codec))
        assert got["kind"] == "frame"
        if len(raw) == len(product.points):  # what is not named is 0, which a definition may not allow
            assert got["warnings"] == []
        for word in chosen:
            name = word.partition("=")[0]
            expected = raw[name]
            assert got["raw"][name] == (expected.hex() if isinstance(expected, bytes) else expected)
        block = codec.p0.data_points.dev_status if form != "control" else None
        if block is not None:
            # the fast reader and the construct schema it replaces
            values = {
                **{p.name: (bytes(p.size) if p.size and p.scale is None else 0) for p in product.points},
                **raw,
            }
            assert dict(block.schema.parse(block.schema.build(values))) == block.parse(
                block.build(raw), "status"
            )


def _typed(product: Product, name: str, raw: int | bytes) -> str:
    point = product.point(name)
    if point.texts:
        return str(raw) if str(raw) not in point.texts else str(point.texts[int(raw)])
    return value_text(point.value(raw))
