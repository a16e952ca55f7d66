# SPDX-License-Identifier: GPL-2.0
"""Shows a guest doing verified I/O through vhost-blk and through plain virtio-blk; runs in the test host."""

import os
import shlex
import statistics
import sys

from tests.guest.guest import Disk, Guest
from tests.lib.disks import null_block
from tests.lib.host import Failure, accelerator

MEBIBYTES = 256
ROUNDS = 3
# Queue depth, and how much is written and read back.
LOADS = {1: "2m", 32: "8m"}

DISKS = r"""
for name in vda vdb; do
	cd /sys/block/$name
	echo $name $(($(cat size) / 2048)) $(cat serial) $(basename $(readlink device/driver)) $(ls mq | wc -l)
done
"""

# Of fio's terse output: error; IOPS and mean latency in µs of reading back; the same of writing.
FIO = ("fio --name=demo --filename=/dev/{name} --direct=1 --ioengine=libaio --rw=randwrite --bs=4k --iodepth={depth}"
       " --size={size} --randseed={seed} --verify=crc32c --verify_fatal=1 --minimal >/tmp/fio;"
       " status=$?; cut -d';' -f5,8,40,49,81 /tmp/fio; exit $status")


def progress(text):
    print(f"demo: {text}", file=sys.stderr, flush=True)


def heading(text):
    print(f"\n{text}\n{'-' * len(text)}")


def command_line(command):
    """The command as one would type it, an option a line."""
    words = [shlex.quote(word) for word in command]
    lines = [words[0]]
    for word in words[1:]:
        if word.startswith("-"):
            lines.append("    " + word)
        else:
            lines[-1] += " " + word
    return " \\\n".join(lines)


def measure(guest):
    """Rounds of the same load on one disk and then on the other, so that both meet the same noise."""
    results: dict = {(name, depth): [] for depth in LOADS for name in ("vda", "vdb")}
    for seed in range(ROUNDS):
        for depth, size in LOADS.items():
            for name in ("vda", "vdb"):
                line = guest.run(FIO.format(name=name, depth=depth, size=size, seed=seed))
                results[name, depth].append([float(field) for field in line.split(";")])
    return results


def show_results(results):
    print(f"{'4 KiB, random':22}{'vhost-blk':>22}{'virtio-blk':>22}{'ratio':>8}")
    for depth in LOADS:
        for what, field in (("write", 3), ("read back", 1)):
            (iops, latency), (plain_iops, plain_latency) = (
                [statistics.median(run[column] for run in results[name, depth]) for column in (field, field + 1)]
                for name in ("vda", "vdb"))
            print(f"{what + ', depth ' + str(depth):22}{iops:8.0f} IOPS {latency:6.0f} µs"
                  f"{plain_iops:8.0f} IOPS {plain_latency:6.0f} µs{iops / plain_iops:8.2f}")
    errors = [sum(int(run[0]) != 0 for depth in LOADS for run in results[name, depth]) for name in ("vda", "vdb")]
    print(f"{'runs with an error':22}{errors[0]:22}{errors[1]:22}")
    print(f"\nMedians of {ROUNDS} rounds; every block was read back and its CRC-32C compared.")
    if accelerator() == "simulated":
        print("The host is simulated: 3 GHz, an instruction a cycle, and what exits and wake-ups cost on hardware"
              "\n(docs/simulator.md). make sim compares vhost-blk with other ways than this one.")


def show_threads(guest):
    parts = {"s": "submission worker", "c": "completion worker"}
    for name, seconds in guest.workers():
        part = name.rsplit("-", 1)[1]
        print(f"{name:18}{seconds:7.2f} s   vda: {parts[part[0]]} of queue {part[1:]}, in the kernel")
    for name, seconds in guest.io_threads():
        print(f"{name:18}{seconds:7.2f} s   vdb: QEMU's iothread")


def main():
    progress("booting a guest (about 10 s)")
    with (null_block(MEBIBYTES) as path, null_block(MEBIBYTES) as plain_path,
          Guest([Disk(path, "vhost"), Disk(plain_path, "plain", "virtio-blk-pci")]) as guest):
        seen = guest.run(DISKS).splitlines()
        progress("writing and reading back on both disks (about 40 s)")
        results = measure(guest)

        print("\nA guest on vhost-blk")
        print("====================")
        print(f"Host: Linux {os.uname().release}, {accelerator()}, {os.cpu_count()} CPUs;"
              " the guest runs under its KVM.")
        heading("QEMU")
        print(command_line(guest.process.args))
        heading("The disks inside the guest")
        print(f"{'NAME':6}{'SIZE':>6}  {'SERIAL':8}{'DRIVER':12}{'QUEUES':8}SERVED BY")
        served = ["/dev/vhost-blk, memory-backed null_blk", "QEMU: aio=native, iothread; the same kind of null_blk"]
        for line, by in zip(seen, served):
            name, size, serial, driver, queues = line.split()
            print(f"{name:6}{size + 'M':>6}  {serial:8}{driver:12}{queues:8}{by}")
        heading("Verified I/O (fio)")
        show_results(results)
        heading("Who moved the data in the host: CPU time")
        show_threads(guest)
        guest.power_off()

    heading("Where to go next")
    print('README.md, "On your own host"   give a disk of yours to a guest of yours\n'
          "make sim                        vhost-blk next to every other way to serve a disk, simulated\n"
          "make shell                      look around in the test host (KERNEL=6.1 or sid for another kernel)\n"
          "make check                      every test\n"
          "make help                       the rest")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"demo: {failure}")
