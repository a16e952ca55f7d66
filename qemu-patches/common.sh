# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What build and check share: QEMU's source, its patches, configuring and compiling it. To be sourced.

here=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
tree=${here%/*}
# shellcheck source=testbed/common.sh
source "$tree/testbed/common.sh"
# shellcheck source=testbed/suite.sh
source "$tree/testbed/suite.sh"
cache+=/qemu
jobs=$(nproc)

# Debian 13 is the release whose source package is QEMU 10.0.
suite=trixie
series=10.0
# What mends QEMU itself, and the device: each a series of its own, applied on top of the one before it.
# shellcheck disable=SC2034 # used by those who source this file
directories=("$here/$series-fixes" "$here/$series")

build_packages=(bison dpkg-dev flex gcc libaio-dev libattr1-dev libc6-dev libcap-ng-dev libfdt-dev
	libglib2.0-dev libpixman-1-dev libseccomp-dev liburing-dev make ninja-build patch pkg-config
	python3-setuptools python3-venv rsync xz-utils zlib1g-dev)

# Where the source tree has the list of devices.
devices=configs/devices/x86_64-softmmu/vhost-blk.mak

# As ninja knows them.
emulator=qemu-system-x86_64
# shellcheck disable=SC2034
programs=("$emulator" qemu-img qemu-io storage-daemon/qemu-storage-daemon tests/qtest/qos-test)

# Everything below $cache has one writer at a time.
lock_cache() {
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	if ! flock --nonblock 9; then
		progress "waiting for another build of QEMU to end"
		flock 9
	fi
}

# Leaves QEMU's source and the newer meson that it needs in $cache/source.
fetch_source() {
	local version

	"$tree/testbed/deps" "${build_packages[@]}"
	if [[ -f $cache/source/version ]]; then
		return
	fi
	progress "downloading QEMU's source package of Debian $suite (60 MB, 10 s to 1 min)"
	rm -rf "$cache/apt" "$cache/source" "$cache/source.new"
	mkdir -p "$cache/source.new/deb"
	suite_open "$suite" "$cache/apt"
	cd "$cache/source.new/deb" || return
	suite_apt get source --download-only qemu >&2
	suite_apt get download meson >&2
	version=$(sed -n 's/^Version: [0-9]*:*//p' qemu_*.dsc | head -n 1)
	[[ $version == "$series".* ]] || die "Debian $suite has QEMU $version, not $series"
	# apt has checked the files against the archive's signed index.
	dpkg-source --no-check --no-copy -x qemu_*.dsc ../qemu >/dev/null
	# Firmware sources, two thirds of the tree, which every build would copy.
	rm -rf ../qemu/roms
	dpkg -x meson_*.deb ../meson
	cd "$cache" || return
	rm -rf source.new/deb apt
	echo "$version" >source.new/version
	mv source.new source
}

# Sets $patches to those of the directories.
list_patches() { # DIRECTORY…
	local directory
	patches=()
	for directory; do
		patches+=("$directory"/*.patch)
	done
}

apply_patch() { # TREE PATCH
	patch --directory="$1" --strip=1 --forward --silent --no-backup-if-mismatch <"$2" >&2
}

# Brings WORK/qemu to "source plus patches", rewriting only files whose content differs, so that ninja compiles again
# only what a changed patch touches.
patch_source() { # WORK [PATCH…]
	local file

	mkdir -p "$1/qemu"
	rm -rf "$1/patched"
	cp -a "$cache/source/qemu" "$1/patched"
	for file in "${@:2}"; do
		apply_patch "$1/patched" "$file" || die "${file##*/} does not apply"
	done
	cp "$here/devices.mak" "$1/patched/$devices"
	rsync --recursive --links --perms --checksum --delete "$1/patched/" "$1/qemu/"
	rm -rf "$1/patched"
}

# In the directory of the build, with its output in $log.
configure_build() {
	local args

	# --prefix only has to differ from /usr: QEMU finds its files relative to its binary, and
	# Debian's firmware packages by the absolute paths. QEMU builds with -Werror by default where
	# its source is a git tree, as that of most users is.
	args=(--prefix=/opt/vhost-blk --with-pkgversion=vhost-blk
		--firmwarepath=/usr/share/qemu:/usr/share/seabios:/usr/lib/ipxe/qemu
		--target-list=x86_64-softmmu --with-devices-x86_64=vhost-blk
		--without-default-features --without-default-devices --disable-debug-info
		--disable-install-blobs --enable-attr --enable-cap-ng --enable-fdt=system
		--enable-kvm --enable-linux-aio --enable-linux-io-uring --enable-pixman
		--enable-plugins --enable-seccomp --enable-tcg --enable-tools --enable-vhost-kernel
		--enable-vhost-user --enable-vhost-user-blk-server --enable-virtfs --enable-werror)

	if [[ -f build.ninja && $(cat configured 2>/dev/null) == "${args[*]}" ]]; then
		return
	fi
	progress "configuring QEMU (20 s)"
	../qemu/configure "${args[@]}" >"$log" 2>&1 || return
	echo "${args[*]}" >configured
}

# Shows every tenth part of ninja's steps. Other lines are the compiler's: " 2669 | source code".
show_progress() {
	local line part last=0

	while IFS= read -r line; do
		[[ $line =~ ^\[([0-9]+)/([1-9][0-9]*)\]\  ]] || continue
		part=$((10 * BASH_REMATCH[1] / BASH_REMATCH[2]))
		[[ $part -gt $last ]] || continue
		echo "build: ${BASH_REMATCH[1]} of ${BASH_REMATCH[2]} steps"
		last=$part
	done
}

# Compiles programs in WORK/build from WORK/qemu; false if that fails, with all output in WORK/build.log.
compile() { # WORK PROGRAM…
	local log=$1/build.log

	# The interpreter of the build and each of its later runs must see the unpacked meson.
	export PYTHONPATH=$cache/source/meson/usr/lib/python3/dist-packages
	mkdir -p "$1/build" && cd "$1/build" && configure_build || return
	progress "compiling QEMU with $jobs jobs (from nothing: 4 min on 2 quiet cores)"
	NINJA_STATUS='[%f/%t] ' ninja -j "$jobs" "${@:2}" 2>&1 | tee "$log" | show_progress >&2
}
