#!/usr/bin/env bash
# container.sh [FOLDER]: builds the recipe of the archive for Linux in build/release with buildah, without an engine and without a
# registry: what it starts from is a Debian 12 made by debootstrap under that image's name, in FOLDER (build/container by
# default; kept for the next time). Then the image is run as the recipe's user. Needs root, debootstrap and buildah.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build && echo "module build // so that ./... passes over what is in here" >build/go.mod
root=${1:-build/container}
archive=$(realpath "$(ls -t build/release/*_linux_amd64.tar.gz | head -1)")
mkdir -p "$root"
root=$(realpath "$root")
if [ ! -e "$root/.ready" ]; then
	rm -rf "$root/base"
	debootstrap --variant=minbase bookworm "$root/base" http://deb.debian.org/debian >"$root/base.log"
	touch "$root/.ready"
fi
b() { buildah --root "$root/storage" --runroot "$root/run" --storage-driver vfs "$@"; }
step() { printf '\n-- %s\n' "$*"; }

from=$(sed -n 's/^FROM //p' tools/release/Containerfile)
step "$(buildah --version), FROM $from"
if ! b inspect --type image "$from" >/dev/null 2>&1; then
	empty=$(b from scratch)
	b add --quiet "$empty" "$root/base" / >/dev/null
	b commit --quiet --rm "$empty" "$from" >/dev/null
fi

rm -rf "$root/context" && mkdir "$root/context"
tar -x -z -f "$archive" -C "$root/context" --strip-components=1
step "build"
b build --isolation chroot --pull-never --format docker --file "$root/context/Containerfile" --tag unirestorer "$root/context"
b inspect --type image --format '{{.Docker.Config.User}} {{.Docker.Config.Entrypoint}} {{.Docker.Config.Cmd}} {{.Docker.Config.Healthcheck.Test}} {{.Docker.Config.Volumes}}' unirestorer

step "run"
pictures=$root/pictures
rm -rf "$pictures" && mkdir "$pictures" && cp "$root/context/example/rain.png" "$pictures/" && chown -R 65532:65532 "$pictures"
made=$(b from --pull-never unirestorer)
trap 'b rm "$made" >/dev/null' EXIT
inside() { b run --isolation chroot --volume "$pictures:/pictures" "$made" -- "$@"; }
inside sh -c '. /etc/os-release; echo "$PRETTY_NAME, uid $(id -u)"; touch /usr/x 2>/dev/null && exit 1; touch /cache/x'
inside unirestorer doctor
inside unirestorer doctor --no-test >/dev/null && echo "the health check passes"
inside unirestorer restore /pictures/rain.png -o /pictures/restored.png
inside unirestorer restore /pictures/rain.png -o /pictures/x.png --device cuda && exit 1
echo "exit 1 without a GPU, as it should be"
