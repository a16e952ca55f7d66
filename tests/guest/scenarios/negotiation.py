# SPDX-License-Identifier: GPL-2.0
"""The guest takes fewer queues than it is offered, and other numbers later; the rest cost nothing."""

from contextlib import ExitStack

from tests.lib import disks as backend
from tests.guest.checks import check_console, check_left_nothing, verify
from tests.guest.guest import VHOST, Disk, Guest
from tests.lib.host import expect, expect_soon, load_module

OFFERED = 3
RELOAD = """
rmmod virtio_blk && insmod /lib/modules/virtio_blk.ko num_request_queues={queues}
until [ -b /dev/vda ]; do
	sleep .1
done
"""


def run(results, device):
    with ExitStack() as stack:
        disk = Disk(stack.enter_context(backend.null_block(64)), "disk", device, OFFERED)
        if device == VHOST:
            load_module()
        with results.check(f"negotiation: a guest with one CPU takes one queue of {OFFERED}"):
            with Guest([disk], vcpus=2, kernel_arguments="nr_cpus=1") as guest:
                check_queues(guest, 1)
                verify(guest, ["vda"], seed=1)
                check_queues(guest, 1)
                guest.power_off()
        with results.check(f"negotiation: a guest with two CPUs takes two queues of {OFFERED}"):
            guest = stack.enter_context(Guest([disk], vcpus=2))
            check_queues(guest, 2)
        for queues in 1, 2:
            with results.check(f"negotiation: a new driver in the guest that wants {queues}"):
                guest.run(RELOAD.format(queues=queues))
                check_queues(guest, queues)
                verify(guest, ["vda"], seed=2 + queues)
        with results.check("negotiation: more queues after a reboot than before"):
            guest.run(RELOAD.format(queues=1))
            check_queues(guest, 1)
            guest.reboot()
            check_queues(guest, 2)
            verify(guest, ["vda"], seed=5)
            check_queues(guest, 2)
        with results.check("negotiation: power off"):
            check_console(guest)
            guest.power_off()
            check_left_nothing(guest)


def check_queues(guest, queues):
    """The guest has so many queues, and only they have workers in the host."""
    expect("queues", len(guest.run("ls /sys/block/vda/mq").split()), queues)
    if guest.disks[0].device == VHOST:
        expect_soon("workers", lambda: [name for name, _ in guest.workers()],
                    sorted(f"vhost-{guest.process.pid}-{kind}{queue}" for queue in range(queues) for kind in "sc"))
