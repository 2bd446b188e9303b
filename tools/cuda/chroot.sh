#!/usr/bin/env bash
# chroot.sh [FOLDER]: proves that the CUDA program builds and starts with Go and a C compiler alone.
#
# It makes a Debian 11 with gcc, musl-gcc and make in FOLDER (build/chroot by default; kept for the next time), takes apt and
# dpkg out of it, puts Go and this tree with its modules inside, and runs there `make cuda-build` and a plain
# `go build -tags cuda`: without any CUDA, with a header like CUDA 13's where toolkits lie, and with musl-gcc. The release
# archives are tried in the same place (tools/release). Needs root and debootstrap.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build && echo "module build // so that ./... passes over what is in here" >build/go.mod
root=${1:-build/chroot}
[ "$(id -u)" = 0 ] || { echo "chroot.sh: needs root" >&2; exit 2; }
command -v debootstrap >/dev/null || { echo "chroot.sh: needs debootstrap" >&2; exit 2; }

if [ ! -e "$root/.ready" ]; then
	rm -rf "$root"
	mkdir -p "$root"
	debootstrap --variant=minbase --include=gcc,libc6-dev,make,musl-tools bullseye "$root" http://deb.debian.org/debian >"$root.log"
	rm -rf "$root"/usr/bin/apt* "$root"/usr/bin/dpkg* "$root"/usr/lib/apt "$root"/var/cache/apt "$root"/var/lib/apt
	touch "$root/.ready"
fi
root=$(cd "$root" && pwd)

# The tree with its modules, and Go, are copied: nothing outside may be written from inside.
rm -rf "$root/src" "$root/usr/local/cuda"
mkdir -p "$root/src" "$root/usr/local" "$root/dev" "$root/proc" "$root/tmp"
git ls-files -z --cached --others --exclude-standard | tar -c --null -T - --ignore-failed-read 2>/dev/null | tar -x -C "$root/src"
(cd "$root/src" && go mod vendor)
[ -x "$root/usr/local/go/bin/go" ] || cp -a "$(go env GOROOT)" "$root/usr/local/go"
[ -e "$root/dev/null" ] || mknod -m 666 "$root/dev/null" c 1 3
[ -e "$root/dev/urandom" ] || mknod -m 666 "$root/dev/urandom" c 1 9

inside() {
	env -i PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root GOPROXY=off GOTOOLCHAIN=local "${@:2}" \
		unshare --mount --propagation private sh -euc 'mount -t proc proc "$0/proc"; exec chroot "$0" sh -euc "cd /src; $1"' "$root" "$1"
}
step() { printf '\n-- %s\n' "$*"; }

step "what is in there"
inside 'ls /usr/bin/apt-get /usr/bin/dpkg 2>/dev/null && exit 1; find / -xdev -name cuda.h -not -path "/src/*" -not -path /usr/include/linux/cuda.h | grep . && exit 1
	. /etc/os-release; echo "$PRETTY_NAME, $(gcc --version | head -1), $(go version), no apt, no cuda.h"'

step "make cuda-build"
inside 'make -s cuda-build && bin/unirestorer-cuda devices'

step "go build -tags cuda, with a header like CUDA 13's in /usr/local/cuda and in CPATH"
mkdir -p "$root/usr/local/cuda"
cp -r "$root/src/runtime/cuda/include/testdata" "$root/usr/local/cuda/testdata"
cp "$root/src/runtime/cuda/include/cuda.h" "$root/usr/local/cuda/cuda.h"
ln -sfn testdata/cuda13 "$root/usr/local/cuda/include"
if inside 'go build -tags cuda gorgonia.org/cu' CGO_CFLAGS=-O2 2>/dev/null; then
	echo "chroot.sh: gorgonia.org/cu compiles with that header alone: it is not like CUDA 13's" >&2
	exit 1
fi
inside 'go build -tags cuda -o /tmp/plain ./cmd/unirestorer && /tmp/plain devices' \
	CGO_CFLAGS="-O2 -I/src/runtime/cuda/include" CPATH=/usr/local/cuda/include
rm -rf "$root/usr/local/cuda"

step "with musl-gcc"
inside 'make -s cuda-build && bin/unirestorer-cuda devices' CC=musl-gcc
