# SPDX-License-Identifier: GPL-2.0
"""QEMU's own qtests on vhost-blk-pci: those of virtio-blk as they are, and the series' vhost-blk-test."""

import functools
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.lib.host import Failure, cached, load_module

BUS = "/x86_64/pc/i440FX-pcihost/pci-bus-pc/pci-bus"
OWN = f"{BUS}/vhost-blk-pci/vhost-blk-pci-tests/"
# By way of libqos, which has vhost-blk-pci as one more device with the interface virtio-blk.
BY_INTERFACE = f"{BUS}/vhost-blk-pci/virtio-blk/virtio-blk-tests/"
# These ask for virtio-blk-pci by name: their emulator takes the name for vhost-blk-pci's.
BY_NAME = f"{BUS}/virtio-blk-pci/virtio-blk-pci-tests/"


def emulator():
    return f"{cached('qemu-patches/build')}/bin/qemu-system-x86_64"


def qos_test(binary, *arguments):
    done = subprocess.run([f"{cached('qemu-patches/build')}/bin/qos-test", *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, env={**os.environ, "QTEST_QEMU_BINARY": binary})
    return done.stdout


@functools.cache
def own_tests():
    """The names of the tests that the series adds, which are there when the module is loaded."""
    load_module()
    return [line.removeprefix(OWN) for line in qos_test(emulator(), "-l").splitlines() if line.startswith(OWN)]


def pytest_generate_tests(metafunc):
    if "own" in metafunc.fixturenames:
        # Without any, the one test says so.
        metafunc.parametrize("own", own_tests() or [None])


def run(binary, name):
    output = qos_test(binary, "--tap", "-p", name)
    if not re.search(rf"(?m)^ok \d+ {re.escape(name)}$", output):
        raise Failure(f"{name} did not pass:\n{output}")


@pytest.fixture(scope="module")
def renaming_emulator(tmp_path_factory):
    # The last part of the emulator's name tells qos-test the architecture.
    path = Path(tmp_path_factory.mktemp("renaming"), "qemu-system-x86_64")
    path.write_text(f'#!/bin/bash\nexec {emulator()} "${{@/#virtio-blk-pci,/vhost-blk-pci,}}"\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("name", ["indirect", "config", "basic", "resize"])
def test_by_interface(name):
    run(emulator(), BY_INTERFACE + name)


def test_own(own):
    if own is None:
        raise Failure("vhost-blk-test has not registered a test")
    run(emulator(), OWN + own)


@pytest.mark.parametrize("name", ["msix", "idx", "nxvirtq", "hotplug"])
def test_by_name(renaming_emulator, name):
    run(renaming_emulator, BY_NAME + name)
