# SPDX-License-Identifier: GPL-2.0
"""A guest that is restarted again and again in the middle of its writing."""

import random
import time
from contextlib import ExitStack

from tests.lib import disks as backend
from tests.guest.checks import check_console, check_left_nothing, held
from tests.guest.guest import VHOST, Disk, Guest
from tests.lib.host import expect_soon, load_module
from tests.guest.records import Records


def make_disks(stack, device):
    """What such guests write to: the disks' backends by their name in the guest, and the disks; the module is loaded."""
    paths = {"vda": stack.enter_context(backend.null_block(64)),
             "vdb": stack.enter_context(backend.file_on_ext4(64))}
    if device == VHOST:
        load_module()
    return paths, [Disk(path, disk, device, queues=2) for disk, path in paths.items()]


def run(results, device, name, start, stop, failing="none"):
    """start(records) has the guest write, stop(guest) is what restarts it; disks named so may meet errors by that."""
    with ExitStack() as stack:
        paths, disks = make_disks(stack, device)
        with results.check(f"{name}: boot"):
            guest = stack.enter_context(Guest(disks, vcpus=2))
            records = Records(guest, paths)
        before = held(guest)
        rounds = results.rounds(2)
        with results.check(f"{name}: {rounds} times under load, what was flushed is there"):
            for _ in range(rounds):
                start(records)
                stop(guest)
                records.stopped(guest.wait_ready())
                records.read_back()
                expect_soon("workers and descriptors of QEMU", lambda: held(guest), before)
        with results.check(f"{name}: power off"):
            check_console(guest, failing)
            guest.power_off()
        with results.check(f"{name}: nothing left behind"):
            check_left_nothing(guest)


def moment():
    """Seconds after which to strike."""
    return random.uniform(0, 1)


def wait_moment():
    time.sleep(moment())
