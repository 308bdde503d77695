"""Curves of data points: what is in them, and the three kinds of picture."""

from __future__ import annotations

import builtins
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support_recordings import PET, PRODUCT, a_day, record

from gizserial.capture.curves import (
    COLUMNS,
    GAP,
    MOST,
    MOST_DOTS,
    Curve,
    NothingToPlotError,
    Plot,
    collect,
    damage,
    parts,
    ticks,
)
from gizserial.capture.curves_svg import page, svg
from gizserial.capture.record import Record
from gizserial.cli import cli
from gizserial.cli.group import _extra_of
from gizserial.errors import UnknownName
from gizserial.framing import Frame
from gizserial.p0 import P0Codec

P0 = P0Codec(PRODUCT)


def report(t: float, **values: object) -> Record:
    raw = {name: PRODUCT.point(name).raw(value) for name, value in values.items()}
    frame = Frame(
        0x05, int(t) & 0xFF, P0.report({point.name: raw.get(point.name, 0) for point in PRODUCT.points})
    )
    return Record(t, "mcu>module", frame.encode())


def test_values_are_those_that_the_device_says_and_controls_are_apart() -> None:
    plot = collect(record(actions=a_day), PRODUCT, ["LED_R", "Temperature", "LED_OnOff"])
    led, temperature, switch = plot.curves
    assert led.asked == [(2.0, 200.0)]
    assert {number for _, number in led.samples} == {200.0}
    assert temperature.samples[-1][1] == 25.0
    assert switch.labels == ("false", "true")
    assert switch.text(1.0) == "true"


def test_enums_are_drawn_by_index_with_their_texts() -> None:
    plot = collect([report(1, LED_Color="黄色"), report(2, LED_Color="粉色")], PRODUCT, ["LED_Color"])
    (curve,) = plot.curves
    assert [curve.text(number) for _, number in curve.samples] == ["黄色", "粉色"]
    assert "黄色" in svg(plot, "x")


def test_bits_of_the_status_word() -> None:
    status = Record(1.0, "module>mcu", Frame(0x0D, 1, bytes.fromhex("0732")).encode())
    plot = collect([status], PRODUCT, ["status.router", "status.rssi"])
    assert plot.curves[0].labels == ("false", "true")
    assert plot.curves[1].samples[0][1] == 7.0


def test_silences_and_damage_are_marked() -> None:
    wrong = bytes.fromhex("FF FF 00 05 07 01 00 00 00")
    records = [report(1, LED_R=5), Record(2.0, "mcu>module", wrong), report(3 + GAP, LED_R=6)]
    plot = collect(records, PRODUCT, ["LED_R"])
    assert plot.bad == [2.0]
    assert plot.gaps == [(2.0, 3 + GAP)]
    assert 'class="gap"' in svg(plot, "x")
    assert 'class="bad"' in svg(plot, "x")


def test_without_names_it_is_what_changes() -> None:
    plot = collect([report(1, LED_R=5), report(2, LED_R=6)], PRODUCT)
    assert [curve.name for curve in plot.curves] == ["LED_R"]


def test_without_times_frames_are_counted() -> None:
    records = [Record(None, "mcu>module", report(t, LED_R=t).data) for t in (1, 2)]
    plot = collect(records, PRODUCT, ["LED_R"])
    assert not plot.timed
    assert [t for t, _ in plot.curves[0].samples] == [0.0, 1.0]


def test_what_cannot_be_drawn_is_said() -> None:
    with pytest.raises(UnknownName):
        collect([report(1)], PRODUCT, ["Nonsense"])
    with pytest.raises(UnknownName):
        collect([report(1)], PRODUCT, ["status.nonsense"])
    with pytest.raises(NothingToPlotError, match="empty"):
        collect([], PRODUCT, ["LED_R"])
    with pytest.raises(NothingToPlotError, match="never said"):
        collect([Record(1.0, "module>mcu", Frame(0x07, 1).encode())], PRODUCT, ["LED_R"])
    with pytest.raises(NothingToPlotError, match="no data point changes"):
        collect([report(1)], PRODUCT)


def test_the_page_loads_nothing_and_holds_the_values() -> None:
    plot = collect(record(actions=a_day), PRODUCT, ["LED_R", "LED_OnOff"])
    text = page(plot, "<run> & co")
    ET.fromstring(svg(plot, "<run> & co"))
    assert "<run>" not in text
    assert not re.search(r"(?:src|href)=|@import|url\(|https?://(?!www\.w3\.org/2000/svg)", text)
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text)
    assert found
    data: Any = json.loads(found[1])
    assert [curve["name"] for curve in data["curves"]] == ["LED_R", "LED_OnOff"]
    assert data["curves"][1]["samples"][-1][1] == "true"


def test_a_dense_curve_has_no_dots_and_repeats_nothing() -> None:
    few = svg(collect([report(float(t), LED_R=t) for t in range(MOST_DOTS)], PRODUCT, ["LED_R"]), "")
    assert few.count("<circle") == MOST_DOTS
    assert "dots: said by the device" in few
    many = svg(collect([report(float(t), LED_R=t // 100) for t in range(301)], PRODUCT, ["LED_R"]), "")
    assert "<circle" not in many
    assert "dots:" not in many
    (path,) = re.findall(r' d="([^"]+)"', many)
    assert path.count("V") == 3


def test_a_huge_capture_becomes_a_small_picture_of_the_same_look() -> None:
    samples = [(t / 10, float(t * 7 % 201)) for t in range(50_000)]
    bad = [t / 10 for t in range(50_000)]
    plot = Plot([Curve("x", samples=samples)], bad, [], 0.0, 5000.0, True, [])
    (part,) = parts(plot.curves[0], plot)
    assert len(part) <= 4 * (COLUMNS + 1) + 1
    assert part[0] == samples[0]
    assert part[-1] == (5000.0, samples[-1][1])
    assert part == sorted(part, key=lambda sample: sample[0])
    first = [number for t, number in part if t < 5000.0 / COLUMNS]
    every = [number for t, number in samples if t < 5000.0 / COLUMNS]
    assert (min(first), max(first)) == (min(every), max(every))
    assert len(damage(plot)) <= COLUMNS
    assert len(page(plot, "")) < 600_000


def test_a_dense_curve_forgets_reports_between_two_others_of_the_same_value() -> None:
    curve = Curve("x")
    for t, number in enumerate([0.0] * MOST_DOTS + [1.0] * 100 + [2.0] * 100):
        curve.add(float(t), number)
    assert curve.samples[MOST_DOTS:] == [(200.0, 1.0), (299.0, 1.0), (300.0, 2.0), (399.0, 2.0)]
    after = 400.0 + GAP
    for late in (after, after + 1, after + 2):
        curve.add(late, 2.0)
    assert curve.samples[-3:] == [(399.0, 2.0), (after, 2.0), (after + 2, 2.0)]


def test_a_year_of_silences_is_drawn_in_parts() -> None:
    plot = collect([report(t * 600.0, LED_R=t % 200) for t in range(500)], PRODUCT, ["LED_R"])
    assert [part[0] for part in parts(plot.curves[0], plot)] == plot.curves[0].samples


def test_what_there_is_no_room_for_is_told() -> None:
    everything = {p.name: not p.scale if not p.texts else p.texts[1] for p in PRODUCT.points if not p.scale}
    numbers = {p.name: p.value(p.scale.raw_min + 1) for p in PRODUCT.points if p.scale}
    plot = collect([report(0.0), report(1.0, **everything, **numbers)], PRODUCT)
    assert len(plot.curves) == MOST
    assert [*(curve.name for curve in plot.curves), *plot.left_out] == [p.name for p in PRODUCT.points]


@pytest.mark.parametrize(
    ("low", "high", "wanted"), [(0, 10, [0, 5, 10]), (0.2, 0.9, [0.2, 0.4, 0.6, 0.8]), (3, 3, [3])]
)
def test_ticks_are_round(low: float, high: float, wanted: list[float]) -> None:
    assert ticks(low, high, 4) == wanted


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "run.jsonl"
    lines = [
        json.dumps({"t": each.t, "dir": each.direction, "hex": each.data.hex()})
        for each in (report(1, LED_Color="黄色", LED_R=1), report(2, LED_Color="粉色", LED_R=9))
    ]
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize(
    ("suffix", "start"), [(".html", b"<!doctype"), (".svg", b"<svg"), (".png", b"\x89PNG")]
)
def test_the_command_writes_it(capture: Path, suffix: str, start: bytes) -> None:
    out = capture.with_suffix(suffix)
    words = ["plot", str(capture), "LED_Color", "LED_R", "-p", str(PET), "-o", str(out)]
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert out.read_bytes().startswith(start)


def test_other_suffixes_are_refused(capture: Path) -> None:
    result = CliRunner().invoke(cli, ["plot", str(capture), "-p", str(PET), "-o", "x.pdf"])
    assert result.exit_code == 2
    assert ".html, .svg, .png" in result.output


def test_a_missing_package_names_the_extra_that_brings_it() -> None:
    assert _extra_of("matplotlib.figure") == "plot"
    assert _extra_of("textual") == "tui"
    assert _extra_of("yaml") == "bench"
    assert _extra_of("fastapi") == "cloud"


def test_pages_need_no_matplotlib(capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name, name="matplotlib")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    out = capture.with_suffix(".html")
    result = CliRunner().invoke(cli, ["plot", str(capture), "LED_R", "-p", str(PET), "-o", str(out)])
    assert result.exit_code == 0
