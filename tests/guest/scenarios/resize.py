# SPDX-License-Identifier: GPL-2.0
"""The disks grow under verified I/O: an image file, and a block device grown by its host."""

import os
from contextlib import ExitStack
from pathlib import Path

from tests.lib import disks as backend
from tests.guest.checks import check_console, verified_load
from tests.guest.guest import Disk, Guest
from tests.lib.host import expect, expect_soon, load_module, shell, wait_until

OLD, NEW = 16, 24  # MiB

# The load is in the lower half.
FILL = f"""
for disk in vda vdb; do
	dd if=/dev/urandom of=/dev/$disk bs=1M seek={OLD // 2} count={OLD // 2} oflag=direct
done 2>/tmp/dd
"""

GROWN = f"""
head -c {NEW - OLD}m /dev/urandom >/tmp/data
dd if=/tmp/data of=/dev/NAME bs=1M seek={OLD} oflag=direct 2>/tmp/dd &&
	dd if=/dev/NAME bs=1M skip={OLD} iflag=direct 2>/tmp/dd | cmp - /tmp/data || exit
! dd if=/tmp/data of=/dev/NAME bs=4k seek={NEW << 8} count=1 oflag=direct 2>/tmp/dd
"""


def wait_size(guest, name, mebibytes):
    expect_soon(f"{name}'s size", lambda: guest.run(f"cat /sys/block/{name}/size").strip(), str(mebibytes << 11))


def wait_load(guest, name):
    """Wait until the load has gone on."""

    def completed():
        fields = guest.run(f"cat /sys/block/{name}/stat").split()
        return int(fields[0]) + int(fields[4])

    before = completed()
    wait_until(lambda: completed() > before + 100, lambda: f"{name}'s load stands still{guest.stuck()}")


def sum_of_upper_half(guest, name):
    return guest.run(f"dd if=/dev/{name} bs=1M skip={OLD // 2} count={OLD // 2} iflag=direct 2>/tmp/dd | sha256sum")


def run(results, device):
    with ExitStack() as stack:
        image = stack.enter_context(backend.image_file(OLD))
        loop = stack.enter_context(backend.loop_device(OLD))
        disks = [Disk(image, "image", device, direct=False), Disk(loop, "loop", device)]
        load_module()
        with results.check("resize: boot"):
            guest = stack.enter_context(Guest(disks))
            guest.run(FILL)
            sums = [sum_of_upper_half(guest, name) for name in ("vda", "vdb")]
        with results.check("resize: an image file grows under load, and can be used to its new end"):
            with verified_load(guest, "vda"):
                wait_load(guest, "vda")
                guest.qmp.execute("block_resize", {"node-name": "image", "size": NEW << 20})
                wait_load(guest, "vda")
                expect("size of the file", os.stat(image).st_size, NEW << 20)
                wait_size(guest, "vda", NEW)
                guest.run(GROWN.replace("NAME", "vda"))
        with results.check("resize: a block device grows under load, and can be used to its new end"):
            with verified_load(guest, "vdb"):
                os.truncate(Path(f"/sys/block/{Path(loop).name}/loop/backing_file").read_text().strip(), NEW << 20)
                shell(f"losetup --set-capacity {loop}")
                wait_load(guest, "vdb")
                guest.qmp.execute("block_resize", {"node-name": "loop", "size": NEW << 20})
                wait_load(guest, "vdb")
                wait_size(guest, "vdb", NEW)
                guest.run(GROWN.replace("NAME", "vdb"))
        with results.check("resize: nothing else has changed"):
            expect("checksums", [sum_of_upper_half(guest, name) for name in ("vda", "vdb")], sums)
            check_console(guest)
            guest.power_off()
