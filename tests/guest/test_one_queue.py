# SPDX-License-Identifier: GPL-2.0
"""One queue: a block device and an image file on ext4, both with direct I/O; reboot; power off."""

import pytest

from tests.guest.checks import (FILL, check_console, check_identity, check_left_nothing, check_workers, compare_files,
                                sum_in_guest, sum_in_host, verify)
from tests.guest.guest import Disk
from tests.lib.disks import file_on_ext4, null_block
from tests.lib.host import expect


@pytest.fixture(scope="module")
def options():
    return {}


@pytest.fixture(scope="module")
def disks(device):
    with null_block(64) as block, file_on_ext4(64) as file:
        yield [Disk(block, "block", device), Disk(file, "file", device)]


def test_boot(guest):
    pass


def test_scripts(guest):
    """scripts arrive whole while processes that earlier ones left running end"""
    guest.run("(while [ ! -e /tmp/stop ]; do (true &); done) &")
    for number in range(4):
        words = f"{number} {'x' * 400}"
        expect("output of a script", guest.run(f"echo {words}"), words + "\n")
    guest.run("touch /tmp/stop")


def test_identity(guest, disks):
    check_identity(guest, "vda", disks[0])
    check_identity(guest, "vdb", disks[1])


def test_fio_on_a_block_device(guest):
    verify(guest, ["vda"], seed=1)


def test_fio_on_an_image_file(guest):
    verify(guest, ["vdb"], seed=2)


def test_workers(guest):
    check_workers(guest)


def test_file_system(guest, kept):
    kept.listing = guest.run(FILL.replace("DISK", "/dev/vdb"))


def test_reboot(guest):
    before = sum_in_guest(guest, "vda")
    guest.reboot()
    expect("checksum of the disk after reboot", sum_in_guest(guest, "vda"), before)


def test_fio_after_the_reboot(guest, kept):
    verify(guest, ["vda"], seed=3)
    kept.checksum = sum_in_guest(guest, "vda")


def test_power_off(guest):
    guest.power_off()
    check_console(guest)


def test_host_reads_the_block_device(disks, kept):
    expect("checksum of the disk", sum_in_host(disks[0].path), kept.checksum)


def test_host_reads_the_files(disks, kept):
    compare_files(disks[1].path, kept.listing)


def test_left_nothing(guest):
    check_left_nothing(guest)
