package profile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"unirestorer/weights/atomicfile"
)

// shortOfRecord is how far peaks may stay below the best that the machine has
// shown.
const shortOfRecord = 0.85

// AgainstRecord compares measured peaks with the best that the file remembers of
// the machine and device, and remembers what is better. Where the record is
// much better, something else had the machine: then the record stands, with a
// warning. An empty path is the file in the user's cache folder.
func (p Peaks) AgainstRecord(ctx context.Context, path, device string) (Peaks, error) {
	if path == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return p, err
		}
		path = filepath.Join(dir, "unirestorer", "peaks.json")
	}
	records := map[string]Peaks{}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return p, err
	case json.Unmarshal(text, &records) != nil:
		clear(records) // a damaged record is begun anew
	}
	best := records[device]
	out := p
	if p.Operations < shortOfRecord*best.Operations || p.Bytes < shortOfRecord*best.Bytes {
		out.Operations, out.Bytes = max(p.Operations, best.Operations), max(p.Bytes, best.Bytes)
		out.Warning = fmt.Sprintf("measured now were %.3g GFLOP/s and %.3g GB/s, this machine's record is %.3g and %.3g and is used: something else has the machine",
			p.Operations/1e9, p.Bytes/1e9, best.Operations/1e9, best.Bytes/1e9)
	}
	if p.Operations <= best.Operations && p.Bytes <= best.Bytes {
		return out, nil
	}
	records[device] = Peaks{Operations: max(p.Operations, best.Operations), Bytes: max(p.Bytes, best.Bytes), Source: p.Source}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return out, err
	}
	return out, atomicfile.Write(ctx, path, func(w io.Writer) error { return json.NewEncoder(w).Encode(records) })
}

// raise lifts the arithmetic's peak to what a part has reached: nothing exceeds
// a peak.
func (p *Peaks) raise(networks []Network) {
	for i := range networks {
		n := &networks[i]
		if n.Measured == nil {
			continue
		}
		reached := rates(n.Operations, 0, n.Measured.Busy(), nil).Operations
		for k := range n.Parts {
			reached = max(reached, rates(n.Parts[k].Operations, 0, n.Parts[k].Seconds, nil).Operations)
		}
		if reached > p.Operations {
			p.Warning = fmt.Sprintf("measured were %.3g GFLOP/s, %s reached %.3g, which is used: something else had the machine", p.Operations/1e9, n.Title(), reached/1e9)
			p.Operations = reached
		}
	}
}

// Settle makes the peaks such that no rate of the profile exceeds them.
func (p *Profile) Settle() {
	if p.Peaks != nil && p.Peaks.Source != Given {
		p.Peaks.raise(p.Networks)
	}
}
