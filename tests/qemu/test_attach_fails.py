# SPDX-License-Identifier: GPL-2.0
"""The kernel module refuses to attach the disk, as where it gets no memory."""

from pathlib import Path

import pytest

from tests.lib.host import TREE, expect
from tests.lib.virtio_blk import OK, READ
from tests.qemu.harness import disk, drain, driven, expect_path, node

PRELOADED = f"{TREE}/build/tests/qemu"
FAILS = Path("fails")  # while it exists
ATTACH_FAILS = ["env", f"LD_PRELOAD={PRELOADED}/attachfails.so", f"ATTACH_FAILS={FAILS}"]


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


def test_start(failing):
    """QEMU serves a disk that the kernel cannot start, and the kernel does so when it can"""
    with driven(*node(), *disk(), wrapper=ATTACH_FAILS) as (machine, driver):
        for _ in range(2):
            failing()
            driver.start()
            queue = driver.queues[0]
            expect("status of a read", queue.request(READ, 0)[0], OK)
            expect_path(machine, "qemu", "^cannot attach the host file: Cannot allocate memory$")
            expect("status of a read", queue.request(READ, 1)[0], OK)
            FAILS.unlink()
            expect_path(machine, "kernel")
            expect("status of a read", queue.request(READ, 2)[0], OK)
