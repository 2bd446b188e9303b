#!/usr/bin/env python3
"""Makes the profiles and samples.json in this folder: synthetic ICC profiles, and what Little CMS converts with them, relative
colorimetric, without optimisation. Needs python3-pil and python3-numpy of Debian 12 (Little CMS 2.14).

The profiles are made here from published primaries and from a simple model of inks, and are in the public domain."""
import io, json, struct
import numpy as np
from PIL import Image, ImageCms

D50 = (0.9642, 1.0, 0.8249)

def s15(v): return struct.pack('>i', round(v * 65536))
def xyz(v): return b'XYZ \0\0\0\0' + b''.join(s15(x) for x in v)
def gamma(g): return b'curv\0\0\0\0' + struct.pack('>IH', 1, round(g * 256)) + b'\0\0'
def text(s): return b'text\0\0\0\0' + s.encode() + b'\0'
def desc(s): return b'desc\0\0\0\0' + struct.pack('>I', len(s) + 1) + s.encode() + b'\0' * (1 + 8 + 3 + 67)

def profile(kind, space, pcs, tags):
    tags = [(b'cprt', text('Public domain'))] + tags
    table, data, at = b'', b'', 128 + 4 + 12 * len(tags)
    for sig, body in tags:
        body += b'\0' * (-len(body) % 4)
        table += sig + struct.pack('>II', at + len(data), len(body))
        data += body
    head = struct.pack('>I4sI4s4s4s', 0, b'\0\0\0\0', 0x02100000, kind, space, pcs) + struct.pack('>6H', 2026, 1, 1, 0, 0, 0)
    head += b'acsp' + b'\0' * 24 + struct.pack('>I', 1) + b''.join(s15(x) for x in D50) + b'\0' * 48
    out = head + struct.pack('>I', len(tags)) + table + data
    return struct.pack('>I', len(out)) + out[4:]

def matrix_of(prim, white):
    m = np.array([[x / y, 1, (1 - x - y) / y] for x, y in prim]).T
    w = np.array([white[0] / white[1], 1, (1 - white[0] - white[1]) / white[1]])
    m = m * np.linalg.solve(m, w)
    brad = np.array([[.8951, .2664, -.1614], [-.7502, 1.7135, .0367], [.0389, -.0685, 1.0296]])
    return np.linalg.inv(brad) @ np.diag((brad @ np.array(D50)) / (brad @ w)) @ brad @ m

def matrix_profile(name, prim, white, g):
    m = matrix_of(prim, white)
    tags = [(b'desc', desc(name)), (b'wtpt', xyz(D50))]
    tags += [(k + b'XYZ', xyz(m[:, i])) for i, k in enumerate([b'r', b'g', b'b'])]
    tags += [(k + b'TRC', gamma(g)) for k in [b'r', b'g', b'b']]
    return profile(b'mntr', b'RGB ', b'XYZ ', tags)

def lab_of(v):
    f = np.where(v > 216 / 24389, np.cbrt(v), (24389 / 27 * v + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)

def xyz_of(lab):
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], -1)
    return np.where(f > 6 / 29, f ** 3, (116 * f - 16) * 27 / 24389)

def lut16(inputs, grid, fn):
    axes = np.meshgrid(*[np.linspace(0, 1, grid)] * inputs, indexing='ij')
    v = fn(np.stack(axes, -1).reshape(-1, inputs)).clip(0, 65535).round().astype('>u2')
    head = b'mft2\0\0\0\0' + bytes([inputs, v.shape[1], grid, 0])
    head += b''.join(s15(x) for x in (1, 0, 0, 0, 1, 0, 0, 0, 1)) + struct.pack('>HH', 2, 2)
    line = struct.pack('>HH', 0, 65535)
    return head + line * inputs + v.tobytes() + line * v.shape[1]

def pack_lab(lab): return np.stack([lab[:, 0] * 652.8, (lab[:, 1] + 128) * 256, (lab[:, 2] + 128) * 256], -1)
def unpack_lab(v): return np.stack([v[:, 0] * 65535 / 652.8, v[:, 1] * 65535 / 256 - 128, v[:, 2] * 65535 / 256 - 128], -1)

WIDE = matrix_of([(.68, .32), (.265, .69), (.15, .06)], (.3127, .3290))

def wide_to_lab(v): return pack_lab(lab_of((v ** 2.2) @ WIDE.T / D50))
def lab_to_wide(v): return (((xyz_of(unpack_lab(v)) * D50) @ np.linalg.inv(WIDE).T).clip(0, 1) ** (1 / 2.2)) * 65535

def inks_to_lab(v):
    k = 1 - .97 * v[:, 3:]
    rgb = (1 - v[:, :3] * np.array([.92, .88, .95]) - .1 * np.roll(v[:, :3], 1, 1) * v[:, :3]).clip(0.02, 1) * k
    return pack_lab(lab_of((rgb ** 2) @ WIDE.T / D50))

PROFILES = {
    'prophoto.icc': matrix_profile('ROMM primaries, gamma 1.8', [(.7347, .2653), (.1596, .8404), (.0366, .0001)], (.3457, .3585), 1.8),
    'adobe.icc': matrix_profile('Adobe primaries, gamma 2.2', [(.64, .33), (.21, .71), (.15, .06)], (.3127, .3290), 2.2),
    'p3.icc': matrix_profile('P3 primaries, gamma 2.2', [(.68, .32), (.265, .69), (.15, .06)], (.3127, .3290), 2.2),
    'grey18.icc': profile(b'mntr', b'GRAY', b'XYZ ', [(b'desc', desc('grey, gamma 1.8')), (b'wtpt', xyz(D50)), (b'kTRC', gamma(1.8))]),
    'table.icc': profile(b'prtr', b'RGB ', b'Lab ', [(b'desc', desc('table')), (b'wtpt', xyz(D50)),
                 (b'A2B0', lut16(3, 13, wide_to_lab)), (b'B2A0', lut16(3, 13, lab_to_wide))]),
    'oneway.icc': profile(b'scnr', b'RGB ', b'Lab ', [(b'desc', desc('scanner')), (b'wtpt', xyz(D50)), (b'A2B0', lut16(3, 9, wide_to_lab))]),
    'cmyk.icc': profile(b'prtr', b'CMYK', b'Lab ', [(b'desc', desc('inks')), (b'wtpt', xyz(D50)), (b'A2B0', lut16(4, 5, inks_to_lab))]),
}

samples = {}
rng = np.random.default_rng(7)
srgb = ImageCms.createProfile('sRGB')
for name, data in PROFILES.items():
    open(name, 'wb').write(data)
    p = ImageCms.ImageCmsProfile(io.BytesIO(data))
    mode = {'GRAY': 'L', 'CMYK': 'CMYK'}.get(p.profile.xcolor_space.strip(), 'RGB')
    n = {'L': 1, 'RGB': 3, 'CMYK': 4}[mode]
    v = rng.integers(0, 256, (256, n), dtype=np.uint8)
    v[:2 ** n] = [[255 * (i >> c & 1) for c in range(n)] for i in range(2 ** n)]
    if n == 1: v[:, 0] = np.arange(256)
    NOOPTIMIZE = 0x100
    def convert(a, b, m0, m1, v):
        t = ImageCms.buildTransform(a, b, m0, m1, renderingIntent=1, flags=NOOPTIMIZE)
        return np.asarray(ImageCms.applyTransform(Image.frombytes(m0, (len(v), 1), v.tobytes()), t)).reshape(len(v), -1)
    s = {'in': v.tolist(), 'srgb': convert(p, srgb, mode, 'RGB', v).tolist()}
    if mode != 'CMYK' and name != 'oneway.icc':
        w = rng.integers(0, 256, (256, 3), dtype=np.uint8)
        if n == 1: w = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
        s['from'] = w.tolist()
        s['back'] = convert(srgb, p, 'RGB', mode, w).tolist()
    samples[name] = s
json.dump(samples, open('samples.json', 'w'), separators=(',', ':'))
