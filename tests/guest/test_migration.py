# SPDX-License-Identifier: GPL-2.0
"""Migration under verified load: cancelled, refused, live, with postcopy, through a file."""

import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from tempfile import TemporaryDirectory

import pytest

from tests.guest.checks import check_console, check_left_nothing, sum_in_guest, sum_in_host
from tests.lib.host import expect, expect_text, wait_until

# For each disk: fio writes and verifies, and a reader compares four pieces of the disk, at 32 MiB, with copies in
# memory. It does that twice: what was read before a migration's last moment and is found in the page cache after it
# went through the dirty log. Pages are likely to be used in the same order again, so the pieces change theirs: what a
# page held when it was sent before is other data. The loops count their rounds in files, tell of what differs in
# /tmp/failed, and when /tmp/stop appears they end and remove their files.
LOAD = """
for piece in 0 1 2 3; do
	head -c 256k /dev/urandom >/tmp/piece.$piece
done
for disk in DISKS; do
	cat /tmp/piece.* | dd of=/dev/$disk bs=256k seek=128 conv=fsync 2>/dev/null
	echo 0 | tee /tmp/writes.$disk >/tmp/reads.$disk
	(
		round=0
		while [ ! -e /tmp/stop ]; do
			fio --name=load --filename=/dev/$disk --size=256k --rw=randwrite --iodepth=16 --ioengine=libaio --direct=1 \\
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
				dd if=/dev/$disk bs=256k skip=$((128 + piece)) count=1 2>/dev/null | cmp - /tmp/piece.$piece >/tmp/cmp.$disk ||
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


def start(source, target, bandwidth=PARAMETERS["max-bandwidth"]):
    uri = f"unix:{target.directory}/migration"
    target.execute("migrate-incoming", {"uri": uri})
    source.execute("migrate-set-parameters", PARAMETERS | {"max-bandwidth": bandwidth})
    source.execute("migrate", {"uri": uri})


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
    with replace(guest, template="", incoming=True, **changes) as target:
        yield target


def cancelled(guest):
    """Cancelled on the way, and at the moment when the source has stopped its disks."""
    with target_of(guest) as target:
        start(guest, target, bandwidth=1 << 20)
        guest.qmp.wait_migration("active")
        time.sleep(3)
        guest.execute("migrate_cancel")
        guest.qmp.wait_migration("cancelled")
    check_load(guest)
    guest.capabilities(pause_before_switchover=True)
    with target_of(guest) as target:
        start(guest, target)
        guest.qmp.wait_migration("pre-switchover")
        guest.execute("migrate_cancel")
        guest.qmp.wait_migration("cancelled")
    guest.capabilities(pause_before_switchover=False)
    guest.qmp.wait_running()
    check_load(guest)


def refused(guest, message, **changes):
    """The target's disk differs from the source's, which finds out when it has given its images away."""
    disks = [replace(guest.disks[0], **changes), *guest.disks[1:]]
    guest.capabilities(return_path=True)
    with target_of(guest, disks=disks) as target:
        start(guest, target)
        guest.qmp.wait_migration("failed")
        target.wait_end(1)
        expect_text(message, target.evidence())
    guest.capabilities(return_path=False)
    guest.qmp.wait_running()
    check_load(guest)


def through_postcopy(source, target):
    for guest in source, target:
        guest.capabilities(postcopy_ram=True)
    # Slow, so that much of the memory is still at the source.
    start(source, target, bandwidth=8 << 20)
    source.qmp.wait_migration("active")
    time.sleep(2)
    source.execute("migrate-start-postcopy")
    target.qmp.wait_running()
    source.execute("migrate-set-parameters", {"max-postcopy-bandwidth": 0})
    check_load(target)
    source.qmp.wait_migration("completed")
    source.kill()
    target.capabilities(postcopy_ram=False)


def through_file(source, target, path):
    source.save(path)
    source.kill()
    target.restore(path)


class Migrating:
    """A guest that goes from one QEMU to the next; all of them end with the scenario."""

    def __init__(self, guest, stack):
        self.guest, self.stack = guest, stack

    def move(self, way, *arguments):
        """Migrate the guest to a new QEMU by a function of source and target, and return what that returns."""
        target = self.stack.enter_context(target_of(self.guest))
        result = way(self.guest, target, *arguments)
        self.guest = target
        check_load(target)
        return result


@pytest.fixture(scope="module")
def migrating(guest):
    with ExitStack() as stack:
        yield Migrating(guest, stack)


def test_boot(guest):
    guest.run(LOAD.replace("DISKS", "vda vdb"))
    check_load(guest)


def test_cancelled(guest):
    """cancelled, and the source goes on"""
    cancelled(guest)


def test_refused(guest):
    """refused by a target with other queues or features, and the source goes on"""
    refused(guest, "Bad config data", queues=1)
    refused(guest, "Features 0x[0-9a-f]+ unsupported", options=",discard=off")


@pytest.mark.rounds(2)
def test_live(migrating, number):
    print(f"# the guest stood still for {migrating.move(migrate)} ms", flush=True)


def test_postcopy(migrating):
    migrating.move(through_postcopy)


def test_through_a_file(migrating):
    with TemporaryDirectory() as place:
        migrating.move(through_file, f"{place}/guest")


def test_load_ends_well(migrating, kept):
    guest = migrating.guest
    guest.run("touch /tmp/stop; while ls /tmp | grep -Eq '^(writes|reads)[.]'; do sleep 1; done")
    check_same(guest)
    kept.sums = [sum_in_guest(guest, name) for name in ("vda", "vdb")]


def test_power_off(migrating):
    check_console(migrating.guest)
    migrating.guest.power_off()


def test_host_reads_what_the_guest_wrote(disks, kept):
    expect("checksums of the disks", [sum_in_host(disk.path) for disk in disks], kept.sums)


def test_left_nothing(migrating):
    check_left_nothing(migrating.guest)
