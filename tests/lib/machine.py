# SPDX-License-Identifier: GPL-2.0
"""A QEMU: its command line, its control socket, its threads and its end."""

import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.lib.host import PATIENCE, Failure, cached, cpu_time, wait_until, workers
from tests.lib.qmp import Qmp, as_failure


@dataclass(kw_only=True)
class Machine:
    """Use as "with Machine(...) as machine": QEMU starts on entry, and has ended at the exit."""

    arguments: Sequence[str] = ()  # QEMU's, after those that the fields below stand for
    machine: str = "pc"
    accelerator: str = "kvm"
    memory: str = "64M"
    wrapper: Sequence[str] = ()  # words before QEMU's
    pass_fds: Sequence[int] = ()  # descriptors that QEMU inherits
    channels: dict[str, socket.socket] = field(init=False, default_factory=dict)  # QEMU's ends

    def command(self):
        channels = [word for name, end in self.channels.items()
                    for word in ("-chardev", f"socket,id={name},fd={end.fileno()}")]
        return [*self.wrapper, f"{cached('qemu-patches/build')}/bin/qemu-system-x86_64", "-machine", self.machine,
                "-accel", self.accelerator, "-m", self.memory, "-nodefaults", "-display", "none",
                *channels, "-mon", "qmp,mode=control", *self.arguments]

    def channel(self, name):
        """Return a socket whose other end is QEMU's character device of that name."""
        ours, self.channels[name] = socket.socketpair()
        ours.settimeout(PATIENCE)
        return ours

    def start(self):
        self.qmp = Qmp(self.channel("qmp"), self.evidence)
        self.execute, self.wait_event = self.qmp.execute, self.qmp.wait_event
        self.errors: IO = tempfile.TemporaryFile("w+")
        fds = [*(end.fileno() for end in self.channels.values()), *self.pass_fds]
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=self.errors,
                                        stderr=self.errors, pass_fds=fds)
        for end in self.channels.values():
            end.close()

    def wait_started(self):
        self.qmp.negotiate()

    def __enter__(self):
        self.start()
        try:
            self.wait_started()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, *_):
        """Have QEMU end well, if nothing has failed."""
        try:
            if kind is None and self.process.poll() is None:
                self.quit()
        finally:
            self.kill()

    def quit(self):
        self.execute("quit")
        self.wait_end()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.qmp.close()

    def wait_end(self, status=0):
        """Wait for QEMU to end by itself, with this exit status."""
        wait_until(lambda: self.process.poll() is not None, lambda: f"QEMU does not end{self.stuck()}")
        if self.process.returncode != status:
            raise Failure(f"QEMU ended with {self.process.returncode} instead of {status}{self.evidence()}")

    def messages(self):
        self.errors.seek(0)
        return self.errors.read()

    def evidence(self):
        """What QEMU said, for a person who looks into a failure."""
        return f"\n--- QEMU (exit status {self.process.poll()})\n{self.messages()}"

    def stuck(self):
        """What can be found out about a QEMU that does not do what it should."""
        return self.evidence()

    def threads(self):
        """The directories in /proc of QEMU's own threads."""
        return Path(f"/proc/{self.process.pid}/task").glob("*")

    def workers(self, look=cpu_time):
        """The workers that serve this QEMU's disks in the host's kernel, and what look() finds at each."""
        return workers(self.process, look)

    def worker_names(self):
        return [name for name, _ in self.workers()]

    def capabilities(self, **states):
        """Switch capabilities of migration on or off."""
        self.execute("migrate-set-capabilities", {"capabilities": [
            {"capability": name.replace("_", "-"), "state": state} for name, state in states.items()]})

    def save(self, path):
        """Stop the machine and save its state."""
        self.execute("stop")
        self.execute("migrate", {"uri": f"file:{path}"})
        self.qmp.wait_migration("completed")

    def restore(self, path):
        """Go on from a saved state, in a QEMU with the same devices that was started with "-incoming defer"."""
        self.execute("migrate-incoming", {"uri": f"file:{path}"})
        self.qmp.wait_migration("completed")
        self.execute("cont")
        self.qmp.wait_running()


class Qtest(Machine):
    """A QEMU without a guest, whose ports and memory are in the test's own hands."""

    def __init__(self, *arguments, **options):
        super().__init__(arguments=arguments, accelerator="qtest", **options)

    def command(self):
        return [*super().command(), "-qtest", "chardev:qtest", "-qtest-log", "none"]

    def start(self):
        self.qtest = self.channel("qtest").makefile("rw")
        super().start()

    def fails(self):
        """Start QEMU unless it runs, wait for it to refuse its command line or state, and return the error."""
        if not self.channels:
            self.start()
        self.wait_end(1)
        return self.messages()

    def _guest(self, *words):
        with as_failure(self.evidence):
            self.qtest.write(" ".join(map(str, words)) + "\n")
            self.qtest.flush()
        while True:
            with as_failure(self.evidence):
                line = self.qtest.readline()
            if not line:
                raise Failure(f"QEMU ended{self.evidence()}")
            kind, *values = line.split()
            if kind == "OK":
                return values[0] if values else ""
            if kind != "IRQ":
                raise Failure(f"qtest: {words}: {line}")

    def step_clock(self, seconds):
        self._guest("clock_step", seconds * 10**9)

    def write_port(self, size, port, value):
        self._guest({1: "outb", 2: "outw", 4: "outl"}[size], hex(port), hex(value))

    def read_port(self, size, port):
        return int(self._guest({1: "inb", 2: "inw", 4: "inl"}[size], hex(port)), 16)

    def write(self, address, data):
        self._guest("write", hex(address), hex(len(data)), "0x" + data.hex())

    def fill(self, address, size, byte):
        self._guest("memset", hex(address), hex(size), hex(byte))

    def read(self, address, size):
        return bytes.fromhex(self._guest("read", hex(address), hex(size))[2:])
