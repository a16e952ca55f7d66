# SPDX-License-Identifier: GPL-2.0
"""A virtio-blk driver for a Qtest machine: one driver and queue, on each transport that QEMU has."""

import struct

from tests.lib.host import Failure, wait_until

READ, WRITE, SYNC, GET_ID, DISCARD, WRITE_ZEROES = 0, 1, 4, 8, 11, 13  # types of requests
OUT = {WRITE, DISCARD, WRITE_ZEROES}  # those whose data the device reads
OK, IOERR, UNSUPP = 0, 1, 2  # status of a request
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET = 1, 2, 4, 8, 64  # device status
VERSION_1, ACCESS_PLATFORM = 1 << 32, 1 << 33  # features
CONFIGURATION_CHANGED = 2  # interrupt status
NEXT, WRITABLE = 1, 2  # flags of a descriptor
SECTOR = 512
INTEGERS = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}


def enable_pci(machine, slot, registers, enabled):
    """Set base address registers of the device in a slot of the first bus, and what they enable."""
    for register, value in {**registers, 0x04: enabled}.items():
        machine.write_port(4, 0xCF8, 0x80000000 | slot << 11 | register)
        machine.write_port(4, 0xCFC, value)


class Transport:
    """The registers of a device, by the names that all transports share."""

    OFFERED: int
    ACCEPTED: int
    SELECT: int
    SIZE: int
    NOTIFY: int
    STATUS: int
    INTERRUPT: int
    CONFIG: int
    required = 0  # features that a driver accepts where they are offered

    def __init__(self, machine):
        self.machine = machine

    def get(self, size, register):
        raise NotImplementedError

    def set(self, size, register, value):
        raise NotImplementedError

    def get_config(self, size, offset):
        return self.get(size, self.CONFIG + offset)

    def set_config(self, size, offset, value):
        self.set(size, self.CONFIG + offset, value)

    def offered(self):
        return self.get(4, self.OFFERED)

    def accept(self, features):
        self.set(4, self.ACCEPTED, features)

    def status(self):
        return self.get(1, self.STATUS)

    def set_status(self, status):
        self.set(1, self.STATUS, status)

    def interrupt_status(self):
        return self.get(1, self.INTERRUPT)

    def queue_size(self, index):
        self.set(2, self.SELECT, index)
        return self.get(2, self.SIZE)

    def set_queue(self, index, descriptors, available, used):
        raise NotImplementedError

    def notify(self, index):
        self.set(2, self.NOTIFY, index)


class LegacyPci(Transport):
    """A legacy or transitional device in a slot of the PCI bus."""

    OFFERED, ACCEPTED, PFN, SIZE, SELECT, NOTIFY, STATUS, INTERRUPT, CONFIG = 0, 4, 8, 12, 14, 16, 18, 19, 20
    PORTS = 0xC000  # where the registers go; anything free will do

    def __init__(self, machine, slot):
        super().__init__(machine)
        enable_pci(machine, slot, {0x10: self.PORTS}, 0x5)

    def get(self, size, register):
        return self.machine.read_port(size, self.PORTS + register)

    def set(self, size, register, value):
        self.machine.write_port(size, self.PORTS + register, value)

    def set_queue(self, index, descriptors, available, used):
        self.set(2, self.SELECT, index)
        self.set(4, self.PFN, descriptors >> 12)


class Modern(Transport):
    """A modern device, with registers in memory: features in two halves, and an address for each part of a queue."""

    OFFERED_HALF: int
    ACCEPTED_HALF: int
    SET_SIZE: int
    ENABLE: int
    DESCRIPTORS: int
    AVAILABLE: int
    USED: int
    required = VERSION_1 | ACCESS_PLATFORM
    base: int  # of the registers

    def get(self, size, register):
        return struct.unpack(INTEGERS[size], self.machine.read(self.base + register, size))[0]

    def set(self, size, register, value):
        self.machine.write(self.base + register, struct.pack(INTEGERS[size], value))

    def offered(self):
        halves = []
        for half in 0, 1:
            self.set(4, self.OFFERED_HALF, half)
            halves.append(self.get(4, self.OFFERED))
        return halves[0] | halves[1] << 32

    def accept(self, features):
        for half in 0, 1:
            self.set(4, self.ACCEPTED_HALF, half)
            self.set(4, self.ACCEPTED, features >> 32 * half & 0xffffffff)
        self.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)

    def set_queue(self, index, descriptors, available, used):
        self.set(2, self.SET_SIZE, self.queue_size(index))
        for register, address in (self.DESCRIPTORS, descriptors), (self.AVAILABLE, available), (self.USED, used):
            for half in 0, 1:
                self.set(4, register + 4 * half, address >> 32 * half & 0xffffffff)
        self.set(2, self.ENABLE, 1)


class ModernPci(Modern):
    """A modern device in a slot of the PCI bus."""

    OFFERED_HALF, OFFERED, ACCEPTED_HALF, ACCEPTED, STATUS, SELECT, SIZE, ENABLE = 0, 4, 8, 12, 20, 22, 24, 28
    DESCRIPTORS, AVAILABLE, USED, INTERRUPT, CONFIG, NOTIFY = 32, 40, 48, 0x1000, 0x2000, 0x3000
    SET_SIZE = SIZE
    base = 0xE0000000  # anything free will do

    def __init__(self, machine, slot):
        super().__init__(machine)
        enable_pci(machine, slot, {0x20: self.base, 0x24: 0}, 0x6)

    def notify(self, index):
        self.set(2, self.NOTIFY + 4 * index, index)


class Mmio(Modern):
    """The first disk of a microvm machine; all registers before the configuration space have four bytes."""

    DEVICE_ID, OFFERED, OFFERED_HALF, ACCEPTED, ACCEPTED_HALF, SELECT, SIZE, SET_SIZE = (
        0x08, 0x10, 0x14, 0x20, 0x24, 0x30, 0x34, 0x38)
    ENABLE, NOTIFY, INTERRUPT, STATUS, DESCRIPTORS, AVAILABLE, USED, CONFIG = (
        0x44, 0x50, 0x60, 0x70, 0x80, 0x90, 0xA0, 0x100)
    TRANSPORTS = range(0xFEB00000, 0xFEB00000 + 24 * 512, 512)
    DISK = 2

    def __init__(self, machine):
        super().__init__(machine)
        for self.base in self.TRANSPORTS:
            if self.get(4, self.DEVICE_ID) == self.DISK:
                return
        raise Failure("no disk")

    def get(self, size, register):
        return super().get(4 if register < self.CONFIG else size, register)

    def set(self, size, register, value):
        super().set(4 if register < self.CONFIG else size, register, value)


class Driver:
    """The driver of the disk behind a transport."""

    def __init__(self, transport):
        self.transport = transport
        self.queues = []
        self.offered = transport.offered
        self.config, self.set_config = transport.get_config, transport.set_config
        self.status, self.set_status = transport.status, transport.set_status
        self.interrupt_status, self.queue_size = transport.interrupt_status, transport.queue_size

    def reset(self):
        self.set_status(0)

    def start(self, queues=1, features=0, status=DRIVER_OK):
        """Reset the device and set it up; status is what its status has beside the bits of all drivers at last."""
        self.reset()
        self.set_status(ACKNOWLEDGE | DRIVER)
        self.transport.accept(features | self.transport.required & self.offered())
        self.queues = [Queue(self, index) for index in range(queues)]
        self.set_status(self.status() | status)

    def move(self, machine):
        """The guest goes on in another QEMU, to which it has migrated."""
        self.transport.machine = machine


class Queue:
    """A queue with 64 KiB of memory: the ring, and from 32 KiB on the requests' headers, status and data."""

    def __init__(self, driver, index):
        self.driver, self.index = driver, index
        self.base = 0x100000 + index * 0x10000
        self.machine.write(self.base, bytes(0x10000))
        self.size = driver.queue_size(index)
        self.available = self.base + 16 * self.size
        self.used = (self.available + 6 + 2 * self.size + 4095) & ~4095
        self.submitted = 0
        driver.transport.set_queue(index, self.base, self.available, self.used)

    @property
    def machine(self):
        return self.driver.transport.machine

    def submit(self, kind, sector, data=b"", size=SECTOR):
        """Make a request available, without a kick, and return its place; up to 16 of a sector before reaping."""
        data = data or bytes(size)
        slot = self.submitted % 16
        area = self.base + 0x8000 + slot * 0x800
        self.machine.write(area, struct.pack("<IIQ", kind, 0, sector))
        self.machine.write(area + 0x10, b"\xff")
        self.machine.write(area + 0x200, data)
        first = 3 * slot
        writable = 0 if kind in OUT else WRITABLE
        for number, (address, length, flags) in enumerate([
                (area, 16, NEXT), (area + 0x200, len(data), NEXT | writable), (area + 0x10, 1, WRITABLE)]):
            self.machine.write(self.base + 16 * (first + number),
                               struct.pack("<QIHH", address, length, flags, first + number + 1))
        self.machine.write(self.available + 4 + 2 * (self.submitted % self.size), struct.pack("<H", first))
        self.submitted += 1
        self.machine.write(self.available + 2, struct.pack("<H", self.submitted))
        return area

    def kick(self):
        self.driver.transport.notify(self.index)

    def completed(self):
        return struct.unpack("<H", self.machine.read(self.used + 2, 2))[0]

    def wait(self):
        wait_until(lambda: self.completed() == self.submitted,
                   lambda: f"queue {self.index}: {self.completed()} of {self.submitted} requests completed"
                           f"{self.machine.evidence()}")

    def status(self, area):
        """The status of the request at this place."""
        return self.machine.read(area + 0x10, 1)[0]

    def data(self, area, size=SECTOR):
        return self.machine.read(area + 0x200, size)

    def request(self, kind, sector, data=b"", size=SECTOR):
        """Submit, kick, wait; return the status and the data."""
        area = self.submit(kind, sector, data, size)
        self.kick()
        self.wait()
        return self.status(area), self.data(area, size)
