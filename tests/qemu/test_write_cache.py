# SPDX-License-Identifier: GPL-2.0
"""The write cache: who decides on its mode, and what a write means in each."""

import time
from pathlib import Path

from tests.lib.disks import loop_disk, null_disk
from tests.lib.host import expect, wait_until
from tests.lib.virtio_blk import IOERR, OK, SYNC, WRITE
from tests.qemu.harness import FLUSH, disk, driven, make_image, node, slow_block_device

CONFIG_WCE = 1 << 11
WRITEBACK = 32  # offset in the configuration space
FLUSHES = 15  # field of a block device's statistics
DIRECT = ",cache.direct=on"


def loop_device():
    """A block device with a write cache, on which a durable write takes a flush that its statistics count."""
    return loop_disk(make_image("loop.raw"))


def flushes(device):
    return int(Path(f"/sys/block/{Path(device).name}/stat").read_text().split()[FLUSHES])


def expect_mode(driver, device, write_back):
    """The configuration space says so, and writes are flushed or not accordingly."""
    expect("writeback", driver.config(1, WRITEBACK), int(write_back))
    for sector in range(3):
        before = flushes(device)
        expect("status of a write", driver.queues[0].request(WRITE, sector, bytes(512))[0], OK)
        expect("flushed", flushes(device) > before, not write_back)


def offered(driver):
    return driver.offered() & (FLUSH | CONFIG_WCE)


def test_write_cache_negotiated():
    """a driver that can flush gets write-back, one that cannot gets write-through, one that can switch what is set"""
    with loop_device() as device, driven(*node(device, "host_device", DIRECT), *disk()) as (_, driver):
        expect("features", offered(driver), FLUSH | CONFIG_WCE)
        for features, write_back in (FLUSH, True), (0, False), (FLUSH | CONFIG_WCE, True), (CONFIG_WCE, True):
            driver.start(features=features)
            expect_mode(driver, device, write_back)


def test_write_cache_switched():
    """the guest switches the mode at run time, what was written before is flushed, and a reset undoes it"""
    with loop_device() as device, driven(*node(device, "host_device", DIRECT), *disk()) as (machine, driver):
        driver.start(features=FLUSH | CONFIG_WCE)
        for _ in range(2):
            expect_mode(driver, device, True)
            before = flushes(device)
            driver.set_config(1, WRITEBACK, 0)
            wait_until(lambda: flushes(device) > before, lambda: "the switch does not flush")
            expect_mode(driver, device, False)
            machine.execute("stop")
            machine.execute("cont")
            expect_mode(driver, device, False)
            driver.set_config(1, WRITEBACK, 1)
        driver.set_config(1, WRITEBACK, 0)
        driver.start(features=FLUSH | CONFIG_WCE)
        expect_mode(driver, device, True)


def test_write_cache_of_a_slow_disk():
    """QMP answers while a slow disk writes what the guest has written before it switched the cache off"""
    with slow_block_device(5000) as device, driven(*node(device, "host_device"), *disk()) as (machine, driver):
        driver.start(features=FLUSH | CONFIG_WCE)
        expect("status of a write", driver.queues[0].request(WRITE, 0, bytes(4096), 4096)[0], OK)
        start = time.monotonic()
        driver.set_config(1, WRITEBACK, 0)
        machine.execute("query-status")
        expect("both within two seconds", time.monotonic() - start < 2, True)


def test_write_cache_of_a_failing_disk():
    """the guest can switch its cache off while the disk cannot be flushed; its next flush tells the error"""
    with null_disk(size=64, memory_backed=1, badblocks="+0-511") as device:
        with driven(*node(device, "host_device"), *disk()) as (machine, driver):
            driver.start(features=FLUSH | CONFIG_WCE)
            expect("status of a write", driver.queues[0].request(WRITE, 0, bytes(4096), 4096)[0], OK)
            driver.set_config(1, WRITEBACK, 0)
            expect("writeback", driver.config(1, WRITEBACK), 0)
            expect("status of a flush", driver.queues[0].request(SYNC, 0)[0], IOERR)


def test_write_cache_off():
    """write-cache=off and cache=writethrough give write-through, which a driver that can flush may leave"""
    with loop_device() as device:
        for arguments in (
                [*node(device, "host_device", DIRECT), *disk(",write-cache=off")],
                ["-drive", f"if=none,id=disk,format=raw,file.driver=host_device,file.filename={device},"
                           "cache=directsync", *disk()]):
            with driven(*arguments) as (_, driver):
                expect("features", offered(driver), FLUSH | CONFIG_WCE)
                driver.start(features=FLUSH | CONFIG_WCE)
                expect_mode(driver, device, False)
                driver.set_config(1, WRITEBACK, 1)
                expect_mode(driver, device, True)
                driver.start()
                expect_mode(driver, device, False)
        with driven("-drive", f"if=none,id=disk,format=raw,file.driver=host_device,file.filename={device},"
                              "cache=directsync", *disk(",write-cache=on")) as (_, driver):
            driver.start(features=FLUSH | CONFIG_WCE)
            expect_mode(driver, device, True)


def test_write_cache_fixed():
    """with config-wce=off the guest cannot switch; with the write cache off as well there is nothing to flush"""
    with loop_device() as device:
        for more, features in {"": FLUSH, ",write-cache=off": 0}.items():
            with driven(*node(device, "host_device", DIRECT), *disk(",config-wce=off" + more)) as (_, driver):
                expect("features", offered(driver), features)
                driver.start(features=features)
                expect_mode(driver, device, bool(features))
