#!/usr/bin/env bash
# What the scripts here install when it is missing. It is sourced; the machine's own apt sources are used, as root.

# apt_get ARG...: the machine's apt, which asks nothing and waits for its turn.
apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -q -oDPkg::Lock::Timeout=600 "$@" </dev/null; }

# install PACKAGE...: installs Debian packages. What apt says is shown when it fails.
install() {
	local log
	if [ "$(id -u)" != 0 ]; then
		echo "${0##*/}: missing: sudo apt-get install $*" >&2
		return 1
	fi
	log=$(mktemp)
	{ apt_get install -y --no-install-recommends "$@" || { apt_get update && apt_get install -y --no-install-recommends "$@"; }; } >"$log" 2>&1 ||
		{ cat "$log" >&2; rm "$log"; return 1; }
	rm "$log"
}

# need COMMAND PACKAGE...: installs the packages unless the command that they bring is there.
need() {
	local command=$1
	shift
	command -v "$command" >/dev/null || install "$@"
}
