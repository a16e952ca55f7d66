# SPDX-License-Identifier: GPL-2.0
"""What bench/compare says of two runs."""

import pytest

from tests.bench.documents import READ, SCENARIO, counted, simulated


@pytest.fixture
def compare(write, run):
    """A function that returns the lines that bench/compare prints of an old and a new document."""
    return lambda old, new: run("compare", write("old", old), write("new", new)).splitlines()


def test_faster(compare):
    said = compare(simulated(ours=100000), simulated(ours=150000))
    assert said[0] == f"better  {SCENARIO}, {READ}, vhost-blk, IOPS: 1e+05 → 1.5e+05 (+50.0%)"
    assert said[1] == f"better  {SCENARIO}, {READ}, vhost-blk, p50, µs: 10 → 6.6667 (-33.3%)"
    assert said[-1] == "5 of 56 changed"


def test_slower(compare):
    said = compare(simulated(ours=100000), simulated(ours=80000))
    assert [line.split()[0] for line in said[:-1]] == ["worse"] * 5


def test_as_good(compare):
    assert compare(simulated(ours=100000), simulated(ours=101000)) == ["0 of 56 changed"]


def test_missing(compare):
    old = simulated()
    new = simulated()
    del new["runs"][0]
    assert compare(old, new)[0] == f"only in the old run: {SCENARIO}, {READ}, vhost-blk"


@pytest.mark.parametrize("kernel, low, high, changes", [
    pytest.param(1000, 1090, 1110, 0, id="same"),
    pytest.param(1105, 1201, 1210, 1, id="apart-and-far"),
    pytest.param(1105, 1105, 1210, 0, id="far-but-overlapping"),
    pytest.param(1008, 1107.5, 1109, 0, id="apart-but-near")])
def test_instructions(compare, kernel, low, high, changes):
    said = compare(counted(1000, 1095, 1107), counted(kernel, low, high))
    assert said[-1] == f"{changes} of 1 changed"
    if changes:
        assert said[0] == (f"worse   ring, {READ}, vhost-blk, minimal driver, instructions: 1100 → 1205 (+9.5%)")
