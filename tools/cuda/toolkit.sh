#!/bin/sh
# toolkit.sh DEST: puts nvcc, ptxas, cuobjdump, nvdisasm and the headers of CUDA 12.4 into DEST, about 200 MB.
#
# For machines without an installed toolkit: the parts are taken from Debian's packages without installing any, so no root
# is needed, and the packages' own version is what makes the committed PTX reproducible. Wants apt and dpkg, an apt source
# of some Debian release, and gcc with g++ (12 and 13 work). Then: make -C kernels NVCC=DEST/bin/nvcc
set -eu

release=trixie
[ $# -eq 1 ] || { echo "usage: $0 DEST" >&2; exit 2; }
mkdir -p "$1"
dest=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# fetch PACKAGE...: downloads packages of the release above, whatever release this machine runs.
fetch() {
	mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
	uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sed -n '/\/debian\/*$/{p;q}')
	: "${uri:=http://deb.debian.org/debian}"
	for keyring in /usr/share/keyrings/debian-archive-keyring.*g*; do break; done
	cat >"$work/source.sources" <<-SOURCE
		Types: deb
		URIs: $uri
		Suites: $release
		Components: main contrib non-free
		Signed-By: $keyring
	SOURCE
	set -- "$@"
	options="-qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=$work -o Dir::State::Lists=$work/lists -o Dir::Cache=$work/cache -o APT::Sandbox::User=root"
	apt-get $options update
	(cd "$work" && apt-get $options download "$@")
}

# pick PACKAGE PATTERN...: unpacks files of a package.
pick() {
	package=$1
	shift
	dpkg-deb --fsys-tarfile "$work/$package"_*.deb | tar -x -C "$dest" --wildcards "$@"
}

fetch nvidia-cuda-toolkit nvidia-cuda-dev libcu++-dev
pick nvidia-cuda-toolkit './usr/bin/ptxas' './usr/bin/fatbinary' './usr/bin/cudafe++' './usr/bin/cuobjdump' './usr/bin/nvdisasm' \
	'./usr/bin/nvlink' './usr/lib/nvidia-cuda-toolkit/bin/*' './usr/lib/nvidia-cuda-toolkit/libdevice/*'
pick libcu++-dev './*'
# The development package is 3 GB of libraries behind 40 MB of headers; reading stops after the headers, hence the ignored
# complaint about a broken pipe.
{ dpkg-deb --fsys-tarfile "$work"/nvidia-cuda-dev_*.deb 2>/dev/null || true; } | head -c 40000000 |
	tar -x -C "$dest" --wildcards './usr/include/*' 2>/dev/null || true

# nvcc finds its parts through this profile; Debian's names absolute paths of an installation.
home=$dest/usr/lib/nvidia-cuda-toolkit
rm -f "$home/bin/gcc" "$home/bin/g++" "$home/bin/nvcc.profile" # a link to /etc, of an installation
cat >"$home/bin/nvcc.profile" <<PROFILE
NVVMIR_LIBRARY_DIR = $home/libdevice
PATH += $home/bin:$dest/usr/bin:
INCLUDES += "-I$dest/usr/include" \$(_SPACE_)
PROFILE
mkdir -p "$dest/bin"
for tool in ptxas fatbinary cudafe++ cuobjdump nvdisasm nvlink; do
	ln -sf "../usr/bin/$tool" "$dest/bin/$tool"
done
printf '#!/bin/sh\nexec "%s/bin/nvcc" "$@"\n' "$home" >"$dest/bin/nvcc"
chmod +x "$dest/bin/nvcc"
"$dest/bin/nvcc" --version | grep release
