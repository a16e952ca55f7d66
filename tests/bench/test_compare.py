# SPDX-License-Identifier: GPL-2.0
"""What bench/compare says of two runs."""

import pytest

from tests.bench.documents import READ, counted, instructions, steady, times


@pytest.fixture
def compare(write, run):
    """A function that returns the lines that bench/compare prints of an old and a new document."""
    return lambda old, new: run("compare", write("old", old), write("new", new)).splitlines()


def test_faster(compare):
    said = compare(times({"vhost-blk": steady(100), "io_uring": [100] * 5}),
                   times({"vhost-blk": steady(150), "io_uring": [100] * 5}))
    assert said[0] == (
        f"better  ring, null_blk, {READ}: IOPS of vhost-blk against io_uring"
        "  1.02 (1.00–1.04) → 1.53 (1.50–1.56)")
    assert "mean latency" in said[1]
    assert said[1].startswith("better")
    assert said[3] == "times: 3 of 3 changed; by chance alone it would be about 0.0"


def test_slower(compare):
    said = compare(times({"vhost-blk": steady(100), "io_uring": [100] * 5}),
                   times({"vhost-blk": steady(80), "io_uring": [100] * 5}))
    assert [line.split()[0] for line in said[:3]] == ["worse"] * 3


def test_noise(compare):
    """The ranges have a part in common."""
    said = compare(times({"vhost-blk": steady(100), "io_uring": [100] * 5}),
                   times({"vhost-blk": steady(104), "io_uring": [100] * 5}))
    assert said[0] == "times: 0 of 3 changed; by chance alone it would be about 0.0"


def test_busier_machine(compare):
    """Everyone was slower: nothing changed between the contestants."""
    said = compare(times({"vhost-blk": steady(100), "io_uring": steady(200)}),
                   times({"vhost-blk": steady(50), "io_uring": steady(100)}))
    assert "0 of 3 changed" in said[0]


def test_few_rounds(compare):
    said = compare(times({"vhost-blk": [100] * 3, "io_uring": [100] * 3}),
                   times({"vhost-blk": [200] * 3, "io_uring": [100] * 3}))
    assert said[0] == f"too few rounds to tell: ring, null_blk, {READ}"
    assert "0 of 0 changed" in said[1]


def test_missing(compare):
    old = times({"vhost-blk": steady(100), "io_uring": [100] * 5, "libaio": [100] * 5})
    said = compare(old, times({"vhost-blk": steady(100), "io_uring": [100] * 5}))
    assert said[0] == f"only in the old run: times of ring, null_blk, {READ}, vhost-blk, libaio"


@pytest.mark.parametrize("kernel, low, high, changed", [
    pytest.param(1000, 1090, 1110, 0, id="same"),
    pytest.param(1105, 1201, 1210, 1, id="apart-and-far"),
    pytest.param(1105, 1105, 1210, 0, id="far-but-overlapping"),
    pytest.param(1008, 1107.5, 1109, 0, id="apart-but-near")])
def test_instructions(compare, kernel, low, high, changed):
    said = compare(counted(instructions(1000, 1095, 1107)), counted(instructions(kernel, low, high)))
    assert said[-1] == f"instructions: {changed} of 1 changed"
    if changed:
        assert said[1] == (
            f"worse   ring, null_blk, {READ}, vhost-blk, minimal driver: instructions"
            " 1100 → 1205 (+9.5%; kernel 1000 → 1105, user 100 → 100)")
