#!/usr/bin/env bash
# try.sh [FOLDER]: tries the archive for Linux of build/release as a new user would, in a Debian 11 (FOLDER, build/chroot by
# default, as tools/cuda/chroot.sh makes it) and as in the container of the recipe: without root, on a read-only root file
# system, with nothing of this tree.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$(realpath "${1:-build/chroot}")
archive=$(ls -t build/release/*_linux_amd64.tar.gz | head -1)
[ -e "$root/.ready" ] || { echo "try.sh: make cuda-chroot makes the Debian in $root" >&2; exit 2; }
mkdir -p "$root/opt/release" "$root/pictures" "$root/cache"
rm -rf "$root"/opt/release/* "$root"/pictures/* "$root"/cache/*
tar -x -z -f "$archive" -C "$root/opt/release" --strip-components=1
chown -R 65532:65532 "$root/pictures" "$root/cache"

# user runs a command as the container does.
user() {
	unshare --mount --propagation private sh -euc '
		root=$0
		mount --bind "$root" "$root"
		mount -t tmpfs none "$root/tmp"
		for writable in pictures cache; do mount --bind "$root/$writable" "$root/$writable"; done
		mount -t proc proc "$root/proc"
		mount -o remount,bind,ro "$root"
		exec chroot --userspec=65532:65532 "$root" /usr/bin/env -i PATH=/opt/release:/usr/bin:/bin HOME=/tmp CUDA_CACHE_PATH=/cache sh -euc "$1"' "$root" "$1"
}
step() { printf '\n-- %s\n' "$*"; }

step "who and where"
user '. /etc/os-release; echo "$PRETTY_NAME, $(ldd --version | head -1), uid $(id -u)"; touch /opt/x 2>/dev/null && exit 1; echo "the root file system is read-only"'
step "doctor"
user 'unirestorer doctor'
step "restore, a pipe, a folder"
user 'unirestorer restore /opt/release/example/rain.png -o /pictures/restored.png
	cat /opt/release/example/rain.png | unirestorer restore - -o - >/pictures/piped.png
	cmp /pictures/restored.png /pictures/piped.png
	unirestorer restore /opt/release/example -o /pictures/folder
	cmp /pictures/restored.png /pictures/folder/rain.png'
step "the CUDA device says what is missing"
user 'unirestorer restore /opt/release/example/rain.png -o /pictures/x.png --device cuda && exit 1; unirestorer doctor --device cuda --no-test && exit 1; echo "exit 1, as it should be"'
