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

# apt talks on stdout, where our callers print their result.
apt_update() {
	progress "reading the package lists (about 10 s)"
	as_root apt-get -qq update >&2
}
