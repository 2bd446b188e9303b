// Package doctor says what is right and wrong with a machine for running networks, why, and what to do: the NVIDIA driver,
// every GPU's state, the kernels' cache, what the environment hides, the processor and what bounds the process, and whether
// a network gives the right result on each device.
package doctor

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Level says how bad a finding is.
type Level string

// Levels. With a fault a device cannot be used or gives wrong results; with a warning it is slower or smaller than it could
// be, or something could not be found out.
const (
	OK      Level = "ok"
	Warning Level = "warning"
	Fault   Level = "fault"
)

// Line is one finding.
type Line struct {
	// Subject is "driver", "cuda:0", "cpu" and the like; Check what was looked at.
	Subject string `json:"subject"`
	Check   string `json:"check"`
	Level   Level  `json:"level"`
	// Text is what was found, Do what to do about it ("" when it is right).
	Text string `json:"text"`
	Do   string `json:"do,omitempty"`
	// Seconds is what a self test took, from opening the device to the compared result.
	Seconds float64 `json:"seconds,omitempty"`
}

// Report is everything found.
type Report struct {
	Lines []Line `json:"lines"`
}

// Worst is the level of the worst line.
func (r Report) Worst() Level {
	worst := OK
	for _, l := range r.Lines {
		if l.Level == Fault || l.Level == Warning && worst == OK {
			worst = l.Level
		}
	}
	return worst
}

// Options choose what is examined.
type Options struct {
	// Device names a device that must work: "cpu", "sim", "cuda", "cuda:1". Without it every usable one is tried, and a
	// machine without a GPU is not at fault.
	Device string
	// NoTest leaves the self tests out.
	NoTest bool
}

// Run examines this machine.
func Run(ctx context.Context, opt Options) (Report, error) {
	s, err := read(ctx)
	if err != nil {
		return Report{}, err
	}
	s.NeedGPU = strings.HasPrefix(opt.Device, "cuda")
	r := judge(s)
	if opt.NoTest {
		return r, nil
	}
	tests, err := selfTests(ctx, s, opt.Device)
	r.Lines = append(r.Lines, tests...)
	return r, err
}

// judge turns what a machine says into findings.
func judge(s system) Report {
	var r Report
	for _, check := range []func(system) []Line{
		programLine, driverLines, visibleLines, kernelLines, gpuLines, processorLines,
	} {
		r.Lines = append(r.Lines, check(s)...)
	}
	return r
}

// WriteText prints a report for people.
func (r Report) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range r.Lines {
		text := l.Text
		if l.Seconds > 0 {
			text += fmt.Sprintf(" (%v)", time.Duration(l.Seconds*float64(time.Second)).Round(time.Millisecond))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", l.Level, l.Subject, l.Check, text)
		if l.Do != "" {
			fmt.Fprintf(t, "\t\t\t→ %s\n", l.Do)
		}
	}
	return t.Flush()
}

func ok(subject, check, format string, args ...any) Line {
	return Line{Subject: subject, Check: check, Level: OK, Text: fmt.Sprintf(format, args...)}
}

func warn(subject, check, do, format string, args ...any) Line {
	return Line{Subject: subject, Check: check, Level: Warning, Text: fmt.Sprintf(format, args...), Do: do}
}

func fault(subject, check, do, format string, args ...any) Line {
	return Line{Subject: subject, Check: check, Level: Fault, Text: fmt.Sprintf(format, args...), Do: do}
}
