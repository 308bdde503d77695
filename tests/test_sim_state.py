"""What a simulated module keeps: nothing lost silently, whatever is in the directory."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gizserial.m2m.identity import Generation, Identity
from sim.state import MAX_SIZE, StateError, StateFile, choose_mac

MAC = "5AFE00000001"
IDENTITY = Identity(mac=MAC, product_key="a" * 32, did="D" * 22, passcode="ABCDEFGHIJ", generation="g2")


def state(directory: Path, told: list[str] | None = None) -> StateFile:
    return StateFile(directory, MAC, told=(told if told is not None else []).append)


def asides(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if "damaged" in path.name)


def test_what_is_stored_comes_back_and_only_the_owner_may_read_it(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "state"
    file = state(directory)
    assert file.load() is None
    file.store(IDENTITY)
    assert state(directory).load() == IDENTITY
    assert [path.name for path in directory.iterdir()] == [f"module-{MAC}.json"]
    if sys.platform != "win32":
        assert file.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("generation", [None, *get_args(Generation)])
def test_every_generation_comes_back(tmp_path: Path, generation: Generation | None) -> None:
    identity = dataclasses.replace(IDENTITY, generation=generation)
    state(tmp_path).store(identity)
    assert state(tmp_path).load() == identity


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"[" * 50_000,
        json.dumps({"format": 2, "mac": MAC}).encode(),
        json.dumps({"format": 1}).encode(),
        json.dumps({"format": 1, "mac": MAC, "did": 5}).encode(),
        json.dumps({"format": 1, "mac": MAC, "reset_pending": "yes"}).encode(),
        json.dumps({"format": 1, "mac": MAC, "generation": "g9"}).encode(),
        json.dumps({"format": 1, "mac": "5AFE00000002", "did": "D" * 22}).encode(),
        b" " * (MAX_SIZE + 1),
    ],
)
def test_a_damaged_file_is_set_aside_whole_and_told(tmp_path: Path, content: bytes) -> None:
    told: list[str] = []
    file = state(tmp_path, told)
    file.path.write_bytes(content)
    assert file.load() is None
    assert asides(tmp_path) == [f"module-{MAC}.json.damaged-1"]
    assert (tmp_path / asides(tmp_path)[0]).read_bytes() == content
    assert len(told) == 1
    assert "damaged-1" in told[0]
    assert len(told[0]) < 400 + len(str(tmp_path))


def test_a_second_damaged_file_does_not_replace_the_first(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        file = state(tmp_path)
        file.path.write_bytes(content)
        assert file.load() is None
    assert [(tmp_path / name).read_bytes() for name in asides(tmp_path)] == [b"one", b"two"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_no_content_ends_in_another_error(tmp_path: Path, content: bytes) -> None:
    file = state(tmp_path)
    file.path.write_bytes(content)
    assert file.load() is None


def test_members_of_a_later_version_are_no_damage(tmp_path: Path) -> None:
    file = state(tmp_path)
    file.path.write_text(json.dumps({"format": 1, "mac": MAC, "did": "D" * 22, "more": [1]}))
    loaded = file.load()
    assert loaded is not None
    assert loaded.did == "D" * 22


def test_a_store_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = state(tmp_path)
    file.store(IDENTITY)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match=r"cannot be written: No space left on device"):
        file.store(Identity(mac=MAC, did="E" * 22))
    assert file.load() == IDENTITY
    assert len(list(tmp_path.iterdir())) == 1


def test_a_directory_that_went_away_is_one_sentence(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    file = state(directory)
    directory.rmdir()
    with pytest.raises(StateError, match="cannot be written"):
        file.store(IDENTITY)
    directory.write_text("a file now")
    with pytest.raises(StateError, match="cannot be written"):
        file.store(IDENTITY)
    with pytest.raises(StateError, match="cannot be made"):
        state(directory)


def test_a_directory_in_the_files_place_is_one_sentence(tmp_path: Path) -> None:
    file = state(tmp_path)
    file.path.mkdir()
    with pytest.raises(StateError, match="cannot be read"):
        file.load()


def test_which_mac(tmp_path: Path) -> None:
    assert choose_mac("5a-fe:000000-01", None) == MAC
    assert choose_mac(None, tmp_path)[:4] == "5AFE"
    state(tmp_path).store(IDENTITY)
    assert choose_mac(None, tmp_path) == MAC
    assert choose_mac("0123456789ab", tmp_path) == "0123456789AB"
    StateFile(tmp_path, "0123456789AB", told=print).store(Identity(mac="0123456789AB"))
    with pytest.raises(StateError, match="--mac"):
        choose_mac(None, tmp_path)
    for bad in ("", "5AFE", "5AFE0000000G", "5AFE000000011", "５AFE00000001"):
        with pytest.raises(StateError, match="12 hex digits"):
            choose_mac(bad, None)
