# SPDX-License-Identifier: GPL-2.0
"""The guest reboots by itself, without ado, while it writes."""

from tests.guest import restarts


def run(results, device):
    # Linux takes the disks away from under its own writers when it reboots.
    restarts.run(results, device, "reboot",
                 lambda records: records.start(f"(sleep {restarts.moment():.2f}; reboot -f) &"), lambda _: None,
                 failing="vd[ab]")
