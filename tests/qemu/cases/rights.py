# SPDX-License-Identifier: GPL-2.0
"""A QEMU without rights."""

from contextlib import contextmanager
from pathlib import Path

from harness import OK, disk, driven, node, test, workers
from host import expect
from machine import READ

CGROUP = Path("/sys/fs/cgroup/unprivileged")


@contextmanager
def cgroup():
    """A cgroup with every controller, and the command that starts something in it without any capability."""
    CGROUP.mkdir()
    try:
        yield ["sh", "-c", f'echo $$ >{CGROUP}/cgroup.procs && exec "$@"', "sh",
               "setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    finally:
        CGROUP.rmdir()


@test
def workers_join_the_cgroup():
    """the workers are in the cgroup of a QEMU that has no capabilities, and serve"""
    with cgroup() as wrapper, open("/dev/vhost-blk", "r+b", buffering=0) as device:
        with driven(*node(), *disk(f",vhostfd={device.fileno()}"), wrapper=wrapper,
                    pass_fds=[device.fileno()]) as (machine, driver):
            driver.start()
            expect("status of a read", driver.queues[0].request(READ, 0)[0], OK)
            members = (CGROUP / "cgroup.procs").read_text().split()
            names = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in members]
            expect("workers in the cgroup", sorted(set(workers(machine)) - set(names)), [])
            expect("workers", len(workers(machine)), 2)
