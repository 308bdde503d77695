"""A recorded peer as options of our roles: habits that were played are found again."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_recordings import PRODUCT, a_day, late_mcu, old_module, record

from gizserial.capture.record import Record
from gizserial.framing import Frame
from gizserial.io.files import open_capture
from gizserial.io.products import load_product
from gizserial.mcu import McuRole
from gizserial.mcu_options import McuOptions
from gizserial.module import ModuleRole
from gizserial.module_options import ModuleOptions
from gizserial.p0 import P0Codec
from sim.clone import CloneError, clone_mcu, clone_module


def test_an_mcu_is_found_again() -> None:
    clone = clone_mcu(record(mcu=late_mcu(), actions=a_day), PRODUCT)
    assert clone.options.soft_ver == "03030000"
    assert clone.options.info_variant == "B"
    assert clone.options.answers_late_ms == 30
    assert clone.values["Temperature"] == 21
    assert clone.values["LED_R"] == 0
    assert [move.point.name for move in clone.moves] == ["Temperature"]
    assert clone.moves[0].raw(0.0) == PRODUCT.point("Temperature").raw(21)
    assert clone.moves[0].raw(1e6) == PRODUCT.point("Temperature").raw(25)
    assert clone.moves_beside({"Temperature"}) == []


def test_its_clone_plays_the_same_again() -> None:
    first = record(mcu=late_mcu(), actions=a_day)
    clone = clone_mcu(first, PRODUCT)
    again = record(mcu=McuRole(PRODUCT, clone.options, values=clone.values), actions=a_day)
    assert again == first


@pytest.mark.parametrize("reports", [True, False])
def test_whether_it_reports_after_a_control_that_changes_nothing(reports: bool) -> None:
    """R23."""
    p0 = P0Codec(PRODUCT).control({"LED_R": 7})
    mcu = McuRole(PRODUCT, McuOptions(report_after_control=reports))
    records = record(
        mcu=mcu,
        actions=lambda module, _mcu: [
            (2.0, lambda: module.send_p0(p0, now=2.0)),
            (4.0, lambda: module.send_p0(p0, now=4.0)),
        ],
    )
    clone = clone_mcu(records, PRODUCT)
    assert clone.options.report_after_control is reports


def test_repetitions_show_the_wait_and_the_tries() -> None:
    report = Frame(0x0B, 1).encode()
    records = [Record(t, "mcu>module", report) for t in (1.0, 1.5, 2.0, 2.5)]
    clone = clone_mcu(records, PRODUCT)
    assert (clone.options.ack_wait, clone.options.tries) == (0.5, 4)


def test_other_options_of_the_user_stay() -> None:
    clone = clone_mcu(record(), PRODUCT, McuOptions(byte_time=0.001, ota=True))
    assert clone.options.ota
    assert clone.options.byte_time == 0.001


def test_a_module_is_found_again() -> None:
    def ask(_module: ModuleRole, mcu: McuRole) -> list[tuple[float, object]]:
        return [(2.0, lambda: mcu.ask_module_info(now=2.0))]

    records = record(module=old_module(), until=13.0, actions=ask)  # type: ignore[arg-type]
    clone = clone_module(records)
    assert clone.options.soft_ver == "04020006"
    assert clone.options.heartbeat_s == 3.0
    assert clone.mac == "5AFE00000001"


def test_quirks_of_old_modules() -> None:
    """Plain acks of GAgent 04020006 are not escaped; §1.4: others skip sn 0 and 255."""
    bare = Frame(0x06, 0xFF).encode(escape=False)
    records = [
        Record(1.0, "mcu>module", Frame(0x05, 0xFF, b"\x04").encode()),
        Record(1.0, "module>mcu", bare + Frame(0x08, 1).encode()),
        Record(2.0, "module>mcu", Frame(0x07, 254).encode() + Frame(0x07, 1).encode()),
    ]
    clone = clone_module(records)
    assert clone.options.unstuffed_ack
    assert clone.options.sn_skips_0_255


def test_the_zone_is_local_time_minus_utc() -> None:
    answer = Frame(0x18, 1, bytes.fromhex("07E9 0B 19 10 00 00") + (1764057600).to_bytes(4, "big"))
    records = [Record(1.0, "mcu>module", Frame(0x17, 1).encode()), Record(1.0, "module>mcu", answer.encode())]
    clone = clone_module(records, ModuleOptions())
    assert clone.options.tz_s == 8 * 3600


def test_every_finding_has_its_evidence() -> None:
    clone = clone_mcu(record(mcu=late_mcu(), actions=a_day), PRODUCT)
    assert clone.findings
    assert all(finding.what and finding.evidence for finding in clone.findings)
    assert not any("secret" in str(finding) for finding in clone.findings)


def test_a_side_that_says_nothing_cannot_be_cloned() -> None:
    with pytest.raises(CloneError, match="the mcu says nothing"):
        clone_mcu([Record(1.0, "module>mcu", Frame(0x07, 1).encode())], PRODUCT)


def test_the_vendors_sdk_is_found_again(samples: Path) -> None:
    """What its sources say: 200 ms and two resends, no report when a control changes nothing, variant C."""
    with open_capture(str(samples / "capture-pet.jsonl")) as capture:
        records = list(capture.records())
    clone = clone_mcu(records, load_product(samples / "capture-pet-product.json"))
    assert clone.options.ack_wait == pytest.approx(0.2, abs=0.02)
    assert clone.options.tries == 3
    assert clone.options.report_after_control is False
    assert (clone.options.info_variant, clone.options.soft_ver) == ("C", "03030000")
    module = clone_module(records)
    assert (module.options.soft_ver, module.options.tz_s) == ("04020006", 28800)
