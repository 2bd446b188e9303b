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

// patience is how long a self test may take, the driver's first compilation of the kernels included; a variable for tests.
var patience = 3 * time.Minute

// selfTests runs the golden network on the named device or devices, or on the CPU and every GPU.
func selfTests(ctx context.Context, s system, device string) ([]Line, error) {
	devices, err := platform.Devices(device)
	if errors.Is(err, platform.ErrUnknownDevice) {
		return nil, err
	}
	if err != nil {
		return []Line{fault(device, "self test", "see the lines above", "%v", err)}, nil
	}
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
		l, err := inTime(ctx, d, selfTest)
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

// inTime runs a test, which may never return: a kernel that hangs cannot be ended from inside.
func inTime(ctx context.Context, device string, test func(context.Context, string) (Line, error)) (Line, error) {
	type out struct {
		line Line
		err  error
	}
	done := make(chan out, 1)
	go func() {
		l, err := test(ctx, device)
		done <- out{l, err}
	}()
	select {
	case o := <-done:
		return o.line, o.err
	case <-time.After(patience):
		return fault(device, "self test", "end this program, then nvidia-smi --gpu-reset or reboot; dmesg | grep Xid says what happened", "no result after %v: a kernel hangs", patience), nil
	}
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
