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
from tests.qemu.harness import MQ, SIZE, add_device, disk, drain, driven, node, refused, worker_threads

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
        expect("notifications of queue 1", second["signals"] + second["signals-suppressed"], 4)
        expect("all names", sorted(second), sorted(
            ["index", "read", "write", "flush", "discard", "write-zeroes", "secure-erase", "other", "kicks",
             "submit-wakeups", "complete-wakeups", "batches", "signals", "signals-suppressed", "max-inflight",
             "inflight", "poll-hits", "pin-misses", "signals-coalesced", "offloads", "submit-tid", "complete-tid"]))


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


def test_coalesce_us():
    """coalesce-us has a default, and one that cannot be is refused by name"""
    with Qtest(*node()) as machine:
        with refused("coalesce-us must be between 0 and 1000, not 1001"):
            add_device(machine, **{"coalesce-us": 1001})
        add_device(machine)
        expect("coalesce-us", machine.execute("qom-get", {**PATH, "property": "coalesce-us"}), 32)
    with driven(*node(), *disk(",coalesce-us=1000,poll-us=10000")) as (machine, driver):
        driver.start()
        queue = driver.queues[0]
        for _ in range(8):
            areas = [queue.submit(READ, sector) for sector in range(16)]
            queue.kick()
            queue.wait()
            expect("status", {queue.status(area) for area in areas}, {OK})


def thread_ids(machine):
    """The thread id of each worker, by its name without QEMU's number, as the property stats has it."""
    return {f"{role}{queue['index']}": queue[name] for queue in machine.execute("qom-get", PATH)
            for role, name in (("s", "submit-tid"), ("c", "complete-tid"))}


def test_workers_on_cpus():
    """workers can be bound to CPUs by their thread ids, and stay there until the driver is reset"""
    with driven(*node(), *disk(",num-queues=2")) as (machine, driver):
        driver.start(queues=2, features=MQ)
        threads = thread_ids(machine)
        expect("thread ids", threads,
               {name.rpartition("-")[2]: thread for name, thread in worker_threads(machine).items()})
        for name, thread in threads.items():
            os.sched_setaffinity(thread, {int(name[1:])})
        drain(machine)
        machine.execute("stop")
        machine.execute("cont")
        for queue in driver.queues:
            expect("a read", queue.request(READ, 1)[0], OK)
        expect("thread ids", thread_ids(machine), threads)
        expect("CPUs of the workers", {name: os.sched_getaffinity(thread) for name, thread in threads.items()},
               {name: {int(name[1:])} for name in threads})
        driver.reset()
        expect("thread ids after a reset", thread_ids(machine), dict.fromkeys(threads, 0))


def test_workers_follow_qemu():
    """workers run where QEMU's main thread may"""
    with driven(*node(), *disk(), wrapper=["taskset", "-c", "1"]) as (machine, driver):
        driver.start()
        expect("CPUs of the workers", [os.sched_getaffinity(thread) for thread in worker_threads(machine).values()],
               [{1}, {1}])
