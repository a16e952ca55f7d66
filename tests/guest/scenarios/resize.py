# SPDX-License-Identifier: GPL-2.0
"""The disks grow under verified I/O: an image file, and a block device grown by its host."""

import os
from contextlib import ExitStack
from pathlib import Path

import backend
from checks import check_console
from guest import Disk, Guest
from host import expect, expect_soon, load_module, shell

OLD, NEW = 16, 24  # MiB

LOAD = f"""
for disk in vda vdb; do
	(fio --name=load --filename=/dev/$disk --size={OLD // 2}m --rw=randwrite --bs=4k --iodepth=16 --ioengine=libaio \
		--direct=1 --verify=crc32c --verify_fatal=1 --loops=3 >/tmp/$disk.log 2>&1
	echo $? >/tmp/$disk.status) &
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
            guest.run(LOAD)
            sums = [sum_of_upper_half(guest, name) for name in ("vda", "vdb")]
        with results.check("resize: an image file grows under load"):
            guest.qmp.execute("block_resize", {"node-name": "image", "size": NEW << 20})
            expect("size of the file", os.stat(image).st_size, NEW << 20)
            wait_size(guest, "vda", NEW)
        with results.check("resize: a block device grows under load"):
            os.truncate(Path(f"/sys/block/{Path(loop).name}/loop/backing_file").read_text().strip(), NEW << 20)
            shell(f"losetup --set-capacity {loop}")
            guest.qmp.execute("block_resize", {"node-name": "loop", "size": NEW << 20})
            wait_size(guest, "vdb", NEW)
        with results.check("resize: what is new can be used, and what is beyond cannot"):
            for name in "vda", "vdb":
                guest.run(GROWN.replace("NAME", name))
        with results.check("resize: the load verifies, and nothing else has changed"):
            guest.run("""# load
                until [ -e /tmp/vda.status ] && [ -e /tmp/vdb.status ]; do sleep 0.2; done
                grep -hv '^0' /tmp/vda.status /tmp/vdb.status && cat /tmp/vd?.log && exit 1; true""", timeout=180)
            expect("checksums", [sum_of_upper_half(guest, name) for name in ("vda", "vdb")], sums)
            check_console(guest)
            guest.power_off()
