#!/usr/bin/env bash
# What setup and kernel, which source this file, know of Debian's archive and of apt.
#
# The machine's own apt configuration, package lists and package cache are not touched: a separate state directory
# is used. Only the installation of missing packages goes through the machine's apt, and needs root.
#
# What is trusted: the keyring of the package debian-archive-keyring as this machine has it. It vouches for the
# machine's own suite, and that suite's own debian-archive-keyring package, fetched through it, vouches for the second
# suite: an older installation may not know the keys of a younger Debian, but its suite's current package does.

newest_suite=trixie-backports

# The "1" is the layout of the cache: raise it when the directories in it get another content.
# shellcheck disable=SC2034 # the scripts use it
cache=${IRQBRIDGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/irqbridge}/vm/1

work= # the directory of what is temporary, which the script makes

say() { printf 'vm/%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

# usage prints the comment that a script begins with.
usage() { sed -n '2,/^set -/{/^set -/d; s/^# \{0,1\}//; p;}' "$0"; }

# install_packages PACKAGE…: packages that are installed, because they run on this machine.
install_packages() {
	[ $# -gt 0 ] || return 0
	[ "$(id -u)" = 0 ] || die "packages are missing; type: sudo apt-get update && sudo apt-get install $*"
	say "installing $*"
	# The machine may have no package lists, or lists so old that what they name is gone: then they are updated, once.
	apt_get install -y --no-install-recommends "$@" ||
		{ apt_get update && apt_get install -y --no-install-recommends "$@"; } ||
		{ cat "$work/apt.log" >&2; die "cannot install $*"; }
}

# apt_get ARG…: the machine's apt, waiting for its turn.
apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -q -oDPkg::Lock::Timeout=600 "$@" >"$work/apt.log" 2>&1 </dev/null; }

# apt_with STATE COMMAND…: an apt command on a state directory of our own. The machine's proxy settings stay in force.
apt_with() {
	local state=$1 command=$2
	shift 2
	"$command" -q -oAPT::Architecture=amd64 -oAPT::Architectures=amd64 \
		-oDir::Etc::sourcelist="$state/sources.list" -oDir::Etc::sourceparts=/dev/null \
		-oDir::State="$state" -oDir::State::Lists="$state/lists" -oDir::State::status="$state/status" \
		-oDir::Cache="$state/cache" -oAPT::Sandbox::User="$(id -un)" -oAcquire::Languages=none \
		-oAcquire::Retries=3 -oAPT::Update::Error-Mode=any "$@"
}

# new_state STATE KEYRING URI SUITE: a state directory with the lists of one suite.
new_state() {
	local state=$1 keyring=$2 uri=$3 suite=$4
	rm -rf "$state"
	mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
	: >"$state/status"
	printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$uri" "$suite" >"$state/sources.list"
	apt_with "$state" apt-get update >"$state/log" 2>&1
}

# first_state: the state directory "$work/first" of the machine's own suite. The archive's address comes from the machine's
# apt sources. Other archives may use the same suite name, so the one that Debian's keyring vouches for is it.
first_state() {
	[ ! -e "$work/first" ] || return 0
	local codename keyring='' file uri
	codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	for file in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
		[ ! -e "$file" ] || keyring=$file
	done
	[ -n "$keyring" ] || die "no keyring of Debian's archive on this machine; type: sudo apt-get install debian-archive-keyring"

	while read -r uri; do
		if new_state "$work/first" "$keyring" "$uri" "$codename"; then
			archive=$uri
			return 0
		fi
		sed "s|^|vm/${0##*/}: apt-get update: |" "$work/first/log" >&2
		rm -rf "$work/first"
	done < <(apt-get update --print-uris 2>/dev/null | sed -n "s|^'\(.*/\)dists/$codename/InRelease' .*|\1|p" | sort -u)
	die "no source of Debian \"$codename\" among apt's sources on this machine answers and carries Debian's signature"
}

# second_state: the state directory "$work/second" of the suite that has the newest kernel.
second_state() {
	[ ! -e "$work/second" ] || return 0
	first_state
	fetch "$work/first" debian-archive-keyring
	local keyring
	keyring=$(find "$work/unpacked/debian-archive-keyring/usr/share/keyrings" \
		-name 'debian-archive-keyring.gpg' -o -name 'debian-archive-keyring.pgp' | head -n 1)
	new_state "$work/second" "$keyring" "$archive" "$newest_suite" || {
		cat "$work/second/log" >&2
		die "cannot read the suite $newest_suite of $archive"
	}
}

# fetch STATE PACKAGE…: downloads (apt checks the hashes against the signed lists) and unpacks each into
# $work/unpacked/PACKAGE.
fetch() {
	local state=$1 package
	shift
	for package in "$@"; do
		rm -rf "$work/deb" "$work/unpacked/$package"
		mkdir -p "$work/deb" "$work/unpacked/$package"
		say "downloading $package"
		(cd "$work/deb" && apt_with "$state" apt-get download "$package" >"$work/log" 2>&1) ||
			{ cat "$work/log" >&2; die "cannot download $package"; }
		dpkg-deb -x "$work"/deb/*.deb "$work/unpacked/$package"
		rm -rf "$work/deb"
	done
}
