# SPDX-License-Identifier: GPL-2.0
"""What the test cases share: how they are told apart from helpers, images, and steps that many of them take."""

from contextlib import contextmanager

from tests.lib import host
from tests.lib.disks import null_disk
from tests.lib.host import Failure, expect_text
from tests.qemu.machine import Driver, Machine
from tests.lib.qmp import Refused

SIZE = 4 << 20  # of the images, in bytes
SLOT = 4  # of the disk on the PCI bus
RO, FLUSH, MQ = 1 << 5, 1 << 9, 1 << 12  # virtio-blk's feature bits
OK, IOERR = 0, 1  # status of a request

TESTS = []


def test(function):
    TESTS.append(function)
    return function


@contextmanager
def refused(pattern):
    """What is inside is refused, with this error."""
    try:
        yield
    except Refused as error:
        expect_text(pattern, str(error))
    else:
        raise Failure(f"not refused, where the error should be {pattern!r}")


def make_image(name="disk.raw", size=SIZE):
    with open(name, "wb") as image:
        image.truncate(size)
    return name


def slow_block_device(milliseconds):
    """A block device whose requests take that long each, and overlap."""
    return null_disk(size=64, irqmode=2, completion_nsec=milliseconds * 1000000)


def node(path="disk.raw", driver="file", more=""):
    return ["-blockdev", f"driver={driver},node-name=disk,filename={path}{more}"]


def disk(more="", device="vhost-blk-pci"):
    return ["-device", f"{device},id=vhost,drive=disk,addr={SLOT}{more}"]


@contextmanager
def driven(*arguments, **options):
    """A machine with a disk, and the driver of that disk."""
    with Machine(*arguments, **options) as machine:
        yield machine, Driver(machine, SLOT)


def add_node(machine, **options):
    machine.execute("blockdev-add", {key.replace("_", "-"): value for key, value in options.items()})


def add_device(machine, driver="vhost-blk-pci", **properties):
    machine.execute("device_add", {"driver": driver, "drive": "disk", "id": "vhost", **properties})


def remove_device(machine, slot=SLOT):
    machine.execute("device_del", {"id": "vhost"})
    # The guest's part of an ACPI hot unplug is to eject the slot.
    machine.out(4, 0xAE08, 1 << slot)
    machine.wait_event("DEVICE_DELETED", device="vhost")


def workers(machine):
    """The names of the threads in the kernel that serve this machine's disks."""
    return [name for name, _ in host.workers(machine.process, lambda task: None)]
