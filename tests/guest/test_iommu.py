# SPDX-License-Identifier: GPL-2.0
"""A virtual IOMMU in front of the disk: strict and lazy invalidation, reset under load, queues left unused."""

import re

import pytest

from tests.guest.checks import (check_console, check_left_nothing, check_workers, sum_in_guest, sum_in_host,
                                verify)
from tests.guest.guest import Disk, Guest
from tests.lib.disks import null_block
from tests.lib.host import Failure, expect

PROPERTIES = ",iommu_platform=on,disable-legacy=on"
LOAD = """
    fio --name=load --filename=/dev/vda --offset=32m --size=8m --rw=randrw --bssplit=4k/60:64k/40 --ioengine=libaio \
        --iodepth=32 --direct=1 --verify=crc32c --verify_fatal=1 LIMIT >/tmp/load.log 2>&1"""


def start_load(guest):
    guest.run(LOAD.replace("LIMIT", "--time_based --runtime=600") + " & sleep 1")


def check_translated(guest, kind):
    """The guest has put the disk behind its IOMMU, in that way, and told the device."""
    found = guest.run("""
        cd /sys/block/vda/device
        cut -c 34 features
        cat ../iommu_group/type""").split()
    expect("ACCESS_PLATFORM, type of the IOMMU's domain", found, ["1", kind])


def faults(guest):
    """How many denied accesses the guest's kernel has told of.

    QEMU looks once into the ring that the firmware has left, when the guest's IOMMU is on already: that is not ours.
    """
    return len(re.findall(r"DMAR: \[DMA", guest.console()))


def check_no_fault(guest, before, since=0):
    expect("denied accesses", faults(guest), before)
    check_console(guest, since=since)
    if re.search("vhost-blk: |Fail to", guest.evidence()):
        raise Failure(f"QEMU complains{guest.evidence()}")


@pytest.fixture(scope="module")
def path():
    with null_block(64) as path:
        yield path


def iommu_options(iommu, arguments):
    return {"machine": "q35,kernel-irqchip=split", "arguments": ("-device", iommu),
            "kernel_arguments": f"intel_iommu=on iommu.passthrough=0 {arguments}"}


@pytest.fixture(scope="module")
def strict(path, device):
    disk = Disk(path, "strict", device, 1, options=f"{PROPERTIES},ats=on")
    with Guest([disk], **iommu_options("intel-iommu,intremap=on,device-iotlb=on", "iommu.strict=1")) as guest:
        yield guest


@pytest.fixture(scope="module")
def lazy(path, device):
    disk = Disk(path, "lazy", device, 3, options=PROPERTIES)
    with Guest([disk], vcpus=2, **iommu_options("intel-iommu,intremap=on", "iommu.strict=0")) as guest:
        yield guest


def test_boot_strict(strict, kept):
    """strict, with a device IOTLB of PCI"""
    check_translated(strict, "DMA")
    kept.faults = faults(strict)


@pytest.mark.rounds(5)
def test_stopped_under_load(strict, kept, rounds):
    """QEMU is stopped and goes on under load"""
    strict.run(f"({LOAD.replace('LIMIT', '')}; echo $? >/tmp/status) & sleep 1")
    for _ in range(rounds):
        strict.execute("stop")
        strict.execute("cont")
    expect("status of fio", strict.run("while [ ! -s /tmp/status ]; do sleep 1; done; cat /tmp/status").strip(), "0")
    check_no_fault(strict, kept.faults)


@pytest.mark.rounds(1)
def test_reboot_under_load(strict, kept, number):
    before = sum_in_guest(strict, "vda")
    start_load(strict)
    strict.reboot()
    # A kernel that goes down takes the disk away from the load.
    kept.since = len(strict.console())
    expect("checksum of the disk after the reboot", sum_in_guest(strict, "vda"), before)


def test_fio_strict(strict, kept):
    kept.faults = faults(strict)
    verify(strict, ["vda"], seed=1)
    check_workers(strict)


def test_power_off(strict, kept, path):
    checksum = sum_in_guest(strict, "vda")
    strict.power_off()
    check_no_fault(strict, kept.faults, kept.since)
    expect("checksum of the disk", sum_in_host(path), checksum)


def test_boot_lazy(lazy):
    """lazy, two of three queues used"""
    check_translated(lazy, "DMA-FQ")
    expect("queues", lazy.run("ls /sys/block/vda/mq").split(), ["0", "1"])


def test_fio_lazy(lazy):
    before = faults(lazy)
    verify(lazy, ["vda"], seed=3)
    check_no_fault(lazy, before)


def test_killed_under_load(lazy):
    start_load(lazy)
    lazy.kill()
    check_left_nothing(lazy)
