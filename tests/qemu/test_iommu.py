# SPDX-License-Identifier: GPL-2.0
"""A virtual IOMMU in front of the disk."""

import struct
import time

from tests.lib.host import expect, expect_text, wait_until
from tests.lib.machine import Qtest
from tests.lib.virtio_blk import ACCESS_PLATFORM, NEEDS_RESET, OK, READ, Driver, ModernPci
from tests.qemu.harness import SLOT, disk, node, slow_block_device

VTD = ["-device", "intel-iommu,intremap=off,aw-bits=39"]
PLATFORM = ",iommu_platform=on,disable-legacy=on"


def modern_driver(machine):
    return Driver(ModernPci(machine, SLOT))


class Translation:
    """The registers of the Intel IOMMU, with tables that map nothing, or the first 2 MiB to themselves."""

    BASE, COMMAND, ROOT_TABLE, IOTLB = 0xFED90000, 0x18, 0x20, 0xF8
    TABLE, CONTEXTS, LEVEL_3, LEVEL_2, LEVEL_1 = 0x80000, 0x81000, 0x82000, 0x83000, 0x84000
    READ_WRITE = 3
    SET_ROOT_TABLE, ENABLE = 1 << 30, 1 << 31
    INVALIDATE_ALL = 1 << 63 | 1 << 60

    def __init__(self, machine):
        self.machine = machine

    def command(self, bits):
        self.machine.write(self.BASE + self.COMMAND, struct.pack("<I", bits))

    def invalidate(self):
        self.machine.write(self.BASE + self.IOTLB, struct.pack("<Q", self.INVALIDATE_ALL))

    def on(self, identity=False):
        self.machine.write(self.TABLE, bytes(5 * 4096))
        if identity:
            self.machine.write(self.TABLE, struct.pack("<Q", self.CONTEXTS | 1))
            self.machine.write(self.CONTEXTS + 16 * (SLOT << 3), struct.pack("<QQ", self.LEVEL_3 | 1, 1 << 8 | 1))
            self.machine.write(self.LEVEL_3, struct.pack("<Q", self.LEVEL_2 | self.READ_WRITE))
            self.machine.write(self.LEVEL_2, struct.pack("<Q", self.LEVEL_1 | self.READ_WRITE))
            self.machine.write(self.LEVEL_1, struct.pack("<512Q", *(page << 12 | self.READ_WRITE
                                                                    for page in range(512))))
        self.machine.write(self.BASE + self.ROOT_TABLE, struct.pack("<Q", self.TABLE))
        self.command(self.SET_ROOT_TABLE)
        self.command(self.ENABLE)

    def off(self):
        self.command(0)


def test_iommu_platform():
    """iommu_platform=on is taken with each kind of IOMMU and without, and shown to the guest"""
    iommus: list[list[str]] = [VTD, ["-device", "intel-iommu,device-iotlb=on"], ["-device", "virtio-iommu-pci"], []]
    for iommu in iommus:
        with Qtest(*iommu, *node(), *disk(f"{PLATFORM},ats=on"), machine="q35") as machine:
            driver = modern_driver(machine)
            expect("ACCESS_PLATFORM", driver.offered() & ACCESS_PLATFORM, ACCESS_PLATFORM)
    with Qtest(*node(), "-device", "vhost-blk-device,drive=disk,iommu_platform=on", machine="microvm"):
        pass
    expect_text("VIRTIO_F_IOMMU_PLATFORM .* legacy",
                Qtest(*VTD, *node(), *disk(",iommu_platform=on"), machine="q35").fails())


def test_iommu_passes_addresses_through():
    """requests work while the IOMMU translates nothing yet, and in queues beside unused ones"""
    for iommu in VTD, ["-device", "virtio-iommu-pci"]:
        with Qtest(*iommu, *node(), *disk(f"{PLATFORM},num-queues=3"), machine="q35") as machine:
            driver = modern_driver(machine)
            driver.start(queues=2)
            for queue in driver.queues:
                for sector in range(20):
                    expect("status of a read", queue.request(READ, sector)[0], OK)


def test_iommu_maps_nothing():
    """an address that the IOMMU does not map stops the disk until it is reset"""
    with Qtest(*VTD, *node(), *disk(PLATFORM), machine="q35") as machine:
        driver, translation = modern_driver(machine), Translation(machine)
        driver.start()
        queue = driver.queues[0]
        for sector in range(2):
            expect("status of a read", queue.request(READ, sector)[0], OK)
        translation.on()
        queue.submit(READ, 2)
        queue.kick()
        wait_until(lambda: driver.status() & NEEDS_RESET,
                   lambda: f"the device does not ask for a reset{machine.evidence()}")
        expect("completed requests", queue.completed(), 2)
        expect_text("the guest's ring of virtqueue 0 is corrupt", machine.messages())
        driver.reset()
        translation.off()
        driver.start()
        expect("status of a read after the reset", driver.queues[0].request(READ, 1)[0], OK)


def test_iommu_invalidated_before_stop():
    """no request is lost when QEMU stops after the kernel has lost all mappings"""
    with slow_block_device(500) as device, Qtest(
            *VTD, *node(device, "host_device", ",cache.direct=on"), *disk(PLATFORM), machine="q35") as machine:
        driver, translation = modern_driver(machine), Translation(machine)
        driver.start()
        translation.on(identity=True)
        queue = driver.queues[0]
        for _ in range(4):
            for sector in range(4):
                queue.submit(READ, sector)
            queue.kick()
            time.sleep(0.3)
            translation.invalidate()
            machine.execute("stop")
            machine.execute("cont")
            queue.wait()
        expect("messages", machine.messages(), "")
