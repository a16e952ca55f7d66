# SPDX-License-Identifier: GPL-2.0
"""QEMU is killed at any moment, again and again: what the guest had flushed is there, and nothing is left of QEMU."""

import random
import time
from dataclasses import replace
from tempfile import TemporaryDirectory

import pytest

from tests.guest import restarts
from tests.guest.checks import check_console, check_left_nothing
from tests.guest.records import Records
from tests.lib.host import expect_soon


@pytest.fixture(scope="module")
def state():
    with TemporaryDirectory() as place:
        yield f"{place}/state"


def kill(guest, records, boot_seconds):
    """A guest finds what those before it had flushed, writes more, and is killed: in its work, stopped, or booting."""
    records.guest = guest
    records.read_back()
    check_console(guest)
    records.start()
    restarts.wait_moment()
    # Half a boot takes longer than all else.
    what, = random.choices(["", "stop", "system_reset"], [5, 4, 1])
    if what:
        guest.execute(what)
    if what == "system_reset":
        time.sleep(random.uniform(0, boot_seconds))
    records.stopped(guest.die())
    expect_soon("workers", guest.workers, [])


def test_boot(guest, state, kept):
    """a guest writes its first records, and its state is saved"""
    kept.records = Records(guest, {"vda": guest.disks[0].path, "vdb": guest.disks[1].path})
    guest.save(state)
    guest.kill()


@pytest.mark.rounds(3)
def test_kill(guest, boot_seconds, state, kept, rounds):
    """what was flushed is there, no worker is left"""
    for number in range(rounds):
        # Each goes on from there, as a boot takes much longer.
        with replace(guest, template="", incoming=True) as victim:
            victim.restore(state)
            kill(victim, kept.records, boot_seconds)
        if number % 10 == 9:
            print(f"# killed {number + 1} times", flush=True)


def test_survivor(guest, kept):
    """a guest that is not killed reads all of it"""
    with replace(guest) as survivor:
        kept.records.guest = survivor
        kept.records.read_back()
        check_console(survivor)
        survivor.power_off()


def test_left_nothing(guest):
    check_left_nothing(guest)
