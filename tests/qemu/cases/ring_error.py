# SPDX-License-Identifier: GPL-2.0
"""A ring that makes no sense: the disk stands still, says so once, and is good again after a reset."""

import struct
import time

from tests.qemu.harness import MQ, OK, disk, driven, node, test, workers
from tests.lib.host import Failure, expect, expect_soon, expect_text, wait_until
from tests.qemu.machine import ACKNOWLEDGE, DRIVER, DRIVER_OK, READ, Driver, Machine

FEATURES_OK, NEEDS_RESET = 8, 64  # device status
CONFIGURATION_CHANGED = 2  # interrupt status


class MmioDriver(Driver):
    """A driver of the modern kind, for the disk of a microvm machine; takes the registers of the legacy one."""

    DEVICE_ID, FEATURES, FEATURES_SELECT, QUEUE_SIZE, READY, INTERRUPTS = 0x08, 0x20, 0x24, 0x38, 0x44, 0x60
    DESCRIPTORS, AVAILABLE, USED = 0x80, 0x90, 0xA0
    REGISTERS = {Driver.SIZE: 0x34, Driver.SELECT: 0x30, Driver.NOTIFY: 0x50, Driver.STATUS: 0x70}

    def __init__(self, machine):
        self.machine = machine
        for self.base in range(0xFEB00000, 0xFEB00000 + 24 * 512, 512):
            if self.read(self.DEVICE_ID) == 2:
                return
        raise Failure("no disk")

    def read(self, register):
        return struct.unpack("<I", self.machine.read(self.base + register, 4))[0]

    def write(self, register, value):
        self.machine.write(self.base + register, struct.pack("<I", value))

    def get(self, size, register):
        return self.read(self.REGISTERS[register])

    def set(self, size, register, value):
        if register == self.GUEST_FEATURES:
            for half in value, 1:  # and VIRTIO_F_VERSION_1
                self.write(self.FEATURES_SELECT, half is not value)
                self.write(self.FEATURES, half)
            self.set(1, self.STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK)
        elif register == self.PFN:
            ring = value << 12
            size = self.get(2, self.SIZE)
            available = ring + 16 * size
            self.write(self.QUEUE_SIZE, size)
            for place, address in ((self.DESCRIPTORS, ring), (self.AVAILABLE, available),
                                   (self.USED, (available + 6 + 2 * size + 4095) & ~4095)):
                self.write(place, address)
                self.write(place + 4, 0)
            self.write(self.READY, 1)
        else:
            self.write(self.REGISTERS[register], value)


def corrupt(queue):
    """Make a request available whose number is none."""
    queue.machine.write(queue.available + 4 + 2 * (queue.submitted % queue.size), struct.pack("<H", queue.size))
    queue.machine.write(queue.available + 2, struct.pack("<H", queue.submitted + 1))
    queue.kick()


def wait_told(machine, times):
    """Wait until QEMU has said so often that a ring is corrupt; what follows at once may not say it again."""
    def told():
        return machine.messages().count("corrupt")

    wait_until(lambda: told() >= times, lambda: f"told {told()} times instead of {times}")
    time.sleep(0.2)
    expect("messages", told(), times)


@test
def corrupt_ring():
    """a corrupt ring is reported once and stops its disk, but no other; a reset makes it good"""
    other = ["-blockdev", "driver=null-co,node-name=nothing", "-device", "virtio-blk-pci,drive=nothing"]
    with driven(*node(), *disk(",num-queues=2"), *other) as (machine, driver):
        for times in 1, 2:
            driver.start(queues=2, features=MQ)
            first, second = driver.queues
            expect("status of a read", first.request(READ, 0)[0], OK)
            corrupt(second)
            wait_told(machine, times)
            expect_text("vhost-blk: 'disk': .*ring of virtqueue 1 is corrupt", machine.messages())
            expect_soon("workers", lambda: workers(machine), [])
            corrupt(second)
            first.submit(READ, 0)
            first.kick()
            machine.execute("stop")
            machine.execute("cont")
            wait_told(machine, times)
            expect("completed on the other ring", first.completed(), 1)
        machine.execute("system_reset")
        machine.wait_event("RESET")
        driver.__init__(machine, 4)
        driver.start()
        expect("status of a read after the machine's reset", driver.queues[0].request(READ, 0)[0], OK)
        wait_told(machine, 2)


@test
def corrupt_ring_tells_the_guest():
    """a modern driver sees DEVICE_NEEDS_RESET and an interrupt for it"""
    with Machine("-global", "virtio-mmio.force-legacy=false", *node(), "-device", "vhost-blk-device,drive=disk",
                 machine="microvm") as machine:
        driver = MmioDriver(machine)
        running = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK
        driver.start(status=running)
        expect("status of a read", driver.queues[0].request(READ, 0)[0], OK)
        expect("device status", driver.get(1, driver.STATUS), running)
        corrupt(driver.queues[0])
        wait_told(machine, 1)
        expect("device status", driver.get(1, driver.STATUS), running | NEEDS_RESET)
        expect("change of the configuration", driver.read(driver.INTERRUPTS) & CONFIGURATION_CHANGED,
               CONFIGURATION_CHANGED)
        driver.start(status=running)
        expect("device status", driver.get(1, driver.STATUS), running)
        expect("status of a read", driver.queues[0].request(READ, 0)[0], OK)
