# SPDX-License-Identifier: GPL-2.0
"""The configuration space, taken from real backends, and what the device offers of discard and write zeroes."""

import struct
from pathlib import Path

from tests.lib import virtio_blk
from tests.lib.disks import ERASED, erasable_disk, null_disk, scsi_disk
from tests.lib.host import expect
from tests.lib.machine import Qtest
from tests.lib.virtio_blk import OK, UNSUPP
from tests.qemu.harness import add_device, disk, driven, make_image, node, refused

DISCARD, WRITE_ZEROES, SECURE_ERASE = 1 << 13, 1 << 14, 1 << 16  # features
FIELDS = {  # offset and size in virtio-blk's configuration space
    "capacity": (0, 4), "size_max": (8, 4), "seg_max": (12, 4), "cylinders": (16, 2), "heads": (18, 1),
    "sectors": (19, 1), "blk_size": (20, 4), "physical_block_exp": (24, 1), "alignment_offset": (25, 1),
    "min_io_size": (26, 2), "opt_io_size": (28, 4), "num_queues": (34, 2), "max_discard_sectors": (36, 4),
    "max_discard_seg": (40, 4), "discard_sector_alignment": (44, 4), "max_write_zeroes_sectors": (48, 4),
    "max_write_zeroes_seg": (52, 4), "write_zeroes_may_unmap": (56, 1), "max_secure_erase_sectors": (60, 4),
    "max_secure_erase_seg": (64, 4), "secure_erase_sector_alignment": (68, 4)}
FILE_LIMIT = 0xffffffff // 512
UNMAP = ",discard=unmap"


def expect_config(driver, **wanted):
    found = {name: driver.config(FIELDS[name][1], FIELDS[name][0]) for name in wanted}
    expect("configuration", found, wanted)


def features(driver):
    return driver.offered() & (DISCARD | WRITE_ZEROES | SECURE_ERASE)


def test_config_of_a_scsi_disk():
    """4 KiB logical, 16 KiB physical blocks that begin early, I/O sizes, discard limits of a SCSI disk"""
    with scsi_disk("dev_size_mb=8 sector_size=4096 physblk_exp=2 lowest_aligned=1 opt_blks=64 opt_xferlen_exp=3"
                   " lbpu=1 unmap_max_blocks=1024 unmap_granularity=16") as device:
        scsi = node(device, "host_device", ",cache.direct=on" + UNMAP)
        with driven(*scsi, *disk(",num-queues=2")) as (_, driver):
            expect("features", features(driver), DISCARD | WRITE_ZEROES)
            expect_config(driver, capacity=16384, size_max=0, seg_max=254, blk_size=4096, physical_block_exp=2,
                          alignment_offset=1, min_io_size=8, opt_io_size=64, num_queues=2,
                          max_discard_sectors=8192, max_discard_seg=256, discard_sector_alignment=128,
                          max_write_zeroes_seg=256)
        with driven(*scsi, *disk(",physical_block_size=4096,min_io_size=16384,opt_io_size=8192,seg-max-adjust=off"
                                 ",report-discard-granularity=off")) as (_, driver):
            expect_config(driver, seg_max=126, physical_block_exp=0, alignment_offset=0, min_io_size=4,
                          opt_io_size=2, discard_sector_alignment=8)
        with Qtest(*scsi) as machine:
            with refused("logical_block_size must be at least 4096"):
                add_device(machine, logical_block_size=512)
            add_device(machine)


def test_config_of_a_null_disk():
    """discard of a device that writes zeroes itself; 512-byte sectors on it through the page cache"""
    with null_disk(size=64, memory_backed=1, blocksize=4096, discard=1) as device:
        with driven(*node(device, "host_device", ",cache.direct=on" + UNMAP), *disk()) as (_, driver):
            expect("features", features(driver), DISCARD | WRITE_ZEROES)
            expect_config(driver, capacity=131072, blk_size=4096, physical_block_exp=0,
                          max_discard_sectors=FILE_LIMIT & ~7, discard_sector_alignment=8,
                          max_write_zeroes_sectors=(128 << 20) // 512, write_zeroes_may_unmap=0)
        with driven(*node(device, "host_device", UNMAP), *disk()) as (_, driver):
            expect_config(driver, blk_size=512, physical_block_exp=3, discard_sector_alignment=8)
    with null_disk(size=64, memory_backed=1) as device:
        with driven(*node(device, "host_device", ",cache.direct=on" + UNMAP), *disk()) as (_, driver):
            expect("features", features(driver), WRITE_ZEROES)


def test_config_of_a_file():
    """a file's geometry and limits"""
    make_image("large.raw", 1 << 30)
    with driven(*node("large.raw", more=UNMAP), *disk()) as (_, driver):
        expect("features", features(driver), DISCARD | WRITE_ZEROES)
        expect_config(driver, capacity=1 << 21, cylinders=2080, heads=16, sectors=63, blk_size=512,
                      max_discard_sectors=FILE_LIMIT, max_discard_seg=256, max_write_zeroes_sectors=FILE_LIMIT,
                      max_write_zeroes_seg=256, write_zeroes_may_unmap=1)
    with driven(*node("large.raw", more=UNMAP), *disk(
            ",max-discard-sectors=2048,max-write-zeroes-sectors=4096,discard_granularity=65536")) as (_, driver):
        expect_config(driver, max_discard_sectors=2048, max_write_zeroes_sectors=4096, discard_sector_alignment=128)


def test_discard_is_the_users_choice():
    """no discard with discard=ignore on any node, discard=off, a read-only node; no zeroes with write-zeroes=off"""
    for nodes, device, wanted, may_unmap in [
            (node(more=UNMAP), "", DISCARD | WRITE_ZEROES, 1),
            (node(), "", WRITE_ZEROES, 0),
            (node(more=",discard=ignore"), "", WRITE_ZEROES, 0),
            (node(more=UNMAP), ",discard=off", WRITE_ZEROES, 0),
            (node(more=UNMAP), ",write-zeroes=off", DISCARD, 0),
            (node(more=UNMAP), ",write-zeroes=off,discard=off", 0, 0),
            (node(more=UNMAP + ",read-only=on"), "", 0, 0),
            (["-blockdev", "driver=file,node-name=file,filename=disk.raw",
              "-blockdev", "driver=raw,node-name=disk,file=file,discard=unmap"], "", WRITE_ZEROES, 0),
            (["-blockdev", "driver=file,node-name=file,filename=disk.raw,discard=unmap",
              "-blockdev", "driver=raw,node-name=disk,file=file,discard=unmap"], "", DISCARD | WRITE_ZEROES, 1),
            (["-drive", "if=none,id=disk,format=raw,file=disk.raw,discard=unmap"], "", DISCARD | WRITE_ZEROES, 1),
            (["-drive", "if=none,id=disk,format=raw,file=disk.raw"], "", WRITE_ZEROES, 0)]:
        with driven(*nodes, *disk(device)) as (_, driver):
            expect(f"features with {nodes} {device}", features(driver), wanted)
            if wanted & WRITE_ZEROES:
                expect_config(driver, write_zeroes_may_unmap=may_unmap)


def test_range_properties():
    """limits above the host file's, or that cut a block, are refused with the range"""
    with scsi_disk("dev_size_mb=8 sector_size=4096 lbpu=1 unmap_max_blocks=1024") as device:
        with Qtest(*node(device, "host_device", ",cache.direct=on" + UNMAP)) as machine:
            for sectors in 8193, 8200, 12, 1 << 31:
                with refused("max-discard-sectors must be a multiple of logical_block_size between 8 and 8192"
                             f" sectors, as the host file of 'disk' has it, not {sectors}"):
                    add_device(machine, **{"max-discard-sectors": sectors})
            with refused("max-write-zeroes-sectors must be .* not 12"):
                add_device(machine, **{"max-write-zeroes-sectors": 12})
            with refused("discard_granularity must be a multiple of logical_block_size"):
                add_device(machine, discard_granularity=512)
            add_device(machine, **{"max-discard-sectors": 8192})


def request(queue, kind, ranges):
    """A request with ranges; returns its status."""
    return queue.request(kind, 0, b"".join(struct.pack("<QII", *one) for one in ranges))[0]


def test_ignored_discards_free_nothing():
    """a guest that sends what was not offered, with discard=ignore, leaves the image allocated"""
    size = 1 << 20
    for more, zeroed, left in ("", 0, size), (UNMAP, 0, 0):
        Path("disk.raw").write_bytes(b"x" * size)
        with driven(*node(more=more), *disk()) as (_, driver):
            offered = features(driver)
            driver.start(features=offered)
            queue = driver.queues[0]
            expect("discard", request(queue, virtio_blk.DISCARD, [(0, 1024, 0)]), OK if offered & DISCARD else UNSUPP)
            expect("zeroes", request(queue, virtio_blk.WRITE_ZEROES, [(0, 1024, 1), (1024, 1024, 1)]), zeroed)
        expect("content", Path("disk.raw").read_bytes(), bytes(size))
        expect("space", Path("disk.raw").stat().st_blocks * 512, left)


def test_secure_erase():
    """of a device that can, with its limits: not with secure-erase=off or discard=ignore, nor if read-only"""
    every = DISCARD | WRITE_ZEROES | SECURE_ERASE
    with erasable_disk("sector_size=4096") as path:
        for more, device, wanted in [
                (UNMAP, "", every),
                (UNMAP, ",secure-erase=off", DISCARD | WRITE_ZEROES),
                (UNMAP, ",discard=off", WRITE_ZEROES | SECURE_ERASE),
                (",discard=ignore", "", WRITE_ZEROES),
                (UNMAP + ",read-only=on", "", 0)]:
            content = bytearray(b"x" * (1 << 20))
            Path(path).write_bytes(content)
            with driven(*node(path, "host_device", ",cache.direct=on" + more), *disk(device)) as (_, driver):
                offered = features(driver)
                expect(f"features with {more}{device}", offered, wanted)
                if offered & SECURE_ERASE:
                    expect_config(driver, max_secure_erase_sectors=3000, max_secure_erase_seg=256,
                                  secure_erase_sector_alignment=16)
                    content[4096:8192], content[12288:20480] = bytes([ERASED] * 4096), bytes([ERASED] * 8192)
                driver.start(features=offered)
                expect(f"status with {more}{device}",
                       request(driver.queues[0], virtio_blk.SECURE_ERASE, [(8, 8, 0), (24, 16, 0)]),
                       OK if offered & SECURE_ERASE else UNSUPP)
            with open(path, "rb") as found:
                expect("content", found.read(len(content)), bytes(content))
