#!/bin/sh
# run.sh [--quick] [--out FOLDER] [STAGE...]: tests and measures on this machine's GPU. See --help.
#
# Wants Linux with an NVIDIA driver; python3 with PyTorch for the comparison. Needs neither Go nor a network.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
for packed in "$here"/bin/*.gz "$here"/tree/runtime/*/*.test.gz; do
	program=${packed%.gz}
	[ -e "$packed" ] && [ ! -x "$program" ] || continue
	gzip -dc "$packed" >"$program.new"
	chmod +x "$program.new"
	mv "$program.new" "$program"
done
exec "$here/bin/gpukit" run --kit "$here" "$@"
