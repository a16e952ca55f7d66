# SPDX-License-Identifier: GPL-2.0
"""Transports: legacy, transitional and modern PCI in one guest; virtio-mmio, modern and legacy, on microvm."""

import pytest

from tests.guest.checks import (check_console, check_identity, check_left_nothing, check_workers, sum_in_guest,
                                sum_in_host)
from tests.guest.guest import Disk
from tests.lib.disks import loop_device, null_block
from tests.lib.host import expect

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


@pytest.fixture(scope="module", params=["PCI", "modern-mmio", "legacy-mmio"])
def transport(request):
    return request.param


@pytest.fixture(scope="module")
def paths():
    with null_block(64) as first, loop_device(64) as second, null_block(64) as third:
        yield [first, second, third]


@pytest.fixture(scope="module")
def disks(device, transport, paths):
    if transport == "PCI":
        return [Disk(path, kind, device, options=PCI[kind][0]) for path, kind in zip(paths, PCI)]
    return [Disk(path, f"mmio{number}", device.replace("-pci", "-device"), queues=2)
            for number, path in enumerate(paths[:2])]


@pytest.fixture(scope="module")
def options(transport):
    if transport == "PCI":
        return {}
    legacy = "true" if transport == "legacy-mmio" else "false"
    return {"vcpus": 2, "machine": "microvm", "arguments": ("-global", f"virtio-mmio.force-legacy={legacy}")}


def test_boot(guest):
    pass


def test_identity(guest, transport, disks):
    names = NAMES[:len(disks)]
    if transport == "PCI":
        check_pci(guest)
    else:
        check_mmio(guest, names, "1" if transport == "modern-mmio" else "0")
    for name, disk in zip(names, disks):
        check_identity(guest, name, disk)


def test_fio(guest, disks, kept):
    """fio on all disks at the same time, briefly: the notifications differ, not the requests"""
    names = NAMES[:len(disks)]
    jobs = " ".join(f"--name={name} --filename=/dev/{name}" for name in names)
    # Other data than the guest before has left.
    kept.seed = getattr(kept, "seed", 0) + 1
    guest.run(f"""
        fio --ioengine=libaio --direct=1 --rw=randwrite --bsrange=512-64k --size=4m --iodepth=8 \
            --randseed={kept.seed} --verify=crc32c --verify_fatal=1 {jobs} >/tmp/log 2>&1 ||
            {{ head -n 20 /tmp/log; false; }}""")
    check_workers(guest)
    kept.sums = [sum_in_guest(guest, name) for name in names]


def test_power_off(guest, disks, kept):
    """the host reads what the guest wrote"""
    guest.power_off()
    check_console(guest)
    expect("checksums", [sum_in_host(disk.path) for disk in disks], kept.sums)
    check_left_nothing(guest)
