#!/usr/bin/env bash
# Builds the WebAssembly modules in runtime/imaging/codecs from Debian's sources of libjpeg-turbo, libtiff, zlib, zstd,
# liblzma and libwebp. Needs clang, lld, wasi-libc and libclang-rt-14-dev-wasm32 (Debian 12). The sources come from FOLDER, or by
# apt-get source where a deb-src entry is configured; their digests are checked either way, and the same sources and
# compiler give the same bytes.
#   tools/codecs/build.sh [--check] [FOLDER]
set -euo pipefail
check=
[ "${1:-}" != --check ] || { check=1; shift; }
here=$(cd "$(dirname "$0")" && pwd)
out=$here/../../runtime/imaging/codecs
work=${1:-$(mktemp -d)}
cd "$work"

while read -r digest file package; do
    [ -f "$file" ] || apt-get source --download-only -qq "$package"
    echo "$digest  $file" | sha256sum --check --quiet
    tar xf "$file"
done < <(grep -v '^#' "$here/sources.txt")

jpeg=$work/libjpeg-turbo-2.1.5
tiff=$work/libtiff-v4.5.0/libtiff
zlib=$(echo "$work"/zlib-1.2.13*)
zstd=$work/zstd-1.5.4/lib
webp=$work/libwebp-1.2.4
lzma=$work/xz-5.4.1/src/liblzma
gen=$work/generated
rm -rf "$gen"
mkdir -p "$gen"

# The settings that the libraries' own build systems would find out.
cat >"$gen/jconfig.h" <<'H'
#define JPEG_LIB_VERSION 62
#define LIBJPEG_TURBO_VERSION 2.1.5
#define LIBJPEG_TURBO_VERSION_NUMBER 2001005
#define D_ARITH_CODING_SUPPORTED 1
#define MEM_SRCDST_SUPPORTED 1
#define BITS_IN_JSAMPLE 8
H
cat >"$gen/jconfigint.h" <<'H'
#define BUILD ""
#define INLINE __inline__ __attribute__((always_inline))
#define THREAD_LOCAL
#define PACKAGE_NAME "libjpeg-turbo"
#define VERSION "2.1.5"
#define SIZEOF_SIZE_T 4
#define HAVE_BUILTIN_CTZL
#define FALLTHROUGH __attribute__((fallthrough));
H
sed 's/@COPYRIGHT_YEAR@/2023/' "$jpeg/jversion.h.in" >"$gen/jversion.h"
cat >"$gen/tiffconf.h" <<'H'
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#define TIFF_INT8_T int8_t
#define TIFF_INT16_T int16_t
#define TIFF_INT32_T int32_t
#define TIFF_INT64_T int64_t
#define TIFF_UINT8_T uint8_t
#define TIFF_UINT16_T uint16_t
#define TIFF_UINT32_T uint32_t
#define TIFF_UINT64_T uint64_t
#define TIFF_SSIZE_T int32_t
#define HAVE_IEEEFP 1
#define HOST_FILLORDER FILLORDER_LSB2MSB
#define HOST_BIGENDIAN 0
#define CCITT_SUPPORT 1
#define JPEG_SUPPORT 1
#define LOGLUV_SUPPORT 1
#define LZW_SUPPORT 1
#define NEXT_SUPPORT 1
#define OJPEG_SUPPORT 1
#define PACKBITS_SUPPORT 1
#define PIXARLOG_SUPPORT 1
#define THUNDER_SUPPORT 1
#define ZIP_SUPPORT 1
#define STRIPCHOP_DEFAULT TIFF_STRIPCHOP
#define SUBIFD_SUPPORT 1
#define CHECK_JPEG_YCBCR_SUBSAMPLING 1
#define COLORIMETRY_SUPPORT
#define YCBCR_SUPPORT
#define CMYK_SUPPORT
#define ICC_SUPPORT
#define PHOTOSHOP_SUPPORT
#define IPTC_SUPPORT
H
cat >"$gen/tif_config.h" <<'H'
#include "tiffconf.h"
#define HAVE_ASSERT_H 1
#define HAVE_FCNTL_H 1
#define HAVE_STRINGS_H 1
#define HAVE_SYS_TYPES_H 1
#define HAVE_UNISTD_H 1
#define SIZEOF_SIZE_T 4
#define STRIP_SIZE_DEFAULT 65536
#define TIFF_MAX_DIR_COUNT 65535
#define ZSTD_SUPPORT 1
#define LZMA_SUPPORT 1
#define WEBP_SUPPORT 1
#define PACKAGE_NAME "libtiff"
#define PACKAGE_VERSION "4.5.0"
#define TIFF_SIZE_FORMAT "zu"
#define TIFF_SSIZE_FORMAT PRId32
H
sed -e 's/@LIBTIFF_RELEASE_DATE@/20221213/' -e 's/@LIBTIFF_MAJOR_VERSION@/4/;s/@LIBTIFF_MINOR_VERSION@/5/;s/@LIBTIFF_MICRO_VERSION@/0/' \
    -e 's/@[A-Z_]*VERSION@/4.5.0/' "$tiff/tiffvers.h.in" >"$gen/tiffvers.h"

flags=(--target=wasm32-wasi -Os -flto -ffile-prefix-map="$work"=. -DNDEBUG -w -mbulk-memory -msign-ext -mnontrapping-fptoint
    -I"$here/include" -I"$gen")
link=(-mexec-model=reactor -Wl,--lto-O2 -Wl,--gc-sections -Wl,--strip-all -Wl,-z,stack-size=1048576
    -Wl,--export=__stack_pointer -Wl,--no-check-features)

compile() { # OBJECTS FOLDER FLAGS… -- FILES…: compiles files to objects in a folder of their own
    local to=$work/o/$1 extra=()
    [ "${RELINK:-}" ] && [ "$1" != shim ] && [ -d "$to" ] && return 0 # objects of the libraries are there from an earlier run
    shift
    mkdir -p "$to"
    while [ "$1" != -- ]; do extra+=("$1"); shift; done
    shift
    printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} sh -c 'o=$1/$(echo "$2" | tr / _).o; shift 2; exec clang "$@" -c "{}" -o "$o"' \
        sh "$to" {} "${flags[@]}" "${extra[@]}"
}
[ "${RELINK:-}" ] || rm -rf "$work/o"
j=()
for f in jcapimin jcapistd jccoefct jccolor jcdctmgr jchuff jcicc jcinit jcmainct jcmarker jcmaster jcomapi jcparam jcphuff \
    jcprepct jcsample jctrans jdapimin jdapistd jdatadst jdatasrc jdcoefct jdcolor jddctmgr jdhuff jdicc jdinput jdmainct \
    jdmarker jdmaster jdmerge jdphuff jdpostct jdsample jdtrans jerror jfdctflt jfdctfst jfdctint jidctflt jidctfst jidctint \
    jidctred jquant1 jquant2 jutils jmemmgr jmemnobs jsimd_none jaricom jdarith; do j+=("$jpeg/$f.c"); done
compile jpeg -I"$jpeg" -- "${j[@]}"
t=()
for f in aux close codec color compress dir dirinfo dirread dirwrite dumpmode error extension fax3 fax3sm flush getimage hash_set \
    jpeg luv lzw next ojpeg open packbits pixarlog predict print read strip swab thunder tile version warning webp write zip zstd \
    jpeg_12 jbig lerc lzma; do [ -f "$tiff/tif_$f.c" ] && t+=("$tiff/tif_$f.c"); done
compile tiff -I"$tiff" -I"$jpeg" -I"$zlib" -I"$zstd" -I"$webp/src" -I"$lzma/api" -- "${t[@]}"
compile zlib -I"$zlib" -DHAVE_UNISTD_H -- "$zlib"/{adler32,compress,crc32,deflate,inffast,inflate,inftrees,trees,uncompr,zutil}.c
compile zstd -DZSTD_DISABLE_ASM -DZSTD_LEGACY_SUPPORT=0 -DHUF_FORCE_DECOMPRESS_X1 -DZSTD_FORCE_DECOMPRESS_SEQUENCES_SHORT \
    -DZSTD_NO_INLINE -DZSTD_STRIP_ERROR_STRINGS -I"$zstd" -- "$zstd"/common/*.c "$zstd"/decompress/*.c
compile lzma -D_WASI_EMULATED_SIGNAL -Dsigset_t=int -DHAVE_SMALL -DHAVE_DECODERS -DHAVE_DECODER_LZMA1 -DHAVE_DECODER_LZMA2 -DHAVE_DECODER_DELTA -DHAVE_CHECK_CRC32 \
    -DHAVE_CHECK_CRC64 -DHAVE_STDBOOL_H -DHAVE_STDINT_H -DHAVE_INTTYPES_H -DHAVE_STRING_H -DHAVE_LIMITS_H -DSIZEOF_SIZE_T=4 \
    -DPACKAGE_NAME='"xz"' -DPACKAGE_BUGREPORT='""' -DPACKAGE_URL='""' -I"$lzma/../common" \
    $(printf -- "-I$lzma/%s " api check common delta lz lzma rangecoder simple) -- \
    "$lzma"/common/{common,block_decoder,block_header_decoder,block_util,filter_common,filter_decoder,filter_flags_decoder,index_hash,stream_decoder,stream_flags_common,stream_flags_decoder,vli_decoder,vli_size}.c \
    "$lzma"/check/{check,crc32_small,crc64_small}.c "$lzma"/lz/lz_decoder.c "$lzma"/lzma/{lzma_decoder,lzma2_decoder,lzma_encoder_presets}.c \
    "$lzma"/delta/{delta_common,delta_decoder}.c
compile webp -I"$webp" -I"$webp/src" -- "$webp"/src/{dec,dsp,enc,utils,demux,mux}/*.c "$webp"/sharpyuv/*.c
compile shim -I"$tiff" -I"$jpeg" -I"$webp/src" -- "$here"/{common,jpeg,tiff,webp}.c

objects() { (cd "$work/o" && for d in "$@"; do ls "$work/o/$d"/*.o; done); }
mkdir -p "$out"
clang "${flags[@]}" "${link[@]}" "$work"/o/shim/*{common,jpeg}.c.o $(objects jpeg) -o "$work/jpeg.wasm"
clang "${flags[@]}" "${link[@]}" "$work"/o/shim/*{common,tiff}.c.o $(objects tiff jpeg zlib zstd lzma) \
    $(objects webp | grep -E "_src_(dec|dsp|utils)_") -o "$work/tiff.wasm"
clang "${flags[@]}" "${link[@]}" "$work"/o/shim/*{common,webp}.c.o $(objects webp) -o "$work/webp.wasm"
for m in jpeg tiff webp; do
    if [ "$check" ]; then
        zcat "$out/$m.wasm.gz" | cmp - "$work/$m.wasm"
        continue
    fi
    gzip -9nc "$work/$m.wasm" >"$out/$m.wasm.gz"
    ls -l "$work/$m.wasm" "$out/$m.wasm.gz"
done
