package profile

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Contention says that times were taken while something else had the processor,
// so that they say little of the program.
type Contention struct {
	// Waiting is the share of the time in which this program's threads could run
	// that they waited for a core.
	Waiting float64 `json:"waiting"`
	// Others is how many cores others used, on average.
	Others float64 `json:"other_cores"`
	// Stolen is the share of all cores' time that the hypervisor gave to others.
	Stolen float64 `json:"stolen"`
	// Throttled is how many seconds the control group was held back for its quota.
	Throttled float64 `json:"throttled_seconds"`
	// Reasons say in words what of this is more than a quiet machine has.
	Reasons []string `json:"reasons"`
}

// What a quiet machine stays below.
const (
	mostWaiting = 0.05
	mostOthers  = 0.25 // cores
	mostStolen  = 0.02
	// jiffy is the grain of /proc/stat in seconds; shorter spans say nothing of
	// others.
	jiffy = 0.01
)

// busyness is what the system has counted since it started, in seconds.
type busyness struct {
	at           time.Time
	own, waited  float64 // this process's threads: on cores, and ready but waiting
	busy, stolen float64 // all cores
	throttled    float64
}

// watch looks at the system's counters and gives what compares them later: nil
// where nothing disturbed, and on systems without such counters.
func watch(threads int) func() *Contention {
	before, ok := look()
	if !ok {
		return func() *Contention { return nil }
	}
	return func() *Contention {
		after, ok := look()
		if !ok {
			return nil
		}
		return judgeContention(before, after, threads, runtime.NumCPU())
	}
}

func judgeContention(before, after busyness, threads, cores int) *Contention {
	wall := after.at.Sub(before.at).Seconds()
	own, waited := after.own-before.own, after.waited-before.waited
	if !(wall > 0) {
		return nil
	}
	c := &Contention{Throttled: after.throttled - before.throttled}
	if ready := own + waited; ready > 0 {
		c.Waiting = max(0, waited/ready)
	}
	if wall >= 10*jiffy {
		c.Others = max(0, (after.busy-before.busy-own)/wall)
		c.Stolen = max(0, (after.stolen-before.stolen)/(wall*float64(cores)))
	}
	say := func(format string, args ...any) { c.Reasons = append(c.Reasons, fmt.Sprintf(format, args...)) }
	if c.Waiting > mostWaiting {
		say("its threads waited for a core %.0f %% of the time", 100*c.Waiting)
	}
	if spare := float64(max(0, cores-threads)); c.Others > spare+mostOthers {
		say("others used %.1f of %d cores", c.Others, cores)
	}
	if c.Stolen > mostStolen {
		say("the hypervisor took %.0f %%", 100*c.Stolen)
	}
	if c.Throttled > 0 {
		say("the control group's quota held it back for %.2f s", c.Throttled)
	}
	if c.Reasons == nil {
		return nil
	}
	return c
}

// look reads the counters that Linux has.
func look() (busyness, bool) {
	b := busyness{at: time.Now()}
	tasks, err := filepath.Glob("/proc/self/task/*/schedstat")
	if err != nil || len(tasks) == 0 {
		return b, false
	}
	for _, t := range tasks {
		text, err := os.ReadFile(t)
		if err != nil {
			continue // the thread has ended
		}
		on, waiting := schedstat(text)
		b.own, b.waited = b.own+on, b.waited+waiting
	}
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return b, false
	}
	b.busy, b.stolen = procStat(text)
	for _, f := range []string{"/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat"} {
		if text, err := os.ReadFile(f); err == nil {
			b.throttled = throttled(text)
			break
		}
	}
	return b, true
}

// schedstat reads nanoseconds on a core and waiting for one.
func schedstat(text []byte) (on, waiting float64) {
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, 0
	}
	on, _ = strconv.ParseFloat(fields[0], 64) // 0 for what is no number
	waiting, _ = strconv.ParseFloat(fields[1], 64)
	return on / 1e9, waiting / 1e9
}

// procStat reads the line of all cores: user, nice, system, idle, iowait, irq,
// softirq, steal in hundredths of a second.
func procStat(text []byte) (busy, stolen float64) {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, 0
	}
	value := func(i int) float64 {
		v, _ := strconv.ParseFloat(fields[i], 64)
		return v * jiffy
	}
	return value(1) + value(2) + value(3) + value(6) + value(7), value(8)
}

// throttled reads seconds out of cpu.stat of either version of control groups.
func throttled(text []byte) float64 {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		switch name {
		case "throttled_usec":
			return v / 1e6
		case "throttled_time":
			return v / 1e9
		}
	}
	return 0
}

// String says why.
func (c *Contention) String() string { return strings.Join(c.Reasons, "; ") }

// contended lists the networks whose times were disturbed.
func (p *Profile) contended() []*Network {
	var all []*Network
	for _, n := range p.shown() {
		if n.Measured != nil && n.Measured.Contention != nil {
			all = append(all, n)
		}
	}
	return all
}

// contentionNotes stand below tables of times.
func (p *Profile) contentionNotes() []string {
	var notes []string
	for _, n := range p.contended() {
		notes = append(notes, fmt.Sprintf("! %s: the machine was busy with something else while this was timed (%s). The figures say little of the program.", n.Title(), n.Measured.Contention))
	}
	if p.Peaks != nil && p.Peaks.Warning != "" {
		notes = append(notes, "! Roofline: "+p.Peaks.Warning+".")
	}
	return notes
}

// disturbed marks a figure.
func disturbed(figure string, c *Contention) string {
	if c == nil {
		return figure
	}
	return figure + " !"
}
