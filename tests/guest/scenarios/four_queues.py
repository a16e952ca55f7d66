# SPDX-License-Identifier: GPL-2.0
"""Four queues: a loop device, a buffered image file, a read-only disk; large requests; QEMU killed under load."""

from contextlib import ExitStack

from tests.lib import disks as backend
from tests.guest.checks import (FILL, JOBS_END, check_console, check_identity, check_left_nothing, check_workers, compare_files,
                    sum_in_guest, sum_in_host, verify)
from tests.guest.guest import VHOST, Disk, Guest
from tests.lib.host import expect, load_module


def run(results, device):
    with ExitStack() as stack:
        with open(stack.enter_context(backend.image_file(JOBS_END)), "wb") as image:
            image.write(b"read only" * (JOBS_END << 17))
        disks = [Disk(stack.enter_context(backend.loop_device(64)), "loop", device, 4, options=",queue-size=1024"),
                 Disk(stack.enter_context(backend.image_file(64)), "buffered", device, 4, direct=False),
                 Disk(image.name, "constant", device, 1, direct=False, read_only=True)]
        if device == VHOST:
            load_module()
        with results.check("four queues: boot"):
            guest = stack.enter_context(Guest(disks, vcpus=4))
        with results.check("four queues: the disks' identity"):
            for name, disk in zip(["vda", "vdb", "vdc"], disks):
                check_identity(guest, name, disk)
        with results.check("four queues: fio on a loop device and a buffered image file at once"):
            verify(guest, ["vda", "vdb"], seed=4)
        with results.check("four queues: the workers"):
            check_workers(guest)
        with results.check("four queues: requests of more than 256 pages"):
            guest.run("""
                echo 4000 >/sys/block/vda/queue/max_sectors_kb
                dd if=/dev/urandom of=/tmp/data bs=1M count=24 2>/dev/null
                dd if=/tmp/data of=/dev/vda bs=4000k oflag=direct 2>/dev/null
                dd if=/dev/vda bs=4000k iflag=direct 2>/dev/null | head -c 24m | cmp - /tmp/data && rm /tmp/data""")
        with results.check("four queues: the read-only disk"):
            expect("checksum", sum_in_guest(guest, "vdc"), sum_in_host(disks[2].path))
            guest.run("! dd if=/dev/zero of=/dev/vdc count=1 2>/dev/null")
        with results.check("four queues: file system filled and checked"):
            listing = guest.run(FILL.replace("DISK", "/dev/vda"))
            checksum = sum_in_guest(guest, "vdb")
        with results.check("four queues: QEMU killed under load"):
            guest.run("fio --name=load --filename=/dev/vdb --offset=32m --rw=randwrite --bs=4k --ioengine=libaio"
                      " --iodepth=64 --direct=1 --time_based --runtime=600 >/dev/null 2>&1 & sleep 1")
            check_console(guest)
            guest.kill()
        with results.check("four queues: nothing left behind"):
            check_left_nothing(guest)
        with results.check("four queues: the host reads what the guest wrote"):
            expect("checksum of the disk", sum_in_host(disks[1].path), checksum)
            compare_files(disks[0].path, listing)
