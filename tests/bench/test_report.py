# SPDX-License-Identifier: GPL-2.0
"""What bench/report makes of figures."""

import itertools

import pytest

from tests.bench.documents import READ, counted, instructions, steady, times


@pytest.fixture
def report(write, run):
    """A function that returns the lines of the report on documents, and the report's directory."""
    def make(*documents):
        directory = write(f"run-{next(numbers)}", *documents)
        assert run("report", "--output", directory, directory) == ""
        return (directory / "report.md").read_text().splitlines(), directory

    numbers = itertools.count()
    return make


def target(lines, start):
    return next(line for line in lines if line.startswith(f"| {start}")).split(" | ")[1:]


def test_guest_target(report):
    """The rival is the one with the best median, not vhost-blk on another disk."""
    lines, _ = report(times({"vhost-blk": [210, 330, 400], "virtio-blk aio=native": [90, 100, 190],
                             "vhost-user-blk": [100, 150, 160], "vhost-blk on the block device": [900] * 3}, "guest"))
    assert target(lines, f"guest, IOPS against the best other way: {READ} |") == [
        "≥ 2.00", "2.20 (2.10–2.50)", "yes", "the best is vhost-user-blk |"]


def test_instruction_targets(report):
    lines, run = report(counted(instructions(1400, 1490, 1530),
                                instructions(900, 990, 1010, "io_uring")))
    cells = target(lines, f"ring, instructions against fio's io_uring on the disk: {READ} |")
    assert cells[:3] == ["≤ 1.40", "1.50 (1.48–1.55)", "**no**"]
    assert target(lines, "guest, IOPS")[1:3] == ["–", "not measured"]
    assert (run / "instructions-ring-null_blk.svg").exists()


def test_guest_instructions(report):
    """The guest's own are nobody's merit."""
    ours, other = (instructions(kernel, 0, 0, name) | {"guest": guest}
                   for kernel, name, guest in ((300, "vhost-blk", 5000), (900, "virtio-blk aio=io_uring", 100)))
    lines, _ = report(counted(ours, other, level="guest"))
    assert target(lines, "guest, host instructions")[:3] == ["≤ 0.40", "0.40", "yes"]


def test_counts(report):
    document = times({"vhost-blk": [1], "io_uring": [1]})
    document["counts"] = [{"job": READ, "round": number, "contestant": "vhost-blk", "requests": 9,
                           "system_calls": calls}
                          for number, calls in enumerate((0.5, 0.7, 2))]
    lines, _ = report(document)
    place = lines.index(f"### Counted per I/O: {READ}")
    assert lines[place + 2:place + 5] == [
        "| contestant | system calls |", "| --- | --- |", "| vhost-blk | 0.70 |"]


@pytest.mark.parametrize("switches, reached", [(0, "yes"), (1, "**no**")])
def test_idle(report, switches, reached):
    document = times({"vhost-blk": [1], "io_uring": [1]})
    lines, _ = report(document | {"idle": {"vhost-blk": switches}, "host": "KVM, 8 CPUs"})
    assert "Test host: KVM, 8 CPUs." in lines
    assert target(lines, "ring, how often")[1:3] == [f"{switches:.2f}", reached]


def test_memory(report):
    document = times({"vhost-blk": [1], "io_uring": [1]})
    document["memory"] = [{"contestant": "vhost-blk", "slab": slab, "mapped": 32, "percpu": 0.4}
                          for slab in (150, 160, 190)]
    lines, _ = report(document)
    place = lines.index("## Memory of the host's kernel, KiB for each started queue: Ring level, null_blk")
    assert lines[place + 4] == "| vhost-blk | 160 | 32 | 0 | 192.40 (182.40–222.40) |"


def test_losses(report):
    lines, _ = report(times({"vhost-blk": steady(100), "io_uring": [200] * 5, "libaio": [50] * 5}))
    assert f"| {READ} | **0.51 (0.50–0.52)** | 2.04 (2.00–2.08) |" in lines
    assert f"| {READ} | **1.96 (1.92–2.00)** | 0.49 (0.48–0.50) |" in lines


def test_missing_pair(report):
    """Who could not take part has a dash, and the reason."""
    document = times({"vhost-blk": steady(100), "vhost-user-blk": [], "io_uring": [200] * 5})
    document["left_out"] = [{"contestant": "vhost-user-blk", "job": READ, "why": "too many queues"}]
    document["runs"] += times({"vhost-blk": [1], "vhost-user-blk": [1]}, job="another")["runs"]
    lines, _ = report(document)
    assert f"| {READ} | **0.51 (0.50–0.52)** | – |" in lines
    assert f"No vhost-user-blk in {READ}: too many queues." in lines


def test_pictures_repeat(report):
    documents = [times({"vhost-blk": steady(100), "io_uring": steady(200)}) for _ in range(2)]
    deeper = times({"vhost-blk": steady(300), "io_uring": steady(400)}, job="4 KiB random read, depth 32")
    documents[0]["runs"] += deeper["runs"]
    documents[1]["runs"] += deeper["runs"]
    first, second = [(report(document)[1] / "latency-ring-null_blk.svg").read_bytes() for document in documents]
    assert first == second
