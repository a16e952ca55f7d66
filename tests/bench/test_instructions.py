# SPDX-License-Identifier: GPL-2.0
"""How bench/instructions makes instructions per read of the counts at marks."""

from bench.instructions import guest_samples, ring_samples, rows_of
from tests.bench.documents import READ


def test_ring_samples():
    """Only the first and the last mark of a program count, and its start is taken off."""
    marks = [[0, 0, 0], [99, 9, 0], [50, 5, 0], [130, 21, 0],  # 130 and 21 for 10 reads
             [200, 30, 0], [0, 0, 0], [0, 0, 0], [2130, 251, 0]]  # 1930 and 221 for 110
    runs = [{"contestant": "vhost-blk", "job": READ, "marks": 4, "reads": [10, 110]}]
    assert ring_samples(runs, marks) == {(READ, "vhost-blk"): [{"kernel": 18, "user": 2, "guest": 0}]}


def test_guest_samples():
    """A shorter run of fio is taken off a longer one."""
    marks = [[0, 0, 0], [100, 10, 50], [300, 30, 100], [2400, 40, 1150]]
    assert guest_samples([{"contestant": "vhost-blk", "job": READ, "requests": 100}], marks) == {
        (READ, "vhost-blk"): [{"kernel": 20, "user": 0, "guest": 10}]}


def test_rows():
    """The sample whose sum is in the middle."""
    samples = [{"kernel": kernel, "user": 1, "guest": 0} for kernel in (30, 10, 20)]
    assert rows_of({(READ, "vhost-blk"): samples}) == [
        {"contestant": "vhost-blk", "job": READ, "kernel": 20, "user": 1, "guest": 0, "low": 11, "high": 31}]
