# SPDX-License-Identifier: GPL-2.0
"""QEMU is killed at any moment, again and again: what the guest had flushed is there, and nothing is left of QEMU."""

import random
import time
from contextlib import ExitStack

import restarts
from checks import check_console, check_left_nothing
from guest import Guest
from host import expect_soon
from records import Records


def run(results, device):
    with ExitStack() as stack:
        paths, disks = restarts.make_disks(stack, device)
        rounds = results.rounds(3)
        with results.check(f"kill: {rounds} times, what was flushed is there, no worker is left"):
            records = None
            for number in range(rounds):
                records = kill(disks, paths, records)
                if number % 10 == 9:
                    print(f"# killed {number + 1} times", flush=True)
        with results.check("kill: a guest that is not killed"), Guest(disks, vcpus=2) as guest:
            records.guest = guest
            records.read_back()
            check_console(guest)
            guest.power_off()
        with results.check("kill: nothing left behind"):
            check_left_nothing(guest)


def kill(disks, paths, records):
    """A guest finds what those before it had flushed, writes more, and is killed: in its work, stopped, or booting."""
    start = time.monotonic()
    with Guest(disks, vcpus=2) as guest:
        boot = time.monotonic() - start
        if records:
            records.guest = guest
            records.read_back()
        else:
            records = Records(guest, paths)
        check_console(guest)
        records.start()
        restarts.wait_moment()
        what = random.choice(["", "", "stop", "system_reset"])
        if what:
            guest.qmp.execute(what)
        if what == "system_reset":
            time.sleep(random.uniform(0, boot))
        records.stopped(guest.die())
        expect_soon("workers", guest.workers, [])
    return records
