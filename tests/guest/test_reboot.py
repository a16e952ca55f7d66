# SPDX-License-Identifier: GPL-2.0
"""The guest reboots by itself, without ado, while it writes."""

import pytest

from tests.guest import restarts
from tests.guest.checks import check_console, check_left_nothing


def test_boot(guest):
    pass


@pytest.mark.rounds(2)
def test_restart(guest, rounds):
    """restarted under load, what was flushed is there"""
    restarts.restart(guest, rounds,
                     start=lambda records: records.start(f"(sleep {restarts.moment():.2f}; reboot -f) &"),
                     stop=lambda guest: None)


def test_power_off(guest):
    # Linux takes the disks away from under its own writers when it reboots.
    check_console(guest, failing="vd[ab]")
    guest.power_off()


def test_left_nothing(guest):
    check_left_nothing(guest)
