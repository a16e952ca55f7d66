# SPDX-License-Identifier: GPL-2.0
"""What tests in Python do to the test host: run commands, load the module, compare."""

import re
import subprocess
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]


class Failure(Exception):
    """Something did not come out as it should; the text says what."""


def shell(command):
    """Run a command in the test host and return what it prints."""
    done = subprocess.run(command, shell=True, text=True, capture_output=True)
    if done.returncode:
        raise Failure(f"{command}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def load_module():
    shell(f"{TREE}/tests/lib/load-module")


def unload_module():
    shell("rmmod vhost_blk")


def expect(what, found, wanted):
    if found != wanted:
        raise Failure(f"{what}: {found!r} instead of {wanted!r}")


def expect_text(pattern, text):
    if not re.search(pattern, text):
        raise Failure(f"no {pattern!r} in {text!r}")
