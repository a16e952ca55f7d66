# SPDX-License-Identifier: GPL-2.0
"""A QEMU without a guest: its control socket, and the guest's ports and memory in the test's own hands."""

import socket
import struct
import subprocess
import tempfile

from tests.lib.host import PATIENCE, TREE, Failure, wait_until
from tests.lib.qmp import Qmp, spoken_to

PREFIX = subprocess.run([TREE / "qemu-patches/build"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


class Machine:
    """Use as "with Machine(...) as machine"; ends QEMU on exit, and wants it to end well."""

    def __init__(self, *arguments, accelerator="qtest", machine="pc", pass_fds=(), wrapper=()):
        control, control_end = socket.socketpair()
        qtest, qtest_end = socket.socketpair()
        command = [*wrapper, f"{PREFIX}/bin/qemu-system-x86_64", "-machine", machine, "-accel", accelerator,
                   "-nodefaults", "-display", "none", "-m", "64M",
                   "-chardev", f"socket,id=control,fd={control_end.fileno()}", "-mon", "control,mode=control",
                   *arguments]
        if accelerator == "qtest":
            command += ["-chardev", f"socket,id=qtest,fd={qtest_end.fileno()}", "-qtest", "chardev:qtest",
                        "-qtest-log", "none"]
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors,
                                        pass_fds=(control_end.fileno(), qtest_end.fileno(), *pass_fds))
        control_end.close()
        qtest_end.close()
        self.qmp = Qmp(control, self.messages)
        self.execute, self.wait_event = self.qmp.execute, self.qmp.wait_event
        self.qtest = qtest.makefile("rw")
        qtest.settimeout(PATIENCE)

    def __enter__(self):
        self.qmp.negotiate()
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None and self.process.poll() is None:
                self.execute("quit")
                self.wait_end(0)
        finally:
            self.process.kill()
            self.process.wait()

    def messages(self):
        self.errors.seek(0)
        return self.errors.read()

    def fails(self):
        """Wait for QEMU to refuse its command line, and return the error."""
        self.wait_end(1)
        return self.messages()

    def wait_end(self, status):
        """Wait for QEMU to end by itself, with this exit status."""
        wait_until(lambda: self.process.poll() is not None, lambda: f"QEMU does not end: {self.messages()}")
        if self.process.returncode != status:
            raise Failure(f"QEMU ended with {self.process.returncode} instead of {status}: {self.messages()}")

    def _guest(self, *words):
        with spoken_to(self.messages):
            self.qtest.write(" ".join(map(str, words)) + "\n")
            self.qtest.flush()
        while True:
            with spoken_to(self.messages):
                line = self.qtest.readline()
            if not line:
                raise Failure(f"QEMU ended with {self.process.poll()}: {self.messages()}")
            kind, *values = line.split()
            if kind == "OK":
                return values[0] if values else None
            if kind != "IRQ":
                raise Failure(f"qtest: {words}: {line}")

    def out(self, size, port, value):
        self._guest({1: "outb", 2: "outw", 4: "outl"}[size], hex(port), hex(value))

    def in_(self, size, port):
        return int(self._guest({1: "inb", 2: "inw", 4: "inl"}[size], hex(port)), 16)

    def write(self, address, data):
        self._guest("write", hex(address), hex(len(data)), "0x" + data.hex())

    def fill(self, address, size, byte):
        self._guest("memset", hex(address), hex(size), hex(byte))

    def read(self, address, size):
        return bytes.fromhex(self._guest("read", hex(address), hex(size))[2:])


READ, WRITE, GET_ID = 0, 1, 8  # types of virtio-blk requests
NEXT, WRITABLE = 1, 2  # flags of a descriptor
ACKNOWLEDGE, DRIVER, DRIVER_OK = 1, 2, 4  # device status
PORTS = 0xC000  # where the device's registers go; anything free will do


class Driver:
    """A virtio-blk driver of the legacy kind, for the disk in a slot of a pc machine's PCI bus.

    Each queue has 64 KiB of guest memory: the ring, and from 32 KiB on the requests' headers, status and data.
    """

    HOST_FEATURES, GUEST_FEATURES, PFN, SIZE, SELECT, NOTIFY, STATUS, CONFIG = 0, 4, 8, 12, 14, 16, 18, 20

    def __init__(self, machine, slot):
        self.machine = machine
        for register, value in (0x10, PORTS), (0x04, 0x5):
            machine.out(4, 0xCF8, 0x80000000 | slot << 11 | register)
            machine.out(4, 0xCFC, value)

    def get(self, size, register):
        return self.machine.in_(size, PORTS + register)

    def set(self, size, register, value):
        self.machine.out(size, PORTS + register, value)

    def reset(self):
        self.set(1, self.STATUS, 0)

    def start(self, queues=1, features=0, status=ACKNOWLEDGE | DRIVER | DRIVER_OK):
        self.reset()
        self.set(1, self.STATUS, ACKNOWLEDGE | DRIVER)
        self.set(4, self.GUEST_FEATURES, features)
        self.queues = [Queue(self, index) for index in range(queues)]
        self.set(1, self.STATUS, status)

    def move(self, machine):
        """The guest goes on in another QEMU, to which it has migrated."""
        self.machine = machine
        for queue in self.queues:
            queue.machine = machine

    def config(self, size, offset):
        return self.get(size, self.CONFIG + offset)


class Queue:
    SECTOR = 512

    def __init__(self, driver, index):
        self.driver, self.machine, self.index = driver, driver.machine, index
        self.base = 0x100000 + index * 0x10000
        self.machine.write(self.base, bytes(0x10000))
        driver.set(2, Driver.SELECT, index)
        self.size = driver.get(2, Driver.SIZE)
        self.available = self.base + 16 * self.size
        self.used = (self.available + 6 + 2 * self.size + 4095) & ~4095
        self.submitted = 0
        driver.set(4, Driver.PFN, self.base >> 12)

    def submit(self, kind, sector, data=b"", size=SECTOR):
        """Make one request of one sector available, without a kick; up to 16 of them before reaping."""
        slot = self.submitted % 16
        area = self.base + 0x8000 + slot * 0x800
        self.machine.write(area, struct.pack("<IIQ", kind, 0, sector))
        self.machine.write(area + 0x10, b"\xff")
        self.machine.write(area + 0x200, data or bytes(size))
        first = 3 * slot
        writable = 0 if kind == WRITE else WRITABLE
        for number, (address, length, flags) in enumerate([
                (area, 16, NEXT), (area + 0x200, size, NEXT | writable), (area + 0x10, 1, WRITABLE)]):
            self.machine.write(self.base + 16 * (first + number),
                               struct.pack("<QIHH", address, length, flags, first + number + 1))
        self.machine.write(self.available + 4 + 2 * (self.submitted % self.size), struct.pack("<H", first))
        self.submitted += 1
        self.machine.write(self.available + 2, struct.pack("<H", self.submitted))
        return area

    def kick(self):
        self.driver.set(2, Driver.NOTIFY, self.index)

    def completed(self):
        return struct.unpack("<H", self.machine.read(self.used + 2, 2))[0]

    def wait(self):
        wait_until(lambda: self.completed() == self.submitted,
                   lambda: f"queue {self.index}: {self.completed()} of {self.submitted} requests completed;"
                           f" QEMU says: {self.machine.messages()}")

    def request(self, kind, sector, data=b"", size=SECTOR):
        """Submit, kick, wait; return the status and the data."""
        area = self.submit(kind, sector, data, size)
        self.kick()
        self.wait()
        return self.machine.read(area + 0x10, 1)[0], self.machine.read(area + 0x200, size)
