# SPDX-License-Identifier: GPL-2.0
"""A guest: QEMU with disks, and a way to run shell scripts inside and to look at it from its host."""

import base64
import os
import shutil
import socket
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.lib.host import PATIENCE, Failure, cached, cpu_time, load_module, shell, tasks
from tests.lib.machine import Machine

VHOST = "vhost-blk-pci"
# Messages are warnings and worse. Without self-tests, certificates and keys a boot takes three quarters of the time.
KERNEL_ARGUMENTS = ("console=ttyS0 mitigations=off nokaslr loglevel=5 cryptomgr.notests"
                    " initcall_blacklist=crypto_kdf108_init,load_system_certificate_list,init_encrypted")


def load_kvm():
    if not Path("/dev/kvm").exists():
        shell("modprobe kvm-amd || modprobe kvm-intel")


def file_memory(directory, size, share):
    """QEMU's arguments to have the guest's memory in a file: the file itself, or a private copy of what it holds."""
    return ["-machine", "memory-backend=pc.ram",
            "-object", f"memory-backend-file,id=pc.ram,size={size},mem-path={directory}/memory,share={share}"]


def nested(options):
    """The arguments of blockdev-add that mean the same as these of -blockdev."""
    found: dict = {}
    for option in options.split(","):
        name, _, value = option.partition("=")
        *outer, last = name.split(".")
        place = found
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = {"on": True, "off": False}.get(value, value)
    return found


def drain(sock, seconds):
    """Take what comes meanwhile, since QEMU stops a serial port whose output nobody takes."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        sock.settimeout(left)
        with suppress(TimeoutError):
            if not sock.recv(65536):
                return


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

    def iothread(self):
        """The QEMU object that serves the disk, or an empty string if the kernel does."""
        return "" if self.is_vhost() else f"iothread,id=io-{self.serial}"

    def node(self):
        driver = "host_device" if Path(self.path).is_block_device() else "file"
        onoff = {True: "on", False: "off"}
        node = (f"driver={driver},node-name={self.serial},filename={self.path}"
                f",cache.direct={onoff[self.direct]},read-only={onoff[self.read_only]}{self.node_options}")
        return node if self.is_vhost() else node + f",aio={'native' if self.direct else 'threads'}"

    def device_arguments(self):
        device = f"{self.device},id={self.serial},drive={self.serial},serial={self.serial},num-queues={self.queues}"
        return device + ("" if self.is_vhost() else f",iothread=io-{self.serial}") + self.options

    def arguments(self):
        words = ["-blockdev", self.node(), "-device", self.device_arguments()]
        return words if self.is_vhost() else ["-object", self.iothread(), *words]


@dataclass
class Guest(Machine):
    """Use as "with Guest(...) as guest": the guest boots on entry, and no process of it is left afterwards.

    With a template, made by save_template() of a guest without disks, the guest goes on from there, and its disks are
    plugged. An incoming guest is the target of a migration. When a guest has migrated, the target's
    Guest is the one to talk to; a script must not be running at that moment, save in the background.
    """

    disks: list[Disk]
    vcpus: int = 1
    memory: str = field(default="512M", kw_only=True)
    boot_timeout: int = PATIENCE  # seconds
    from_disk: bool = False  # leave it to the firmware to find a kernel
    kernel_arguments: str = ""
    template: str = ""  # a directory
    incoming: bool = False

    def command(self):
        image = cached("tests/guest/image")
        command = [*super().command(), "-cpu", "host", "-smp", str(self.vcpus), "-name", "guest,debug-threads=on",
                   "-chardev", f"socket,id=console,path={self.directory}/sysrq,server=on,wait=off"
                               f",logfile={self.directory}/console",
                   "-serial", "chardev:console", "-device", "isa-serial,index=1,chardev=control"]
        if not self.from_disk:
            command += ["-kernel", f"{image}/vmlinux", "-initrd", f"{image}/initrd",
                        "-append", f"{KERNEL_ARGUMENTS} {self.kernel_arguments}"]
        if self.incoming or self.template:
            command += ["-incoming", "defer"]
        if self.template:
            command += file_memory(self.template, self.memory, "off")
        else:
            for disk in self.disks:
                command += disk.arguments()
        return command

    def start(self):
        load_kvm()
        if any(disk.is_vhost() for disk in self.disks):
            load_module()
        self.directory = tempfile.mkdtemp(prefix="guest.")
        self.control = self.channel("control")
        self.control.settimeout(1)
        self.received = b""
        super().start()

    def wait_started(self):
        super().wait_started()
        if self.template:
            self.capabilities(x_ignore_shared=True)
            self.restore(f"{self.template}/devices")
            self.capabilities(x_ignore_shared=False)
            for number, disk in enumerate(self.disks):
                self.plug(disk, f"vd{'abcd'[number]}")
        elif not self.incoming:
            self.wait_ready()

    def save_template(self, directory):
        """Save the state of a guest whose memory is a file in this directory, beside it."""
        self.capabilities(x_ignore_shared=True)
        self.save(f"{directory}/devices")

    def plug(self, disk, name):
        """Plug a disk, and wait until the guest has it under this name."""
        if disk.iothread():
            self.monitor(f"object_add {disk.iothread()}")
        self.execute("blockdev-add", nested(disk.node()))
        self.monitor(f"device_add {disk.device_arguments()}")
        self.run(f"until [ -b /dev/{name} ]; do sleep .1; done")

    def monitor(self, command):
        """Run a command of the human monitor that prints nothing unless it fails."""
        printed = self.execute("human-monitor-command", {"command-line": command})
        if printed:
            raise Failure(f"{command}: {printed}")

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.directory)

    def die(self):
        """Kill QEMU, and return the lines that the guest had still said."""
        self.process.kill()
        self.process.wait()
        with suppress(ConnectionResetError):
            while chunk := self.control.recv(65536):
                self.received += chunk
        return self.received.decode(errors="replace").replace("\r", "").split("\n")

    def console(self):
        path = Path(self.directory, "console")
        return path.read_text(errors="replace") if path.exists() else ""

    def evidence(self):
        """What QEMU and the guest's console said, for a person who looks into a failure."""
        return f"{super().evidence()}--- the guest's console, last lines\n{self.console()[-10000:]}"

    def stuck(self):
        """What the guest's CPUs, its blocked tasks, and the host's threads that serve it are doing."""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as console:
            console.connect(f"{self.directory}/sysrq")
            for letter in "9lw":
                console.sendall(f"{letter}\n".encode())
                drain(console, 5)  # a serial console is slow

        def stack(task):
            return (task / "stack").read_text()

        threads = self.workers(stack) + tasks(self.threads(), ".*", stack)
        text = "".join(f"\n--- the host's thread {name}\n{text}" for name, text in threads)
        with suppress(Failure):
            text += f"\n--- the guest's CPUs\n{self.processors()}"
        for disk in self.disks:
            with suppress(Failure):
                text += f"\n--- {disk.serial}: {self.rings(disk)}"
        return text + self.evidence()

    def processors(self):
        """Where each CPU of the guest stands, which interrupts are pending and in service, and whether the second
        serial port has data or waits for an interrupt (its registers IER and LSR)."""
        commands = ["info registers -a", *(f"info lapic {cpu}" for cpu in range(self.vcpus)), "info pic",
                    "i /1bx 0x2f9", "i /1bx 0x2fd"]
        return "\n".join(self.execute("human-monitor-command", {"command-line": command}) for command in commands)

    def rings(self, disk):
        """Whose turn it is: the counters of a disk's queues, and what stands at the heads of their rings."""
        path = f"/machine/peripheral/{disk.serial}/virtio-backend"
        text = f"{self.stats(disk) if disk.is_vhost() else ''}"
        for queue in range(disk.queues):
            ring = self.execute("x-query-virtio-queue-status", {"path": path, "queue": queue})
            for name in "vring-avail", "vring-used":
                dump = self.execute("human-monitor-command", {"command-line": f"xp /2hx {ring[name]:#x}"})
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

    def stats(self, disk):
        """What the kernel counts of each queue of a disk."""
        return self.execute("qom-get", {"path": f"/machine/peripheral/{disk.serial}", "property": "stats"})

    def io_threads(self):
        """QEMU's own threads for disks, with the CPU time of each."""
        return tasks(self.threads(), "IO io-.*", cpu_time)

    def reboot(self):
        self.send("reboot -f")
        self.wait_ready()

    def power_off(self):
        """Shut the guest down; QEMU has to end by itself and well."""
        self.send("poweroff -f")
        self.wait_end()
