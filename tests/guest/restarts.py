# SPDX-License-Identifier: GPL-2.0
"""A guest that is restarted again and again while it writes records."""

import random
import time

from tests.guest.checks import held
from tests.guest.records import Records
from tests.lib.host import expect_soon


def restart(guest, rounds, start, stop):
    """Have the guest write by start(records) and restart it by stop(guest): what it flushed is there each time."""
    records = Records(guest, {"vda": guest.disks[0].path, "vdb": guest.disks[1].path})
    before = held(guest)
    for _ in range(rounds):
        start(records)
        stop(guest)
        records.stopped(guest.wait_ready())
        records.read_back()
        expect_soon("workers and descriptors of QEMU", lambda: held(guest), before)


def moment():
    """Seconds after which to strike."""
    return random.uniform(0, 1)


def wait_moment():
    time.sleep(moment())
