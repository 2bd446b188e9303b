#!/usr/bin/env python3
"""Make the golden files of package imaging with Pillow and torchvision.

Run from this folder: python3 make.py. Needs numpy, Pillow 9.4 and torchvision 0.14 (Debian 12: python3-numpy,
python3-pil, python3-torchvision). All pictures are synthetic.

golden/cases.json lists, for every source file, what Pillow makes of it, stored as PNG:
  decode     the pixels as Pillow opens them, converted to the mode named
  resize     Image.resize((w, h), BICUBIC)
  orient     PIL.ImageOps.exif_transpose
  estimator  torchvision Resize(size, BICUBIC), CenterCrop(size), then convert("RGB")
"""
import io
import json
import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

OUT = "golden"
CASES = []
RNG = np.random.default_rng(20)


def scene(w, h, channels, bits=8):
    """Smooth colour, edges and noise: enough to tell filters, chroma handling and rounding apart."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    planes = []
    for c in range(channels):
        v = 0.5 + 0.3 * np.sin(x / (3 + 2 * c) + c) * np.cos(y / (4 + c)) + 0.2 * ((x // 7 + y // 5 + c) % 2 - 0.5)
        planes.append(v + 0.04 * RNG.standard_normal((h, w)))
    a = np.clip(np.stack(planes, -1), 0, 1)
    top = 2**bits - 1
    return np.round(a * top).astype(np.uint16 if bits == 16 else np.uint8)


def alpha(w, h):
    """Transparent corner, opaque corner, a ramp between."""
    y, x = np.mgrid[0:h, 0:w]
    return np.clip((x + y) * 400 // (w + h) - 70, 0, 255).astype(np.uint8)


def save(name, img, **kw):
    img.save(os.path.join(OUT, name), **kw)
    return name


def write(name, data):
    with open(os.path.join(OUT, name), "wb") as f:
        f.write(data)
    return name


def png(pixels, colour, bits, extra=b""):
    """A PNG of any colour type and depth, filter 0; pixels is [h, w, channels] of samples."""
    h, w, n = pixels.shape
    rows = b""
    for row in pixels:
        if bits == 16:
            raw = row.astype(">u2").tobytes()
        elif bits == 8:
            raw = row.astype(np.uint8).tobytes()
        else:
            s = "".join(format(int(v), f"0{bits}b") for v in row.reshape(-1))
            s += "0" * (-len(s) % 8)
            raw = int(s, 2).to_bytes(len(s) // 8, "big")
        rows += b"\0" + raw

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", w, h, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tif(pixels, photometric, order="<", tile=None, planar=False, predictor=False, deflate=False, extra=None, rows=11):
    """A TIFF of any layout; pixels is [h, w, channels] of samples, rows the height of a strip."""
    h, w, n = pixels.shape
    bits = pixels.dtype.itemsize * 8
    planes = [pixels[..., k : k + 1] for k in range(n)] if planar else [pixels]
    tw, th = tile or (w, rows)
    chunks = []
    for plane in planes:
        for y in range(0, h, th):
            for x in range(0, w, tw):
                c = plane[y : y + th, x : x + tw]
                if tile:
                    c = np.pad(c, ((0, th - c.shape[0]), (0, tw - c.shape[1]), (0, 0)), mode="edge")
                if predictor:
                    c = np.concatenate([c[:, :1], c[:, 1:] - c[:, :-1]], 1)
                raw = c.astype(c.dtype.newbyteorder(order)).tobytes()
                chunks.append(zlib.compress(raw) if deflate else raw)
    offsets, at = [], 8
    for c in chunks:
        offsets.append(at)
        at += len(c) + len(c) % 2
    tags = {256: (4, [w]), 257: (4, [h]), 258: (3, [bits] * n), 259: (3, [8 if deflate else 1]), 262: (3, [photometric]),
            277: (3, [n]), 284: (3, [2 if planar else 1])}
    if tile:
        tags.update({322: (3, [tw]), 323: (3, [th]), 324: (4, offsets), 325: (4, [len(c) for c in chunks])})
    else:
        tags.update({273: (4, offsets), 278: (4, [rows]), 279: (4, [len(c) for c in chunks])})
    if predictor:
        tags[317] = (3, [2])
    if extra is not None:
        tags[338] = (3, [extra])
    out = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, at)
    for c in chunks:
        out += c + b"\0" * (len(c) % 2)
    ifd, spill = struct.pack(order + "H", len(tags)), b""
    base = at + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        v = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        ifd += struct.pack(order + "HHI", tag, kind, len(values))
        if len(v) <= 4:
            ifd += v.ljust(4, b"\0")
        else:
            ifd += struct.pack(order + "I", base + len(spill))
            spill += v + b"\0" * (len(v) % 2)
    return out + ifd + b"\0\0\0\0" + spill


def decode_array(source, pixels):
    """A decode case whose pixels are known, at 8 or 16 bits."""
    name = write(f"{source}.decode.png", png(pixels, {1: 0, 2: 4, 3: 2, 4: 6}[pixels.shape[2]], pixels.dtype.itemsize * 8))
    CASES.append(dict(kind="decode", source=source, expected=name, tolerance=0))


def case(kind, source, expected, **kw):
    name = f"{os.path.splitext(source)[0]}.{source.rsplit('.', 1)[1]}.{kind}{kw.get('size', '')}.png"
    if kind == "resize":
        name = f"{source}.resize{kw['w']}x{kw['h']}.png"
    expected.info = {}  # a colour key would be saved again
    expected.save(os.path.join(OUT, name), optimize=True)
    CASES.append(dict(kind=kind, source=source, expected=name, **kw))


def decode(source, mode, tolerance=0):
    img = Image.open(os.path.join(OUT, source))
    case("decode", source, img.convert(mode), tolerance=tolerance)


def resize(source, w, h):
    img = Image.open(os.path.join(OUT, source))
    r = img.resize((w, h), Image.BICUBIC)
    case("resize", source, r.convert("RGB") if r.mode == "P" else r, w=w, h=h)


def estimator(source, size):
    img = Image.open(os.path.join(OUT, source))
    t = Compose([Resize(size, interpolation=InterpolationMode.BICUBIC), CenterCrop(size)])
    case("estimator", source, t(img).convert("RGB"), size=size)


def main():
    os.makedirs(OUT, exist_ok=True)
    rgb = save("rgb.png", Image.fromarray(scene(61, 47, 3)))
    wide = save("wide.png", Image.fromarray(scene(90, 13, 3)))
    grey = save("grey.png", Image.fromarray(scene(45, 58, 1)[..., 0]))
    rgba = save("rgba.png", Image.fromarray(np.dstack([scene(53, 40, 3), alpha(53, 40)])))
    la = save("grey_alpha.png", Image.merge("LA", [Image.fromarray(scene(40, 53, 1)[..., 0]), Image.fromarray(alpha(40, 53))]))
    pal = save("palette.png", Image.fromarray(scene(50, 37, 3)).quantize(40))
    bw = save("bilevel.png", Image.fromarray(scene(43, 52, 1)[..., 0]).convert("1"))
    dot = save("dot.png", Image.fromarray(scene(1, 1, 3)))
    line = save("line_1x300.png", Image.fromarray(scene(1, 300, 3)))
    g2 = write("grey2.png", png(scene(33, 35, 1) // 64, 0, 2))
    g4 = write("grey4.png", png(scene(33, 35, 1) // 16, 0, 4))
    rgb16 = write("rgb16.png", png(scene(37, 41, 3, 16), 2, 16))
    rgba16 = write("rgba16.png", png(np.dstack([scene(37, 41, 3, 16), alpha(37, 41).astype(np.uint16) * 257]), 6, 16))
    key = scene(36, 30, 3) // 32 * 32
    keyed = write("rgb_key.png", png(key, 2, 8, png_chunk(b"tRNS", struct.pack(">HHH", *[int(v) for v in key[3, 4]]))))
    gkey = scene(36, 30, 1) // 32 * 32
    gkeyed = write("grey_key.png", png(gkey, 0, 8, png_chunk(b"tRNS", struct.pack(">H", int(gkey[3, 4, 0])))))
    ptrns = save("palette_alpha.png", Image.fromarray(scene(50, 37, 3)).quantize(16), transparency=bytes(range(0, 256, 16)))

    for source in [rgb, wide, grey, rgba, la, pal, bw, dot, line, g2, g4, rgb16, rgba16, keyed, gkeyed, ptrns]:
        estimator(source, 32)
    estimator(rgb, 64)
    estimator(wide, 24)
    for source in [rgb, grey, rgba, la, pal, bw]:
        resize(source, 20, 17)
        resize(source, 70, 64)
    resize(rgb, 61, 20)
    resize(rgb, 7, 47)
    resize(rgba, 53, 40)
    for source, mode in [(rgb, "RGB"), (grey, "L"), (rgba, "RGBA"), (la, "LA"), (pal, "RGB"), (bw, "L"), (g2, "L"), (g4, "L"),
                         (keyed, "RGBA"), (gkeyed, "LA"), (ptrns, "RGBA")]:
        decode(source, mode)

    # JPEG: the inverse transform may round differently, by one step a sample or two after colour conversion.
    photo = Image.fromarray(scene(67, 45, 3))
    decode(save("444.jpg", photo, quality=90, subsampling="4:4:4"), "RGB", 3)
    decode(save("422.jpg", photo, quality=90, subsampling="4:2:2"), "RGB", 3)
    decode(save("420.jpg", photo, quality=90, subsampling="4:2:0"), "RGB", 3)
    decode(save("420_even.jpg", photo.resize((64, 32)), quality=75, subsampling="4:2:0"), "RGB", 3)
    decode(save("420_narrow.jpg", photo.resize((4, 33)), quality=75, subsampling="4:2:0"), "RGB", 3)
    decode(save("progressive.jpg", photo, quality=80, progressive=True), "RGB", 3)
    decode(save("grey.jpg", photo.convert("L"), quality=90), "L", 1)
    decode(save("cmyk.jpg", photo.convert("CMYK"), quality=90), "RGB", 3)

    # WebP decoding is exact by its standard, and so is libwebp's conversion to RGB.
    decode(save("lossy.webp", photo, quality=80), "RGB")
    decode(save("lossy_even.webp", photo.resize((64, 32)), quality=60), "RGB")
    decode(save("lossy_1x1.webp", photo.resize((1, 1)), quality=60), "RGB")
    decode(save("lossy_2x3.webp", photo.resize((2, 3)), quality=60), "RGB")
    decode(save("lossless.webp", photo, lossless=True), "RGB")
    with_alpha = Image.fromarray(np.dstack([scene(41, 30, 3), alpha(41, 30)]))
    decode(save("lossy_alpha.webp", with_alpha, quality=80), "RGBA")
    decode(save("lossless_alpha.webp", with_alpha, lossless=True, exact=True), "RGBA")

    for c in ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]:
        decode(save(f"rgb_{c}.tif", photo, compression=c), "RGB")
    decode(save("grey.tif", photo.convert("L"), compression="tiff_lzw"), "L")
    decode(save("rgba.tif", with_alpha, compression="tiff_lzw"), "RGBA")
    decode(save("palette.tif", photo.quantize(64)), "RGB")
    decode(save("bilevel.tif", photo.convert("1"), compression="group4"), "L")
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0  # white is zero
    decode(save("bilevel_white0.tif", photo.convert("1"), compression="group3", tiffinfo=tags), "L")
    decode(save("grey_alpha.tif", with_alpha.convert("LA")), "LA")
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[317] = 2  # horizontal predictor
    decode(save("grey_alpha_predictor.tif", with_alpha.convert("LA"), compression="tiff_adobe_deflate", tiffinfo=tags), "LA")
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[317] = 2
    decode(save("rgb_predictor.tif", photo, compression="tiff_lzw", tiffinfo=tags), "RGB")

    a8, a16 = alpha(39, 29)[..., None], alpha(39, 29)[..., None].astype(np.uint16) * 257
    for bits, a in [(8, a8), (16, a16)]:
        p = scene(39, 29, 3, bits)
        for name, px, photometric, kw in [
            ("planar", p, 2, dict(planar=True)),
            ("planar_tiled", p, 2, dict(planar=True, tile=(16, 16), deflate=True, predictor=True, order=">")),
            ("planar_rgba", np.concatenate([p, a], 2), 2, dict(planar=True, extra=2)),
            ("tiled", p, 2, dict(tile=(16, 32), deflate=True, predictor=True)),
            ("extra", np.concatenate([p, a], 2), 2, dict(extra=0)),
            ("rgba", np.concatenate([p, a], 2), 2, dict(extra=2, order=">", deflate=True)),
            ("white0", p[..., :1], 0, dict(order=">")),
            ("ga_tiled", np.concatenate([p[..., :1], a], 2), 1, dict(extra=2, tile=(16, 16), deflate=True, predictor=True)),
            ("ga_white0", np.concatenate([p[..., :1], a], 2), 0, dict(extra=2, order=">", deflate=True, predictor=True)),
            ("ga_extra", np.concatenate([p[..., :1], a], 2), 1, dict(extra=0)),
        ]:
            source = write(f"{name}_{bits}.tif", tif(px, photometric, **kw))
            if kw.get("extra") == 0:
                px = px[..., :-1]
            if photometric == 0:
                px = np.concatenate([2**bits - 1 - px[..., :1], px[..., 1:]], 2).astype(px.dtype)
            decode_array(source, px)

    decode(save("rgb.bmp", photo), "RGB")
    decode(save("grey.bmp", photo.convert("L")), "L")
    decode(save("palette.bmp", photo.quantize(30)), "RGB")
    decode(save("bilevel.bmp", photo.convert("1")), "L")

    # Metadata in every container that can hold it.
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Synthetic"
    exif[0x0132] = "2020:02:20 20:20:20"
    exif[0x8769] = {0xA002: 24, 0xA003: 16, 0x9286: b"ASCII\0\0\0made up"}
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 12.5)}
    blob = exif.tobytes()
    exif = Image.Exif()
    exif.load(blob)  # Pillow writes TIFF from a loaded one only
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    small = Image.fromarray(scene(24, 16, 3))
    for name, kw in [("meta.jpg", dict(quality=90)), ("meta.png", {}), ("meta.webp", dict(lossless=True)), ("meta.tif", {})]:
        save(name, small, exif=exif, icc_profile=icc, **({} if name.endswith("webp") else dict(dpi=(300, 300))), **kw)
    write("srgb.icc", icc)

    for o in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = o
        source = save(f"orient{o}.png", Image.fromarray(scene(5, 3, 3)), exif=exif)
        case("orient", source, ImageOps.exif_transpose(Image.open(os.path.join(OUT, source))))

    with open(os.path.join(OUT, "cases.json"), "w") as f:
        f.write("[\n" + ",\n".join(" " + json.dumps(c) for c in CASES) + "\n]\n")


main()
