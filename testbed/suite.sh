# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Reads any suite of Debian from the mirror that this machine's apt uses. To be sourced after common.sh.

# Whatever form apt's source files have here.
debian_mirror() {
	local codename
	codename=$(sed -n "s/^VERSION_CODENAME=//p" /etc/os-release)
	# shellcheck disable=SC2016 # the dollar signs are apt's
	apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)' \
		'Created-By: Packages' |
		awk -v codename="$codename" \
			'$1 == "Debian" && $2 == codename && $3 == "main" && !found++ { print $4 }'
}

# Reads the package lists of a suite, sources included, into a new directory, which suite_apt uses from then on.
suite_open() { # SUITE DIRECTORY
	local mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg

	suite_dir=$2
	"${BASH_SOURCE[0]%/*}/deps" ca-certificates debian-archive-keyring >&2
	mirror=$(debian_mirror)
	if [[ -z $mirror ]]; then
		# What is whose is only known from the package lists.
		apt_update
		mirror=$(debian_mirror)
	fi
	[[ -n $mirror ]] || die "apt on this machine has no Debian archive; see 'apt-get indextargets'"
	mkdir -p "$suite_dir/lists/partial" "$suite_dir/cache/archives/partial"
	: >"$suite_dir/status"
	cat >"$suite_dir/sources.list" <<-END
		deb [signed-by=$keyring] $mirror $1 main
		deb-src [signed-by=$keyring] $mirror $1 main
	END
	progress "reading the package lists of Debian $1 from $mirror (10 s)"
	suite_apt get update >&2
}

# With lists and a status file of its own: this machine's apt set-up stays as it is.
suite_apt() { # get|cache ARGUMENT…
	"apt-$1" -qq \
		-o Dir::Etc::sourcelist="$suite_dir/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
		-o Dir::State::lists="$suite_dir/lists" -o Dir::State::status="$suite_dir/status" \
		-o Dir::Cache="$suite_dir/cache" -o APT::Sandbox::User=root "${@:2}"
}
