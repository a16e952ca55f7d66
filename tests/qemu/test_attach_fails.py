# SPDX-License-Identifier: GPL-2.0
"""The kernel module refuses to attach the disk, as where it gets no memory."""

from pathlib import Path

import pytest

from tests.lib.host import TREE, expect, expect_text
from tests.lib.machine import Qtest
from tests.lib.virtio_blk import (ACKNOWLEDGE, CONFIGURATION_CHANGED, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, OK,
                                  READ, Driver, Mmio)
from tests.qemu.harness import disk, drain, driven, node

PRELOADED = f"{TREE}/build/tests/qemu"
FAILS = Path("fails")  # while it exists
ATTACH_FAILS = ["env", f"LD_PRELOAD={PRELOADED}/attachfails.so", f"ATTACH_FAILS={FAILS}"]
OLD_MODULE_TOO = ["env", f"LD_PRELOAD={PRELOADED}/attachfails.so:{PRELOADED}/oldmodule.so", f"ATTACH_FAILS={FAILS}"]


@pytest.fixture
def failing():
    """A function that has the module refuse from then on."""
    yield FAILS.touch
    FAILS.unlink(missing_ok=True)


def test_drained_and_paused(failing):
    """neither a drain's end nor cont attaches, so nothing that an attach needs can be missing"""
    with driven(*node(), *disk(), wrapper=ATTACH_FAILS) as (machine, driver):
        driver.start()
        queue = driver.queues[0]
        failing()
        for _ in range(2):
            queue.submit(READ, 0)
            queue.kick()
            drain(machine)
            expect("status of a read", queue.request(READ, 1)[0], OK)
            machine.execute("stop")
            machine.execute("cont")
            expect("status of a read", queue.request(READ, 2)[0], OK)


def expect_told(machine, driver):
    """The device says that it needs a reset, with an interrupt, and is as good as new after one."""
    expect_text("vhost-blk: cannot attach the host file of 'disk': Cannot allocate memory", machine.messages())
    running = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK
    expect("device status", driver.status(), running | NEEDS_RESET)
    expect("change of the configuration", driver.interrupt_status() & CONFIGURATION_CHANGED, CONFIGURATION_CHANGED)
    FAILS.unlink()
    driver.start()
    expect("device status", driver.status(), running)
    expect("status of a read", driver.queues[0].request(READ, 0)[0], OK)


def modern(wrapper):
    return Qtest("-global", "virtio-mmio.force-legacy=false", *node(), "-device", "vhost-blk-device,drive=disk",
                 machine="microvm", wrapper=wrapper)


def test_start(failing):
    """a modern driver is told when the disk does not start"""
    with modern(ATTACH_FAILS) as machine:
        driver = Driver(Mmio(machine))
        failing()
        driver.start()
        expect_told(machine, driver)


def test_cont_with_older_module(failing):
    """a modern driver is told when the disk does not go on, as it may be with a module of the first release"""
    with modern(OLD_MODULE_TOO) as machine:
        driver = Driver(Mmio(machine))
        driver.start()
        failing()
        machine.execute("stop")
        machine.execute("cont")
        expect_told(machine, driver)
