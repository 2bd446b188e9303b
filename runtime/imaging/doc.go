// Package imaging stands between image files and the pixels the networks see.
//
// It decodes PNG, JPEG, WebP, TIFF, BMP and GIF into a plain interleaved [Image] of 8 or 16 bits a sample, keeps what a
// photographer expects to survive (bit depth, grey, alpha, colour profile, EXIF, XMP, IPTC, texts, resolution, all pages
// or frames), and writes PNG, JPEG, TIFF, WebP and BMP. Pixels reach the experts as float32 sRGB rectangles
// ([Image.RGBFloat], [Image.SetRGBFloat]) and the degradation estimator as the fixed-size crop that Pillow and
// torchvision would make, bit for bit ([EstimatorInput]).
//
// Each format has a decoder in Go for usual files. What it refuses goes to the format's own C library in a sandbox (package
// codecs): rare kinds, and damaged files, of which what is there is decoded and Metadata.Warnings says what is not;
// Limits.Strict refuses those.
//
// What is kept and what is not:
//
//   - Palette images become RGB or RGBA at 8 bit, because restored colours no longer fit the palette. [Image.Palette]
//     remembers where they came from: Pillow resizes such images without interpolation, and so does the estimator.
//   - 1, 2 and 4 bit grey becomes 8 bit grey; 10 to 32 bits and floating point become 16 bits. CMYK becomes sRGB, by its
//     profile if it has one.
//   - A transparent colour key (PNG tRNS on grey or RGB) becomes an alpha channel.
//   - Samples stay in the space of their profile (or of PNG's cICP, gAMA and cHRM); networks see sRGB. A profile is written
//     only where its colour space fits the pixels written and the format has room for it; otherwise pixels are converted.
//   - EXIF is carried over with the orientation tag and the pixel size set to what is written. The embedded thumbnail
//     is unlinked, for it shows the picture before restoration.
//   - JPEG and BMP have no alpha: such an image is flattened on white. JPEG, WebP and BMP have 8 bits: 16-bit samples
//     are rounded. [Losses] names what a format will not hold.
//
// Nothing here trusts a file: sizes in headers are checked against [Limits] before memory is taken for pixels, and
// hostile files give errors.
package imaging
