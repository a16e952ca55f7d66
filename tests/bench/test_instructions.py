# SPDX-License-Identifier: GPL-2.0
"""How bench/instructions makes instructions per read of the counts at marks."""

from bench.instructions import samples
from tests.bench.documents import READ


def test_samples():
    """Only the first and the last mark of a program count, and its start is taken off."""
    marks = [[0, 0, 0], [99, 9, 0], [50, 5, 0], [130, 21, 0],  # 130 and 21 for 10 reads
             [200, 30, 0], [0, 0, 0], [0, 0, 0], [2130, 251, 0]]  # 1930 and 221 for 110
    runs = [{"contestant": "vhost-blk", "job": READ, "marks": 4, "reads": [10, 110]}]
    assert samples(runs, marks) == {("vhost-blk", READ): [[18.0, 2.0]]}
