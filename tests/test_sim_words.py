"""What people type: quirks, moves, prompts. Every line gets an answer, no line ends a simulator."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gizserial.commands import Role
from gizserial.errors import EncodeError, GizserialError
from gizserial.io.memory_transport import MemoryTransport
from gizserial.io.products import load_product
from gizserial.mcu_options import McuOptions
from gizserial.module_options import ModuleOptions
from sim.behaviours import parse_move
from sim.cli.mcu import _commands as mcu_commands
from sim.mcu import McuSimulator
from sim.module import ModuleSimulator, module_show
from sim.module_commands import commands as module_commands
from sim.network import Network
from sim.prompt import LeaveError, Prompt
from sim.quirks import quirks_of, with_quirks
from sim.show import Show
from sim.words import assignments, hex_bytes

PRODUCT = load_product(Path(__file__).parents[1] / "fixtures" / "products" / "pet-house.json")
SECRET = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("options", [McuOptions(), ModuleOptions()])
def test_every_default_that_is_listed_may_be_typed(options: McuOptions | ModuleOptions) -> None:
    listed = quirks_of(type(options))
    assert with_quirks(options, [quirk.word for quirk in listed]) == options
    assert all(quirk.meaning for quirk in listed)


def test_quirks_take_their_types() -> None:
    mcu = with_quirks(McuOptions(), ["dedup=0", "tries=5", "info_variant=D", f"product_secret={SECRET}"])
    assert (mcu.dedup, mcu.tries, mcu.info_variant, mcu.product_secret) == (False, 5, "D", SECRET)
    assert with_quirks(ModuleOptions(), ["unstuffed_ack"]).unstuffed_ack
    assert with_quirks(ModuleOptions(tz_s=5), ["tz_s=none"]).tz_s is None


@pytest.mark.parametrize(
    "word",
    [
        "foo=1",
        "tries",
        "tries=0",
        "tries=-5",
        "tries=1e3",
        "tries=" + "9" * 5000,
        "ack_wait=nan",
        "ack_wait=inf",
        "ack_wait=0",
        "dedup=maybe",
        "info_variant=Z",
        "hard_ver=123456789",
        "hard_ver=",
        "hard_ver=ä",
        "product_secret=zz",
        "data=1",
    ],
)
def test_a_bad_quirk_is_refused_in_one_short_sentence(word: str) -> None:
    with pytest.raises(GizserialError) as caught:
        with_quirks(McuOptions(), [word])
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("word", ["status_tick_s=0", "heartbeat_s=0", "info_attempts=0", "tz_s=90000"])
def test_a_module_is_not_asked_for_the_impossible(word: str) -> None:
    with pytest.raises(EncodeError, match="is a number from"):
        with_quirks(ModuleOptions(), [word])


def test_a_secret_that_is_refused_is_not_repeated() -> None:
    with pytest.raises(EncodeError) as caught:
        with_quirks(McuOptions(), [f"product_secret={SECRET}0"])
    assert SECRET not in str(caught.value)


@given(
    st.sampled_from(["sine", "ramp", "square", "walk"]),
    st.floats(-1e6, 1e6),
    st.floats(0, 1e6),
    st.floats(0, 1e7),
)
def test_what_moves_stays_within_the_definition(kind: str, low: float, width: float, t: float) -> None:
    for point in (PRODUCT.point("Temperature"), PRODUCT.point("LED_Color"), PRODUCT.point("LED_OnOff")):
        move = parse_move(f"{point.name}={kind}:{low:f}..{low + width:f}:7", PRODUCT, Random(1))
        limit = point.scale.raw_max if point.scale is not None else point.raw_limit
        assert 0 <= move.raw(t) <= limit


@pytest.mark.parametrize(
    "word",
    [
        "Temperature",
        "Temperature=sine",
        "Temperature=sine:1..2..3",
        "Temperature=sine:5..1",
        "Temperature=sine:1..2:0",
        "Temperature=sine:...",
        "Temperature=sine:1.2.3..4",
        f"Temperature=sine:-{'9' * 400}..{'9' * 400}",
        f"Temperature=ramp:1..2:{'9' * 400}",
        "Temperature=fly:1..2",
        "Nothing=sine:1..2",
    ],
)
def test_a_bad_move_is_refused(word: str) -> None:
    with pytest.raises(GizserialError):
        parse_move(word, PRODUCT, Random(1))


def test_shapes() -> None:
    def at(kind: str, t: float) -> float:
        return parse_move(f"LED_R={kind}:10..30:8", PRODUCT, Random(1)).behaviour.at(t)

    assert [at("ramp", t) for t in (0, 2, 4, 8)] == [10, 15, 20, 10]
    assert [at("square", t) for t in (0, 3.9, 4, 8)] == [10, 10, 30, 10]
    assert [at("sine", t) for t in (0, 2, 6)] == pytest.approx([20, 30, 10])
    assert math.isclose(at("walk", 0), 20, abs_tol=1)


def test_words() -> None:
    assert assignments(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}
    assert hex_bytes(["01", "0A0b", "ff"]) == bytes.fromhex("010a0bff")
    for bad in ("A", "=1"):
        with pytest.raises(EncodeError, match="NAME=VALUE"):
            assignments([bad])
    for odd in ("1", "0g", "0x01"):
        with pytest.raises(EncodeError, match="hex digits"):
            hex_bytes([odd])


# --- prompts


def module(lines: list[str], *, with_product: bool = True) -> tuple[ModuleSimulator, Prompt]:
    show = module_show(PRODUCT if with_product else None, as_json=False, quiet=False)
    show.write = lines.append
    simulator = ModuleSimulator(
        MemoryTransport.pair()[0], show, mac="5AFE00000001", product=PRODUCT if with_product else None
    )
    return simulator, Prompt(module_commands(simulator), show)


def mcu() -> tuple[McuSimulator, Prompt]:
    show = Show(Role.MCU, PRODUCT, write=lambda _line: None)
    simulator = McuSimulator(MemoryTransport.pair()[0], show, PRODUCT)
    return simulator, Prompt(mcu_commands(simulator), show)


_WORDS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "set",
                "read",
                "raw",
                "wifi",
                "status",
                "send",
                "restart-mcu",
                "reboot",
                "values",
                "provision",
                "reset",
                "bind",
                "test",
                "time",
                "info",
                "restart",
                "help",
                "ap",
                "join",
                "lost",
                "cloud",
                "on",
                "off",
                "apps",
                "signal",
                "softap",
                "airlink",
                "LED_R=1",
                "LED_R",
                "LED_R=999",
                "Temperature=1",
                "X=1",
                "0102",
                "ff",
                "0",
                "65535",
                "-1",
                "control",
                "heartbeat",
                "p0_to_mcu",
                "status=7",
                "'a",
                '"',
                "²",
                "٣",
            ]
        ),
        st.text(max_size=12),
    ),
    max_size=4,
).map(" ".join)


@settings(deadline=None)
@given(st.lists(_WORDS, max_size=6))
def test_no_line_at_a_prompt_ends_a_simulator(typed: list[str]) -> None:
    async def main() -> None:
        for prompt in (module([])[1], module([], with_product=False)[1], mcu()[1]):
            for line in typed:
                try:
                    answer = prompt.execute(line)
                except LeaveError:
                    continue
                assert answer is None or answer

    asyncio.run(main())


def test_help_lists_every_command_and_an_error_says_how_to_write_it() -> None:
    _, prompt = mcu()
    table = prompt.execute("help")
    assert table is not None
    for name in ("set", "values", "provision", "reset", "raw", "help", "quit"):
        assert f"  {name}" in table
    assert prompt.execute("fly") == "there is no command 'fly'; type help"
    assert prompt.execute("provision") == "the mode is softap or airlink; write: provision softap|airlink"
    assert prompt.execute("set") == "name what to set; write: set NAME=VALUE ..."
    assert prompt.execute("raw 'x") == "a quotation mark is missing"
    with pytest.raises(LeaveError):
        prompt.execute("quit")


def test_setting_several_values_is_all_or_nothing() -> None:
    simulator, prompt = mcu()
    before = simulator.role.value("LED_R")
    assert "999" in (prompt.execute("set LED_R=7 LED_G=999") or "")
    assert simulator.role.value("LED_R") == before
    assert prompt.execute("set LED_R=7 LED_G=9") is None
    assert (simulator.role.value("LED_R"), simulator.role.value("LED_G")) == (7, 9)


def test_status_in_words() -> None:
    _, prompt = module([])
    prompt.execute("wifi cloud on")
    assert prompt.execute("status") == "  status 0020 cloud\n  phase  off"


def test_values_are_shown_as_they_are_typed() -> None:
    _, prompt = mcu()
    prompt.execute("set LED_OnOff=true LED_Color=粉色")
    shown = (prompt.execute("values") or "").split()
    assert shown[:3] == ["LED_OnOff=true", "LED_Color=粉色", "LED_R=0"]
    assert prompt.execute(f"set {shown[0]} {shown[1]}") is None


def test_an_answer_is_an_object_where_stdout_is_json_lines_and_no_part_of_a_quiet_stdout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # cli.md §2: one object per line and nothing else; §5: with --quiet nothing but the ready line.
    for as_json, quiet, wanted in (
        (True, False, ['{"kind":"answer","t":0.0,"text":"two\\nlines"}']),
        (False, False, ["two\nlines"]),
        (True, True, []),
    ):
        lines: list[str] = []
        Show(Role.MCU, PRODUCT, as_json=as_json, quiet=quiet, write=lines.append).answer("two\nlines")
        assert lines == wanted
    assert capsys.readouterr().err == "two\nlines\n"


# --- the two simulators on a line in memory


class Pair:
    """A module without cloud and an MCU, running."""

    def __init__(self, boot_time: float = 0.01) -> None:
        near, far = MemoryTransport.pair()
        self.said: list[dict[str, object]] = []
        show = module_show(PRODUCT, as_json=True, quiet=False)
        show.write = lambda line: self.said.append(json.loads(line))
        quick = ModuleOptions(boot_time=boot_time, reset_delay=0.01, restart_delay=0.01, status_tick_s=0.02)
        self.module = ModuleSimulator(near, show, mac="5AFE00000001", product=PRODUCT, options=quick)
        self.module.around.network.join_s = self.module.around.network.associate_s = 0.01
        self.mcu = McuSimulator(far, Show(Role.MCU, PRODUCT, write=lambda _line: None), PRODUCT)
        self.type = Prompt(module_commands(self.module), show).execute
        self.type_at_mcu = Prompt(mcu_commands(self.mcu), self.mcu.show).execute

    async def play(self, *steps: object) -> None:
        tasks = [asyncio.create_task(part.run()) for part in (self.module, self.mcu)]
        try:
            async with asyncio.timeout(20):
                for step in steps:
                    while not step():  # type: ignore[operator]  # a condition by contract
                        for task in tasks:
                            if task.done():
                                task.result()
                        await asyncio.sleep(0.005)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def texts(self) -> list[str]:
        return [str(line["text"]) for line in self.said if line["kind"] == "event"]

    def reports(self) -> list[dict[str, object]]:
        frames = [line for line in self.said if line.get("name") == "p0_from_mcu"]
        return [frame["attrs"] for frame in frames]  # type: ignore[misc]  # an object in every report

    def words(self) -> list[str]:
        return [str(line["payload"]) for line in self.said if line.get("name") == "status"]


def did(action: object) -> bool:
    """A step that is done at once."""
    return action is None


def test_a_reboot_leaves_router_cloud_and_apps() -> None:
    pair = Pair(boot_time=0.3)
    role = pair.module.role
    asyncio.run(
        pair.play(
            lambda: role.status.router,
            lambda: did(pair.type("wifi cloud on")),
            lambda: did(pair.type("wifi apps 3")),
            lambda: role.status.app and role.status.cloud,
            lambda: did(pair.type("reboot")),
            lambda: any("reboots" in text for text in pair.texts()),
            lambda: not (role.status.router or role.status.cloud or role.status.app),
            lambda: role.status.router,
        )
    )
    assert not role.status.app


def test_a_production_test_leaves_router_and_cloud_until_the_restart() -> None:
    pair = Pair()
    role = pair.module.role
    asyncio.run(
        pair.play(
            lambda: role.status.router,
            lambda: did(pair.type("wifi cloud on")),
            lambda: did(pair.type_at_mcu("test")),
            lambda: role.status.test,
            lambda: not (role.status.router or role.status.cloud),
            lambda: did(pair.type_at_mcu("restart")),
            lambda: role.status.router,
        )
    )
    assert not role.status.test


def test_provisioning_goes_on_after_a_reboot() -> None:
    pair = Pair()
    pair.module.around.network.phone_s = 0.1
    role = pair.module.role
    asyncio.run(
        pair.play(
            lambda: role.status.router,
            lambda: did(pair.type_at_mcu("provision softap")),
            lambda: role.provisioning,
            lambda: did(pair.type("reboot")),
            lambda: any("reboots" in text for text in pair.texts()),
            lambda: role.provisioning is None and role.status.router,
        )
    )


def test_the_mcu_sees_the_station_before_the_router() -> None:
    # serial.md §4.5: when AP data arrive 0002, 0012, 0032.
    assert Network().associate_s > ModuleOptions().status_tick_s
    pair = Pair()
    pair.module.around.network.associate_s, pair.module.around.network.phone_s = 0.2, 0.1
    role = pair.module.role
    asyncio.run(
        pair.play(
            lambda: role.status.router,
            lambda: did(pair.type_at_mcu("provision softap")),
            lambda: role.provisioning,
            lambda: "000d" in pair.words() and pair.words()[-1] == "071a",
        )
    )
    assert pair.words()[-3:] == ["000d", "000a", "071a"]


def test_values_that_are_set_together_are_one_report() -> None:
    pair = Pair()
    asyncio.run(
        pair.play(
            lambda: pair.module.running,
            lambda: did(pair.type_at_mcu("set LED_R=7 LED_G=9 Alert_1=true")),
            lambda: did(pair.type_at_mcu("set LED_B=5")),
            lambda: len(pair.reports()) > 1,
        )
    )
    first = pair.reports()[0]
    assert (first["LED_R"], first["LED_G"], first["Alert_1"]) == (7, 9, True)


def test_a_reset_begins_anew_with_provisioning() -> None:
    pair = Pair()
    pair.module.around.network.phone_s = 0.1
    role = pair.module.role
    asyncio.run(
        pair.play(
            lambda: role.status.router,
            lambda: did(pair.type_at_mcu("reset")),
            lambda: role.provisioning == "softap",
            lambda: role.status.router,
        )
    )
    assert [line for line in pair.texts() if "reset" in line or "router data" in line] == [
        "reset by the MCU: router, did and bindings are forgotten",
        "the module reboots: reset by the MCU",
        "provisioning (softap): waiting for router data",
        "router data given: gizsim",
    ]
    assert "gizsim-password" not in json.dumps(pair.said)


def test_raw_data_both_ways() -> None:
    pair = Pair()
    asyncio.run(
        pair.play(
            lambda: pair.module.running,
            lambda: did(pair.type("raw 01ff55")),
            lambda: did(pair.type_at_mcu("raw ff02")),
            lambda: sum(line.get("action") in {5, 6} for line in pair.said) == 2,
        )
    )
    data = {line["action"]: line["fields"] for line in pair.said if line.get("action") in {5, 6}}
    assert data == {5: {"data": "01ff55"}, 6: {"data": "ff02"}}
