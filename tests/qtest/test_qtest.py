# SPDX-License-Identifier: GPL-2.0
"""QEMU's own qtests of virtio-blk, as they are, on vhost-blk-pci."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.lib.host import Failure, cached, load_module, unload_module

BUS = "/x86_64/pc/i440FX-pcihost/pci-bus-pc/pci-bus"
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


@pytest.mark.parametrize("path", ["kernel", "qemu"])
@pytest.mark.parametrize("name", ["indirect", "config", "basic", "resize"])
def test_by_interface(name, path):
    """with the module, and where there is none"""
    (load_module if path == "kernel" else unload_module)()
    run(emulator(), BY_INTERFACE + name)


@pytest.mark.parametrize("name", ["msix", "idx", "nxvirtq", "hotplug"])
def test_by_name(renaming_emulator, name):
    load_module()
    run(renaming_emulator, BY_NAME + name)
