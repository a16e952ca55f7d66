# SPDX-License-Identifier: GPL-2.0
"""One life of the package on a host, in this order: install, new kernels, upgrade, wrong header, remove, purge."""

import re
import time

import pytest

from tests.lib.host import TREE, expect, expect_text, shell
from tests.packages.host import mounted

NEWER = "99.1"


def build(directory, version):
    """Build the package in a version."""
    return shell(f"{TREE}/packaging/deb '{version}' {directory}").splitlines()[-1]


def version():
    return expect_text(r'MODULE_VERSION\("(.*)"\);', (TREE / "drivers/vhost/blk.c").read_text())[1]


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """The files of the package: by "this", the version of the tree, and by "newer"."""
    directory = tmp_path_factory.mktemp("packages")
    return {"this": build(directory, version()), "newer": build(directory, NEWER)}


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def host(request, packages, tmp_path_factory):
    with mounted(request.param, tmp_path_factory.mktemp(request.param)) as tree:
        for file in packages.values():
            shell(f"cp {file} {tree.root}/tmp/")
        tree.suite = request.param
        tree.before = tree.files()
        [tree.kernel] = tree.kernels()
        yield tree


def deb(file):
    return "/tmp/" + file.rpartition("/")[2]


def expect_refused(text, kernel):
    """What the package says of a kernel that gets no module."""
    expect_text(f"vhost-blk: NO MODULE for Linux {re.escape(kernel)}", text)


def test_install_without_source(host, packages):
    """without the kernel's source the package is installed, and says what is missing for the module"""
    text = host.install(deb(packages["this"]))
    expect("state", host.state("vhost-blk-dkms"), "installed")
    expect_refused(text, host.kernel)
    expect_text(r"no drivers/vhost/vhost\.h for Linux", text)
    expect_text(r"the package linux-source-6\.\d+ is not installed in the version 6\.\d+\.\d+-\d+", text)
    expect("modules", host.modules(), {})
    expect("vhost-blk --version", host.check("vhost-blk --version"), f"vhost-blk {version()}\n")


def test_kernel_without_source(host):
    """a new kernel without source does not break apt, and is announced"""
    text = host.install("linux-headers-cloud-amd64")
    expect("state", host.state("linux-headers-cloud-amd64"), "installed")
    [host.cloud] = [kernel for kernel in host.kernels() if "cloud" in kernel]
    expect_refused(text, host.cloud)
    expect("half-configured packages", host.check("dpkg --audit"), "")


def test_source(host):
    """with the source, the command that the package named builds the module, compared with the kernel's BTF"""
    host.install("linux-source")
    start = time.monotonic()
    host.check(f"dkms install vhost-blk/{version()} -k {host.kernel}")
    print(f"TIME {time.monotonic() - start:.2f} packages:{host.suite}:build")
    expect("modules", host.modules(), {host.kernel: version()})
    log = host.check(f"cat /var/lib/dkms/vhost-blk/{version()}/{host.kernel}/x86_64/log/make.log")
    expect("warnings", re.findall("^vhost-blk:.*", log, re.MULTILINE), [])


def test_kernel_with_source(host):
    """a new kernel with source gets the module"""
    host.install("linux-headers-rt-amd64")
    [host.rt] = [kernel for kernel in host.kernels() if "rt" in kernel]
    expect("modules", host.modules(), {host.kernel: version(), host.rt: version()})


def test_stored_header(host):
    """without the source, a kernel whose header was seen before still gets the module"""
    host.check("apt-get -q -y purge '^linux-source.*'")
    host.check(f"/usr/lib/vhost-blk/dkms-install {host.cloud}")
    expect("kernels with the module", sorted(host.modules()), sorted([host.kernel, host.rt, host.cloud]))
    host.check("apt-get -q -y purge linux-headers-rt-amd64 linux-headers-cloud-amd64")
    host.check("apt-get -q -y --purge autoremove")
    expect("kernels with headers", host.kernels(), [host.kernel])


def test_upgrade(host, packages):
    """an upgrade replaces the module of each kernel that has headers, and leaves no older version"""
    host.install(deb(packages["newer"]))
    expect("modules", host.modules(), {host.kernel: NEWER})
    expect("versions in DKMS", set(re.findall(r"vhost-blk/([^,:]*)", host.check("dkms status"))), {NEWER})
    expect("sources", [path.name for path in (host.root / "usr/src").glob("vhost-blk-*")], [f"vhost-blk-{NEWER}"])


def test_wrong_header(host):
    """a header that is not the kernel's is refused, and breaks nothing"""
    host.check(f"dkms remove vhost-blk/{NEWER} -k {host.kernel}")
    [stored] = (host.root / "var/lib/vhost-blk/headers").glob("*")
    source = host.root / "root/source"
    shell(f"cp -r {stored} {source}")
    header = source / "drivers/vhost/vhost.h"
    changed = header.read_text().replace("\tu32 busyloop_timeout;\n", "")
    header.write_text(changed)
    config = host.root / "etc/vhost-blk/build.conf"
    old = config.read_text()
    config.write_text(old + "KSRC=/root/source\n")
    text = host.check(f"/usr/lib/vhost-blk/dkms-install {host.kernel}")
    config.write_text(old)
    expect_refused(text, host.kernel)
    expect_text("is not the header that Linux .* was built with", text)
    expect("modules", host.modules(), {})


def test_remove(host):
    """removing the package removes all modules, and keeps the configuration"""
    host.check("apt-get -q -y remove vhost-blk-dkms")
    expect("modules", host.modules(), {})
    expect("sources", list((host.root / "usr/src").glob("vhost-blk-*")), [])
    expect("the configuration is kept", (host.root / "etc/vhost-blk/build.conf").exists(), True)
    hooks = host.check("run-parts --arg=none /etc/kernel/header_postinst.d")
    expect("what its hook for new kernels says", "vhost-blk" in hooks, False)


def test_purge(host):
    """purging the package leaves the host as it was"""
    host.check("apt-get -q -y purge vhost-blk-dkms")
    expect("files that are left", sorted(name for name in host.files() - host.before if "vhost" in name), [])
    expect("files that are gone", sorted(host.before - host.files()), [])


def test_lintian(host, packages):
    """lintian has nothing to say"""
    if host.suite != "trixie":
        pytest.skip("Debian 12's lintian knows an older policy")
    expect("lintian's words", host.check(f"lintian --allow-root --tag-display-limit 0 {deb(packages['this'])}"), "")
