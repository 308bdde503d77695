"""Files over lines that lose, spoil, double and split what travels: the right image or a clean refusal."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_transfer import Pair, hex_text

from gizserial.events import Outcome
from gizserial.image import Image
from gizserial.io.memory import (
    Manipulator,
    MemoryLink,
    chain,
    corrupt,
    drop,
    drop_writes,
    duplicate,
    split,
)
from gizserial.mcu_options import McuOptions

LONGEST = 90.0
"""Virtual seconds that the longest of these transfers may take."""


def faults(rng: Random) -> Manipulator:
    """A bad line: which faults it has is drawn too."""
    kinds = [
        split(rng, 40, gap=rng.choice([0, 0.001, 0.02])),
        drop(rng, rng.choice([1e-4, 1e-3])),
        corrupt(rng, rng.choice([1e-4, 1e-3])),
        duplicate(rng, rng.choice([0.02, 0.2])),
        drop_writes(rng, rng.choice([0.02, 0.1])),
    ]
    return chain(*(kind for kind in kinds if rng.random() < 0.5))


def run_until_over(pair: Pair) -> None:
    until = pair.simulation.now + LONGEST
    while not pair.ends(pair.module) and pair.simulation.now < until:
        pair.run(2)
    pair.run(30)  # silence is noticed, and the new version is read


@pytest.mark.parametrize("seeds", [range(start, start + 10) for start in range(0, 100, 10)], ids=str)
def test_a_hundred_transfers_over_bad_lines(seeds: range) -> None:
    for seed in seeds:
        rng = Random(seed)
        link = MemoryLink(byte_time=10 / 115200)
        as_hex = rng.random() < 0.2
        mcu = McuOptions(
            ota_store_ms=rng.choice([0, 0, 5, 30]), ota_erase_ms=rng.choice([0, 200]), ota_hex=as_hex
        )
        pair = Pair(piece_size=rng.choice([32, 64, 128, 256, 0]), link=link, mcu=mcu)
        link.a.set_manipulator(faults(rng))
        link.b.set_manipulator(faults(rng))
        data = rng.randbytes(rng.randint(1, 900))
        data = hex_text(data) if as_hex else data
        pair.offer(Image(data, hex=as_hex))
        run_until_over(pair)
        ours, theirs = pair.outcomes
        assert len(ours) == 1, seed
        assert len(theirs) <= 1, seed
        assert not pair.module.sending_file, seed
        if pair.received:
            assert pair.received == [data], seed
            assert pair.mcu.soft_ver == "00000002", seed
            assert theirs == [Outcome.COMPLETE], seed
        else:
            assert pair.mcu.soft_ver == "00000001", seed
            assert theirs != [Outcome.COMPLETE], seed
        # What the sender takes for complete was received, or a checksum of 8 bits let a wrong byte through,
        # which the MD5 found.
        if ours == [Outcome.COMPLETE] and not pair.received:
            assert "MD5" in pair.ends(pair.mcu)[0].detail, seed


def test_uploads_over_bad_lines() -> None:
    complete = 0
    for seed in range(10):
        rng = Random(seed)
        link = MemoryLink(byte_time=10 / 115200)
        pair = Pair(link=link)
        link.a.set_manipulator(faults(rng))
        link.b.set_manipulator(faults(rng))
        data = rng.randbytes(rng.randint(1, 900))
        pair.mcu.send_file(Image(data), now=pair.simulation.now)
        pair.run(60)
        assert pair.received in ([], [data]), seed
        assert len(pair.ends(pair.mcu)) == 1, seed
        complete += len(pair.received)
    assert complete


def test_most_of_them_get_through_a_line_that_is_only_a_little_bad() -> None:
    complete = 0
    for seed in range(10):
        rng = Random(seed)
        link = MemoryLink(byte_time=10 / 115200)
        pair = Pair(link=link)
        link.a.set_manipulator(drop(rng, 3e-4))
        link.b.set_manipulator(drop(rng, 3e-4))
        pair.offer(Image(rng.randbytes(1000)))
        run_until_over(pair)
        complete += len(pair.received)
    assert complete >= 8


@settings(max_examples=25, deadline=None)
@given(
    st.binary(min_size=1, max_size=400),
    st.one_of(st.integers(4, 300), st.sampled_from([0, 255, 256, 257, 1024, 4087, 4088, 65535])),
)
def test_any_image_in_any_pieces_arrives_as_it_was(data: bytes, piece_size: int) -> None:
    pair = Pair(piece_size=piece_size)
    pair.offer(Image(data))
    pair.run(10)
    assert pair.received == [data]
    assert pair.versions[-1] == "00000002"


def test_a_line_that_is_lost_in_the_middle_and_comes_back() -> None:
    pair = Pair(mcu=McuOptions(ota_store_ms=50))
    pair.offer(Image(bytes(5000)))
    pair.run(0.5)
    pair.simulation.unplug()
    assert [event.outcome for event in pair.ends(pair.mcu)] == [Outcome.FAILED]
    pair.simulation.plug()
    pair.run(5)
    assert pair.received == []
    pair.offer(Image(b"again"))
    pair.run(5)
    assert pair.received == [b"again"]
