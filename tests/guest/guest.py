# SPDX-License-Identifier: GPL-2.0
"""A guest: QEMU with disks, and a way to run shell scripts inside and to look at it from its host."""

import base64
import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.lib.host import PATIENCE, TREE, Failure, shell, tasks, wait_until, workers
from tests.lib.qmp import Qmp

VHOST = "vhost-blk-pci"
KERNEL_ARGUMENTS = "console=ttyS0 mitigations=off nokaslr loglevel=5"  # warnings and worse


@functools.cache
def cached(script):
    """The directory in the cache that one of the tree's scripts answers for."""
    return shell(f"{TREE}/{script}")


def load_kvm():
    if not Path("/dev/kvm").exists():
        shell("modprobe kvm-amd || modprobe kvm-intel")


def cpu_time(task):
    """CPU time in seconds of a thread, given by its directory in /proc."""
    return int((task / "schedstat").read_text().split()[0]) / 1e9


@dataclass
class Disk:
    """A disk of the guest: its backend in the host, and the device that shows it."""

    path: str
    serial: str
    device: str = VHOST
    queues: int = 1
    direct: bool = True
    read_only: bool = False
    options: str = ""  # more properties of the device
    node_options: str = ""  # and of the block node

    def is_vhost(self):
        return self.device.startswith("vhost-blk-")

    def size(self):
        with open(self.path, "rb") as backend:
            return backend.seek(0, os.SEEK_END)

    def arguments(self):
        driver = "host_device" if Path(self.path).is_block_device() else "file"
        onoff = {True: "on", False: "off"}
        node = (f"driver={driver},node-name={self.serial},filename={self.path}"
                f",cache.direct={onoff[self.direct]},read-only={onoff[self.read_only]}{self.node_options}")
        device = f"{self.device},id={self.serial},drive={self.serial},serial={self.serial},num-queues={self.queues}"
        if self.is_vhost():
            return ["-blockdev", node, "-device", device + self.options]
        # The way QEMU serves a disk best by itself.
        return ["-object", f"iothread,id=io-{self.serial}",
                "-blockdev", node + f",aio={'native' if self.direct else 'threads'}",
                "-device", f"{device},iothread=io-{self.serial}{self.options}"]


@dataclass
class Guest:
    """Use as "with Guest(...) as guest": boots on entry, and no process of it is left afterwards.

    An incoming one is the target of a migration, and waits for it on entry. When a guest has migrated, the target's
    Guest is the one to talk to; a script must not be running at that moment, save in the background.
    """

    disks: list
    vcpus: int = 1
    memory: str = "512M"
    boot_timeout: int = PATIENCE  # seconds
    machine: str = "pc"
    from_disk: bool = False  # leave it to the firmware to find a kernel
    kernel_arguments: str = ""
    arguments: tuple = ()  # more of QEMU's
    pass_fds: tuple = ()  # descriptors that QEMU inherits
    incoming: bool = False
    wrapper: tuple = ()  # words before QEMU's

    def command(self):
        qemu, image = cached("qemu-patches/build"), cached("tests/guest/image")
        command = [*self.wrapper, f"{qemu}/bin/qemu-system-x86_64",
                   "-machine", self.machine, "-accel", "kvm", "-cpu", "host", "-smp", str(self.vcpus),
                   "-m", self.memory, "-name", "guest,debug-threads=on", "-nodefaults", "-display", "none",
                   "-chardev", f"socket,id=console,path={self.directory}/sysrq,server=on,wait=off"
                               f",logfile={self.directory}/console",
                   "-chardev", f"socket,id=control,path={self.directory}/control,server=on,wait=off",
                   "-serial", "chardev:console", "-device", "isa-serial,index=1,chardev=control",
                   "-chardev", f"socket,id=qmp,path={self.directory}/qmp,server=on,wait=off",
                   "-mon", "qmp,mode=control", *self.arguments]
        if not self.from_disk:
            command += ["-kernel", f"{image}/vmlinux", "-initrd", f"{image}/initrd",
                        "-append", f"{KERNEL_ARGUMENTS} {self.kernel_arguments}"]
        if self.incoming:
            command += ["-incoming", "defer"]
        for disk in self.disks:
            command += disk.arguments()
        return command

    def __enter__(self):
        load_kvm()
        self.directory = tempfile.mkdtemp(prefix="guest.")
        self.errors = open(f"{self.directory}/errors", "w+")
        self.connections = ExitStack()
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=self.errors,
                                        stderr=self.errors, pass_fds=self.pass_fds)
        self.received = b""
        try:
            self.control = self._connect("control")
            self.control.settimeout(1)
            self.qmp = Qmp(self._connect("qmp"), self.evidence)
            self.qmp.negotiate()
            if not self.incoming:
                self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.directory)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.connections.close()
        self.errors.close()

    def die(self):
        """Kill QEMU, and return the lines that the guest had still said."""
        self.process.kill()
        self.process.wait()
        with suppress(ConnectionResetError):
            while chunk := self.control.recv(65536):
                self.received += chunk
        return self.received.decode(errors="replace").replace("\r", "").split("\n")

    def _connect(self, name):
        connection = self.connections.enter_context(socket.socket(socket.AF_UNIX))

        def connected():
            try:
                connection.connect(f"{self.directory}/{name}")
                return True
            except (FileNotFoundError, ConnectionRefusedError):
                if self.process.poll() is not None:
                    raise Failure(f"QEMU did not start{self.evidence()}") from None

        wait_until(connected, lambda: f"QEMU has no socket {name}{self.evidence()}")
        return connection

    def console(self):
        path = Path(self.directory, "console")
        return path.read_text(errors="replace") if path.exists() else ""

    def evidence(self):
        """What QEMU and the guest's console said, for a person who looks into a failure."""
        self.errors.seek(0)
        text = f"\n--- QEMU (exit status {self.process.poll()})\n{self.errors.read()}"
        return f"{text}--- the guest's console, last lines\n{self.console()[-10000:]}"

    def stuck(self):
        """What the guest's CPUs, its blocked tasks, and the host's threads that serve it are doing."""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as console:
            console.connect(f"{self.directory}/sysrq")
            for letter in "9lw":
                console.sendall(f"{letter}\n".encode())
                time.sleep(5)  # a serial console is slow

        def stack(task):
            return (task / "stack").read_text()

        threads = workers(self.process, stack) + tasks(self.threads(), ".*", stack)
        text = "".join(f"\n--- the host's thread {name}\n{text}" for name, text in threads)
        with suppress(Failure):
            text += f"\n--- the guest's CPUs\n{self.processors()}"
        for disk in self.disks:
            with suppress(Failure):
                text += f"\n--- {disk.serial}: {self.rings(disk)}"
        return text + self.evidence()

    def processors(self):
        """Where each CPU of the guest stands, and which interrupts it has pending and in service."""
        commands = ["info registers -a", *(f"info lapic {cpu}" for cpu in range(self.vcpus))]
        return "\n".join(self.qmp.execute("human-monitor-command", {"command-line": command}) for command in commands)

    def rings(self, disk):
        """Whose turn it is: the counters of a disk's queues, and what stands at the heads of their rings."""
        path = f"/machine/peripheral/{disk.serial}/virtio-backend"
        text = f"{self.stats(disk) if disk.is_vhost() else ''}"
        for queue in range(disk.queues):
            ring = self.qmp.execute("x-query-virtio-queue-status", {"path": path, "queue": queue})
            for name in "vring-avail", "vring-used":
                dump = self.qmp.execute("human-monitor-command", {"command-line": f"xp /2hx {ring[name]:#x}"})
                text += f"\nqueue {queue}, {name}, flags and index: {dump.strip()}"
        return text

    def _line(self, deadline):
        while b"\n" not in self.received:
            try:
                chunk = self.control.recv(65536)
            except TimeoutError:
                if "Kernel panic" in self.console():
                    raise Failure(f"the guest panicked{self.evidence()}") from None
                if time.monotonic() > deadline:
                    raise Failure(f"no answer in time; last words: {self.received!r}{self.stuck()}") from None
                continue
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                raise Failure(f"QEMU ended{self.evidence()}")
            self.received += chunk
        line, self.received = self.received.split(b"\n", 1)
        return line.decode(errors="replace").rstrip("\r")

    def wait_ready(self):
        """Wait until the guest has booted, for the first time or again; return what it had still said before."""
        deadline = time.monotonic() + self.boot_timeout
        lines = []
        # A reset may cut a line.
        while not (line := self._line(deadline)).endswith("ready"):
            lines.append(line)
        return lines

    def send(self, script):
        line = base64.b64encode(script.encode())
        # The guest's terminal buffers one page, and has no flow control.
        assert len(line) < 4000, "script too long"
        try:
            self.control.sendall(line + b"\n")
        except OSError:
            raise Failure(f"QEMU ended{self.evidence()}") from None

    def line(self):
        """The next line that a script prints which send() has started."""
        return self._line(time.monotonic() + PATIENCE)

    def run(self, script):
        """Run a script in the guest and return its output."""
        self.send(script)
        deadline = time.monotonic() + PATIENCE
        output, end = "", ""
        while not end:
            text, end, status = self._line(deadline).partition("\1exit ")
            output += text if end else text + "\n"
        if status != "0":
            first = script.strip().split("\n", 1)[0]
            raise Failure(f"in the guest, script \"{first}…\": exit status {status}\n{output}{self.evidence()}")
        return output

    def workers(self):
        """The threads that serve this guest's disks in the host's kernel, with the CPU time of each."""
        return workers(self.process, cpu_time)

    def stats(self, disk):
        """What the kernel counts of each queue of a disk."""
        return self.qmp.execute("qom-get", {"path": f"/machine/peripheral/{disk.serial}", "property": "stats"})

    def io_threads(self):
        """QEMU's own threads for disks, with the CPU time of each."""
        return tasks(self.threads(), "IO io-.*", cpu_time)

    def threads(self):
        """The directories in /proc of QEMU's own threads."""
        return Path(f"/proc/{self.process.pid}/task").glob("*")

    def save(self, path):
        """Stop the guest and save its state, for others that have its disks and are incoming to go on from."""
        self.qmp.execute("stop")
        self.qmp.execute("migrate", {"uri": f"file:{path}"})
        self.qmp.wait_migration("completed")

    def restore(self, path):
        self.qmp.execute("migrate-incoming", {"uri": f"file:{path}"})
        self.qmp.wait_migration("completed")
        self.qmp.execute("cont")
        self.qmp.wait_running()

    def reboot(self):
        self.send("reboot -f")
        self.wait_ready()

    def power_off(self):
        """Shut the guest down; QEMU has to end by itself and well."""
        self.send("poweroff -f")
        if self.wait_end():
            raise Failure(f"QEMU ended badly{self.evidence()}")

    def wait_end(self):
        """Wait for QEMU to end, and return its exit status."""
        wait_until(lambda: self.process.poll() is not None, lambda: f"QEMU does not end{self.stuck()}")
        return self.process.returncode
