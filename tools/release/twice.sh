#!/usr/bin/env bash
# twice.sh [TARGET…]: makes the release of the last commit in two folders, with nothing shared but the modules, and compares
# every byte.
set -euo pipefail
cd "$(dirname "$0")/../.."
tree=$PWD
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
commit=$(git rev-parse HEAD) # the tree may go on meanwhile
for folder in one another/deeper; do
	git clone -q --no-local "$tree" "$work/$folder/tree"
	git -C "$work/$folder/tree" checkout -q "$commit"
	# Without tags and with the clone's own remote, both are named after the commit.
	(cd "$work/$folder/tree" && GOCACHE="$work/$folder/cache" go run -trimpath ./tools/release --output "$work/$folder/out" --sysroots "$tree/build/sysroot" "$@")
	rm -rf "$work/$folder/cache"
done
diff -r "$work/one/out" "$work/another/deeper/out"
echo "equal in two folders:"
cat "$work/one/out/SHA256SUMS"
