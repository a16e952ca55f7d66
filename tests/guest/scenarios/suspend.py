# SPDX-License-Identifier: GPL-2.0
"""The guest suspends to RAM under verified load and is woken."""

import time
from contextlib import ExitStack

from tests.lib import disks as backend
from tests.guest.checks import check_console, check_left_nothing, check_workers, verified_load, verify
from tests.guest.guest import VHOST, Disk, Guest, cached
from tests.lib.host import expect, expect_soon, load_module

SUSPEND = """# suspend
echo mem >/sys/power/state && cat /sys/power/suspend_stats/success
"""


class Sleeper(Guest):
    """A guest whose kernel is not loaded anew at each reset, over the one that sleeps, as QEMU does with ELF files."""

    def command(self):
        words = super().command()
        words[words.index("-kernel") + 1] = cached("testbed/kernel 6.1") + "/vmlinuz"
        return words


def run(results, device):
    with ExitStack() as stack:
        disks = [Disk(stack.enter_context(backend.null_block(64)), "block", device, 2)]
        if device == VHOST:
            load_module()
        with results.check("suspend: boot"):
            guest = stack.enter_context(Sleeper(disks, vcpus=2, arguments=("-global", "PIIX4_PM.disable_s3=0")))
        rounds = results.rounds(2)
        with results.check(f"suspend: {rounds} times under load"):
            with verified_load(guest, "vda"):
                for number in range(1, rounds + 1):
                    guest.send(SUSPEND)
                    guest.qmp.wait_event("SUSPEND")
                    if device == VHOST:
                        expect_soon("workers while suspended", guest.workers, [])
                    time.sleep(0.5)
                    guest.qmp.execute("system_wakeup")
                    guest.qmp.wait_event("WAKEUP")
                    expect("times suspended", guest.line(), str(number))
                    expect("result", guest.line(), "\1exit 0")
        with results.check("suspend: verified I/O after it"):
            verify(guest, ["vda"], seed=7)
            check_workers(guest)
            check_console(guest)
        with results.check("suspend: power off"):
            guest.power_off()
            check_left_nothing(guest)
