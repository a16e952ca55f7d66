# SPDX-License-Identifier: GPL-2.0
"""The machine migrates, with its disk: what arrives, what is refused, who has the image."""

from contextlib import contextmanager

from tests.lib.disks import loop_disk
from tests.lib.host import expect, expect_soon, expect_text, wait_until
from tests.lib.machine import Qtest
from tests.lib.virtio_blk import OK, READ, WRITE
from tests.qemu.harness import FLUSH, disk, driven, make_image, node, refused, slow_block_device
from tests.qemu.test_write_cache import CONFIG_WCE, DIRECT, WRITEBACK, expect_mode

ADDRESS = "unix:migration"
DISCARD_FEATURE = 1 << 13


@contextmanager
def source_and_target(arguments=None, target_arguments=None):
    """A source with a running disk and its driver, and a target that waits."""
    arguments = arguments or [*node(), *disk()]
    with driven(*arguments) as (source, driver):
        with Qtest(*(target_arguments or arguments), "-incoming", "defer") as target:
            driver.start()
            yield source, target, driver


def start(source, target, bandwidth=0):
    target.execute("migrate-incoming", {"uri": ADDRESS})
    source.execute("migrate-set-parameters", {"max-bandwidth": bandwidth})
    source.execute("migrate", {"uri": ADDRESS})


def finish(source, target, driver):
    source.qmp.wait_migration("completed")
    target.qmp.wait_migration("completed")
    target.qmp.wait_running()
    driver.move(target)


@contextmanager
def restored(driver, arguments):
    """The saved machine goes on here, and its driver with it."""
    with Qtest(*arguments, "-incoming", "defer") as machine:
        machine.restore("saved")
        driver.move(machine)
        yield


def test_migrates():
    """the target goes on with the ring where the source left it, and the source has given the image away"""
    with source_and_target() as (source, target, driver):
        queue = driver.queues[0]
        expect("status of a write", queue.request(WRITE, 3, b"s" * 512)[0], OK)
        start(source, target)
        finish(source, target, driver)
        expect("completed at the target", queue.completed(), 1)
        expect("read at the target", queue.request(READ, 3), (OK, b"s" * 512))
        expect("status of a write", queue.request(WRITE, 4, b"t" * 512)[0], OK)
        # The target has locked the image.
        with refused("lock"):
            source.execute("cont")
        expect("read at the target", queue.request(READ, 4), (OK, b"t" * 512))


def test_migrates_what_was_read():
    """what a read puts into memory that has been sent already is sent again: data, status and used ring"""
    with source_and_target() as (source, target, driver):
        queue = driver.queues[0]
        for sector in range(16):
            queue.request(WRITE, sector, bytes([sector + 1]) * 512)
        # Three pages, of which only the first has the status byte too.
        area = queue.submit(READ, 0, size=16 * 512)
        # Takes seconds to send, after the driver's memory, which lies below.
        source.fill(0x400000, 48 << 20, 0x55)
        start(source, target, 8 << 20)
        wait_until(lambda: source.execute("query-migrate").get("ram", {}).get("transferred", 0) >= 8 << 20,
                   lambda: f"nothing is sent: {source.execute('query-migrate')}")
        queue.kick()
        queue.wait()
        expect("migration", source.execute("query-migrate")["status"], "active")
        source.execute("migrate-set-parameters", {"max-bandwidth": 0})
        finish(source, target, driver)
        expect("completed at the target", queue.completed(), 17)
        expect("status", queue.status(area), OK)
        expect("data", queue.data(area, 16 * 512), b"".join(bytes([sector + 1]) * 512 for sector in range(16)))


def test_migrates_in_flight():
    """the source waits for the requests in flight, and their end arrives at the target"""
    with slow_block_device(1000) as device:
        with source_and_target([*node(device, "host_device", ",cache.direct=on"), *disk()]) as (source, target, driver):
            queue = driver.queues[0]
            areas = [queue.submit(READ, sector) for sector in range(8)]
            queue.kick()
            start(source, target)
            finish(source, target, driver)
            expect("completed at the target", queue.completed(), 8)
            expect("status", [queue.status(area) for area in areas], [OK] * 8)
            expect("status of a read", queue.request(READ, 9)[0], OK)


def test_cancelled_migration():
    """the source goes on after a migration that was cancelled, on the way or with its machine stopped already"""
    with driven(*node(), *disk()) as (source, driver):
        driver.start()
        queue = driver.queues[0]
        source.fill(0x400000, 48 << 20, 0x55)
        for state in "active", "pre-switchover":
            source.capabilities(pause_before_switchover=state == "pre-switchover")
            with Qtest(*node(), *disk(), "-incoming", "defer") as target:
                start(source, target, 1 << 20 if state == "active" else 0)
                source.qmp.wait_migration(state)
                if state == "active":
                    expect("status of a write", queue.request(WRITE, 1, b"x" * 512)[0], OK)
                source.execute("migrate_cancel")
                source.qmp.wait_migration("cancelled")
                target.wait_end(1)
            expect("status of a write", queue.request(WRITE, 1, b"y" * 512)[0], OK)
            expect("read", queue.request(READ, 1), (OK, b"y" * 512))


def test_failed_migration():
    """a target whose disk lacks a feature in use says so, and the source takes its image back"""
    with source_and_target(target_arguments=[*node(), *disk(",discard=off")]) as (source, target, driver):
        driver.start(features=DISCARD_FEATURE)
        source.capabilities(return_path=True)
        start(source, target)
        expect_text("Features 0x[0-9a-f]+ unsupported", target.fails())
        source.qmp.wait_migration("failed")
        expect("status of a write", driver.queues[0].request(WRITE, 1, b"x" * 512)[0], OK)


def test_saved_and_restored():
    """the machine is saved to a file, and goes on from there in another QEMU"""
    arguments = [*node(), *disk()]
    with driven(*arguments) as (source, driver):
        driver.start()
        queue = driver.queues[0]
        expect("status of a write", queue.request(WRITE, 5, b"s" * 512)[0], OK)
        source.save("saved")
    with restored(driver, arguments):
        expect("read", queue.request(READ, 5), (OK, b"s" * 512))


def test_migrates_the_write_cache_mode():
    """the mode that the driver switched to, either way, holds at the target, and after being saved and restored"""
    with loop_disk(make_image("loop.raw")) as device:
        for more, write_back in ("", False), (",write-cache=off", True):
            arguments = [*node(device, "host_device", DIRECT), *disk(more)]
            with source_and_target(arguments) as (source, target, driver):
                driver.start(features=FLUSH | CONFIG_WCE)
                driver.set_config(1, WRITEBACK, int(write_back))
                expect_mode(driver, device, write_back)
                start(source, target)
                finish(source, target, driver)
                expect_mode(driver, device, write_back)
                target.save("saved")
            with restored(driver, arguments):
                expect_mode(driver, device, write_back)


def test_given_away():
    """a node that is served cannot be given away; one that is not is taken back to go on"""
    with driven(*node(), *disk()) as (machine, driver):
        driver.start()
        queue = driver.queues[0]
        deactivate = {"node-name": "disk", "active": False}
        with refused("Device or resource busy"):
            machine.execute("blockdev-set-active", deactivate)
        expect("status of a write", queue.request(WRITE, 1)[0], OK)
        machine.execute("stop")
        expect("workers", len(machine.worker_names()), 2)
        machine.execute("blockdev-set-active", deactivate)
        expect_soon("workers", lambda: machine.worker_names(), [])
        machine.execute("cont")
        expect("status of a write", queue.request(WRITE, 1)[0], OK)


def test_migratable():
    """-only-migratable takes the device; a snapshot within the image does not exist for raw ones"""
    with Qtest("-only-migratable", *node(), *disk()) as machine:
        expect_text("does not support snapshots",
                    machine.execute("human-monitor-command", {"command-line": "savevm state"}))
