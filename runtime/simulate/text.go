package simulate

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// WriteText writes the report for people.
func (r *Report) WriteText(to io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %v, on %s\n", r.Kernel, r.Shape, r.Arch)
	r.writeFindings(&b)
	if r.Printed != "" {
		fmt.Fprintf(&b, "\nprinted:\n%s\n", strings.TrimSuffix(r.Printed, "\n"))
	}
	b.WriteByte('\n')
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	c, d := &r.Counters, &r.Derived
	row("instructions", "%d of warps, %.1f of 32 lanes active", c.WarpInstructions, d.Lanes)
	row("", "%s", classes(c.ByClass))
	if n := c.GlobalLoad.Requests; n > 0 {
		row("global loads", "%d requests, %.1f sectors each, %.0f %% of the bytes used", n, d.LoadSectors, 100*d.LoadShare)
	}
	if n := c.GlobalStore.Requests; n > 0 {
		row("global stores", "%d requests, %.1f sectors each, %.0f %% of the bytes used", n, d.StoreSectors, 100*d.StoreShare)
	}
	if n := c.AsyncCopy.Requests; n > 0 {
		row("asynchronous copies", "%d requests, %.1f sectors each", n, c.AsyncCopy.SectorsPerRequest())
	}
	if n := c.Atomic.Requests; n > 0 {
		row("global atomics", "%d requests", n)
	}
	if n := c.SharedLoad.Requests + c.SharedStore.Requests + c.Matrix.Requests + c.AsyncStore.Requests; n > 0 {
		row("shared memory", "%d requests, %d bank conflicts (loads %d, stores %d, copies %d, matrices %d)", n, d.BankConflicts,
			c.SharedLoad.Conflicts, c.SharedStore.Conflicts, c.AsyncStore.Conflicts, c.Matrix.Conflicts)
	}
	if c.Distributed > 0 {
		row("other blocks' memory", "%d requests", c.Distributed)
	}
	if c.Barriers > 0 {
		row("barriers", "%d", c.Barriers)
	}
	if c.TensorMACs > 0 {
		row("tensor cores", "%d multiply-adds", c.TensorMACs)
	}
	row("occupancy", "%d blocks and %d warps a multiprocessor (%.0f %%), limited by %s, at an estimated %d registers a thread",
		r.Occupancy.Blocks, r.Occupancy.Warps, 100*r.Occupancy.Share, r.Occupancy.Limit, r.Registers)
	var stalls []string
	for _, s := range r.Stalls[:min(len(r.Stalls), 5)] {
		stalls = append(stalls, fmt.Sprintf("%s %.3g", s.Term, s.Microseconds))
	}
	row("predicted", "%.3g µs on %s, bound by %s", r.Microseconds, r.Card, r.Bound)
	row("stalls", "each alone, in µs: %s", strings.Join(stalls, ", "))
	for i, h := range r.Hot {
		name := ""
		if i == 0 {
			name = "most executed"
		}
		row(name, "%d times line %d: %s", h.Count, h.Line, h.Text)
	}
	for _, v := range r.Buffers {
		more := ""
		if int64(len(v.Values)) < v.Count {
			more = " …"
		}
		row(fmt.Sprintf("argument %d", v.Arg), "%s × %d: %s%s", v.Type, v.Count, strings.Join(v.Values, " "), more)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(to, b.String())
	return err
}

// writeFindings says what was found, or that nothing was.
func (r *Report) writeFindings(b *strings.Builder) {
	switch {
	case r.Clean && r.Schedules > 1:
		fmt.Fprintf(b, "\nno findings in %d orders of blocks and warps\n", r.Schedules)
	case r.Clean:
		b.WriteString("\nno findings\n")
	default:
		n := len(r.Findings) + r.More
		fmt.Fprintf(b, "\n%d finding%s", n, map[bool]string{false: "s"}[n == 1])
		if r.Schedules > 1 {
			fmt.Fprintf(b, " in the %d. order of blocks and warps", r.Schedules)
		}
		b.WriteString(":\n")
		for _, f := range r.Findings {
			fmt.Fprintf(b, "  %s\n", f.Finding)
			if f.SourceText != "" {
				fmt.Fprintf(b, "      %s\n", f.SourceText)
			}
		}
		if r.More > 0 {
			fmt.Fprintf(b, "  and %d more\n", r.More)
		}
	}
}

// classes lists instructions by class, most frequent first.
func classes(by map[string]uint64) string {
	type class struct {
		name string
		n    uint64
	}
	var all []class
	for name, n := range by {
		all = append(all, class{name, n})
	}
	slices.SortFunc(all, func(a, b class) int {
		if a.n != b.n {
			if a.n > b.n {
				return -1
			}
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	var out []string
	for _, c := range all {
		out = append(out, fmt.Sprintf("%s %d", strings.ReplaceAll(c.name, "_", " "), c.n))
	}
	return strings.Join(out, ", ")
}
