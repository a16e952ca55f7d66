# SPDX-License-Identifier: GPL-2.0
"""Disks made in the test host: each is a context that gives a path and cleans up after itself."""

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.lib.host import shell, wait_until

NULL_BLK = Path("/sys/kernel/config/nullb")


@contextmanager
def null_disk(**attributes):
    """A null_blk with these attributes, see the kernel's Documentation/block/null_blk.rst."""
    if not NULL_BLK.exists():
        shell("modprobe configfs && modprobe null_blk nr_devices=0")
        shell("mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config")
    taken = {path.name for path in NULL_BLK.iterdir()}
    name = next(f"nullb{number}" for number in range(100) if f"nullb{number}" not in taken)
    device = NULL_BLK / name
    device.mkdir()
    try:
        for attribute, value in {"blocksize": 512, **attributes, "power": 1}.items():
            (device / attribute).write_text(str(value))
        yield f"/dev/{name}"
    finally:
        device.rmdir()


@contextmanager
def scsi_disk(options):
    """A disk of the module scsi_debug, loaded with these options; one at a time."""
    shell(f"modprobe sd_mod && modprobe scsi_debug delay=0 {options}")
    try:
        adapter = Path("/sys/bus/pseudo/drivers/scsi_debug/adapter0")
        found = wait_until(lambda: [path.name for path in adapter.glob("host*/target*/*/block/*")
                                    if Path("/dev", path.name).exists()], lambda: "scsi_debug has no disk")
        yield f"/dev/{found[0]}"
    finally:
        shell("rmmod scsi_debug")


@contextmanager
def loop_disk(image):
    """A block device over a file."""
    shell("modprobe loop")
    device = shell(f"losetup --find --show {image}")
    try:
        yield device
    finally:
        shell(f"losetup --detach {device}")


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
            # Else what was never flushed goes into the log before what waits for its thread.
            shell(f"sync /dev/mapper/{name} && dmsetup remove --retry {name}")


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
