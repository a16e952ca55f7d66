# SPDX-License-Identifier: GPL-2.0
"""A corrupt ring: its disk stops, QEMU reports it once, and a reset mends it."""

import struct
import time

from tests.lib.host import expect, expect_soon, expect_text, wait_until
from tests.lib.machine import Qtest
from tests.lib.virtio_blk import (ACKNOWLEDGE, CONFIGURATION_CHANGED, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, OK,
                                  READ, Driver, Mmio)
from tests.qemu.harness import MQ, disk, driven, node, pci_driver


def corrupt(queue):
    """Make a request available whose number is none."""
    queue.machine.write(queue.available + 4 + 2 * (queue.submitted % queue.size), struct.pack("<H", queue.size))
    queue.machine.write(queue.available + 2, struct.pack("<H", queue.submitted + 1))
    queue.kick()


def wait_told(machine, times):
    """Wait until QEMU has said so often that a ring is corrupt; what follows at once may not say it again."""
    def told():
        return machine.messages().count("corrupt")

    wait_until(lambda: told() >= times, lambda: f"told {told()} times instead of {times}")
    time.sleep(0.2)
    expect("messages", told(), times)


def test_corrupt_ring():
    """a corrupt ring is reported once and stops its disk, but no other; a reset makes it good"""
    other = ["-blockdev", "driver=null-co,node-name=nothing", "-device", "virtio-blk-pci,drive=nothing"]
    with driven(*node(), *disk(",num-queues=2"), *other) as (machine, driver):
        for times in 1, 2:
            driver.start(queues=2, features=MQ)
            first, second = driver.queues
            expect("status of a read", first.request(READ, 0)[0], OK)
            corrupt(second)
            wait_told(machine, times)
            expect_text("vhost-blk: 'disk': .*ring of virtqueue 1 is corrupt", machine.messages())
            expect_soon("workers", lambda: machine.worker_names(), [])
            corrupt(second)
            first.submit(READ, 0)
            first.kick()
            machine.execute("stop")
            machine.execute("cont")
            wait_told(machine, times)
            expect("completed on the other ring", first.completed(), 1)
        machine.execute("system_reset")
        machine.wait_event("RESET")
        driver = pci_driver(machine)
        driver.start()
        expect("status of a read after the machine's reset", driver.queues[0].request(READ, 0)[0], OK)
        wait_told(machine, 2)


def test_corrupt_ring_tells_the_guest():
    """a modern driver sees DEVICE_NEEDS_RESET and an interrupt for it"""
    with Qtest("-global", "virtio-mmio.force-legacy=false", *node(), "-device", "vhost-blk-device,drive=disk",
               machine="microvm") as machine:
        driver = Driver(Mmio(machine))
        running = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK
        driver.start()
        expect("status of a read", driver.queues[0].request(READ, 0)[0], OK)
        expect("device status", driver.status(), running)
        corrupt(driver.queues[0])
        wait_told(machine, 1)
        expect("device status", driver.status(), running | NEEDS_RESET)
        expect("change of the configuration", driver.interrupt_status() & CONFIGURATION_CHANGED,
               CONFIGURATION_CHANGED)
        driver.start()
        expect("device status", driver.status(), running)
        expect("status of a read", driver.queues[0].request(READ, 0)[0], OK)
