// Package degrade spoils clean photographs in known ways: rain, haze, snow, motion and defocus blur, low light, Gaussian
// and Poisson noise and JPEG compression, alone or together. It makes training pairs, test sets and demonstrations from
// the same code, so that a figure measured on one describes the others.
//
// A [Spec] says what to do. Its text form is what people type:
//
//	rain:0.6                 rain at severity 0.6 of 1
//	noise:sigma=25           Gaussian noise with standard deviation 25/255
//	jpeg:q=20                JPEG at quality 20
//	camera:iso=3200          noise of a camera at ISO 3200, developed as cameras do
//	haze:heavy+noise:0.2     haze and sensor noise
//	snow:0.5@7               snow at seed 7
//
// Severity runs from 0, which leaves the image as it is, to 1, about the strongest case that the literature still tries
// to restore. Between them each physical parameter follows the curve given in [Kind.Params]; [Describe] prints what a
// spec comes to. Terms are applied in the order in which light meets them, whatever order they are written in: air
// (haze, rain, snow), lens (defocus, motion), exposure (low light), sensor (Poisson, Gaussian, camera noise), compression.
//
// # Reproducibility
//
// The output of [Apply] is a function of the input pixels and the spec, seed included. It does not depend on the number
// of cores or on timing: random numbers come from PCG-DXSM streams keyed by seed, kind and image row, never from a
// stream shared between goroutines.
//
// Nor does it depend on the processor. Every operation is one that IEEE 754 rounds correctly (+, −, ×, ÷, √), products
// are rounded explicitly before they are added so that no compiler may fuse them, and exp, log, sin and cos are computed
// from these operations here, since those of package math differ between architectures and even, by the presence of
// fused instructions, between amd64 processors. JPEG is the one exception in time: its bytes are those of the image/jpeg
// encoder of the Go release that built the program, integer arithmetic on every processor but free to improve between
// releases.
package degrade
