# SPDX-License-Identifier: GPL-2.0
"""A bare tree of a Debian release, in which packages are installed."""

import re
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lib.host import Failure, cached, shell

# What package managers, depmod and DKMS write beside the packages' own files.
NOT_OF_PACKAGES = (r"(var/(lib/(dpkg|apt)|cache|log)|tmp|proc|dev|root)/|var/lib/dkms/mok|"
                   r"(usr/)?lib/modules/[^/]+/modules\.")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C", "INITRD": "No",
               "DEBIAN_FRONTEND": "noninteractive"}


@dataclass
class Result:
    """How a command ended: its exit status and what it printed."""
    status: int
    text: str


class Host:
    """The tree, mounted so that changes go into a directory of their own."""

    def __init__(self, root):
        self.root = root

    def run(self, command):
        """Run a shell command in the tree, and return how it ended."""
        in_tree = ["unshare", "--pid", "--fork", "--kill-child", "chroot", self.root]
        done = subprocess.run([*in_tree, "bash", "-c", command], text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRONMENT)
        return Result(done.returncode, done.stdout)

    def check(self, command):
        """Run a command that succeeds, and return what it prints."""
        done = self.run(command)
        if done.status:
            raise Failure(f"{command}: exit status {done.status}\n{done.text}")
        return done.text

    def install(self, package):
        """Install a package from a file or from apt's cache, and return what apt prints."""
        return self.check(f"apt-get -q -y -o Dpkg::Use-Pty=0 install {package}")

    def state(self, package):
        """dpkg's word for the state of a package, such as "installed"."""
        return self.run(f"dpkg-query -W -f '${{db:Status-Status}}' {package} 2>/dev/null").text

    def kernels(self):
        """The releases of the kernels that have headers."""
        return sorted(path.parent.name for path in (self.root / "lib/modules").glob("*/build"))

    def modules(self):
        """The version of the module by the release of the kernel that has it."""
        found = {}
        for path in (self.root / "lib/modules").glob("*/updates/dkms/vhost_blk.ko*"):
            release = path.parents[2].name
            found[release] = self.check(f"modinfo -k {release} -F version vhost_blk").strip()
        return found

    def files(self):
        """All files but those that package managers and depmod write."""
        names = shell(f"find {self.root} -xdev ! -type d -printf '%P\\n'").splitlines()
        return {name for name in names if not re.match(NOT_OF_PACKAGES, name)}


@contextmanager
def mounted(suite, directory):
    """The tree of a suite, with /proc."""
    lower = cached(f"tests/packages/tree {suite}")
    root = Path(directory) / "root"
    for name in ("root", "upper", "work"):
        (Path(directory) / name).mkdir()
    shell(f"mount -t overlay -o lowerdir={lower},upperdir={directory}/upper,workdir={directory}/work overlay {root}")
    try:
        shell(f"mount -t proc proc {root}/proc")
        yield Host(root)
    finally:
        subprocess.run(f"umount -R {root}", shell=True, check=True)
