# SPDX-License-Identifier: GPL-2.0
"""A QEMU without rights."""

from harness import OK, disk, driven, node, test
from host import cgroup, expect, workers
from machine import READ

DROP = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]


@test
def workers_join_the_cgroup():
    """the workers are in the cgroup of a QEMU that has no capabilities, and serve"""
    with cgroup() as (path, enter), open("/dev/vhost-blk", "r+b", buffering=0) as device:
        with driven(*node(), *disk(f",vhostfd={device.fileno()}"), wrapper=[*enter, *DROP],
                    pass_fds=[device.fileno()]) as (machine, driver):
            driver.start()
            expect("status of a read", driver.queues[0].request(READ, 0)[0], OK)
            expect("cgroups of the workers", [cgroup for _, cgroup in workers(
                machine.process, lambda task: (task / "cgroup").read_text())], [f"0::/{path.name}\n"] * 2)
