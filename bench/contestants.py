# SPDX-License-Identifier: GPL-2.0
"""Who competes at ring level, as options of fio; and the variants of vhost-blk at both levels."""

import os
import shlex
from collections import namedtuple
from pathlib import Path

from bench.backends import FILE_MEBIBYTES
from tests.lib.host import TREE

OURS = "vhost-blk"

# vhost-blk and its variants, named "vhost-blk, NAME": the options of each, which fio's engine and ringcount both take.
VARIANTS = {
    "vhost-blk": (),
    "vhost-blk, busy polling": ("--poll_us=50",),
    "vhost-blk, pinned memory": ("--pin=16777216",),
}

# The same in a guest: properties of the device.
NO_POLLING = ", no polling"
GUEST_VARIANTS: dict[str, dict] = {
    "vhost-blk": {},
    f"vhost-blk{NO_POLLING}": {"poll-us": 0},
    "vhost-blk, polling 1 ms": {"poll-us": 1000},
    "vhost-blk, pinned memory": {"pin-limit": 67108864},
}


def is_rival(contestant):
    """Another way to serve a guest's disk, rather than something that vhost-blk is compared with to explain it."""
    return not contestant.startswith(OURS)


VHOST_USER_QUEUES = 7
VHOST_USER_LIMIT = ("the memory of each job has a descriptor of its own, and a vhost-user message carries eight of"
                    f" them: {VHOST_USER_QUEUES} queues at most")

# options(queues) are fio's; of more than queues_max there is nothing to measure, and left_out says why.
Contestant = namedtuple("Contestant", "options queues_max left_out", defaults=[16, None])


def contestants(disk, bare, socket):
    """By name, those on a disk, and on the block device that it is to be compared with if there is one."""
    ring = f"--ioengine=external:{TREE}/build/bench/vhost.so"
    # The file's size, so that each reads as much.
    size = f"--size={FILE_MEBIBYTES}m"

    def vhost(path, *more):
        return lambda queues: [ring, f"--queues={queues}", *more, f"--filename={path}", size]

    def fio(engine, path):
        return lambda queues: [f"--ioengine={engine}", f"--filename={path}", size]

    found = {name: Contestant(vhost(disk, *more)) for name, more in VARIANTS.items()}
    found["vhost-user-blk"] = Contestant(vhost(disk, f"--socket={socket}"), VHOST_USER_QUEUES, VHOST_USER_LIMIT)
    found["io_uring"] = Contestant(fio("io_uring", disk))
    found["libaio"] = Contestant(fio("libaio", disk))
    if bare:
        found["vhost-blk on the block device"] = Contestant(vhost(bare))
        found["io_uring on the block device"] = Contestant(fio("io_uring", bare))
    return found


def command_line(command):
    """As one would type it in the tree."""
    program, *words = command
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "vhost-blk")
    return shlex.join([Path(program).name, *words]).replace(f"{TREE}/", "").replace(f"{cache}/", "")
