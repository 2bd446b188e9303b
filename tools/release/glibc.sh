#!/usr/bin/env bash
# glibc.sh VERSION FOLDER: fails if a program in one of FOLDER's archives for Linux needs a newer glibc than VERSION.
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: $0 VERSION FOLDER" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
found=0
for archive in "$2"/*_linux_*.tar.gz; do
	tar -x -z -f "$archive" -C "$work" --wildcards '*/unirestorer' --strip-components=1
	newest=$(objdump -T "$work/unirestorer" 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -1)
	if [ -z "$newest" ]; then # an objdump of this machine's kind alone does not know the other's
		newest=$(readelf -V "$work/unirestorer" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -1)
	fi
	[ -n "$newest" ] || { echo "glibc.sh: $archive: no version of glibc found" >&2; exit 1; }
	echo "${archive##*/}: needs symbols of glibc $newest"
	[ "$(printf '%s\n' "$newest" "$1" | sort -V | tail -1)" = "$1" ] || { echo "glibc.sh: newer than $1" >&2; exit 1; }
	found=1
done
[ "$found" = 1 ] || { echo "glibc.sh: no archive for Linux in $2" >&2; exit 1; }
