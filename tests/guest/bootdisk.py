# SPDX-License-Identifier: GPL-2.0
"""Disks that boot by BIOS and by EFI. Either way GRUB takes the kernel from the partition that becomes the root."""

import struct
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.guest.guest import KERNEL_ARGUMENTS
from tests.lib.host import cached, shell

GRUB = Path("/usr/lib/grub")
MODULES = "part_msdos ext2 normal linux serial terminal"
SECTOR = 512
MEBIBYTE = 1 << 20
EFI, ROOT = (1, 4), (5, 75)  # where the partitions begin, and their sizes, in MiB

GRUB_CONFIG = f"""
serial
terminal_output serial
linux /boot/vmlinuz {KERNEL_ARGUMENTS} root=/dev/vda2
initrd /boot/initrd
boot
"""


def partition(kind, place):
    start, size = (part * MEBIBYTE // SECTOR for part in place)
    return struct.pack("<B3xB3xII", 0, kind, start, size)


def grub_image(target, work):
    """GRUB in one file; its disk is the one that the firmware took it from."""
    shell(f"grub-mkimage -O {target} -p '(,msdos2)/boot/grub' -o {work}/{target} {MODULES}"
          f" {'biosdisk' if target == 'i386-pc' else ''}")
    return f"{work}/{target}"


def make_efi_partition(path, work):
    with open(path, "wb") as image:
        image.truncate(EFI[1] * MEBIBYTE)
    shell(f"""
        set -e
        mformat -i {path} ::
        mmd -i {path} ::/EFI ::/EFI/BOOT
        mcopy -i {path} {grub_image("x86_64-efi", work)} ::/EFI/BOOT/BOOTX64.EFI""")


def make_root_partition(path, work):
    image = cached("tests/guest/image")
    (Path(work) / "grub.cfg").write_text(GRUB_CONFIG)
    shell(f"""
        set -e
        mkdir {work}/root
        cd {work}/root
        cpio --quiet -idm <{image}/initrd
        mkdir -p mnt boot/grub
        cp {image}/vmlinuz {image}/initrd boot
        cp {work}/grub.cfg boot/grub
        mke2fs -q -t ext4 -d . {path} {ROOT[1]}m""")


def make(path):
    """Write a disk that boots when the guest finds it as vda."""
    with TemporaryDirectory() as work, open(path, "wb") as disk:
        # The GRUB of BIOS reads the rest of itself from the second sector on.
        code = (GRUB / "i386-pc/boot.img").read_bytes()
        disk.write(code[:440].ljust(446, b"\0") + partition(0xef, EFI) + partition(0x83, ROOT))
        disk.seek(SECTOR - 2)
        disk.write(b"\x55\xaa" + Path(grub_image("i386-pc", work)).read_bytes())
        assert disk.tell() <= EFI[0] * MEBIBYTE
        for (start, size), maker in ((EFI, make_efi_partition), (ROOT, make_root_partition)):
            file = Path(work, maker.__name__)
            maker(file, work)
            disk.seek(start * MEBIBYTE)
            disk.write(file.read_bytes())


def make_second(path, first):
    """Copy such a disk into one that boots when the guest finds it as vdb."""
    Path(path).write_bytes(Path(first).read_bytes().replace(b"root=/dev/vda2", b"root=/dev/vdb2"))
