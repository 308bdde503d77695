from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from gizserial.cli import cli
from gizserial.cli.group import run
from gizserial.cli.table import printable, table, text_width

Run = Callable[..., Result]


@pytest.fixture
def invoke() -> Run:
    def invoke(*args: object) -> Result:
        return CliRunner().invoke(cli, ["product", *map(str, args)], catch_exceptions=False)

    return invoke


@pytest.fixture
def folder(fixtures: Path) -> Path:
    return fixtures / "products"


def objects(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_check_of_a_clean_file(invoke: Run, folder: Path) -> None:
    file = folder / "pet-house.json"
    result = invoke("check", file)
    assert (result.exit_code, result.stdout) == (0, f"{file}: no errors, no warnings\n")
    result = invoke("check", "--json", file)
    assert (result.exit_code, result.stdout) == (0, "")


def test_check_of_a_broken_file(invoke: Run, folder: Path) -> None:
    file = folder / "broken" / "min-above-max.json"
    result = invoke("check", file, "--json")
    assert result.exit_code == 1
    assert objects(result) == [
        {
            "file": str(file),
            "path": "$.entities[0].attrs[2].uint_spec.min",
            "severity": "error",
            "message": "min 100 is larger than max 0",
            "remedy": "exchange them, or mend the wrong one",
        }
    ]
    text = invoke("check", file)
    assert text.exit_code == 1
    assert text.stdout.splitlines() == [
        f"{file}: $.entities[0].attrs[2].uint_spec.min: error: min 100 is larger than max 0",
        "    exchange them, or mend the wrong one",
    ]


def test_warnings_are_no_failure(invoke: Run, folder: Path) -> None:
    result = invoke("check", folder / "holes.json", "--json")
    assert result.exit_code == 0
    assert {found["severity"] for found in objects(result)} == {"warning"}


def test_check_goes_on_after_a_file_that_cannot_be_read(invoke: Run, folder: Path, tmp_path: Path) -> None:
    broken, clean = folder / "broken" / "no-name.json", folder / "pet-house.json"
    result = invoke("check", "--json", tmp_path / "none.json", broken, tmp_path, clean)
    assert result.exit_code == 2
    assert [found["path"] for found in objects(result)] == ["$.name"]
    assert result.stderr.splitlines() == [
        f"gizserial: {tmp_path / 'none.json'}: there is no such file or directory",
        f"gizserial: {tmp_path}: it is a directory, not a file",
    ]


def test_what_is_not_json_is_a_finding_not_a_crash(invoke: Run, folder: Path) -> None:
    for name in ("comment", "not-utf-8"):
        result = invoke("check", folder / "broken" / f"{name}.json", "--json")
        assert result.exit_code == 1
        assert [found["path"] for found in objects(result)] == ["$"]


def test_show_aligns_chinese_texts(invoke: Run, folder: Path) -> None:
    result = invoke("show", folder / "pet-house.json")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Pet house of the bench (standard, key ")
    assert lines[2] == "bytes: flags 1, values of a control 5, status 10"
    rows = lines[4:]
    assert len(rows) == 16
    raw = text_width(rows[0].partition("raw ")[0])
    assert [text_width(row.partition("  0 to ")[0]) + 2 for row in rows if "自定义" in row] == [raw]
    assert rows[2].split("  ")[-1] == "灯光颜色"
    assert "byte 0 bits 1-2" in rows[2]
    assert "-5 to 5" in rows[6]


def test_show_has_no_whole_product_key(invoke: Run, folder: Path) -> None:
    key = json.loads((folder / "pet-house.json").read_bytes())["product_key"]
    assert key not in invoke("show", folder / "pet-house.json").output


def test_show_of_bits_over_two_bytes(invoke: Run, folder: Path) -> None:
    """serial.md §8.2."""
    result = invoke("show", folder / "wide-bits.json", "--json")
    rows = {row["name"]: row for row in objects(result)}
    assert (rows["Linkage"]["bytes"], rows["Linkage"]["bits"], rows["Linkage"]["flag"]) == ([0, 1], [7, 8], 6)
    assert (rows["AutoMode"]["bytes"], rows["AutoMode"]["bits"]) == ([0, 0], [9, 11])
    assert "flag" not in rows["Fault_Overcurrent"]
    assert rows["AutoTime00"] == {
        "id": 14,
        "name": "AutoTime00",
        "display_name": "First switching time",
        "desc": "",
        "data_type": "binary",
        "type": "status_writable",
        "flag": 14,
        "size": 8,
        "bytes": [8, 15],
    }
    assert "byte 1 bit 7, byte 0 bit 0" in invoke("show", folder / "wide-bits.json").stdout


def test_show_of_a_var_len_product(invoke: Run, folder: Path) -> None:
    result = invoke("show", folder / "var-len.json")
    assert "bytes: flags 2, all values 12" in result.stdout
    assert "position" not in result.stdout
    assert "-30 to 50 step 0.1" in result.stdout
    (temp,) = [
        row for row in objects(invoke("show", folder / "var-len.json", "--json")) if row["name"] == "Temp"
    ]
    assert (temp["min"], temp["max"], temp["raw_min"], temp["raw_max"], temp["ratio"]) == (
        -30,
        50,
        0,
        800,
        0.1,
    )
    assert "bytes" not in temp


def test_show_of_every_real_definition(invoke: Run, samples: Path) -> None:
    for file in samples.glob("*.json"):
        assert invoke("show", file).exit_code == 0
        assert invoke("show", file, "--json").exit_code == 0


def test_show_does_not_pass_on_control_characters(invoke: Run, folder: Path, tmp_path: Path) -> None:
    text = (folder / "pet-house.json").read_text(encoding="utf-8")
    (tmp_path / "x.json").write_text(text.replace("灯开关", "\\u001b[2J\\nx"), encoding="utf-8")
    output = invoke("show", tmp_path / "x.json").output
    assert "\x1b" not in output
    assert "\\x1b[2J\\nx" in output


def test_show_of_a_product_without_points(invoke: Run, folder: Path, tmp_path: Path) -> None:
    document = json.loads((folder / "pet-house.json").read_bytes())
    document["entities"][0]["attrs"] = []
    (tmp_path / "x.json").write_text(json.dumps(document), encoding="utf-8")
    result = invoke("show", tmp_path / "x.json")
    assert result.exit_code == 0
    assert "0 data points" in result.stdout


def test_diff_of_the_same_file(invoke: Run, folder: Path) -> None:
    file = folder / "pet-house.json"
    result = invoke("diff", file, file)
    assert (result.exit_code, result.stdout) == (
        0,
        "deployed firmware: goes on working\ndeployed apps: goes on working\n",
    )
    assert invoke("diff", file, file, "--json").stdout == ""


def test_diff_says_what_breaks(invoke: Run, folder: Path, tmp_path: Path) -> None:
    file = folder / "pet-house.json"
    text = file.read_text(encoding="utf-8")
    (tmp_path / "new.json").write_text(text.replace("Motor_Speed", "Fan_Speed", 1), encoding="utf-8")
    result = invoke("diff", file, tmp_path / "new.json")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "Motor_Speed: renamed: Motor_Speed -> Fan_Speed",
        "    firmware: fine, apps: breaks; names do not travel on the line, but apps use them",
        "deployed firmware: goes on working",
        "deployed apps: breaks, see above",
    ]
    (change,) = objects(invoke("diff", "--json", file, tmp_path / "new.json"))
    assert change == {
        "point": "Motor_Speed",
        "change": "renamed",
        "old": "Motor_Speed",
        "new": "Fan_Speed",
        "wire": False,
        "firmware": "fine",
        "apps": "breaks",
        "reason": "names do not travel on the line, but apps use them",
    }


@pytest.mark.parametrize("command", ["show", "diff"])
@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("none.json", "there is no such file"),
        (".", "it is a directory"),
        ("broken/ratio-zero.json", "attrs[4].uint_spec.ratio: the ratio must not be 0"),
    ],
)
def test_unusable_files_are_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, file: str, words: str
) -> None:
    names = [str(folder / file)] * (2 if command == "diff" else 1)
    with pytest.raises(SystemExit) as stop:
        run(cli, "gizserial", ["product", command, *names])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["", "check", "show", "diff"])
def test_help_ends_with_a_line_to_copy(invoke: Run, command: str) -> None:
    result = invoke(*filter(None, [command]), "--help")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].strip().startswith("gizserial product ")


def test_check_needs_a_file(invoke: Run) -> None:
    assert invoke("check").exit_code == 2


def test_tables() -> None:
    assert text_width("a灯e\u0301ｱ") == 5
    assert printable("a\tb\x9b\u202e") == "a\\tb\\x9b\\u202e"
    assert table(["n", "text", "x"], [["1", "灯", "y"], ["10", "abc", ""]], right=(0,)) == [
        " n  text  x",
        " 1  灯    y",
        "10  abc",
    ]


def test_the_group_is_a_click_group() -> None:
    from gizserial.cli.product import product

    assert isinstance(product, click.Group)
