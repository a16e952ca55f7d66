# SPDX-License-Identifier: GPL-2.0
"""Disks are plugged and unplugged under load, by ACPI on a pc machine and by PCIe's own way on q35."""

import hashlib
import os
from contextlib import ExitStack

from tests.lib import disks as backend
from tests.guest.checks import check_console, check_left_nothing, held, verified_load
from tests.guest.guest import VHOST, Disk, Guest
from tests.lib.host import expect, expect_soon, load_module

MACHINES = {
    "pc": {"machine": "pc"},
    "q35": {"machine": "q35", "arguments": ("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
                                            "-device", "pcie-root-port,id=root,chassis=1,slot=1")},
}
BUS = {"pc": {}, "q35": {"bus": "root"}}

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


def run(results, device):
    for machine in MACHINES:
        with ExitStack() as stack:
            stays = Disk(stack.enter_context(backend.null_block(64)), "stays", device)
            paths = [stack.enter_context(backend.null_block(64)), stack.enter_context(backend.file_on_ext4(64))]
            if device == VHOST:
                load_module()
            with results.check(f"hotplug, {machine}: boot"):
                guest = stack.enter_context(Guest([stays], **MACHINES[machine]))
            rounds = results.rounds(2)
            with results.check(f"hotplug, {machine}: {rounds} times under load, the disk that stays meets no error"):
                with verified_load(guest, "vda"):
                    before = held(guest)
                    for number in range(rounds):
                        path = paths[number % 2]
                        plug(guest, device, path, f"hot-{number}", **BUS[machine])
                        found = guest.run(PLUGGED).split()
                        with open(path, "rb") as disk:
                            expect("serial number and checksum", found[:2],
                                   [f"hot-{number}", hashlib.sha256(disk.read(4 << 20)).hexdigest()])
                        unplug(guest)
                        guest.run(UNPLUGGED)
                        expect_soon("workers and descriptors of QEMU", lambda: held(guest), before)
                check_console(guest, failing="vdb")
            with results.check(f"hotplug, {machine}: power off"):
                guest.power_off()
                check_left_nothing(guest)


def plug(guest, device, path, serial, **bus):
    driver = "host_device" if os.path.exists(f"/sys/block/{os.path.basename(path)}") else "file"
    guest.qmp.execute("blockdev-add", {"driver": driver, "node-name": "hot", "filename": path,
                                       "cache": {"direct": True}})
    guest.qmp.execute("device_add", {"driver": device, "drive": "hot", "id": "hot", "serial": serial, **bus})


def unplug(guest):
    # PCIe waits five seconds before it lets a disk go.
    guest.qmp.execute("device_del", {"id": "hot"})
    guest.qmp.wait_event("DEVICE_DELETED", device="hot")
    guest.qmp.execute("blockdev-del", {"node-name": "hot"})
