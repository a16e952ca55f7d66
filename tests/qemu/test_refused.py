# SPDX-License-Identifier: GPL-2.0
"""What the device refuses with vhost=force, and with which words."""

import os

from tests.lib.disks import null_disk
from tests.lib.host import cached, expect_text, shell, unload_module
from tests.lib.machine import Qtest
from tests.qemu.harness import SIZE, SLOT, add_device, add_node, disk, make_image, node, refused, remove_device

FORCE = ",vhost=force"


def test_no_module():
    """without /dev/vhost-blk the error says to load the module"""
    unload_module()
    expect_text("there is no /dev/vhost-blk: .*modprobe vhost_blk", Qtest(*node(), *disk(FORCE)).fails())


def test_no_permission():
    """without the right to open /dev/vhost-blk the error names the group and vhostfd="""
    mode = os.stat("/dev/vhost-blk").st_mode
    os.chmod("/dev/vhost-blk", 0)
    try:
        expect_text("no permission to open /dev/vhost-blk: .*group .*vhostfd=",
                    Qtest(*node(), *disk(FORCE), wrapper=["setpriv", "--bounding-set", "-dac_override"]).fails())
    finally:
        os.chmod("/dev/vhost-blk", mode)


def test_not_raw():
    """qcow2, a raw node above it, a filter, and a driver without a file are refused by name"""
    shell(f"{cached('qemu-patches/build')}/bin/qemu-img create -q -f qcow2 disk.qcow2 {SIZE}")
    with Qtest() as machine:
        add_node(machine, driver="qcow2", node_name="format", file={"driver": "file", "filename": "disk.qcow2"})
        add_node(machine, driver="raw", node_name="above", file="format")
        with refused("Node 'format' .driver 'qcow2'. is not a raw image"):
            add_device(machine, vhost="force", drive="format")
        with refused("Node 'format' .driver 'qcow2'. is not a raw image"):
            add_device(machine, vhost="force", drive="above")
        add_node(machine, driver="copy-on-read", node_name="filter", file={"driver": "file", "filename": "disk.raw"})
        with refused("Node 'filter' .driver 'copy-on-read'. is not a raw image"):
            add_device(machine, vhost="force", drive="filter")
        add_node(machine, driver="null-co", node_name="nothing", size=SIZE)
        with refused("Node 'nothing' .driver 'null-co'. is not a raw image"):
            add_device(machine, vhost="force", drive="nothing")


def test_part_of_a_file():
    """a raw node with an offset or a size is refused"""
    for part in {"offset": 512}, {"size": 1024}, {"offset": 512, "size": 1024}:
        with Qtest() as machine:
            add_node(machine, driver="raw", node_name="disk", file={"driver": "file", "filename": "disk.raw"}, **part)
            with refused("Node 'disk' .driver 'raw'. is only a part of its file"):
                add_device(machine, vhost="force")


def test_odd_size():
    """a file that is no whole number of sectors is refused"""
    make_image("odd.raw", SIZE + 100)
    with Qtest(*node("odd.raw")) as machine:
        with refused("'disk': the host file is not a whole number of sectors"):
            add_device(machine, vhost="force")


def test_probed():
    """an image whose format was only guessed to be raw is refused"""
    with Qtest("-drive", "if=none,id=disk,file=disk.raw") as machine:
        with refused("Node 'disk' .driver 'raw'. has a probed format: specify format=raw"):
            add_device(machine, vhost="force")


def test_limited():
    """a drive with I/O limits is refused"""
    with Qtest("-drive", "if=none,id=disk,format=raw,file=disk.raw,throttling.iops-total=100") as machine:
        with refused("'disk': it has I/O limits"):
            add_device(machine, vhost="force")


def test_dirty_bitmaps():
    """a node with a dirty bitmap is refused"""
    bitmap = {"node": "disk", "name": "bitmap"}
    with Qtest(*node()) as machine:
        machine.execute("block-dirty-bitmap-add", bitmap)
        with refused("Node 'disk' has dirty bitmaps"):
            add_device(machine, vhost="force")
        machine.execute("block-dirty-bitmap-remove", bitmap)
        add_device(machine, vhost="force")


def test_ignored_options():
    """options of the node that would have no effect are refused"""
    for option in "detect-zeroes=on", "copy-on-read=on":
        with Qtest("-drive", f"if=none,id=disk,format=raw,file=disk.raw,{option}") as machine:
            with refused(f"has {option.partition('=')[0]}"):
                add_device(machine, vhost="force")
    with Qtest(*node()) as machine:
        machine.execute("block-set-write-threshold", {"node-name": "disk", "write-threshold": 1 << 20})
        with refused("Node 'disk' has a write threshold"):
            add_device(machine, vhost="force")
        machine.execute("block-set-write-threshold", {"node-name": "disk", "write-threshold": 0})
        add_device(machine, vhost="force")


def test_no_drive():
    """a device without a drive is refused"""
    with Qtest(*node()) as machine:
        with refused("drive property not set"):
            machine.execute("device_add", {"driver": "vhost-blk-pci"})
        add_device(machine)


def test_bad_vhostfd():
    """vhostfd= of a closed descriptor, of /dev/null, of another vhost device and of an unknown name are refused"""
    shell("modprobe vhost_net")
    with Qtest(*node()) as machine:
        for name, pattern in {"999": "Bad file descriptor", "nobody": "File descriptor named 'nobody'"}.items():
            with refused(pattern):
                add_device(machine, vhostfd=name)
        for path, pattern in {"/dev/null": "vhostfd: .*Inappropriate ioctl",
                              "/dev/vhost-net": "vhostfd is not served by a vhost_blk module"}.items():
            with open(path, "r+b", buffering=0) as other:
                machine.execute("getfd", {"fdname": "other"}, fd=other.fileno())
            with refused(pattern):
                add_device(machine, vhostfd="other")
        add_device(machine)


def test_other_users():
    """other writers of the node are refused, before and after, and so is one in another QEMU; readers are not"""
    with Qtest(*node()) as machine:
        machine.execute("device_add", {"driver": "virtio-blk-pci", "drive": "disk", "id": "vhost", "addr": f"{SLOT}"})
        with refused("Permission conflict on node 'disk'"):
            add_device(machine, id="second")
        remove_device(machine)
        add_device(machine)
        for driver in "vhost-blk-pci", "virtio-blk-pci":
            with refused("Permission conflict on node 'disk'"):
                add_device(machine, driver, id="second")
        with refused("Permission conflict on node 'disk'"):
            machine.execute("block-export-add", {"type": "vhost-user-blk", "id": "export", "node-name": "disk",
                                                 "writable": True, "addr": {"type": "unix", "path": "export"}})
        expect_text("Failed to get .*write.* lock", Qtest(*node(), *disk()).fails())
        shell(f"{cached('qemu-patches/build')}/bin/qemu-img info --force-share disk.raw")


def test_same_disk_twice():
    """two devices on one image or block device, of one QEMU or two, are refused unless both have locking=off"""
    with null_disk(size=4) as device:
        for path, driver in ("disk.raw", "file"), (device, "host_device"):
            with Qtest(*node(path, driver), *disk()) as machine:
                add_node(machine, driver=driver, node_name="second", filename=path)
                with refused("Failed to get .*write.* lock"):
                    add_device(machine, drive="second", id="second")
                expect_text("Failed to get .*write.* lock", Qtest(*node(path, driver), *disk()).fails())
                add_node(machine, driver=driver, node_name="meant", filename=path, locking="off")
                add_device(machine, drive="meant", id="meant")
                with Qtest(*node(path, driver, ",locking=off"), *disk()):
                    pass


# What is accepted.
