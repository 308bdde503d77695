"""The monitor without a screen: rows, counters, values, filters and curves from bytes and times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from gizserial.capture import Record
from gizserial.cli import cli
from gizserial.cli.group import run
from gizserial.framing import Frame
from gizserial.io.files import open_capture
from gizserial.io.products import load_product
from gizserial.monitor import Filter, FilterError, Monitor, clean, plot_lines
from gizserial.monitor.filters import HELP
from gizserial.monitor.model import IDLE, KEEP_BYTES, TRIM_AFTER

ROOT = Path(__file__).resolve().parent.parent
PET = load_product(str(ROOT / "fixtures/products/pet-house.json"))
CAPTURE = ROOT / "fixtures/captures/pet-house.jsonl"

HEARTBEAT = bytes.fromhex("ffff0005070100000d")
HEARTBEAT_ACK = bytes.fromhex("ffff0005080100000e")
CONTROL = bytes.fromhex("ffff000c03420000012707c80000074f")
REPORT = bytes.fromhex("ffff0010051000000407c800000701263c010a6d")
STATUS = bytes.fromhex("ffff00070d030000073250")
BROKEN = bytes.fromhex("ffff00050701000000")


def report(sn: int, **changes: int) -> bytes:
    """The report of serial.md §8.1 with other bytes: payload index 6 is Temperature, 2 is LED_R."""
    payload = bytearray.fromhex("0407c800000701263c010a")
    payload[7] = changes.get("temperature", payload[7])
    payload[2] = changes.get("red", payload[2])
    return Frame(0x05, sn, bytes(payload)).encode()


def watched(*chunks: bytes, product: bool = True, step: float = 1.0) -> Monitor:
    monitor = Monitor(PET if product else None)
    for number, chunk in enumerate(chunks):
        monitor.receive_data(chunk, now=number * step)
    return monitor


def test_rows_say_what_the_examples_of_the_manual_say() -> None:
    monitor = watched(HEARTBEAT, HEARTBEAT_ACK, CONTROL, REPORT, STATUS)
    assert [(row.name, row.sn, row.direction) for row in monitor.rows] == [
        ("heartbeat", 1, "module>mcu"),
        ("heartbeat_ack", 1, "mcu>module"),
        ("p0_to_mcu", 66, "module>mcu"),
        ("p0_from_mcu", 16, "mcu>module"),
        ("status", 3, "module>mcu"),
    ]
    assert monitor.text(monitor.rows[2]) == "control LED_OnOff=true LED_Color=粉色 LED_R=200 Motor_Speed=2"
    assert monitor.text(monitor.rows[4]) == "0732 station, router, cloud, rssi 7"


def test_any_chunking_gives_the_same_rows() -> None:
    wire = HEARTBEAT + b"\x00\x13" + REPORT + BROKEN + STATUS
    whole = watched(wire)
    bytewise = watched(*(wire[i : i + 1] for i in range(len(wire))), step=0.001)
    assert [(r.kind, r.name, r.item) for r in whole.rows] == [(r.kind, r.name, r.item) for r in bytewise.rows]


def test_a_row_has_the_time_of_its_first_byte() -> None:
    monitor = watched(HEARTBEAT[:3], HEARTBEAT[3:], step=0.25)
    assert monitor.rows[0].t == 0.0


def test_every_byte_is_in_one_row_and_can_be_saved() -> None:
    chunks = [HEARTBEAT + b"\xff\x13", BROKEN, REPORT[:7]]
    monitor = watched(*chunks)
    monitor.flush()
    assert b"".join(record.data for record in monitor.records()) == b"".join(chunks)
    assert [row.kind for row in monitor.rows] == ["frame", "noise", "error", "error"]
    assert [row.mark for row in monitor.rows] == [" ", "~", "!", "!"]


def test_silence_ends_an_incomplete_frame() -> None:
    monitor = watched(REPORT[:7])
    assert monitor.next_timeout() == IDLE
    assert monitor.handle_timeout(now=IDLE - 0.01) == []
    assert [row.kind for row in monitor.handle_timeout(now=IDLE)] == ["error"]
    assert monitor.next_timeout() is None
    assert monitor.counters.bad == {"truncated": 1}


def test_two_lines_do_not_mix() -> None:
    monitor = Monitor(PET)
    monitor.receive_data(REPORT[:9], now=0, direction="mcu>module")
    monitor.receive_data(HEARTBEAT, now=1, direction="module>mcu")
    monitor.receive_data(REPORT[9:], now=2, direction="mcu>module")
    assert [row.name for row in monitor.rows] == ["heartbeat", "p0_from_mcu"]
    assert [record.direction for record in monitor.records()] == ["module>mcu", "mcu>module"]


def test_a_frame_on_the_wrong_line_is_warned_of() -> None:
    monitor = Monitor()
    monitor.receive_data(HEARTBEAT, now=0, direction="mcu>module")
    assert monitor.rows[0].mark == "?"
    assert "other direction" in monitor.text(monitor.rows[0])


# --- counters ------------------------------------------------------------------------------------------


def test_counters_per_command_and_time_until_the_ack() -> None:
    monitor = Monitor(PET)
    for sn in range(4):
        monitor.receive_data(Frame(0x07, sn).encode(), now=sn * 10.0)
        monitor.receive_data(Frame(0x08, sn).encode(), now=sn * 10.0 + 0.02 * (sn + 1))
    count = monitor.counters.counts["module>mcu", "heartbeat"]
    assert (count.frames, count.acks, count.bytes) == (4, 4, 36)
    assert count.ack_mean == pytest.approx(0.05)
    assert count.ack_max == pytest.approx(0.08)
    assert monitor.counters.resends == 0


def test_resends_are_the_same_frame_again_within_the_time_of_resends() -> None:
    """serial.md §6.1: 200 ms, two resends. The same frame half a minute later is a new one."""
    monitor = Monitor(PET)
    for t in (0.0, 0.2, 0.4, 30.0):
        monitor.receive_data(REPORT, now=t)
    assert [row.repeat for row in monitor.rows] == [False, True, True, False]
    assert monitor.counters.resends == 2


def test_acks_of_resends_are_no_resends() -> None:
    monitor = watched(HEARTBEAT_ACK, HEARTBEAT_ACK, step=0.1)
    assert monitor.counters.resends == 0


def test_bad_frames_and_noise_are_counted_by_reason() -> None:
    short = Frame(0x05, 1, bytes.fromhex("0407c80000")).encode()
    monitor = watched(BROKEN, b"\x01\x02\x03" + short)
    assert monitor.counters.bad == {"checksum": 1, "payload": 1}
    assert monitor.counters.noise_bytes == 3
    assert monitor.counters.frames == 0


def test_rates_are_of_the_last_seconds() -> None:
    monitor = Monitor()
    for number in range(100):
        monitor.receive_data(HEARTBEAT, now=number / 10)
    frames, size = monitor.counters.rates(10.0)
    assert frames == pytest.approx(10, abs=0.5)
    assert size == pytest.approx(90, abs=5)
    assert monitor.counters.rates(100.0) == (0, 0)


# --- values --------------------------------------------------------------------------------------------


def test_values_of_the_report_in_the_manual() -> None:
    values = watched(REPORT).values.by_name
    assert {name: value.text for name, value in values.items()} == {
        "LED_OnOff": "true",
        "LED_Color": "粉色",
        "LED_R": "200",
        "LED_G": "0",
        "LED_B": "0",
        "Motor_Speed": "2",
        "Infrared": "true",
        "Temperature": "25",
        "Humidity": "60",
        "Alert_1": "true",
        "Alert_2": "false",
        "Fault_LED": "false",
        "Fault_Motor": "true",
        "Fault_TemHum": "false",
        "Fault_IR": "true",
    }
    assert values["Temperature"].raw_text == "38"
    assert values["LED_Color"].access == "writable"


def test_changes_are_counted_and_kept_for_the_curve() -> None:
    monitor = watched(*(report(sn, temperature=38 + sn // 2) for sn in range(6)))
    value = monitor.values.by_name["Temperature"]
    assert (value.told, value.changes, value.changed) == (6, 2, 4.0)
    assert list(value.history) == [(0, 25), (1, 25), (2, 26), (3, 26), (4, 27), (5, 27)]
    assert monitor.values.by_name["LED_Color"].history[-1] == (5.0, 3.0)
    assert monitor.values.by_name["LED_Color"].label(3) == "粉色"


def test_the_history_of_a_value_that_stays_is_its_two_ends() -> None:
    monitor = watched(*(report(sn & 0xFF, temperature=38 + (sn == 2900)) for sn in range(3000)))
    history = list(monitor.values.by_name["Temperature"].history)
    assert history == [(0, 25), (2899, 25), (2900, 26), (2901, 25), (2999, 25)]


def test_a_control_asks_and_the_report_says() -> None:
    monitor = watched(report(1, red=5), CONTROL)
    assert led(monitor) == ("5", 200)
    monitor.receive_data(REPORT, now=3)
    assert led(monitor) == ("200", None)


def led(monitor: Monitor) -> tuple[str, object]:
    value = monitor.values.by_name["LED_R"]
    return value.text, value.asked


def test_the_status_word_without_a_product() -> None:
    values = watched(STATUS, product=False).values.by_name
    assert values["status"].text == "1842"
    assert values["status.cloud"].text == "true"
    assert values["status.rssi"].text == "7"


# --- memory --------------------------------------------------------------------------------------------


def test_memory_is_bounded_by_rows_and_by_bytes() -> None:
    monitor = Monitor(keep=100)
    for number in range(3000):
        monitor.receive_data(HEARTBEAT, now=number)
    assert len(monitor.rows) == 100
    assert monitor.rows[-1].number == 3000
    assert len(monitor.shown) <= 100 + TRIM_AFTER + 1
    assert monitor.dropped + len(monitor.shown) == 3000
    big = Monitor()
    for number in range(80):
        big.receive_data(b"\x00" * 1024 * 512, now=number)
    assert sum(row.size for row in big.rows) <= KEEP_BYTES


# --- filter --------------------------------------------------------------------------------------------


def shown(monitor: Monitor, text: str, **options: bool) -> list[str]:
    monitor.set_filter(Filter.parse(text, **options))
    return [row.name for row in monitor.shown]


def test_filter_words() -> None:
    monitor = watched(HEARTBEAT, HEARTBEAT_ACK, CONTROL, REPORT, BROKEN, b"\x99", STATUS)
    names = ["heartbeat", "heartbeat_ack", "p0_to_mcu", "p0_from_mcu", "heartbeat", "noise", "status"]
    assert shown(monitor, "") == names
    assert shown(monitor, "dir:mcu") == ["heartbeat_ack", "p0_from_mcu"]
    assert shown(monitor, "name:HEART -is:error") == ["heartbeat", "heartbeat_ack"]
    assert shown(monitor, "point:temp") == ["p0_from_mcu"]
    assert shown(monitor, "point:LED_R dir:module") == ["p0_to_mcu"]
    assert shown(monitor, "hex:0732") == ["status"]
    assert shown(monitor, "sn:66") == ["p0_to_mcu"]
    assert shown(monitor, "粉色") == ["p0_to_mcu", "p0_from_mcu"]
    assert shown(monitor, '"router, cloud"') == ["status"]
    assert shown(monitor, "is:error") == ["heartbeat"]
    assert shown(monitor, "is:noise") == ["noise"]
    assert shown(monitor, "", hide_heartbeats=True) == ["p0_to_mcu", "p0_from_mcu", "noise", "status"]
    assert "heartbeat_ack" not in shown(monitor, "", hide_acks=True)
    monitor.receive_data(STATUS, now=9)
    assert [row.name for row in monitor.shown][-1] == "status"


@pytest.mark.parametrize("text", ["hex:F", "hex:", "what:x", "dir:cloud", "is:good", "sn:x", '"open'])
def test_filters_that_cannot_be_understood(text: str) -> None:
    with pytest.raises(FilterError):
        Filter.parse(text)


# --- text ----------------------------------------------------------------------------------------------


def test_a_peer_cannot_move_the_cursor() -> None:
    assert clean("a\x1b[2Jb\n粉色") == r"a\x1b[2Jb\n粉色"


def test_secrets_are_shortened_in_the_rows() -> None:
    provision = Frame(0x09, 1, bytes.fromhex("04") + b"\x04home\x0asecretpass" + bytes(20)).encode()
    monitor = watched(provision)
    assert "secretpass" not in monitor.text(monitor.rows[0])


def test_a_curve_holds_its_value_until_the_next_sample() -> None:
    samples = [(0.0, 0.0), (2.0, 10.0), (3.0, 5.0)]
    assert plot_lines(samples, width=4, height=1, until=4.0) == ["▁█▅▅"]
    top, bottom = plot_lines(samples, width=4, height=2, until=4.0)
    assert (top[:3], bottom[:3]) == (" █▁", "▁██")
    assert plot_lines([], width=3, height=2) == ["   ", "   "]
    assert plot_lines([(1.0, 7.0)], width=3, height=1) == ["▄▄▄"]


# --- lines instead of panes ----------------------------------------------------------------------------


def test_without_a_terminal_it_prints_lines() -> None:
    result = CliRunner().invoke(
        cli, ["monitor", str(CAPTURE), "-p", str(ROOT / "fixtures/products/pet-house.json")]
    )
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 9
    assert "control LED_OnOff=true LED_Color=粉色" in result.stdout


def test_json_is_the_json_of_decode() -> None:
    words = [str(CAPTURE), "-p", str(ROOT / "fixtures/products/pet-house.json"), "--json"]
    ours, theirs = (CliRunner().invoke(cli, [name, *words]) for name in ("monitor", "decode"))
    assert [json.loads(line) for line in ours.stdout.splitlines()] == [
        json.loads(line) for line in theirs.stdout.splitlines()
    ]


def test_save_records_everything(tmp_path: Path) -> None:
    target = tmp_path / "again.jsonl"
    result = CliRunner().invoke(cli, ["monitor", str(CAPTURE), "--save", str(target)])
    assert result.exit_code == 0, result.output

    def records(path: Path) -> list[Record]:
        with open_capture(str(path)) as capture:
            return list(capture.records())

    assert records(target) == records(CAPTURE)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["no.jsonl"], "there is no such file"),
        (["/dev/no-such-port"], "no-such-port"),
        (["a", "b", "c"], "more than two ports"),
        (["--between", "loop://"], "two ports"),
        (["pty:/tmp/a", "pty:/tmp/a"], "both ports are pty:/tmp/a"),
        (["loop://", "--swap"], "--swap belongs to two ports"),
        (["loop://", "--save", "x.doc"], ".doc"),
        (["loop://", "loop://", "--save", "x.bin"], "one direction"),
        ([str(CAPTURE), str(CAPTURE)], "alone"),
    ],
)
def test_wrong_usage_is_one_sentence(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(cli, "gizserial", ["monitor", *words])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_a_port_that_cannot_be_opened_leaves_an_older_recording(tmp_path: Path) -> None:
    old = tmp_path / "old.jsonl"
    old.write_text("{}\n")
    result = CliRunner().invoke(cli, ["monitor", "/dev/no-such-port", "--save", str(old)])
    assert result.exit_code != 0
    assert old.read_text() == "{}\n"


def test_a_capture_may_come_from_standard_input() -> None:
    result = CliRunner().invoke(cli, ["monitor", "-"], input=CAPTURE.read_bytes())
    assert result.exit_code == 0
    assert result.stdout == CliRunner().invoke(cli, ["monitor", str(CAPTURE)]).stdout


# --- docs/monitor.md -----------------------------------------------------------------------------------

PAGE = (ROOT / "docs/monitor.md").read_text(encoding="utf-8")


def test_every_form_of_the_filter_is_on_the_page() -> None:
    for form, _ in HELP:
        for word in form.split("  "):
            if ":" in word:
                assert word.partition(":")[0] + ":" in PAGE
