from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from gizserial.capture import SUFFIXES
from gizserial.cli import cli
from gizserial.cli.params import HEX, INPUT, FileInput, HexInput, read_inputs
from gizserial.errors import GizserialError

BOTH = (
    '{"meta":{"product":"pet.json"}}\n'
    '{"t":0.1,"dir":"module>mcu","hex":"ffff0005070100000d","note":"heartbeat"}\n'
    '{"t":0.2,"mcu":{"what":"tx"}}\n'
    '{"t":0.3,"dir":"mcu>module","hex":"ffff0005080100000e"}\n'
)
PLAIN = "ff ff 00 05 07 01 00 00 0d\nff ff 00 0c 03 42 00 00 01 27 07 c8 00 00 07 4f\n"
WIRE = bytes.fromhex(PLAIN)
MAIN = "from gizserial.cli import main; main()"


def run(*args: str | Path, stdin: bytes = b"") -> Result:
    """The command line without the outermost layer that turns our errors into sentences and status 2."""
    return CliRunner().invoke(cli, ["convert", *map(str, args)], input=stdin)


def fails(result: Result) -> str:
    """The sentence of a conversion that is refused."""
    if isinstance(result.exception, GizserialError):
        return str(result.exception)
    assert result.exit_code == 2, result.output
    return result.stderr


@pytest.mark.parametrize(("source", "target"), list(itertools.product(SUFFIXES, SUFFIXES)))
def test_every_format_to_every_format(tmp_path: Path, source: str, target: str) -> None:
    plain, there, back = tmp_path / "plain.hex", tmp_path / f"a{source}", tmp_path / f"b{target}"
    plain.write_text(PLAIN)
    for step in ((plain, there), (there, back), (back, tmp_path / "end.bin")):
        result = run(*step)
        assert result.exit_code == 0, result.output
        assert result.stdout == ""
    assert (tmp_path / "end.bin").read_bytes() == WIRE


def test_json_lines_keep_everything(tmp_path: Path) -> None:
    source, target = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    source.write_text(BOTH)
    result = run(source, target)
    assert (result.exit_code, result.output) == (0, "")
    assert target.read_text() == BOTH


def test_in_and_out_may_be_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(BOTH.replace('":', '" : '))
    assert run(path, path).exit_code == 0
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        json.loads(line) for line in BOTH.splitlines()
    ]


@pytest.mark.parametrize(
    ("suffix", "lost"),
    [
        (".pcapng", "meta lines (1), other members (1), other lines (1)"),
        (
            ".hex",
            (
                "meta lines (1), times (there as text, for people) (2), "
                "directions (there as text, for people) (2), other members (1), other lines (1)"
            ),
        ),
    ],
)
def test_what_is_not_kept_is_told(tmp_path: Path, suffix: str, lost: str) -> None:
    source, target = tmp_path / "a.jsonl", tmp_path / f"b{suffix}"
    source.write_text(BOTH)
    result = run(source, target)
    assert result.exit_code == 0
    assert result.stderr == f"note: {target} does not keep: {lost}\n"


def test_two_directions_do_not_fit_into_raw_bytes(tmp_path: Path) -> None:
    source, target = tmp_path / "a.jsonl", tmp_path / "b.bin"
    source.write_text(BOTH)
    target.write_bytes(b"old")
    assert (
        "raw bytes hold one direction and the input has both; gizserial convert --sender picks one"
        in fails(run(source, target))
    )
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.bin"]


@pytest.mark.parametrize(
    ("sender", "data"), [("mcu", "ffff0005080100000e"), ("module", "ffff0005070100000d")]
)
def test_one_direction_is_chosen(tmp_path: Path, sender: str, data: str) -> None:
    source, target = tmp_path / "a.jsonl", tmp_path / "b.bin"
    source.write_text(BOTH)
    assert run(source, target, "--sender", sender).exit_code == 0
    assert target.read_bytes() == bytes.fromhex(data)


def test_a_direction_is_added_where_there_is_none(tmp_path: Path) -> None:
    source, target = tmp_path / "a.bin", tmp_path / "b.jsonl"
    source.write_bytes(b"\xff\x01")
    result = run(source, target)
    assert target.read_text() == '{"hex":"ff01"}\n'
    assert "does not say who sent the bytes" in result.stderr
    assert "--sender mcu or --sender module adds it" in result.stderr
    result = run("--sender", "mcu", source, target)
    assert target.read_text() == '{"dir":"mcu>module","hex":"ff01"}\n'
    assert result.stderr == ""


def test_nothing_of_that_side_is_told(tmp_path: Path) -> None:
    source, target = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    source.write_text('{"t":0,"dir":"mcu>module","hex":"ff"}\n')
    result = run("--sender", "module", source, target)
    assert f"{target} is empty: the module sent nothing in {source}" in result.stderr


@pytest.mark.parametrize("data", [BOTH.encode(), b"12:00 TX ff 01", b"\xff\x01\x00"])
def test_standard_input_and_output(tmp_path: Path, data: bytes) -> None:
    target = tmp_path / "b.hex"
    assert run("-", target, stdin=data).exit_code == 0
    result = run(target, "-", "--to", "bin")
    assert result.exit_code == 0
    assert result.stdout_bytes == bytes.fromhex(
        "ffff0005070100000dffff0005080100000e"
        if data[:1] == b"{"
        else "ff01"
        if data[:1] == b"1"
        else "ff0100"
    )


def test_formats_can_be_named(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b.dat"
    source.write_text("ff 01")
    assert run("--from", "hex", "--to", "bin", source, target).exit_code == 0
    assert target.read_bytes() == b"\xff\x01"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("none.jsonl", "b.bin"), "none.jsonl: there is no such file"),
        ((".", "b.bin"), ".: it is a directory"),
        (("a.jsonl", "."), "it has no suffix; a capture has one of .jsonl, .bin, .hex, .txt, .log, .pcapng"),
        (("a.jsonl", "b.foo"), "b.foo: it has the suffix .foo; a capture has one of"),
        (("a.foo", "b.bin"), "a.foo: it has the suffix .foo"),
        (("a.jsonl", "no/b.bin"), "no/b.bin: its directory does not exist"),
        (("a.jsonl", "-"), "standard output has no suffix; name the format, for example --to jsonl"),
        (("bad.jsonl", "b.bin"), "bad.jsonl, line 2: not JSON"),
        (("bad.hex", "b.bin"), "bad.hex, line 1: 'hello' is not a hex byte"),
        (("bad.pcapng", "b.bin"), "bad.pcapng, byte 0: this is not a pcapng file"),
        (("a.jsonl",), "Missing argument 'OUT'"),
    ],
)
def test_what_is_refused_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text(BOTH)
    Path("a.foo").write_text("ff")
    Path("bad.jsonl").write_text('{"t":0,"dir":"mcu>module","hex":"ff"}\nff\n')
    Path("bad.hex").write_text("ff hello")
    Path("bad.pcapng").write_text("ff")
    before = sorted(tmp_path.iterdir())
    assert says in fails(run(*args))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(os.name != "posix", reason="a terminal to look at needs a pty")
def test_a_long_conversion_shows_progress_on_a_terminal_only(tmp_path: Path) -> None:
    source = tmp_path / "a.bin"
    source.write_bytes(bytes(4 * 1024 * 1024))
    command = [sys.executable, "-c", MAIN, "convert", str(source), str(tmp_path / "b.bin")]
    silent = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert (silent.stdout, silent.stderr) == (b"", b"")
    master, terminal = os.openpty()
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal)
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # Linux says that the other end is gone
            while data := os.read(master, 4096):
                shown += data
        assert process.communicate(timeout=60)[0] == b""
    finally:
        os.close(master)
    assert process.returncode == 0
    assert b"100%" in shown


def test_the_help_ends_with_a_line_to_copy() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert result.output.rstrip().endswith("gizserial convert capture.jsonl capture.pcapng")


# The arguments that other commands share


def converted(*values: str) -> list[FileInput | HexInput]:
    return [INPUT.convert(value, None, None) for value in values]


def test_paths_and_hex_words_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.bin").write_bytes(b"")
    Path("ff").write_bytes(b"not looked at")
    assert converted("-", "a.bin", "ff", "0xFF,0x00", "FF FF 00 05") == [
        FileInput("-"),
        FileInput("a.bin"),
        HexInput(b"\xff"),
        HexInput(b"\xff\x00"),
        HexInput(b"\xff\xff\x00\x05"),
    ]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("fff", "'fff' is neither a file nor hex words (a byte is two hex digits)"),
        ("hello", "neither a file nor hex words"),
        ("", "it is empty; give a file, hex words or -"),
        ("12:00 ff", "neither a file nor hex words"),
        ("nul\0", "neither a file nor hex words"),
        ("z" * 5000, "…' is neither"),
        ("none.bin", "'none.bin': there is no such file"),
        (".", "'.' is a directory, not a capture"),
        (
            "./ff",
            "it has no suffix; a capture has one of .jsonl, .bin, .hex, .txt, .log, .pcapng, or is piped",
        ),
    ],
)
def test_other_words_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ff").write_bytes(b"")
    with pytest.raises(click.BadParameter) as caught:
        INPUT.convert(value, None, None)
    assert says in caught.value.message


def test_files_are_streams_of_their_own_and_neighbouring_words_are_joined(tmp_path: Path) -> None:
    first, second = tmp_path / "a.bin", tmp_path / "b.jsonl"
    first.write_bytes(b"\x01\x02")
    second.write_text(BOTH)
    inputs = converted("ff ff", "00", str(first), str(second), "05", "06")
    streams = [
        (stream.name, b"".join(record.data for record in stream.records), stream.meta and stream.meta.product)
        for stream in read_inputs(inputs)
    ]
    assert streams == [
        ("hex words", b"\xff\xff\x00", None),
        (str(first), b"\x01\x02", None),
        (str(second), bytes.fromhex("ffff0005070100000dffff0005080100000e"), "pet.json"),
        ("hex words", b"\x05\x06", None),
    ]


def test_hex_arguments() -> None:
    assert HEX.convert("0xFF 00", None, None) == HEX.convert(b"\xff\x00", None, None) == b"\xff\x00"
    with pytest.raises(click.BadParameter, match="'f' is not hex; a byte is two hex digits"):
        HEX.convert("f", None, None)
