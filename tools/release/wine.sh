#!/usr/bin/env bash
# wine.sh [FOLDER]: tries the archive for Windows of build/release under wine 10, in a Debian 13 in FOLDER (build/wine by
# default; kept for the next time, 1.5 GB). Older wines lack what Go programs need. Needs root and debootstrap.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build && echo "module build // so that ./... passes over what is in here" >build/go.mod
root=${1:-build/wine}
archive=$(realpath "$(ls -t build/release/*_windows_amd64.zip | head -1)")
if [ ! -e "$root/.ready" ]; then
	rm -rf "$root"
	debootstrap --variant=minbase --include=wine,wine64 trixie "$root" http://deb.debian.org/debian >"$root.log"
	touch "$root/.ready"
fi
root=$(realpath "$root")
rm -rf "$root/w" && mkdir -p "$root/w"
python3 - "$archive" "$root/w" <<'UNZIP'
import sys, zipfile
zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])
UNZIP
mv "$root"/w/*/ "$root/w/release"
cp -r testdata/goldens/restormer_biasfree "$root/w/golden"
unshare --mount --propagation private sh -euc 'mount -t proc proc "$0/proc"; mount --bind /dev "$0/dev"
	exec chroot "$0" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/root LANG=C.UTF-8 WINEDEBUG=-all timeout 540 bash -euo pipefail -c "$1"' "$root" '
	cd /w
	u() { wine release/unirestorer.exe "$@"; }
	step() { printf "\n-- %s\n" "$*"; }
	step "$(wine --version), doctor"
	u doctor
	step "restore, a folder"
	u restore release/example/rain.png -o restored.png
	u restore release/example -o folder
	cmp restored.png folder/rain.png
	step "pipes"
	u restore - -o - <release/example/rain.png >piped.png
	cmp restored.png piped.png
	step "Unicode and long paths"
	name="Straße 雨 ü"
	mkdir "$name" && cp release/example/rain.png "$name/фото.png"
	u restore "$name/фото.png" -o "$name/готово.png"
	cmp restored.png "$name/готово.png"
	long=$(printf "folder-%040d/" 1 2 3 4 5 6 7)
	mkdir -p "$long" && cp release/example/rain.png "$long/rain.png"
	u restore "$long/rain.png" -o "$long/restored.png"
	cmp restored.png "$long/restored.png"
	step "verify"
	u verify golden
	step "what is not supported says so"
	u restore release/example/rain.png -o x.png --device cuda && exit 1
	echo "exit 1, as it should be"'
