"""The devices of a cloud: identity is stable, and what was acknowledged is there after any end."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sim.cloud.database import FILE_NAME, SCHEMA
from sim.cloud.device import LastData, Versions
from sim.cloud.errors import StoreError
from sim.cloud.history import CONNECTIONS, History
from sim.cloud.store import Store, draw_did

PK = "0123456789abcdef" * 2
MAC = "00163E002CAC"
PASSCODE = "ABCDEFGHIJ"


def refuse(sentence: str) -> None:
    raise AssertionError(f"nothing should be told: {sentence}")


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store(None, told=refuse)
    yield made
    made.close()


def reopen(store: Store, path: Path) -> Store:
    store.close()
    return Store(path, told=refuse)


def test_a_device_keeps_its_did(store: Store) -> None:
    first = store.register(PK, MAC, PASSCODE, is_reset=False, now=10.0)
    again = store.register(PK, MAC.lower(), "KLMNOPQRST", is_reset=False, now=20.0)
    assert again.did == first.did
    assert (again.created, again.last_seen) == (10.0, 20.0)
    assert (again.mac, again.passcode, again.previous_passcode) == (MAC.lower(), "KLMNOPQRST", PASSCODE)
    assert store.devices() == [again]
    assert store.device(first.did) == store.by_mac(PK, MAC.lower()) == again


def test_another_product_or_mac_is_another_device(store: Store) -> None:
    dids = {
        store.register(key, mac, PASSCODE, is_reset=False, now=1.0).did
        for key in (PK, "f" * 32)
        for mac in (MAC, "00163E002CAD")
    }
    assert len(dids) == 4
    assert [device.did for device in store.devices()] == sorted(dids)


def test_a_did_is_22_letters_and_digits() -> None:
    dids = {draw_did() for _ in range(200)}
    assert len(dids) == 200
    assert all(len(did) == 22 and did.isascii() and did.isalnum() for did in dids)


def test_a_did_is_never_given_twice() -> None:
    drawn = iter(["A" * 22, "A" * 22, "B" * 22])
    store = Store(None, told=refuse, draw=lambda: next(drawn))
    assert store.register(PK, "1" * 12, PASSCODE, is_reset=False, now=1.0).did == "A" * 22
    assert store.register(PK, "2" * 12, PASSCODE, is_reset=False, now=1.0).did == "B" * 22
    store.close()


def test_login_needs_the_current_passcode(store: Store) -> None:
    did = store.register(PK, MAC, PASSCODE, is_reset=False, now=1.0).did
    assert store.check_login(did, PASSCODE)
    assert not store.check_login(did, PASSCODE.lower())
    assert not store.check_login(did, "")
    assert not store.check_login("X" * 22, PASSCODE)
    assert not store.check_login("X" * 22, "")
    assert not store.check_login(did, "\N{SNOWMAN}")
    store.register(PK, MAC, "KLMNOPQRST", is_reset=False, now=2.0)
    assert not store.check_login(did, PASSCODE)
    assert store.check_login(did, "KLMNOPQRST")


def test_delete_after_a_reset_carries_the_old_passcode(store: Store) -> None:
    did = store.register(PK, MAC, PASSCODE, is_reset=False, now=1.0).did
    store.save_report(did, b"\x04\x01", 2.0)
    # The DELETE just before the reset was lost; the module registers anew, then repeats it (§4.5).
    store.register(PK, MAC, "KLMNOPQRST", is_reset=False, now=3.0)
    store.register(PK, MAC, "KLMNOPQRST", is_reset=False, now=4.0)  # its answer was lost
    assert store.unregister(did, PASSCODE)
    assert not store.unregister(did, "UVWXYABCDE")
    assert not store.unregister("X" * 22, PASSCODE)
    device = store.device(did)
    assert device is not None
    assert device.resets == 1
    assert device.last_report == LastData(b"\x04\x01", 2.0)
    assert store.check_login(did, "KLMNOPQRST")
    assert store.register(PK, MAC, "UVWXYABCDE", is_reset=False, now=5.0).did == did


def test_a_registration_after_a_reset_drops_bindings(store: Store) -> None:
    assert store.register(PK, MAC, PASSCODE, is_reset=False, now=1.0).resets == 0
    assert store.register(PK, MAC, PASSCODE, is_reset=True, now=1.0, random_code="a" * 32).resets == 1
    device = store.register(PK, MAC, PASSCODE, is_reset=False, now=1.0)
    assert (device.resets, device.random_code) == (1, "a" * 32)


def test_adopted_devices(store: Store) -> None:
    adopted = store.adopt("A" * 22, PASSCODE, 1.0)
    store.adopt("B" * 22, PASSCODE, 1.0)
    assert (adopted.product_key, adopted.mac) == ("", "")
    assert store.check_login("A" * 22, PASSCODE)
    assert store.adopt("A" * 22, "another", 2.0) == adopted
    store.set_product("A" * 22, PK)
    store.set_product("A" * 22, "f" * 32)
    learned = store.device("A" * 22)
    assert learned is not None
    assert learned.product_key == PK


def test_last_state(store: Store) -> None:
    did = store.register(PK, MAC, PASSCODE, is_reset=False, now=1.0).did
    store.set_versions(did, 1, "00000001", "04020006", 2.0)
    store.set_versions(did, 2, "00000002", "03000000", 3.0)
    store.save_report(did, b"\x04\x00\xff", 4.0)
    store.save_raw(did, b"", 5.0)
    store.touch(did, 6.0, online=True, address="192.0.2.7")
    store.touch(did, 7.0)
    device = store.device(did)
    assert device is not None
    assert device.module_versions == Versions("00000001", "04020006")
    assert device.mcu_versions == Versions("00000002", "03000000")
    assert device.last_report == LastData(b"\x04\x00\xff", 4.0)
    assert device.last_raw == LastData(b"", 5.0)
    assert (device.last_seen, device.last_online, device.last_address) == (7.0, 6.0, "192.0.2.7")


def test_secrets_are_not_shown(store: Store) -> None:
    store.register(PK, MAC, PASSCODE, is_reset=False, now=1.0)
    device = store.register(PK, MAC, "KLMNOPQRST", is_reset=False, now=1.0, random_code="a" * 32)
    shown = repr(device)
    assert not any(secret in shown for secret in (PASSCODE, "KLMNOPQRST", "a" * 32))


def test_text_is_never_sql(store: Store) -> None:
    odd = "'; DROP TABLE device; --"
    did = store.register(odd, odd, odd, is_reset=False, now=1.0).did
    assert store.device(odd) is None
    assert store.check_login(did, odd)
    assert store.by_mac(odd, odd) is not None


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "new" / "data"
    store = Store(path, told=refuse)
    device = store.register(PK, MAC, PASSCODE, is_reset=False, now=1.0)
    store.save_report(device.did, b"\x04\x01", 2.0)
    before = store.devices()
    store = reopen(store, path)
    assert store.devices() == before
    assert store.register(PK, MAC, PASSCODE, is_reset=False, now=9.0).did == device.did
    store.close()
    store.close()


@pytest.mark.skipif(os.name != "posix", reason="file modes of this kind exist on POSIX only")
def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "data"
    store = Store(path, told=refuse)
    store.register(PK, MAC, PASSCODE, is_reset=False, now=1.0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()}
    assert modes == {FILE_NAME: 0o600, f"{FILE_NAME}-wal": 0o600}
    store.close()


def test_memory_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(None, told=refuse)
    store.register(PK, MAC, PASSCODE, is_reset=False, now=1.0)
    store.close()
    assert list(tmp_path.iterdir()) == []


def noise(file: Path) -> None:
    file.write_bytes(b"this is no database at all" * 1000)


def half(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[100:] = b"\xa5" * (len(data) - 100)
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:4500])


@pytest.mark.parametrize("damage", [noise, half, cut])
def test_a_damaged_database_is_set_aside(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    told: list[str] = []
    for number in (1, 2):
        store = Store(tmp_path, told=told.append)
        for mac in range(200):
            store.register(PK, f"{mac:012d}", PASSCODE, is_reset=False, now=1.0)
        store.close()
        damage(tmp_path / FILE_NAME)
        damaged = (tmp_path / FILE_NAME).read_bytes()
        store = Store(tmp_path, told=told.append)
        assert store.devices() == []
        store.close()
        aside = tmp_path / f"{FILE_NAME}.damaged-{number}"
        assert aside.read_bytes() == damaged
        assert len(told) == number
        assert FILE_NAME in told[-1]
        assert aside.name in told[-1]
        assert "\n" not in told[-1]


def test_history_of_an_older_version_is_kept(tmp_path: Path) -> None:
    """It has no columns for keep-alive and heartbeat."""
    for turn in range(2):
        store = Store(tmp_path, told=refuse)
        history = History(store.database)
        if turn == 0:
            for column in ("keep_alive", "heartbeat"):
                store.database.run(f"ALTER TABLE packet DROP COLUMN {column}")
            store.database.run("INSERT INTO packet (did, at, kind) VALUES ('d', 1, 'dev_online')")
        else:
            history.packet("d", "dev_online", 2.0, ip=None, keep_alive=55)
            _, entries = history.packets("d", CONNECTIONS, after=0, until=9, newest_first=False)
            assert [entry.keep_alive for entry in entries] == [None, 55]
        store.close()


def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    Store(tmp_path, told=refuse).close()
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    db.close()
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(StoreError, match=r"newer version.*update gizsim"):
        Store(tmp_path, told=refuse)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("CREATE TABLE theirs (value)")
    db.close()
    with pytest.raises(StoreError, match="belongs to another program"):
        Store(tmp_path, told=refuse)


def test_two_clouds_do_not_share_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.cloud.database.LOCK_TIME", 0.01)
    store = Store(tmp_path, told=refuse)
    with pytest.raises(StoreError, match="in use by another process"):
        Store(tmp_path, told=refuse)
    store.close()
    Store(tmp_path, told=refuse).close()


def test_a_file_as_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file, not a directory"):
        Store(tmp_path / "file", told=refuse)
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(tmp_path, told=refuse)


def test_a_registration_that_cannot_be_stored_is_an_error(tmp_path: Path) -> None:
    store = Store(tmp_path, told=refuse)
    did = store.register(PK, MAC, PASSCODE, is_reset=False, now=1.0).did
    store.database._db.execute("PRAGMA query_only = ON")  # as a disk that refuses to be written
    with pytest.raises(StoreError, match="readonly"):
        store.register(PK, MAC, "KLMNOPQRST", is_reset=False, now=2.0)
    store.database._db.execute("PRAGMA query_only = OFF")
    assert store.check_login(did, PASSCODE)
    store.register(PK, MAC, "KLMNOPQRST", is_reset=False, now=2.0)
    store.close()


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("support_store.py"), tmp_path],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(50)]
    child.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    lines += [line for line in child.stdout if line.endswith("\n")]
    child.stdout.close()
    child.wait()
    store = Store(tmp_path, told=refuse)
    stored = {device.mac: device for device in store.devices()}
    assert len(lines) >= 50
    for line in lines:
        number, did = line.split()
        device = stored[f"MAC{int(number):09d}"]
        assert device.did == did
        # SIGKILL loses nothing that was written, the last state either.
        assert device.last_report == LastData(int(number).to_bytes(4, "big"), float(number))
    store.close()
