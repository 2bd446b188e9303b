#!/usr/bin/env bash
# cc.sh …: the C compiler of releases: clang for $RELEASE_TRIPLE against the C library in $RELEASE_SYSROOT, and nothing else of
# this machine: gorgonia.org/cu names the machine's own folders, which are left out.
set -euo pipefail
args=()
for arg; do
	case $arg in
	-I/usr/* | -I/opt/* | -L/usr/* | -L/opt/*) ;;
	*) args+=("$arg") ;;
	esac
done
exec clang --target="$RELEASE_TRIPLE" --sysroot="$RELEASE_SYSROOT" -fuse-ld=lld -Wno-unused-command-line-argument "${args[@]}"
