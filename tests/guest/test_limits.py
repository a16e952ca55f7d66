# SPDX-License-Identifier: GPL-2.0
"""Limits of QEMU's cgroups hold for the workers: io.max, and before Linux 6.18 cpu.max."""

import os
import time

import pytest

from tests.guest.checks import check_console, check_left_nothing
from tests.guest.guest import Disk
from tests.lib.disks import null_block
from tests.lib.host import Failure, cgroup, expect, tasks

pytestmark = pytest.mark.usefixtures("vhost_only")

IOPS = 20
CPU_PERCENT = 4

LOAD = """# load
fio --name=load --filename=/dev/vda --rw=randread --bs=4k --iodepth=32 --ioengine=libaio --direct=1 \\
	--time_based --runtime=3600 >/dev/null 2>&1 &
while read -r reads _ </sys/block/vda/stat && [ $reads -lt 100 ]; do
	sleep .1
done
"""


def check_limit(what, count, seconds, limit, set_limit):
    """What count() counts rises by no more than the limit in a second, and by more than twice that without one."""
    rates = []
    for value in None, limit, None:
        set_limit(value)
        before, start = count(), time.monotonic()
        time.sleep(seconds)
        rates.append((count() - before) / (time.monotonic() - start))
    text = f"{what}: {rates[1]:.1f} in a second of {limit}, {rates[0]:.1f} and {rates[2]:.1f} without a limit"
    print(f"# {text}", flush=True)
    if rates[1] > limit * 3 / 2 or min(rates[0], rates[2]) < limit * 2:
        raise Failure(text)


def check_cgroup(guest, name):
    """The workers are in this cgroup."""
    expect("cgroups of the workers", [found for _, found in guest.workers(
        lambda task: (task / "cgroup").read_text())], [f"0::/{name}\n"] * 2 * guest.disks[0].queues)


@pytest.fixture(scope="module")
def cgroups():
    """QEMU's cgroup and those of its parts, with what starts a command in the first.

    As libvirt has it, the threads of the vCPUs are apart from the main thread, where the workers belong.
    """
    with cgroup() as (group, enter), cgroup("qemu/emulator") as (emulator, _), cgroup("qemu/vcpus") as (vcpus, _):
        for part in emulator, vcpus:
            (part / "cgroup.type").write_text("threaded")
        (group / "cgroup.subtree_control").write_text("+cpu")
        yield group, emulator, vcpus, enter


@pytest.fixture(scope="module")
def disks():
    with null_block(64) as path:
        yield [Disk(path, "block", queues=2)]


@pytest.fixture(scope="module")
def options(booted, cgroups):
    *_, enter = cgroups
    return {**booted, "wrapper": enter}


def test_boot(guest):
    """the workers are in QEMU's cgroup"""
    guest.run(LOAD)
    check_cgroup(guest, "qemu")


def test_io_max(guest, disks, cgroups):
    group, *_ = cgroups
    number = os.stat(disks[0].path).st_rdev
    check_limit("reads", lambda: int(guest.run("cat /sys/block/vda/stat").split()[0]), 5, IOPS,
                lambda limit: (group / "io.max").write_text(
                    f"{os.major(number)}:{os.minor(number)} riops={limit or 'max'}"))


def test_cpu_max(guest, cgroups):
    """cpu.max of the main thread's cgroup"""
    _, emulator, vcpus, _ = cgroups
    for name, thread in tasks(guest.threads(), ".*", lambda task: task.name):
        part = vcpus if name.startswith("CPU ") else emulator
        (part / "cgroup.threads").write_text(thread)
    # Workers join when they are made.
    guest.execute("stop")
    guest.execute("cont")
    check_cgroup(guest, "qemu/emulator")
    # An emulated host that is not scheduled itself takes that for CPU time of the task that ran: measure for long
    # enough to make up for it.
    check_limit("workers' CPU time in per cent", lambda: 100 * sum(used for _, used in guest.workers()), 10,
                CPU_PERCENT, lambda limit: (emulator / "cpu.max").write_text(
                    f"{limit * 1000 if limit else 'max'} 100000"))


def test_power_off(guest):
    guest.run("killall fio; while pidof fio >/dev/null; do sleep .1; done")
    check_console(guest)
    guest.power_off()
    check_left_nothing(guest)
