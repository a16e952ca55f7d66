# SPDX-License-Identifier: GPL-2.0
"""Requests in flight when the disk stops being served."""

import time
from contextlib import contextmanager
from pathlib import Path

from tests.lib.disks import null_disk
from tests.lib.host import expect, expect_soon
from tests.lib.virtio_blk import OK, READ, WRITE
from tests.qemu.harness import (FLUSH, SLOT, add_device, disk, drain, driven, node, pci_driver, remove_device,
                                slow_block_device, worker_threads)


@contextmanager
def in_flight(**options):
    """A driver with 8 requests in flight on a disk that takes a second for each."""
    with slow_block_device(1000) as device:
        with driven(*node(device, "host_device", ",cache.direct=on"), *disk(), **options) as (machine, driver):
            driver.start()
            queue = driver.queues[0]
            for sector in range(8):
                queue.submit(READ, sector)
            queue.kick()
            time.sleep(0.2)
            expect("completed at once", queue.completed(), 0)
            yield machine, driver, queue


def test_stop_drains():
    """stopping the machine waits for the requests in flight, and the indices that QEMU reads say so"""
    with in_flight() as (machine, driver, queue):
        machine.execute("stop")
        expect("completed when stopped", queue.completed(), 8)
        status = machine.execute("x-query-virtio-queue-status",
                                 {"path": "/machine/peripheral/vhost/virtio-backend", "queue": 0})
        expect("available and used index", (status["last-avail-idx"], status["used-idx"]), (8, 8))
        queue.submit(READ, 9)
        time.sleep(0.2)
        expect("completed while stopped", queue.completed(), 8)
        machine.execute("cont")
        queue.wait()
        expect("status after going on", queue.request(READ, 10)[0], OK)


def test_drains_keep_workers():
    """a drain of a busy disk waits for its requests, and neither that nor a pause makes or ends a worker"""
    with in_flight() as (machine, driver, queue):
        workers = worker_threads(machine)
        expect("workers", len(workers), 2)
        for completed in 8, 16, 24:
            drain(machine, 64 << 20)
            expect("completed when drained", queue.completed(), completed)
            expect("workers", worker_threads(machine), workers)
            for sector in range(8):
                queue.submit(READ, sector)
            queue.kick()
        machine.execute("stop")
        expect("workers", worker_threads(machine), workers)
        drain(machine, 64 << 20)
        machine.execute("cont")
        expect("status after going on", queue.request(READ, 10)[0], OK)
        expect("workers", worker_threads(machine), workers)


def test_paused_reset():
    """a reset of a paused machine ends the workers, and the disk is served again when a driver starts it"""
    with driven(*node(), *disk()) as (machine, driver):
        driver.start()
        machine.execute("stop")
        expect("workers", len(machine.worker_names()), 2)
        machine.execute("system_reset")
        expect_soon("workers", lambda: machine.worker_names(), [])
        machine.execute("cont")
        driver = pci_driver(machine)
        driver.start()
        expect("status of a read", driver.queues[0].request(READ, 0)[0], OK)


def test_paused_unplug():
    """unplugging from a paused machine frees the node for another device"""
    with driven(*node(), *disk()) as (machine, driver):
        driver.start()
        machine.execute("stop")
        remove_device(machine)
        expect_soon("workers", lambda: machine.worker_names(), [])
        machine.execute("cont")
        add_device(machine, addr=f"{SLOT}")
        driver = pci_driver(machine)
        driver.start()
        expect("status of a read", driver.queues[0].request(READ, 0)[0], OK)


def test_stop_flushes():
    """what a driver has written is on the disk when the machine has stopped, with or without a raw node on top"""
    raw = "driver=raw,node-name=disk,file.driver=host_device,file.filename="
    with null_disk(size=64, memory_backed=1) as device:
        written = Path(f"/sys/block/{Path(device).name}/stat")
        for nodes in node(device, "host_device"), ["-blockdev", raw + device]:
            with driven(*nodes, *disk()) as (machine, driver):
                driver.start(features=FLUSH)  # else it would be in write-through mode
                queue = driver.queues[0]
                before = int(written.read_text().split()[4])
                expect("status of a write", queue.request(WRITE, 8, bytes(4096), 4096)[0], OK)
                expect("writes", int(written.read_text().split()[4]), before)
                machine.execute("stop")
                expect("writes when stopped", int(written.read_text().split()[4]), before + 1)


def test_early_kick_survives_stop():
    """a driver that kicks without ever saying DRIVER_OK is served again after stop and cont"""
    with driven(*node(), *disk()) as (machine, driver):
        driver.start(status=0)
        queue = driver.queues[0]
        expect("status of a read", queue.request(READ, 0)[0], OK)
        workers = worker_threads(machine)
        expect("workers", len(workers), 2)
        for sector in range(1, 3):
            machine.execute("stop")
            expect("workers", worker_threads(machine), workers)
            machine.execute("cont")
            expect("status of a read", queue.request(READ, sector)[0], OK)
        driver.reset()
        expect("workers", machine.worker_names(), [])


def test_reset_drains():
    """a driver's reset and the machine's reset wait for the requests in flight"""
    with in_flight() as (machine, driver, queue):
        driver.reset()
        expect("completed when reset", queue.completed(), 8)
        driver.start()
        driver.queues[0].submit(READ, 0)
        driver.queues[0].kick()
        time.sleep(0.2)
        machine.execute("system_reset")
        machine.wait_event("RESET")
        expect("completed when reset", driver.queues[0].completed(), 1)
        expect("status register", pci_driver(machine).status(), 0)


def test_unplug_drains():
    """unplugging waits for the requests in flight and frees the node for another device"""
    with in_flight() as (machine, driver, queue):
        remove_device(machine)
        expect("completed when unplugged", queue.completed(), 8)
        add_device(machine, addr=f"{SLOT}")
        driver = pci_driver(machine)
        driver.start()
        expect("status", driver.queues[0].request(READ, 0)[0], OK)
        remove_device(machine)
        machine.execute("blockdev-del", {"node-name": "disk"})


def test_quit_in_flight():
    """QEMU ends well with requests in flight, and leaves no worker behind"""
    with in_flight() as (machine, _, _):
        expect("workers", len(machine.worker_names()), 2)
    expect_soon("workers", lambda: machine.worker_names(), [])
