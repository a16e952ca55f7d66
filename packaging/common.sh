# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What the scripts that build the module share. To be sourced.

warn() {
	printf 'vhost-blk: %s\n' "$@" >&2
}

fail() {
	warn "$@"
	exit 1
}

# The `uname -r` of the kernel that a directory of headers belongs to.
kernel_release() { # KDIR
	[[ -f $1/include/generated/utsrelease.h ]] || fail "no kernel headers at $1 (KDIR)"
	sed -nE 's/.* UTS_RELEASE "(.*)"/\1/p' "$1/include/generated/utsrelease.h"
}

# The version of the package that built the kernel, such as 6.1.192-3; nothing if it is neither Debian's nor Ubuntu's.
kernel_package_version() { # KDIR
	sed -nE 's/.*LINUX_PACKAGE_ID " Debian (.*)"/\1/p' "$1/include/generated/package.h" 2>/dev/null || true
	sed -nE 's/^CONFIG_VERSION_SIGNATURE="Ubuntu ([0-9.]+-[0-9.]+(~[0-9.]+)*)-.*/\1/p' \
		"$1/include/config/auto.conf" 2>/dev/null || true
}

# Where headers are kept that fitted a kernel.
header_store() {
	echo "${VHOST_BLK_STORE:-/var/lib/vhost-blk/headers}"
}
