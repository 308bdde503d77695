"""Input that nobody sends survives, and what does not is found, made small and kept."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from gizserial.events import Event, NoiseReceived
from gizserial.framing import Frame
from gizserial.module import ModuleRole
from sim.fuzz import Broken, Driven, failure, frame_bytes, inputs, run, save, shrink, targets

NAMES = list(targets())
ROOT = Path(__file__).resolve().parent.parent
RUNS = {"module": 30, "mcu": 200, "mcu-var": 200}


@pytest.mark.parametrize("name", NAMES)
def test_a_target_survives(name: str) -> None:
    target = targets()[name]
    for data in islice(inputs(name, Random(7)), RUNS.get(name, 300)):
        error = failure(target, data)
        assert error is None, (data.hex(), error)


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert [frame_bytes(seed) for seed in range(50)] == [frame_bytes(seed) for seed in range(50)]
    assert len({frame_bytes(seed) for seed in range(500)}) > 400


# --- the rules are looked at


class Swallows(ModuleRole):
    """Forgets to tell of every frame that is none."""

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        return [event for event in super().receive_data(data, now=now) if "Noise" not in type(event).__name__]


class Stuck(ModuleRole):
    """Has a timeout that stays where it is."""

    def next_timeout(self) -> float | None:
        return 0.0


class Talks(ModuleRole):
    """Answers without end."""

    def data_to_send(self, *, now: float) -> bytes:
        return super().data_to_send(now=now) + Frame(0x07, 1).encode()


def test_a_byte_that_is_not_told_is_found() -> None:
    driven = Driven(Swallows())
    driven.plug()
    driven.feed(b"noise")
    with pytest.raises(Broken, match="not told: 6e 6f 69 73 65"):
        driven.unplug()


class Twice(ModuleRole):
    """Tells of noise twice, and of frames never: as many bytes as came."""

    def receive_data(self, data: bytes, *, now: float) -> list[Event]:
        events = super().receive_data(data, now=now)
        return [event for event in events if isinstance(event, NoiseReceived) for _ in range(2)]


def test_a_byte_that_is_told_twice_is_found() -> None:
    driven = Driven(Twice())
    driven.plug()
    with pytest.raises(Broken, match="is told where"):
        driven.feed(b"noise" + Frame(0x08, 1).encode() + b"noise")


def test_a_planted_bug_is_found_by_the_fuzzer_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    encode = Frame.encode

    def forgets(self: Frame, *, escape: bool = True) -> bytes:
        if self.payload[:1] == b"\x11":
            raise IndexError("planted")
        return encode(self, escape=escape)

    monkeypatch.setattr(Frame, "encode", forgets)
    assert run(["module"], runs=300, seconds=20, seed=1, out=tmp_path) == 1
    assert "IndexError: planted" in capsys.readouterr().out
    (kept,) = tmp_path.iterdir()
    assert type(failure(targets()["module"], kept.read_bytes())) is IndexError


@pytest.mark.parametrize("machine", [Stuck, Talks])
def test_a_machine_without_rest_is_found(machine: type[ModuleRole]) -> None:
    driven = Driven(machine())
    with pytest.raises(Broken, match=r"does not move on|are left over|sent at once"):
        driven.plug()


def _fails_on_seven(data: bytes) -> None:
    if 7 in data:
        raise ValueError("seven")


def test_a_finding_is_made_small_and_kept(tmp_path: Path) -> None:
    data = Random(3).randbytes(400) + b"\x07"
    small = shrink(_fails_on_seven, data)
    assert small == b"\x07"
    path = save(tmp_path, "seven", small)
    assert path.read_bytes() == small
    assert path.suffix == ".bin"


def test_a_run_tells_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lan", "mqtt"], runs=30, seconds=5, seed=2, out=tmp_path) == 0
    assert capsys.readouterr().out.splitlines() == [
        "lan: 30 inputs, no finding (seed 2)",
        "mqtt: 30 inputs, no finding (seed 2)",
    ]
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="needs atheris, which is for Linux (pip install atheris)",
)
def test_both_roles_guided_by_coverage(tmp_path: Path) -> None:
    words = ["module", "mcu", "mcu-var", "--seconds", "2", "--runs", "100000", "--seed", "1"]
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from sim.guided import main; sys.exit(main())"
    result = subprocess.run(
        [sys.executable, "-c", code, str(ROOT), *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("crash-*"))
