# SPDX-License-Identifier: GPL-2.0
"""A virtual IOMMU in front of the disk."""

import struct
import time

from tests.qemu.harness import OK, SLOT, disk, node, slow_block_device, test
from tests.lib.host import expect, expect_text, wait_until
from tests.qemu.machine import ACKNOWLEDGE, DRIVER, DRIVER_OK, READ, Driver, Machine

FEATURES_OK, NEEDS_RESET = 8, 64  # device status
VERSION_1, ACCESS_PLATFORM = 1 << 0, 1 << 1  # in the upper half of the features
VTD = ["-device", "intel-iommu,intremap=off,aw-bits=39"]
PLATFORM = ",iommu_platform=on,disable-legacy=on"


class PciDriver(Driver):
    """A driver of the modern kind, for the disk in a slot of a q35 machine; takes the registers of the legacy one."""

    BAR = 0xE0000000
    DEVICE_FEATURES_SELECT, DEVICE_FEATURES, FEATURES_SELECT, FEATURES = 0, 4, 8, 12
    ENABLE, DESCRIPTORS, AVAILABLE, USED, NOTIFIERS = 28, 32, 40, 48, 0x3000
    REGISTERS = {Driver.STATUS: 20, Driver.SELECT: 22, Driver.SIZE: 24}
    FORMATS = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}

    def __init__(self, machine, slot):
        self.machine = machine
        for register, value in (0x20, self.BAR), (0x24, 0), (0x04, 0x6):
            machine.out(4, 0xCF8, 0x80000000 | slot << 11 | register)
            machine.out(4, 0xCFC, value)

    def write(self, size, register, value):
        self.machine.write(self.BAR + register, struct.pack(self.FORMATS[size], value))

    def get(self, size, register):
        register = self.REGISTERS.get(register, register)
        return struct.unpack(self.FORMATS[size], self.machine.read(self.BAR + register, size))[0]

    def upper_features(self):
        self.write(4, self.DEVICE_FEATURES_SELECT, 1)
        return self.get(4, self.DEVICE_FEATURES)

    def set(self, size, register, value):
        if register == self.GUEST_FEATURES:
            for half, bits in enumerate([value, VERSION_1 | ACCESS_PLATFORM]):
                self.write(4, self.FEATURES_SELECT, half)
                self.write(4, self.FEATURES, bits)
            self.set(1, self.STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK)
        elif register == self.PFN:
            ring = value << 12
            size = self.get(2, self.SIZE)
            available = ring + 16 * size
            self.write(8, self.DESCRIPTORS, ring)
            self.write(8, self.AVAILABLE, available)
            self.write(8, self.USED, (available + 6 + 2 * size + 4095) & ~4095)
            self.write(2, self.ENABLE, 1)
        elif register == self.NOTIFY:
            self.write(2, self.NOTIFIERS + 4 * value, value)
        else:
            self.write(size, self.REGISTERS[register], value)

    def start(self, **options):
        super().start(status=ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK, **options)


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


@test
def iommu_platform():
    """iommu_platform=on is taken with each kind of IOMMU and without, and shown to the guest"""
    for iommu in VTD, ["-device", "intel-iommu,device-iotlb=on"], ["-device", "virtio-iommu-pci"], []:
        with Machine(*iommu, *node(), *disk(f"{PLATFORM},ats=on"), machine="q35") as machine:
            driver = PciDriver(machine, SLOT)
            expect("ACCESS_PLATFORM", driver.upper_features() & ACCESS_PLATFORM, ACCESS_PLATFORM)
    with Machine(*node(), "-device", "vhost-blk-device,drive=disk,iommu_platform=on", machine="microvm"):
        pass
    expect_text("VIRTIO_F_IOMMU_PLATFORM .* legacy",
                Machine(*VTD, *node(), *disk(",iommu_platform=on"), machine="q35").fails())


@test
def iommu_passes_addresses_through():
    """requests work while the IOMMU translates nothing yet, and in queues beside unused ones"""
    for iommu in VTD, ["-device", "virtio-iommu-pci"]:
        with Machine(*iommu, *node(), *disk(f"{PLATFORM},num-queues=3"), machine="q35") as machine:
            driver = PciDriver(machine, SLOT)
            driver.start(queues=2)
            for queue in driver.queues:
                for sector in range(20):
                    expect("status of a read", queue.request(READ, sector)[0], OK)


@test
def iommu_maps_nothing():
    """an address that the IOMMU does not map stops the disk until it is reset"""
    with Machine(*VTD, *node(), *disk(PLATFORM), machine="q35") as machine:
        driver, translation = PciDriver(machine, SLOT), Translation(machine)
        driver.start()
        queue = driver.queues[0]
        for sector in range(2):
            expect("status of a read", queue.request(READ, sector)[0], OK)
        translation.on()
        queue.submit(READ, 2)
        queue.kick()
        wait_until(lambda: driver.get(1, Driver.STATUS) & NEEDS_RESET,
                   lambda: f"the device does not ask for a reset; QEMU says: {machine.messages()}")
        expect("completed requests", queue.completed(), 2)
        expect_text("the guest's ring of virtqueue 0 is corrupt", machine.messages())
        driver.reset()
        translation.off()
        driver.start()
        expect("status of a read after the reset", driver.queues[0].request(READ, 1)[0], OK)


@test
def iommu_invalidated_before_stop():
    """no request is lost when QEMU stops after the kernel has lost all mappings"""
    with slow_block_device(500) as device, Machine(
            *VTD, *node(device, "host_device", ",cache.direct=on"), *disk(PLATFORM), machine="q35") as machine:
        driver, translation = PciDriver(machine, SLOT), Translation(machine)
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
