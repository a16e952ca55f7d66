# SPDX-License-Identifier: GPL-2.0
"""Resizing the disk while a driver uses it."""

import os

from tests.lib.disks import loop_disk
from tests.lib.host import expect, shell
from tests.lib.virtio_blk import IOERR, OK, READ, WRITE
from tests.qemu.harness import SIZE, disk, driven, expect_path, make_image, node, refused, slow_block_device

ISR, CONFIG_CHANGED = 19, 2
BLOCK = b"grown to here---" * 32


def capacity(driver):
    return driver.config(4, 0) | driver.config(4, 4) << 32


def expect_resized(driver, size):
    """The driver is told, once, and can use what is there now and no more."""
    expect("configuration changed", driver.interrupt_status() & CONFIG_CHANGED, CONFIG_CHANGED)
    expect("configuration changed again", driver.interrupt_status() & CONFIG_CHANGED, 0)
    expect("capacity", capacity(driver), size // 512)
    queue = driver.queues[0]
    expect("last sector written", queue.request(WRITE, size // 512 - 1, BLOCK)[0], OK)
    expect("last sector read", queue.request(READ, size // 512 - 1), (OK, BLOCK))
    for kind in READ, WRITE:
        expect("beyond the end", queue.request(kind, size // 512, BLOCK)[0], IOERR)


def test_resize_file():
    """block_resize grows and shrinks an image file, as a node and through a raw node, and the driver is told"""
    raw = ["-blockdev", "driver=raw,node-name=disk,file.driver=file,file.filename=disk.raw"]
    for nodes in node(), raw:
        make_image()
        with driven(*nodes, *disk()) as (machine, driver):
            driver.start()
            for size in 2 * SIZE, 2 * SIZE + 512, 5 << 30, SIZE // 2, SIZE:
                machine.execute("block_resize", {"node-name": "disk", "size": size})
                expect("size of the file", os.stat("disk.raw").st_size, size)
                expect_resized(driver, size)


def test_resize_device():
    """a host device that has grown or shrunk is seen by the driver after block_resize"""
    with loop_disk(make_image("loop.raw")) as device:
        with driven(*node(device, "host_device", ",cache.direct=on"), *disk()) as (machine, driver):
            driver.start()
            with refused("Cannot grow device files"):
                machine.execute("block_resize", {"node-name": "disk", "size": 2 * SIZE})
            for size in 2 * SIZE, SIZE:
                os.truncate("loop.raw", size)
                shell(f"losetup --set-capacity {device}")
                expect("configuration changed", driver.interrupt_status() & CONFIG_CHANGED, 0)
                machine.execute("block_resize", {"node-name": "disk", "size": size})
                expect_resized(driver, size)


def test_shrinks_between_requests():
    """requests at the end of a file that shrinks do not make it grow again, and all of them are answered"""
    with driven(*node(), *disk()) as (machine, driver):
        driver.start()
        queue = driver.queues[0]
        for _ in range(6):
            areas = [queue.submit(WRITE, sector, BLOCK) for sector in range(SIZE // 512 - 16, SIZE // 512)]
            queue.kick()
            machine.execute("block_resize", {"node-name": "disk", "size": SIZE // 2})
            expect("size of the file", os.stat("disk.raw").st_size, SIZE // 2)
            queue.wait()
            expect("size of the file", os.stat("disk.raw").st_size, SIZE // 2)
            expect("status", {queue.status(area) for area in areas} - {OK, IOERR}, set())
            machine.execute("block_resize", {"node-name": "disk", "size": SIZE})


def test_resize_drains():
    """a resize waits for the requests in flight; one of a node of another disk does not"""
    with slow_block_device(1000) as device:
        with driven(*node(device, "host_device", ",cache.direct=on"), *disk()) as (machine, driver):
            driver.start()
            queue = driver.queues[0]
            for completed in 8, 16:
                for sector in range(8):
                    queue.submit(READ, sector)
                queue.kick()
                machine.execute("blockdev-add", {"driver": "null-co", "node-name": f"other{completed}", "size": SIZE})
                expect("completed meanwhile", queue.completed(), completed - 8)
                machine.execute("block_resize", {"node-name": "disk", "size": 64 << 20})
                expect("completed", queue.completed(), completed)
            expect("status", queue.request(READ, 9)[0], OK)


def test_resize_refused():
    """an image file with a part of a sector is QEMU's to serve, and a read-only one does not grow"""
    with driven(*node(), *disk()) as (machine, driver):
        driver.start()
        for size, path in (SIZE + 1, "qemu"), (SIZE, "kernel"):
            machine.execute("block_resize", {"node-name": "disk", "size": size})
            expect("size of the file", os.stat("disk.raw").st_size, size)
            expect_path(machine, path, "^$" if path == "kernel" else "not a whole number of sectors")
            expect("read", driver.queues[0].request(READ, SIZE // 512 - 1)[0], OK)
    with driven(*node(more=",read-only=on"), *disk()) as (machine, driver):
        with refused("read-only"):
            machine.execute("block_resize", {"node-name": "disk", "size": 2 * SIZE})


def test_shrunk_behind():
    """a file that shrinks behind QEMU's back gives errors, and does not grow again"""
    with driven(*node(), *disk()) as (machine, driver):
        driver.start()
        queue = driver.queues[0]
        os.truncate("disk.raw", SIZE // 2)
        for kind in READ, WRITE:
            expect("beyond the end", queue.request(kind, SIZE // 1024, BLOCK)[0], IOERR)
        expect("last sector", queue.request(WRITE, SIZE // 1024 - 1, BLOCK)[0], OK)
        expect("size of the file", os.stat("disk.raw").st_size, SIZE // 2)
        machine.execute("block_resize", {"node-name": "disk", "size": SIZE})
        expect("back again", queue.request(READ, SIZE // 512 - 1)[0], OK)
