# SPDX-License-Identifier: GPL-2.0
"""Blocks that a guest writes and flushes one by one, telling of each when it is durable; and a load beside it."""

import hashlib
import re

from tests.lib.host import Failure

BLOCK = 4096
SLOTS = 64  # records on each disk, written in turn
LOAD_START = 1  # MiB; the records lie before

FIRST = """# first records
for number in $(seq {first} {last}); do
	yes $(printf %015d $number) | head -n 256
done >/tmp/records
for name in {names}; do
	dd if=/tmp/records of=/dev/$name bs=64k conv=fsync 2>/dev/null || exit
done
"""

SCRIPT = """# records
for name in {names}; do
	fio --name=load --filename=/dev/$name --offset={load}m --rw=randwrite --bssplit=4k/70:64k/20:512k/10 --iodepth=32 \
		--ioengine=libaio --direct=1 --time_based --runtime=3600 --randrepeat=0 >/dev/null 2>&1 &
	while read -r _ _ _ _ writes _ </sys/block/$name/stat && [ $writes -eq 0 ]; do
		sleep .1
	done
done
more='{more}'
number={number}
while :; do
	label=$(printf %015d $number)
	yes $label | head -n 256 >/tmp/record
	for name in {names}; do
		dd if=/tmp/record of=/dev/$name bs=4k seek=$((number % {slots})) oflag=direct conv=fsync 2>/dev/null || exit
		echo "flushed $name $label."
	done
	number=$((number + 1))
	eval "$more"
	more=
done
"""


def record(number):
    return f"{number:015d}\n".encode() * (BLOCK // 16)


class Records:
    def __init__(self, guest, paths):
        self.guest = guest
        self.paths = paths  # of the backends, by the disks' names in the guest
        self.slots = {name: [*range(SLOTS, 2 * SLOTS)] for name in paths}
        self.last = dict.fromkeys(paths, 2 * SLOTS - 1)
        guest.run(FIRST.format(names=" ".join(paths), first=SLOTS, last=2 * SLOTS - 1))

    def start(self, more=""):
        """Load on all disks, and records until something stops the guest; more runs after the first of them."""
        self.guest.send(SCRIPT.format(names=" ".join(self.paths), load=LOAD_START, slots=SLOTS, more=more,
                                      number=max(self.last.values()) + 1))
        while not self._note(self.guest.line()):
            pass

    def _note(self, line):
        told = re.fullmatch(r"flushed (\w+) (\d{15})\.", line)
        if told:
            name, number = told[1], int(told[2])
            self.last[name] = number
            self.slots[name][number % SLOTS] = number
        return bool(told)

    def stopped(self, lines):
        """Take what the guest said until it was stopped, and see that it is on the backends and nothing else."""
        for line in lines:
            self._note(line)
        for name, path in self.paths.items():
            with open(path, "rb") as disk:
                found = [disk.read(BLOCK) for _ in range(SLOTS)]
            # It may have written some more than it got round to tell of, but none may be missing in between.
            for number in range(self.last[name] + 1, max(int(block[:15]) for block in found) + 1):
                self.slots[name][number % SLOTS] = number
            for block, number in zip(found, self.slots[name]):
                if block != record(number):
                    raise Failure(f"{name}: record {number} was flushed, but there is {block[:32]!r}; the last one told"
                                  f" of is {self.last[name]}")
        last = max(number for numbers in self.slots.values() for number in numbers)
        self.last = dict.fromkeys(self.last, last)

    def read_back(self):
        """The guest reads what the backends hold."""
        for name, numbers in self.slots.items():
            read = f"dd if=/dev/{name} bs=4k count={SLOTS} iflag=direct 2>/tmp/dd"
            expected = hashlib.sha256(b"".join(map(record, numbers))).hexdigest()
            # A sum, as each letter that it prints costs an emulated guest milliseconds.
            if self.guest.run(f"{read} | sha256sum").split()[0] != expected:
                found = self.guest.run(f"{read} | uniq").split()
                raise Failure(f"{name}: the guest does not read {numbers}; now it reads {found}")
