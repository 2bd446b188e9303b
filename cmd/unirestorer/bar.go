package main

import (
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// bar is a progress bar with the time left. It stays silent unless it is shown
// on a terminal.
type bar struct{ p *progressbar.ProgressBar }

const barSteps = 1000

func newBar(w io.Writer, quiet bool, title string) bar {
	f, ok := w.(*os.File)
	if quiet || !ok || !term.IsTerminal(int(f.Fd())) {
		return bar{}
	}
	return bar{progressbar.NewOptions(barSteps,
		progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(title),
		progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetWidth(30), progressbar.OptionSetRenderBlankState(true),
	)}
}

// set moves the bar to a fraction from 0 to 1. A bar that cannot be drawn is
// no reason to stop.
func (b bar) set(done float64) {
	if b.p != nil {
		_ = b.p.Set(int(done * barSteps))
	}
}

func (b bar) close() {
	if b.p != nil {
		_ = b.p.Finish()
	}
}
