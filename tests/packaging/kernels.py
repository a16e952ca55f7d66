# SPDX-License-Identifier: GPL-2.0
"""The scripts of packaging/ on the kernels of testbed/kernel."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lib.host import TREE, Failure, cached


@dataclass
class Result:
    """How a command ended: its exit status and what it printed."""
    status: int
    text: str


def run(*command, **environment):
    """Run a command of the tree with these variables, and none of its own files of the machine, in its environment."""
    done = subprocess.run([str(word) for word in command], cwd=TREE, env=os.environ | environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return Result(done.returncode, done.stdout)


class Kernel:
    """A kernel of testbed/kernel: its headers, and the directory of its source's header."""

    def __init__(self, name):
        self.directory = Path(cached(f"testbed/kernel {name}"))
        self.kdir = self.directory / "kdir"
        self.ksrc = self.directory / "ksrc"
        self.release = (self.directory / "release").read_text().strip()
        self.modules = self.directory / "lib/modules" / self.release
        # Of packaging/verify, since this kernel is not installed.
        self.environment = {"KERNEL_MODULES": str(self.modules), "KERNEL_IMAGE": str(self.directory / "vmlinuz")}

    def verify(self, ksrc, out, **environment):
        """Compile the probe with the header of a directory, and compare it with the kernel."""
        compiled = run("testbed/compile", self.directory, "packaging/probe", self.kdir, ksrc, out)
        if compiled.status:
            raise Failure(f"the probe does not compile:\n{compiled.text}")
        return run("packaging/verify", self.kdir, ksrc, out, **self.environment | environment)

    def install_core(self, directory):
        """Copy the vhost core into a directory of modules."""
        for module in self.modules.glob("kernel/drivers/vhost/vhost*"):
            target = directory / module.relative_to(self.modules)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(module.read_bytes())

    def source(self, directory, header=("", ""), makefile=("", "")):
        """A source tree like the kernel's, with one replacement in its header and one in its Makefile."""
        for name, (old, new) in {"drivers/vhost/vhost.h": header, "Makefile": makefile}.items():
            text = (self.ksrc / name).read_text()
            changed = re.sub(old, new, text, count=1, flags=re.MULTILINE) if old else text
            if old and changed == text:
                raise Failure(f"no {old!r} in {name}")
            file = directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(changed)
        return directory
