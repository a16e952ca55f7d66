# SPDX-License-Identifier: GPL-2.0
"""QEMU is killed at any moment, again and again: what the guest had flushed is there, and nothing is left of QEMU."""

import random
import time
from contextlib import ExitStack
from dataclasses import replace

from tests.lib import disks as backend
from tests.guest import restarts
from tests.guest.checks import check_console, check_left_nothing
from tests.guest.guest import Guest
from tests.lib.host import expect_soon
from tests.guest.records import Records


def run(results, device):
    with ExitStack() as stack:
        paths, disks = restarts.make_disks(stack, device)
        state = f"{stack.enter_context(backend.TemporaryDirectory())}/guest"
        with results.check("kill: boot"):
            start = time.monotonic()
            with Guest(disks, vcpus=2, memory="256M") as guest:
                boot = time.monotonic() - start
                records = Records(guest, paths)
                guest.save(state)
        rounds = results.rounds(3)
        with results.check(f"kill: {rounds} times, what was flushed is there, no worker is left"):
            for number in range(rounds):
                # Each goes on from there, as a boot takes much longer.
                with replace(guest, incoming=True) as victim:
                    victim.restore(state)
                    kill(victim, records, boot)
                if number % 10 == 9:
                    print(f"# killed {number + 1} times", flush=True)
        with results.check("kill: a guest that is not killed"), replace(guest) as survivor:
            records.guest = survivor
            records.read_back()
            check_console(survivor)
            survivor.power_off()
        with results.check("kill: nothing left behind"):
            check_left_nothing(survivor)


def kill(guest, records, boot):
    """A guest finds what those before it had flushed, writes more, and is killed: in its work, stopped, or booting."""
    records.guest = guest
    records.read_back()
    check_console(guest)
    records.start()
    restarts.wait_moment()
    # Half a boot takes longer than all else.
    what, = random.choices(["", "stop", "system_reset"], [5, 4, 1])
    if what:
        guest.qmp.execute(what)
    if what == "system_reset":
        time.sleep(random.uniform(0, boot))
    records.stopped(guest.die())
    expect_soon("workers", guest.workers, [])
