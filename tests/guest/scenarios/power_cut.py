# SPDX-License-Identifier: GPL-2.0
"""The power is cut: the guest's file system recovers, with every file that was synced before, in both cache modes."""

from contextlib import ExitStack
from pathlib import Path

from tests.lib import disks as backend
from tests.guest.checks import check_console, compare_files_at
from tests.guest.guest import Disk, Guest
from tests.lib.host import TREE, expect, load_module, shell

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


def run(results, device):
    rounds = results.rounds(6)
    listings = []
    with ExitStack() as stack:
        log = stack.enter_context(backend.null_block(LOG_MEBIBYTES))
        with backend.logged_device(MEBIBYTES, log) as disk:
            load_module()
            with results.check("power cut: boot"):
                guest = stack.enter_context(Guest([Disk(disk, "logged", device, 2)], vcpus=2))
                guest.run(START)
            with results.check("power cut: files synced, first in write-back, then in write-through mode"):
                for number in range(rounds):
                    if number == (rounds + 1) // 2:
                        guest.run("echo 'write through' >/sys/block/vda/cache_type")
                        expect("mode", guest.run("cat /sys/block/vda/queue/write_cache"), "write through\n")
                    listings.append(guest.run(SYNCED.replace("NUMBER", str(number))))
                    shell(f"dmsetup message {disk} 0 mark cut{number}")
                check_console(guest)
            guest.kill()
        with results.check(f"power cut: {rounds} cuts, at each the file system and the files synced by then"):
            for number, listing in enumerate(listings):
                with backend.image_file(MEBIBYTES) as image:
                    shell(f"{TREE}/build/tests/replay {log} cut{number} {image}")
                    with backend.mounted(image) as place:
                        compare_files_at(Path(place, "synced"), listing)
                    shell(f"e2fsck -fn {image}")
