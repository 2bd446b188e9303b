/* tiff.c: libtiff as a few calls. The host reads blocks (strips or tiles) one by one, so that a trap in one costs that
 * one only; layouts that only libtiff's own colour conversion knows come as RGBA. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tiffio.h>

#include "shim.h"

static TIFF *in;
static const unsigned char *file;
static uint64_t file_size, file_at;

static tmsize_t do_read(thandle_t h, void *p, tmsize_t n) {
    uint64_t left = file_at < file_size ? file_size - file_at : 0;
    if ((uint64_t)n > left)
        n = (tmsize_t)left;
    memcpy(p, file + file_at, n);
    file_at += n;
    return n;
}
static tmsize_t do_write(thandle_t h, void *p, tmsize_t n) { return -1; }
static toff_t do_seek(thandle_t h, toff_t off, int whence) {
    switch (whence) {
    case SEEK_CUR: off += file_at; break;
    case SEEK_END: off += file_size; break;
    }
    return file_at = off;
}
static int do_close(thandle_t h) { return 0; }
static toff_t do_size(thandle_t h) { return file_size; }
static int do_map(thandle_t h, void **p, toff_t *n) {
    *p = (void *)file;
    *n = file_size;
    return 1;
}
static void do_unmap(thandle_t h, void *p, toff_t n) {}

/* What libtiff takes from tif_unix.c, whose files are not wanted here. */
void *_TIFFmalloc(tmsize_t n) { return n ? malloc(n) : NULL; }
void *_TIFFcalloc(tmsize_t n, tmsize_t size) { return n && size ? calloc(n, size) : NULL; }
void *_TIFFrealloc(void *p, tmsize_t n) { return realloc(p, n); }
void _TIFFfree(void *p) { free(p); }
void _TIFFmemset(void *p, int v, tmsize_t n) { memset(p, v, n); }
void _TIFFmemcpy(void *to, const void *from, tmsize_t n) { memcpy(to, from, n); }
int _TIFFmemcmp(const void *a, const void *b, tmsize_t n) { return memcmp(a, b, n); }
TIFFErrorHandler _TIFFwarningHandler, _TIFFerrorHandler;

/* Writing is not wanted either. */
void *ZSTD_createCStream(void) { return NULL; }
size_t ZSTD_freeCStream(void *s) { return 0; }
size_t ZSTD_initCStream(void *s, int level) { return (size_t)-1; }
size_t ZSTD_compressStream(void *s, void *to, void *from) { return (size_t)-1; }
size_t ZSTD_endStream(void *s, void *to) { return (size_t)-1; }
int ZSTD_maxCLevel(void) { return 1; }
int lzma_stream_encoder(void *s, const void *filters, int check) { return 8; }
int WebPConfigInitInternal(void *c, int preset, float quality, int version) { return 0; }
int WebPValidateConfig(const void *c) { return 0; }
int WebPPictureInitInternal(void *p, int version) { return 0; }
int WebPPictureImportRGB(void *p, const uint8_t *rgb, int stride) { return 0; }
int WebPPictureImportRGBA(void *p, const uint8_t *rgba, int stride) { return 0; }
void WebPPictureFree(void *p) {}
int WebPEncode(const void *c, void *p) { return 0; }

static void on_error(thandle_t h, const char *module, const char *fmt, va_list args) {
    char text[200];
    vsnprintf(text, sizeof text, fmt, args);
    note_error("%s: %s", module ? module : "libtiff", text);
}
static void on_warning(thandle_t h, const char *module, const char *fmt, va_list args) {
    char text[200];
    vsnprintf(text, sizeof text, fmt, args);
    note_warning("%s: %s", module ? module : "libtiff", text);
}

int EXPORT(tiff_open)(const unsigned char *data, uint32_t n) {
    TIFFSetErrorHandler(NULL);
    TIFFSetWarningHandler(NULL);
    TIFFSetErrorHandlerExt(on_error);
    TIFFSetWarningHandlerExt(on_warning);
    file = data;
    file_size = n;
    in = TIFFClientOpen("picture", "r", (thandle_t)1, do_read, do_write, do_seek, do_close, do_size, do_map, do_unmap);
    return in != NULL;
}

int EXPORT(tiff_directory)(uint64_t offset) { return TIFFSetSubDirectory(in, offset); }

static int32_t header[32];
static double range[2];

static uint32_t short_or(uint32_t tag, uint16_t value) {
    TIFFGetFieldDefaulted(in, tag, &value);
    return value;
}

/* tiff_header describes the current directory in 32-bit words; see the host for their names. JPEG's YCbCr is asked for
 * as RGB and LogLuv as 8 bits, so the words say what blocks will hold. */
int32_t *EXPORT(tiff_header)(void) {
    uint32_t w = 0, h = 0, rows = 0, tw = 0, th = 0;
    uint16_t extra_count = 0, *extra = NULL, sub[2] = {2, 2};
    uint16_t compression = short_or(TIFFTAG_COMPRESSION, COMPRESSION_NONE);
    uint16_t photometric = 0;
    int has_photometric = TIFFGetField(in, TIFFTAG_PHOTOMETRIC, &photometric);
    TIFFSetField(in, TIFFTAG_ORIENTATION, ORIENTATION_TOPLEFT); /* the host turns pictures */
    TIFFGetField(in, TIFFTAG_IMAGEWIDTH, &w);
    TIFFGetField(in, TIFFTAG_IMAGELENGTH, &h);
    TIFFGetFieldDefaulted(in, TIFFTAG_ROWSPERSTRIP, &rows);
    if (compression == COMPRESSION_JPEG && photometric == PHOTOMETRIC_YCBCR)
        TIFFSetField(in, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
    TIFFGetFieldDefaulted(in, TIFFTAG_EXTRASAMPLES, &extra_count, &extra);
    TIFFGetFieldDefaulted(in, TIFFTAG_YCBCRSUBSAMPLING, &sub[0], &sub[1]);
    memset(header, 0, sizeof header);
    header[0] = w;
    header[1] = h;
    header[2] = short_or(TIFFTAG_BITSPERSAMPLE, 1);
    header[3] = short_or(TIFFTAG_SAMPLESPERPIXEL, 1);
    header[4] = has_photometric ? photometric : -1;
    header[5] = short_or(TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
    header[6] = short_or(TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT);
    header[7] = compression;
    header[8] = extra_count;
    header[9] = extra_count ? extra[0] : 0;
    header[10] = TIFFIsTiled(in);
    if (TIFFIsTiled(in)) {
        TIFFGetField(in, TIFFTAG_TILEWIDTH, &tw);
        TIFFGetField(in, TIFFTAG_TILELENGTH, &th);
        header[13] = TIFFNumberOfTiles(in);
        header[14] = TIFFTileSize(in);
    } else {
        tw = w;
        th = rows < h ? rows : h;
        header[13] = TIFFNumberOfStrips(in);
        header[14] = TIFFStripSize(in);
    }
    header[11] = tw;
    header[12] = th;
    header[15] = sub[0];
    header[16] = sub[1];
    header[17] = short_or(TIFFTAG_INKSET, INKSET_CMYK);
    header[18] = TIFFIsByteSwapped(in);
    char why[1024];
    header[19] = TIFFRGBAImageOK(in, why);
    return header;
}

/* tiff_range gives the tags SMinSampleValue and SMaxSampleValue, and whether the file has both. */
int EXPORT(tiff_has_range)(void) {
    double *v;
    if (!TIFFGetField(in, TIFFTAG_SMINSAMPLEVALUE, &range[0]) || !TIFFGetField(in, TIFFTAG_SMAXSAMPLEVALUE, &range[1]))
        return 0;
    (void)v;
    return 1;
}
double *EXPORT(tiff_range)(void) { return range; }

/* tiff_palette copies the colour map: 3·2^bits 16-bit values, red first. Returns NULL if there is none. */
uint16_t *EXPORT(tiff_palette)(int bits) {
    static uint16_t map[3 << 16];
    uint16_t *r, *g, *b;
    size_t n = (size_t)1 << bits;
    if (bits > 16 || !TIFFGetField(in, TIFFTAG_COLORMAP, &r, &g, &b))
        return NULL;
    memcpy(map, r, n * 2);
    memcpy(map + n, g, n * 2);
    memcpy(map + 2 * n, b, n * 2);
    return map;
}

/* tiff_block decodes strip or tile i to out and returns the bytes, or -1. Samples are in the byte order of wasm. */
int32_t EXPORT(tiff_block)(uint32_t i, void *out, uint32_t room) {
    if (TIFFIsTiled(in))
        return (int32_t)TIFFReadEncodedTile(in, i, out, room);
    return (int32_t)TIFFReadEncodedStrip(in, i, out, room);
}

/* tiff_rgba_strip and tiff_rgba_tile decode with libtiff's colour conversion: rows bottom up, R first, associated
 * alpha. */
int EXPORT(tiff_rgba_strip)(uint32_t row, uint32_t *out) { return TIFFReadRGBAStripExt(in, row, out, 0); }
int EXPORT(tiff_rgba_tile)(uint32_t x, uint32_t y, uint32_t *out) { return TIFFReadRGBATileExt(in, x, y, out, 0); }
