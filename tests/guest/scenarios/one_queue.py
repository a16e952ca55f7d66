# SPDX-License-Identifier: GPL-2.0
"""One queue: a block device and an image file on ext4, both with direct I/O; reboot; power off."""

from contextlib import ExitStack

from tests.lib import disks as backend
from tests.guest.checks import (FILL, check_console, check_identity, check_left_nothing, check_workers, compare_files, sum_in_guest,
                    sum_in_host, verify)
from tests.guest.guest import VHOST, Disk, Guest
from tests.lib.host import expect, load_module


def run(results, device):
    with ExitStack() as stack:
        disks = [Disk(stack.enter_context(backend.null_block(64)), "block", device),
                 Disk(stack.enter_context(backend.file_on_ext4(64)), "file", device)]
        if device == VHOST:
            load_module()
        with results.check("one queue: boot"):
            guest = stack.enter_context(Guest(disks))
        with results.check("one queue: scripts arrive whole while what earlier ones left running ends"):
            guest.run("(while [ ! -e /tmp/stop ]; do (true &); done) &")
            for number in range(4):
                words = f"{number} {'x' * 400}"
                expect("what a script says", guest.run(f"echo {words}"), words + "\n")
            guest.run("touch /tmp/stop")
        with results.check("one queue: the disks' identity"):
            check_identity(guest, "vda", disks[0])
            check_identity(guest, "vdb", disks[1])
        with results.check("one queue: fio on a block device"):
            verify(guest, ["vda"], seed=1)
        with results.check("one queue: fio on an image file"):
            verify(guest, ["vdb"], seed=2)
        with results.check("one queue: the workers"):
            check_workers(guest)
        with results.check("one queue: file system filled and checked"):
            listing = guest.run(FILL.replace("DISK", "/dev/vdb"))
        with results.check("one queue: reboot of the guest"):
            before = sum_in_guest(guest, "vda")
            guest.reboot()
            expect("checksum of the disk after reboot", sum_in_guest(guest, "vda"), before)
        with results.check("one queue: fio after the reboot"):
            verify(guest, ["vda"], seed=3)
            checksum = sum_in_guest(guest, "vda")
        with results.check("one queue: power off"):
            guest.power_off()
            check_console(guest)
        with results.check("one queue: the host reads what the guest wrote to the block device"):
            expect("checksum of the disk", sum_in_host(disks[0].path), checksum)
        with results.check("one queue: the host finds the guest's files"):
            compare_files(disks[1].path, listing)
        with results.check("one queue: nothing left behind"):
            check_left_nothing(guest)
