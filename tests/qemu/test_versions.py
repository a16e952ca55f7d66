# SPDX-License-Identifier: GPL-2.0
"""A module and a QEMU of different releases."""

import os

from tests.lib.host import TREE, expect, expect_text
from tests.lib.machine import Qtest
from tests.lib.virtio_blk import OK, READ, WRITE
from tests.qemu.harness import FLUSH, MQ, SIZE, add_device, disk, driven, node, refused

# The module still serves, but is given only what its first release had: the reverse case in the same breath.
OLD_MODULE = ["env", f"LD_PRELOAD={TREE}/build/tests/qemu/oldmodule.so"]
FIRST_FEATURES = sum(1 << bit for bit in (2, 4, 5, 6, 9, 10, 12, 24, 27, 28, 29, 30))

# What a module of the first release lacks, by default and when all of it is asked for.
LACKING = "config-wce, discard, write-zeroes, secure-erase, topology, coalesce-us"
ALL = {"packed": "on", "in_order": "on", "pin-limit": "64K", "coalesce-us": "10"}


def warnings(machine):
    return [line for line in machine.messages().splitlines() if "warning: vhost-blk" in line]


def check_disk(driver):
    block = os.urandom(512)
    driver.start(queues=2, features=MQ | FLUSH)
    first, second = driver.queues
    expect("status of a write", first.request(WRITE, 3, block)[0], OK)
    expect("read", second.request(READ, 3), (OK, block))


def test_older_module():
    """what a module of the first release lacks is named in one warning, and the disk works without"""
    with driven(*node(), *disk(",num-queues=2"), wrapper=OLD_MODULE) as (machine, driver):
        found = warnings(machine)
        expect("warnings", len(found), LACKING != "")
        if LACKING:
            expect_text(f"the loaded vhost_blk module has no {LACKING}: the disk goes without", found[0])
        expect("new features", driver.offered() & ~FIRST_FEATURES, 0)
        check_disk(driver)


def test_older_module_written_through():
    """a module of the first release cannot serve a drive whose write cache is off"""
    expect_text("'disk' has its write cache off, and the kernel module has no write-through mode: .*write-cache=on",
                Qtest(*node(), *disk(",write-cache=off"), wrapper=OLD_MODULE).fails())


def test_older_module_asked_for_all():
    """properties that a module of the first release cannot serve are named in one warning"""
    options = "".join(f",{name}={value}" for name, value in ALL.items())
    with driven(*node(), *disk(",num-queues=2" + options), wrapper=OLD_MODULE) as (machine, driver):
        found = warnings(machine)
        expect("warnings", len(found), 1)
        for name in ALL:
            expect_text(rf"has no .*\b{name}\b.*: the disk goes without", found[0])
        check_disk(driver)


def test_older_module_drained():
    """a module of the first release detaches and attaches the disk to drain it, and loses nothing"""
    with driven(*node(), *disk(), wrapper=OLD_MODULE) as (machine, driver):
        driver.start()
        queue = driver.queues[0]
        for size in 2 * SIZE, SIZE:
            areas = [queue.submit(READ, sector) for sector in range(8)]
            queue.kick()
            machine.execute("block_resize", {"node-name": "disk", "size": size})
            queue.wait()
            expect("status", {queue.status(area) for area in areas}, {OK})
            machine.execute("stop")
            expect("workers while stopped", machine.worker_names(), [])
            machine.execute("cont")
            expect("status of a read", queue.request(READ, 1)[0], OK)


def test_older_module_iommu():
    """a module that cannot translate addresses is not put behind an IOMMU: going without would be unsafe"""
    with Qtest(*node(), wrapper=OLD_MODULE) as machine:
        with refused("iommu_platform=true is not supported"):
            add_device(machine, iommu_platform=True)
        add_device(machine)


def test_older_module_migration():
    """a module that does not log what it writes blocks migration, with the reason"""
    with Qtest(*node(), *disk(), wrapper=OLD_MODULE) as machine:
        with refused("VHOST_F_LOG_ALL"):
            machine.execute("migrate", {"uri": "file:state"})


def test_same_release():
    """with the module of the same release there is no warning"""
    with driven(*node(), *disk(",num-queues=2")) as (machine, driver):
        expect("warnings", warnings(machine), [])
        check_disk(driver)
