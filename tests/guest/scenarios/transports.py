# SPDX-License-Identifier: GPL-2.0
"""Transports: legacy, transitional and modern PCI in one guest; virtio-mmio, modern and legacy, on microvm."""

from contextlib import ExitStack

from tests.lib import disks as backend
from tests.guest.checks import check_console, check_identity, check_left_nothing, check_workers, sum_in_guest, sum_in_host
from tests.guest.guest import VHOST, Disk, Guest
from tests.lib.host import expect, load_module

# Properties of the device; its PCI device ID, and whether it negotiates VIRTIO_F_VERSION_1.
PCI = {"legacy": (",disable-legacy=off,disable-modern=on", "0x1001", "0"),
       "transitional": (",disable-legacy=off,disable-modern=off", "0x1001", "1"),
       "modern": (",disable-legacy=on,disable-modern=off", "0x1042", "1")}
NAMES = ["vda", "vdb", "vdc"]


def version_1(guest, name):
    return guest.run(f"cut -c 33 /sys/block/{name}/device/features").strip()


def check_pci(guest):
    for name, (_, device_id, modern) in zip(NAMES, PCI.values()):
        found = guest.run(f"cat /sys/block/{name}/device/../device").strip(), version_1(guest, name)
        expect(f"{name}'s PCI device ID and VERSION_1", found, (device_id, modern))


def check_mmio(guest, names, modern):
    for name in names:
        bus = guest.run(f"basename $(readlink /sys/block/{name}/device/../driver)").strip()
        expect(f"{name}'s transport and VERSION_1", (bus, version_1(guest, name)), ("virtio-mmio", modern))


def verify(guest, names, seed):
    """fio on all disks at the same time, briefly: it is the notifications that differ, not the requests."""
    jobs = " ".join(f"--name={name} --filename=/dev/{name}" for name in names)
    guest.run(f"""
        fio --ioengine=libaio --direct=1 --rw=randwrite --bsrange=512-64k --size=4m --iodepth=8 --randseed={seed} \
            --verify=crc32c --verify_fatal=1 {jobs} >/tmp/log 2>&1 || {{ head -n 20 /tmp/log; false; }}""")


def serve(results, what, guest, check, seed):
    """Verified I/O on all disks of a guest, whose data the host finds afterwards."""
    names = NAMES[:len(guest.disks)]
    with results.check(f"transports: {what}: the disks' identity"):
        check(guest)
        for name, disk in zip(names, guest.disks):
            check_identity(guest, name, disk)
    with results.check(f"transports: {what}: fio"):
        verify(guest, names, seed)
        check_workers(guest)
        sums = [sum_in_guest(guest, name) for name in names]
    with results.check(f"transports: {what}: power off, the host reads what the guest wrote"):
        guest.power_off()
        check_console(guest)
        expect("checksums", [sum_in_host(disk.path) for disk in guest.disks], sums)
        check_left_nothing(guest)


def run(results, device):
    with ExitStack() as stack:
        paths = [stack.enter_context(backend.null_block(64)), stack.enter_context(backend.loop_device(64)),
                 stack.enter_context(backend.null_block(64))]

        def boot(what, disks, **options):
            if device == VHOST:
                load_module()
            with results.check(f"transports: {what}: boot"):
                return stack.enter_context(Guest(disks, **options))

        guest = boot("PCI", [Disk(path, kind, device, options=PCI[kind][0]) for path, kind in zip(paths, PCI)])
        serve(results, "PCI", guest, check_pci, seed=1)
        for what, modern in ("modern mmio", "1"), ("legacy mmio", "0"):
            disks = [Disk(path, f"mmio{number}", device.replace("-pci", "-device"), queues=2)
                     for number, path in enumerate(paths[:2])]
            force = {"1": "false", "0": "true"}[modern]
            guest = boot(what, disks, vcpus=2, machine="microvm",
                         arguments=("-global", f"virtio-mmio.force-legacy={force}"))
            serve(results, what, guest, lambda guest: check_mmio(guest, NAMES[:2], modern), seed=2 + int(modern))
