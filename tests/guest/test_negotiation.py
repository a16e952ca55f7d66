# SPDX-License-Identifier: GPL-2.0
"""The guest takes fewer queues than it is offered, and other numbers later; the rest cost nothing."""

import pytest

from tests.guest.checks import check_console, check_left_nothing, verify
from tests.guest.guest import VHOST, Disk, Guest
from tests.lib.disks import null_block
from tests.lib.host import expect, expect_soon

OFFERED = 3
RELOAD = """
rmmod virtio_blk && insmod /lib/modules/virtio_blk.ko num_request_queues={queues}
until [ -b /dev/vda ]; do
	sleep .1
done
"""


def check_queues(guest, queues):
    """The guest has this number of queues, and only they have workers in the host."""
    expect("queues", len(guest.run("ls /sys/block/vda/mq").split()), queues)
    if guest.disks[0].device == VHOST:
        expect_soon("workers", lambda: guest.worker_names(),
                    sorted(f"vhost-{guest.process.pid}-{kind}{queue}" for queue in range(queues) for kind in "sc"))


@pytest.fixture(scope="module")
def disks(device):
    with null_block(64) as path:
        yield [Disk(path, "disk", device, OFFERED)]


@pytest.fixture(scope="module")
def options():
    return {"vcpus": 2}


def test_one_cpu(disks):
    """a guest with one CPU takes one queue of those offered"""
    with Guest(disks, vcpus=2, kernel_arguments="nr_cpus=1") as guest:
        check_queues(guest, 1)
        verify(guest, ["vda"], seed=1)
        check_queues(guest, 1)
        guest.power_off()


def test_two_cpus(guest):
    """a guest with two CPUs takes two queues of those offered"""
    check_queues(guest, 2)


@pytest.mark.parametrize("queues", [1, 2])
def test_new_driver(guest, queues):
    """a new driver in the guest that wants another number"""
    guest.run(RELOAD.format(queues=queues))
    check_queues(guest, queues)
    verify(guest, ["vda"], seed=2 + queues)


def test_reboot(guest):
    """more queues after a reboot than before"""
    guest.run(RELOAD.format(queues=1))
    check_queues(guest, 1)
    guest.reboot()
    check_queues(guest, 2)
    verify(guest, ["vda"], seed=5)
    check_queues(guest, 2)


def test_power_off(guest):
    check_console(guest)
    guest.power_off()
    check_left_nothing(guest)
