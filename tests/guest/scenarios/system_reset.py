# SPDX-License-Identifier: GPL-2.0
"""The machine is reset from outside while the guest writes."""

from tests.guest import restarts


def strike(guest):
    restarts.wait_moment()
    guest.qmp.execute("system_reset")


def run(results, device):
    restarts.run(results, device, "system reset", lambda records: records.start(), strike)
