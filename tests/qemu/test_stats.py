# SPDX-License-Identifier: GPL-2.0
"""What a person sees and says of the kernel's part of a disk: its counters, and where its workers run."""

import os
import re
from contextlib import contextmanager
from pathlib import Path

from tests.lib.disks import null_disk
from tests.lib.host import expect, expect_text
from tests.lib.machine import Qtest
from tests.lib.virtio_blk import IOERR, OK, READ, WRITE
from tests.qemu.harness import MQ, SIZE, add_device, disk, driven, node, refused
from tests.qemu.test_versions import OLD_MODULE

PATH = {"path": "/machine/peripheral/vhost", "property": "stats"}
TRACING = Path("/sys/kernel/tracing")
VHOST_SET_VRING_BUSYLOOP_TIMEOUT = 0x4008AF23


@contextmanager
def timeouts_told():
    """A function that tells with which times in microseconds the module was asked to poll."""
    event = TRACING / "events/kprobes/vring_ioctl"
    (TRACING / "kprobe_events").write_text("p:vring_ioctl vhost_vring_ioctl call=$arg2:u32 us=+u4($arg3):u32")
    (event / "filter").write_text(f"call == {VHOST_SET_VRING_BUSYLOOP_TIMEOUT}")
    (event / "enable").write_text("1")
    try:
        yield lambda: list(map(int, re.findall(r"(?m)vring_ioctl: .* us=(\d+)$", (TRACING / "trace").read_text())))
    finally:
        (event / "enable").write_text("0")
        (TRACING / "kprobe_events").write_text("")
        (TRACING / "trace").write_text("")


def affinities(machine):
    """The CPUs of each worker, by its name without QEMU's number."""
    return {name.rpartition("-")[2]: cpus
            for name, cpus in machine.workers(lambda task: os.sched_getaffinity(int(task.name)))}


def pinned_pages(machine):
    status = Path(f"/proc/{machine.process.pid}/status").read_text()
    return int(expect_text(r"(?m)^VmPin:\s*(\d+) kB", status)[1]) * 1024 // os.sysconf("SC_PAGE_SIZE")


def test_stats():
    """the property stats has an element per queue, which counts what that queue did, also across a reset"""
    with driven(*node(), *disk(",num-queues=2")) as (machine, driver):
        idle = machine.execute("qom-get", PATH)
        expect("queues", [queue["index"] for queue in idle], [0, 1])
        expect("requests of an idle disk", idle[0]["read"], {"requests": 0, "bytes": 0, "errors": 0})
        for _ in range(2):
            driver.start(queues=2, features=MQ)
            expect("a read", driver.queues[0].request(READ, 1)[0], OK)
            expect("a write", driver.queues[1].request(WRITE, 2, bytes(512))[0], OK)
            expect("a read beyond the end", driver.queues[1].request(READ, SIZE // 512)[0], IOERR)
        first, second = machine.execute("qom-get", PATH)
        expect("reads of queue 0", first["read"], {"requests": 2, "bytes": 1024, "errors": 0})
        expect("writes of queue 0", first["write"]["requests"], 0)
        expect("writes of queue 1", second["write"], {"requests": 2, "bytes": 1024, "errors": 0})
        expect("reads of queue 1", second["read"], {"requests": 2, "bytes": 0, "errors": 2})
        expect("queue 1", {name: second[name] for name in ("batches", "max-inflight", "inflight")},
               {"batches": 4, "max-inflight": 1, "inflight": 0})
        # QEMU kicks by itself at each start.
        expect("kicks of queue 1", second["kicks"], 4 + 2)
        expect("notifications of queue 1", second["signals"] + second["signals-saved"], 4)
        expect("all names", sorted(second), sorted(
            ["index", "read", "write", "flush", "discard", "write-zeroes", "secure-erase", "other", "kicks",
             "submit-wakeups", "complete-wakeups", "batches", "signals", "signals-saved", "max-inflight", "inflight",
             "polled", "pin-misses"]))


def test_pin_limit():
    """pin-limit keeps pages pinned until the driver is reset, and without it none is"""
    for value, wanted in (0, 0), ("64K", 1):
        with null_disk(size=64) as path, driven(*node(path, "host_device", ",cache.direct=on"),
                                                *disk(f",pin-limit={value}")) as (machine, driver):
            driver.start()
            for _ in range(2):
                expect("a read", driver.queues[0].request(READ, 1)[0], OK)
                expect(f"pages pinned with pin-limit={value}", pinned_pages(machine), wanted)
            expect("pages not found pinned", machine.execute("qom-get", PATH)[0]["pin-misses"], wanted)
            driver.reset()
            expect("pages pinned after a reset", pinned_pages(machine), 0)


def test_bad_pin_limit():
    """a pin-limit that cannot be is refused, and the error names it and its range"""
    with Qtest(*node()) as machine:
        with refused("pin-limit must be between 0 and 1G, not 1073741825"):
            add_device(machine, **{"pin-limit": (1 << 30) + 1})
        add_device(machine, **{"pin-limit": 1 << 30})


def test_poll_us():
    """poll-us is by default the time for which QEMU's own threads poll, and can be another"""
    for option, wanted in ("", 32), (",poll-us=0", 0), (",poll-us=100", 100):
        with timeouts_told() as told, driven(*node(), *disk(f",num-queues=2{option}")) as (machine, driver):
            driver.start(queues=2, features=MQ)
            # Without a word of QEMU's it does not poll.
            expect("times to poll for that the module is told", told(), [wanted] * 2 if wanted else [])
            expect("poll-us", machine.execute("qom-get", {**PATH, "property": "poll-us"}), wanted)


def test_stats_of_an_older_module():
    """a module that does not count gives an error to who reads stats, and serves the disk"""
    with driven(*node(), *disk(), wrapper=OLD_MODULE) as (machine, driver):
        with refused("stats: the vhost_blk module does not count requests, load a newer one"):
            machine.execute("qom-get", PATH)
        driver.start()
        expect("a read", driver.queues[0].request(READ, 1)[0], OK)


def test_worker_cpus():
    """worker-cpus binds both workers of each queue: one list for all, or several in turn"""
    for value, wanted in {"1": [{1}, {1}, {1}], "1:0": [{1}, {0}, {1}], "0-1:0:1": [{0, 1}, {0}, {1}],
                          "0,,1": [{0, 1}] * 3}.items():
        with driven(*node(), *disk(f",num-queues=3,worker-cpus={value}")) as (machine, driver):
            driver.start(queues=3, features=MQ)
            for _ in range(2):
                expect(f"CPUs of the workers with worker-cpus={value}", affinities(machine),
                       {f"{role}{queue}": cpus for queue, cpus in enumerate(wanted) for role in "sc"})
                # It holds after the guest's driver has begun anew.
                driver.start(queues=3, features=MQ)


def test_workers_follow_qemu():
    """without worker-cpus the workers run where QEMU's main thread may"""
    with driven(*node(), *disk(), wrapper=["taskset", "-c", "1"]) as (machine, driver):
        driver.start()
        expect("CPUs of the workers", affinities(machine), {"s0": {1}, "c0": {1}})


def test_bad_worker_cpus():
    """worker-cpus that cannot be is refused, and the error names it"""
    with Qtest(*node()) as machine:
        for value in "", "x", "1-", "-1", "1-0", "0,,1", "0:", "0-1x", "8192":
            with refused("worker-cpus: '.*' is not a list of CPUs such as 0-3,8"):
                add_device(machine, **{"worker-cpus": value, "num-queues": 2})
        with refused("worker-cpus: of '4000' a CPU is offline or not in the cpuset"):
            add_device(machine, **{"worker-cpus": "4000"})
        with refused("worker-cpus has 3 lists of CPUs for 2 queues"):
            add_device(machine, **{"worker-cpus": "0:0:0", "num-queues": 2})
        add_device(machine, **{"worker-cpus": "0:1", "num-queues": 2})
        expect_text("0:1", machine.execute("qom-get", {**PATH, "property": "worker-cpus"}))
