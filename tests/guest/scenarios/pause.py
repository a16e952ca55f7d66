# SPDX-License-Identifier: GPL-2.0
"""The machine is stopped and goes on, again and again, under verified load."""

import random
import time
from contextlib import ExitStack
from pathlib import Path

from tests.lib import disks as backend
from tests.guest.checks import check_console, check_left_nothing, check_workers, verified_load
from tests.guest.guest import VHOST, Disk, Guest
from tests.lib.host import expect, expect_soon, load_module, wait_until

QUEUES = 2


def run(results, device):
    with ExitStack() as stack:
        disks = [Disk(stack.enter_context(backend.null_block(64)), "block", device, QUEUES),
                 Disk(stack.enter_context(backend.file_on_ext4(64)), "file", device, QUEUES)]
        if device == VHOST:
            load_module()
        with results.check("pause: boot"):
            guest = stack.enter_context(Guest(disks, vcpus=QUEUES))
        rounds = results.rounds(5)
        with results.check(f"pause: {rounds} times, nothing completes while stopped, all goes on after"):
            with verified_load(guest, "vda", "vdb"):
                workers = [name for name, _ in guest.workers()]
                for _ in range(rounds):
                    pause(guest, workers)
            check_console(guest)
            check_workers(guest)
        with results.check("pause: power off while stopped"):
            guest.qmp.execute("stop")
            guest.qmp.execute("quit")
            expect("QEMU's exit status", guest.wait_end(), 0)
            check_left_nothing(guest)


def pause(guest, workers):
    """Stop and go on at some moment."""
    disks, served = guest.disks, guest.disks[0].device == VHOST
    time.sleep(random.uniform(0, 1))
    guest.qmp.execute("stop")
    stopped = [indices(guest, disk) for disk in disks], requests(disks[0])
    if served:
        expect_soon("workers while stopped", guest.workers, [])
        expect("rings with requests in flight",
               [ring for rings in stopped[0] for ring in rings if ring[0] != ring[1]], [])
    time.sleep(0.5)
    expect("rings and requests while stopped", ([indices(guest, disk) for disk in disks], requests(disks[0])), stopped)
    guest.qmp.execute("cont")
    expect("workers", [name for name, _ in guest.workers()], workers)
    wait_until(lambda: requests(disks[0]) > stopped[1],
               lambda: f"no request completed since the machine goes on: {stopped[1]}{guest.stuck()}")


def indices(guest, disk):
    """Available and used index of each ring, as QEMU has them."""
    found = []
    for queue in range(disk.queues):
        ring = guest.qmp.execute("x-query-virtio-queue-status",
                                 {"path": f"/machine/peripheral/{disk.serial}/virtio-backend", "queue": queue})
        found.append((ring["last-avail-idx"], ring["used-idx"]))
    return found


def requests(disk):
    """How many requests the backend has completed."""
    fields = Path(f"/sys/block/{Path(disk.path).name}/stat").read_text().split()
    return int(fields[0]) + int(fields[4])
