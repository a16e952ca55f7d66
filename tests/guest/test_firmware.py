# SPDX-License-Identifier: GPL-2.0
"""Firmware: SeaBIOS and OVMF boot the second of two disks, GRUB reads it, and its partition becomes the root."""

import hashlib
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.guest import bootdisk
from tests.guest.checks import check_console, check_left_nothing
from tests.guest.guest import Disk
from tests.lib.disks import mounted
from tests.lib.host import cached, expect


@pytest.fixture(scope="module")
def disks(device):
    with TemporaryDirectory() as place:
        # A tmpfs knows no direct I/O.
        first, second = (Disk(f"{place}/{name}", name, device, options=f",bootindex={index}", direct=False)
                         for name, index in (("first", 2), ("second", 1)))
        bootdisk.make(first.path)
        bootdisk.make_second(second.path, first.path)
        yield [first, second]


@pytest.fixture(scope="module", params=["SeaBIOS", "OVMF"])
def firmware(request):
    return request.param


@pytest.fixture(scope="module")
def options(firmware, tmp_path_factory):
    found: dict[str, Any] = {"from_disk": True, "boot_timeout": 1200}
    if firmware == "OVMF":
        variables = shutil.copy("/usr/share/OVMF/OVMF_VARS_4M.fd", tmp_path_factory.mktemp("variables"))
        found["arguments"] = ("-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
                              "-drive", f"if=pflash,format=raw,file={variables}")
    return found


def test_boot(guest, firmware):
    """the firmware boots a disk chosen by bootindex"""
    found = guest.run("""
        test -d /sys/firmware/efi && echo OVMF || echo SeaBIOS
        grep -o 'BOOT_IMAGE=[^ ]*' /proc/cmdline
        grep ' / ext4' /proc/mounts | cut -d' ' -f1""").split()
    expect("firmware, kernel by GRUB, root", found, [firmware, "BOOT_IMAGE=/boot/vmlinuz", "/dev/vdb2"])


def test_root(guest, disks):
    """the guest reads and writes its root"""
    kernel = Path(cached("tests/guest/image"), "vmlinuz").read_bytes()
    sums = guest.run("""
        echo 3 >/proc/sys/vm/drop_caches
        head -c 5000000 /dev/urandom >/written && sync
        sha256sum </boot/vmlinuz
        sha256sum </written
        # A kernel that shuts down takes its disks away from its writers.
        mount -o remount,ro /""").split()
    expect("checksum of the kernel", sums[0], hashlib.sha256(kernel).hexdigest())
    guest.power_off()
    check_console(guest)
    with mounted(disks[1].path, f"ro,norecovery,offset={bootdisk.ROOT[0] << 20}") as root:
        expect("checksum of the file", hashlib.sha256(Path(root, "written").read_bytes()).hexdigest(), sums[2])
    check_left_nothing(guest)
