# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What the scripts of the test host share: the cache's place, progress lines, becoming root.

# shellcheck disable=SC2034 # used by those who source this file
# Everything below it can be rebuilt from nothing.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vhost-blk

progress() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
}

die() {
	progress "$*"
	exit 1
}

as_root() {
	if [[ $(id -u) -eq 0 ]]; then
		"$@"
	else
		sudo "$@"
	fi
}

# Scripts run side by side, and apt fails at once where another has the lock of its lists.
apt_alone() { # COMMAND…
	mkdir -p "$cache"
	as_root flock "$cache/apt.lock" "$@"
}

# apt talks on stdout, where our callers print their result.
apt_update() {
	progress "reading the package lists (about 10 s)"
	apt_alone apt-get -qq update >&2
}

# Ends the script if the directory of a kernel is complete, which it prints; else nobody else makes it until the end.
begin_kernel() { # DIRECTORY
	local lock
	[[ -e $1/release ]] || {
		mkdir -p "${1%/*}"
		exec {lock}>"$1.lock"
		flock "$lock"
	}
	[[ ! -e $1/release ]] || {
		echo "$1"
		exit 0
	}
}

# What tar's arguments choose of the source of a kernel, as its package has it.
unpack_kernel_source() { # DEB DIRECTORY [ARGUMENT…]
	dpkg-deb --fsys-tarfile "$1" |
		tar -xO --wildcards './usr/src/linux-source-*.tar.xz' |
		xz -dc -T0 |
		tar -x -C "$2" --strip-components=1 "${@:3}"
}

give_up() { # WORK
	[[ ! -e $1/log ]] || tail -n 30 "$1/log" >&2
	rm -rf "$1"
}

# Prints the directory of an entry of the cache. If the cache lacks it, "BUILD WORK ARGUMENT…" fills WORK/entry, which
# then appears whole; of WORK/log the end is shown if it fails.
cached() { # ENTRY BUILD ARGUMENT…
	local entry=$cache/$1 build=$2 work

	if [[ ! -d $entry ]]; then
		mkdir -p "$cache"
		exec 9>"$cache/${1%%-*}.lock"
		flock 9
	fi
	shift 2
	if [[ ! -d $entry ]]; then
		work=$(mktemp -d "$entry.XXXXXX")
		# shellcheck disable=SC2064 # this directory
		trap "give_up '$work'" EXIT
		mkdir "$work/entry"
		"$build" "$work" "$@"
		mv "$work/entry" "$entry"
		rm -rf "$work"
		trap - EXIT
	fi
	echo "$entry"
}
