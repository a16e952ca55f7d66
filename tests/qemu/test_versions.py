# SPDX-License-Identifier: GPL-2.0
"""A module and a QEMU of different releases."""

import os

from tests.lib.host import TREE, expect, expect_text
from tests.lib.machine import Qtest
from tests.lib.virtio_blk import OK, READ, WRITE
from tests.qemu.harness import FLUSH, MQ, add_device, disk, drain, driven, expect_path, node

# The module still serves, but is given only what its first release had.
OLD_MODULE = ["env", f"LD_PRELOAD={TREE}/build/tests/qemu/oldmodule.so"]
UNUSABLE = "/dev/vhost-blk is not served by a vhost_blk module that this QEMU can use"
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
    """with a module of the first release QEMU serves the disk, and says so in one warning"""
    for names in (), ALL:
        more = "".join(f",{name}={ALL[name]}" for name in names)
        with driven(*node(), *disk(",num-queues=2" + more), wrapper=OLD_MODULE) as (machine, driver):
            found = warnings(machine)
            expect("warnings", len(found), 1)
            expect_text(f"QEMU serves 'disk' by itself: {UNUSABLE}", found[0])
            check_disk(driver)
            drain(machine)
            check_disk(driver)
            expect_path(machine, "qemu", UNUSABLE)
            machine.execute("migrate", {"uri": "file:state"})
            machine.qmp.wait_migration("completed")


def test_older_module_refused():
    """with vhost=force such a module is refused"""
    expect_text(f"vhost-blk: 'disk': {UNUSABLE}", Qtest(*node(), *disk(",vhost=force"), wrapper=OLD_MODULE).fails())


def test_older_module_iommu():
    """a disk behind an IOMMU is QEMU's with a module that cannot translate addresses"""
    with Qtest(*node(), wrapper=OLD_MODULE) as machine:
        add_device(machine, iommu_platform=True, **{"disable-legacy": "on"})


def test_same_release():
    """with the module of the same release there is no warning"""
    with driven(*node(), *disk(",num-queues=2")) as (machine, driver):
        expect("warnings", warnings(machine), [])
        check_disk(driver)
        expect_path(machine, "kernel")
