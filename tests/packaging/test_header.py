# SPDX-License-Identifier: GPL-2.0
"""The private header of the vhost core: where it is found, and that no other than the kernel's own is used."""

import re

import pytest

from tests.lib.host import expect, expect_text
from tests.packaging.kernels import Kernel, run

NO_BTF = {"KERNEL_IMAGE": "/dev/null"}


@pytest.mark.parametrize("name", ["6.1", "6.12", "sid"])
def test_right(name, tmp_path):
    """the header of the kernel's own source passes, without a word"""
    kernel = Kernel(name)
    result = kernel.verify(kernel.ksrc, tmp_path)
    expect("result", (result.status, result.text), (0, ""))


@pytest.mark.parametrize("old, new, difference", [
    (r"^(struct vhost_virtqueue \{\n)", r"\1\tint added;\n", r"^\+  bit 0: int added$"),
    (r"^\tu32 busyloop_timeout;\n", "", r"^-  bit \d+: u32 busyloop_timeout$"),
    (r"^\tu16 last_avail_idx;$", "\tu16 avail_idx_last;", r"^-  bit \d+: u16 last_avail_idx$"),
    (r"^(void vhost_dev_stop\(struct vhost_dev \*)", r"\1, int why",
     r"^\+vhost_dev_stop: void \(struct vhost_dev \*, int\)$"),
    (r"^bool (vhost_vq_access_ok)", r"int \1", r"^\+vhost_vq_access_ok: int \(.*\)$"),
    (r"(VHOST_ADDR_DESC = )0", r"\g<1>1", r"^\+  VHOST_ADDR_DESC = 1$"),
], ids=["member-added", "member-removed", "member-renamed", "argument", "return-type", "enum"])
def test_doctored(old, new, difference, tmp_path):
    """a header that differs in a layout, a prototype or an enum is refused, whatever its version says"""
    kernel = Kernel("6.12")
    result = kernel.verify(kernel.source(tmp_path / "source", (old, new)), tmp_path / "out")
    expect("status", result.status, 1)
    expect_text("(?m)" + difference, result.text)
    expect_text(f"is not the header that Linux {re.escape(kernel.release)} was built with", result.text)


def test_other_kernel(tmp_path):
    """the header of another kernel is refused"""
    result = Kernel("6.1").verify(Kernel("6.12").ksrc, tmp_path)
    expect("status", result.status, 1)
    expect_text("is not the header that Linux .* was built with", result.text)


def test_other_version(tmp_path):
    """a header of another version with the same types passes, which is said"""
    kernel = Kernel("6.12")
    result = kernel.verify(kernel.source(tmp_path / "source", makefile=("^SUBLEVEL = .*", "SUBLEVEL = 999")), tmp_path)
    expect("status", result.status, 0)
    expect_text(r"is the source of Linux 6\.12\.999, its types are those of Linux", result.text)


def test_vmlinuz(tmp_path):
    """the BTF of a kernel is also found in its compressed image"""
    kernel = Kernel("6.1")
    assert not (kernel.kdir / "vmlinux").exists()
    result = kernel.verify(kernel.source(tmp_path / "source", (r"^\tu32 busyloop_timeout;\n", "")), tmp_path / "out")
    expect_text(r"(?m)^-  bit \d+: u32 busyloop_timeout$", result.text)


def test_no_btf(tmp_path):
    """without BTF, versions must be equal, and a warning says what is not compared"""
    kernel = Kernel("6.1")
    result = kernel.verify(kernel.ksrc, tmp_path / "out", **NO_BTF)
    expect("status", result.status, 0)
    expect_text("warning: Linux .* has no BTF:\n.*were not compared", result.text)
    source = kernel.source(tmp_path / "source", makefile=("^SUBLEVEL = .*", "SUBLEVEL = 999"))
    result = kernel.verify(source, tmp_path / "out", **NO_BTF)
    expect("status", result.status, 1)
    expect_text(r"is the source of Linux 6\.1\.999, but .* is of Linux 6\.1\.\d+, which has no BTF", result.text)


class Places:
    """Where packaging/header looks."""

    def __init__(self, directory):
        self.kernel = Kernel("6.1")
        self.config = directory / "build.conf"
        self.store = directory / "store"
        self.out = directory / "out"

    def find(self, ksrc=""):
        return run("packaging/header", self.kernel.kdir, ksrc, self.out,
                   VHOST_BLK_CONFIG=str(self.config), VHOST_BLK_STORE=str(self.store))


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path)


def test_nowhere(places):
    """without a header the package and its version are named, and the setting"""
    result = places.find()
    expect("status", result.status, 1)
    expect_text(r"no drivers/vhost/vhost.h for Linux 6\.1\.0-\d+-amd64", result.text)
    expect_text(r"linux-source-6\.1 is not installed in the version 6\.1\.\d+-\d+", result.text)
    expect_text(f"set KSRC to the kernel's source in {places.config}", result.text)


def test_order(places, tmp_path):
    """KSRC of the caller goes before that of build.conf, that before the store"""
    version = expect_text(r"version (6\.1\.\d+-\d+)", places.find().text)[1]
    stored = places.kernel.source(places.store / version)
    expect("in the store", places.find().text, f"{stored}\n")
    configured = places.kernel.source(tmp_path / f"linux-{places.kernel.release}")
    places.config.write_text(f"KSRC={tmp_path}/linux-$release\n")
    expect("in build.conf", places.find().text, f"{configured}\n")
    given = places.kernel.source(tmp_path / "given")
    expect("given", places.find(given).text, f"{given}\n")


def test_bad_ksrc(places, tmp_path):
    """KSRC without the header is an error if given, and passed over with a warning if configured"""
    result = places.find(tmp_path)
    expect("status", result.status, 1)
    expect_text(r"no drivers/vhost/vhost.h and Makefile in .* \(KSRC\)", result.text)
    version = expect_text(r"version (6\.1\.\d+-\d+)", places.find().text)[1]
    stored = places.kernel.source(places.store / version)
    places.config.write_text("KSRC=/nonexistent\n")
    result = places.find()
    expect("status", result.status, 0)
    expect_text(rf"no drivers/vhost/vhost.h in /nonexistent \(KSRC in .*\)\n{stored}\n", result.text)
