/* webp.c: libwebp as a few calls: lossy and lossless encoding of RGBA, and animations as full canvases. */
#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>
#include <webp/demux.h>
#include <webp/encode.h>

#include "shim.h"

static WebPMemoryWriter out;

/* webp_encode encodes straight-alpha RGBA. quality is 0 to 100; lossless ignores it, and keeps colours under alpha 0.
 * Returns the file, whose length webp_size gives, or NULL. */
uint8_t *EXPORT(webp_encode)(const uint8_t *rgba, int w, int h, int alpha, int lossless, float quality, int method) {
    WebPConfig config;
    WebPPicture pic;
    if (!WebPConfigPreset(&config, WEBP_PRESET_PHOTO, quality) || !WebPPictureInit(&pic))
        return NULL;
    config.method = method;
    config.lossless = lossless;
    config.exact = 1;
    config.use_sharp_yuv = !lossless;
    config.low_memory = 1;
    pic.use_argb = 1;
    pic.width = w;
    pic.height = h;
    WebPMemoryWriterInit(&out);
    pic.writer = WebPMemoryWrite;
    pic.custom_ptr = &out;
    int ok = alpha ? WebPPictureImportRGBA(&pic, rgba, w * 4) : WebPPictureImportRGBX(&pic, rgba, w * 4);
    if (ok)
        free((void *)rgba); /* the picture has its own copy */
    ok = ok && WebPEncode(&config, &pic);
    if (!ok)
        note_error("libwebp error %d", pic.error_code);
    WebPPictureFree(&pic);
    return ok ? out.mem : NULL;
}

uint32_t EXPORT(webp_size)(void) { return (uint32_t)out.size; }

static WebPAnimDecoder *frames;
static int32_t header[6];

/* anim_open gives width, height, frames, loops and background of an animation, or NULL. */
int32_t *EXPORT(anim_open)(const uint8_t *data, uint32_t n) {
    WebPData file = {data, n};
    WebPAnimDecoderOptions options;
    WebPAnimInfo info;
    WebPAnimDecoderOptionsInit(&options);
    options.color_mode = MODE_RGBA;
    frames = WebPAnimDecoderNew(&file, &options);
    if (!frames || !WebPAnimDecoderGetInfo(frames, &info)) {
        note_error("not a readable animation");
        return NULL;
    }
    header[0] = info.canvas_width;
    header[1] = info.canvas_height;
    header[2] = info.frame_count;
    header[3] = info.loop_count;
    header[4] = info.bgcolor;
    return header;
}

static int timestamp;

/* anim_next gives the next full canvas as RGBA, or NULL; anim_end is when it ends, in ms from the start. */
uint8_t *EXPORT(anim_next)(void) {
    uint8_t *canvas;
    if (!WebPAnimDecoderGetNext(frames, &canvas, &timestamp))
        return NULL;
    return canvas;
}
int EXPORT(anim_end)(void) { return timestamp; }

/* webp_partial decodes as many rows as there are to out, RGBA of w×h pixels, and returns how many. */
int EXPORT(webp_partial)(const uint8_t *data, uint32_t n, uint8_t *to, int w, int h) {
    memset(to, 0, (size_t)w * h * 4);
    WebPIDecoder *d = WebPINewRGB(MODE_RGBA, to, (size_t)w * h * 4, w * 4);
    int rows = 0, width = 0, height = 0, stride = 0;
    if (!d)
        return 0;
    WebPIAppend(d, data, n);
    if (!WebPIDecGetRGB(d, &rows, &width, &height, &stride))
        rows = 0;
    if (width != w || height != h)
        rows = 0;
    WebPIDelete(d);
    return rows;
}
