"""What the lamp's firmware must do: on a board, in QEMU, or (without a port) our own simulated MCU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gizserial import Product
    from sim.pytest_plugin import ModuleStation

CONTROL_ONLY_POWER = bytes.fromhex("01 01 01 00 00 00")
"""Action 01, flag of point 0 only, power on; the other positions are 0 and mean nothing."""


def test_it_says_who_it_is(gizwits_module: ModuleStation, gizwits_product: Product) -> None:
    assert gizwits_module.info.product_key == gizwits_product.product_key


def test_power(gizwits_module: ModuleStation) -> None:
    for power in (True, False):
        gizwits_module.control(power=power)
        gizwits_module.wait_report(power=power)
        assert gizwits_module.read()["power"] is power


def test_every_mode(gizwits_module: ModuleStation) -> None:
    for mode in ("party", "warm", "white"):
        gizwits_module.control(mode=mode)
        gizwits_module.wait_report(mode=mode)


@pytest.mark.parametrize(("brightness", "timer"), [(0, 0), (100, 1440), (85, 255)])
def test_numbers(gizwits_module: ModuleStation, brightness: int, timer: int) -> None:
    """The ends of the ranges, and FF and 55 on the wire: the escape and what looks like it."""
    gizwits_module.control(brightness=brightness, timer=timer)
    gizwits_module.wait_report(brightness=brightness, timer=timer)


def test_only_flagged_points_change(gizwits_module: ModuleStation) -> None:
    gizwits_module.control(power=False, mode="party", brightness=42)
    gizwits_module.wait_report(brightness=42)
    gizwits_module.send_p0(CONTROL_ONLY_POWER)
    assert gizwits_module.wait_report(power=True)["brightness"] == 42
    assert gizwits_module.read()["mode"] == "party"


def test_a_control_that_changes_nothing_is_reported_too(gizwits_module: ModuleStation) -> None:
    gizwits_module.control(brightness=50)
    gizwits_module.wait_report(brightness=50)
    gizwits_module.control(brightness=50)
    gizwits_module.wait_report(brightness=50)


def test_readings_are_sane(gizwits_module: ModuleStation) -> None:
    values = gizwits_module.read()
    assert -20 <= values["temperature"] <= 75
    assert values["overheated"] is False


def test_no_reports_without_a_reason(gizwits_module: ModuleStation) -> None:
    gizwits_module.control(power=False)
    gizwits_module.wait_report(power=False)
    gizwits_module.no_report(1.0)


def test_the_status_of_the_module_is_acked(gizwits_module: ModuleStation) -> None:
    gizwits_module.status(router=True, cloud=True, apps=1)


def test_noise_and_half_a_frame_do_no_harm(gizwits_module: ModuleStation) -> None:
    gizwits_module.write(bytes.fromhex("00 FF FF 00 10 03 FF 12 FF FF 00 05"))
    gizwits_module.control(brightness=33)
    gizwits_module.wait_report(brightness=33)


def test_the_restarted_module_finds_it_again(gizwits_module: ModuleStation) -> None:
    gizwits_module.reboot()
    gizwits_module.control(brightness=34)
    gizwits_module.wait_report(brightness=34)


def test_a_restart_has_the_values_of_the_start(gizwits_module: ModuleStation) -> None:
    gizwits_module.control(power=True)
    gizwits_module.wait_report(power=True)
    gizwits_module.restart_mcu()
    gizwits_module.wait(1.5)
    assert gizwits_module.read()["power"] is False
