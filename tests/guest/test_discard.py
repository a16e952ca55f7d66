# SPDX-License-Identifier: GPL-2.0
"""Discard, write zeroes and fstrim on files and devices; what the host finds afterwards."""

import os

import pytest

from tests.guest.checks import check_console, check_left_nothing, check_stats
from tests.guest.guest import VHOST, Disk
from tests.lib.disks import file_on_ext4, image_file, mounted, scsi_disk
from tests.lib.host import Failure, expect, shell

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


@pytest.fixture(scope="module")
def disks(device):
    unmap = ",discard=unmap"
    scsi_options = (f"dev_size_mb={SIZE} sector_size=4096 physblk_exp=1 lbpu=1 lbpws=1 lbprz=1"
                    " unmap_max_blocks=2048")
    blocks = ",logical_block_size=4096,physical_block_size=8192"
    with file_on_ext4(SIZE) as file, scsi_disk(scsi_options) as scsi, image_file(SIZE) as kept:
        yield [Disk(file, "file", device, node_options=unmap),
               Disk(scsi, "scsi", device, 2, options=blocks, node_options=unmap),
               Disk(kept, "kept", device, direct=False)]


def test_boot(guest):
    pass


def test_limits(guest):
    """the limits that the guest sees depend on no disk"""
    for name, blocks in ("vda", [512, 512, 512]), ("vdb", [4096, 8192, 4096]), ("vdc", [512, 512, 512]):
        found = queue_limits(guest, name)
        expect(name, found[:3], blocks)
        if not found[3] or not found[4]:
            raise Failure(f"{name} has no discard or no write zeroes")


def test_discard_of_a_file(guest, disks):
    """blkdiscard on a file frees its space"""
    path = disks[0].path
    fill(guest, "vda")
    taken = space(path)
    check_range(guest, "vda", path, "/sbin/blkdiscard", 8 * MIB, 16 * MIB)
    expect("freed", taken - space(path), 16 * MIB)


def test_discard_of_a_device(guest, disks):
    """blkdiscard on a device, and not in part of a block"""
    fill(guest, "vdb")
    check_range(guest, "vdb", disks[1].path, "/sbin/blkdiscard", 4 * MIB + 4096, 20 * MIB + 8192)
    guest.run("! /sbin/blkdiscard -o 512 -l 4096 /dev/vdb 2>/dev/null")


def test_zeroes(guest, disks):
    """blkdiscard -z on a file and a device"""
    check_range(guest, "vda", disks[0].path, "/sbin/blkdiscard -z", 30 * MIB + 512, 4 * MIB + 1024)
    check_range(guest, "vdb", disks[1].path, "/sbin/blkdiscard -z", 30 * MIB, 4 * MIB)


def test_discard_ignored(guest, disks):
    """with discard=ignore nothing is freed or changed"""
    path = disks[2].path
    fill(guest, "vdc")
    taken = space(path)
    before = read(path, 0, SIZE << 20)
    guest.run("/sbin/blkdiscard /dev/vdc")
    expect("content is as before", read(path, 0, SIZE << 20) == before, True)
    check_range(guest, "vdc", path, "/sbin/blkdiscard -z", 30 * MIB + 512, 4 * MIB + 1024)
    expect("space", space(path), taken)


@pytest.mark.parametrize("index, name", enumerate(["vda", "vdb"]))
def test_file_system(guest, disks, index, name):
    """a file system is made, filled, trimmed, checked"""
    path = disks[index].path
    sums = guest.run(f"""
        /sbin/mke2fs -q -t ext4 /dev/{name} && mount -t ext4 /dev/{name} /mnt && cd /mnt || exit
        for number in 1 2 3 4 5 6 7 8; do head -c 3m /dev/urandom >$number || exit; done
        sync; rm 1 3 5 7; sync; sha256sum 2 4 6 8; /sbin/fstrim -v . >/tmp/trim || exit
        cd / && umount /mnt || exit
        /sbin/e2fsck -fn /dev/{name} >/tmp/e2fsck 2>&1 || cat /tmp/e2fsck""")
    shell(f"e2fsck -fn {path}")
    with mounted(path, "ro,norecovery") as place:
        expect("files", shell(f"cd {place} && sha256sum 2 4 6 8"), sums.strip())
    if name == "vda" and space(path) > 20 * MIB:
        raise Failure(f"{space(path)} bytes are left after fstrim")


def test_fio(guest):
    """fio with verification in blocks of 4 KiB"""
    guest.run("""
        fio --name=job --filename=/dev/vdb --rw=randwrite --bsrange=4k-64k --size=16m --iodepth=32 --direct=1 \
            --ioengine=libaio --verify=crc32c --verify_fatal=1 >/tmp/fio 2>&1 ||
            { tail -n 20 /tmp/fio; exit 1; }
        """)


def test_power_off(guest, disks, device):
    """the guest's kernel met no error, and the host's counts the requests"""
    check_console(guest)
    if device == VHOST:
        for disk in disks:
            check_stats(guest, disk, "discard", "write-zeroes")
    guest.power_off()


def test_left_nothing(guest):
    check_left_nothing(guest)
