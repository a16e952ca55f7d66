# SPDX-License-Identifier: GPL-2.0
"""Four queues: a loop device, a buffered image file, a read-only disk; large requests; QEMU killed under load."""

from pathlib import Path

import pytest

from tests.guest.checks import (FILL, JOBS_END, check_console, check_identity, check_left_nothing, check_workers,
                                compare_files, sum_in_guest, sum_in_host, verify)
from tests.guest.guest import Disk
from tests.lib.disks import image_file, loop_device
from tests.lib.host import expect


@pytest.fixture(scope="module")
def disks(device):
    with image_file(JOBS_END) as constant, loop_device(64) as loop, image_file(64) as buffered:
        Path(constant).write_bytes(b"read only" * (JOBS_END << 17))
        yield [Disk(loop, "loop", device, 4, options=",queue-size=1024"),
               Disk(buffered, "buffered", device, 4, direct=False),
               Disk(constant, "constant", device, 1, direct=False, read_only=True)]


@pytest.fixture(scope="module")
def options():
    return {"vcpus": 4}


def test_boot(guest):
    pass


def test_identity(guest, disks):
    for name, disk in zip(["vda", "vdb", "vdc"], disks):
        check_identity(guest, name, disk)


def test_fio(guest):
    """fio on a loop device and a buffered image file at once"""
    verify(guest, ["vda", "vdb"], seed=4)


def test_workers(guest):
    check_workers(guest)


def test_requests_of_more_than_256_pages(guest):
    guest.run("""
        echo 4000 >/sys/block/vda/queue/max_sectors_kb
        dd if=/dev/urandom of=/tmp/data bs=1M count=24 2>/dev/null
        dd if=/tmp/data of=/dev/vda bs=4000k oflag=direct 2>/dev/null
        dd if=/dev/vda bs=4000k iflag=direct 2>/dev/null | head -c 24m | cmp - /tmp/data && rm /tmp/data""")


def test_read_only_disk(guest, disks):
    expect("checksum", sum_in_guest(guest, "vdc"), sum_in_host(disks[2].path))
    guest.run("! dd if=/dev/zero of=/dev/vdc count=1 2>/dev/null")


def test_file_system(guest, kept):
    kept.listing = guest.run(FILL.replace("DISK", "/dev/vda"))
    kept.checksum = sum_in_guest(guest, "vdb")


def test_killed_under_load(guest):
    guest.run("fio --name=load --filename=/dev/vdb --offset=32m --rw=randwrite --bs=4k --ioengine=libaio"
              " --iodepth=64 --direct=1 --time_based --runtime=600 >/dev/null 2>&1 & sleep 1")
    check_console(guest)
    guest.kill()


def test_left_nothing(guest):
    check_left_nothing(guest)


def test_host_reads_what_the_guest_wrote(disks, kept):
    expect("checksum of the disk", sum_in_host(disks[1].path), kept.checksum)
    compare_files(disks[0].path, kept.listing)
