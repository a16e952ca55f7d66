# SPDX-License-Identifier: GPL-2.0
"""Migration under verified load: cancelled, refused, live, with postcopy, through a file."""

import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from tests.lib import disks as backend
from tests.guest.checks import check_console, check_left_nothing, sum_in_guest, sum_in_host
from tests.guest.guest import VHOST, Disk, Guest
from tests.lib.host import expect, expect_text, load_module, wait_until

# For each disk: fio writes and verifies, and a reader compares four pieces of the disk, at 32 MiB, with copies in
# memory. It does that twice: what was read before a migration's last moment and is found in the page cache after it
# went through the dirty log. Pages are likely to be used in the same order again, so the pieces change theirs: what a
# page held when it was sent before is other data. The loops count their rounds in files, tell of what differs in
# /tmp/failed, and when /tmp/stop appears they end and remove their files.
LOAD = """
for piece in 0 1 2 3; do
	head -c 1m /dev/urandom >/tmp/piece.$piece
done
for disk in DISKS; do
	cat /tmp/piece.* | dd of=/dev/$disk bs=1M seek=32 conv=fsync 2>/dev/null
	echo 0 | tee /tmp/writes.$disk >/tmp/reads.$disk
	(
		round=0
		while [ ! -e /tmp/stop ]; do
			fio --name=load --filename=/dev/$disk --size=512k --rw=randwrite --iodepth=16 --ioengine=libaio --direct=1 \\
				--bssplit=512/20:4k/60:64k/20 --randseed=$round --verify=crc32c --verify_fatal=1 >/tmp/$disk.log 2>&1 ||
				cat /tmp/$disk.log >>/tmp/failed
			round=$((round + 1))
			echo $round >/tmp/writes.$disk
		done
		rm /tmp/writes.$disk
	) &
	(
		round=0
		while [ ! -e /tmp/stop ]; do
			blockdev --flushbufs /dev/$disk
			for step in 0 1 2 3 0 1 2 3; do
				piece=$(((round + step) % 4))
				dd if=/dev/$disk bs=1M skip=$((32 + piece)) count=1 2>/dev/null | cmp - /tmp/piece.$piece >/tmp/cmp.$disk ||
					echo "$disk, round $round, piece $piece: $(cat /tmp/cmp.$disk)" >>/tmp/failed
			done
			round=$((round + 1))
			echo $round >/tmp/reads.$disk
		done
		rm /tmp/reads.$disk
	) &
done
"""

PARAMETERS = {"max-bandwidth": 1 << 30, "downtime-limit": 3000}


def rounds(guest):
    """How often each of the loops went round."""
    return [int(number) for number in guest.run("cat /tmp/writes.* /tmp/reads.*").split()]


def check_same(guest):
    """The guest read what it wrote."""
    expect("/tmp/failed in the guest", guest.run("[ ! -e /tmp/failed ] || head -n 50 /tmp/failed"), "")


def check_load(guest):
    """All loops are going round in this guest, and nothing differed."""
    before = rounds(guest)
    # The first round may have begun anywhere.
    wait_until(lambda: all(after >= start + 2 for start, after in zip(before, rounds(guest))),
               lambda: f"the load stands still: {before}, {rounds(guest)}{guest.stuck()}")
    for disk in guest.disks:
        if disk.is_vhost():
            # Since this QEMU began to serve it; the guest's scheduler has its way with the loops.
            wait_until(lambda: all(queue["read"]["requests"] and queue["write"]["requests"]
                                   for queue in guest.stats(disk)),
                       lambda: f"a queue of {disk.serial} without reads or writes: {guest.stats(disk)}")
    check_same(guest)


def capabilities(guest, **states):
    guest.qmp.execute("migrate-set-capabilities", {"capabilities": [
        {"capability": name.replace("_", "-"), "state": state} for name, state in states.items()]})


def start(source, target, bandwidth=PARAMETERS["max-bandwidth"]):
    uri = f"unix:{target.directory}/migration"
    target.qmp.execute("migrate-incoming", {"uri": uri})
    source.qmp.execute("migrate-set-parameters", PARAMETERS | {"max-bandwidth": bandwidth})
    source.qmp.execute("migrate", {"uri": uri})


def migrate(source, target):
    """Migrate, leave the source, and return how long the guest stood still, in milliseconds."""
    start(source, target)
    migration = source.qmp.wait_migration("completed")
    target.qmp.wait_running()
    source.kill()
    return migration["downtime"]


@contextmanager
def target_of(guest, **changes):
    """A second QEMU for the same guest, on the same disks."""
    with replace(guest, incoming=True, **changes) as target:
        yield target


def cancelled(guest):
    """Cancelled on the way, and at the moment when the source has stopped its disks."""
    with target_of(guest) as target:
        start(guest, target, bandwidth=1 << 20)
        guest.qmp.wait_migration("active")
        time.sleep(3)
        guest.qmp.execute("migrate_cancel")
        guest.qmp.wait_migration("cancelled")
    check_load(guest)
    capabilities(guest, pause_before_switchover=True)
    with target_of(guest) as target:
        start(guest, target)
        guest.qmp.wait_migration("pre-switchover")
        guest.qmp.execute("migrate_cancel")
        guest.qmp.wait_migration("cancelled")
    capabilities(guest, pause_before_switchover=False)
    guest.qmp.wait_running()
    check_load(guest)


def refused(guest, property_name, **changes):
    """The target's disk differs from the source's, which finds out when it has given its images away."""
    disks = [replace(guest.disks[0], **changes), *guest.disks[1:]]
    capabilities(guest, return_path=True)
    with target_of(guest, disks=disks) as target:
        start(guest, target)
        guest.qmp.wait_migration("failed")
        target.wait_end()
        expect_text(f"vhost-blk: {property_name} differs from that of the migration's source", target.evidence())
    capabilities(guest, return_path=False)
    guest.qmp.wait_running()
    check_load(guest)


def through_postcopy(source, target):
    for guest in source, target:
        capabilities(guest, postcopy_ram=True)
    # Slow, so that much of the memory is still at the source.
    start(source, target, bandwidth=8 << 20)
    source.qmp.wait_migration("active")
    time.sleep(2)
    source.qmp.execute("migrate-start-postcopy")
    target.qmp.wait_running()
    source.qmp.execute("migrate-set-parameters", {"max-postcopy-bandwidth": 0})
    check_load(target)
    source.qmp.wait_migration("completed")
    source.kill()
    capabilities(target, postcopy_ram=False)


def through_file(source, target, path):
    source.save(path)
    source.kill()
    target.restore(path)


def run(results, device):
    with ExitStack() as stack:
        disks = [Disk(stack.enter_context(backend.null_block(64)), "block", device, 2),
                 Disk(stack.enter_context(backend.file_on_ext4(64)), "file", device, 2)]
        if device == VHOST:
            load_module()
        with results.check("migration: boot"):
            guest = stack.enter_context(Guest(disks, vcpus=2, memory="256M"))
            guest.run(LOAD.replace("DISKS", "vda vdb"))
            check_load(guest)
        with results.check("migration: cancelled, and the source goes on"):
            cancelled(guest)
        if device == VHOST:
            with results.check("migration: refused by a target with other queues, and the source goes on"):
                refused(guest, "num-queues", queues=1)
                refused(guest, "queue-size", options=",queue-size=128")
        for number in range(results.rounds(2)):
            with results.check(f"migration: live, round {number + 1}"):
                target = stack.enter_context(target_of(guest))
                downtime = migrate(guest, target)
                print(f"# the guest stood still for {downtime} ms", flush=True)
                guest = target
                check_load(guest)
        with results.check("migration: with postcopy"):
            target = stack.enter_context(target_of(guest))
            through_postcopy(guest, target)
            guest = target
            check_load(guest)
        with results.check("migration: through a file"):
            target = stack.enter_context(target_of(guest))
            through_file(guest, target, f"{stack.enter_context(backend.TemporaryDirectory())}/guest")
            guest = target
            check_load(guest)
        with results.check("migration: the load ends well"):
            guest.run("touch /tmp/stop; while ls /tmp/writes.* /tmp/reads.* >/dev/null 2>&1; do sleep 1; done")
            check_same(guest)
            sums = [sum_in_guest(guest, name) for name in ("vda", "vdb")]
        with results.check("migration: power off"):
            check_console(guest)
            guest.power_off()
        with results.check("migration: the host reads what the guest wrote"):
            expect("checksums of the disks", [sum_in_host(disk.path) for disk in disks], sums)
        with results.check("migration: nothing left behind"):
            check_left_nothing(guest)
