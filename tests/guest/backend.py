# SPDX-License-Identifier: GPL-2.0
"""Backends of disks, made in the test host: each is a context that gives a path and cleans up after itself."""

from contextlib import contextmanager
from tempfile import TemporaryDirectory

from disks import loop_disk, null_disk
from host import shell


def null_block(mebibytes):
    """A block device in memory."""
    return null_disk(size=mebibytes, memory_backed=1)


@contextmanager
def image_file(mebibytes, directory=None):
    """A raw image, all of it a hole; in /tmp, a tmpfs, unless a directory is given."""
    with TemporaryDirectory(dir=directory) as place:
        path = f"{place}/disk.raw"
        with open(path, "wb") as image:
            image.truncate(mebibytes << 20)
        yield path


@contextmanager
def loop_device(mebibytes):
    """A block device over a file."""
    with image_file(mebibytes) as path, loop_disk(path) as device:
        yield device


@contextmanager
def logged_device(mebibytes, log):
    """A block device whose durable writes go into a log on another device, see tests/lib/powercut.h."""
    shell("modprobe dm_log_writes")
    name = "logged"
    with null_block(mebibytes) as disk:
        shell(f"dmsetup create {name} --table '0 {mebibytes << 11} log-writes {disk} {log}'")
        try:
            yield f"/dev/mapper/{name}"
        finally:
            shell(f"dmsetup remove --retry {name}")


@contextmanager
def mounted(device, options="rw"):
    """The mount point of a file system on a block device or in an image."""
    shell("modprobe loop")
    with TemporaryDirectory() as place:
        shell(f"mount -o {options} {device} {place}")
        try:
            yield place
        finally:
            shell(f"umount {place}")


@contextmanager
def file_on_ext4(mebibytes):
    """A raw image on a file system that takes direct I/O and allocates on write."""
    with null_block(2 * mebibytes) as device:
        shell(f"mke2fs -q -t ext4 {device}")
        with mounted(device) as place, image_file(mebibytes, place) as path:
            yield path
