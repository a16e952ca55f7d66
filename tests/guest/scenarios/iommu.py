# SPDX-License-Identifier: GPL-2.0
"""A virtual IOMMU in front of the disk: strict and lazy invalidation, reset under load, queues left unused."""

import re
from contextlib import ExitStack

from tests.lib import disks as backend
from tests.guest.checks import check_console, check_left_nothing, check_workers, sum_in_guest, sum_in_host, verify
from tests.guest.guest import VHOST, Disk, Guest
from tests.lib.host import Failure, expect, load_module

PROPERTIES = ",iommu_platform=on,disable-legacy=on"
LOAD = """
    fio --name=load --filename=/dev/vda --offset=32m --size=8m --rw=randrw --bssplit=4k/60:64k/40 --ioengine=libaio \
        --iodepth=32 --direct=1 --verify=crc32c --verify_fatal=1 LIMIT >/tmp/load.log 2>&1"""


def start_load(guest):
    guest.run(LOAD.replace("LIMIT", "--time_based --runtime=600") + " & sleep 1")


def iommu_guest(disk, vcpus, iommu, arguments):
    return Guest([disk], vcpus=vcpus, machine="q35,kernel-irqchip=split", arguments=("-device", iommu),
                 kernel_arguments=f"intel_iommu=on iommu.passthrough=0 {arguments}")


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


def run(results, device):
    with ExitStack() as stack:
        path = stack.enter_context(backend.null_block(64))
        if device == VHOST:
            load_module()

        disk = Disk(path, "strict", device, 1, options=f"{PROPERTIES},ats=on")
        with results.check("iommu: boot, strict, with a device IOTLB of PCI"):
            guest = stack.enter_context(iommu_guest(disk, 1, "intel-iommu,intremap=on,device-iotlb=on",
                                                    "iommu.strict=1"))
            check_translated(guest, "DMA")
            before_load = faults(guest)
        with results.check("iommu: QEMU stopped and continued under load"):
            guest.run(f"({LOAD.replace('LIMIT', '')}; echo $? >/tmp/status) & sleep 1")
            for _ in range(results.rounds(5)):
                guest.qmp.execute("stop")
                guest.qmp.execute("cont")
            expect("status of fio",
                   guest.run("while [ ! -s /tmp/status ]; do sleep 1; done; cat /tmp/status").strip(), "0")
            check_no_fault(guest, before_load)
        for _ in range(results.rounds(1)):
            with results.check("iommu: reboot under load"):
                before = sum_in_guest(guest, "vda")
                start_load(guest)
                guest.reboot()
                # A kernel that goes down takes the disk away from the load.
                since = len(guest.console())
                expect("checksum of the disk after the reboot", sum_in_guest(guest, "vda"), before)
        with results.check("iommu: fio, strict"):
            before_load = faults(guest)
            verify(guest, ["vda"], seed=1)
            check_workers(guest)
        with results.check("iommu: power off"):
            checksum = sum_in_guest(guest, "vda")
            guest.power_off()
            check_no_fault(guest, before_load, since)
            expect("checksum of the disk", sum_in_host(path), checksum)

        disk = Disk(path, "lazy", device, 3, options=PROPERTIES)
        with results.check("iommu: boot, lazy, two of three queues used"):
            guest = stack.enter_context(iommu_guest(disk, 2, "intel-iommu,intremap=on", "iommu.strict=0"))
            check_translated(guest, "DMA-FQ")
            expect("queues", guest.run("ls /sys/block/vda/mq").split(), ["0", "1"])
        with results.check("iommu: fio, lazy"):
            before_load = faults(guest)
            verify(guest, ["vda"], seed=3)
            check_no_fault(guest, before_load)
        with results.check("iommu: QEMU killed under load"):
            start_load(guest)
            guest.kill()
            check_left_nothing(guest)
