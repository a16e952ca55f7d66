# SPDX-License-Identifier: GPL-2.0
"""Block devices made in the test host: each is a context that gives its path and takes it away again."""

from contextlib import contextmanager
from pathlib import Path

from host import TREE, shell, wait_until

NULL_BLK = Path("/sys/kernel/config/nullb")
ERASED = 0xe5  # each byte of an erasable_disk() that was erased securely


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
def erasable_disk(parameters):
    """The disk of tests/modules/erasable.c, with these parameters; one at a time."""
    shell(f"{TREE}/tests/lib/load-module tests/erasable {parameters}")
    try:
        yield "/dev/erasable"
    finally:
        shell("rmmod erasable")


@contextmanager
def loop_disk(image):
    """A block device over a file."""
    shell("modprobe loop")
    device = shell(f"losetup --find --show {image}")
    try:
        yield device
    finally:
        shell(f"losetup --detach {device}")
