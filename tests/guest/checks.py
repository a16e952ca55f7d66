# SPDX-License-Identifier: GPL-2.0
"""What scenarios have in common: loads, and checks of a guest and its disks."""

import hashlib
import os
import re
from contextlib import contextmanager
from pathlib import Path

from tests.lib.disks import mounted
from tests.lib.host import Failure, expect, expect_soon, shell, unload_module

# From one sector to 1 MiB, most of the requests small.
MIXED = "bssplit=512/30:1k/15:4k/35:16k/10:64k/6:256k/2:1m/2"

# Several jobs at once, each with its own part of the disk. Another seed gives other data: what an earlier run left
# behind does not verify.
JOBS = f"""
[global]
filename=DISK
randseed=SEED
ioengine=libaio
direct=1
verify=crc32c
verify_fatal=1
[depth-1]
rw=randwrite
{MIXED}
size=1m
iodepth=1
[depth-8]
rw=randrw
{MIXED}
offset=1m
size=1m
iodepth=8
[depth-32]
rw=randwrite
bs=4k
offset=2m
size=2m
iodepth=32
[depth-128]
rw=randwrite
{MIXED}
offset=4m
size=4m
iodepth=128
[flush]
rw=write
bs=64k
offset=8m
size=2m
iodepth=16
fdatasync=8
"""
JOBS_END = 10  # MiB

# The same for as long as it takes, with other data each time.
LOAD = f"""# load
rm -f /tmp/enough /tmp/*.failed /tmp/*.ended
for name in NAMES; do
	seed=1
	until [ -e /tmp/enough ]; do
		fio --name=load --filename=/dev/$name --size=8m --rw=randrw --{MIXED} \
			--iodepth=32 --ioengine=libaio --direct=1 --verify=crc32c --verify_fatal=1 --randseed=$seed \
			>/tmp/$name.log 2>&1 || head -n 20 /tmp/$name.log >/tmp/$name.failed
		seed=$((seed + 1))
	done && touch /tmp/$name.ended &
	while read -r _ _ _ _ writes _ </sys/block/$name/stat && [ $writes -lt 100 ]; do
		sleep .1
	done
done
"""
END_LOAD = """# end of the load
touch /tmp/enough
for name in NAMES; do
	until [ -e /tmp/$name.ended ]; do
		sleep .1
	done
done
! cat /tmp/*.failed 2>/dev/null
"""

FILL = """
/sbin/mke2fs -q -t ext4 DISK && mount -t ext4 DISK /mnt && cd /mnt || exit
for directory in a b c; do
	mkdir $directory
	for number in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
		head -c $((number * number * 517)) /dev/urandom >$directory/$number || exit
	done
done
head -c 12345678 /dev/urandom >large && cp large copy && rm -r b && mv a/16 c/moved || exit
find . -type f | sort | xargs sha256sum
cd / && umount /mnt && /sbin/e2fsck -fn DISK >/tmp/e2fsck 2>&1 || cat /tmp/e2fsck
"""


def check_identity(guest, name, disk):
    """The guest sees the disk that it was given."""
    attributes = "serial size ro queue/logical_block_size queue/write_cache"
    found = guest.run(f"""
        cd /sys/block/{name}
        for file in {attributes}; do
            echo $(cat $file)
        done
        ls mq | wc -l""").splitlines()
    wanted = [disk.serial, str(disk.size() // 512), str(int(disk.read_only)), "512", "write back", str(disk.queues)]
    expect(f"{name}'s {attributes}, queues", found, wanted)


def check_workers(guest):
    """Two workers per queue, and it was they who did the work."""
    if not all(disk.is_vhost() for disk in guest.disks):
        return
    workers = guest.workers()
    wanted = sorted(f"vhost-{guest.process.pid}-{kind}{queue}"
                    for disk in guest.disks for queue in range(disk.queues) for kind in "sc")
    expect("workers", [name for name, _ in workers], wanted)
    for queue in range(max(disk.queues for disk in guest.disks)):
        if not any(seconds for name, seconds in workers if name.endswith(f"-s{queue}")):
            raise Failure(f"queue {queue} did no work: {workers}")


def verify(guest, names, seed):
    """fio on each of the disks, on all of them at the same time."""
    script = ["# fio", "cat >/tmp/jobs <<END", JOBS, "END", "rm -f /tmp/*.failed"]
    for name in names:
        script.append(f"sed 's,DISK,/dev/{name},; s,SEED,{seed},' /tmp/jobs >/tmp/{name}.fio")
        script.append(f"(fio /tmp/{name}.fio >/tmp/{name}.log 2>&1 ||"
                      f" head -n 20 /tmp/{name}.log >/tmp/{name}.failed) &")
    script.append("wait; ! cat /tmp/*.failed 2>/dev/null")
    guest.run("\n".join(script))


@contextmanager
def verified_load(guest, *names):
    """Have the guest write and read back on these disks meanwhile, and expect the right data."""
    guest.run(LOAD.replace("NAMES", " ".join(names)))
    yield
    guest.run(END_LOAD.replace("NAMES", " ".join(names)))


def sum_in_guest(guest, name):
    return guest.run(f"dd if=/dev/{name} bs=1M count={JOBS_END} iflag=direct 2>/tmp/dd | sha256sum").split()[0]


def sum_in_host(path):
    with open(path, "rb") as disk:
        return hashlib.sha256(disk.read(JOBS_END << 20)).hexdigest()


def compare_files_at(place, listing):
    """Each file below has the checksum that the guest printed, and there are no others."""
    found = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  ./{file.relative_to(place)}\n"
                    for file in sorted(Path(place).rglob("*")) if file.is_file())
    expect("files", sorted(found.split("\n")), sorted(listing.split("\n")))


def compare_files(path, listing):
    """The file system is sound, and each file has the checksum that the guest printed."""
    shell(f"e2fsck -fn {path}")
    with mounted(path, "ro,norecovery") as place:
        compare_files_at(place, listing)


def held(guest):
    """The workers, and how many descriptors QEMU has open."""
    return guest.worker_names(), len(os.listdir(f"/proc/{guest.process.pid}/fd"))


def check_console(guest, failing="none", since=0):
    """The guest's kernel met no error in what it said since then. A vCPU that an emulated host forgets is none.

    Nor are errors of disks whose names match.
    """
    found = rf"error(,| on) dev (?!{failing},)|EXT4-fs error|JBD2: |BUG: (?!soft lockup)|Oops|WARNING:"
    complaint = re.search(f".*({found}).*", guest.console()[since:])
    if complaint:
        raise Failure(f"the guest's kernel complains: {complaint[0]}{guest.evidence()}")


def check_stats(guest, disk, *kinds):
    """Requests of these kinds reached the kernel, and none was refused."""
    for kind in kinds:
        counts = [queue[kind] for queue in guest.stats(disk)]
        if not sum(count["requests"] for count in counts) or any(count["errors"] for count in counts):
            raise Failure(f"{disk.serial}: {kind} requests by queue: {counts}")


def check_left_nothing(guest):
    """QEMU's end took the workers along, and nothing holds the module."""
    expect_soon("workers", guest.workers, [])
    if Path("/sys/module/vhost_blk").exists():
        unload_module()
