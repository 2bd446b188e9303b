// Package imaging stands between image files and the pixels the networks see.
//
// It decodes PNG, JPEG, WebP, TIFF and BMP into a plain interleaved [Image] of 8 or 16 bits a sample, keeps what a
// photographer expects to survive (bit depth, grey, alpha, EXIF, ICC profile, resolution), and writes PNG, JPEG, TIFF,
// lossless WebP and BMP. Pixels reach the experts as float32 RGB rectangles ([Image.RGBFloat], [Image.SetRGBFloat]) and
// the degradation estimator as the fixed-size crop that Pillow and torchvision would make, bit for bit
// ([EstimatorInput]).
//
// What is kept and what is not:
//
//   - Palette images become RGB or RGBA at 8 bit, because restored colours no longer fit the palette. [Image.Palette]
//     remembers where they came from: Pillow resizes such images without interpolation, and so does the estimator.
//   - 1, 2 and 4 bit grey becomes 8 bit grey. CMYK JPEG becomes RGB and loses its CMYK profile.
//   - A transparent colour key (PNG tRNS on grey or RGB) becomes an alpha channel.
//   - An ICC profile is written only where its colour space fits the pixels written: a grey profile does not go into
//     WebP, which stores RGB only.
//   - EXIF is carried over with the orientation tag and the pixel size set to what is written. The embedded thumbnail
//     is unlinked, for it shows the picture before restoration. XMP and IPTC blocks are not carried over.
//   - JPEG and BMP have no alpha: such an image is flattened on white. JPEG, WebP and BMP have 8 bits: 16-bit samples
//     are rounded. [Losses] names what a format will not hold.
//
// Nothing here trusts a file: sizes in headers are checked against [Limits] before memory is taken for pixels, and
// damaged files give errors.
package imaging
