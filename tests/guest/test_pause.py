# SPDX-License-Identifier: GPL-2.0
"""The machine is stopped and goes on, again and again, under verified load."""

import random
import time
from pathlib import Path

import pytest

from tests.guest.checks import check_console, check_left_nothing, check_workers, verified_load
from tests.guest.guest import VHOST
from tests.lib.host import expect, wait_until


def pause(guest, workers):
    """Stop and go on at some moment."""
    disks, served = guest.disks, guest.disks[0].device == VHOST
    time.sleep(random.uniform(0, 1))
    guest.execute("stop")
    stopped = [indices(guest, disk) for disk in disks], requests(disks[0])
    if served:
        expect("workers while stopped", guest.worker_names(), workers)
        expect("rings with requests in flight",
               [ring for rings in stopped[0] for ring in rings if ring[0] != ring[1]], [])
    time.sleep(0.5)
    expect("rings and requests while stopped", ([indices(guest, disk) for disk in disks], requests(disks[0])), stopped)
    guest.execute("cont")
    expect("workers", guest.worker_names(), workers)
    wait_until(lambda: requests(disks[0]) > stopped[1],
               lambda: f"no request completed since the machine goes on: {stopped[1]}{guest.stuck()}")


def indices(guest, disk):
    """Available and used index of each ring, as QEMU has them."""
    found = []
    for queue in range(disk.queues):
        ring = guest.execute("x-query-virtio-queue-status",
                             {"path": f"/machine/peripheral/{disk.serial}/virtio-backend", "queue": queue})
        found.append((ring["last-avail-idx"], ring["used-idx"]))
    return found


def requests(disk):
    """How many requests the backend has completed."""
    fields = Path(f"/sys/block/{Path(disk.path).name}/stat").read_text().split()
    return int(fields[0]) + int(fields[4])


def test_boot(guest):
    pass


@pytest.mark.rounds(5)
def test_pause(guest, rounds):
    """nothing completes while stopped, all goes on after"""
    with verified_load(guest, "vda", "vdb"):
        workers = guest.worker_names()
        for _ in range(rounds):
            pause(guest, workers)
    check_console(guest)
    check_workers(guest)


def test_power_off(guest):
    """power off while stopped"""
    guest.execute("stop")
    guest.quit()
    check_left_nothing(guest)
