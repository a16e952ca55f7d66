# SPDX-License-Identifier: GPL-2.0
"""How a scenario runs: a module whose tests are its steps, in their order, on one guest.

A scenario may define the fixtures "disks" and "options", the disks of its guest and whatever else that needs. The guest
is killed when the module ends. A step that fails ends the scenario: the steps after it fail unrun.
"""

import time
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest

from tests.guest.guest import VHOST, Disk, Guest, file_memory
from tests.lib.disks import file_on_ext4, null_block


def pytest_addoption(parser):
    parser.addoption("--device", default=VHOST, help="the disks' device; virtio-blk-pci to try the tests")
    parser.addoption("--rounds", type=int, help="how often to repeat what a scenario repeats")


def pytest_configure(config):
    config.addinivalue_line("markers", "rounds(number): how often the test repeats what it does, without --rounds")


def pytest_generate_tests(metafunc):
    """Make a test of each round of a test that takes the fixture "number"."""
    if "number" in metafunc.fixturenames:
        metafunc.parametrize("number", range(wanted_rounds(metafunc.config, metafunc.definition)))


def wanted_rounds(config, item):
    return config.option.rounds or item.get_closest_marker("rounds").args[0]


def pytest_runtest_makereport(item, call):
    if call.excinfo and not call.excinfo.errisinstance(pytest.skip.Exception) and not failed_step(item):
        item.parent.failed_step = item.name


def pytest_runtest_setup(item):
    if failed_step(item):
        pytest.fail(f"not run, since {failed_step(item)} failed", pytrace=False)


def failed_step(item):
    """The name of the first step that failed of the scenario, or None."""
    return getattr(item.parent, "failed_step", None)


@pytest.fixture(scope="session")
def device(pytestconfig):
    """The disks' device."""
    return pytestconfig.option.device


@pytest.fixture(scope="module")
def vhost_only(device):
    if device != VHOST:
        pytest.skip(f"{device} has nothing of what this scenario is about")


@pytest.fixture
def rounds(request):
    """How often the test repeats what it does."""
    return wanted_rounds(request.config, request.node)


@pytest.fixture(scope="module")
def kept():
    """What steps keep for those after them."""
    return SimpleNamespace()


@pytest.fixture(scope="session")
def first_boot():
    """Options of a guest that goes on where another one had just booted, and how long that took, in seconds."""
    with TemporaryDirectory() as place:
        options: dict[str, Any] = {"vcpus": 2, "memory": "256M"}
        start = time.monotonic()
        with Guest([], **options, arguments=file_memory(place, options["memory"], "on")) as guest:
            seconds = time.monotonic() - start
            guest.save_template(place)
        yield {**options, "template": place}, seconds


@pytest.fixture(scope="session")
def booted(first_boot):
    """Options of a guest that does not boot, but goes on where another one had just booted."""
    return first_boot[0]


@pytest.fixture(scope="session")
def boot_seconds(first_boot):
    return first_boot[1]


@pytest.fixture(scope="module")
def options(booted):
    """Options of the scenario's guest, which need not boot unless the scenario says so."""
    return booted


@pytest.fixture(scope="module")
def disks(device):
    """A block device and an image file, with two queues each."""
    with null_block(64) as block, file_on_ext4(64) as file:
        yield [Disk(block, "block", device, 2), Disk(file, "file", device, 2)]


@pytest.fixture(scope="module")
def guest(disks, options):
    with Guest(disks, **options) as guest:
        yield guest
