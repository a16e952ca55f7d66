# SPDX-License-Identifier: GPL-2.0
"""The machine is reset from outside while the guest writes."""

import pytest

from tests.guest import restarts
from tests.guest.checks import check_console, check_left_nothing


def test_boot(guest):
    pass


@pytest.mark.rounds(2)
def test_restart(guest, rounds):
    """restarted under load, what was flushed is there"""
    def strike(guest):
        restarts.wait_moment()
        guest.execute("system_reset")

    restarts.restart(guest, rounds, start=lambda records: records.start(), stop=strike)


def test_power_off(guest):
    check_console(guest)
    guest.power_off()


def test_left_nothing(guest):
    check_left_nothing(guest)
