# SPDX-License-Identifier: GPL-2.0
"""`make install` and its like into another root."""

import re
import subprocess

import pytest

from tests.lib.host import TREE, Failure, expect, expect_text
from tests.packaging.kernels import Kernel, run


def make(target, kernel, tmp_path, **variables):
    """Make a target with variables, and a store of headers of its own."""
    words = [f"{name}={value}" for name, value in variables.items()]
    done = run("make", "-s", target, *words, VHOST_BLK_STORE=str(tmp_path.parent / "store"), **kernel.environment)
    if done.status:
        raise Failure(f"make {target}: exit status {done.status}\n{done.text}")


def files(root):
    """The files below a directory, without those that depmod writes."""
    found = (str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())
    return sorted(name for name in found if not re.match(r"lib/modules/[^/]+/modules\.", name))


def version():
    return expect_text(r'MODULE_VERSION\("(.*)"\);', (TREE / "drivers/vhost/blk.c").read_text())[1]


@pytest.fixture(scope="module")
def kernel():
    return Kernel("6.12")


def test_install(kernel, tmp_path):
    """DESTDIR gets the module of KDIR, stripped, what it depends on, the program, and files for udev and systemd"""
    kernel.install_core(tmp_path / "lib/modules" / kernel.release)
    core = files(tmp_path)
    make("install", kernel, tmp_path, KDIR=kernel.kdir, KSRC=kernel.ksrc, DESTDIR=tmp_path)
    module = tmp_path / "lib/modules" / kernel.release / "updates/vhost_blk.ko"
    expect("files", files(tmp_path), sorted(core + [
        str(module.relative_to(tmp_path)),
        "usr/lib/modules-load.d/vhost-blk.conf",
        "usr/lib/udev/rules.d/60-vhost-blk.rules",
        "usr/local/sbin/vhost-blk",
        "usr/local/share/man/man4/vhost-blk.4",
        "usr/local/share/man/man8/vhost-blk.8",
    ]))
    sections = subprocess.run(["readelf", "-SW", module], check=True, text=True, stdout=subprocess.PIPE).stdout
    expect("debugging information", ".debug_info" in sections, False)
    found = subprocess.run(["/sbin/modinfo", "-b", tmp_path, "-k", kernel.release, "-F", "version", "vhost_blk"],
                           check=True, text=True, stdout=subprocess.PIPE).stdout
    expect("version", found, f"{version()}\n")
    dependencies = (module.parents[1] / "modules.dep").read_text()
    expect_text(r"(?m)^updates/vhost_blk\.ko:.*/vhost\.ko", dependencies)

    make("uninstall", kernel, tmp_path, DESTDIR=tmp_path)
    expect("files that are left", files(tmp_path), core)
    expect("module in modules.dep", "vhost_blk" in (module.parents[1] / "modules.dep").read_text(), False)


def test_mod_path(kernel, tmp_path):
    """INSTALL_MOD_PATH moves the module alone"""
    make("install", kernel, tmp_path, KDIR=kernel.kdir, KSRC=kernel.ksrc, DESTDIR=tmp_path / "root",
         INSTALL_MOD_PATH=tmp_path / "modules")
    expect("modules", files(tmp_path / "modules"), [f"lib/modules/{kernel.release}/updates/vhost_blk.ko"])
    expect("others", [name for name in files(tmp_path / "root") if name.endswith(".ko")], [])


def test_dkms_source(kernel, tmp_path):
    """the source for DKMS is complete, and its version is the module's"""
    make("install-dkms-source", kernel, tmp_path, DESTDIR=tmp_path)
    root = tmp_path / "usr/src" / f"vhost-blk-{version()}"
    expect("version", expect_text('PACKAGE_VERSION="(.*)"', (root / "dkms.conf").read_text())[1], version())
    result = run(root / "packaging/build", kernel.kdir, kernel.ksrc, tmp_path / "out",
                 VHOST_BLK_STORE=str(tmp_path / "store"), **kernel.environment)
    if result.status:
        raise Failure(f"the source does not build:\n{result.text}")
    expect("the module is built", (tmp_path / "out/vhost_blk.ko").exists(), True)
    stored = files(tmp_path / "store")
    expect("the store", [name.partition("/")[2] for name in stored], ["Makefile", "drivers/vhost/vhost.h"])
