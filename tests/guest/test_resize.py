# SPDX-License-Identifier: GPL-2.0
"""The disks grow under verified I/O: an image file, and a block device grown by its host."""

import os
from pathlib import Path

import pytest

from tests.guest.checks import check_console, verified_load
from tests.guest.guest import Disk
from tests.lib.disks import image_file, loop_device
from tests.lib.host import expect, expect_soon, shell, wait_until

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


@pytest.fixture(scope="module")
def disks(device):
    with image_file(OLD) as image, loop_device(OLD) as loop:
        yield [Disk(image, "image", device, direct=False), Disk(loop, "loop", device)]


def test_boot(guest, kept):
    guest.run(FILL)
    kept.sums = [sum_of_upper_half(guest, name) for name in ("vda", "vdb")]


def test_image_file(guest, disks):
    """an image file grows under load, and can be used to its new end"""
    with verified_load(guest, "vda"):
        wait_load(guest, "vda")
        guest.execute("block_resize", {"node-name": "image", "size": NEW << 20})
        wait_load(guest, "vda")
        expect("size of the file", os.stat(disks[0].path).st_size, NEW << 20)
        wait_size(guest, "vda", NEW)
        guest.run(GROWN.replace("NAME", "vda"))


def test_block_device(guest, disks):
    """a block device grows under load, and can be used to its new end"""
    loop = disks[1].path
    with verified_load(guest, "vdb"):
        os.truncate(Path(f"/sys/block/{Path(loop).name}/loop/backing_file").read_text().strip(), NEW << 20)
        shell(f"losetup --set-capacity {loop}")
        wait_load(guest, "vdb")
        guest.execute("block_resize", {"node-name": "loop", "size": NEW << 20})
        wait_load(guest, "vdb")
        wait_size(guest, "vdb", NEW)
        guest.run(GROWN.replace("NAME", "vdb"))


def test_power_off(guest, kept):
    """nothing else has changed"""
    expect("checksums", [sum_of_upper_half(guest, name) for name in ("vda", "vdb")], kept.sums)
    check_console(guest)
    guest.power_off()
