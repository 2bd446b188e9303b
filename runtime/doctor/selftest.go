package doctor

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"unirestorer/runtime/gpu"
	"unirestorer/runtime/platform"
	"unirestorer/runtime/verify"
)

// golden is a copy of testdata/goldens/restormer_biasfree: inputs and outputs of the original network at a small size.
//
//go:embed golden
var golden embed.FS

// selfTests runs the golden network on the named device, or on the CPU and every GPU.
func selfTests(ctx context.Context, s System, device string) ([]Line, error) {
	devices := []string{device}
	if device == "" {
		devices = []string{"cpu"}
		for _, g := range s.Driver.GPUs {
			if g.Arch() >= gpu.MinArch {
				devices = append(devices, fmt.Sprintf("cuda:%d", g.Index))
			}
		}
	}
	var lines []Line
	for _, d := range devices {
		start := time.Now()
		l, err := selfTest(ctx, d)
		if ctx.Err() != nil || errors.Is(err, platform.ErrUnknownDevice) {
			return lines, err
		}
		if err != nil {
			l = fault(d, "self test", "see the lines above; --json and this text belong into a bug report", "%v", err)
		}
		l.Seconds = time.Since(start).Seconds()
		lines = append(lines, l)
	}
	return lines, nil
}

func selfTest(ctx context.Context, device string) (line Line, err error) {
	b, err := platform.Open(device, platform.Options{})
	if err != nil {
		return Line{}, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	files, err := fs.Sub(golden, "golden")
	if err != nil {
		return Line{}, err
	}
	r, err := verify.RunFS(ctx, b, "self test", files, verify.Options{})
	if err != nil {
		return Line{}, err
	}
	return judgeTest(device, r), nil
}

func judgeTest(device string, r *verify.Report) Line {
	for _, c := range r.Checks {
		if !c.OK {
			return fault(device, "self test", "do not use this device: its results are wrong; report it with the output of doctor --json",
				"%s: largest error %.2g, %.1f dB, outside the bound of %.2g", c.Name, float64(c.MaxAbs), float64(c.PSNR), c.Bound)
		}
	}
	worst := r.Checks[0]
	for _, c := range r.Checks {
		if c.PSNR < worst.PSNR {
			worst = c
		}
	}
	return ok(device, "self test", "%s is right on %d pictures, %.0f dB", r.Architecture, len(r.Checks), float64(worst.PSNR))
}
