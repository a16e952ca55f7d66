# SPDX-License-Identifier: GPL-2.0
"""Time fio in a guest whose disks are all the same one of the host, each served in another way; runs in the test host.

Writes one JSON document: how each contestant was run, and what each of its runs gave. In each round all contestants
do a job one after the other, so that a busy moment of the machine meets all of them.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.backends import BACKENDS, FILE_MEBIBYTES
from bench.contestants import GUEST_VARIANTS, NO_POLLING, command_line
from tests.guest.guest import Disk, Guest, cached
from tests.lib.host import expect_text, load_module, shell, tasks
from bench.jobs import JOBS, random_name
from bench.measure import TIMED, fio_figures, fio_options, storage_daemon

QUEUES_MAX = 2
QUEUE_SIZE = 256
MEMORY = "512M"
FIRST_SLOT = 8  # of the guest's PCI bus
TARGET = "/sys/kernel/config/target"
INTERRUPT_CONTROLLERS = range(0xfec00000, 0xff000000)
# What a contestant's name ends with, and the properties that make its iothreads so.
POLLING = {"": "", NO_POLLING: ",poll-max-ns=0"}
FEW = 100  # requests of the shorter run of fio, when requests are counted
MAIN = [random_name("read", depth, queues) for queues in (1, 2) for depth in (1, 32)]

# Prints where sysfs has the disk that is in a slot. A SCSI disk takes a moment to appear.
FIND_DISK = """# find the disk in slot {slot:#x}
for try in $(seq 100); do
	realpath /sys/block/* | grep /0000:00:{slot:02x}.0/ && exit
	sleep .1
done
exit 1
"""

FIO = """{command} --output=/tmp/fio || {{
	cat /tmp/fio
	exit 1
}}
"""

# The serial port is slow: of what fio said only what is looked at.
MIXED = """tr -d ' \n' </tmp/fio | sed 's/.*"mixed"://; s/,"lat_ns".*/}/'
"""

# Prints the interrupts and the requests of the disk.
COUNT = """# count
awk '$NF ~ /^{virtio}-/ {{ for (i = 2; i < 2 + {cpus}; i++) n += $i }} END {{ print n }}' /proc/interrupts
awk '{{ print $1 + $5 }}' {place}/stat
"""


@dataclass
class ServedDisk(Disk):
    """A disk of a guest, in the words that QEMU is told."""

    words: tuple = ()

    def arguments(self):
        return self.words


def node(name, path, more=""):
    """A block node; the disks of other contestants have the same file."""
    driver = "host_device" if Path(path).is_block_device() else "file"
    return ["-blockdev", f"driver={driver},node-name={name},filename={path},cache.direct=on,locking=off{more}"]


def geometry(path, queues, slot):
    """Properties that each virtio-blk disk has, with the smallest blocks that direct I/O takes."""
    block = int(shell(f"blockdev --getss {path}")) if Path(path).is_block_device() else 512
    return {"num-queues": queues, "queue-size": QUEUE_SIZE, "logical_block_size": block, "physical_block_size": block,
            "addr": f"{slot:#x}"}


def device(driver, name, properties):
    return ["-device", ",".join([driver, f"id={name}", f"drive={name}",
                                 *(f"{key}={value}" for key, value in properties.items())])]


def vhost_blk(properties):
    return lambda name, path, queues, slot: [
        *node(name, path),
        *device("vhost-blk-pci", name, {"vhost": "force", **geometry(path, queues, slot), **properties})]


def virtio_blk(aio, iothread=""):
    """Such a disk, whose iothread has these properties."""
    return lambda name, path, queues, slot: [
        "-object", f"iothread,id=io-{name}{iothread}", *node(name, path, f",aio={aio}"),
        *device("virtio-blk-pci", name, {"iothread": f"io-{name}", **geometry(path, queues, slot)})]


def mapped_virtio_blk(aio, iothread=""):
    """Such a disk with an iothread of these properties for each queue."""
    def arguments(name, path, queues, slot):
        threads = [f"io-{name}-{queue}" for queue in range(queues)]
        properties = {"driver": "virtio-blk-pci", "id": name, "drive": name, **geometry(path, queues, slot),
                      "iothread-vq-mapping": [{"iothread": thread} for thread in threads]}
        objects = [word for thread in threads for word in ("-object", f"iothread,id={thread}{iothread}")]
        return [*objects, *node(name, path, f",aio={aio}"), "-device", json.dumps(properties)]
    return arguments


def vhost_user_blk(address):
    return lambda name, path, queues, slot: [
        "-chardev", f"socket,id=socket-{name},path={address}",
        "-device", f"vhost-user-blk-pci,id={name},chardev=socket-{name},num-queues={queues},queue-size={QUEUE_SIZE}"
        f",addr={slot:#x}"]


def scsi_port(number):
    return f"naa.50014050000000{number:02x}"


def vhost_scsi(number):
    """A disk whose port of the host's SCSI target has this number."""
    return lambda name, path, queues, slot: [
        "-device", f"vhost-scsi-pci,id={name},wwpn={scsi_port(number)},num_queues={queues},virtqueue_size={QUEUE_SIZE}"
        f",addr={slot:#x}"]


@contextmanager
def scsi_target(path, ports=1):
    """The host's SCSI target with the disk as the only unit of each port: the commands that made it."""
    if Path(path).is_block_device():
        store = f"{TARGET}/core/iblock_0"
        control = f"udev_path={path}"
    else:
        store = f"{TARGET}/core/fileio_0"
        control = f"fd_dev_name={path},fd_dev_size={os.stat(path).st_size},fd_buffered_io=1,fd_async_io=1"
    commands = ["modprobe -a target_core_mod vhost_scsi",
                f"mkdir -p {store}/disk && echo {control} >{store}/disk/control && echo 1 >{store}/disk/enable"]
    removal = f"rmdir {store}/disk {store}"
    for name in map(scsi_port, range(ports)):
        port = f"{TARGET}/vhost/{name}"
        group, unit = f"{port}/tpgt_1", f"{port}/tpgt_1/lun/lun_0"
        commands.append(f"mkdir -p {unit} && ln -s {store}/disk {unit}/disk && echo {name} >{group}/nexus")
        removal = f"rm {unit}/disk && echo NULL >{group}/nexus && rmdir {unit} {group} {port} && {removal}"
    for command in commands:
        shell(command)
    try:
        yield commands
    finally:
        shell(removal)


@contextmanager
def histogram(event, key):
    """Let the host's kernel count what a tracepoint's key is: a function that reads how often it was what."""
    directory = Path("/sys/kernel/tracing/events", event)
    trigger = f"hist:keys={key}:size=4096"
    (directory / "trigger").write_text(trigger)
    try:
        yield lambda: {int(value): int(count) for value, count in
                       re.findall(rf"{key}: *(\d+) }} hitcount: *(\d+)", (directory / "hist").read_text())}
    finally:
        (directory / "trigger").write_text(f"!{trigger}")


def wakeups():
    """Of the host, while they are counted."""
    return sum(int(cpu) for cpu in re.findall(r"^cpu\d+(?: \d+){4} (\d+)", Path("/proc/schedstat").read_text(),
                                              re.MULTILINE))


@contextmanager
def wakeups_counted():
    switch = Path("/proc/sys/kernel/sched_schedstats")
    switch.write_text("1")
    try:
        yield
    finally:
        switch.write_text("0")


def fio_command(place, job, limit):
    return ["fio", "--name=bench", "--ioengine=libaio", f"--filename=/dev/{Path(place).name}", *job.options.split(),
            f"--size={FILE_MEBIBYTES}m", *limit, *fio_options(job.queues), "--eta=never",
            f"--cpus_allowed=0-{job.queues - 1}", "--cpus_allowed_policy=split"]


def time_job(guest, place, job, limit=TIMED):
    """What fio measures on the disk that the guest's sysfs has at this place."""
    return fio_figures(json.loads(guest.run(FIO.format(command=" ".join(fio_command(place, job, limit))) + MIXED)))


def kvm_counts(guest):
    """The directory where the host's KVM counts events of the guest."""
    return next(Path("/sys/kernel/debug/kvm").glob(f"{guest.process.pid}-*"))


def count_job(guest, daemons, place, job, requests, mark):
    """What a request makes happen, by a longer run of fio less a shorter one, so that fio's start does not count."""
    kvm = kvm_counts(guest)
    script = COUNT.format(virtio=expect_text(r"virtio\d+", place)[0], cpus=guest.vcpus, place=place)

    def guest_counts():
        interrupts, served = guest.run(script).split()
        return Counter(interrupts=int(interrupts), requests=int(served))

    def host_counts():
        # Not those of the vCPUs, nor of the main threads, which have the serial port to serve.
        threads = [thread for process in (guest.process, *daemons) for _, thread in
                   tasks(Path(f"/proc/{process.pid}/task").iterdir(), "(?!CPU ).*", lambda task: int(task.name))
                   if thread != process.pid]
        calls = system_calls()
        return Counter(
            # The processor may tell KVM where a write went, so that nothing has to be emulated.
            kicks=sum(fast_mmio().values()) + sum(count for address, count in mmio().items()
                                                  if address not in INTERRUPT_CONTROLLERS),
            exits=int((kvm / "exits").read_text()),
            system_calls=sum(calls.get(thread, 0) for thread in threads),
            switches=int(expect_text(r"(?m)^ctxt (\d+)", Path("/proc/stat").read_text())[1]),
            wakeups=wakeups())

    total: Counter = Counter()
    runs: list[tuple[int, Callable]] = [(FEW, total.subtract), (FEW + requests, total.update)]
    with wakeups_counted(), histogram("raw_syscalls/sys_enter", "common_pid") as system_calls, \
            histogram("kvm/kvm_mmio", "gpa") as mmio, histogram("kvm/kvm_fast_mmio", "gpa") as fast_mmio:
        for number, add in runs:
            command = " ".join(fio_command(place, job, [f"--number_ios={number}"]))
            # Beforehand, since the serial port costs more the more goes over it.
            guest.run(f"cat >/tmp/job <<'END'\n{FIO.format(command=command)}END\n")
            before = guest_counts()
            before.update(host_counts())
            mark()
            guest.run("sh /tmp/job")
            mark()
            after = host_counts()
            after.update(guest_counts())
            after.subtract(before)
            add(after)
    requests = total.pop("requests")
    return {"requests": requests, **{name: count / requests for name, count in total.items()}}


@dataclass
class Contestant:
    """A way to serve a disk, which arguments() of its name, backend, queues and slot tell QEMU."""

    arguments: Callable
    path: str
    device: str = "virtio-blk-pci"
    queues_min: int = 1


def contestants_for(path, compared, addresses=None, guest=0):
    """By name; addresses are those of this guest's storage daemons, by how they poll, if there are any."""
    ways = {name: Contestant(vhost_blk(properties), path, "vhost-blk-pci")
            for name, properties in GUEST_VARIANTS.items()}
    if compared:
        ways["vhost-blk on the block device"] = Contestant(vhost_blk({}), compared, "vhost-blk-pci")
    for polling, iothread in POLLING.items():
        for aio in "native", "io_uring", "threads":
            ways[f"virtio-blk aio={aio}{polling}"] = Contestant(virtio_blk(aio, iothread), path)
            # With one queue this is the same.
            ways[f"virtio-blk aio={aio}, iothread per queue{polling}"] = Contestant(
                mapped_virtio_blk(aio, iothread), path, queues_min=2)
        if addresses:
            ways[f"vhost-user-blk{polling}"] = Contestant(vhost_user_blk(addresses[polling]), path)
    if addresses:
        ways["vhost-scsi"] = Contestant(vhost_scsi(guest), path)
    return ways


@contextmanager
def rivals_served(path, queues, guests=1):
    """What serves vhost-user-blk and vhost-scsi: for each guest the addresses of storage daemons, by how they poll; the
    processes of the daemons; and the commands that made it for the first guest."""
    program = f"{cached('qemu-patches/build')}/bin/qemu-storage-daemon"
    with ExitStack() as stack:
        daemons = [{polling: stack.enter_context(storage_daemon(program, path, queues, iothread))
                    for polling, iothread in POLLING.items()} for _ in range(guests)]
        commands = {f"vhost-user-blk{polling}": command_line(command)
                    for polling, (*_, command) in daemons[0].items()}
        target, store, port, *_ = stack.enter_context(scsi_target(path, guests))
        commands["vhost-scsi"] = "\n".join([target, store, port])
        yield ([{polling: address for polling, (address, *_) in of_guest.items()} for of_guest in daemons],
               [process for of_guest in daemons for _, process, _ in of_guest.values()], commands)


@contextmanager
def guest_of(contestants, queues):
    """A guest that has a disk of each contestant; the disks, and the places where sysfs in the guest has them."""
    disks = {}
    for slot, (name, contestant) in enumerate(contestants.items(), FIRST_SLOT):
        serial = f"disk{slot}"
        words = contestant.arguments(serial, contestant.path, queues, slot)
        disks[name] = ServedDisk(contestant.path, serial, contestant.device, queues, words=words)
    with Guest(list(disks.values()), vcpus=queues, memory=MEMORY, machine="pc,memory-backend=memory",
               arguments=("-object", f"memory-backend-memfd,id=memory,size={MEMORY},share=on")) as guest:
        places = {name: guest.run(FIND_DISK.format(slot=slot)).strip() for slot, name in enumerate(disks, FIRST_SLOT)}
        yield guest, disks, places


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="do all jobs")
    parser.add_argument("--rounds", type=int, default=5, help="how often to time each job")
    parser.add_argument("--counts", type=int, default=1, help="how often to count what each job makes happen")
    parser.add_argument("--jobs", default="", help="those whose names match this expression")
    parser.add_argument("--contestants", default="", help="those whose names match this one")
    parser.add_argument("--backend", choices=BACKENDS, default="null_blk")
    parser.add_argument("--requests", type=int, default=1000, help="how many are counted")
    parser.add_argument("--mark", help="a program to run before and after what is counted")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    load_module()
    jobs = {name: job for name, job in JOBS.items()
            if job.queues <= QUEUES_MAX and (name in MAIN or options.full) and re.search(options.jobs, name)}
    backend, served = BACKENDS[options.backend]
    measured: dict[str, Any] = {
        "level": "guest", "kernel": os.uname().release, "backend": backend, "commands": {}, "guests": {},
        "jobs": {name: {**job._asdict(), "command": shlex.join(fio_command("DISK", job, TIMED))}
                 for name, job in jobs.items()},
        "runs": [], "counts": []}

    def mark():
        if options.mark:
            subprocess.run(options.mark, check=True)

    with ExitStack() as stack:
        path, compared = stack.enter_context(served())
        (addresses,), daemons, measured["servers"] = stack.enter_context(rivals_served(path, QUEUES_MAX))
        ways = contestants_for(path, compared, addresses)
        for queues in sorted({job.queues for job in jobs.values()}):
            fit = {name: way for name, way in ways.items()
                   if queues >= way.queues_min and re.search(options.contestants, name)}
            with guest_of(fit, queues) as (guest, disks, places):
                measured["guests"][queues] = command_line(guest.process.args)
                for name, disk in disks.items():
                    measured["commands"].setdefault(name, shlex.join(disk.words))
                for job_name, job in jobs.items():
                    if job.queues != queues:
                        continue
                    for number in range(options.rounds):
                        for name, place in places.items():
                            measured["runs"].append({"job": job_name, "round": number, "contestant": name,
                                                     **time_job(guest, place, job)})
                    for number in range(options.counts):
                        for name, place in places.items():
                            measured["counts"].append({"job": job_name, "round": number, "contestant": name,
                                                       **count_job(guest, daemons, place, job, options.requests, mark)})
                    print(f"# {job_name}", flush=True)
    options.output.write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
