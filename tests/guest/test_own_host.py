# SPDX-License-Identifier: GPL-2.0
"""bench/host, as a person runs it on a host of their own: it compares, says which to use, and writes nothing."""

import sys

import pytest

from bench import host
from tests.lib.disks import null_block
from tests.lib.host import expect, load_module, shell


@pytest.fixture
def bench_host(tmp_path, monkeypatch, capsys):
    """A function that runs bench/host for a short time, and returns the page that it wrote."""
    def run(*arguments):
        monkeypatch.setattr(host, "DEPTHS", (1,))
        monkeypatch.setattr(host, "LEAST_ROUNDS", 1)
        monkeypatch.setattr(host, "TIMED", ["--time_based", "--runtime=100ms"])
        monkeypatch.setattr(sys, "argv", ["host", "--minutes", "0", "--output", str(tmp_path), *arguments])
        host.main()
        return capsys.readouterr().out, (tmp_path / "host.md").read_text()

    load_module()
    return run


def test_reads_only(bench_host):
    with null_block(256) as disk:
        shell(f"dd if=/dev/urandom of={disk} bs=1M oflag=direct status=none || true")
        before = shell(f"md5sum {disk}")
        said, page = bench_host("--disk", disk)
        expect("the disk's content", shell(f"md5sum {disk}"), before)
    assert f"This reads {disk}; it writes nothing to it, by 6 ways in 1 jobs" in said
    assert "for this disk" in page
    assert "virtio-blk aio=io_uring" in page


def test_writes_if_told(bench_host, monkeypatch):
    """and with several queues by the way that needs them"""
    monkeypatch.setattr(host, "is_rival", lambda name: "iothread per queue" in name)
    with null_block(256) as disk:
        said, page = bench_host("--disk", disk, "--destroy-data", "--queues", "2")
    assert "AND OVERWRITES IT" in said
    assert "| **4 KiB random write, depth 1** |" in page
    assert "iothread-vq-mapping" in page


def test_refuses_a_missing_disk(bench_host):
    with pytest.raises(host.Failure, match="there is no /dev/nothing"):
        bench_host("--disk", "/dev/nothing")
