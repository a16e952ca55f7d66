# SPDX-License-Identifier: GPL-2.0
"""Firmware: SeaBIOS and OVMF boot the second of two disks, GRUB reads it, and its partition becomes the root."""

import hashlib
import shutil
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.lib import disks as backend
from tests.guest import bootdisk
from tests.guest.checks import check_console, check_left_nothing
from tests.guest.guest import VHOST, Disk, Guest, cached
from tests.lib.host import expect, load_module


def check_boot(guest, firmware):
    found = guest.run("""
        test -d /sys/firmware/efi && echo OVMF || echo SeaBIOS
        grep -o 'BOOT_IMAGE=[^ ]*' /proc/cmdline
        grep ' / ext4' /proc/mounts | cut -d' ' -f1""").split()
    expect("firmware, kernel by GRUB, root", found, [firmware, "BOOT_IMAGE=/boot/vmlinuz", "/dev/vdb2"])


def boot(results, firmware, disks, arguments):
    with ExitStack() as stack:
        with results.check(f"firmware: {firmware} boots a disk chosen by bootindex"):
            guest = stack.enter_context(Guest(disks, from_disk=True, boot_timeout=1200, arguments=arguments))
            check_boot(guest, firmware)
        with results.check(f"firmware: {firmware}'s guest reads and writes its root"):
            kernel = Path(cached("tests/guest/image"), "vmlinuz").read_bytes()
            sums = guest.run("""
                echo 3 >/proc/sys/vm/drop_caches
                head -c 5000000 /dev/urandom >/written && sync
                sha256sum </boot/vmlinuz
                sha256sum </written
                # A kernel that shuts down takes its disks away from whoever still writes.
                mount -o remount,ro /""").split()
            expect("checksum of the kernel", sums[0], hashlib.sha256(kernel).hexdigest())
            guest.power_off()
            check_console(guest)
            with backend.mounted(disks[1].path, f"ro,norecovery,offset={bootdisk.ROOT[0] << 20}") as root:
                expect("checksum of the file", hashlib.sha256(Path(root, "written").read_bytes()).hexdigest(), sums[2])
        check_left_nothing(guest)


def run(results, device):
    with TemporaryDirectory() as place:
        disks = [Disk(f"{place}/first", "first", device, options=",bootindex=2"),
                 Disk(f"{place}/second", "second", device, options=",bootindex=1")]
        # A tmpfs knows no direct I/O.
        for disk in disks:
            disk.direct = False
        bootdisk.make(disks[0].path)
        bootdisk.make_second(disks[1].path, disks[0].path)
        for firmware in "SeaBIOS", "OVMF":
            arguments = ()
            if firmware == "OVMF":
                variables = shutil.copy("/usr/share/OVMF/OVMF_VARS_4M.fd", place)
                arguments = ("-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
                             "-drive", f"if=pflash,format=raw,file={variables}")
            if device == VHOST:
                load_module()
            boot(results, firmware, disks, arguments)
