# SPDX-License-Identifier: GPL-2.0
"""QEMU without any right and in its sandbox: what it may not open is passed to it, at start and by QMP."""

import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.guest.checks import (FILL, check_console, check_left_nothing, compare_files, sum_in_guest, sum_in_host,
                                verify)
from tests.guest.guest import VHOST, Disk, Guest, load_kvm
from tests.lib.disks import file_on_ext4, null_block
from tests.lib.host import Failure, cached, expect, expect_text, load_module, shell
from tests.lib.qmp import Refused

pytestmark = pytest.mark.usefixtures("vhost_only")

NOBODY = 65534
DROP = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs", "--inh-caps=-all",
        "--bounding-set=-all"]
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@dataclass
class Unprivileged(Guest):
    """A QEMU of the user nobody, to which some paths have other names."""

    instead: dict[str, str] = field(default_factory=dict, kw_only=True)

    def command(self):
        os.chown(self.directory, NOBODY, NOBODY)
        words = [*DROP, *super().command(), "-sandbox", SANDBOX]
        words[words.index("kvm")] = "kvm,device=/dev/fdset/1"
        for path, given in self.instead.items():
            words = [word.replace(path, given) for word in words]
        return words


@contextmanager
def public_place():
    """Give places where everybody can read QEMU's program and the guest's kernel, by their real places."""
    with TemporaryDirectory() as public, ExitStack() as stack:
        os.chmod(public, 0o755)
        instead = {}
        for script in "qemu-patches/build", "tests/guest/image":
            origin, place = cached(script), f"{public}/{script.rpartition('/')[2]}"
            os.mkdir(place)
            shell(f"mount --bind {origin} {place}")
            stack.callback(shell, f"umount {place}")
            instead[origin] = place
        yield instead


@contextmanager
def opened(path, flags=0):
    descriptor = os.open(path, os.O_RDWR | flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def plug(guest, **more):
    guest.execute("device_add", {"driver": VHOST, "drive": "file", "id": "hot", **more})


def check_rights(guest):
    """QEMU is nobody, may nothing, and is under a system call filter."""
    status = Path(f"/proc/{guest.process.pid}/status").read_text().splitlines()
    found = {name: value.split() for name, _, value in (line.partition(":") for line in status)}
    none, nobody = [f"{0:016x}"], [str(NOBODY)] * 4
    wanted = {"Uid": nobody, "Gid": nobody, "Groups": [], "CapInh": none, "CapPrm": none, "CapEff": none,
              "CapBnd": none, "CapAmb": none, "NoNewPrivs": ["1"], "Seccomp": ["2"]}
    expect("rights of QEMU", {name: found[name] for name in wanted}, wanted)


@pytest.fixture(scope="module")
def paths():
    with null_block(64) as block, file_on_ext4(64) as file:
        yield [block, file]


@pytest.fixture(scope="module")
def guest(paths):
    load_module()
    load_kvm()
    with public_place() as instead, ExitStack() as stack:
        # The parent keeps nothing open.
        with opened("/dev/kvm") as kvm, opened("/dev/vhost-blk") as vhost, opened(paths[0], os.O_DIRECT) as block:
            guest = stack.enter_context(Unprivileged(
                [Disk(paths[0], "passed", queues=2, options=f",vhostfd={vhost}")], vcpus=2,
                arguments=("-add-fd", f"fd={kvm},set=1", "-add-fd", f"fd={block},set=2"),
                pass_fds=(kvm, vhost, block), instead={**instead, paths[0]: "/dev/fdset/2"}))
        yield guest


def test_boot(guest):
    check_rights(guest)


def test_fio(guest, paths):
    """fio on a passed block device"""
    verify(guest, ["vda"], seed=1)
    expect("checksum", sum_in_guest(guest, "vda"), sum_in_host(paths[0]))


def test_nothing_else(guest, paths):
    """what is not passed cannot be had"""
    with opened(paths[1], os.O_DIRECT) as file:
        guest.execute("add-fd", {"fdset-id": 3}, fd=file)
    guest.execute("blockdev-add", {"driver": "file", "node-name": "file", "filename": "/dev/fdset/3",
                                   "cache": {"direct": True}})
    try:
        plug(guest, vhost="force")
    except Refused as error:
        expect_text("no permission to open /dev/vhost-blk: .*vhostfd=", str(error))
    else:
        raise Failure("QEMU opened /dev/vhost-blk by itself")


def test_passed_by_qmp(guest, kept):
    """a file and the device passed by QMP, plugged and unplugged twice"""
    for _ in range(2):
        with opened("/dev/vhost-blk") as vhost:
            guest.execute("getfd", {"fdname": "vhost"}, fd=vhost)
        plug(guest, vhostfd="vhost")
        kept.listing = guest.run("until [ -b /dev/vdb ]; do sleep .1; done\n" + FILL.replace("DISK", "/dev/vdb"))
        guest.execute("device_del", {"id": "hot"})
        guest.wait_event("DEVICE_DELETED", device="hot")


def test_power_off(guest):
    check_console(guest)
    guest.power_off()
    check_left_nothing(guest)


def test_host_reads_the_files(paths, kept):
    compare_files(paths[1], kept.listing)
