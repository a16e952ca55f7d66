# SPDX-License-Identifier: GPL-2.0
"""The power is cut: the guest's file system recovers, with every file that was synced before, in both cache modes."""

from pathlib import Path

import pytest

from tests.guest.checks import check_console, compare_files_at
from tests.guest.guest import Disk
from tests.lib.disks import image_file, logged_device, mounted, null_block
from tests.lib.host import TREE, expect, shell

MEBIBYTES = 48
LOG_MEBIBYTES = 1024

# Writes that nobody waits for go on beside the files, some through the guest's page cache and some not.
START = """
/sbin/mke2fs -q -t ext4 /dev/vda && mount -t ext4 /dev/vda /mnt && mkdir /mnt/synced || exit
while sleep 0.3; do
	dd if=/dev/urandom of=/mnt/cached bs=64k count=8 conv=notrunc
	dd if=/dev/urandom of=/mnt/direct bs=16k count=16 conv=notrunc oflag=direct
done >/dev/null 2>&1 &
"""

SYNCED = """
cd /mnt/synced
head -c $((NUMBER * 7919 + 1)) /dev/urandom >NUMBER && sync NUMBER || exit
echo NUMBER >>list && sync list || exit
for file in *; do
	sha256sum ./$file
done
"""


@pytest.fixture(scope="module")
def log():
    with null_block(LOG_MEBIBYTES) as path:
        yield path


@pytest.fixture(scope="module")
def disks(device, log):
    with logged_device(MEBIBYTES, log) as path:
        yield [Disk(path, "logged", device, 2)]


def test_boot(guest):
    guest.run(START)


@pytest.mark.rounds(6)
def test_files_synced(guest, disks, kept, rounds):
    """files are synced, first in write-back, then in write-through mode"""
    kept.listings = []
    for number in range(rounds):
        if number == (rounds + 1) // 2:
            guest.run("echo 'write through' >/sys/block/vda/cache_type")
            expect("mode", guest.run("cat /sys/block/vda/queue/write_cache"), "write through\n")
        kept.listings.append(guest.run(SYNCED.replace("NUMBER", str(number))))
        shell(f"dmsetup message {disks[0].path} 0 mark cut{number}")
    check_console(guest)
    guest.kill()


def test_cuts(log, kept):
    """at each cut the file system and the files synced by then are there"""
    for number, listing in enumerate(kept.listings):
        with image_file(MEBIBYTES) as image:
            shell(f"{TREE}/build/tests/replay {log} cut{number} {image}")
            with mounted(image) as place:
                compare_files_at(Path(place, "synced"), listing)
            shell(f"e2fsck -fn {image}")
