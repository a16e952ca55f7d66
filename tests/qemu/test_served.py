# SPDX-License-Identifier: GPL-2.0
"""What the device accepts, shows to the guest, and serves."""

import os
from pathlib import Path

from tests.lib.host import expect, shell
from tests.lib.machine import Machine, Qtest
from tests.lib.virtio_blk import ACKNOWLEDGE, DRIVER, DRIVER_OK, GET_ID, IOERR, OK, READ, WRITE
from tests.qemu.harness import (FLUSH, MQ, RO, SIZE, SLOT, add_device, disk, driven, expect_path, make_image, node,
                                pci_driver, refused, slow_block_device)


def test_accepted_nodes():
    """file, raw above file, raw above host_device, host_device and a legacy -drive all work"""
    with slow_block_device(1) as block_device:
        for arguments in [node(),
                          ["-blockdev", "driver=raw,node-name=disk,file.driver=file,file.filename=disk.raw"],
                          node(block_device, "host_device", ",cache.direct=on"),
                          ["-blockdev", "driver=raw,node-name=disk,file.driver=host_device,"
                           f"file.filename={block_device}"],
                          ["-drive", "if=none,id=disk,format=raw,file=disk.raw,cache=none"],
                          ["-drive", f"if=none,id=disk,format=raw,file={block_device}"]]:
            if "cache=none" in arguments[1]:
                arguments[1] = arguments[1].replace("disk.raw", block_device)
            with driven(*arguments, *disk()) as (_, driver):
                driver.start()
                expect("status of a read", driver.queues[0].request(READ, 1)[0], OK)


def test_accepted_types():
    """the transitional, the non-transitional and the virtio-mmio device are there"""
    for device in "vhost-blk-pci-transitional", "vhost-blk-pci-non-transitional":
        with Qtest(*node(), *disk(device=device)):
            pass
    with Qtest(*node(), "-device", "vhost-blk-device,drive=disk", machine="microvm"):
        pass


def test_vhostfd():
    """vhostfd= takes an inherited number and a name given by getfd"""
    with open("/dev/vhost-blk", "r+b", buffering=0) as device:
        with driven(*node(), *disk(f",vhostfd={device.fileno()}"), pass_fds=[device.fileno()]) as (_, driver):
            driver.start()
            expect("status of a read", driver.queues[0].request(READ, 1)[0], OK)
    with open("/dev/vhost-blk", "r+b", buffering=0) as device, Qtest(*node()) as machine:
        machine.execute("getfd", {"fdname": "opened"}, fd=device.fileno())
        add_device(machine, vhostfd="opened", addr=f"{SLOT}")
        driver = pci_driver(machine)
        driver.start()
        expect("status of a read", driver.queues[0].request(READ, 1)[0], OK)


# What the guest sees.

def test_configuration():
    """capacity, segments, sizes, topology, queues and their number are in the configuration space"""
    options = ",num-queues=3,queue-size=64,logical_block_size=1024,physical_block_size=4096,min_io_size=8192"
    with driven(*node(), *disk(options + ",opt_io_size=65536")) as (_, driver):
        found = {name: driver.config(size, offset) for name, size, offset in [
            ("capacity", 4, 0), ("capacity, high", 4, 4), ("seg_max", 4, 12), ("blk_size", 4, 20),
            ("physical_block_exp", 1, 24), ("min_io_size", 2, 26), ("opt_io_size", 4, 28), ("num_queues", 2, 34)]}
        expect("configuration", found, {
            "capacity": SIZE // 512, "capacity, high": 0, "seg_max": 62, "blk_size": 1024, "physical_block_exp": 2,
            "min_io_size": 8, "opt_io_size": 64, "num_queues": 3})
        expect("queue sizes", [driver.queue_size(index) for index in range(4)], [64, 64, 64, 0])


def test_defaults():
    """one queue per vCPU, of 256 entries; flush offered; many queues only where there are many; no read-only"""
    for vcpus in 1, 4:
        with driven("-smp", f"{vcpus}", *node(), *disk()) as (_, driver):
            expect("queues", driver.config(2, 34), vcpus)
            expect("seg_max", driver.config(4, 12), 254)
            expect("queue size", driver.queue_size(0), 256)
            expect("features", driver.offered() & (RO | FLUSH | MQ), FLUSH | (vcpus > 1 and MQ))
    with driven(*node(), *disk(",num-queues=128")) as (_, driver):
        expect("queues", driver.config(2, 34), 128)


def test_large_sectors():
    """a disk of smaller logical blocks than direct I/O on the host's device takes is QEMU's to serve"""
    shell("modprobe loop")
    device = shell(f"losetup --find --show --sector-size 4096 {make_image('loop.raw')}").strip()
    reason = "logical_block_size is below the 4096 of the host device"
    try:
        for more, size, path in ((",cache.direct=on", 512, "qemu"), (",cache.direct=on", 4096, "kernel"),
                                 ("", 512, "kernel")):
            blocks = f",logical_block_size={size},physical_block_size={size}"
            with driven(*node(device, "host_device", more), *disk(blocks)) as (machine, driver):
                expect("blk_size", driver.config(4, 20), size)
                driver.start()
                block = os.urandom(size)
                expect("status of a write", driver.queues[0].request(WRITE, 8, block)[0], OK)
                expect("read", driver.queues[0].request(READ, 8, size=size), (OK, block))
                expect_path(machine, path, reason if path == "qemu" else "")
        with Qtest(*node(device, "host_device", ",cache.direct=on")) as machine:
            with refused(reason):
                add_device(machine, vhost="force")
    finally:
        shell(f"losetup --detach {device}")


def test_read_only():
    """a read-only node gives a read-only disk"""
    with driven(*node(more=",read-only=on"), *disk()) as (_, driver):
        expect("RO", driver.offered() & RO, RO)
        driver.start(features=RO)
        expect("status of a read", driver.queues[0].request(READ, 0)[0], OK)
        expect("status of a write", driver.queues[0].request(WRITE, 0, bytes(512))[0], IOERR)


def test_serial():
    """GET_ID gives the serial number, cut at 20 bytes; none is all NULs"""
    for given in "", "disk-1", "x" * 40:
        with driven(*node(), *disk(given and f",serial={given}")) as (_, driver):
            driver.start()
            status, data = driver.queues[0].request(GET_ID, 0, size=20)
            expect("status", status, OK)
            expect("serial", data, given.encode()[:20].ljust(20, b"\0"))


def test_data():
    """what a queue writes the host's file holds, and every queue reads it back"""
    block = os.urandom(512)
    with driven(*node(), *disk(",num-queues=4")) as (_, driver):
        driver.start(queues=4, features=MQ)
        for index, queue in enumerate(driver.queues):
            expect("status of a write", queue.request(WRITE, index + 7, block)[0], OK)
        for queue in driver.queues:
            expect("read", queue.request(READ, 7), (OK, block))
    expect("the file", Path("disk.raw").read_bytes()[7 * 512:11 * 512], block * 4)


def test_many_queues():
    """128 queues work, each with its own two workers"""
    with driven(*node(), *disk(",num-queues=128")) as (machine, driver):
        driver.start(queues=128, features=MQ)
        for queue in driver.queues[0], driver.queues[1], driver.queues[127]:
            expect("status of a read", queue.request(READ, 0)[0], OK)
        expect("workers", len(machine.worker_names()), 256)


def test_early_kick():
    """a legacy driver that kicks before DRIVER_OK is served, and goes on after it"""
    with driven(*node(), *disk()) as (_, driver):
        driver.start(status=0)
        expect("early read", driver.queues[0].request(READ, 0)[0], OK)
        driver.set_status(ACKNOWLEDGE | DRIVER | DRIVER_OK)
        expect("read after DRIVER_OK", driver.queues[0].request(READ, 0)[0], OK)


def test_reset_to_fewer_queues():
    """after a reset only the queues that the new driver set up are served"""
    with driven(*node(), *disk(",num-queues=2")) as (_, driver):
        driver.start(queues=2, features=MQ)
        first, second = driver.queues
        first.request(READ, 0)
        second.request(READ, 0)
        driver.reset()
        second.submit(READ, 0)
        driver.start(queues=1)
        driver.queues[0].request(READ, 0)
        expect("completed in the ring that is no longer one", second.completed(), 1)
        driver.start(queues=2, features=MQ)
        expect("read by the queue that is back", driver.queues[1].request(READ, 0)[0], OK)


BOOT_SECTOR = bytes.fromhex(
    "31c0 8ed8 8ec0"            # segments 0
    "bb007c b80103 b90200 b600"  # sector 2, cylinder 0, head 0, from 0x7c00, one sector
    "cd13 7204"                 # write it; on error leave the letter out
    "b042 eb02 b045 90"         # 'B', or 'E'
    "ba0105 ee f4"              # as QEMU's exit status
    ).ljust(510, b"\0") + b"\x55\xaa"


def test_firmware():
    """the firmware boots from the disk that bootindex says, reads and writes it"""
    make_image("first.raw")
    with open("disk.raw", "r+b") as image:
        image.write(BOOT_SECTOR)
    arguments = [*node(), "-blockdev", "driver=file,node-name=first,filename=first.raw",
                 "-device", "vhost-blk-pci,drive=first,bootindex=2", *disk(",bootindex=1"),
                 "-device", "isa-debug-exit,iobase=0x501"]
    machine = Machine(arguments=arguments, accelerator="tcg")
    machine.start()
    try:
        machine.wait_end(2 * ord("B") + 1)
    finally:
        machine.kill()
    expect("the sector that it wrote", Path("disk.raw").read_bytes()[512:1024], BOOT_SECTOR)
