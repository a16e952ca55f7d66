# SPDX-License-Identifier: GPL-2.0
"""Disks are plugged and unplugged under load, by ACPI on a pc machine and by PCIe's own way on q35."""

import hashlib
import os

import pytest

from tests.guest.checks import check_console, check_left_nothing, held, verified_load
from tests.guest.guest import Disk
from tests.lib.disks import file_on_ext4, null_block
from tests.lib.host import expect, expect_soon

PLUGGED = """# plugged
until [ -b /dev/vdb ]; do
	sleep .1
done
cat /sys/block/vdb/serial
echo
head -c 4m /dev/urandom >/tmp/data
dd if=/tmp/data of=/dev/vdb bs=256k oflag=direct conv=fsync 2>/dev/null || exit
sha256sum </tmp/data
rm -f /tmp/load-ended
(
	fio --name=load --filename=/dev/vdb --offset=20m --rw=randrw --bs=4k --iodepth=32 --ioengine=libaio --direct=1 \\
		--time_based --runtime=3600 >/tmp/load.log 2>&1
	touch /tmp/load-ended
) &
while read -r _ _ _ _ writes _ </sys/block/vdb/stat && [ $writes -lt 100 ]; do
	sleep .1
done
"""

# The load had work for an hour: it ends because its disk is gone.
UNPLUGGED = """# unplugged
until [ -e /tmp/load-ended ] && ! [ -b /dev/vdb ]; do
	sleep .1
done
"""


@pytest.fixture(scope="module", params=["pc", "q35"])
def machine(request):
    return request.param


@pytest.fixture(scope="module")
def options(machine, request):
    if machine == "pc":
        return request.getfixturevalue("booted")
    return {"machine": machine, "arguments": ("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
                                              "-device", "pcie-root-port,id=root,chassis=1,slot=1")}


@pytest.fixture(scope="module")
def disks(device):
    with null_block(64) as stays:
        yield [Disk(stays, "stays", device)]


def plug(guest, device, path, serial, **bus):
    driver = "host_device" if os.path.exists(f"/sys/block/{os.path.basename(path)}") else "file"
    guest.execute("blockdev-add", {"driver": driver, "node-name": "hot", "filename": path, "cache": {"direct": True}})
    guest.execute("device_add", {"driver": device, "drive": "hot", "id": "hot", "serial": serial, **bus})


def unplug(guest):
    # PCIe waits five seconds before it lets a disk go.
    guest.execute("device_del", {"id": "hot"})
    guest.wait_event("DEVICE_DELETED", device="hot")
    guest.execute("blockdev-del", {"node-name": "hot"})


def test_boot(guest):
    pass


@pytest.mark.rounds(2)
def test_plug(guest, machine, device, rounds):
    """plugged and unplugged under load, while the disk that stays meets no error"""
    bus = {"bus": "root"} if machine == "q35" else {}
    with null_block(64) as block, file_on_ext4(64) as file:
        with verified_load(guest, "vda"):
            before = held(guest)
            for number in range(rounds):
                path = [block, file][number % 2]
                plug(guest, device, path, f"hot-{number}", **bus)
                found = guest.run(PLUGGED).split()
                with open(path, "rb") as disk:
                    expect("serial number and checksum", found[:2],
                           [f"hot-{number}", hashlib.sha256(disk.read(4 << 20)).hexdigest()])
                unplug(guest)
                guest.run(UNPLUGGED)
                expect_soon("workers and descriptors of QEMU", lambda: held(guest), before)
        check_console(guest, failing="vdb")


def test_power_off(guest):
    guest.power_off()
    check_left_nothing(guest)
