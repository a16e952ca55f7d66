# SPDX-License-Identifier: GPL-2.0
"""A guest under load, looked at from its host: counters, latency histogram, workers on their CPUs."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.guest.checks import check_left_nothing
from tests.guest.guest import Disk
from tests.lib.disks import null_disk
from tests.lib.host import TREE, Failure, expect, wait_until

pytestmark = pytest.mark.usefixtures("vhost_only")

READS = 2000
LOAD = """# load
fio --name=load --filename=/dev/vda --ioengine=libaio --direct=1 --rw=randread --bs=4k --iodepth=8 --number_ios=%d \
    --cpus_allowed=0 >/tmp/load.log 2>&1 || { cat /tmp/load.log; exit 1; }
"""


def worker_cpus(guest):
    """The CPUs that each worker may use, and the one that it used last."""

    def cpus(task):
        return os.sched_getaffinity(int(task.name)), int((task / "stat").read_text().rpartition(")")[2].split()[36])

    return {name.rpartition("-")[2]: found for name, found in guest.workers(cpus)}


def traced(guest, work):
    """Do something with the latency script running, and return what the script prints."""
    path = Path(guest.directory, "tracer")
    with path.open("w") as output:
        tracer = subprocess.Popen([f"{TREE}/tools/vhost-blk-latency.bt"], stdout=output, stderr=subprocess.STDOUT)

    def marker_seen():
        # A get-id, type 8; at this signal bpftrace prints all that it has.
        guest.run("cat /sys/block/vda/serial")
        tracer.send_signal(signal.SIGUSR1)
        return ", 8]:" in path.read_text()

    try:
        wait_until(lambda: "Tracing" in path.read_text(), lambda: f"bpftrace does not start: {path.read_text()}")
        # It says so before its probes are all in place.
        wait_until(marker_seen, lambda: f"bpftrace sees no request: {path.read_text()}")
        work()
        tracer.send_signal(signal.SIGINT)
        wait_until(lambda: tracer.poll() is not None, lambda: f"bpftrace does not end: {path.read_text()}")
        return path.read_text()
    finally:
        tracer.kill()
        tracer.wait()


@pytest.fixture(scope="module")
def disks():
    # As slow as this, requests are in flight together and end in the completion workers, whatever the host's speed.
    with null_disk(size=64, memory_backed=1, irqmode=2, completion_nsec=20_000_000) as path:
        yield [Disk(path, "block", queues=2)]


def test_boot(guest):
    pass


def test_counters(guest, disks):
    """counters of the queues over QMP"""
    before = guest.stats(disks[0])
    guest.run(LOAD % READS)
    after = guest.stats(disks[0])
    reads = [new["read"]["requests"] - old["read"]["requests"] for old, new in zip(before, after)]
    data = [new["read"]["bytes"] - old["read"]["bytes"] for old, new in zip(before, after)]
    # The guest's kernel may have read the partition table anew.
    if not READS <= sum(reads) <= READS + 50 or not READS * 4096 <= sum(data):
        raise Failure(f"{READS} reads of 4096 bytes were counted as {reads} of {data} bytes")
    expect("requests in flight after the load", [queue["inflight"] for queue in after], [0, 0])
    busy = after[reads.index(max(reads))]
    if not 2 <= busy["max-inflight"] <= 256:
        raise Failure(f"at depth 8 there were {busy['max-inflight']} requests in flight")
    if not busy["signals"] or not busy["kicks"]:
        raise Failure(f"no kicks or no signals: {busy}")


def test_histogram(guest, disks):
    """histogram of latencies by bpftrace"""
    text = traced(guest, lambda: guest.run(LOAD % READS))
    number = Path("/sys/block", Path(disks[0].path).name, "dev").read_text().strip().replace(":", ", ")
    # Of each queue the last one, for it may have been printed before.
    histograms = dict(re.findall(rf"^@usecs\[{number}, 0, ([01]), 0\]: *\n((?:\[.*\n)+)", text, re.M))
    found = sum(int(count) for histogram in histograms.values()
                for count in re.findall(r"^\[.*?[\])]\s+(\d+) \|", histogram, re.M))
    if not READS <= found <= READS + 50:
        raise Failure(f"the histograms hold {found} of {READS} reads:\n{text}")


def test_workers(guest):
    """workers that are bound to CPUs stay there under load"""
    for name, thread in guest.workers(lambda task: int(task.name)):
        os.sched_setaffinity(thread, {int(name[-1])})
    for queue in range(2):
        guest.run((LOAD % (READS // 2)).replace("cpus_allowed=0", f"cpus_allowed={queue}"))
    # A worker that has had nothing to do since it was bound is where it was made.
    expect("CPUs of the workers", worker_cpus(guest),
           {f"{role}{index}": ({index}, index) for role in "sc" for index in range(2)})


def test_power_off(guest):
    guest.power_off()
    check_left_nothing(guest)
