# SPDX-License-Identifier: GPL-2.0
"""QEMU's own qtests on vhost-blk-pci: those of virtio-blk as they are, and the series' vhost-blk-test.

tests/qemu/qtest [TEST...]: all, or those whose names end so. Runs in the test host. A test that is skipped has failed.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lib.host import load_module
from tests.qemu.machine import PREFIX

QOS_TEST = f"{PREFIX}/bin/qos-test"
EMULATOR = f"{PREFIX}/bin/qemu-system-x86_64"
BUS = "/x86_64/pc/i440FX-pcihost/pci-bus-pc/pci-bus"
OWN = f"{BUS}/vhost-blk-pci/vhost-blk-pci-tests/"

# By way of libqos, which has vhost-blk-pci as one more device with the interface virtio-blk.
BY_INTERFACE = [f"{BUS}/vhost-blk-pci/virtio-blk/virtio-blk-tests/{name}"
                for name in ("indirect", "config", "basic", "resize")]
# Those that ask for virtio-blk-pci by name: an emulator that takes the name for the other's.
BY_NAME = [f"{BUS}/virtio-blk-pci/virtio-blk-pci-tests/{name}" for name in ("msix", "idx", "nxvirtq", "hotplug")]
RENAMING_EMULATOR = f"""#!/bin/bash
exec {EMULATOR} "${{@/#virtio-blk-pci,/vhost-blk-pci,}}"
"""


def qos_test(emulator, *arguments):
    done = subprocess.run([QOS_TEST, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={**os.environ, "QTEST_QEMU_BINARY": emulator})
    return done.stdout


def run(emulator, names):
    """Run the tests, given in the order in which qos-test has them, and return those that did not pass."""
    failed = []
    while names:
        output = qos_test(emulator, "--tap", *[word for name in names for word in ("-p", name)])
        results = dict(re.findall(r"^(?:ok|not ok) \d+ (\S+)(.*)$", output, re.MULTILINE))
        passed = set(re.findall(r"^ok \d+ (\S+)$", output, re.MULTILINE))
        # The first that has no result is the one that took the program down.
        ended = [name for name in names if name in results]
        ended += [name for name in names if name not in results][:1]
        for name in ended:
            print(f"{'ok' if name in passed else 'not ok'} {name.removeprefix(BUS)}{results.get(name, '')}", flush=True)
        if not passed.issuperset(ended):
            print(output.rpartition("# starting QEMU")[2], flush=True)
        failed += [name for name in ended if name not in passed]
        names = [name for name in names if name not in ended]
    return failed


def main():
    load_module()
    own = [line for line in qos_test(EMULATOR, "-l").splitlines() if line.startswith(OWN)]
    wanted = tuple(sys.argv[1:]) or ("",)
    groups = [(EMULATOR, BY_INTERFACE + own)]
    with tempfile.TemporaryDirectory() as place:
        # The last part of the emulator's name tells qos-test the architecture.
        renaming = Path(place, "qemu-system-x86_64")
        renaming.write_text(RENAMING_EMULATOR)
        renaming.chmod(0o755)
        groups.append((str(renaming), BY_NAME))
        groups = [(emulator, [name for name in names if name.endswith(wanted)]) for emulator, names in groups]
        failed = sum(len(run(*group)) for group in groups)
    total = sum(len(names) for _, names in groups)
    if not own:
        print("not ok: vhost-blk-test has not registered a test")
        failed, total = failed + 1, total + 1
    print(f"qtest: {total - failed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
