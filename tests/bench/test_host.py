# SPDX-License-Identifier: GPL-2.0
"""What bench/host makes of rounds."""

import pytest

from bench.host import BARE, agree, chosen_jobs, page, read_only, verdict
from bench.guest import contestants_for
from tests.bench.documents import IOTHREAD, READ


def rounds(**iops):
    """Rounds of depth 1; underscores are for names that are no words of Python."""
    names = {"vhost": "vhost-blk", "native": IOTHREAD, "bare": BARE}
    return [{"job": READ, "contestant": names[name], "iops": value, "p50": 1, "p99": 2, "p99.9": 3}
            for name, values in iops.items() for value in values]


def test_agree():
    assert agree(rounds(vhost=[100, 101, 102], native=[50, 50, 51]))
    assert not agree(rounds(vhost=[100, 101, 106], native=[50, 50, 51]))
    assert not agree(rounds(vhost=[100, 100]))


@pytest.mark.parametrize("ours, end", [
    pytest.param([150, 151, 152], "Use **vhost-blk** for this disk.", id="faster"),
    pytest.param([50, 51, 52], "Use **virtio-blk** for this disk.", id="slower"),
    pytest.param([90, 120, 150], "serves more kinds of images.", id="noise"),
    pytest.param([103, 103, 103], "serves more kinds of images.", id="little")])
def test_verdict(ours, end):
    """Bare metal is nothing that a guest could use."""
    said = verdict(rounds(vhost=ours, native=[100, 101, 102], bare=[500] * 3))
    assert said.endswith(end)
    assert IOTHREAD in said


def test_page():
    text = page({"machine": {"CPU": "fast"}, "commands": {"vhost-blk": "-device vhost-blk-pci"}, "fio": {READ: "fio"},
                 "runs": rounds(vhost=[150, 151, 152], native=[100, 101, 102])})
    assert "- CPU: fast" in text
    assert "| vhost-blk | 151 | 1.3% | 1.0 | 2.0 | 3.0 | 3 |" in text


def test_read_only():
    """Each way opens the disk so that it cannot be written to."""
    for way in contestants_for("/disk", None).values():
        words = read_only(way).arguments("name", "/disk", 2, 8)
        assert sum("filename=/disk" in word and "read-only=on" in word for word in words) == 1


def test_jobs():
    assert not [name for name in chosen_jobs(1, False) if "write" in name]
    assert len(chosen_jobs(1, True)) == 2 * len(chosen_jobs(1, False))
