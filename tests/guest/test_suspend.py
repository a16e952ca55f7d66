# SPDX-License-Identifier: GPL-2.0
"""The guest suspends to RAM under verified load and is woken."""

import time

import pytest

from tests.guest.checks import check_console, check_left_nothing, check_workers, verified_load, verify
from tests.guest.guest import VHOST, Disk, Guest
from tests.lib.disks import null_block
from tests.lib.host import cached, expect, expect_soon

SUSPEND = """# suspend
echo mem >/sys/power/state && cat /sys/power/suspend_stats/success
"""


class Sleeper(Guest):
    """A guest whose kernel is not loaded anew at each reset, over the one that sleeps, as QEMU does with ELF files."""

    def command(self):
        words = super().command()
        words[words.index("-kernel") + 1] = cached("testbed/kernel 6.1") + "/vmlinuz"
        return words


@pytest.fixture(scope="module")
def guest(device):
    with (null_block(64) as path,
          Sleeper([Disk(path, "block", device, 2)], vcpus=2,
                  arguments=("-global", "PIIX4_PM.disable_s3=0")) as guest):
        yield guest


def test_boot(guest):
    pass


@pytest.mark.rounds(2)
def test_suspend(guest, device, rounds):
    """suspended and woken under load"""
    with verified_load(guest, "vda"):
        for number in range(1, rounds + 1):
            guest.send(SUSPEND)
            guest.wait_event("SUSPEND")
            if device == VHOST:
                expect_soon("workers while suspended", guest.workers, [])
            time.sleep(0.5)
            guest.execute("system_wakeup")
            guest.wait_event("WAKEUP")
            expect("times suspended", guest.line(), str(number))
            expect("result", guest.line(), "\1exit 0")


def test_fio(guest):
    """verified I/O after it"""
    verify(guest, ["vda"], seed=7)
    check_workers(guest)
    check_console(guest)


def test_power_off(guest):
    guest.power_off()
    check_left_nothing(guest)
