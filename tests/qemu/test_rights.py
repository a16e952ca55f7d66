# SPDX-License-Identifier: GPL-2.0
"""A QEMU without rights."""

import os
import stat
import subprocess
from contextlib import contextmanager
from pathlib import Path

from tests.lib.host import TREE, cgroup, expect, shell
from tests.lib.virtio_blk import OK, READ
from tests.qemu.harness import disk, driven, node

DROP = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]


def test_workers_join_the_cgroup():
    """the workers are in the cgroup of a QEMU that has no capabilities, and serve"""
    with cgroup() as (path, enter), open("/dev/vhost-blk", "r+b", buffering=0) as device:
        with driven(*node(), *disk(f",vhostfd={device.fileno()}"), wrapper=[*enter, *DROP],
                    pass_fds=[device.fileno()]) as (machine, driver):
            driver.start()
            expect("status of a read", driver.queues[0].request(READ, 0)[0], OK)
            expect("cgroups of the workers", [cgroup for _, cgroup in machine.workers(
                lambda task: (task / "cgroup").read_text())], [f"0::/{path.name}\n"] * 2)


@contextmanager
def group(line):
    """This group is the only one there is."""
    Path("group").write_text(line)
    shell("mount --bind group /etc/group")
    try:
        yield
    finally:
        shell("umount /etc/group")


def test_udev_rule():
    """by the udev rule /dev/vhost-blk is for root and group kvm to read and write, and for nobody else"""
    udevadm = subprocess.run([TREE / "testbed/udev"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    rules = Path("/run/udev/rules.d")
    rules.mkdir(parents=True, exist_ok=True)
    rule = rules / "60-vhost-blk.rules"
    rule.symlink_to(TREE / "packaging/60-vhost-blk.rules")
    before = os.stat("/dev/vhost-blk")
    try:
        os.chmod("/dev/vhost-blk", 0o600)
        with group("kvm:x:4242:\n"):
            shell(f"{udevadm} test --action=add /sys/class/misc/vhost-blk")
        node = os.stat("/dev/vhost-blk")
        expect("owner, group and mode", (node.st_uid, node.st_gid, oct(stat.S_IMODE(node.st_mode))), (0, 4242, "0o660"))
    finally:
        rule.unlink()
        os.chown("/dev/vhost-blk", before.st_uid, before.st_gid)
        os.chmod("/dev/vhost-blk", stat.S_IMODE(before.st_mode))
