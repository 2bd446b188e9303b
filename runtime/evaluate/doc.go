// Package evaluate measures how well a model restores: what its router gains
// over the degraded pictures, how far it stays behind the best expert of the
// pool, and what each part of the routing is worth.
//
// A [Set] gives pairs of a degraded picture and the clean one: photos degraded
// by runtime/degrade ([NewSynthetic]) or files ([OpenPairs]). [Run] routes every
// picture, runs the experts that are asked for and measures each result, which
// makes a [Record] a picture. Everything reported is plain arithmetic over
// records: summarise, and the tables and the page made of its [Summary].
//
// Results are measured as they would be stored: rounded to the depth of the
// input, PSNR and SSIM on RGB (package quality). The router sees what it would
// see of a file of that picture.
package evaluate
