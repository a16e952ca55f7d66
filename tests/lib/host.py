# SPDX-License-Identifier: GPL-2.0
"""What tests in Python do to the test host: run commands, load the module, compare."""

import functools
import os
import re
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
# Seconds for what must happen: several times what it takes on a busy emulated host.
PATIENCE = 300 * int(os.environ.get("TESTBED_SLOWER", 1))


class Failure(Exception):
    """Something did not come out as it should; the text says what."""


def shell(command):
    """Run a command in the test host and return what it prints."""
    done = subprocess.run(command, shell=True, text=True, capture_output=True)
    if done.returncode:
        raise Failure(f"{command}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


@functools.cache
def cached(script):
    """The directory in the cache that one of the tree's scripts fills and prints."""
    return shell(f"{TREE}/{script}")


def accelerator():
    """What the test host itself runs under."""
    if os.environ.get("TESTBED_SIMULATED"):
        return "simulated"
    sources = Path("/sys/devices/system/clocksource/clocksource0/available_clocksource").read_text()
    return "KVM" if "kvm-clock" in sources else "emulated (TCG)"


def load_module():
    shell(f"{TREE}/tests/lib/load-module")


def unload_module():
    shell("rmmod vhost_blk")


def expect(what, found, wanted):
    if found != wanted:
        raise Failure(f"{what}: {found!r} instead of {wanted!r}")


def wait_until(met, failure, interval=0.02):
    """Wait until met() is true, and return it; failure() is the text of the Failure if it does not become so."""
    deadline = time.monotonic() + PATIENCE
    while not (found := met()):
        if time.monotonic() > deadline:
            raise Failure(failure())
        time.sleep(interval)
    return found


def expect_soon(what, find, wanted):
    """What find() returns becomes what is wanted: ending threads are seen for a moment, on a busy host for longer."""
    wait_until(lambda: find() == wanted, lambda: f"{what}: {find()!r} instead of {wanted!r}")


def expect_text(pattern, text):
    """Return what the pattern matches in the text, and fail without a match."""
    found = re.search(pattern, text)
    if not found:
        raise Failure(f"no {pattern!r} in {text!r}")
    return found


def cpu_time(task):
    """CPU time in seconds of a thread, given by its directory in /proc."""
    return int((task / "schedstat").read_text().split()[0]) / 1e9


def tasks(directories, pattern, look):
    """Names of the tasks, given by their directories in /proc, that match, and what look() finds at each."""
    found = []
    for task in directories:
        try:
            name = (task / "comm").read_text().strip()
            if re.fullmatch(pattern, name):
                found.append((name, look(task)))
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has just ended
    return sorted(found)


def all_tasks():
    """The directories in /proc of all threads, the kernel's and those of processes."""
    return Path("/proc").glob("[0-9]*/task/*")


def workers(process, look):
    """Names of the workers, threads of QEMU or the kernel's, that serve its disks, and what look() finds at each."""
    return tasks(all_tasks(), rf"vhost-{process.pid}-[sc]\d+", look)


@contextmanager
def cgroup(name="qemu"):
    """The directory of a cgroup of its own, and the words that start the command after them in it."""
    path = Path("/sys/fs/cgroup", name)
    path.mkdir()
    try:
        yield path, ["sh", "-c", f'echo $$ >{path}/cgroup.procs && exec "$@"', "sh"]
    finally:
        wait_until(lambda: "populated 0" in (path / "cgroup.events").read_text(),
                   lambda: f"still in {path}: {(path / 'cgroup.threads').read_text().split()}")
        path.rmdir()
