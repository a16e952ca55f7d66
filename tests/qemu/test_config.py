# SPDX-License-Identifier: GPL-2.0
"""What the guest sees of a disk is virtio-blk's, whatever the host has."""

from contextlib import contextmanager

from tests.lib.disks import null_disk, scsi_disk
from tests.lib.host import expect
from tests.lib.virtio_blk import OK, READ
from tests.qemu.harness import disk, driven, expect_path, make_image, node

SIZE = 60  # of the configuration space
DIRECT, UNMAP = ",cache.direct=on", ",discard=unmap"


def expect_same(nodes, options="", path="kernel", reason="^$"):
    with driven(*nodes, *disk(options)) as (machine, driver):
        ours = driver.offered(), [driver.config(1, offset) for offset in range(SIZE)]
        driver.start()
        expect("status of a read", driver.queues[0].request(READ, 0, size=4096)[0], OK)
        expect_path(machine, path, reason)
    with driven(*nodes, *disk(options, "virtio-blk-pci")) as (_, driver):
        expect(f"features and configuration with {nodes} {options}", ours,
               (driver.offered(), [driver.config(1, offset) for offset in range(SIZE)]))


@contextmanager
def disks():
    """Arguments for disks of which the host tells much that virtio-blk does not."""
    with scsi_disk("dev_size_mb=8 sector_size=4096 physblk_exp=2 lowest_aligned=1 opt_blks=64 opt_xferlen_exp=3"
                   " lbpu=1 unmap_max_blocks=1024 unmap_granularity=16") as scsi, \
            null_disk(size=64, memory_backed=1, blocksize=4096, discard=1) as null:
        yield [node(scsi, "host_device", DIRECT + UNMAP), node(null, "host_device", DIRECT)]


def test_same_as_virtio_blk():
    """features and configuration are those of virtio-blk-pci on disks of 4096-byte sectors and on files"""
    make_image("large.raw", 1 << 30)
    with disks() as large_sectors:
        for nodes in large_sectors:
            expect_same(nodes, path="qemu", reason="logical_block_size is below the 4096 of the host device")
            expect_same(nodes, ",logical_block_size=4096,physical_block_size=4096,num-queues=2")
            expect_same([word.replace(DIRECT, "") for word in nodes])
    for more in "", UNMAP, ",read-only=on":
        expect_same(node("large.raw", more=more))
    for options in [",discard=off", ",write-zeroes=off", ",config-wce=off", ",write-cache=off,config-wce=off",
                    ",num-queues=3,queue-size=64,logical_block_size=1024,physical_block_size=4096,min_io_size=8192",
                    ",max-discard-sectors=2048,discard_granularity=65536,seg-max-adjust=off",
                    ",cyls=20,heads=3,secs=17,packed=off"]:
        expect_same(node(more=UNMAP), options)
    expect_same(node(), ",packed=on,disable-legacy=off")
