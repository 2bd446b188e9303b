#!/usr/bin/env bash
# sysroot.sh DEST ARCH: puts the C library of Debian 11 (glibc 2.31) for amd64 or arm64 into DEST, headers and start files
# included, about 60 MB: what programs are linked against so that they start on systems as old as that.
#
# Wants apt and dpkg, and an apt source of some Debian release; nothing is installed and no root is needed.
set -euo pipefail
release=bullseye
[ $# -eq 2 ] || { echo "usage: $0 DEST amd64|arm64" >&2; exit 2; }
arch=$2
mkdir -p "$1"
dest=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sed -n '/\/debian\/*$/{p;q}')
: "${uri:=http://deb.debian.org/debian}"
for keyring in /usr/share/keyrings/debian-archive-keyring.*g*; do break; done
cat >"$work/source.sources" <<SOURCE
Types: deb
URIs: $uri
Suites: $release
Components: main
Architectures: $arch
Signed-By: $keyring
SOURCE
options=(-qq -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work" -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache"
	-o "Dir::State::status=$work/status" -o APT::Sandbox::User=root -o "APT::Architecture=$arch" -o "APT::Architectures=$arch")
: >"$work/status"
apt-get "${options[@]}" update
(cd "$work" && apt-get "${options[@]}" download libc6 libc6-dev linux-libc-dev libgcc-10-dev libgcc-s1)
for package in "$work"/*.deb; do dpkg-deb -x "$package" "$dest"; done
# Links that begin at the root mean this folder.
find "$dest" -type l -lname '/*' -printf '%p %l\n' | while read -r link target; do
	ln -sfn "$(realpath --relative-to="$(dirname "$link")" -m "$dest$target")" "$link"
done
