/* jpeg.c: libjpeg as a few calls. Rows come in the order of the file; what has come stays readable after a trap. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jpeglib.h>
#include <jerror.h>

#include "shim.h"

static struct jpeg_decompress_struct in;
static struct jpeg_error_mgr in_err;

/* header is read by the host as 32-bit words. */
static int32_t header[12];

/* fault_row is the first row that may be damaged, or NOT_IN_PIXELS. */
enum { NOT_IN_PIXELS = -1 };
static int32_t fault_row = NOT_IN_PIXELS;
static int ended_early; /* the file ended before its end marker, which need not concern the pixels */

/* refined says whether every bit of a progressive picture was read. */
static int refined(void) {
    if (!in.progressive_mode || in.coef_bits == NULL)
        return 1;
    for (int c = 0; c < in.num_components; c++)
        for (int k = 0; k < DCTSIZE2; k++)
            if (in.coef_bits[c][k] != 0)
                return 0;
    return 1;
}

static void fatal(j_common_ptr c) {
    char text[JMSG_LENGTH_MAX];
    c->err->format_message(c, text);
    note_error("%s", text);
    __builtin_trap();
}

static void message(j_common_ptr c, int level) {
    char text[JMSG_LENGTH_MAX];
    if (level >= 0)
        return;
    c->err->num_warnings++;
    if (c->err->msg_code == JWRN_JPEG_EOF && !in.arith_code)
        ended_early = 1;
    else if (fault_row < 0)
        fault_row = in.global_state >= 205 ? (int32_t)in.output_scanline : in.global_state > 202 ? 0 : NOT_IN_PIXELS;
    c->err->format_message(c, text);
    note_warning("%s", text);
}

/* A progressive file may refine its coefficients without end. */
enum { MAX_SCANS = 500 };
static struct jpeg_progress_mgr progress;
static void watch(j_common_ptr c) {
    if (((j_decompress_ptr)c)->input_scan_number > MAX_SCANS) {
        note_error("more than %d scans", MAX_SCANS);
        __builtin_trap();
    }
}

/* jpeg_open reads the header: width, height, components, colour space, output components, bits a sample, progressive,
 * arithmetic, Adobe marker seen, the largest horizontal and vertical sampling factors. */
int32_t *EXPORT(jpeg_open)(const unsigned char *data, unsigned long n) {
    in.err = jpeg_std_error(&in_err);
    in_err.error_exit = fatal;
    in_err.emit_message = message;
    jpeg_create_decompress(&in);
    progress.progress_monitor = watch;
    in.progress = &progress;
    jpeg_mem_src(&in, data, n);
    jpeg_read_header(&in, TRUE);
    switch (in.jpeg_color_space) {
    case JCS_GRAYSCALE:
        in.out_color_space = JCS_GRAYSCALE;
        break;
    case JCS_YCCK:
    case JCS_CMYK:
        in.out_color_space = JCS_CMYK;
        break;
    case JCS_RGB:
    case JCS_YCbCr:
        in.out_color_space = JCS_RGB;
        break;
    default: /* samples as they are */
        break;
    }
    jpeg_calc_output_dimensions(&in);
    header[0] = in.image_width;
    header[1] = in.image_height;
    header[2] = in.num_components;
    header[3] = in.jpeg_color_space;
    header[4] = in.output_components;
    header[5] = in.data_precision;
    header[6] = in.progressive_mode;
    header[7] = in.arith_code;
    header[8] = in.saw_Adobe_marker;
    header[9] = in.max_h_samp_factor;
    header[10] = in.max_v_samp_factor;
    return header;
}

int EXPORT(jpeg_start)(void) { return jpeg_start_decompress(&in); }

/* jpeg_rows decodes up to n rows to out, which holds them without padding, and returns how many. */
int EXPORT(jpeg_rows)(unsigned char *out, int n) {
    size_t stride = (size_t)in.output_width * in.output_components;
    int done = 0;
    while (done < n && in.output_scanline < in.output_height) {
        JSAMPROW row = out + done * stride;
        done += jpeg_read_scanlines(&in, &row, 1);
    }
    return done;
}

int EXPORT(jpeg_done)(void) { return in.output_scanline; }
int EXPORT(jpeg_fault_row)(void) { return fault_row < 0 && ended_early && !refined() ? 0 : fault_row; }
void EXPORT(jpeg_finish)(void) { jpeg_finish_decompress(&in); }
