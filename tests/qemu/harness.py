# SPDX-License-Identifier: GPL-2.0
"""What the tests share: images, the disk's arguments, and steps that many of them take."""

from contextlib import contextmanager

from tests.lib.disks import null_disk
from tests.lib.host import Failure, expect_soon, expect_text
from tests.lib.machine import Qtest
from tests.lib.qmp import Refused
from tests.lib.virtio_blk import Driver, LegacyPci

SIZE = 4 << 20  # of the images, in bytes
SLOT = 4  # of the disk on the PCI bus
QDEV = "/machine/peripheral/vhost"  # the disk's QOM path
RO, FLUSH, MQ = 1 << 5, 1 << 9, 1 << 12  # virtio-blk's feature bits


@contextmanager
def refused(pattern):
    """Expect that QEMU refuses a command inside, with this error."""
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
    with Qtest(*arguments, **options) as machine:
        yield machine, pci_driver(machine)


def pci_driver(machine):
    return Driver(LegacyPci(machine, SLOT))


def add_node(machine, **options):
    machine.execute("blockdev-add", {key.replace("_", "-"): value for key, value in options.items()})


def add_device(machine, driver="vhost-blk-pci", **properties):
    machine.execute("device_add", {"driver": driver, "drive": "disk", "id": "vhost", **properties})


def expect_path(machine, path, reason="^$"):
    """Expect that the kernel or QEMU comes to serve the disk, and that the reason why QEMU does has this text."""
    def look(name="data-path"):
        return machine.execute("qom-get", {"path": QDEV, "property": name})

    expect_soon("data path", look, path)
    expect_text(reason, look("data-path-reason"))


def worker_threads(machine):
    """The thread id of each worker, by its name."""
    return dict(machine.workers(lambda task: int(task.name)))


def drain(machine, size=SIZE):
    """Have the block layer drain the disk: a resize to the size that it has does that."""
    machine.execute("block_resize", {"node-name": "disk", "size": size})


def remove_device(machine, slot=SLOT, name="vhost"):
    machine.execute("device_del", {"id": name})
    # The guest's part of an ACPI hot unplug is to eject the slot.
    machine.write_port(4, 0xAE08, 1 << slot)
    machine.wait_event("DEVICE_DELETED", device=name)
