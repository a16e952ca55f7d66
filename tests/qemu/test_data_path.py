# SPDX-License-Identifier: GPL-2.0
"""Which path serves a disk: the kernel, or QEMU while something in it has to see the requests."""

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lib.disks import null_disk
from tests.lib.host import cached, expect, expect_text, shell, unload_module
from tests.lib.machine import Qtest
from tests.lib.virtio_blk import DISCARD, IOERR, OK, READ, UNSUPP, WRITE
from tests.qemu.harness import (MQ, QDEV, SIZE, SLOT, add_device, add_node, disk, drain, driven, expect_path,
                                make_image, node, pci_driver, refused, remove_device, worker_threads)

DISCARD_FEATURE = 1 << 13
NO_LIMITS: dict[str, Any] = dict.fromkeys(["bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"], 0)


class Load:
    """Writes and reads back a block that differs each time."""

    def __init__(self, driver):
        self.driver, self.sector = driver, 0

    def step(self):
        queue, self.sector = self.driver.queues[0], self.sector % 1000 + 1
        block = os.urandom(512)
        expect("status of a write", queue.request(WRITE, self.sector, block)[0], OK)
        expect("read", queue.request(READ, self.sector), (OK, block))


@contextmanager
def loaded(*arguments, **options):
    """A machine with a disk that the kernel serves, and its load."""
    with driven(*arguments, **options) as (machine, driver):
        driver.start(features=DISCARD_FEATURE)
        load = Load(driver)
        load.step()
        yield machine, load


def change(machine, load, reason, begin, end):
    """Expect that begin() moves the disk to QEMU, and end() back to the kernel, without an error in between."""
    for _ in range(3):
        expect_path(machine, "kernel")
        load.step()
        begin()
        load.step()
        expect_path(machine, "qemu", reason)
        load.step()
        end()
        load.step()
        expect_path(machine, "kernel")
        load.step()


def test_limits():
    """I/O limits move the disk to QEMU at once, their end moves it back"""
    with loaded(*node(), *disk()) as (machine, load):
        name: dict[str, Any] = {"id": f"{QDEV}/virtio-backend", **NO_LIMITS}
        change(machine, load, "I/O limits", lambda: machine.execute("block_set_io_throttle", {**name, "iops": 1000}),
               lambda: machine.execute("block_set_io_throttle", name))


def test_bitmaps():
    """a dirty bitmap sees each write that comes after it"""
    bitmap: dict[str, Any] = {"node": "disk", "name": "bitmap"}

    def begin():
        machine.execute("block-dirty-bitmap-add", {**bitmap, "granularity": 512})
        load.step()
        found = machine.execute("query-named-block-nodes")[0]["dirty-bitmaps"][0]["count"]
        expect("dirty bytes", found, 512)

    with loaded(*node(), *disk()) as (machine, load):
        change(machine, load, "dirty bitmaps", begin, lambda: machine.execute("block-dirty-bitmap-remove", bitmap))


def test_thresholds():
    """a write threshold sees each write that comes after it"""
    threshold: dict[str, Any] = {"node-name": "disk", "write-threshold": 512}

    def begin():
        machine.execute("block-set-write-threshold", threshold)
        load.step()
        machine.wait_event("BLOCK_WRITE_THRESHOLD")
        machine.execute("block-set-write-threshold", {**threshold, "write-threshold": 1 << 40})

    with loaded(*node(), *disk()) as (machine, load):
        change(machine, load, "write threshold", begin,
               lambda: machine.execute("block-set-write-threshold", {**threshold, "write-threshold": 0}))


def test_histograms():
    """latency histograms count all requests while they are there"""
    name: dict[str, Any] = {"id": f"{QDEV}/virtio-backend"}
    with loaded(*node(), *disk()) as (machine, load):
        change(machine, load, "latency histograms",
               lambda: machine.execute("block-latency-histogram-set", {**name, "boundaries": [10, 100]}),
               lambda: machine.execute("block-latency-histogram-set", name))


def complete_job(machine, load):
    """Complete a job once it is ready, and expect that the kernel serves the disk again."""
    machine.wait_event("BLOCK_JOB_READY")
    load.step()
    machine.execute("block-job-complete", {"device": "job"})
    machine.wait_event("BLOCK_JOB_COMPLETED")
    load.step()
    expect_path(machine, "kernel")
    load.step()


def test_mirror():
    """a mirror to other storage runs on QEMU's path; after the pivot the kernel serves the new file"""
    with loaded(*node(), *disk()) as (machine, load):
        old = "disk"
        for number in range(3):
            new = f"copy{number}"
            add_node(machine, driver="file", node_name=new, filename=make_image(new))
            expect_path(machine, "kernel")
            machine.execute("blockdev-mirror", {"job-id": "job", "device": old, "target": new, "sync": "full"})
            load.step()
            expect_path(machine, "qemu", "mirror_top")
            complete_job(machine, load)
            sector = load.sector * 512
            expect("the same in the old and the new file", Path(new).read_bytes()[sector:sector + 512] ==
                   Path(old if number else "disk.raw").read_bytes()[sector:sector + 512], False)
            machine.execute("blockdev-del", {"node-name": old})
            old = new


def test_snapshot_and_commit():
    """an external snapshot in qcow2 is served by QEMU; when it is committed, the kernel serves the image again"""
    qemu_img = f"{cached('qemu-patches/build')}/bin/qemu-img"
    with loaded(*node(), *disk()) as (machine, load):
        for _ in range(3):
            shell(f"{qemu_img} create -q -f qcow2 overlay.qcow2 {SIZE}")
            expect_path(machine, "kernel")
            add_node(machine, driver="qcow2", node_name="overlay", backing=None,
                     file={"driver": "file", "filename": "overlay.qcow2"})
            machine.execute("blockdev-snapshot", {"node": "disk", "overlay": "overlay"})
            load.step()
            expect_path(machine, "qemu", "'qcow2'")
            machine.execute("block-commit", {"job-id": "job", "device": "overlay"})
            complete_job(machine, load)
            machine.execute("blockdev-del", {"node-name": "overlay"})


def test_backup():
    """a backup of a running disk holds what the disk held when it began"""
    with loaded(*node(), *disk()) as (machine, load):
        for number in range(3):
            load.sector = 0
            load.step()
            before = Path("disk.raw").read_bytes()
            add_node(machine, driver="file", node_name="copy", filename=make_image(f"copy{number}"))
            expect_path(machine, "kernel")
            machine.execute("blockdev-backup", {"job-id": "job", "device": "disk", "target": "copy", "sync": "full",
                                                "speed": 1 << 20})
            load.sector = 0
            load.step()
            expect_path(machine, "qemu", "copy-before-write")
            machine.execute("block-job-set-speed", {"device": "job", "speed": 0})
            machine.wait_event("BLOCK_JOB_COMPLETED")
            expect_path(machine, "kernel")
            load.step()
            machine.execute("blockdev-del", {"node-name": "copy"})
            expect("the backup is the old disk", Path(f"copy{number}").read_bytes() == before, True)


def test_resize():
    """a resize keeps the kernel path, and the guest reads what was added"""
    with loaded(*node(), *disk()) as (machine, load):
        for number in range(2, 5):
            workers = worker_threads(machine)
            drain(machine, number * SIZE)
            expect_path(machine, "kernel")
            expect("workers", worker_threads(machine), workers)
            expect("capacity", load.driver.config(4, 0), number * SIZE // 512)
            expect("status", load.driver.queues[0].request(READ, number * SIZE // 512 - 1)[0], OK)


def test_other_nodes():
    """qcow2, filters, parts of a file and options of the block layer are served by QEMU, which says why"""
    shell(f"{cached('qemu-patches/build')}/bin/qemu-img create -q -f qcow2 disk.qcow2 {SIZE}")
    for arguments, reason in [
            (node("disk.qcow2", "qcow2", ""), "'qcow2'"),
            (["-blockdev", "driver=raw,node-name=disk,offset=512,file.driver=file,file.filename=disk.raw"], "a part"),
            (node(more=",detect-zeroes=on"), "detect-zeroes"),
            (node(more=",cache.no-flush=on"), "no-flush"),
            (["-drive", "if=none,id=disk,file=disk.raw"], "probed format"),
            (["-drive", "if=none,id=disk,format=raw,file=disk.raw,copy-on-read=on"], "copy-on-read"),
            (["-drive", "if=none,id=disk,format=raw,file=disk.raw,throttling.iops-total=1000"], "I/O limits")]:
        if "qcow2" in reason:
            arguments[1] = "driver=qcow2,node-name=disk,file.driver=file,file.filename=disk.qcow2"
        with loaded(*arguments, *disk()) as (machine, load):
            load.step()
            expect_path(machine, "qemu", reason)
        expect_text(reason, Qtest(*arguments, *disk(",vhost=force")).fails())


def test_no_module():
    """without the module QEMU serves the disk and says why, but not with vhost=force"""
    unload_module()
    with loaded(*node(), *disk()) as (machine, load):
        load.step()
        expect_path(machine, "qemu", "there is no /dev/vhost-blk: .*modprobe vhost_blk")
    expect_text("there is no /dev/vhost-blk: .*modprobe vhost_blk", Qtest(*node(), *disk(",vhost=force")).fails())


@contextmanager
def failing_disk():
    """A device-mapper disk, and a function that has it fail from a sector on, or not."""
    with null_disk(size=SIZE >> 20, memory_backed=1) as below:
        def set_table(works, failing=False):
            sectors = SIZE // 512
            table = f"0 {works} linear {below} 0"
            if failing:
                table += f"\n{works} {sectors - works} error"
            subprocess.run(["dmsetup", *verb, "failing"], input=table + "\n", check=True, text=True)
            if verb == ["reload"]:
                shell("dmsetup resume failing")

        verb = ["create"]
        shell("modprobe dm_mod")
        set_table(SIZE // 512)
        verb = ["reload"]
        try:
            yield "/dev/mapper/failing", set_table
        finally:
            shell("dmsetup remove --retry failing")


def test_errors_stop():
    """with werror=stop and rerror=stop a failing disk stops the machine, and no request fails when it is repaired"""
    half = SIZE // 1024
    with failing_disk() as (path, set_table):
        arguments = ["-drive", f"if=none,id=disk,format=raw,file={path},cache=none,werror=stop,rerror=stop"]
        with loaded(*arguments, *disk()) as (machine, load):
            queue = load.driver.queues[0]
            for _ in range(3):
                expect_path(machine, "kernel")
                set_table(half, failing=True)
                blocks = [os.urandom(512) for _ in range(4)]
                areas = [queue.submit(WRITE, half + number, block) for number, block in enumerate(blocks)]
                queue.kick()
                machine.wait_event("BLOCK_IO_ERROR", operation="write", action="stop")
                machine.wait_event("STOP")
                expect("status", machine.execute("query-status")["status"], "io-error")
                set_table(2 * half)
                machine.execute("cont")
                queue.wait()
                expect("status of the writes", [queue.status(area) for area in areas], [OK] * 4)
                for number, block in enumerate(blocks):
                    expect("read", queue.request(READ, half + number), (OK, block))
                load.step()


@contextmanager
def thin_disk(blocks):
    """A disk of 64 MiB in a pool that has so many blocks of 64 KiB, and a function that gives it another number."""
    def table(blocks):
        return f"'0 {128 * blocks} thin-pool {metadata} {data} 128 0 1 error_if_no_space'"

    def resize(blocks):
        shell(f"dmsetup reload pool --table {table(blocks)} && dmsetup resume pool")

    shell("modprobe dm_thin_pool")
    with null_disk(size=16, memory_backed=1) as metadata, null_disk(size=64, memory_backed=1) as data:
        shell(f"dmsetup create pool --table {table(blocks)}")
        try:
            shell("dmsetup message pool 0 'create_thin 0'"
                  " && dmsetup create thin --table '0 131072 thin /dev/mapper/pool 0'")
            yield "/dev/mapper/thin", resize
        finally:
            shell("for name in thin pool; do dmsetup remove --retry $name || true; done")


def test_thin_pool_runs_full():
    """a pool without space stops the machine, which goes on when it has been given some; no write fails or is lost"""
    with thin_disk(32) as (path, resize):
        arguments = ["-drive", f"if=none,id=disk,format=raw,file={path},cache=none"]
        with loaded(*arguments, *disk()) as (machine, load):
            queue = load.driver.queues[0]
            written = {}
            for full in range(32, 32 + 3 * 16, 16):
                expect_path(machine, "kernel")
                for first in full - 16, full:
                    found = {128 * block: os.urandom(512) for block in range(first, first + 16)}
                    areas = [queue.submit(WRITE, sector, data) for sector, data in found.items()]
                    queue.kick()
                    written.update(found)
                    if first == full:
                        machine.wait_event("STOP")
                        expect("status", machine.execute("query-status")["status"], "io-error")
                        resize(full + 16)
                        machine.execute("cont")
                    queue.wait()
                    expect("status of the writes", [queue.status(area) for area in areas], [OK] * 16)
            for sector, data in written.items():
                expect("read", queue.request(READ, sector), (OK, data))


def test_errors_report():
    """by default an error that is not ENOSPC goes to the guest, with an event, and the kernel serves the disk again"""
    half = SIZE // 1024
    with failing_disk() as (path, set_table):
        arguments = node(path, "host_device", ",cache.direct=on")
        with loaded(*arguments, *disk()) as (machine, load):
            set_table(half, failing=True)
            for number in range(3):
                expect_path(machine, "kernel")
                expect("status", load.driver.queues[0].request(READ, half)[0], IOERR)
                if number == 0:
                    # Later ones are held back, by a clock that stands still here.
                    machine.wait_event("BLOCK_IO_ERROR", operation="read", action="report")
                expect_path(machine, "qemu", "handed back")
                load.step()


def test_unknown_requests():
    """request types that the kernel does not know are QEMU's to answer"""
    with loaded(*node(), *disk()) as (machine, load):
        for _ in range(3):
            expect_path(machine, "kernel")
            expect("status", load.driver.queues[0].request(77, 0)[0], UNSUPP)
            expect_path(machine, "qemu", "handed back")
            load.step()


def test_ignored_discards():
    """with discard=ignore, the default, a discard succeeds and frees nothing, in the kernel"""
    with open("disk.raw", "r+b") as image:
        image.write(os.urandom(SIZE))
    blocks = os.stat("disk.raw").st_blocks
    for more in "", ",discard=unmap":
        with loaded(*node(more=more), *disk()) as (machine, load):
            segment = (0).to_bytes(8, "little") + (SIZE // 512).to_bytes(4, "little") + bytes(4)
            expect("status", load.driver.queues[0].request(DISCARD, 0, segment)[0], OK)
            expect("blocks are freed", os.stat("disk.raw").st_blocks < blocks, more != "")
            expect_path(machine, "kernel")
            load.step()


def test_statistics():
    """query-blockstats counts the requests of both paths"""
    def count():
        stats = machine.execute("query-blockstats")[0]["stats"]
        return [stats[name] for name in ("rd_operations", "wr_operations", "rd_bytes", "wr_bytes")]

    with loaded(*node(), *disk()) as (machine, load):
        expect("counts", count(), [1, 1, 512, 512])
        load.step()
        expect("counts", count(), [2, 2, 1024, 1024])
        name: dict[str, Any] = {"id": f"{QDEV}/virtio-backend", **NO_LIMITS}
        machine.execute("block_set_io_throttle", {**name, "iops": 1000})
        load.step()
        expect("counts", count(), [3, 3, 1536, 1536])
        machine.execute("block_set_io_throttle", name)
        expect_path(machine, "kernel")
        load.step()
        expect("counts", count(), [4, 4, 2048, 2048])


def test_migration():
    """a disk migrates between virtio-blk-pci and vhost-blk-pci in both directions"""
    for source, target in [("vhost-blk-pci", "virtio-blk-pci"), ("virtio-blk-pci", "vhost-blk-pci")]:
        with driven(*node(), *disk(device=source)) as (machine, driver):
            driver.start()
            load = Load(driver)
            load.step()
            machine.save("state")
            machine.quit()
        with Qtest(*node(), *disk(device=target), "-incoming", "defer") as machine:
            machine.restore("state")
            driver.move(machine)
            for _ in range(3):
                load.step()
            expect_path(machine, "qemu" if target == "virtio-blk-pci" else "kernel",
                        "vhost=off" if target == "virtio-blk-pci" else "")


def test_iothread():
    """a disk with an iothread moves both ways, too"""
    with loaded("-object", "iothread,id=thread", *node(), *disk(",iothread=thread")) as (machine, load):
        name: dict[str, Any] = {"id": f"{QDEV}/virtio-backend", **NO_LIMITS}
        change(machine, load, "I/O limits", lambda: machine.execute("block_set_io_throttle", {**name, "iops": 1000}),
               lambda: machine.execute("block_set_io_throttle", name))


def test_event():
    """an event tells each change"""
    with loaded(*node(), *disk()) as (machine, load):
        machine.wait_event("VIRTIO_BLK_DATA_PATH", **{"device": "vhost", "data-path": "kernel"})
        name: dict[str, Any] = {"id": f"{QDEV}/virtio-backend", **NO_LIMITS}
        machine.execute("block_set_io_throttle", {**name, "iops": 1000})
        expect_path(machine, "qemu", "I/O limits")
        # Once a second at most, as a guest can bring about more.
        machine.step_clock(1)
        machine.wait_event("VIRTIO_BLK_DATA_PATH", **{"data-path": "qemu", "reason": "it has I/O limits"})
        machine.execute("block_set_io_throttle", name)
        expect_path(machine, "kernel")
        machine.step_clock(1)
        machine.wait_event("VIRTIO_BLK_DATA_PATH", **{"data-path": "kernel"})
        load.step()


def test_shared_node():
    """two disks on one node are served by QEMU, which sees the requests of both, until one is left"""
    with loaded(*node(), *disk(",share-rw=on")) as (machine, load):
        for _ in range(3):
            expect_path(machine, "kernel")
            add_device(machine, id="other", addr=f"{SLOT + 1}", **{"share-rw": True})
            load.step()
            expect_path(machine, "qemu", "has another writer")
            load.step()
            remove_device(machine, SLOT + 1, "other")
            load.step()


def test_force():
    """what the kernel cannot serve is refused with vhost=force, also when it is plugged"""
    with Qtest(*node(more=",detect-zeroes=on")) as machine:
        with refused("'disk': Node 'disk' has detect-zeroes"):
            add_device(machine, vhost="force")
        add_device(machine, vhost="on", addr=f"{SLOT}")
        pci_driver(machine).start()
        expect_path(machine, "qemu", "detect-zeroes")


def test_moves_with_requests_in_flight():
    """no request is lost, doubled or failed where the disk moves with 16 in flight on each queue"""
    threads: list[str] = ["-object", "iothread,id=thread"]
    for more, device in (threads[:0], ""), (threads, ",iothread=thread"):
        with driven(*more, *node(), *disk(f",num-queues=3{device}")) as (machine, driver):
            driver.start(queues=3, features=MQ)
            name: dict[str, Any] = {"id": f"{QDEV}/virtio-backend", **NO_LIMITS}
            bitmap: dict[str, Any] = {"node": "disk", "name": "bitmap"}
            moves = [lambda: machine.execute("block_set_io_throttle", {**name, "iops": 1 << 30}),
                     lambda: machine.execute("block-dirty-bitmap-add", bitmap),
                     lambda: machine.execute("block_set_io_throttle", name),
                     lambda: machine.execute("block-dirty-bitmap-remove", bitmap),
                     lambda: expect_path(machine, "kernel")]
            for number in range(20):
                kind = WRITE if number % 2 == 0 else READ
                if kind == WRITE:
                    blocks = [os.urandom(512) for _ in range(16)]
                areas = [[queue.submit(kind, 100 * queue.index + sector, kind == WRITE and block)
                          for sector, block in enumerate(blocks)] for queue in driver.queues]
                for queue in driver.queues:
                    queue.kick()
                moves[number % 5]()
                for queue, places in zip(driver.queues, areas):
                    queue.wait()
                    expect("status", {queue.status(area) for area in places}, {OK})
                    if kind == READ:
                        expect("data", [queue.data(area) for area in places], blocks)
