# SPDX-License-Identifier: GPL-2.0
"""The disks that everyone is measured on, made in the test host.

Each is a context that gives a path, and for a file a block device like the one that the file lies on.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager

from tests.lib.disks import mounted, null_disk
from tests.lib.host import shell

FILE_MEBIBYTES = 256
# null_blk makes no more queues than the host has CPUs.
NULL_BLK = {"size": 1024, "hw_queue_depth": 256, "submit_queues": 16}


@contextmanager
def block_device(**attributes):
    with null_disk(**NULL_BLK, **attributes) as path:
        yield path, None


def delayed(microseconds):
    return block_device(irqmode=2, completion_nsec=1000 * microseconds)


@contextmanager
def file_on(filesystem):
    with null_disk(**NULL_BLK, memory_backed=1) as below, null_disk(**NULL_BLK, memory_backed=1) as bare:
        shell(f"mkfs.{filesystem} -q {below}")
        with mounted(below) as place:
            path = f"{place}/disk.raw"
            # Neither a hole nor an extent that nobody has written is read from the disk.
            for filled in path, bare:
                shell(f"dd if=/dev/zero of={filled} bs=1M count={FILE_MEBIBYTES} oflag=direct")
            yield path, bare


# What it is, and the context.
BACKENDS: dict[str, tuple[str, Callable[..., AbstractContextManager]]] = {
    "null_blk": ("null_blk", block_device),
    "33us": ("null_blk with a completion delay of 33 µs", lambda: delayed(33)),
    "80us": ("null_blk with a completion delay of 80 µs", lambda: delayed(80)),
    "ext4": ("file on ext4", lambda: file_on("ext4")),
    "xfs": ("file on xfs", lambda: file_on("xfs")),
}
