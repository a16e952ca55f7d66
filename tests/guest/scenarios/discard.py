# SPDX-License-Identifier: GPL-2.0
"""Discard, write zeroes and fstrim on files and devices, and secure erase; what the host finds afterwards."""

import os
from contextlib import ExitStack

from tests.lib import disks as backend
from tests.guest.checks import check_console, check_left_nothing, check_stats
from tests.lib.disks import erasable_disk, scsi_disk
from tests.guest.guest import VHOST, Disk, Guest
from tests.lib.host import Failure, expect, load_module, shell

MIB = 1 << 20
SIZE = 48  # MiB, of each disk


def space(path):
    """Bytes that a file takes up in its file system."""
    os.sync()
    return os.stat(path).st_blocks * 512


def read(path, offset, size):
    with open(path, "rb") as disk:
        disk.seek(offset)
        return disk.read(size)


def expect_zero(path, offset, size):
    if read(path, offset, size).strip(b"\0"):
        raise Failure(f"{path}: not all zero between {offset} and {offset + size}")


def fill(guest, name):
    guest.run(f"dd if=/dev/urandom of=/dev/{name} bs=1M count={SIZE} oflag=direct 2>/tmp/dd || cat /tmp/dd")


def queue_limits(guest, name):
    """What the guest's block layer made of the configuration space."""
    files = "logical_block_size physical_block_size discard_granularity discard_max_bytes write_zeroes_max_bytes"
    return [int(line) for line in guest.run(f"cd /sys/block/{name}/queue && cat {files}").split()]


def check_range(guest, name, path, command, offset, size):
    """A command of the guest empties a part of the disk, and that part only."""
    before, behind = read(path, 0, offset), read(path, offset + size, (SIZE << 20) - offset - size)
    guest.run(f"{command} -o {offset} -l {size} /dev/{name}")
    expect_zero(path, offset, size)
    if read(path, 0, offset) != before or read(path, offset + size, len(behind)) != behind:
        raise Failure(f"{command}: data outside of the range has changed")


def run(results, device):
    unmap = ",discard=unmap"
    with ExitStack() as stack:
        paths = [stack.enter_context(backend.file_on_ext4(SIZE)),
                 stack.enter_context(scsi_disk(f"dev_size_mb={SIZE} sector_size=4096 physblk_exp=1 lbpu=1 lbpws=1"
                                               " lbprz=1 unmap_max_blocks=2048")),
                 stack.enter_context(backend.image_file(SIZE)),
                 stack.enter_context(erasable_disk(f"dev_size_mb={SIZE}"))]
        disks = [Disk(paths[0], "file", device, node_options=unmap),
                 Disk(paths[1], "scsi", device, 2, node_options=unmap),
                 Disk(paths[2], "kept", device, direct=False),
                 Disk(paths[3], "erasable", device, node_options=unmap)]
        if device == VHOST:
            load_module()
        with results.check("discard: boot"):
            guest = stack.enter_context(Guest(disks, vcpus=2))
        with results.check("discard: the limits that the guest sees"):
            if device == VHOST:
                expect("file", queue_limits(guest, "vda")[:3], [512, 512, 1024])
                expect("scsi", queue_limits(guest, "vdb")[:4], [4096, 8192, 8192, 8 * MIB])
                expect("kept", queue_limits(guest, "vdc")[3], 0)
            for name in "vda", "vdb", "vdc":
                if not queue_limits(guest, name)[4]:
                    raise Failure(f"{name} has no write zeroes")
        with results.check("discard: blkdiscard on a file frees its space"):
            fill(guest, "vda")
            taken = space(paths[0])
            check_range(guest, "vda", paths[0], "/sbin/blkdiscard", 8 * MIB, 16 * MIB)
            expect("freed", taken - space(paths[0]), 16 * MIB)
        with results.check("discard: blkdiscard on a device, and not in part of a block"):
            fill(guest, "vdb")
            check_range(guest, "vdb", paths[1], "/sbin/blkdiscard", 4 * MIB + 4096, 20 * MIB + 8192)
            guest.run("! /sbin/blkdiscard -o 512 -l 4096 /dev/vdb 2>/dev/null")
        with results.check("discard: blkdiscard -z on every disk"):
            check_range(guest, "vda", paths[0], "/sbin/blkdiscard -z", 30 * MIB + 512, 4 * MIB + 1024)
            check_range(guest, "vdb", paths[1], "/sbin/blkdiscard -z", 30 * MIB, 4 * MIB)
        if device == VHOST:
            with results.check("discard: with discard=ignore nothing is freed"):
                fill(guest, "vdc")
                taken = space(paths[2])
                guest.run("! /sbin/blkdiscard /dev/vdc 2>/dev/null")
                check_range(guest, "vdc", paths[2], "/sbin/blkdiscard -z", 30 * MIB + 512, 4 * MIB + 1024)
                expect("space", space(paths[2]), taken)
            with results.check("discard: Linux asks for secure erase the wrong way, which fails and touches nothing"):
                # The driver takes the lowest bit of any type for the direction, and hands in its list to be written.
                expect("feature", guest.run("cut -c 17 /sys/block/vdd/device/features"), "1\n")
                fill(guest, "vdd")
                before = read(paths[3], 0, SIZE << 20)
                guest.run("! /sbin/blkdiscard -s /dev/vdd 2>/dev/null")
                expect("content is as before", read(paths[3], 0, SIZE << 20) == before, True)
        for name, path in ("vda", paths[0]), ("vdb", paths[1]):
            with results.check(f"discard: file system on {name}: made, filled, trimmed, checked"):
                sums = guest.run(f"""
                    /sbin/mke2fs -q -t ext4 /dev/{name} && mount -t ext4 /dev/{name} /mnt && cd /mnt || exit
                    for number in 1 2 3 4 5 6 7 8; do head -c 3m /dev/urandom >$number || exit; done
                    sync; rm 1 3 5 7; sync; sha256sum 2 4 6 8; /sbin/fstrim -v . >/tmp/trim || exit
                    cd / && umount /mnt || exit
                    /sbin/e2fsck -fn /dev/{name} >/tmp/e2fsck 2>&1 || cat /tmp/e2fsck""")
                shell(f"e2fsck -fn {path}")
                with backend.mounted(path, "ro,norecovery") as place:
                    expect("files", shell(f"cd {place} && sha256sum 2 4 6 8"), sums.strip())
                if name == "vda" and space(path) > 20 * MIB:
                    raise Failure(f"{space(path)} bytes are left after fstrim")
        with results.check("discard: fio with verification in blocks of 4 KiB"):
            guest.run("""
                fio --name=job --filename=/dev/vdb --rw=randwrite --bsrange=4k-64k --size=16m --iodepth=32 --direct=1 \
                    --ioengine=libaio --verify=crc32c --verify_fatal=1 >/tmp/fio 2>&1 ||
                    { tail -n 20 /tmp/fio; exit 1; }
                """)
        with results.check("discard: the guest's kernel met no error"):
            check_console(guest, failing="vdd")
            if device == VHOST:
                for disk in disks[:2]:
                    check_stats(guest, disk, "discard", "write-zeroes")
                check_stats(guest, disks[2], "write-zeroes")
            guest.power_off()
        with results.check("discard: nothing left behind"):
            check_left_nothing(guest)
